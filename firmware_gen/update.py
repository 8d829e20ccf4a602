"""What learns, and how: the update plan."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from fieldtune.errors import ModelError, UserError
from firmware_gen.bf16 import from_bf16, to_bf16
from firmware_gen.graph import DType, Gradients, Graph, Op, Optimizer, Products, Real, Tensor
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Channels

# How many of a layer's output channels learn: a fraction, of which the weights' magnitude decides which
# channels it is, or a range of channels.
Share = Fraction | Channels
WHOLE = Fraction(1)
SHARE = re.compile(r"(?P<layers>.+):(?:(?P<part>\d+)/(?P<of>\d+)|(?P<first>\d+)-(?P<last>\d+))")

WeightType = Literal["f32", "bf16", "int8"]
Rounding = Literal["stochastic", "nearest"]

CORRECTIONS = "corrections"  # Adam's 1 - beta1^t and 1 - beta2^t after t updates
GENERATOR = "generator"  # of the random numbers by which weights are rounded


@dataclass(frozen=True)
class UpdatePlan:
    """Which constants learn, and what the optimizer keeps in RAM.

    `patterns` are names or globs of layers ("decoder0*") or of their weights ("ups0.tconv.bias"), with a
    fraction ("decoder0*:1/4") or a range ("ups0.tconv:8-15") of output channels if not all of them learn.
    Values such as the learning rate are no part of it: the host sends them at run time.
    """

    patterns: tuple[str, ...] = ()
    momentum: bool = False  # of sgd: a velocity for every weight that learns
    keep_gradients: bool = False  # over several steps, for the mean over their samples
    optimizer: Optimizer = "sgd"
    state: Real = "f32"  # how velocity, first moment and gradients that wait for the norm are stored
    weights: WeightType = "f32"  # bf16: of float layers, but not their biases; int8: of int8 layers
    rounding: Rounding = "stochastic"  # of weights that are not in f32
    clip_norm: bool = False  # the step's whole gradient is there before any weight changes
    gradients: Gradients = "int8"  # that pass through int8 layers
    products: Products = "f32"  # of float convolutions, in inference too

    def kept(self) -> dict[str, DType]:
        """Return what every weight that learns has in RAM besides itself.

        The second moment stays in f32: 8 bits cannot hold an average that changes by a thousandth at a time.
        """
        kinds: dict[str, DType] = {"gradient": "f32"} if self.keep_gradients else {}
        if self.optimizer != "sgd":
            kinds |= {"moment1": self.state, "moment2": "f32"}
        elif self.momentum:
            kinds["velocity"] = self.state
        return kinds


def parse_update(
    text: str | None,
    *,
    momentum: bool = False,
    keep_gradients: bool = False,
    optimizer: Optimizer = "sgd",
    state: Real = "f32",
    weights: WeightType = "f32",
    rounding: Rounding = "stochastic",
    clip_norm: bool = False,
    gradients: Gradients = "int8",
    products: Products = "f32",
) -> UpdatePlan:
    """Return the plan that ``--update 'decoder0*,ups0*'`` means; None or an empty text: nothing learns."""
    patterns = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    return UpdatePlan(
        patterns,
        momentum,
        keep_gradients,
        optimizer,
        state,
        weights,
        rounding,
        clip_norm,
        gradients,
        products,
    )


def optimizer_state(graph: Graph, trained: tuple[str, ...], plan: UpdatePlan) -> dict[str, Tensor]:
    """Return the tensors that outlive a step, by name: ``velocity.ups0.tconv.bias``, ``corrections``."""
    names = [(f"{kind}.{name}", name, dtype) for kind, dtype in plan.kept().items() for name in trained]
    state = {full: Tensor(full, graph.constants[name].shape, dtype) for full, name, dtype in names}
    if plan.optimizer != "sgd":
        state[CORRECTIONS] = Tensor(CORRECTIONS, (1, 1, 2))
    if plan.rounding == "stochastic" and any(graph.learned(name).dtype != "f32" for name in trained):
        state[GENERATOR] = Tensor(GENERATOR, (1, 1, 1), "i32")
    return state


def with_stored_weights(graph: Graph, trained: tuple[str, ...], plan: UpdatePlan) -> Graph:
    """Return `graph` in which the weights that learn are stored as planned and begin with such values."""
    weights: Real = "bf16" if plan.weights == "bf16" else "f32"
    graph = dataclasses.replace(graph, trained=trained, weights=weights)
    constants = dict(graph.constants)
    for name in trained:
        if graph.learned(name).dtype == "bf16":
            value = from_bf16(to_bf16(constants[name].value))
            constants[name] = dataclasses.replace(constants[name], value=value)
    return dataclasses.replace(graph, constants=constants)


def trained_constants(graph: Graph, plan: UpdatePlan) -> dict[str, Share]:
    """Return the constants that learn, in the order of the operators, and how much of each.

    Raises:
        UserError: a pattern matches nothing, or says of a layer's channels what another one denies.
        ModelError: a constant that several layers share would learn.
    """
    owners = {name: op.name for op in graph.ops for name in _parameters(op) if OPERATORS[op.kind].learns}
    chosen: dict[str, Share] = {}
    for text in plan.patterns:
        pattern, share = _split_pattern(text)
        hits = {name for name, layer in owners.items() if _matches(pattern, layer, name)}
        if not hits:
            layers = ", ".join(dict.fromkeys(op.name for op in graph.ops if _parameters(op)))
            raise UserError(
                f"no layer or weight of {graph.name} is called '{pattern}' as the update plan has it; "
                f"the layers are {layers}"
            )
        for name in sorted(hits):
            if chosen.setdefault(name, share) != share:
                raise UserError(
                    f"the update plan has {name} of {graph.name} twice, with other channels at '{text}'; "
                    "leave out one of them"
                )
    shared = {name for name in chosen if sum(name in op.constants for op in graph.ops) > 1}
    if shared:
        raise ModelError(
            f"{', '.join(sorted(shared))} of {graph.name} is used by several layers and cannot learn; "
            "leave it out of the update"
        )
    return {name: chosen[name] for name in owners if name in chosen}


def _split_pattern(text: str) -> tuple[str, Share]:
    """Return the name or glob, and the share of the channels.

    Raises:
        UserError: the share is no part of a whole.
    """
    found = SHARE.fullmatch(text)
    if found is None:
        return text, WHOLE
    share: Share
    if found["of"]:
        share = Fraction(int(found["part"]), int(found["of"]) or 1)
        valid = 0 < share <= 1 and int(found["of"]) > 0
    else:
        share = Channels(int(found["first"]), int(found["last"]) + 1)
        valid = share.count > 0
    if not valid:
        raise UserError(f"'{text}' in the update plan names no part of a layer; write LAYER:1/4 or LAYER:0-7")
    return found["layers"], share


def named_parameters(op: Op, plan: UpdatePlan) -> dict[str, Share]:
    """Return the weights of the layer that the plan means, and how much of each."""
    patterns = [_split_pattern(text) for text in plan.patterns]
    return {
        name: share
        for name in _parameters(op)
        for layers, share in patterns
        if _matches(layers, op.name, name)
    }


def _parameters(op: Op) -> tuple[str, ...]:
    return OPERATORS[op.kind].parameters(op)


def _matches(pattern: str, layer: str, name: str) -> bool:
    return fnmatch.fnmatchcase(layer, pattern) or fnmatch.fnmatchcase(name, pattern)

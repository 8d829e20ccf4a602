"""What learns, and how: the update plan."""

from __future__ import annotations

import dataclasses
import fnmatch
from dataclasses import dataclass

from fieldtune.errors import ModelError, UserError
from firmware_gen.bf16 import from_bf16, to_bf16
from firmware_gen.graph import DType, Graph, Op, Optimizer, Real, Tensor
from firmware_gen.operators import OPERATORS

CORRECTIONS = "corrections"  # Adam's 1 - beta1^t and 1 - beta2^t after t updates


@dataclass(frozen=True)
class UpdatePlan:
    """Which constants learn, and what the optimizer keeps in RAM.

    `patterns` are names or globs of layers ("decoder0*") or of their weights ("ups0.tconv.bias"). Values
    such as the learning rate are no part of it: the host sends them at run time.
    """

    patterns: tuple[str, ...] = ()
    momentum: bool = False  # of sgd: a velocity for every weight that learns
    keep_gradients: bool = False  # needed for accumulation over samples and for clipping the gradient's norm
    optimizer: Optimizer = "sgd"
    state: Real = "f32"  # how velocity and first moment are stored
    weights: Real = "f32"  # how the weights that learn are stored, but not their biases

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
    weights: Real = "f32",
) -> UpdatePlan:
    """Return the plan that ``--update 'decoder0*,ups0*'`` means; None or an empty text: nothing learns."""
    patterns = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    return UpdatePlan(patterns, momentum, keep_gradients, optimizer, state, weights)


def optimizer_state(graph: Graph, trained: tuple[str, ...], plan: UpdatePlan) -> dict[str, Tensor]:
    """Return the tensors that outlive a step, by name: ``velocity.ups0.tconv.bias``, ``corrections``."""
    names = [(f"{kind}.{name}", name, dtype) for kind, dtype in plan.kept().items() for name in trained]
    state = {full: Tensor(full, graph.constants[name].shape, dtype) for full, name, dtype in names}
    if plan.optimizer != "sgd":
        state[CORRECTIONS] = Tensor(CORRECTIONS, (1, 1, 2))
    return state


def with_stored_weights(graph: Graph, trained: tuple[str, ...], plan: UpdatePlan) -> Graph:
    """Return `graph` in which the weights that learn are stored as planned and begin with such values."""
    graph = dataclasses.replace(graph, trained=trained, weights=plan.weights)
    constants = dict(graph.constants)
    for name in trained:
        if graph.learned(name).dtype == "bf16":
            value = from_bf16(to_bf16(constants[name].value))
            constants[name] = dataclasses.replace(constants[name], value=value)
    return dataclasses.replace(graph, constants=constants)


def trained_constants(graph: Graph, plan: UpdatePlan) -> tuple[str, ...]:
    """Return the constants that learn, in the order of the operators.

    Raises:
        UserError: a pattern matches nothing.
    """
    owners = {name: op.name for op in graph.ops for name in _parameters(op) if OPERATORS[op.kind].learns}
    chosen: set[str] = set()
    for pattern in plan.patterns:
        hits = {name for name, layer in owners.items() if _matches(pattern, layer, name)}
        if not hits:
            layers = ", ".join(dict.fromkeys(op.name for op in graph.ops if _parameters(op)))
            raise UserError(
                f"no layer or weight of {graph.name} is called '{pattern}' as the update plan has it; "
                f"the layers are {layers}"
            )
        chosen |= hits
    shared = {name for name in chosen if sum(name in op.constants for op in graph.ops) > 1}
    if shared:
        raise ModelError(
            f"{', '.join(sorted(shared))} of {graph.name} is used by several layers and cannot learn; "
            "leave it out of the update"
        )
    return tuple(name for name in owners if name in chosen)


def is_named(op: Op, plan: UpdatePlan) -> bool:
    """Tell whether a pattern of the plan means the layer or one of its weights."""
    return any(_matches(pattern, op.name, name) for pattern in plan.patterns for name in _parameters(op))


def _parameters(op: Op) -> tuple[str, ...]:
    return OPERATORS[op.kind].parameters(op)


def _matches(pattern: str, layer: str, name: str) -> bool:
    return fnmatch.fnmatchcase(layer, pattern) or fnmatch.fnmatchcase(name, pattern)

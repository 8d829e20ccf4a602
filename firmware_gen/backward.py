"""Reverse-mode differentiation when the code is generated.

The training graph is the forward graph, the losses, and for everything between a loss and the lowest layer
that learns the operators that carry the gradient. Nothing below the lowest learning layer has a backward,
and a frozen layer keeps no input. Through int8 layers gradients pass as the update plan says. Input gradients
come before the weight update of the same layer, which changes what they read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import (
    Constant,
    DType,
    Gradients,
    Graph,
    Op,
    Range,
    Shape,
    Tensor,
    check,
    gradient_name,
)
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Channels
from firmware_gen.operators.layout import OneLayer, channel_block, moved_back
from firmware_gen.operators.loss import LossAttrs
from firmware_gen.operators.moving_sums import MovingAddAttrs
from firmware_gen.passes.learn_in_int8 import learn_in_int8
from firmware_gen.passes.moving_ranges import moving_ranges
from firmware_gen.passes.split_channels import split_channels
from firmware_gen.passes.thaw import thaw
from firmware_gen.update import (
    UpdatePlan,
    named_parameters,
    optimizer_state,
    trained_constants,
    with_stored_weights,
)

# Of int8 gradients: what a step's grid leaves above the largest one of late, and how fast that is forgotten.
# Chosen on the reference network.
GRADIENT_HEADROOM, GRADIENT_RATE = 1.5, 0.1
GRADIENT_TYPES: Mapping[Gradients, DType] = {"int8": "i8", "int16": "i16", "f32": "f32"}
LARGEST = {"i8": 127, "i16": 32767}
LABEL_OF_PIXEL = ("cross_entropy",)  # losses whose label is one class a pixel
CLASSES_OF_A_BYTE = 256


@dataclass(frozen=True)
class LossSpec:
    """A loss on one output of the network; its label and mask become inputs of the firmware."""

    output: str
    kind: str
    weight: float = 1.0


def training_graph(graph: Graph, losses: tuple[LossSpec, ...], plan: UpdatePlan) -> Graph:
    """Return `graph` with losses, gradients and updates.

    Raises:
        ModelError: no loss depends on anything that learns, or a loss does not suit its output.
        UserError: a pattern of the plan matches nothing, or nothing to which its type of weights applies; or
            weights that learn in int8 would meet other gradients.
    """
    if plan.weights == "int8" and plan.gradients != "int8":
        raise UserError(
            f"--gradients {plan.gradients} is for layers that learn as floats; --weights int8 goes with int8 "
            "gradients, so leave out one of the two"
        )
    prepare = learn_in_int8 if plan.weights == "int8" else thaw
    graph = prepare(graph, lambda op: named_parameters(op, plan))
    shares = trained_constants(graph, plan)
    trained = tuple(shares)
    graph = moving_ranges(split_channels(graph, shares), trained, {loss.output for loss in losses})
    return check(_Tape(with_stored_weights(graph, trained, plan), plan).run(losses))


class _Tape:
    """Collects backward operators; the `Tape` that operators see."""

    def __init__(self, graph: Graph, plan: UpdatePlan) -> None:
        self.graph = graph
        self.gradients = GRADIENT_TYPES[plan.gradients]
        self._trained = graph.trained
        self._plan = plan
        self._tensors = dict(graph.tensors)
        self._constants = dict(graph.constants)
        self._ranges = dict(graph.ranges)
        self._forward = {op.outputs[0]: op for op in graph.ops}
        self._ops: list[Op] = []
        self._updates: list[Op] = []
        self._contributions: dict[str, list[str]] = {}
        self._pieces: dict[str, dict[Channels, str]] = {}  # gradients of ranges of channels
        self._wanted = self._depends_on_trained()

    def run(self, losses: tuple[LossSpec, ...]) -> Graph:
        labels, masks = [], []
        for index, loss in enumerate(losses):
            label, mask = self._add_loss(loss, index)
            labels.append(label)
            masks.append(mask)
        reached = False
        for op in reversed(self.graph.ops):
            if op.outputs[0] in self._contributions and self._differentiable(op):
                reached = True
                OPERATORS[op.kind].backward(op, self)
                self._ops.extend(self._updates)
                self._updates = []
        if not reached:
            layers = ", ".join(self._trained) or "any layer"
            raise ModelError(f"no loss of {self.graph.name} depends on {layers}: nothing would learn")
        forward = [self._forward[op.outputs[0]] for op in self.graph.ops]
        return dataclasses.replace(
            self.graph,
            ops=(*forward, *self._ops),
            tensors=self._tensors,
            constants=self._constants,
            ranges=self._ranges,
            gradients=self._plan.gradients,
            labels=tuple(labels),
            masks=tuple(masks),
            optimizer=self._plan.optimizer,
            state=optimizer_state(self.graph, self._trained, self._plan),
        )

    def _depends_on_trained(self) -> set[str]:
        wanted: set[str] = set()
        for op in self.graph.ops:
            if any(name in self._trained for name in op.constants) or wanted.intersection(op.inputs):
                wanted.update(op.outputs)
        return wanted

    def _differentiable(self, op: Op) -> bool:
        return op.outputs[0] in self._wanted

    def _add_loss(self, loss: LossSpec, index: int) -> tuple[str, str]:
        prediction = loss.output
        last = self.graph.producer(prediction)
        height, width, channels = self.graph.shape(prediction)
        if loss.kind == "cross_entropy":
            if last is not None and last.kind == "softmax":
                prediction = last.inputs[0]  # the loss takes logits; through the softmax it would lose digits
            if channels < 2:
                raise ModelError(
                    f"output {loss.output} of {self.graph.name} has {channels} channel: "
                    "cross_entropy needs one a class"
                )
        per_pixel = loss.kind in LABEL_OF_PIXEL
        shape: Shape = (height, width, 1 if per_pixel else channels)
        label, mask = f"{loss.output}.label", f"{loss.output}.mask"
        classes: DType = "u8" if channels <= CLASSES_OF_A_BYTE else "i32"
        self._tensors[label] = Tensor(label, shape, classes if per_pixel else "f32")
        self._tensors[mask] = Tensor(mask, shape, "u8")
        op = Op("loss", loss.output, (prediction, label, mask), (), LossAttrs(loss.kind, index, loss.weight))
        op = dataclasses.replace(op, phase="loss")
        if prediction in self._wanted:
            self.contribute(prediction, op)
        else:
            self.add(op, like=prediction)  # nothing below learns, but the host sees the value
        return label, mask

    # What operators ask for: see firmware_gen.operators.base.Tape.

    def gradient(self, tensor: str) -> str:
        self._collect_pieces(tensor)
        parts = self._contributions[tensor]
        while len(parts) > 1:
            parts[:2] = [self._sum(tensor, parts[0], parts[1])]
        return parts[0]

    def wants(self, tensor: str) -> bool:
        return tensor in self._wanted

    def learns(self, constant: str) -> bool:
        return constant in self._trained

    def add(self, op: Op, like: str) -> str:
        name = f"grad.{op.name}.{len(self._ops)}"
        source = self._tensors[op.inputs[0]].range
        # What only moves or masks an integer gradient leaves it on its grid.
        stays = source in self._ranges and self._ranges[source].symmetric and op.kind != "dequantize"
        dtype = self._tensors[op.inputs[0]].dtype if stays else "f32"
        self._tensors[name] = Tensor(name, self._tensors[like].shape, dtype, range=source if stays else "")
        return self._append(op, name)

    def _append(self, op: Op, name: str) -> str:
        phase = op.phase if op.phase != "forward" else "backward"
        self._ops.append(dataclasses.replace(op, outputs=(name,), phase=phase))
        return name

    def contribute(self, tensor: str, op: Op) -> None:
        self._contributions.setdefault(tensor, []).append(self.add(op, like=tensor))

    def contribute_channels(self, tensor: str, gradient: str, channels: Channels) -> None:
        self._contributions.setdefault(tensor, [])
        pieces = self._pieces.setdefault(tensor, {})
        if channels in pieces:
            gradient = self._sum(tensor, pieces[channels], gradient)
        pieces[channels] = gradient

    def _sum(self, tensor: str, first: str, second: str) -> str:
        """Return the sum of two gradients of `tensor`, or of the same channels of it."""
        if self._tensors[first].dtype != "f32":
            meet = Op("moving_add", f"sum.{tensor}", (first, second), (), MovingAddAttrs())
            return self.add_integers(meet, like=first)
        return self.add(Op("add", f"sum.{tensor}", (first, second), ()), like=first)

    def _collect_pieces(self, tensor: str) -> None:
        """Make contributions of the pieces: one concatenation where they are the whole, side by side.

        Integer pieces, each on a grid of its own, are added up.
        """
        pieces = self._pieces.pop(tensor, {})
        ordered = sorted(pieces, key=lambda channels: channels.first)
        borders = [0, *(channels.end for channels in ordered)]
        width = self.graph.shape(tensor)[2]
        joined = [*(channels.first for channels in ordered), width] == borders and len(ordered) > 1
        if joined and self._tensors[pieces[ordered[0]]].dtype == "f32":
            gradients = tuple(pieces[channels] for channels in ordered)
            self.contribute(tensor, Op("concat", f"join.{tensor}", gradients, (), OneLayer()))
            return
        for channels in ordered:
            shape = self._tensors[pieces[channels]].shape
            blocks = (channel_block(shape, channels.first),)
            self.contribute(tensor, moved_back(f"slice.{tensor}", pieces[channels], blocks))

    def add_integers(self, op: Op, like: str) -> str:
        name = f"grad.{op.name}.{len(self._ops)}"
        self._ranges[name] = Range(0.0, 0.0, GRADIENT_HEADROOM, GRADIENT_RATE, LARGEST[self.gradients])
        self._tensors[name] = Tensor(name, self._tensors[like].shape, self.gradients, range=name)
        return self._append(op, name)

    def contribute_integers(self, tensor: str, op: Op) -> None:
        self._contributions.setdefault(tensor, []).append(self.add_integers(op, like=tensor))

    def constant(self, constant: Constant) -> str:
        self._constants[constant.name] = constant
        return constant.name

    def update(self, op: Op) -> None:
        op = dataclasses.replace(op, phase="update")
        if not self._plan.clip_norm or self._plan.keep_gradients:
            self._updates.append(op)
            return
        (constant,) = op.constants
        name, shape = gradient_name(constant), self._constants[constant].shape
        narrow = self._plan.state == "bf16" and self._constants[constant].value.ndim == 4
        total = f"{name}.sum" if narrow else name
        self._tensors[total] = Tensor(total, shape)
        self._updates.append(dataclasses.replace(op, outputs=(total,)))
        if narrow:
            self._tensors[name] = Tensor(name, shape, "bf16")
            self._updates.append(Op("round_gradient", op.name, (total,), (name,), phase="update"))

    def save(self, op: Op, name: str, count: int, dtype: DType) -> str:
        self._tensors[name] = Tensor(name, (1, 1, count), dtype)
        current = self._forward[op.outputs[0]]
        self._forward[op.outputs[0]] = dataclasses.replace(current, outputs=(*current.outputs, name))
        return name

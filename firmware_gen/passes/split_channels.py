"""Split layers of which only some output channels learn: those lie in RAM, the others stay in flash.

A layer becomes up to three of the same kind, whose outputs are a concatenation, which the planner builds in
place. Every output is summed as before: the bits of the inference do not change. That is why the learning
channels are neighbours: any other choice would have to permute channels, and with them the order in which the
layers behind sum them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import UserError
from firmware_gen.graph import Constant, Graph, Op, Shape, Slab, Tensor, check
from firmware_gen.operators.base import Channels
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.layout import OneLayer
from firmware_gen.update import WHOLE, Share


def split_channels(graph: Graph, shares: Mapping[str, Share]) -> Graph:
    """Return `graph` with every layer split of which `shares` lets only a part learn.

    The learning part keeps the names of layer and constants.

    Raises:
        UserError: a range of channels is none of the layer's, or cuts a group; weight and bias differ; the
            layer learns in int8.
    """
    for op in graph.ops:
        wanted = {shares[name] for name in op.constants if name in shares}
        if not wanted - {WHOLE}:
            continue
        if op.kind == "learning_conv2d":
            raise UserError(
                f"{op.name} of {graph.name} would learn in some of its channels: with --weights int8 a layer "
                "learns whole; leave out the channels, or use --weights f32"
            )
        if len(wanted) > 1:
            raise UserError(
                f"weight and bias of {op.name} of {graph.name} would learn in different channels; "
                "give the update plan the same channels for both"
            )
        layer = Divisible.of(op, graph)
        learning = layer.learning(wanted.pop())
        if learning != Channels(0, layer.units):
            graph = check(_split(graph, layer, learning))
    return graph


@dataclass(frozen=True)
class Divisible:
    """A layer and the units in which it can be divided: output channels, or whole groups of them."""

    op: Op
    attrs: ConvAttrs
    weight: Constant
    units: int
    width: int  # output channels of a unit

    @classmethod
    def of(cls, op: Op, graph: Graph) -> Divisible:
        """Return the layer of `graph` that `op` is, a float convolution of any kind."""
        assert isinstance(op.attrs, ConvAttrs)
        outputs = graph.shape(op.outputs[0])[2]
        units = op.attrs.groups if op.attrs.groups > 1 else outputs
        return cls(op, op.attrs, graph.constants[op.constants[0]], units, outputs // units)

    @property
    def grouped(self) -> bool:
        """Tell whether the units are groups, each of which reads channels of its own."""
        return self.attrs.groups > 1

    @property
    def axis(self) -> int:
        """The axis of the weight along which units lie."""
        return 2 if self.grouped and self.attrs.transposed else 3

    def learning(self, share: Share) -> Channels:
        """Return the units that learn: those asked for, or the neighbours with the largest weights."""
        if isinstance(share, Fraction):
            return self.neighbours(share, self.squares(self.weight.value))
        if share.end > self.units * self.width:
            raise UserError(
                f"{self.op.name} has {self.units * self.width} channels; the update plan names channel "
                f"{share.end - 1}, and the first is 0"
            )
        if share.first % self.width or share.end % self.width:
            raise UserError(
                f"channels {share.first} to {share.end - 1} of {self.op.name} cut one of its groups of "
                f"{self.width}; give the update plan whole groups"
            )
        return Channels(share.first // self.width, share.end // self.width)

    def neighbours(self, fraction: Fraction, worth: NDArray[np.float64]) -> Channels:
        """Return the units next to each other, a fraction of all, that are worth most."""
        count = math.ceil(self.units * fraction)
        first = int(np.argmax(np.convolve(worth, np.ones(count), "valid")))
        return Channels(first, first + count)

    def squares(self, value: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the squared L2 norm of each unit's part of `value`, a weight or bias or its gradient."""
        by_unit = np.moveaxis(value.astype(np.float64), self.axis if value.ndim > 1 else 0, 0)
        squares: NDArray[np.float64] = (by_unit.reshape(self.units, -1) ** 2).sum(1)
        return squares

    def part_of(self, constant: Constant, units: Channels) -> Constant:
        """Return what `constant`, the layer's weight or bias, has of `units`."""
        axis = self.axis if constant is self.weight else 0
        width = constant.value.shape[axis] // self.units
        slab = Slab(constant.value, axis, units.first * width, units.end * width)
        value = np.ascontiguousarray(constant.value[slab.index])
        return dataclasses.replace(constant, value=value, slab=slab)


def _split(graph: Graph, layer: Divisible, learning: Channels) -> Graph:
    op, y = layer.op, layer.op.outputs[0]
    tensors, constants = dict(graph.tensors), dict(graph.constants)
    height, width, _ = graph.shape(y)
    ops: list[Op] = []
    made: list[str] = []
    before, behind = Channels(0, learning.first), Channels(learning.end, layer.units)
    for units, suffix in ((before, "frozen_before"), (learning, ""), (behind, "frozen_behind")):
        if not units.count:
            continue
        x = op.inputs[0]
        if layer.grouped:
            x = _own_input(graph, layer, units, suffix or "learning", tensors, ops)
        name = f"{op.name}.{suffix}" if suffix else op.name
        output = f"{y}.{suffix or 'learning'}"
        shape: Shape = (height, width, units.count * layer.width)
        tensors[output] = dataclasses.replace(graph.tensors[y], name=output, shape=shape, source="")
        parts = []
        for constant in op.constants:
            part = f"{constant}.{suffix}" if suffix else constant
            constants[part] = dataclasses.replace(layer.part_of(graph.constants[constant], units), name=part)
            parts.append(part)
        attrs = dataclasses.replace(layer.attrs, groups=units.count if layer.grouped else 1)
        ops.append(
            dataclasses.replace(
                op, name=name, inputs=(x,), outputs=(output,), attrs=attrs, constants=tuple(parts)
            )
        )
        made.append(output)
    ops.append(Op("concat", op.name, tuple(made), (y,), OneLayer()))
    at = graph.ops.index(op)
    changed = dataclasses.replace(graph, constants=constants)
    return changed.with_ops([*graph.ops[:at], *ops, *graph.ops[at + 1 :]], tensors=tensors)


def _own_input(
    graph: Graph, layer: Divisible, units: Channels, label: str, tensors: dict[str, Tensor], ops: list[Op]
) -> str:
    """Add a slice of the input channels that the groups `units` read; return its name."""
    x = layer.op.inputs[0]
    height, width, channels = graph.shape(x)
    taken = channels // layer.units
    name = f"{layer.op.outputs[0]}.{label}.input"
    tensors[name] = dataclasses.replace(
        graph.tensors[x], name=name, shape=(height, width, units.count * taken), source=""
    )
    ops.append(Op("slice", layer.op.name, (x,), (name,), Channels(units.first * taken, units.end * taken)))
    return name

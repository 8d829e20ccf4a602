"""What layers lose with the channels they read, made up for by the channels that stay.

A layer that reads channels x computes w x. Without the channels D its other weights are chosen such that the
square of the difference, over what the layer reads on some frames, is least: with the second moments
H = E[x x^T], w_R += H_RR^-1 H_RD w_D. That is the optimal brain surgeon (Hassibi & Stork, 1993) for all
filters of a layer at once, and the least squares of channel pruning (He et al. 2017, arXiv 1707.06168), each
tap of a filter by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from firmware_gen.graph import Array, Constant, Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from quantize.channel_groups import ChannelGroup, Removed, removed_channels, without
from quantize.torch_module import GraphModule
from zoo.training.pool import Samples

Matrix = NDArray[np.float64]
Moments = Mapping[str, Matrix]
"""By layer: the second moments of the channels that it reads and, last, of a 1 that stands for its bias."""

FRAMES = 128
RIDGE = 1e-4  # of the mean square of a channel: keeps weights small where channels are nearly the same
_BATCH = 32


def second_moments(graph: Graph, samples: Samples) -> Moments:
    """Return the moments of all convolutions but grouped and depthwise ones, over `FRAMES` frames at most.

    Args:
        graph: simplified, in float.
        samples: whose inputs are those of the graph, in its order.
    """
    numbers = np.linspace(0, len(samples) - 1, min(FRAMES, len(samples))).astype(np.intp)
    inputs = samples.batch(numbers).inputs
    module = GraphModule(graph, {}).eval()
    sums: dict[str, Matrix] = {}
    for index, op in enumerate(graph.ops):
        if isinstance(op.attrs, ConvAttrs) and op.attrs.groups == 1:
            layer = module.get_submodule(f"layer{index}")
            layer.register_forward_hook(_adder(sums, op.name))
    with torch.no_grad():
        for batch in zip(*(values.split(_BATCH) for values in inputs.values()), strict=True):
            module(*batch)
    return {name: _steadied(total / total[-1, -1]) for name, total in sums.items()}


def reconstructed(graph: Graph, dropped: Mapping[ChannelGroup, Iterable[int]], moments: Moments) -> Graph:
    """Return `graph` without the channels `dropped` of each group, with what is lost made up for.

    Layers without moments just lose their weights.
    """
    removed = removed_channels(dropped)
    constants = dict(graph.constants)
    for op in graph.ops:
        gone = removed.get((op.name, "in"))
        if gone and op.name in moments:
            made_up = _Reader(op, graph, moments[op.name], gone).values()
            constants |= {
                name: Constant(name, value) for name, value in zip(op.constants, made_up, strict=True)
            }
    return without(replace(graph, constants=constants), dropped)


def importance_order(graph: Graph, group: ChannelGroup, removed: Removed, moments: Moments) -> list[int]:
    """Return the channels of a group from the one that is missed most to the one that is missed least.

    Found from behind: again and again the channel goes that costs all layers that read it least, as shares of
    what they compute, once the others have made up for it.

    Args:
        graph: what the group is of.
        group: where.
        removed: channels of other groups that are gone already.
        moments: of what layers read.
    """
    ops = {op.name: op for op in graph.ops}
    readers = [
        (
            _Reader(
                ops[member.layer], graph, moments[member.layer], removed.get((member.layer, "in"), set())
            ),
            np.array(member.positions),
        )
        for member in group.members
        if member.side == "in" and member.layer in moments
    ]
    alive, gone = list(range(group.channels)), []
    while alive:
        missed = np.zeros(len(alive))
        for reader, positions in readers:
            there = positions[alive] >= 0
            missed[there] += reader.missed(positions[alive][there])
        gone.append(alive.pop(int(missed.argmin())))
        for reader, positions in readers:
            if positions[gone[-1]] >= 0:
                reader.remove(int(positions[gone[-1]]))
    return gone[::-1]


class _Reader:
    """A layer that loses channels one by one.

    Its weights are rows: one for each channel that it reads, of all taps and filters, and one for the bias. A
    row that is gone is 0, and so are the row and the column of the inverse moments.
    """

    def __init__(self, op: Op, graph: Graph, moments: Matrix, gone: Collection[int]) -> None:
        assert isinstance(op.attrs, ConvAttrs)
        values = [graph.constants[name].value for name in op.constants]
        self._shape = values[0].shape
        taken = self._shape[2]
        weights = values[0].astype(np.float64).transpose(2, 0, 1, 3).reshape(taken, -1)
        self._bias = values[1] if len(values) > 1 else None
        # How many taps make an output: what each of them adds for the constant sums up to the bias.
        strides = int(np.prod(op.attrs.window.stride)) if op.attrs.transposed else 1
        self._share = 1 / strides
        self._energy = max(float(np.vdot(weights, moments[:taken, :taken] @ weights)), 1e-30)
        size = taken if self._bias is None else taken + 1
        self._inverse = np.linalg.inv(moments[:size, :size])
        self._rows = np.zeros((size, weights.shape[1]))
        self._rows[:taken] = weights
        for channel in sorted(gone):
            self.remove(channel)

    def missed(self, channels: NDArray[np.intp]) -> Matrix:
        """Return what the layer's outputs lose with each channel, as a share of their energy."""
        lost: Matrix = (self._rows[channels] ** 2).sum(1) / self._inverse[channels, channels] / self._energy
        return lost

    def remove(self, channel: int) -> None:
        """Make up for a channel that is still there."""
        column = self._inverse[:, channel] / self._inverse[channel, channel]
        self._rows -= np.outer(column, self._rows[channel])
        self._inverse = self._inverse - np.outer(column, self._inverse[channel])
        self._rows[channel] = 0  # but for rounding they are
        self._inverse[channel], self._inverse[:, channel] = 0, 0

    def values(self) -> list[Array]:
        """Return weight and bias in the graph's order of axes; what is gone is 0."""
        rows, columns, taken, given = self._shape
        weight = self._rows[:taken].reshape(taken, rows, columns, given).transpose(1, 2, 0, 3)
        found = [np.ascontiguousarray(weight, np.float32)]
        if self._bias is not None:
            added = self._rows[taken].reshape(rows * columns, given).sum(0) * self._share
            found.append((self._bias + added).astype(np.float32))
        return found


def _adder(sums: dict[str, Matrix], name: str) -> Any:
    def add(_layer: nn.Module, taken: Sequence[Tensor], _given: Tensor) -> None:
        x = taken[0].permute(0, 2, 3, 1).flatten(0, 2).double()
        x = torch.cat([x, torch.ones(len(x), 1, dtype=torch.double)], 1)
        sums[name] = sums.get(name, 0) + (x.T @ x).numpy()

    return add


def _steadied(moments: Matrix) -> Matrix:
    channels = len(moments) - 1
    mean = float(np.trace(moments[:channels, :channels])) / channels
    moments[range(channels), range(channels)] += RIDGE * max(mean, 1e-30)
    return moments

"""A graph as a torch module: what NNCF calibrates and trains, and what is traced and tuned for pruning."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldtune.errors import ModelError
from firmware_gen.graph import Array, Constant, Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.resize import ResizeAttrs, positions
from firmware_gen.window import Activation


class GraphModule(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Computes `graph` on maps (n, c, h, w); vectors are (n, c, 1, 1).

    Layer number k of the graph is the submodule ``layer{k}``: torch takes no dots in names.

    Args:
        graph: a simplified float graph.
        watched: tensors that NNCF would leave in float at some of their readers, with these readers (the
            names of layers; "" is the network's output). They read the tensor through ``watch{k}``, a pooling
            over one pixel, which computes nothing but makes NNCF quantize what it reads.

    Raises:
        ModelError: an operator cannot be quantized.
    """

    def __init__(self, graph: Graph, watched: Mapping[str, Collection[str]]) -> None:
        super().__init__()
        self._graph = graph
        self._watched = watched
        for index, op in enumerate(graph.ops):
            self.add_module(f"layer{index}", _layer(op, graph))
            if op.outputs[0] in watched:
                self.add_module(f"watch{index}", _Function(lambda x: F.avg_pool2d(x, 1)))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the graph's outputs for its inputs, both in their order in the graph."""
        values: dict[str, Tensor] = dict(zip(self._graph.inputs, inputs, strict=True))
        watches: dict[str, Tensor] = {}
        for index, op in enumerate(self._graph.ops):
            name = op.outputs[0]
            operands = (watches[x] if op.name in self._watched.get(x, ()) else values[x] for x in op.inputs)
            values[name] = self.get_submodule(f"layer{index}")(*operands)
            if name in self._watched:
                watches[name] = self.get_submodule(f"watch{index}")(values[name])
        return tuple(watches[y] if "" in self._watched.get(y, ()) else values[y] for y in self._graph.outputs)

    def load(self, graph: Graph) -> None:
        """Take the weights of `graph`, which has this module's layers."""
        for index, op in enumerate(graph.ops):
            if op.kind == "conv2d":
                layer = self.get_submodule(f"layer{index}")
                layer.load([graph.constants[name].value for name in op.constants])

    def graph(self) -> Graph:
        """Return the graph with the weights that the module has now."""
        constants = dict(self._graph.constants)
        for index, op in enumerate(self._graph.ops):
            if op.kind == "conv2d":
                for name, value in zip(
                    op.constants, self.get_submodule(f"layer{index}").values(), strict=True
                ):
                    constants[name] = Constant(name, value)
        return replace(self._graph, constants=constants)


class Conv(nn.Module):  # type: ignore[misc]
    """A (transposed) convolution and the activation that is fused into it.

    `taken` and `given` are its input and output channels, of all groups.
    """

    def __init__(self, op: Op, graph: Graph) -> None:
        super().__init__()
        assert isinstance(op.attrs, ConvAttrs)
        self._attrs = op.attrs
        self._shape = graph.shape(op.outputs[0])
        self.taken, self.given = graph.shape(op.inputs[0])[2], self._shape[2]
        # (rows, columns, in, out) become torch's (out, in, rows, columns) or, transposed, (in, out, ...).
        self._axes = (2, 3, 0, 1) if op.attrs.transposed else (3, 2, 0, 1)
        shapes = [graph.constants[name].value.shape for name in op.constants]
        self.weight = nn.Parameter(torch.empty([shapes[0][axis] for axis in self._axes]))
        self.bias = nn.Parameter(torch.empty(shapes[1])) if len(shapes) > 1 else None
        self.norm: nn.BatchNorm2d | None = None
        self.load([graph.constants[name].value for name in op.constants])

    def load(self, values: Sequence[Array]) -> None:
        """Take weight and bias in the graph's order of axes."""
        with torch.no_grad():
            self.weight.copy_(torch.tensor(values[0].transpose(self._axes)))
            if self.bias is not None:
                self.bias.copy_(torch.tensor(values[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output for (n, c, h, w)."""
        y = self.sums(x)
        return activate(y if self.norm is None else self.norm(y), self._attrs.activation)

    def sums(self, x: Tensor) -> Tensor:
        """Return what the layer computes before normalization and activation."""
        return self._transposed(x) if self._attrs.transposed else self._plain(x)

    @property
    def normalizable(self) -> bool:
        """Tell whether an activation follows, and a bias is there to fold a normalization into."""
        grouped = self._attrs.transposed and self._attrs.groups > 1  # other axes
        return self.bias is not None and self._attrs.activation.kind != "linear" and not grouped

    def normalize(self, mean: Tensor, variance: Tensor) -> None:
        """Normalize batches from now on, such that sums with this mean and variance stay what they are.

        Args:
            mean: (c), of what :meth:`sums` returns.
            variance: (c).
        """
        assert self.bias is not None
        self.bias.requires_grad_(False)  # the normalization would take off what it learns
        self.norm = nn.BatchNorm2d(self.given)
        with torch.no_grad():
            self.norm.running_mean.copy_(mean)
            self.norm.running_var.copy_(variance)
            self.norm.weight.copy_(torch.sqrt(variance + self.norm.eps))
            self.norm.bias.copy_(mean)

    def values(self) -> list[Array]:
        """Return weight and bias, with what normalizes them folded in, in the graph's order of axes."""
        weight, bias = self._folded()
        found = [np.ascontiguousarray(weight.numpy().transpose(np.argsort(self._axes)))]
        return found if bias is None else [*found, bias.numpy().copy()]

    def _folded(self) -> tuple[Tensor, Tensor | None]:
        weight, norm = self.weight.detach(), self.norm
        if self.bias is None or norm is None:
            return weight, None if self.bias is None else self.bias.detach()
        factor = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        axis = 1 if self._attrs.transposed else 0
        spread = factor.reshape([-1 if k == axis else 1 for k in range(4)])
        return weight * spread, (self.bias - norm.running_mean).detach() * factor + norm.bias.detach()

    def _plain(self, x: Tensor) -> Tensor:
        w = self._attrs.window
        pad = w.pad
        if w.pad != w.pad_end:  # torch pads both ends alike
            x, pad = F.pad(x, (w.pad[1], w.pad_end[1], w.pad[0], w.pad_end[0])), (0, 0)
        return F.conv2d(x, self.weight, self.bias, w.stride, pad, w.dilation, self._attrs.groups)

    def _transposed(self, x: Tensor) -> Tensor:
        w = self._attrs.window
        height, width = replace(w, pad_end=w.pad).transposed_output(x.shape[2], x.shape[3])
        extra = (max(self._shape[0] - height, 0), max(self._shape[1] - width, 0))
        y = F.conv_transpose2d(
            x, self.weight, self.bias, w.stride, w.pad, extra, self._attrs.groups, w.dilation
        )
        return y if y.shape[2:] == self._shape[:2] else y[:, :, : self._shape[0], : self._shape[1]]


class DepthwiseConv(Conv):
    """One with a filter for each channel, so that what it takes and gives are the same channels."""


class _Function(nn.Module):  # type: ignore[misc]
    """A layer without weights."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(*inputs)


def activate(y: Tensor, activation: Activation) -> Tensor:
    """Return the activated values."""
    if activation.kind == "relu":
        return F.relu(y)
    if activation.kind == "leaky_relu":
        return F.leaky_relu(y, activation.a)
    if activation.kind == "clip":
        return F.hardtanh(y, activation.a, activation.b)
    return torch.sigmoid(y) if activation.kind == "sigmoid" else y


def is_depthwise(op: Op, graph: Graph) -> bool:
    """Tell whether a layer has a filter for each channel."""
    assert isinstance(op.attrs, ConvAttrs)
    return op.attrs.groups == graph.shape(op.inputs[0])[2] == graph.shape(op.outputs[0])[2] > 1


def _layer(op: Op, graph: Graph) -> nn.Module:
    if op.kind == "conv2d":
        return (DepthwiseConv if is_depthwise(op, graph) else Conv)(op, graph)
    if op.kind in ("max_pool", "average_pool"):
        return _Function(_pool(op, graph))
    if op.kind == "resize":
        return _Function(_resize(op, graph))
    height, width, channels = graph.shape(op.outputs[0])
    functions: dict[str, Callable[..., Tensor]] = {
        "activation": lambda x: activate(x, op.attrs),  # type: ignore[arg-type]
        "add": torch.add,
        "concat": lambda *parts: torch.cat(parts, 1),
        "channels_first": lambda x: x.reshape(-1, channels, height, width),
        "from_channels_first": lambda x: x.reshape(-1, channels, height, width),
        "softmax": lambda x: F.softmax(x, 1),
    }
    if op.kind not in functions:
        raise ModelError(f"{op.name} of {graph.name} is a {op.kind}, which cannot be quantized")
    return _Function(functions[op.kind])


def _pool(op: Op, graph: Graph) -> Callable[[Tensor], Tensor]:
    attrs = op.attrs
    assert isinstance(attrs, PoolAttrs)
    w = attrs.window
    height, width, _ = graph.shape(op.inputs[0])
    for ceil in (
        False,
        True,
    ):  # what torch may do at the ends: pad like at the start, or let windows overhang
        if replace(w, pad_end=w.pad).output(height, width, ceil=ceil) == graph.shape(op.outputs[0])[:2]:
            if op.kind == "max_pool":
                return lambda x: F.max_pool2d(x, w.kernel, w.stride, w.pad, w.dilation, ceil)
            if w.dilation == (1, 1):
                return lambda x: F.avg_pool2d(x, w.kernel, w.stride, w.pad, ceil, attrs.count_padding)
    raise ModelError(f"{op.name} of {graph.name} pads or dilates in a way that torch's pooling cannot")


def _resize(op: Op, graph: Graph) -> Callable[[Tensor], Tensor]:
    attrs = op.attrs
    assert isinstance(attrs, ResizeAttrs)
    small, large = graph.shape(op.inputs[0]), graph.shape(op.outputs[0])
    size = large[:2]

    def table(coordinates: str, rounding: str) -> list[object]:
        rule = replace(attrs, coordinates=coordinates, rounding=rounding)
        return [positions(rule, axis, small[axis], large[axis]) for axis in (0, 1)]

    wanted = table(attrs.coordinates, attrs.rounding)
    for mode, corners, coordinates, rounding in (
        ("nearest", None, "asymmetric", "floor"),
        ("nearest-exact", None, "half_pixel", "round_prefer_ceil"),
        ("bilinear", False, "half_pixel", ""),
        ("bilinear", True, "align_corners", ""),
    ):
        kind = "linear" if mode == "bilinear" else "nearest"
        if kind == attrs.mode and table(coordinates, rounding) == wanted:
            return lambda x, mode=mode, corners=corners: F.interpolate(  # type: ignore[misc]
                x, size, mode=mode, align_corners=corners
            )
    raise ModelError(
        f"{op.name} of {graph.name} resizes by a rule that torch does not have "
        f"({attrs.coordinates}, {attrs.rounding})"
    )

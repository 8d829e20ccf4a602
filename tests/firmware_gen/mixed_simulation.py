"""What operators on moving grids compute, in PyTorch: after docs/architecture.md, not after the kernels.

Each function takes what the firmware's operator read and returns what it should have written: integers as
int64, maps as (channels, rows, columns), grids as (scale, zero point).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from firmware_gen.graph import Constant, Graph, Range
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.window import LINEAR, Activation

f32 = np.float32


@dataclass(frozen=True)
class Grid:
    """value = scale * (q - zero), lowest <= q <= highest."""

    scale: np.float32
    zero: int = 0
    lowest: int = -127
    highest: int = 127


def grid_of(moving: Range) -> Grid:
    """Return the grid that a range gives, headroom included."""
    low, high = (f32(end) * f32(moving.headroom) for end in (moving.low, moving.high))
    if moving.symmetric:
        return gradient_grid(high, moving.symmetric)
    scale = (high - low) / f32(255)
    return Grid(scale, int(np.clip(_away(f32(-128) - low / scale), -128, 127)), -128)


def grid_on(graph: Graph, name: str) -> Grid:
    """Return the grid of an int8 tensor before the first step."""
    tensor = graph.tensors[name]
    if tensor.range:
        return grid_of(graph.ranges[tensor.range])
    assert tensor.quantization is not None
    return Grid(f32(tensor.quantization.scale), tensor.quantization.zero_point, -128)


def quantize(x: Tensor, grid: Grid) -> Tensor:
    """Return the nearest integers, halves to the even one."""
    steps = torch.round(x / torch.tensor(grid.scale)).to(torch.int64)
    return (steps + grid.zero).clamp(grid.lowest, grid.highest)


def gradient_grid(largest: np.float32, highest: int) -> Grid:
    """Return the grid of a gradient whose largest integer, `highest`, means `largest`, which may be 0."""
    return Grid(max(largest / f32(highest), f32(1e-30)), 0, -highest, highest)


def exact_gradient_grid(dy: Tensor, highest: int) -> Grid:
    """Return the grid that just holds a float gradient."""
    return gradient_grid(f32(dy.abs().max().item()), highest)


def conv(
    q: Tensor,
    x: Grid,
    weight: Constant,
    bias: Tensor | None,
    attrs: ConvAttrs,
    y: Grid,
    size: tuple[int, int],
) -> Tensor:
    """Return the integers of a (transposed) convolution whose output has `size` rows and columns."""
    w = torch.tensor(weight.value.astype(np.int64)).permute(3, 2, 0, 1)
    sums = _sums((q - x.zero).double(), w.double(), attrs, size).to(torch.int64)
    scales = np.broadcast_to(np.array(weight.scales, f32), (sums.shape[0],))
    out = torch.empty_like(sums)
    for channel, scale in enumerate(scales):
        unit = x.scale * scale
        start = 0 if bias is None else int(_away(f32(bias[channel].item()) / unit))
        acc = sums[channel] + start
        factor = unit / y.scale
        slope = f32(attrs.activation.a) if attrs.activation.kind == "leaky_relu" else f32(1)
        out[channel] = torch.where(acc < 0, _scaled(acc, factor * slope), _scaled(acc, factor))
    low, high = _limits(attrs.activation, y)
    return (out + y.zero).clamp(low, high)


def conv_to_float(
    q: Tensor, x: Grid, weight: Constant, bias: Tensor | None, attrs: ConvAttrs, size: tuple[int, int]
) -> Tensor:
    """Return the real values of a convolution whose output is not quantized."""
    return activated(real_conv((q - x.zero) * float(x.scale), weight, bias, attrs, size), attrs.activation)


def activated(y: Tensor, activation: Activation) -> Tensor:
    """Return real values after an activation."""
    match activation.kind:
        case "relu":
            return F.relu(y)
        case "leaky_relu":
            return F.leaky_relu(y, activation.a)
        case "clip":
            return y.clamp(activation.a, activation.b)
    return y


def real_conv(
    x: Tensor, weight: Constant | Tensor, bias: Tensor | None, attrs: ConvAttrs, size: tuple[int, int]
) -> Tensor:
    """Return the real sums of a convolution of real values; a weight that learns is a tensor."""
    value = torch.tensor(weight.value) if isinstance(weight, Constant) else weight
    sums = _sums(x.double(), value.double().permute(3, 2, 0, 1), attrs, size)
    if isinstance(weight, Constant) and weight.scales:
        scales = torch.tensor(weight.scales, dtype=torch.float64).expand(len(sums))
        sums = sums * scales[:, None, None]
    return sums if bias is None else sums + bias.double().ravel()[:, None, None]


def carried_back(weight: Constant, attrs: ConvAttrs) -> tuple[Constant, ConvAttrs]:
    """Return the int8 layer that is the input gradient: in and out exchanged, scales of its own outputs."""
    groups, value = attrs.groups, torch.tensor(weight.value.astype(np.float64))
    scales = torch.tensor(weight.scales, dtype=torch.float64)
    if attrs.transposed:  # (rows, columns, in, out of a group) -> (rows, columns, out of a group, in)
        rows, columns, taken, given = value.shape
        parts = value.reshape(rows, columns, groups, taken // groups, given)
        scales = scales.expand(groups * given) if len(scales) == 1 else scales
        real = (parts * scales.reshape(groups, 1, given)).reshape(rows, columns, taken, given)
        real = real.permute(0, 1, 3, 2)
        steps = real.abs().amax((0, 1, 2)) / 127
        integers = real / steps
    else:  # (rows, columns, in of a group, out) -> (rows, columns, out, in of a group)
        rows, columns, taken, given = value.shape
        real = (value * scales).permute(0, 1, 3, 2)
        parts = real.reshape(rows, columns, groups, given // groups, taken)
        steps = parts.abs().amax((0, 1, 3)) / 127
        integers = (parts / steps[:, None, :]).reshape(rows, columns, given, taken)
    packed = torch.round(integers).to(torch.int8).numpy()
    numbers = tuple(f32(step).item() for step in steps.ravel().tolist())
    turned = replace(attrs, transposed=not attrs.transposed, activation=LINEAR)
    return Constant("back", packed, scales=numbers), turned


def masked(dy: Tensor, y: Tensor, grid: Grid, activation: Activation) -> Tensor:
    """Return the gradient behind an activation with the outputs `y`, before it is rounded up or down."""
    passes = y > grid.zero
    if activation.kind == "clip":
        low, high = _limits(activation, grid)
        passes = (y > low) & (y < high)
    slope = activation.a if activation.kind == "leaky_relu" else 0.0
    return torch.where(passes, dy.double(), dy * slope)


def rescaled(q: Tensor, x: Grid, y: Grid) -> Tensor:
    """Return the same values on another grid."""
    steps = _away(((q - x.zero).numpy().astype(f32) * x.scale) / y.scale)
    return (torch.tensor(steps).to(torch.int64) + y.zero).clamp(y.lowest, y.highest)


def added(a: Tensor, a_grid: Grid, b: Tensor, b_grid: Grid, y: Grid, relu: bool) -> Tensor:
    """Return the real sum on the grid of y; the firmware's may be a step beside: its factors have 21 bits."""
    total = (a - a_grid.zero).double() * float(a_grid.scale) + (b - b_grid.zero).double() * float(
        b_grid.scale
    )
    steps = torch.floor(total / float(y.scale) + 0.5).to(torch.int64)
    return (steps + y.zero).clamp(y.zero if relu else y.lowest, y.highest)


def averaged(q: Tensor, x: Grid, y: Grid) -> Tensor:
    """Return the mean of each channel."""
    mean = (q - x.zero).sum((1, 2), keepdim=True).double() * float(x.scale) / (q.shape[1] * q.shape[2])
    steps = torch.tensor(_away((mean / float(y.scale)).numpy())).to(torch.int64)
    return (steps + y.zero).clamp(-128, 127)


def _sums(x: Tensor, w: Tensor, attrs: ConvAttrs, size: tuple[int, int]) -> Tensor:
    """Return the sums of products; `w` is (out, in of a group) or, transposed, (out of a group, in)."""
    window = attrs.window
    if not attrs.transposed:
        below, right = (
            (size[k] - 1) * window.stride[k]
            + (window.kernel[k] - 1) * window.dilation[k]
            + 1
            - x.shape[k + 1]
            - window.pad[k]
            for k in (0, 1)
        )
        padded = F.pad(x, (window.pad[1], right, window.pad[0], below))
        return F.conv2d(padded[None], w, None, window.stride, 0, window.dilation, attrs.groups)[0]
    w = w.permute(1, 0, 2, 3)
    whole = F.conv_transpose2d(x[None], w, None, window.stride, 0, 0, attrs.groups, window.dilation)[0]
    room = [max(0, window.pad[k] + size[k] - whole.shape[k + 1]) for k in (0, 1)]
    whole = F.pad(whole, (0, room[1], 0, room[0]))
    top, left = window.pad
    return whole[:, top : top + size[0], left : left + size[1]]


def _limits(activation: Activation, y: Grid) -> tuple[int, int]:
    if activation.kind == "relu":
        return y.zero, 127
    if activation.kind == "clip":
        low, high = (int(_away(f32(end) / y.scale)) + y.zero for end in (activation.a, activation.b))
        return max(low, -128), min(high, 127)
    return y.lowest, y.highest


def _scaled(acc: Tensor, factor: np.float32) -> Tensor:
    """Return acc * factor as TFLite rounds it: a doubling high product, then a division by a power of two."""
    mantissa, exponent = np.frexp(min(factor, f32(0.49)))
    if exponent < -31:
        return torch.zeros_like(acc)
    product = acc * int(mantissa * 2.0**31)
    product = product + torch.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = torch.div(product, 1 << 31, rounding_mode="trunc")
    unit = 1 << -int(exponent)
    return torch.div(high.abs() + unit // 2, unit, rounding_mode="floor") * high.sign()


def _away(x: np.ndarray | np.floating) -> np.ndarray | np.floating:
    """Return the nearest integers, halves away from zero."""
    return np.trunc(x + np.copysign(x.dtype.type(0.5), x))

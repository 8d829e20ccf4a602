"""The contract of kernels/conv2d_f16.h in numpy, value by value.

A fused multiply-add of binary16 is a sum in float64, rounded to binary16: its product is exact there, and
a sum that is not lies nowhere near the middle of two values of binary16. The same holds for sums of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_gen.window import Window

CHAIN = 64
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
F16 = NDArray[np.float16]


@dataclass(frozen=True)
class Layer:
    """A convolution, or a transposed one, from maps of (height, width, taken) to (..., given)."""

    window: Window
    height: int
    width: int
    taken: int
    given: int
    transposed: bool = False

    @property
    def out(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        size = self.window.transposed_output if self.transposed else self.window.output
        return size(self.height, self.width)

    def taps(self, position: int, axis: int) -> list[tuple[int, int]]:
        """Return the taps of an output position and where each reads, ascending: on the map or beside it."""
        win = self.window
        found = []
        for k in range(win.kernel[axis]):
            if not self.transposed:
                found.append((k, position * win.stride[axis] - win.pad[axis] + k * win.dilation[axis]))
                continue
            at, rest = divmod(position + win.pad[axis] - k * win.dilation[axis], win.stride[axis])
            if rest == 0:
                found.insert(0, (k, at))
        return found


def power(values: F32, top: int) -> np.float32:
    """Return the power of two that brings the largest value below 2^top."""
    biased = max(8, int(np.abs(values).max(initial=0).view(np.int32)) >> 23)
    return np.float32(2.0 ** (top + 126 - biased))


def rounded(values: F32, by: np.float32) -> F16:
    return (values * by).astype(np.float16)


def fused(a: F16, b: F16, c: F16) -> F16:
    return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(np.float16)


def scaled_sum(chain: F32, unit: np.float32, sums: F32) -> F32:
    return (chain.astype(np.float64) * np.float64(unit) + sums.astype(np.float64)).astype(np.float32)


def forward(layer: Layer, x: F32, weight: F32, start: F32) -> F32:
    """Return start + x * weight; weight: (rows, columns, taken, given)."""
    height, width = layer.out
    of_weights = np.array([power(weight[..., o], 4) for o in range(layer.given)], np.float32)
    weights = (weight * of_weights).astype(np.float16)
    of_rows = [power(row, 5) for row in x]
    rows = np.stack([rounded(row, by) for row, by in zip(x, of_rows, strict=True)])
    y = np.zeros((height, width, layer.given), np.float32)
    odd = layer.taken % 2
    for i in range(height):
        for j in range(width):
            sums = np.zeros(layer.given, np.float32)
            for ky, row in sorted(layer.taps(i, 0)):
                if not 0 <= row < layer.height:
                    continue
                steps: list[tuple[F16, F16]] = []
                for kx, column in layer.taps(j, 1):
                    on_map = 0 <= column < layer.width
                    values = rows[row, column] if on_map else np.zeros(layer.taken, np.float16)
                    values = np.pad(values, (0, odd))
                    factors = np.pad(weights[ky, kx], ((0, odd), (0, 0)))
                    steps += zip(values.reshape(-1, 2), factors.reshape(-1, 2, layer.given), strict=True)
                for at in range(0, len(steps), CHAIN):
                    chain = np.zeros((2, layer.given), np.float16)
                    for value, factor in steps[at : at + CHAIN]:
                        chain = fused(value[:, None], factor, chain)
                    low, high = chain.astype(np.float32)
                    sums = scaled_sum(low + high, 1 / of_rows[row], sums)
            y[i, j] = (sums.astype(np.float64) / of_weights + start[i, j]).astype(np.float32)
    return y


def weight_gradients(layer: Layer, x: F32, dy: F32, start: F32, one_by_one: bool) -> F32:
    """Return start + the gradients of the weights, (rows, columns, taken, given)."""
    win, near, far = layer.window, *((x, dy) if layer.transposed else (dy, x))
    height, width, _ = near.shape
    group = 1 if one_by_one else max(1, CHAIN // width)
    of_near, of_far = (4, 8) if layer.transposed else (8, 4)
    sums = start.copy()
    for first in range(0, height, group):
        rows = range(first, min(height, first + group))
        top, span = first * win.stride[0] - win.pad[0], (win.kernel[0] - 1) * win.dilation[0]
        seen = range(max(0, top), min(len(far), top + (len(rows) - 1) * win.stride[0] + span + 1))
        halves_near, units_near = _in_blocks(near, rows, of_near, 5)
        halves_far, units_far = _in_blocks(far, seen, of_far, 4)
        units = np.outer(units_near, units_far)
        for ky in range(win.kernel[0]):
            others = [top + (row - first) * win.stride[0] + ky * win.dilation[0] for row in rows]
            lines = [
                (halves_near[row], halves_far[other])
                for row, other in zip(rows, others, strict=True)
                if 0 <= other < len(far)
            ]
            for kx in range(win.kernel[1]):
                for chain in _chains(lines, win.stride[1], kx * win.dilation[1] - win.pad[1]):
                    found, by = (chain, units) if layer.transposed else (chain.T, units.T)
                    sums[ky, kx] = (found.astype(np.float64) * by + sums[ky, kx]).astype(np.float32)
    return sums


def _chains(lines: list[tuple[F16, F16]], stride: int, offset: int) -> list[F16]:
    """Return the sums of products of lines' pixels: one chain, or several of lines longer than one."""
    chains: list[F16] = []
    for near, far in lines:
        for column, pixel in enumerate(near):
            if not chains or (column % CHAIN == 0 and column > 0) or (column == 0 and len(near) > CHAIN):
                chains.append(np.zeros((near.shape[1], far.shape[1]), np.float16))
            at = column * stride + offset
            value = far[at] if 0 <= at < len(far) else np.zeros(far.shape[1], np.float16)
            chains[-1] = fused(pixel[:, None], value[None, :], chains[-1])
    return chains


def _in_blocks(values: F32, rows: range, channels: int, top: int) -> tuple[F16, F32]:
    """Return the map with those rows in binary16, each block of channels by its power, and the units."""
    halves = np.zeros(values.shape, np.float16)
    units = np.ones(values.shape[2], np.float32)
    taken = values[rows.start : rows.stop] if rows else values[:0]
    for c in range(0, values.shape[2], channels):
        by = power(taken[..., c : c + channels], top)
        halves[rows.start : rows.stop, :, c : c + channels] = rounded(taken[..., c : c + channels], by)
        units[c : c + channels] = 1 / by
    return halves, units

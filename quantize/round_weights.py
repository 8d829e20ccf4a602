"""Round each layer's weights so that its outputs, not its weights, change least.

Rounding a weight to its nearest int8 value ignores that a layer's inputs are correlated and have a mean, so
that errors add up. Here the weights are rounded one input after the other, and what each rounding has spoilt
is made good by the weights that are not rounded yet and by the bias, in the least-squares sense over the
calibration frames (GPTQ: Frantar et al. 2023, arXiv 2210.17323). A layer reads what the int8 layers before it
give and aims at what the float network computes, so that it makes good their errors too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from firmware_gen.graph import Array, Constant, Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from quantize.float_network import Values, run
from quantize.onnx_writer import layer_model
from quantize.parameters import WEIGHT_MAX, QuantizedGraph, nearest

DAMPING = 1e-3
"""Share of the inputs' mean square that is added to it: other frames differ from those of the calibration."""

Matrices = NDArray[np.float64]
"""One matrix for each group of a convolution."""


def round_weights(quantized: QuantizedGraph, inputs: Sequence[Values]) -> QuantizedGraph:
    """Return `quantized` with weights that are multiples of their scales, and corrected biases.

    Args:
        quantized: with float weights; its scales stay as they are.
        inputs: the network's inputs for the calibration frames.
    """
    graph = solved = quantized.graph
    exact = [dict(values) for values in inputs]
    rounded = [_stored(quantized, values, graph.inputs) for values in inputs]
    for position, op in enumerate(graph.ops):
        if op.constants and op.constants[0] in quantized.weights and not _is_shared(op, graph):
            x = op.inputs[0]
            pairs = ((r[x], e[x]) for r, e in zip(rounded, exact, strict=True))
            constants = _solve(op, graph, quantized.weights[op.constants[0]], pairs)
            solved = replace(solved, constants={**solved.constants, **constants})
        needed = {x for later in graph.ops[position + 1 :] for x in later.inputs}
        exact = _advance(exact, graph, op, needed)
        rounded = [_stored(quantized, v, op.outputs) for v in _advance(rounded, solved, op, needed)]
    return replace(quantized, graph=solved)


def _is_shared(op: Op, graph: Graph) -> bool:
    return any(other is not op and {*other.constants} & {*op.constants} for other in graph.ops)


def _stored(quantized: QuantizedGraph, values: Values, names: Iterable[str]) -> dict[str, Array]:
    """Return `values`, with those of `names` that are int8 rounded."""
    known = {name: quantized.activations[name] for name in names if name in quantized.activations}
    return {name: nearest(value, known[name]) if name in known else value for name, value in values.items()}


def _advance(samples: Sequence[Values], graph: Graph, op: Op, needed: set[str]) -> list[dict[str, Array]]:
    """Run one operator on each sample; keep only the tensors that are `needed`."""
    height, width, channels = graph.shape(op.outputs[0])
    results = run(layer_model(graph, op), [{x: values[x] for x in op.inputs} for values in samples])
    return [
        {
            name: value
            for name, value in {
                **values,
                op.outputs[0]: result[op.outputs[0]].reshape(1, channels, height, width),
            }.items()
            if name in needed
        }
        for values, result in zip(samples, results, strict=True)
    ]


def _solve(op: Op, graph: Graph, scales: Array, pairs: Iterable[tuple[Array, Array]]) -> dict[str, Constant]:
    """Return the rounded weight and the bias of a layer; `pairs`: its inputs, in int8 and exact."""
    attrs = op.attrs
    assert isinstance(attrs, ConvAttrs)
    value = graph.constants[op.constants[0]].value
    weight: NDArray[Any]
    taps, count = value.shape[0] * value.shape[1], value.shape[3]
    square: Matrices | float = 0.0
    cross: Matrices | float = 0.0
    for x, aim in pairs:
        columns = _columns(x, op)
        square = square + np.matmul(columns.transpose(0, 2, 1), columns)
        cross = cross + np.matmul(columns.transpose(0, 2, 1), _columns(aim, op))
    if attrs.transposed:  # every tap is a layer of its own: (groups, taps * out, in)
        weight = value.reshape(taps, attrs.groups, -1, count).transpose(1, 0, 3, 2)
        weight = weight.reshape(attrs.groups, taps * count, -1)
        steps = np.tile(scales, (attrs.groups, taps))
    else:  # (groups, out of a group, taps * in)
        weight = value.reshape(taps * value.shape[2], attrs.groups, -1).transpose(1, 2, 0)
        steps = scales.reshape(attrs.groups, -1)
    new, shift = _rounded(weight.astype(np.float64), steps, np.asarray(square), np.asarray(cross))
    if attrs.transposed:
        new = new.reshape(attrs.groups, taps, count, -1).transpose(1, 0, 3, 2)
        # An output pixel sums as many taps as the windows overlap there, each with its own shift.
        shift = shift.reshape(attrs.groups, taps, count).sum(1) / np.prod(attrs.window.stride)
    else:
        new = new.transpose(2, 0, 1)
    name = op.constants[0]
    found = {name: Constant(name, new.reshape(value.shape).astype(np.float32))}
    for bias in op.constants[1:]:
        found[bias] = Constant(bias, (graph.constants[bias].value + shift.ravel()).astype(np.float32))
    return found


def _columns(x: Array, op: Op) -> Array:
    """Return what each output of a layer is computed from: (groups, pixels, inputs of a group and a 1)."""
    attrs = op.attrs
    assert isinstance(attrs, ConvAttrs)
    groups, w = attrs.groups, attrs.window
    if attrs.transposed:
        columns = x.reshape(groups, x.shape[1] // groups, -1).transpose(0, 2, 1)
    else:
        padded = np.pad(x[0], ((0, 0), (w.pad[0], w.pad_end[0]), (w.pad[1], w.pad_end[1])))
        reach = tuple((w.kernel[k] - 1) * w.dilation[k] + 1 for k in (0, 1))
        windows = sliding_window_view(padded, reach, axis=(1, 2))
        windows = windows[:, :: w.stride[0], :: w.stride[1], :: w.dilation[0], :: w.dilation[1]]
        channels, rows, cols, *_ = windows.shape
        split = windows.reshape(groups, channels // groups, rows, cols, *w.kernel)
        # (taps, in) is the order of the weights.
        columns = split.transpose(0, 2, 3, 4, 5, 1).reshape(groups, rows * cols, -1)
    ones = np.ones((*columns.shape[:2], 1), np.float32)
    return np.concatenate([columns, ones], 2)


def _rounded(weight: Matrices, steps: Array, square: Matrices, cross: Matrices) -> tuple[Matrices, Matrices]:
    """Return weights (groups, out, in) on the grid of `steps` (groups, out), and shifts of the biases.

    Args:
        weight: the exact ones.
        steps: the scale of each output.
        square: sums of x x', where x is the int8 input with a 1 as its last value.
        cross: sums of x y', where y is the exact input.
    """
    groups, outputs, count = weight.shape
    damping = DAMPING * np.einsum("gii->g", square)[:, None, None] / (count + 1) * np.eye(count + 1)
    wide = np.concatenate([weight, np.zeros((groups, outputs, 1))], 2)
    # The best weights before rounding, drawn to the exact ones where the frames do not tell.
    aim = np.matmul(cross + damping, wide.transpose(0, 2, 1))
    square = square + damping
    current = np.linalg.solve(square, aim).transpose(0, 2, 1)
    # Inputs that matter most first: all others can make good their errors. The bias is never rounded.
    order = np.argsort(-np.einsum("gii->gi", square)[:, :count], 1, kind="stable")
    order = np.concatenate([order, np.full((groups, 1), count)], 1)
    square = np.take_along_axis(np.take_along_axis(square, order[:, :, None], 1), order[:, None, :], 2)
    current = np.take_along_axis(current, order[:, None, :], 2)
    factor = np.linalg.cholesky(np.linalg.inv(square)).transpose(0, 2, 1)
    for k in range(count):
        grid = np.clip(np.rint(current[:, :, k] / steps), -WEIGHT_MAX, WEIGHT_MAX) * steps
        error = (current[:, :, k] - grid) / factor[:, k, k, None]
        current[:, :, k + 1 :] -= error[:, :, None] * factor[:, None, k, k + 1 :]
        current[:, :, k] = grid
    found = np.empty_like(current)
    np.put_along_axis(found, np.broadcast_to(order[:, None, :], found.shape), current, 2)
    return found[:, :, :count], found[:, :, count]

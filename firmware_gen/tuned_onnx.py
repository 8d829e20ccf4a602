"""The model file with what the board has learned: weights, and in QDQ files scales that have moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.files import write_bytes
from firmware_gen.graph import Graph, Op, Quantization, Range
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.weights import Weights, from_source, to_source

if TYPE_CHECKING:
    import onnx

MOVING_LAYERS = ("conv2d_i8_f32", "learning_conv2d", "moving_conv2d")
BORDERS = ("QuantizeLinear", "DequantizeLinear")
ZERO_POINTS = {"int8": 0, "uint8": 128, "int32": 0}  # of the file's integers where ours have 0


def write_tuned_onnx(
    model: Path,
    graph: Graph,
    weights: Weights,
    out: Path,
    ranges: Mapping[str, NDArray[np.float32]] | None = None,
) -> bool:
    """Write `model` with what learned; tell whether that was possible.

    It is not where a weight was folded with a batch normalization: then no array of the file is that weight.
    Nor where int8 weights of the file have learned as floats, or in a file of another format.

    Args:
        weights: by name, in the file's order; int8 where they learned in int8.
        ranges: ``range.NAME`` for each of `graph.ranges`: lowest and highest value after the training.
    """
    import onnx

    if model.suffix != ".onnx":
        return False
    file = _File(onnx.load(model))
    if not (
        _write_layers(file, graph, weights, ranges or {})
        and _write_scales(file, graph, weights, ranges or {})
    ):
        return False
    write_bytes(out, file.bytes())
    return True


class _File:
    """An ONNX file in which arrays are replaced."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._proto = proto
        self.nodes = proto.graph.node
        self._arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._makers = {name: node for node in self.nodes for name in node.output}

    def holds(self, name: str) -> bool:
        """Tell whether `name` is an array of the file."""
        return name in self._arrays

    def value(self, name: str) -> NDArray[Any]:
        """Return an array of the file."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._arrays[name]))

    def write(self, name: str, value: NDArray[Any]) -> None:
        """Replace or add an array."""
        from onnx import numpy_helper

        if name not in self._arrays:
            self._arrays[name] = self._proto.graph.initializer.add()
        self._arrays[name].CopyFrom(numpy_helper.from_array(value, name))

    def dequantize_of(self, name: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that makes `name`, None if something else does."""
        node = self._makers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def array_behind(self, name: str) -> str:
        """Return the array that a layer reads as `name`, through what quantizes and dequantizes it."""
        while name not in self._arrays and name in self._makers:
            node = self._makers[name]
            if node.op_type not in BORDERS:
                break
            name = node.input[0]
        return name

    def reader(self, array: str) -> onnx.NodeProto | None:
        """Return the layer that reads an array, perhaps dequantized, as its weight."""
        layers = ("Conv", "ConvTranspose", "Gemm")
        found = (
            node
            for node in self.nodes
            if node.op_type in layers and self.array_behind(node.input[1]) == array
        )
        return next(found, None)

    def replace_input(self, nodes: Sequence[onnx.NodeProto], position: int, value: NDArray[Any]) -> None:
        """Let `nodes` read `value` there; other readers of the array keep the old one."""
        name = nodes[0].input[position]
        readers = [node.output[0] for node in self.nodes if name in node.input]
        if set(readers) - {node.output[0] for node in nodes}:
            name = f"{name}.{nodes[0].output[0]}"
        for node in nodes:
            node.input[position] = name
        self.write(name, value)

    def leave_real(self, name: str) -> bool:
        """Remove the QuantizeLinear and DequantizeLinear that make `name`; tell whether there were such."""
        back = self.dequantize_of(name)
        there = None if back is None else self._makers.get(back.input[0])
        if back is None or there is None or there.op_type != "QuantizeLinear":
            return False
        real = there.input[0]
        maker = self._makers[real]
        maker.output[list(maker.output).index(real)] = name
        for node in self.nodes:
            for position, read in enumerate(node.input):
                if read == real:
                    node.input[position] = name
        self.nodes.remove(there)
        self.nodes.remove(back)
        self._makers[name] = maker
        return True

    def bytes(self) -> bytes:
        """Return the file, without arrays that nothing reads any more."""
        graph = self._proto.graph
        read = {name for node in self.nodes for name in node.input} | {y.name for y in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return bytes(self._proto.SerializeToString(deterministic=True))


def _write_layers(file: _File, graph: Graph, weights: Weights, ranges: Mapping[str, Any]) -> bool:
    """Write weights and biases; those of int8 layers with the scales that they now have."""
    moving = [op for op in graph.ops if op.kind in MOVING_LAYERS and op.phase == "forward"]
    for op in moving:
        if not _write_moving(file, op, graph, weights, ranges):
            return False
        # What the board makes as floats at once would only be rounded and cut off on its old scale.
        if op.kind == "conv2d_i8_f32" and not file.leave_real(graph.tensors[op.outputs[0]].source):
            return False
    done = {name for op in moving for name in op.constants}
    for name, value in weights.items():
        if name in done:
            continue
        if graph.constants[name].source_axes is None or not file.holds(name):
            return False
        kind = file.value(name).dtype
        if kind.kind != "f":
            return False
        file.write(name, value.astype(kind))
    return True


def _write_moving(file: _File, op: Op, graph: Graph, weights: Weights, ranges: Mapping[str, Any]) -> bool:
    name, *bias = op.constants
    constant = graph.constants[name]
    reader = file.reader(name)
    if constant.source_axes is None or reader is None:
        return False
    if name in weights:
        file.write(name, _integers_or_reals(op, graph, weights[name], file.value(name).dtype))
    if not bias:
        return True
    real = np.asarray(weights.get(bias[0], graph.constants[bias[0]].value), np.float32).ravel()
    if len(reader.input) < 3:
        if bias[0] in weights:
            reader.input.append(f"{reader.output[0]}.bias")
            file.write(reader.input[2], real)
        return True
    dequantize = file.dequantize_of(reader.input[2])
    if dequantize is None:
        if bias[0] in weights:
            file.replace_input([reader], 2, real)
        return True
    if file.value(dequantize.input[0]).dtype != np.int32:
        return False
    x = graph.tensors[op.inputs[0]]
    known = _grid(graph.ranges[x.range], ranges[f"range.{x.range}"]) if x.range else x.quantization
    assert known is not None
    scales = np.float32(known.scale) * np.resize(np.array(constant.scales, np.float32), real.size)
    shape = file.value(dequantize.input[1]).shape
    if np.prod(shape) == 1:
        if len(set(scales.tolist())) > 1:
            return False
        scales = scales[:1].reshape(shape)
    limit = (1 << 31) - 1
    steps = np.clip(np.rint(real.astype(np.float64) / scales), -limit, limit)
    file.replace_input([dequantize], 0, steps.astype(np.int32))
    file.replace_input([dequantize], 1, scales)
    return True


def _integers_or_reals(op: Op, graph: Graph, value: NDArray[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """Return int8 weights in the file's order as the type that stands there."""
    if kind.kind != "f":
        return (value.astype(np.int32) + ZERO_POINTS[kind.name]).astype(kind)
    assert isinstance(op.attrs, ConvAttrs)
    constant = graph.constants[op.constants[0]]
    shaped = dataclasses.replace(constant, value=from_source(constant, value))
    return to_source(constant, real_weight(shaped, op.attrs).astype(kind))


def _write_scales(file: _File, graph: Graph, weights: Weights, ranges: Mapping[str, Any]) -> bool:
    """Write scales and zero points of the tensors whose range has moved."""
    grids = {
        tensor.source: _grid(graph.ranges[tensor.range], ranges[f"range.{tensor.range}"])
        for tensor in graph.tensors.values()
        if tensor.range and tensor.source
    }
    above = _above(file, set(weights))
    borders: dict[str, list[onnx.NodeProto]] = {}
    for node in file.nodes:
        if node.op_type in BORDERS:
            integers = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
            borders.setdefault(integers, []).append(node)
    for name, nodes in borders.items():
        if name in grids:
            zero_point = nodes[0].input[2] if len(nodes[0].input) > 2 else ""
            if not file.holds(zero_point):
                return False
            kind = file.value(zero_point).dtype
            file.replace_input(nodes, 1, np.array(grids[name].scale, np.float32))
            file.replace_input(nodes, 2, np.array(grids[name].zero_point + ZERO_POINTS[kind.name], kind))
        elif graph.ranges and name in above:
            return False  # the graph has no such tensor any more, so nothing tells its scale
    return True


def _above(file: _File, learned: set[str]) -> set[str]:
    """Return the values that depend on layers that read these arrays."""
    above: set[str] = set()
    for node in file.nodes:
        if node.op_type in BORDERS and file.holds(file.array_behind(node.input[0])):
            continue
        if any(name in above or file.array_behind(name) in learned for name in node.input):
            above.update(node.output)
    return above


def _grid(rule: Range, ends: NDArray[np.float32]) -> Quantization:
    """Return the grid on which the board stores what lies between these ends: ft_range_begin."""
    low, high = ends.ravel().astype(np.float32) * np.float32(rule.headroom)
    scale = np.maximum((high - low) / np.float32(255), np.float32(1e-30))
    zero = np.float32(-128) - low / scale
    zero = np.clip(np.trunc(zero + np.copysign(np.float32(0.5), zero)), -128, 127)
    return Quantization(float(scale), int(zero))

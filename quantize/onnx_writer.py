"""Writes a graph as ONNX: float, or with QuantizeLinear and DequantizeLinear around what is int8.

In a quantized file every int8 layer reads DequantizeLinear nodes only and is followed by one QuantizeLinear,
behind its activation. Weights are int8, biases int32 with the scale input * weight, as in TFLite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.pool import PoolAttrs
from firmware_gen.operators.resize import ResizeAttrs
from firmware_gen.window import LINEAR, Activation, Window
from quantize.parameters import QuantizedGraph, integers, limits
from zoo.task import METADATA_KEY, Task, format_task

OPSET = 17
IR_VERSION = 8


def float_model(graph: Graph, task: Task | None = None, *, all_tensors: bool = False) -> bytes:
    """Return `graph` as a float ONNX model.

    Args:
        graph: simplified, in float; weights may have any values.
        task: what the file carries as its task.
        all_tensors: make every tensor an output.

    Raises:
        ModelError: an operator cannot be written.
    """
    outputs = dict.fromkeys((*graph.outputs, *(op.outputs[0] for op in graph.ops if all_tensors)))
    return quantized_model(QuantizedGraph(replace(graph, outputs=tuple(outputs)), {}, {}), task)


def layer_model(graph: Graph, op: Op) -> bytes:
    """Return one operator of `graph` as a float ONNX model."""
    return float_model(graph.with_ops((op,), inputs=tuple(dict.fromkeys(op.inputs)), outputs=op.outputs))


def quantized_model(quantized: QuantizedGraph, task: Task | None = None) -> bytes:
    """Return the ONNX model that computes in int8 what `quantized` says, and the rest in float.

    Raises:
        ModelError: an operator cannot be written.
    """
    model = _Writer(quantized).model()
    if task is not None:
        helper.set_model_props(model, {METADATA_KEY: format_task(task)})
    found: bytes = model.SerializeToString(deterministic=True)
    return found


class _Writer:
    def __init__(self, quantized: QuantizedGraph) -> None:
        self._quantized = quantized
        self._graph = quantized.graph
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        graph = self._graph
        for name in graph.inputs:
            self._quantize(name, name)
        for op in graph.ops:
            self._layer(op)
        proto = helper.make_graph(
            self._nodes,
            graph.name,
            [_info(name, _dims(graph, name)) for name in graph.inputs],
            [_info(name, _dims(graph, name, vector=True)) for name in graph.outputs],
            list(self._initializers.values()),
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(proto, opset_imports=[opset], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model

    def _node(self, kind: str, name: str, inputs: list[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def _value(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self._initializers.setdefault(name, numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def _read(self, tensor: str) -> str:
        """Return the name under which layers read `tensor`."""
        is_output = tensor in self._graph.outputs
        quantized = tensor in self._quantized.activations
        if tensor in self._graph.inputs:
            return f"{tensor}.dequantized" if quantized else tensor
        return f"{tensor}.map" if is_output and self._is_vector(tensor) else tensor

    def _is_vector(self, tensor: str) -> bool:
        return self._graph.shape(tensor)[:2] == (1, 1)

    def _quantize(self, tensor: str, value: str) -> None:
        """Add the nodes that lead from the computed `value` to what layers read as `tensor`."""
        affine = self._quantized.activations.get(tensor)
        if affine is None:
            return
        scale = self._value(f"{tensor}.scale", np.float32(affine.scale))
        zero = self._value(f"{tensor}.zero_point", np.int8(affine.zero_point))
        q = self._node("QuantizeLinear", f"{tensor}.quantize", [value, scale, zero], f"{tensor}.int8")
        self._node("DequantizeLinear", f"{tensor}.dequantize", [q, scale, zero], self._read(tensor))

    def _layer(self, op: Op) -> None:
        if op.kind not in _WRITERS:
            raise ModelError(f"{op.name} of {self._graph.name} is a {op.kind}, which cannot be quantized")
        tensor = op.outputs[0]
        if self._saturates(op):
            self._quantize(tensor, self._read(op.inputs[0]))
            return
        quantized = tensor in self._quantized.activations
        computed = f"{tensor}.real" if quantized else self._read(tensor)
        _WRITERS[op.kind](self, op, [self._read(x) for x in op.inputs], computed)
        self._quantize(tensor, computed)
        if tensor in self._graph.outputs and self._is_vector(tensor):
            self._node("Flatten", f"{tensor}.flatten", [self._read(tensor)], tensor)

    def _saturates(self, op: Op) -> bool:
        """Tell whether an activation of real values does nothing that QuantizeLinear behind it does not."""
        stored = self._quantized.activations.get(op.outputs[0])
        if stored is None or op.kind != "activation" or op.inputs[0] in self._quantized.activations:
            return False
        assert isinstance(op.attrs, Activation)
        bounds = {"relu": (0.0, np.inf), "clip": (op.attrs.a, op.attrs.b)}.get(op.attrs.kind)
        low, high = limits(stored)
        half = stored.scale / 2
        return bounds is not None and low + half > bounds[0] and high - half < bounds[1]

    def conv(self, op: Op, inputs: list[str], output: str) -> None:
        attrs = op.attrs
        assert isinstance(attrs, ConvAttrs)
        operands = [*inputs, self._weight(op, attrs), *self._bias(op)]
        kind = "ConvTranspose" if attrs.transposed else "Conv"
        extra = {}
        if attrs.transposed:
            height, width, _ = self._graph.shape(op.inputs[0])
            plain = attrs.window.transposed_output(height, width)
            out = self._graph.shape(op.outputs[0])
            if plain != out[:2]:
                extra["output_padding"] = [out[0] - plain[0], out[1] - plain[1]]
        linear = output if attrs.activation == LINEAR else f"{op.name}.linear"
        self._node(kind, op.name, operands, linear, group=attrs.groups, **_window(attrs.window), **extra)
        if attrs.activation != LINEAR:
            self._activate(attrs.activation, f"{op.name}.activation", linear, output)

    def _weight(self, op: Op, attrs: ConvAttrs) -> str:
        name = op.constants[0]
        value = self._graph.constants[name].value
        axes, axis = ((2, 3, 0, 1), 1) if attrs.transposed else ((3, 2, 0, 1), 0)
        scales = self._quantized.weights.get(name)
        if scales is None:
            return self._value(name, value.transpose(axes))
        return self._dequantized(name, integers(value, scales).transpose(axes), scales, axis)

    def _bias(self, op: Op) -> list[str]:
        if len(op.constants) < 2:
            return []
        weight, name = op.constants
        value = self._graph.constants[name].value
        read = self._quantized.activations.get(op.inputs[0])
        if weight not in self._quantized.weights or read is None:
            return [self._value(name, value)]
        if sum(name in other.constants for other in self._graph.ops) > 1:
            name = f"{op.name}.{name}"  # the layers that share it need not share a scale
        scales = np.resize(self._quantized.weights[weight], value.size)
        scales = scales * np.float32(read.scale)
        limits = np.iinfo(np.int32)
        q = np.clip(np.rint(value.astype(np.float64) / scales), limits.min, limits.max).astype(np.int32)
        return [self._dequantized(name, q, scales, 0)]

    def _dequantized(self, name: str, q: NDArray[Any], scales: NDArray[np.float32], axis: int) -> str:
        """Add the constant `name` as integers; return the name of its dequantized values."""
        real = f"{name}.dequantized"
        if name not in self._initializers:
            parts = [
                self._value(name, q),
                self._value(f"{name}.scale", scales),
                self._value(f"{name}.zero_point", np.zeros(scales.size, q.dtype)),
            ]
            self._node("DequantizeLinear", f"{name}.dequantize", parts, real, axis=axis)
        return real

    def activation(self, op: Op, inputs: list[str], output: str) -> None:
        assert isinstance(op.attrs, Activation)
        self._activate(op.attrs, op.name, inputs[0], output)

    def _activate(self, activation: Activation, name: str, x: str, y: str) -> None:
        if activation.kind == "leaky_relu":
            self._node("LeakyRelu", name, [x], y, alpha=activation.a)
        elif activation.kind == "clip":
            low = self._value(f"{name}.min", np.float32(activation.a))
            high = self._value(f"{name}.max", np.float32(activation.b))
            self._node("Clip", name, [x, low, high], y)
        else:
            self._node({"relu": "Relu", "sigmoid": "Sigmoid"}[activation.kind], name, [x], y)

    def pool(self, op: Op, inputs: list[str], output: str) -> None:
        attrs = op.attrs
        assert isinstance(attrs, PoolAttrs)
        height, width, _ = self._graph.shape(op.inputs[0])
        out = self._graph.shape(op.outputs[0])[:2]
        attributes = {**_window(attrs.window), "ceil_mode": int(attrs.window.output(height, width) != out)}
        if op.kind == "max_pool":
            self._node("MaxPool", op.name, inputs, output, **attributes)
            return
        if attrs.window.dilation != (1, 1):
            raise ModelError(
                f"{op.name} of {self._graph.name} is a dilated average, which cannot be quantized"
            )
        del attributes["dilations"]  # since opset 19
        padding = int(attrs.count_padding)
        self._node("AveragePool", op.name, inputs, output, count_include_pad=padding, **attributes)

    def resize(self, op: Op, inputs: list[str], output: str) -> None:
        attrs = op.attrs
        assert isinstance(attrs, ResizeAttrs)
        small, large = self._graph.shape(op.inputs[0]), self._graph.shape(op.outputs[0])
        if attrs.scale == (large[0] / small[0], large[1] / small[1]):
            sizes = np.array([1, large[2], large[0], large[1]], np.int64)
            inputs = [*inputs, "", "", self._value(f"{op.name}.sizes", sizes)]
        else:
            scales = np.array([1, 1, *attrs.scale], np.float32)
            inputs = [*inputs, "", self._value(f"{op.name}.scales", scales)]
        attributes = {"nearest_mode": attrs.rounding} if attrs.mode == "nearest" else {}
        mode = {"mode": attrs.mode, "coordinate_transformation_mode": attrs.coordinates, **attributes}
        self._node("Resize", op.name, inputs, output, **mode)

    def reshape(self, op: Op, inputs: list[str], output: str) -> None:
        dims = np.array(_dims(self._graph, op.outputs[0]), np.int64)
        self._node("Reshape", op.name, [*inputs, self._value(f"{op.name}.shape", dims)], output)

    def add(self, op: Op, inputs: list[str], output: str) -> None:
        self._node("Add", op.name, inputs, output)

    def concat(self, op: Op, inputs: list[str], output: str) -> None:
        self._node("Concat", op.name, inputs, output, axis=1)

    def softmax(self, op: Op, inputs: list[str], output: str) -> None:
        self._node("Softmax", op.name, inputs, output, axis=1)


_WRITERS: dict[str, Callable[[_Writer, Op, list[str], str], None]] = {
    "activation": _Writer.activation,
    "add": _Writer.add,
    "average_pool": _Writer.pool,
    "channels_first": _Writer.reshape,
    "concat": _Writer.concat,
    "conv2d": _Writer.conv,
    "from_channels_first": _Writer.reshape,
    "max_pool": _Writer.pool,
    "resize": _Writer.resize,
    "softmax": _Writer.softmax,
}


def _window(window: Window) -> dict[str, object]:
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": (*window.pad, *window.pad_end),
        "dilations": window.dilation,
    }


def _dims(graph: Graph, tensor: str, *, vector: bool = False) -> tuple[int, ...]:
    """Return a tensor's ONNX dimensions; `vector`: (1, c) instead of (1, c, 1, 1)."""
    height, width, channels = graph.shape(tensor)
    return (1, channels) if vector and (height, width) == (1, 1) else (1, channels, height, width)


def _info(name: str, dims: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)

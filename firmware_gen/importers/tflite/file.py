"""Reads TFLite files: checks, tensors, constants. What the operators mean is in the files beside this one.

A file may come from anywhere. A flatbuffer is offsets into itself, so that any number in it can be wrong:
lengths are bounded before they are believed, only what operators use is read, and whatever the reader of the
format stumbles over becomes one sentence.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, check
from firmware_gen.importers.builder import Builder
from firmware_gen.importers.tflite import convolution, elementwise, layout, pooling
from firmware_gen.importers.tflite.dilation import dilated
from firmware_gen.importers.tflite.fold import FOLDERS
from firmware_gen.importers.tflite.names import layer_name, network_name
from firmware_gen.importers.tflite.node import Node, TfliteTensor

CONVERTERS: dict[str, Callable[[Node, Builder], None]] = {
    kind: convert
    for family in (convolution, elementwise, layout, pooling)
    for kind, convert in family.CONVERTERS.items()
}

# Beyond these a file is broken or no network for a microcontroller.
MAX_FILE_BYTES = 1 << 28
MAX_CONSTANT_BYTES = 1 << 27  # of all tensors; several may share a buffer
MAX_OPERATORS = 1000
MAX_TENSORS = 20_000
MAX_AXES = 8
MAX_NAME_BYTES = 4096

DTYPES = {
    "FLOAT32": ("f32", "<f4"),
    "FLOAT16": ("f16", "<f2"),
    "INT8": ("i8", "i1"),
    "UINT8": ("u8", "u1"),
    "INT16": ("i16", "<i2"),
    "INT32": ("i32", "<i4"),
    "INT64": ("i64", "<i8"),
    "BOOL": ("bool", "?"),
}
CONTROL_FLOW = ("IF", "WHILE", "CALL", "CALL_ONCE", "STABLEHLO_CASE", "STABLEHLO_WHILE")
# These take and give pixels of type uint8 at the edge of an int8 network.
EDGES = ("QUANTIZE", "DEQUANTIZE", "CAST")
# What reading a wrong offset or converting wrong numbers can raise.
_BROKEN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error)


def import_tflite(path: Path) -> Graph:
    """Return the network in a TFLite file, float32 or int8, as a graph of rows, columns, channels.

    Raises:
        ModelError: no such file, not TFLite, dynamic shapes, batch above 1, or something not supported.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; no microcontroller runs a network of that size")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    return read_tflite(data, path)


def read_tflite(data: bytes, path: Path) -> Graph:
    """Return the network in the bytes of a TFLite file; `path` is what messages call it.

    Raises:
        ModelError: as `import_tflite`.
    """
    try:
        return _File(data, path).graph()
    except _BROKEN as error:
        raise ModelError(
            f"{path} cannot be read as a TFLite model; is it complete? ({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _File:
    """One file while it is read."""

    def __init__(self, data: bytes, path: Path) -> None:
        import tflite

        self._path = path
        self._size = len(data)
        if not tflite.Model.ModelBufferHasIdentifier(data, 0):
            raise ModelError(f"{path} is no TFLite model: it does not begin like one")
        self._model = tflite.Model.GetRootAs(data, 0)
        if not self._model.SubgraphsLength():
            raise ModelError(f"{path} is a TFLite model without a graph")
        self._graph = self._model.Subgraphs(0)
        for what, count, limit in (
            ("tensors", self._graph.TensorsLength(), MAX_TENSORS),
            ("operators", self._graph.OperatorsLength(), MAX_OPERATORS),
        ):
            if count > limit:
                raise ModelError(f"{path} has {count:,} {what}; at most {limit:,} can be handled")
        self._type_names = _names(tflite.TensorType)
        self._option_names = _names(tflite.BuiltinOptions)
        self._code_names: dict[int, str] = tflite.BUILTIN_OPCODE2NAME
        self._options_of = tflite
        self._tensors: dict[int, TfliteTensor] = {}
        self._names: set[str] = set()
        self._constant_bytes = 0
        self._known: set[int] = set()  # activations that have been written
        self._layers: set[str] = set()

    def graph(self) -> Graph:
        graph = self._graph
        builder = Builder(self._path.stem)
        inputs = self._indices(graph.InputsLength(), graph.Inputs)
        outputs = self._indices(graph.OutputsLength(), graph.Outputs)
        if not (inputs and outputs and graph.OperatorsLength()):
            raise ModelError(f"{self._path} is a TFLite model without operators, inputs or outputs")
        for index in inputs:
            self._expect_fixed(index)
            self._add_input(builder, self._tensor(index))
        for index in outputs:
            self._tensor(index)  # takes its name before any other tensor does
        network = network_name(self._output_name(k) for k in range(graph.OperatorsLength()))
        count = graph.OperatorsLength()
        nodes = [self._node(position, network) for position in range(count)]
        joined = dilated(nodes, outputs)
        for position in range(count):
            node = joined.get(position, nodes[position])
            if node is not None:
                self._add_operator(builder, self._current(node))
        for index in outputs:
            builder.add_output(self._tensor(index).name)
        return check(builder.graph())

    def _add_input(self, builder: Builder, tensor: TfliteTensor) -> None:
        if tensor.value is not None:
            raise ModelError(f"the input '{tensor.name}' of {self._path} is a constant")
        if tensor.index in self._known:
            raise ModelError(f"the input '{tensor.name}' of {self._path} is listed twice")
        if tensor.rank >= 2 and tensor.dims[0] != 1:
            raise ModelError(
                f"input '{tensor.name}' of {self._path} has shape {tensor.dims}; export it with batch size 1"
            )
        self._known.add(tensor.index)
        builder.add_input(tensor.described(), tensor.rank)

    def _add_operator(self, builder: Builder, node: Node) -> None:
        for tensor in node.inputs:
            if tensor is not None and tensor.value is None and tensor.index not in self._known:
                raise node.error(f"its input '{tensor.name}' is computed later, or never")
        for tensor in node.outputs:
            if tensor.index in self._known or tensor.value is not None:
                raise node.error(f"its output '{tensor.name}' has a value already")
        constant = all(tensor is None or tensor.value is not None for tensor in node.inputs)
        if node.kind in FOLDERS and (constant or node.kind == "SHAPE"):
            self._fold(node)
            return
        if node.kind not in CONVERTERS:
            raise ModelError(self._unsupported(node))
        node = dataclasses.replace(node, name=self._unique_layer(node.name))
        self._check_types(node)
        try:
            CONVERTERS[node.kind](node, builder)
        except _BROKEN as error:
            raise ModelError(
                f"the layer '{node.name}' ({node.kind}) of {self._path} is malformed: {_first_line(error)}"
            ) from error
        self._known.update(tensor.index for tensor in node.outputs)

    def _fold(self, node: Node) -> None:
        """Make the output of an operator that computes shapes, or unpacks weights, a constant."""
        (output,) = node.outputs
        value = FOLDERS[node.kind](node)
        self._constant_bytes += value.nbytes
        self._check_constants()
        self._tensors[output.index] = dataclasses.replace(output, dims=value.shape, value=value)

    def _check_types(self, node: Node) -> None:
        for tensor in (*node.inputs, *node.outputs):
            if tensor is None:
                continue
            if tensor.dtype == "i16" and tensor.scales.size:
                raise node.error(f"'{tensor.name}' is of type int16; quantize the network to int8")
            if tensor.dtype == "u8" and tensor.scales.size and node.kind not in EDGES:
                raise node.error(
                    f"'{tensor.name}' is quantized to uint8, the scheme before TensorFlow 2; "
                    "convert the network with int8 quantization"
                )

    def _unsupported(self, node: Node) -> str:
        hint = "control flow cannot be compiled ahead; " if node.kind in CONTROL_FLOW else ""
        return (
            f"{self._path} uses the operator {node.kind} (layer '{node.name}'), which is not supported; "
            f"{hint}supported are {', '.join(sorted(CONVERTERS))}"
        )

    # Operators

    def _node(self, position: int, network: str) -> Node:
        operator = self._graph.Operators(position)
        kind = self._kind(operator.OpcodeIndex())
        inputs = tuple(
            None if index < 0 else self._tensor(index)
            for index in self._indices(operator.InputsLength(), operator.Inputs, optional=True)
        )
        outputs = tuple(
            self._tensor(index) for index in self._indices(operator.OutputsLength(), operator.Outputs)
        )
        if not outputs:
            raise ModelError(f"operator {position} ({kind}) of {self._path} has no output")
        weight = next((t.name for t in inputs if t is not None and t.value is not None and t.rank > 1), "")
        name = layer_name(kind, outputs[0].name, weight, network)
        return Node(kind, name, inputs, outputs, self._options(operator))

    def _current(self, node: Node) -> Node:
        """Return `node` with the values that folding has found since it was read."""
        inputs = (None if tensor is None else self._tensor(tensor.index) for tensor in node.inputs)
        return dataclasses.replace(node, inputs=tuple(inputs))

    def _unique_layer(self, layer: str) -> str:
        name, count = layer, 1
        while name in self._layers:
            count += 1
            name = f"{layer}.{count}"
        self._layers.add(name)
        return name

    def _kind(self, index: int) -> str:
        if index >= self._model.OperatorCodesLength():
            raise ModelError(f"{self._path} uses an operator that its table of operators does not have")
        code = self._model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number not in self._code_names:
            raise ModelError(
                f"{self._path} uses operator number {number}, which the TFLite schema does not have"
            )
        name = self._code_names[number]
        if name == "CUSTOM":
            custom = _text(code.CustomCode())
            raise ModelError(
                f"{self._path} uses the custom operator '{custom}'; only TFLite's own can be compiled"
            )
        return name

    def _options(self, operator: Any) -> Any:
        """Return the options in their own table; None when there are none."""
        table = operator.BuiltinOptions()
        name = self._option_names.get(operator.BuiltinOptionsType(), "NONE")
        if table is None or name == "NONE":
            return None
        options = getattr(self._options_of, name)()
        options.Init(table.Bytes, table.Pos)
        return options

    def _output_name(self, position: int) -> str:
        operator = self._graph.Operators(position)
        return self._tensor(operator.Outputs(0)).name if operator.OutputsLength() else ""

    # Tensors

    def _indices(self, count: int, element: Callable[[int], int], optional: bool = False) -> tuple[int, ...]:
        """Return a vector of numbers of tensors."""
        tensors = self._graph.TensorsLength()
        if count > tensors:
            raise ModelError(
                f"{self._path} lists {count:,} of its {tensors:,} tensors at once; it is damaged"
            )
        indices = tuple(int(element(k)) for k in range(count))
        if any(not (-1 if optional else 0) <= index < tensors for index in indices):
            raise ModelError(f"{self._path} refers to a tensor that it does not have; it is damaged")
        return indices

    def _tensor(self, index: int) -> TfliteTensor:
        if index not in self._tensors:
            self._tensors[index] = self._read_tensor(index)
        return self._tensors[index]

    def _read_tensor(self, index: int) -> TfliteTensor:
        tensor = self._graph.Tensors(index)
        name = self._unique_name(tensor, index)
        type_name = self._type_names.get(tensor.Type(), str(tensor.Type()))
        dims = self._dims(tensor, name)
        if tensor.Sparsity() is not None:
            raise ModelError(
                f"the tensor '{name}' of {self._path} is sparse; convert the network without sparsity"
            )
        if tensor.IsVariable():
            raise ModelError(
                f"the tensor '{name}' of {self._path} keeps its value between runs; firmware has no state"
            )
        value = self._constant(tensor, name, dims, type_name)
        scales, zero_points, axis = self._quantization(tensor, name, dims, type_name)
        dtype = DTYPES[type_name][0] if type_name in DTYPES else type_name.lower()
        return TfliteTensor(index, name, dims, dtype, scales, zero_points, axis, value)

    def _unique_name(self, tensor: Any, index: int) -> str:
        raw = tensor.Name() or b""
        if len(raw) > MAX_NAME_BYTES:
            raise ModelError(
                f"tensor {index} of {self._path} has a name of {len(raw):,} bytes; it is damaged"
            )
        name = _text(raw) or f"tensor{index}"
        while name in self._names:
            name = f"{name}.{index}"
        self._names.add(name)
        return name

    def _dims(self, tensor: Any, name: str) -> tuple[int, ...]:
        axes = tensor.ShapeLength()
        if axes > MAX_AXES:
            raise ModelError(f"the tensor '{name}' of {self._path} has {axes:,} axes")
        dims = tuple(int(tensor.Shape(k)) for k in range(axes))
        if any(size < 0 for size in dims):
            raise ModelError(f"the tensor '{name}' of {self._path} has the impossible shape {dims}")
        return dims

    def _expect_fixed(self, index: int) -> None:
        """Refuse an input with a free axis besides the batch. What follows from fixed inputs is fixed."""
        tensor = self._graph.Tensors(index)
        signature = min(tensor.ShapeSignatureLength(), MAX_AXES)
        free = [k for k in range(1, signature) if tensor.ShapeSignature(k) < 0]
        if free:
            raise ModelError(
                f"axis {free[0]} of '{self._tensor(index).name}' of {self._path} is dynamic; "
                "convert the network with fixed sizes"
            )

    def _constant(self, tensor: Any, name: str, dims: tuple[int, ...], type_name: str) -> NDArray[Any] | None:
        index = tensor.Buffer()
        if index >= self._model.BuffersLength():
            raise ModelError(f"the tensor '{name}' of {self._path} refers to a buffer that is missing")
        buffer = self._model.Buffers(index)
        if buffer is not None and (buffer.Offset() > 1 or buffer.Size() > 1):
            raise ModelError(
                f"the weights of '{name}' of {self._path} lie behind the model (a file above 2 GB); "
                "no microcontroller runs a network of that size"
            )
        if buffer is None or not buffer.DataLength():
            return None
        if type_name not in DTYPES:
            raise ModelError(
                f"the constant '{name}' of {self._path} is of type {type_name.lower()}, which no layer reads"
            )
        dtype = np.dtype(DTYPES[type_name][1])
        raw = buffer.DataAsNumpy()
        expected = dtype.itemsize
        for size in dims:
            expected *= size
        if raw.nbytes != expected:
            raise ModelError(
                f"the constant '{name}' of {self._path} has {raw.nbytes:,} bytes, but its shape {dims} needs "
                f"{expected:,}; the file is damaged"
            )
        self._constant_bytes += raw.nbytes
        self._check_constants()
        return np.frombuffer(raw.tobytes(), dtype).reshape(dims)

    def _check_constants(self) -> None:
        if self._constant_bytes > MAX_CONSTANT_BYTES:
            raise ModelError(
                f"{self._path} has constants of more than {MAX_CONSTANT_BYTES:,} bytes; "
                "no microcontroller runs a network of that size"
            )

    def _quantization(
        self, tensor: Any, name: str, dims: tuple[int, ...], type_name: str
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], int]:
        """Return scales, zero points (as many) and the axis that they belong to."""
        none = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        table = tensor.Quantization()
        count = 0 if table is None else table.ScaleLength()
        if table is None or not count:
            return none
        axis = table.QuantizedDimension()
        if count > 1 and (not 0 <= axis < len(dims) or dims[axis] != count):
            raise ModelError(f"the tensor '{name}' of {self._path} has {count:,} scales for the shape {dims}")
        scales = np.array(table.ScaleAsNumpy(), np.float32)
        given = table.ZeroPointLength()
        if given not in (0, 1, count):
            raise ModelError(
                f"the tensor '{name}' of {self._path} has {count:,} scales but {given:,} zero points"
            )
        zero_points = np.array(table.ZeroPointAsNumpy(), np.int64) if given else np.zeros(1, np.int64)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ModelError(f"a scale of the tensor '{name}' of {self._path} is no positive number")
        if DTYPES.get(type_name, ("",))[0] in ("i8", "u8", "i16", "i32"):
            limits = np.iinfo(DTYPES[type_name][1])
            if zero_points.min() < limits.min or zero_points.max() > limits.max:
                raise ModelError(
                    f"a zero point of the tensor '{name}' of {self._path} is outside of its type"
                )
        return scales, np.broadcast_to(zero_points, scales.shape).copy(), int(axis)


def _names(enumeration: type) -> dict[int, str]:
    """Return the names of a schema's enumeration by number."""
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


def _text(raw: bytes | None) -> str:
    """Return a name as text that can be printed."""
    text = (raw or b"").decode(errors="replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)

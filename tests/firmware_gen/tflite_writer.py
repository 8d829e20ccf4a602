"""Writes small TFLite files, and asks LiteRT's reference kernels what they compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

Array = np.ndarray[Any, np.dtype[Any]]

TYPES = {
    "f32": (schema.TensorType.FLOAT32, "<f4"),
    "f16": (schema.TensorType.FLOAT16, "<f2"),
    "i8": (schema.TensorType.INT8, "i1"),
    "u8": (schema.TensorType.UINT8, "u1"),
    "i16": (schema.TensorType.INT16, "<i2"),
    "i32": (schema.TensorType.INT32, "<i4"),
    "i64": (schema.TensorType.INT64, "<i8"),
    "bool": (schema.TensorType.BOOL, "?"),
}


@dataclass(frozen=True)
class Value:
    """A tensor of the file: an activation, or a constant when it has `data` (then `shape` is left out).

    `scale` and `zero_point`: one number, or one for each position along `axis`; None: not quantized.
    `signature`: the shape with -1 where it may change.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "i8"
    scale: float | Sequence[float] | Array | None = None
    zero_point: int | Sequence[int] | Array = 0
    axis: int = 0
    data: Array | None = None
    signature: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Operation:
    """An operator: names of tensors (None: left out), the schema's options table and its fields.

    Operation("CONV_2D", ["x", "w", "b"], ["y"], "Conv2DOptions", {"strideH": 1, "strideW": 1})
    """

    code: str
    inputs: Sequence[str | None]
    outputs: Sequence[str]
    options: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


def tflite_bytes(
    values: Sequence[Value], operations: Sequence[Operation], inputs: Sequence[str], outputs: Sequence[str]
) -> bytes:
    """Return a .tflite file."""
    index = {value.name: k for k, value in enumerate(values)}
    index_of = {**index, None: -1}
    codes = sorted({operation.code for operation in operations})
    model = schema.ModelT()
    model.version = 3
    model.description = "written by a test"
    model.operatorCodes = [_code(code) for code in codes]
    model.buffers = [schema.BufferT()]  # buffer 0: no data
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [_tensor(value, model.buffers) for value in values]
    graph.inputs = [index[name] for name in inputs]
    graph.outputs = [index[name] for name in outputs]
    graph.operators = []
    for operation in operations:
        operator = schema.OperatorT()
        operator.opcodeIndex = codes.index(operation.code)
        operator.inputs = [index_of[name] for name in operation.inputs]
        operator.outputs = [index[name] for name in operation.outputs]
        if operation.options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, operation.options)
            operator.builtinOptions = _options(operation)
        graph.operators.append(operator)
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _code(name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = 1
    return code


def _options(operation: Operation) -> Any:
    table = getattr(schema, f"{operation.options}T")()
    for name, value in operation.fields.items():
        assert hasattr(table, name), f"{operation.options} has no field {name}"
        setattr(table, name, value)
    return table


def _tensor(value: Value, buffers: list[Any]) -> Any:
    code, dtype = TYPES[value.dtype]
    tensor = schema.TensorT()
    tensor.name = value.name
    tensor.type = code
    tensor.hasRank = True
    tensor.shape = list(value.shape if value.data is None or value.shape else value.data.shape)
    if value.signature is not None:
        tensor.shapeSignature = list(value.signature)
    if value.data is not None:
        tensor.buffer = len(buffers)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(value.data, dtype).tobytes(), np.uint8)
        buffers.append(buffer)
    if value.scale is not None:
        quantization = schema.QuantizationParametersT()
        quantization.scale = np.atleast_1d(np.asarray(value.scale, np.float32))
        zero_points = np.broadcast_to(np.asarray(value.zero_point, np.int64), quantization.scale.shape)
        quantization.zeroPoint = np.ascontiguousarray(zero_points)
        quantization.quantizedDimension = value.axis
        tensor.quantization = quantization
    return tensor


class Reference:
    """LiteRT's reference kernels on one model."""

    def __init__(self, model: bytes) -> None:
        self._interpreter = Interpreter(
            model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
        )
        self._interpreter.allocate_tensors()
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the outputs; both in the order of the file, in its shapes."""
        for detail, value in zip(self.inputs, inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], np.asarray(value).reshape(detail["shape"]))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(detail["index"]) for detail in self.outputs]

    def draw(self, random: np.random.Generator) -> list[Array]:
        """Return inputs over the whole range of the integers; floats are normally distributed."""

        def one(detail: dict[str, Any]) -> Array:
            dtype = np.dtype(detail["dtype"])
            if dtype.kind == "f":
                return random.standard_normal(detail["shape"]).astype(dtype)
            limits = np.iinfo(dtype)
            return random.integers(limits.min, limits.max, detail["shape"], dtype, endpoint=True)

        return [one(detail) for detail in self.inputs]


def reference(model: bytes, inputs: Sequence[Array]) -> list[Array]:
    """Return what LiteRT's reference kernels compute from one sample."""
    return Reference(model)(inputs)

"""Damage to model files: to their bytes, and to what they say while the format stays whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from google.protobuf.message import DecodeError

from firmware_gen.importers.onnx_operators import CONVERTERS as ONNX_OPERATORS

Random = np.random.Generator
Mutation = Callable[[bytearray, Random], None]

WORDS = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000, 0x3FFFFFFF, 0x7FC00000)  # the last: NaN
NUMBERS = (-(1 << 31), -2, -1, 0, 1, 2, 3, 7, 255, 65535, 65536, (1 << 31) - 1)
REALS = (0.0, -1.0, 1e-45, 1e38, float("nan"), float("inf"))


def damaged(original: Path, random: Random) -> bytes:
    """Return the bytes of the file with one or two faults."""
    data = original.read_bytes()
    if random.random() < 0.5:
        return _lie(original.suffix, data, random)
    mutable = bytearray(data)
    for _ in range(random.integers(1, 3)):
        if len(mutable) > 8:
            MUTATIONS[random.integers(len(MUTATIONS))](mutable, random)
    return bytes(mutable)


def _at(data: bytearray, random: Random) -> int:
    """Return a position: near one of the ends more often than in the middle, where the weights are."""
    distance = min(int(len(data) ** random.uniform(0.2, 1)), len(data) - 1)
    return distance if random.random() < 0.5 else len(data) - 1 - distance


def _flip_bits(data: bytearray, random: Random) -> None:
    for _ in range(random.integers(1, 9)):
        data[_at(data, random)] ^= 1 << int(random.integers(8))


def _overwrite(data: bytearray, random: Random) -> None:
    at, count = _at(data, random), int(random.integers(1, 65))
    fill = random.choice([0, 255, -1])
    data[at : at + count] = random.bytes(count) if fill < 0 else bytes([fill]) * count


def _set_word(data: bytearray, random: Random) -> None:
    at = _at(data, random) & ~3
    data[at : at + 4] = int(random.choice(WORDS)).to_bytes(4, "little")


def _swap_words(data: bytearray, random: Random) -> None:
    a, b = (_at(data, random) & ~3 for _ in range(2))
    data[a : a + 4], data[b : b + 4] = data[b : b + 4], data[a : a + 4]


def _truncate(data: bytearray, random: Random) -> None:
    del data[_at(data, random) :]


def _splice(data: bytearray, random: Random) -> None:
    """Copy a piece elsewhere: over what is there, or in between."""
    source, target, count = _at(data, random), _at(data, random), int(random.integers(1, 257))
    end = target + count * int(random.integers(2))
    data[target:end] = data[source : source + count]


def _cut(data: bytearray, random: Random) -> None:
    at = _at(data, random)
    del data[at : at + int(random.integers(1, 65))]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _flip_bits,
    _set_word,
    _set_word,
    _overwrite,
    _swap_words,
    _truncate,
    _splice,
    _cut,
)


def _lie(suffix: str, data: bytes, random: Random) -> bytes:
    """Return the file with something else in one or two of its fields."""
    try:
        return _lie_onnx(data, random) if suffix == ".onnx" else _lie_tflite(data, random)
    except (DecodeError, TypeError, ValueError):  # the format cannot say this
        return _lie(suffix, data, random)


def _one_of(things: Any, random: Random) -> Any:
    return things[int(random.integers(len(things)))]


def _number(random: Random) -> int:
    return int(random.choice(NUMBERS))


def _lie_onnx(data: bytes, random: Random) -> bytes:
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(random.integers(1, 3)):
        node, tensor = _one_of(graph.node, random), _one_of(graph.initializer, random)
        what = random.integers(8)
        if what == 0:
            node.op_type = str(random.choice(sorted(ONNX_OPERATORS)))
        elif what == 1 and node.attribute:
            attribute = _one_of(node.attribute, random)
            attribute.i, attribute.f = _number(random), float(random.choice(REALS))
            if attribute.ints:
                attribute.ints[int(random.integers(len(attribute.ints)))] = _number(random)
        elif what == 2 and tensor.dims:
            tensor.dims[int(random.integers(len(tensor.dims)))] = abs(_number(random))
        elif what == 3:
            tensor.data_type = int(random.integers(0, 24))
        elif what == 4 and node.input:
            names = [name for other in graph.node for name in (*other.input, *other.output)]
            node.input[int(random.integers(len(node.input)))] = _one_of(names, random)
        elif what == 5:
            del graph.node[int(random.integers(len(graph.node)))]
        elif what == 6 and node.attribute:
            del node.attribute[int(random.integers(len(node.attribute)))]
        else:
            dims = graph.input[0].type.tensor_type.shape.dim
            _one_of(dims, random).dim_value = _number(random)
    return model.SerializeToString()


def _lie_tflite(data: bytes, random: Random) -> bytes:
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    for _ in range(random.integers(1, 3)):
        tensor, operator = _one_of(graph.tensors, random), _one_of(graph.operators, random)
        what = random.integers(8)
        if what == 0 and tensor.shape is not None and len(tensor.shape):
            tensor.shape[int(random.integers(len(tensor.shape)))] = _number(random)
        elif what == 1:
            tensor.type = int(random.integers(0, 20))
        elif what == 2 and tensor.quantization is not None and tensor.quantization.scale is not None:
            tensor.quantization.scale[int(random.integers(len(tensor.quantization.scale)))] = random.choice(
                REALS
            )
        elif what == 3 and tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            tensor.quantization.zeroPoint[0] = _number(random)
        elif what == 4:
            operator.inputs[int(random.integers(len(operator.inputs)))] = random.integers(
                -1, len(graph.tensors)
            )
        elif what == 5:
            operator.opcodeIndex = int(random.integers(len(model.operatorCodes)))
        elif what == 6 and operator.builtinOptions is not None:
            fields = [name for name, value in vars(operator.builtinOptions).items() if isinstance(value, int)]
            if fields:
                setattr(operator.builtinOptions, _one_of(fields, random), _number(random) % 256)
        else:
            tensor.buffer = int(random.integers(len(model.buffers)))
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())

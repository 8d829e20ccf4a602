"""What is read from TFLite files, and what is refused with a sentence that says why."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_proof import Case, prove
from small_tflite import small_tflite
from tflite_writer import Operation, Value, tflite_bytes

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph
from firmware_gen.importers.tflite.file import import_tflite

WINDOW = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
X = Value("x", (1, 4, 4, 2), scale=0.1)
W = Value("w", scale=0.02, data=np.ones((3, 3, 3, 2)))
B = Value("b", dtype="i32", scale=0.002, data=np.zeros(3))
Y = Value("y", (1, 4, 4, 3), scale=0.2)
CONV = Operation("CONV_2D", ["x", "w", "b"], ["y"], "Conv2DOptions", WINDOW)


def _import(data: bytes, folder: Path) -> Graph:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return import_tflite(path)


def _conv(*changed: Value, operations: Sequence[Operation] = (CONV,)) -> bytes:
    values = {value.name: value for value in (X, W, B, Y, *changed)}
    return tflite_bytes(list(values.values()), operations, ["x"], ["y"])


def _unary(code: str, x: Value, options: str | None = None, **fields: Any) -> bytes:
    return tflite_bytes(
        [x, replace(x, name="y")], [Operation(code, ["x"], ["y"], options, fields)], ["x"], ["y"]
    )


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no TFLite model"),
        (b"\x08\0\0\0TFL3", "cannot be read as a TFLite model"),
        (_conv()[:200], "cannot be read as a TFLite model"),
        (_unary("COS", replace(X, dtype="f32", scale=None)), "operator COS .layer 'y'.*supported are ABS"),
        (_unary("CUSTOM", X), "custom operator"),
        (_unary("WHILE", X, "WhileOptions"), "control flow"),
        (_conv(replace(X, signature=(1, -1, 4, 2))), "axis 1 of 'x' .* is dynamic"),
        (_conv(replace(X, shape=(2, 4, 4, 2))), "batch size 1"),
        (_conv(replace(X, dtype="i16"), replace(Y, dtype="i16")), "of type i16; supported are float32, int8"),
        (_conv(replace(X, dtype="u8"), replace(Y, dtype="u8")), "uint8, the scheme before TensorFlow 2"),
        (_conv(replace(X, scale=None)), "without quantization"),
        (_conv(replace(X, dtype="f32", scale=None), replace(Y, dtype="f32", scale=None)), "dynamic range"),
        (_conv(replace(W, scale=float("nan"))), "no positive number"),
        (_conv(replace(Y, scale=0.0)), "no positive number"),
        (_conv(replace(W, scale=[0.1, 0.2])), "2 scales for the shape"),
        (_conv(replace(W, zero_point=3)), "zero point other than 0"),
        (_conv(replace(X, zero_point=300)), "zero point .* outside of its type"),
        (_conv(replace(W, shape=(3, 3, 3, 200))), "54 bytes, but its shape .* needs 5,400"),
        (_conv(replace(X, shape=(1, 70000, 70000, 2))), "impossible shape"),
        (_conv(replace(Y, shape=(1, 4, 5, 3))), "maps of shapes"),
        (_conv(replace(W, scale=1e30)), "factor"),
        (_conv(operations=[replace(CONV, inputs=["y", "w", "b"])]), "computed later, or never"),
        (_conv(operations=[CONV, CONV]), "has a value already"),
        (_conv(operations=[replace(CONV, inputs=["x", None, "b"])]), "its input 1 is missing"),
        (_conv(operations=[replace(CONV, options=None)]), "options are missing"),
        (_conv(operations=[replace(CONV, fields={**WINDOW, "strideH": -1})]), "strides"),
        (_conv(operations=[replace(CONV, fields={**WINDOW, "fusedActivationFunction": 4})]), "activation"),
    ],
)
def test_what_cannot_be_used_is_refused(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        _import(data, tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        import_tflite(tmp_path)


def test_every_family_together_gives_litert_s_bits(tmp_path: Path) -> None:
    prove([Case(small_tflite())], tmp_path)


def test_shapes_that_the_file_computes_are_folded(tmp_path: Path) -> None:
    kinds = [op.kind for op in _import(small_tflite(), tmp_path).ops]
    assert not {"strided_slice", "stack", "gather"} & {*kinds}


def test_float16_weights_become_float32(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).standard_normal((3, 3, 3, 2)).astype(np.float16)
    values = [
        replace(X, dtype="f32", scale=None),
        Value("half", dtype="f16", data=weight),
        Value("w", (3, 3, 3, 2), "f32"),
        replace(Y, dtype="f32", scale=None),
    ]
    operations = [
        Operation("DEQUANTIZE", ["half"], ["w"], "DequantizeOptions"),
        replace(CONV, inputs=["x", "w", None]),
    ]
    graph = _import(tflite_bytes(values, operations, ["x"], ["y"]), tmp_path)
    (constant,) = graph.constants.values()
    assert np.array_equal(constant.value, weight.transpose(1, 2, 3, 0).astype(np.float32))
    restored = constant.value.transpose(constant.source_axes).reshape(constant.source_shape)
    assert np.array_equal(restored, weight.astype(np.float32))


@pytest.mark.parametrize(
    ("output", "weight", "layer"),
    [
        ("net/act/Relu;net/bn/FusedBatchNormV3;net/conv2d/BiasAdd;net/conv2d_4/Conv2D1", "w", "conv2d"),
        ("net/block/conv/Conv2D", "w", "block.conv"),
        ("Identity", "dense_9/Conv2D", "dense_9"),
        ("StatefulPartitionedCall:0", "w", "w"),
        ("StatefulPartitionedCall:0", "", "conv_2d"),
        ("encoder", "w", "encoder"),
    ],
)
def test_layers_are_called_what_their_authors_called_them(
    output: str, weight: str, layer: str, tmp_path: Path
) -> None:
    operation = replace(CONV, inputs=["x", weight, "b"], outputs=[output])
    values = [X, replace(W, name=weight), B, replace(Y, name=output)]
    graph = _import(tflite_bytes(values, [operation], ["x"], [output]), tmp_path)
    assert [op.name for op in graph.ops] == [layer]
    assert graph.outputs == (output,)

"""Poolings and reductions of TFLite files against LiteRT's reference kernels: int8 to the bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from int8_proof import prove, read, run
from tflite_pieces import Piece, side_by_side
from tflite_writer import Operation, Reference, Value, tflite_bytes

from fieldtune.errors import ModelError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.update import UpdatePlan

CASES = 24
Random = np.random.Generator
SAME = 0
OPTIMIZED = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


def window_case(random: Random, kind: str, dtype: str) -> Piece:
    """Draw a pooling with any window that the map can hold, padding and fused activation."""
    height, width = random.integers(1, 12, 2).tolist()
    padding = int(random.integers(2))
    limits = (14, 14) if padding == SAME else (height, width)
    kernel = [int(random.integers(1, limit + 1)) for limit in limits]
    stride = random.integers(1, 5, 2).tolist()
    channels = int(random.integers(1, 20))
    size = (height, width)
    out = [
        -(-own // step) if padding == SAME else (own - taps) // step + 1
        for own, taps, step in zip(size, kernel, stride, strict=True)
    ]
    x_scale, y_scale = ({} if dtype == "f32" else scale(random) for _ in range(2))
    values = [
        Value("x", (1, height, width, channels), dtype, **x_scale),
        Value("y", (1, *out, channels), dtype, **y_scale),
    ]
    options = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "filterHeight": kernel[0],
        "filterWidth": kernel[1],
        "fusedActivationFunction": int(random.integers(4)),
    }
    return Piece(values, [Operation(kind, ["x"], ["y"], "Pool2DOptions", options)], ["x"], ["y"])


def scale(random: Random) -> dict[str, float]:
    """Draw a scale and a zero point."""
    return {"scale": float(10 ** random.uniform(-3, 1)), "zero_point": int(random.integers(-128, 128))}


def reduction_case(random: Random, kind: str, dtype: str) -> Piece:
    """Draw a reduction over any axes of a tensor with any number of them."""
    rank = int(random.integers(2, 5))
    dims = [1, *random.integers(1, 9, rank - 1).tolist()]
    count = int(random.integers(1, rank + 1))
    axes = random.permutation(rank)[:count]
    if random.random() < 0.3 and rank == 4:
        axes = np.array([1, 2])
    keep = bool(random.integers(2))
    kept = [1 if k in axes else size for k, size in enumerate(dims)]
    out = kept if keep else [size for k, size in enumerate(dims) if k not in axes]
    signs = random.integers(2, size=axes.size).astype(bool)
    given = np.where(signs, axes, axes - rank).astype(np.int32)
    x_scale = scale(random) if dtype == "i8" else {}
    y_scale = dict(x_scale)
    if dtype == "i8" and kind in ("MEAN", "SUM") and random.random() < 0.8:
        y_scale = scale(random)
        if random.random() < 0.7:
            y_scale["scale"] = x_scale["scale"] * float(random.uniform(0.3, 3))
    values = [
        Value("x", tuple(dims), dtype, **x_scale),
        Value("axes", dtype="i32", data=given),
        Value("y", tuple(out), dtype, **y_scale),
    ]
    operation = Operation(kind, ["x", "axes"], ["y"], "ReducerOptions", {"keepDims": keep})
    return Piece(values, [operation], ["x"], ["y"])


FAMILIES: dict[str, Callable[[Random, str], Piece]] = {
    "max": lambda random, dtype: window_case(random, "MAX_POOL_2D", dtype),
    "average": lambda random, dtype: window_case(random, "AVERAGE_POOL_2D", dtype),
    "mean": lambda random, dtype: reduction_case(random, "MEAN", dtype),
    "largest": lambda random, dtype: reduction_case(random, "REDUCE_MAX", dtype),
    "smallest": lambda random, dtype: reduction_case(random, "REDUCE_MIN", dtype),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_int8_gives_the_bits_of_litert(family: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    prove([side_by_side(FAMILIES[family](random, "i8") for _ in range(CASES))], tmp_path)


def test_int8_compiled_as_in_firmware_gives_the_bits_of_litert(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    pieces = [draw(random, "i8") for draw in FAMILIES.values() for _ in range(3)]
    prove([side_by_side(pieces)], tmp_path, firmware=True)


@pytest.mark.parametrize("family", [*FAMILIES, "sum"])
def test_float_agrees_with_litert(family: str, tmp_path: Path) -> None:
    random, draw = np.random.default_rng(2), {**FAMILIES, "sum": sums}[family]
    prove([side_by_side(draw(random, "f32") for _ in range(CASES))], tmp_path, tolerance=1e-5)


def sums(random: Random, dtype: str) -> Piece:
    return reduction_case(random, "SUM", dtype)


def test_int8_sums_agree_with_litert(tmp_path: Path) -> None:
    """Not to the bit.

    The reference kernel of LiteRT 2.3.0 takes the int8 values for uint8; the optimized one multiplies in
    floating point.
    """
    random = np.random.default_rng(6)
    model = side_by_side(sums(random, "i8") for _ in range(CASES)).model
    inputs = Reference(model).draw(random)
    ((answers,),) = run([read(model, tmp_path, "sums")], [[inputs]], tmp_path)
    truth = Interpreter(model_content=model, experimental_op_resolver_type=OPTIMIZED)
    truth.allocate_tensors()
    for detail, x in zip(truth.get_input_details(), inputs, strict=True):
        truth.set_tensor(detail["index"], x)
    truth.invoke()
    for detail, answer in zip(truth.get_output_details(), answers, strict=True):
        expected = truth.get_tensor(detail["index"])
        assert np.abs(answer.ravel().astype(int) - expected.ravel()).max() <= 1


def test_what_passes_no_gradient_on_says_so(tmp_path: Path) -> None:
    shape = (1, 4, 4, 2)
    values = [
        Value("x", shape, "f32"),
        Value("w", dtype="f32", data=np.ones((2, 1, 1, 2))),
        Value("a", shape, "f32"),
        Value("axes", dtype="i32", data=np.array([1, 2])),
        Value("y", (1, 2), "f32"),
    ]
    convolution = Operation("CONV_2D", ["x", "w"], ["a"], "Conv2DOptions", {"strideH": 1, "strideW": 1})
    largest = Operation("REDUCE_MAX", ["a", "axes"], ["y"], "ReducerOptions", {"keepDims": False})
    graph = read(tflite_bytes(values, [convolution, largest], ["x"], ["y"]), tmp_path, "largest")
    with pytest.raises(ModelError, match=r"reduce_max.*passes no gradient on"):
        training_graph(graph, (LossSpec("y", "mse"),), UpdatePlan(("*",)))

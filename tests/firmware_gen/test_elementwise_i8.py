"""Integer elementwise operators, bit by bit against LiteRT's reference kernels.

A model holds several operators side by side, each with inputs of its own: compiling takes the time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_proof import Case, prove, read
from tflite_writer import Array, Operation, Value, tflite_bytes

from fieldtune.errors import ModelError

LOWEST, HIGHEST = -128, 127
FUSED = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}
OPTIONS = {
    "ADD": "AddOptions",
    "SUB": "SubOptions",
    "MUL": "MulOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
}


@dataclass(frozen=True)
class Piece:
    """One operator with its tensors and what its inputs shall hold (None: all over the range)."""

    values: tuple[Value, ...]
    operation: Operation
    given: Array | None = None

    @property
    def note(self) -> str:
        """What a failure should say: the operator and its tensors."""
        tensors = (f"{v.name} {v.shape} {v.scale} {v.zero_point}" for v in self.values)
        return f"{self.operation.code} {dict(self.operation.fields)} {', '.join(tensors)}"

    @property
    def inputs(self) -> list[Value]:
        return [v for v in self.values if v.data is None and v.name in self.operation.inputs]


def side_by_side(pieces: Sequence[Piece], random: np.random.Generator, samples: int = 2) -> Case:
    """Return one model with all pieces."""
    values, operations, inputs, outputs = [], [], [], []
    given: list[list[Array]] = [[] for _ in range(samples)]
    for k, piece in enumerate(pieces):
        values += [replace(value, name=f"{value.name}{k}") for value in piece.values]
        renamed = [[f"{name}{k}" for name in names if name] for names in (piece.operation.inputs, ["y"])]
        operations.append(replace(piece.operation, inputs=renamed[0], outputs=renamed[1]))
        inputs += [f"{value.name}{k}" for value in piece.inputs]
        outputs += renamed[1]
        for sample in given:
            sample += [drawn(value, piece.given, random) for value in piece.inputs]
    note = "; ".join(piece.note for piece in pieces)
    return Case(tflite_bytes(values, operations, inputs, outputs), given, note)


def drawn(value: Value, given: Array | None, random: np.random.Generator) -> Array:
    if given is not None:
        return given
    if value.dtype == "f32":
        return random.standard_normal(value.shape).astype(np.float32)
    limits = np.iinfo(np.int8 if value.dtype == "i8" else np.uint8)
    return random.integers(limits.min, limits.max, value.shape, limits.dtype, endpoint=True)


def zero_point(random: np.random.Generator, dtype: str = "i8") -> int:
    """Return a zero point, often one at an end of the range."""
    low = LOWEST if dtype == "i8" else 0
    return int(random.choice([low, low + 255, low + 128, random.integers(low, low + 256)]))


def scale(random: np.random.Generator, low: float = -4, high: float = 1) -> float:
    return float(np.float32(10 ** random.uniform(low, high)))


# Functions of one value: all 256 of them.


def every_byte(dtype: str) -> Array:
    return np.arange(256, dtype=np.uint8).view(np.int8 if dtype == "i8" else np.uint8).reshape(1, 16, 1, 16)


def unary(
    code: str, random: np.random.Generator, options: str | None = None, types: str = "i8 i8", **fields: Any
) -> Piece:
    before, after = types.split()
    x_scale, y_scale = scale(random), scale(random)
    x_zero, y_zero = zero_point(random, before), zero_point(random, after)
    if code == "HARD_SWISH":  # LiteRT refuses outputs that are finer than 1/128 of the input
        y_scale = float(np.float32(x_scale * 2 ** random.uniform(-6.5, 8)))
    elif code == "LOGISTIC":
        y_scale, y_zero = 1 / 256, LOWEST
    elif code not in ("TANH", "EXP", "GELU"):
        # Factors from far below to far above 1.
        y_scale = float(np.float32(x_scale * 10 ** random.uniform(-3, 6)))
    elif code == "EXP":
        x_scale = scale(random, -4, -1)
    shape = (1, 16, 1, 16)
    values = (Value("x", shape, before, x_scale, x_zero), Value("y", shape, after, y_scale, y_zero))
    return Piece(values, Operation(code, ["x"], ["y"], options, fields), every_byte(before))


UNARY: dict[str, tuple[str | None, dict[str, Any]]] = {
    "ABS": ("AbsOptions", {}),
    "EXP": ("ExpOptions", {}),
    "GELU": ("GeluOptions", {}),
    "HARD_SWISH": ("HardSwishOptions", {}),
    "LOGISTIC": (None, {}),
    "RELU": (None, {}),
    "RELU6": (None, {}),
    "RELU_0_TO_1": (None, {}),
    "RELU_N1_TO_1": (None, {}),
    "TANH": (None, {}),
}


def test_functions_of_one_value(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    cases = [
        side_by_side([unary(code, random, options, **fields) for _ in range(12)], random, samples=1)
        for code, (options, fields) in UNARY.items()
    ]
    prove(cases, tmp_path)


def test_leaky_relus_of_any_slope(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    slopes = [0.0, 0.01, 0.2, 1.0, 1.7, -0.3, 1e-9]
    pieces = [unary("LEAKY_RELU", random, "LeakyReluOptions", alpha=slope) for slope in slopes]
    prove([side_by_side(pieces, random, samples=1)], tmp_path)


def test_requantization_between_all_8_bit_types(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    types = ["i8 i8", "u8 i8", "i8 u8", "u8 u8"] * 6
    pieces = [unary("QUANTIZE", random, "QuantizeOptions", types=pair) for pair in types]
    prove([side_by_side(pieces, random, samples=1)], tmp_path)


# Two operands.

SHAPES = (
    ((1, 3, 5, 7), (1, 3, 5, 7)),
    ((1, 3, 5, 7), (7,)),
    ((1, 3, 5, 7), (1, 1, 1, 7)),
    ((1, 3, 5, 7), ()),
    ((1, 1), (1, 4, 3, 2)),
    ((1, 3, 5, 7), (1, 3, 5, 1)),
    ((1, 3, 5, 1), (1, 1, 5, 7)),
    ((1, 3, 1, 4), (1, 1, 6, 1)),
    ((1, 33), (1, 33)),
    ((1, 9, 4), (1, 9, 4)),
)


def binary(
    code: str,
    random: np.random.Generator,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
    constant: int | None = None,
    fused: str = "none",
) -> Piece:
    """Return an operator on two operands, `constant` says which one is a constant."""
    scales = [scale(random), scale(random)]
    if code in ("ADD", "SUB"):  # LiteRT refuses outputs that are finer than 2^-19 of the inputs
        y_scale = float(np.float32(max(scales) * 10 ** random.uniform(-5.5, 3)))
    else:
        y_scale = float(np.float32(scales[0] * scales[1] * 10 ** random.uniform(-1, 5)))
    zeros = [zero_point(random), zero_point(random), zero_point(random)]
    if code in ("MAXIMUM", "MINIMUM"):
        scales, y_scale, zeros = [scales[0]] * 2, scales[0], [zeros[0]] * 3
    parts = [Value(name, shapes[k], "i8", scales[k], zeros[k]) for k, name in enumerate("ab")]
    if constant is not None:
        data = random.integers(LOWEST, HIGHEST, shapes[constant], np.int8, endpoint=True)
        parts[constant] = replace(parts[constant], data=np.asarray(data, np.int8))
    y = Value("y", np.broadcast_shapes(*shapes), "i8", y_scale, zeros[2])
    fields = {} if code in ("MAXIMUM", "MINIMUM") else {"fusedActivationFunction": FUSED[fused]}
    return Piece((*parts, y), Operation(code, ["a", "b"], ["y"], OPTIONS[code], fields))


@pytest.mark.parametrize("code", OPTIONS)
def test_two_operands_of_all_shapes_and_scales(code: str, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    pieces = [binary(code, random, shapes) for shapes in SHAPES]
    pieces += [binary(code, random, shapes[::-1]) for shapes in SHAPES]
    pieces += [binary(code, random, shapes, constant=1) for shapes in SHAPES]
    pieces += [binary(code, random, shapes, constant=0) for shapes in SHAPES]
    prove([side_by_side(pieces[k::2], random) for k in range(2)], tmp_path)


@pytest.mark.parametrize("fused", ["relu", "relu6", "relu_n1_to_1"])
def test_fused_activations_limit_the_result(fused: str, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    pieces = [
        binary(code, random, SHAPES[0], fused=fused) for code in ("ADD", "SUB", "MUL") for _ in range(4)
    ]
    prove([side_by_side(pieces, random)], tmp_path)


def prelu(random: np.random.Generator, slopes: tuple[int, ...]) -> Piece:
    x_scale, alpha_scale = scale(random), scale(random, -3, 0)
    data = random.integers(LOWEST, HIGHEST, slopes, np.int8, endpoint=True)
    y_scale = float(np.float32(x_scale * 10 ** random.uniform(-1, 3)))
    values = (
        Value("a", (1, 3, 5, 7), "i8", x_scale, zero_point(random)),
        Value("b", scale=alpha_scale, zero_point=zero_point(random), data=data),
        Value("y", (1, 3, 5, 7), "i8", y_scale, zero_point(random)),
    )
    return Piece(values, Operation("PRELU", ["a", "b"], ["y"]))


def test_prelu_with_slopes_of_any_shape(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    shapes = [(1, 1, 7), (3, 5, 7), (1, 1, 1), (3, 1, 1), (1, 5, 7)]
    prove([side_by_side([prelu(random, shape) for shape in shapes * 3], random)], tmp_path)


# Softmax and the borders.


def softmax(random: np.random.Generator, shape: tuple[int, ...], beta: float) -> Piece:
    """Return a softmax whose inputs lie within a part of the range, so that several outputs are above 0."""
    values = (
        Value("x", shape, "i8", scale(random, -3, 0.5), zero_point(random)),
        Value("y", shape, "i8", 1 / 256, LOWEST),
    )
    spread = int(random.choice([0, 3, 40, 255]))
    low = int(random.integers(LOWEST, HIGHEST - spread + 1))
    given = random.integers(low, low + spread, shape, np.int8, endpoint=True)
    return Piece(values, Operation("SOFTMAX", ["x"], ["y"], "SoftmaxOptions", {"beta": beta}), given)


def test_softmax_of_any_depth(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    shapes = [(1, 1), (1, 2), (1, 10), (1, 256), (1, 511), (1, 3, 4, 5), (1, 7, 12)]
    pieces = [softmax(random, shape, beta) for shape in shapes * 4 for beta in (1.0, 0.7)]
    prove([side_by_side(pieces, random, samples=1)], tmp_path)


def halfway(shape: tuple[int, ...], step: float, random: np.random.Generator) -> Array:
    """Return values on, between and beside the steps of a grid, and beyond its ends."""
    steps = random.integers(-600, 600, shape) / 2
    beside = random.choice([0, 0, 1e-7, -1e-7], shape)
    return ((steps + steps * beside) * step).astype(np.float32)


def test_quantize_rounds_halves_away_from_zero(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    pieces = []
    for step in (0.25, 1 / 3, 1.0, 1e-4, 77.0):
        step = float(np.float32(step))
        values = (
            Value("x", (1, 8, 8, 9), "f32"),
            Value("y", (1, 8, 8, 9), "i8", step, zero_point(random)),
        )
        given = halfway((1, 8, 8, 9), step, random)
        pieces.append(Piece(values, Operation("QUANTIZE", ["x"], ["y"], "QuantizeOptions"), given))
    prove([side_by_side(pieces, random, samples=1)], tmp_path)


def test_dequantize_gives_the_floats_of_tflite(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    pieces = []
    for dtype in ("i8", "u8") * 4:
        values = (
            Value("x", (1, 16, 1, 16), dtype, scale(random), zero_point(random, dtype)),
            Value("y", (1, 16, 1, 16), "f32"),
        )
        operation = Operation("DEQUANTIZE", ["x"], ["y"], "DequantizeOptions")
        pieces.append(Piece(values, operation, every_byte(dtype)))
    prove([side_by_side(pieces, random, samples=1)], tmp_path)


def test_the_same_bits_when_compiled_as_firmware(tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    pieces = [binary(code, random, shapes) for code in OPTIONS for shapes in SHAPES[:3]]
    pieces += [softmax(random, (1, 3, 4, 5), 1.0), prelu(random, (1, 1, 7)), unary("TANH", random)]
    prove([side_by_side(pieces, random)], tmp_path, firmware=True)


# The same operators in float32 files, and what both refuse.

FLOAT: dict[str, tuple[str | None, dict[str, Any]]] = {
    "ABS": ("AbsOptions", {}),
    "HARD_SWISH": ("HardSwishOptions", {}),
    "LEAKY_RELU": ("LeakyReluOptions", {"alpha": -0.4}),
    "LOGISTIC": (None, {}),
    "NEG": ("NegOptions", {}),
    "RELU": (None, {}),
    "RELU6": (None, {}),
    "RELU_0_TO_1": (None, {}),
    "RELU_N1_TO_1": (None, {}),
    "SOFTMAX": ("SoftmaxOptions", {"beta": 0.5}),
    "SQUARE": ("SquareOptions", {}),
    "TANH": (None, {}),
}


def test_float_files_give_the_values_of_litert(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    pieces = []
    for code, (options, fields) in FLOAT.items():
        values = (Value("x", (1, 4, 3, 5), "f32"), Value("y", (1, 4, 3, 5), "f32"))
        given = (random.standard_normal((1, 4, 3, 5)) * 3).astype(np.float32)
        pieces.append(Piece(values, Operation(code, ["x"], ["y"], options, fields), given))
    for code in OPTIONS:
        for constant in (None, 0, 1):
            piece = binary(code, random, SHAPES[2], constant, fused="relu6")
            parts = [replace(v, dtype="f32", scale=None, zero_point=0) for v in piece.values]
            pieces.append(replace(piece, values=tuple(parts)))
    slopes = Value("b", dtype="f32", data=random.standard_normal((3, 1, 1)).astype(np.float32))
    values = (Value("a", (1, 3, 5, 7), "f32"), slopes, Value("y", (1, 3, 5, 7), "f32"))
    pieces.append(Piece(values, Operation("PRELU", ["a", "b"], ["y"])))
    prove([side_by_side(pieces, random)], tmp_path, tolerance=2e-6)


def test_an_operand_that_is_a_part_of_the_other(tmp_path: Path) -> None:
    """The difference must not be stored over the map whose first channel it still needs."""
    grid = {"dtype": "i8", "scale": 0.1, "zero_point": 3}
    values = [
        Value("x", (1, 4, 3, 5), **grid),
        Value("r", (1, 4, 3, 5), **grid),
        Value("begin", dtype="i32", data=np.array([0, 0, 0, 0])),
        Value("size", dtype="i32", data=np.array([1, 4, 3, 1])),
        Value("first", (1, 4, 3, 1), **grid),
        Value("y", (1, 4, 3, 5), **grid),
    ]
    operations = [
        Operation("RELU", ["x"], ["r"]),
        Operation("SLICE", ["r", "begin", "size"], ["first"], "SliceOptions"),
        Operation("SUB", ["r", "first"], ["y"], "SubOptions"),
    ]
    prove([Case(tflite_bytes(values, operations, ["x"], ["y"]))], tmp_path)


def refusal(piece: Piece, folder: Path) -> str:
    """Import a file with one operator that cannot be used; return what the user is told."""
    inputs = [value.name for value in piece.inputs]
    with pytest.raises(ModelError) as caught:
        read(tflite_bytes(piece.values, [piece.operation], inputs, ["y"]), folder, "refused")
    return str(caught.value)


def pair_of(code: str, *tensors: Value, **fields: Any) -> Piece:
    names = [value.name for value in tensors if value.name != "y"]
    options = OPTIONS.get(code) or ("SoftmaxOptions" if code == "SOFTMAX" else None)
    return Piece(tensors, Operation(code, names, ["y"], options, fields))


MAP = Value("a", (1, 2, 2, 3), "i8", 0.1, 0)
REFUSED = {
    "mixed types": (pair_of("ADD", MAP, Value("b", (1, 2, 2, 3), "f32"), replace(MAP, name="y")), "f32, i8"),
    "shapes that do not meet": (
        pair_of("ADD", MAP, replace(MAP, name="b", shape=(1, 2, 2, 2)), replace(MAP, name="y")),
        "do not fit",
    ),
    "another result": (
        pair_of("MUL", MAP, replace(MAP, name="b"), replace(MAP, name="y", shape=(1, 2, 2, 1))),
        "that make",
    ),
    "computed slopes": (pair_of("PRELU", MAP, replace(MAP, name="b"), replace(MAP, name="y")), "slopes"),
    "no quantization": (pair_of("RELU", replace(MAP, scale=None), replace(MAP, name="y")), "quantiz"),
    "a maximum of two scales": (
        pair_of("MAXIMUM", MAP, replace(MAP, name="b", scale=0.2), replace(MAP, name="y")),
        "give them the same",
    ),
    "a sum that is too fine": (
        pair_of("ADD", MAP, replace(MAP, name="b"), replace(MAP, name="y", scale=1e-9)),
        "check the quantization",
    ),
    "scales beyond any factor": (
        pair_of("RELU", replace(MAP, scale=1e20), replace(MAP, name="y", scale=1e-20)),
        "check the quantization",
    ),
    "too many classes": (
        pair_of("SOFTMAX", replace(MAP, shape=(1, 5000)), replace(MAP, name="y", shape=(1, 5000)), beta=1.0),
        "5,000 classes",
    ),
    "a softmax of a negative beta": (pair_of("SOFTMAX", MAP, replace(MAP, name="y"), beta=-1.0), "beta"),
    "integers from floats to unsigned": (
        pair_of("QUANTIZE", replace(MAP, dtype="f32", scale=None), replace(MAP, name="y", dtype="u8")),
        "f32 as u8",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_done_is_said_in_a_sentence(what: str, tmp_path: Path) -> None:
    piece, says = REFUSED[what]
    assert says in refusal(piece, tmp_path)

"""Resizing in TFLite files against LiteRT's reference kernels: nearest and int8 to the bit, float closely."""

from pathlib import Path

import numpy as np
import pytest
from int8_proof import prove
from tflite_pieces import Piece, side_by_side
from tflite_writer import Operation, Value

CASES = 24
NEAREST, BILINEAR = "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"
# align_corners, half_pixel_centers
CONVENTIONS = {"corners": (True, False), "centers": (False, True), "edges": (False, False)}


def piece(
    random: np.random.Generator, kind: str, dtype: str, align_corners: bool, half_pixel_centers: bool
) -> Piece:
    """Draw a resizing between any two sizes, or by a whole factor."""
    size = random.integers(1, 12, 2)
    out = size * random.integers(1, 5) if random.random() < 0.3 else random.integers(1, 30, 2)
    channels = int(random.integers(1, 9))
    own = {} if dtype == "f32" else {"scale": 0.05, "zero_point": int(random.integers(-128, 128))}
    values = [
        Value("x", (1, *size.tolist(), channels), dtype, **own),
        Value("size", dtype="i32", data=out.astype(np.int32)),
        Value("y", (1, *out.tolist(), channels), dtype, **own),
    ]
    table = "ResizeBilinearOptions" if kind == BILINEAR else "ResizeNearestNeighborOptions"
    options = {"alignCorners": align_corners, "halfPixelCenters": half_pixel_centers}
    operation = Operation(kind, ["x", "size"], ["y"], table, options)
    return Piece(values, [operation], ["x"], ["y"])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bilinear_int8_gives_the_bits_of_litert(convention: str, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    options = CONVENTIONS[convention]
    prove([side_by_side(piece(random, BILINEAR, "i8", *options) for _ in range(CASES))], tmp_path)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_bilinear_float_agrees_with_litert(convention: str, tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    options = CONVENTIONS[convention]
    pieces = [piece(random, BILINEAR, "f32", *options) for _ in range(CASES)]
    prove([side_by_side(pieces)], tmp_path, tolerance=1e-5)


@pytest.mark.parametrize("dtype", ["i8", "f32"])
def test_nearest_gives_the_bits_of_litert(dtype: str, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    conventions = [*CONVENTIONS.values(), (True, True)]
    prove(
        [
            side_by_side(piece(random, NEAREST, dtype, *options) for _ in range(CASES))
            for options in conventions
        ],
        tmp_path,
    )


def test_bilinear_int8_compiled_as_in_firmware_gives_the_bits_of_litert(tmp_path: Path) -> None:
    random = np.random.default_rng(10)
    pieces = [piece(random, BILINEAR, "i8", *options) for options in CONVENTIONS.values() for _ in range(3)]
    prove([side_by_side(pieces)], tmp_path, firmware=True)

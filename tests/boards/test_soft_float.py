"""The port's own fmaf and sqrtf round correctly: the bits are those of this computer's C library."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "boards" / "ports" / "soft_float"
REFERENCE = """
#include <math.h>
void fma_all(const float *x, const float *y, const float *z, float *result, int count) {
    for (int i = 0; i < count; i++) { result[i] = fmaf(x[i], y[i], z[i]); }
}
void sqrt_all(const float *x, float *result, int count) {
    for (int i = 0; i < count; i++) { result[i] = sqrtf(x[i]); }
}
"""
COUNT = 200_000
# Zeros, subnormal numbers, ones and their neighbours, the largest, infinities, no numbers; with both signs.
SPECIAL = np.array(
    [0, 1, 2, 3, 0x400000, 0x7FFFFF, 0x800000, 0x800001, 0x1000000, 0x3F7FFFFF, 0x3F800000, 0x3F800001]
    + [0x40000000, 0x33800000, 0x34000000, 0x7EFFFFFF, 0x7F000000, 0x7F7FFFFF, 0x7F800000, 0x7FC00000],
    np.uint32,
)


class Library:
    """The two functions over arrays."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    def call(self, name: str, *arguments: NDArray[np.float32]) -> NDArray[np.uint32]:
        result = np.empty_like(arguments[0])
        pointers = [a.ctypes.data_as(ctypes.c_void_p) for a in (*arguments, result)]
        getattr(self._library, name)(*pointers, len(result))
        return result.view(np.uint32)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Library, Library]:
    folder = tmp_path_factory.mktemp("soft_float")
    (folder / "reference.c").write_text(REFERENCE)
    sanitizer = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    common = ["gcc", "-std=gnu99", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
    for name, source, more in (
        ("soft", HERE / "soft_float_driver.c", [*sanitizer, "-Wall", "-Wextra", "-Werror", f"-I{SOURCE}"]),
        ("reference", folder / "reference.c", ["-fno-math-errno", "-lm"]),
    ):
        subprocess.run([*common, str(source), "-o", str(folder / f"{name}.so"), *more], check=True)
    return Library(folder / "soft.so"), Library(folder / "reference.so")


def assert_same(got: NDArray[np.uint32], expected: NDArray[np.uint32]) -> None:
    """Equal bits; which of the patterns of no number it is does not matter."""
    both = np.isnan(got.view(np.float32)) & np.isnan(expected.view(np.float32))
    different = np.flatnonzero((got != expected) & ~both)
    assert different.size == 0, [(k, hex(got[k]), hex(expected[k])) for k in different[:5]]


def test_every_combination_of_special_numbers(libraries: tuple[Library, Library]) -> None:
    signed = np.concatenate([SPECIAL, SPECIAL | np.uint32(1 << 31)]).view(np.float32)
    operands = [axis.ravel().copy() for axis in np.meshgrid(signed, signed, signed)]
    assert_same(*(library.call("fma_all", *operands) for library in libraries))
    assert_same(*(library.call("sqrt_all", signed) for library in libraries))


def test_random_bits(libraries: tuple[Library, Library]) -> None:
    random = np.random.default_rng(0)
    operands = [random.integers(0, 1 << 32, COUNT, dtype=np.uint32).view(np.float32) for _ in range(3)]
    assert_same(*(library.call("fma_all", *operands) for library in libraries))
    assert_same(*(library.call("sqrt_all", operands[0]) for library in libraries))


@pytest.mark.parametrize("middle", [127, 66, 2])  # 66 and 2: products and sums among subnormal numbers
def test_numbers_that_almost_cancel_or_are_far_apart(libraries: tuple[Library, Library], middle: int) -> None:
    random = np.random.default_rng(middle)
    x, y = (_near(random, middle) for _ in range(2))
    product = x.astype(np.float64) * y
    apart = np.exp2(random.integers(-60, 61, COUNT)) * (1 + random.integers(-4, 5, COUNT) * 2.0**-23)
    with np.errstate(over="ignore", under="ignore"):
        near = (-product * np.where(random.random(COUNT) < 0.5, apart, 1)).astype(np.float32)
    z = (near.view(np.uint32) + random.integers(-2, 3, COUNT).astype(np.uint32)).view(np.float32)
    assert_same(*(library.call("fma_all", x, y, z) for library in libraries))


def _near(random: np.random.Generator, middle: int) -> NDArray[np.float32]:
    """Random signs and fractions, some of them short, and exponents around `middle`."""
    exponent = np.clip(random.integers(middle - 12, middle + 13, COUNT), 0, 254).astype(np.uint32)
    fraction = random.integers(0, 1 << 23, COUNT, dtype=np.uint32)
    short = np.where(random.random(COUNT) < 0.5, np.uint32(0x7FF800), np.uint32(0x7FFFFF))
    sign = random.integers(0, 2, COUNT, dtype=np.uint32) << np.uint32(31)
    bits: NDArray[np.uint32] = sign | exponent << np.uint32(23) | (fraction & short)
    return bits.view(np.float32)

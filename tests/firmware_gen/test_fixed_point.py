"""The integer arithmetic of TFLite: Python and C alike, and both after gemmlowp's definitions."""

import math
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fleet import compile_program

from fieldtune.errors import ModelError
from firmware_gen.fixed_point import (
    activation_range,
    exp_on_negative_values,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from firmware_gen.graph import Quantization

SOURCE = Path(__file__).with_name("fixed_point_driver.c")
LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
EDGES = (LOWEST, LOWEST + 1, -(1 << 30), -3, -2, -1, 0, 1, 2, 3, 127, (1 << 30) - 1, 1 << 30, HIGHEST)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fixed_point")
    return compile_program([SOURCE], folder / "fixed_point", "scalar", specialise=True)


def wrapped(x: int) -> int:
    return (x - LOWEST) % (1 << 32) + LOWEST


def doubling_high_mul(a: int, b: int) -> int:
    """gemmlowp's definition: a nudge of the product's sign, then a division that truncates."""
    if a == b == LOWEST:
        return HIGHEST
    nudged = a * b + ((1 << 30) if a * b >= 0 else 1 - (1 << 30))
    return abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)


def nearest(x: Fraction) -> int:
    """Return the nearest integer, halves away from zero."""
    return math.floor(abs(x) + Fraction(1, 2)) * (1 if x >= 0 else -1)


def requantized(x: int, multiplier: int, shift: int) -> int:
    high = doubling_high_mul(wrapped(x << max(shift, 0)), multiplier)
    return nearest(Fraction(high, 1 << max(-shift, 0)))


def triples() -> np.ndarray:
    random = np.random.default_rng(0)
    multipliers = (0, 1, 1 << 30, (1 << 30) + 1, HIGHEST, -(1 << 30), LOWEST)
    edges = [(x, m, s) for x in EDGES for m in multipliers for s in range(-31, 32)]
    count = 20_000
    drawn = np.stack(
        [
            random.integers(LOWEST, HIGHEST, count, endpoint=True) >> random.integers(0, 31, count),
            random.integers(1 << 30, HIGHEST, count, endpoint=True),
            random.integers(-31, 32, count),
        ],
        axis=1,
    )
    return np.concatenate([np.array(edges, np.int64), drawn])


def test_requantization_follows_the_definition_in_python_and_c(program: Path) -> None:
    rows = triples()
    truth = [requantized(*map(int, row)) for row in rows]
    done = subprocess.run([program], input=rows.astype("<i4").tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    in_c = np.frombuffer(done.stdout, "<i4")
    in_python = [
        int(multiply_by_quantized_multiplier(x, int(multiplier), int(shift)))
        for x, multiplier, shift in rows.tolist()
    ]
    assert in_c.tolist() == truth
    assert in_python == truth


def test_products_and_divisions_of_arrays_follow_the_definition() -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(LOWEST, HIGHEST, 2000, endpoint=True) for _ in range(2))
    products = saturating_rounding_doubling_high_mul(a, b)
    assert products.tolist() == [doubling_high_mul(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    for exponent in (0, 1, 7, 30, 31):
        truth = [nearest(Fraction(x, 1 << exponent)) for x in a.tolist()]
        assert rounding_divide_by_pot(a, exponent).tolist() == truth


def test_multipliers_hold_31_bits_of_the_factor() -> None:
    random = np.random.default_rng(2)
    for real in (*10.0 ** random.uniform(-9, 9, 2000), 1.0, 0.5, 2.0**-31, 2.0**30):
        multiplier, shift = quantize_multiplier(real)
        assert 1 << 30 <= multiplier < 1 << 31
        assert abs(math.ldexp(multiplier, shift - 31) / real - 1) <= 2**-31
        assert quantize_multiplier(-real) == (-multiplier, shift)


def test_multipliers_at_the_limits() -> None:
    assert quantize_multiplier(0.0) == (0, 0)
    assert quantize_multiplier(1 - 2.0**-40) == (1 << 30, 1)  # rounds up to 2^31, which is no int32
    assert quantize_multiplier(2.0**-32) == (1 << 30, -31)
    assert quantize_multiplier(2.0**-33) == (0, 0)
    assert quantize_multiplier(float(HIGHEST)) == (HIGHEST, 31)


@pytest.mark.parametrize("real", [2.0**31, math.inf, math.nan])
def test_factors_that_no_quantization_has_are_refused(real: float) -> None:
    with pytest.raises(ModelError, match="check the quantization"):
        quantize_multiplier(real)


def test_exponentials_are_accurate() -> None:
    raw = -np.arange(0, 1 << 31, 104_729, dtype=np.int64)
    found = exp_on_negative_values(raw, 5) / 2**31
    assert np.abs(found - np.exp(raw / 2**26)).max() < 3e-7


def test_halves_go_away_from_zero() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    x = np.array([0.5, 1.5, -0.5, -2.5, below, -below, 2.0**23 + 1], np.float32)
    assert round_half_away(x).tolist() == [1, 2, -1, -3, 0, 0, 2.0**23 + 1]


def test_activation_ranges() -> None:
    q = Quantization(0.1, -100)
    assert activation_range(0.0, math.inf, q) == (-100, 127)
    assert activation_range(0.0, 6.0, q) == (-100, -40)
    assert activation_range(-math.inf, math.inf, q) == (-128, 127)
    assert activation_range(-1.0, 1.0, Quantization(1e-38, 0)) == (-128, 127)
    assert activation_range(-1.0, 1.0, Quantization(1.0, 10), "u8") == (9, 11)

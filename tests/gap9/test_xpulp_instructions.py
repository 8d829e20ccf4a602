"""Xpulp's instructions: three back ends with the same results, and binary16 that is exact."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from xpulp_programs import KERNELS, SANITIZED, VENDOR, in_simulator, on_host, simulator

SOURCE = Path(__file__).with_name("xpulp_operands.c")
# In the order of the program.
INTEGERS = (
    "sdotsp",
    "sdotusp",
    "sdotup",
    "mac",
    "max",
    "min",
    "clip",
    "clamp",
    "max4",
    "shuffle",
    "pack",
    "transpose",
    "load",
    "dots",
    "copy",
)
FLOATS = {"vfmac": 100, "vfcpka": 101, "fmadd": 102, "vfmac_r": 103, "half": 104, "fmul": 105, "fadd": 106}
CODES = {name: code for code, name in enumerate(INTEGERS)} | FLOATS | {"cost": 200}
EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, 0x80808080, 0x7F7F7F7F, 0xFFFFFFFF, 0xFFFFFF7F)
# Zeros, the smallest and largest subnormal and normal numbers, 1 and its neighbours, infinity, NaN.
HALVES = (0, 1, 2, 0x3FF, 0x400, 0x401, 0x3BFF, 0x3C00, 0x3C01, 0x6400, 0x7BFE, 0x7BFF, 0x7C00, 0x7E01)
SINGLES = (0, 1, 0x33000000, 0x33000001, 0x337FFFFF, 0x38801000, 0x477FEFFF, 0x477FF000, 0x7F800000)

Words = NDArray[np.uint32]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The program of operands with every back end."""
    folder = tmp_path_factory.mktemp("operands")

    def host(name: str, *flags: str) -> Path:
        return simulator.build_host_program([SOURCE], folder / name, [f"-I{KERNELS}", *flags])

    return {
        "insn": simulator.build_program([SOURCE], folder / "operands.elf", [f"-I{KERNELS}"]),
        "portable": host("portable", *SANITIZED),
        "builtins": host("vendor", *VENDOR),
        "unsigned char": host("unsigned", "-funsigned-char"),
    }


def results(programs: dict[str, Path], back_end: str, operation: str, operands: Words) -> Words:
    code = np.full((len(operands), 1), CODES[operation], np.uint32)
    given = np.hstack((code, operands)).astype(np.uint32).tobytes()
    run = in_simulator if back_end == "insn" else on_host
    return np.frombuffer(run(programs[back_end], given), np.uint32)


def words(operation: str, random: np.random.Generator) -> Words:
    """Return triples of operands: random ones, and all combinations of the extremes."""
    if operation in ("dots", "copy"):
        kinds = (1 + 4 * 4, 2 + 4 * 4, 2 + 1 * 4) if operation == "dots" else (0, 1)
        sizes = np.array(list(itertools.product(range(1, 20), kinds)), np.uint32)
        return np.hstack((sizes, random.integers(0, 1 << 32, (len(sizes), 1), np.uint32)))
    drawn = random.integers(0, 1 << 32, (500, 3), np.uint32)
    small = (drawn.view(np.int32) >> random.integers(20, 30, drawn.shape, np.int32)).view(np.uint32)
    return np.vstack((drawn, small, np.array(list(itertools.product(EDGES, repeat=3)), np.uint32)))


def halves(random: np.random.Generator) -> Words:
    """Return triples of two binary16 values each: extremes in the lower half, random ones in the upper."""
    signed = [sign << 15 | half for half in HALVES for sign in (0, 1)]
    low = np.array(list(itertools.product(signed, repeat=3)), np.uint32)
    high = random.integers(0, 1 << 16, low.shape, np.uint32)
    # Half of them of sizes that cancel.
    close = random.integers(0x3000, 0x4000, low.shape, np.uint32) | random.integers(0, 2, low.shape) << 15
    return low | np.where(np.arange(len(low))[:, None] % 2, high, close.astype(np.uint32)) << 16


def singles(random: np.random.Generator) -> Words:
    signed = [sign << 31 | bits for bits in SINGLES for sign in (0, 1)]
    edges = np.array(list(itertools.product(signed, repeat=3)), np.uint32)
    around = random.integers(0x32000000, 0x49000000, (2000, 3), np.uint32)  # 2^-27 to 2^19
    return np.vstack((edges, around, random.integers(0, 1 << 32, (1000, 3), np.uint32)))


@pytest.mark.parametrize("operation", INTEGERS)
def test_every_back_end_gives_the_same_words(operation: str, programs: dict[str, Path]) -> None:
    operands = words(operation, np.random.default_rng(CODES[operation]))
    portable = results(programs, "portable", operation, operands)
    assert np.unique(portable).size > 30
    for back_end in ("insn", "builtins", "unsigned char"):
        assert np.array_equal(results(programs, back_end, operation, operands), portable), back_end


def test_scalar_products_are_those_of_numpy(programs: dict[str, Path]) -> None:
    a, b, c = (operands := words("sdotsp", np.random.default_rng(1))).T.copy()
    for operation, types in (
        ("sdotsp", (np.int8, np.int8)),
        ("sdotusp", (np.uint8, np.int8)),
        ("sdotup", (np.uint8, np.uint8)),
    ):
        bytes_a, bytes_b = (word.view(kind).reshape(-1, 4) for word, kind in zip((a, b), types, strict=True))
        expected = c + (bytes_a.astype(np.int32) * bytes_b).sum(1).astype(np.uint32)
        assert np.array_equal(results(programs, "portable", operation, operands), expected)


def test_a_fused_binary16_is_rounded_once_in_every_back_end(programs: dict[str, Path]) -> None:
    operands = halves(np.random.default_rng(2))
    portable = results(programs, "portable", "vfmac", operands)
    assert np.array_equal(results(programs, "insn", "vfmac", operands), portable)
    for shift in (0, 16):
        triples = (operands >> shift & 0xFFFF).tolist()
        expected = [fused_half(*triple) for triple in triples]
        assert (portable >> shift & 0xFFFF).tolist() == expected


def test_one_factor_for_both_lanes(programs: dict[str, Path]) -> None:
    operands = halves(np.random.default_rng(6))
    both = operands.copy()
    both[:, 1] = (both[:, 1] & 0xFFFF) * 0x10001
    expected = results(programs, "portable", "vfmac", both)
    for back_end in ("portable", "insn"):
        assert np.array_equal(results(programs, back_end, "vfmac_r", operands), expected)


def test_binary16_becomes_a_float_as_in_numpy(programs: dict[str, Path]) -> None:
    operands = halves(np.random.default_rng(7))
    given = (operands[:, 0] & 0xFFFF).astype(np.uint16).view(np.float16)
    expected = given.astype(np.float32)
    for back_end in ("portable", "insn"):
        found = results(programs, back_end, "half", operands).view(np.float32)
        assert np.array_equal(found, expected, equal_nan=True)


@pytest.mark.parametrize("operation", ["fmul", "fadd"])
def test_products_and_sums_of_floats(operation: str, programs: dict[str, Path]) -> None:
    operands = singles(np.random.default_rng(8))
    a, b = operands[:, :2].copy().view(np.float32).T
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        expected = a * b if operation == "fmul" else a + b
    for back_end in ("portable", "insn"):
        found = results(programs, back_end, operation, operands).view(np.float32)
        assert np.array_equal(found, expected, equal_nan=True)


def test_floats_become_binary16_as_numpy_rounds_them(programs: dict[str, Path]) -> None:
    operands = singles(np.random.default_rng(3))
    portable = results(programs, "portable", "vfcpka", operands)
    assert np.array_equal(results(programs, "insn", "vfcpka", operands), portable)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = operands[:, :2].copy().view(np.float32).astype(np.float16)
    known = ~np.isnan(expected)
    found = np.stack((portable & 0xFFFF, portable >> 16), 1).astype(np.uint16)
    assert np.array_equal(found[known], expected.view(np.uint16)[known])
    assert (found[~known] == 0x7E00).all()


def test_a_fused_float_is_rounded_once(programs: dict[str, Path]) -> None:
    operands = singles(np.random.default_rng(4))
    portable = results(programs, "portable", "fmadd", operands)
    assert np.array_equal(results(programs, "insn", "fmadd", operands), portable)
    values = operands.view(np.float32)
    for triple, bits in zip(values[-1000:], portable[-1000:].copy().view(np.float32), strict=True):
        if not np.isfinite([*triple, bits]).all():
            continue
        a, b, c = (Fraction(float(value)) for value in triple)
        exact = a * b + c
        error = abs(Fraction(float(bits)) - exact)
        up, down = (np.nextafter(bits, np.float32(end)) for end in (np.inf, -np.inf))
        others = [abs(Fraction(float(n)) - exact) for n in (up, down) if np.isfinite(n)]
        assert all(error <= other for other in others)


def test_the_inner_loop_takes_fourteen_instructions_for_32_products(programs: dict[str, Path]) -> None:
    short, long = results(programs, "insn", "cost", np.array([[20, 0, 0], [60, 0, 0]], np.uint32)).tolist()
    per_mac = (long - short) / (40 * 4 * 4 * 2)
    assert per_mac == 14 / 32 <= 0.44
    assert short <= 20 * 14 + 40, "what surrounds the loop has grown"


def fused_half(a: int, b: int, c: int) -> int:
    """Return a * b + c on binary16 bits, by exact rational numbers; NaNs are 0x7E00."""
    x, y, z = (float(np.uint16(bits).view(np.float16)) for bits in (a, b, c))
    if not np.isfinite([x, y, z]).all():
        with np.errstate(invalid="ignore"):
            sum_ = np.float64(x) * np.float64(y) + np.float64(z)
        return 0x7E00 if np.isnan(sum_) else 0xFC00 if sum_ < 0 else 0x7C00
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact == 0:
        # -0 only as the sum of two: in doubles the product of binary16 values is exact.
        return 0x8000 if np.signbit(x * y + z) else 0
    return round_half(exact)


def round_half(exact: Fraction) -> int:
    """Return the nearest binary16, halves to even, of a number that is not 0."""
    sign, size = (0x8000, -exact) if exact < 0 else (0, exact)
    exponent = -14
    while size >= Fraction(2) ** (exponent + 1):
        exponent += 1
    units = round(size / Fraction(2) ** (exponent - 10))  # Python rounds halves to even
    return sign | min((exponent + 14 << 10) + units, 0x7C00)

"""What a slot must look like to be taken, and that nothing else is."""

import ctypes
import math
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from stored_slots import HEADER_BYTES, header, slot

from firmware_gen.protocol import SLOT_STATES
from firmware_gen.protocol_header import protocol_header

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "firmware_gen" / "runtime"
MODEL, PLAN = 0x11223344, 0x55667788
SIZE = 256  # of a slot
SET = bytes(range(100, 129))
OTHER = bytes(29)
INITIAL = b"\xee" * 29
DONE, FAILED = 0, 3  # ft_store_result_t
ERASED = b"\xff" * SIZE
UNITS = (1, 2, 4, 8, 16, 32)

Look = Callable[..., tuple[tuple[str, str], bytes]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("slots")
    shutil.copytree(RUNTIME / "link", folder / "link")
    shutil.copy(RUNTIME / "model_api.h", folder)
    (folder / "link" / "protocol.h").write_text(protocol_header())
    strict = [
        "-std=c99",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wsign-conversion",
        "-Wshadow",
        "-Werror",
        "-O1",
    ]
    sources = [HERE / "slots.c", folder / "link" / "store.c", folder / "link" / "frame.c"]
    output = folder / "slots.so"
    subprocess.run(["gcc", *strict, "-shared", "-fPIC", f"-I{folder}", *sources, "-o", output], check=True)
    return ctypes.CDLL(str(output))


@pytest.fixture(scope="module")
def look(library: ctypes.CDLL) -> Look:
    def look(first: bytes, second: bytes, unit: int = 8) -> tuple[tuple[str, str], bytes]:
        states, taken = ctypes.create_string_buffer(2), ctypes.create_string_buffer(29)
        library.look(first + second, 2 * SIZE, unit, states, taken)
        return (SLOT_STATES[states.raw[0]], SLOT_STATES[states.raw[1]]), taken.raw

    return look


def made(
    payload: bytes = SET, unit: int = 8, model: int = MODEL, plan: int = PLAN, sequence: int = 1
) -> bytes:
    return slot(header(payload, model, plan, sequence), payload, unit, SIZE)


def with_more_ones(data: bytes, first: int, end: int, share: float, draw: random.Random) -> bytes:
    """Return `data` with a part of the 0 bits in these bytes as 1: programming or erasing has been cut."""
    torn = bytearray(data)
    for bit in range(8 * first, 8 * end):
        if draw.random() < share:
            torn[bit // 8] |= 1 << bit % 8
    return bytes(torn)


@pytest.mark.parametrize("unit", UNITS)
def test_a_slot_of_the_described_format_is_taken(unit: int, look: Look) -> None:
    assert look(made(unit=unit), ERASED, unit) == (("newest", "empty"), SET)
    assert look(ERASED, made(unit=unit), unit) == (("empty", "newest"), SET)
    assert look(ERASED, ERASED, unit) == (("empty", "empty"), INITIAL)


@pytest.mark.parametrize(
    ("older", "newer"), [(1, 2), (7, 1000), (0x7FFFFFFF, 0x80000000), (0xFFFFFFFF, 1), (0xFFFFFFF0, 5)]
)
def test_the_newer_set_is_taken_also_when_its_number_has_wrapped(older: int, newer: int, look: Look) -> None:
    old, new = made(OTHER, sequence=older), made(sequence=newer)
    assert look(old, new) == (("older", "newest"), SET)
    assert look(new, old) == (("newest", "older"), SET)


def test_sets_of_another_model_or_plan_are_not_taken(look: Look) -> None:
    assert look(made(model=MODEL ^ 1), made(plan=PLAN ^ 1)) == (("foreign", "foreign"), INITIAL)
    assert look(made(sequence=9, plan=PLAN ^ 1), made(sequence=2)) == (("foreign", "newest"), SET)
    assert look(made(SET[:-1]), made(SET + b"1")) == (("foreign", "foreign"), INITIAL)


def test_every_single_wrong_bit_is_noticed(look: Look) -> None:
    good, fallback = made(sequence=2), made(OTHER, sequence=1)
    for bit in range(8 * (HEADER_BYTES + len(SET))):
        wrong = bytearray(good)
        wrong[bit // 8] ^= 1 << bit % 8
        assert look(bytes(wrong), fallback) == (("broken", "newest"), OTHER)


def test_two_wrong_bits_that_leave_the_count_as_it_is_are_noticed(look: Look) -> None:
    good, fallback = made(bytes([0x55] * 29), sequence=2), made(OTHER, sequence=1)
    for at in range(HEADER_BYTES, HEADER_BYTES + len(SET)):
        wrong = bytearray(good)
        wrong[at] ^= 0b11
        assert look(bytes(wrong), fallback) == (("broken", "newest"), OTHER)


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 0.7, 0.98])
def test_whatever_a_cut_leaves_of_a_header_or_of_an_erased_slot_is_refused(share: float, look: Look) -> None:
    draw, fallback = random.Random(share), made(OTHER, sequence=1)
    for number in range(400):
        good = made(draw.randbytes(29), sequence=2)
        first, end = ((0, HEADER_BYTES), (HEADER_BYTES, SIZE), (0, SIZE))[number % 3]
        torn = with_more_ones(good, first, end, share, draw)
        if torn != good:
            (state, other), taken = look(torn, fallback)
            assert state in ("broken", "empty")
            assert (other, taken) == ("newest", OTHER)


@pytest.mark.parametrize("missing", [1, -1, 8])
def test_a_header_with_a_right_crc_and_a_wrong_count_is_refused(missing: int, look: Look) -> None:
    head = header(SET, MODEL, PLAN, missing_zeros=missing)
    assert look(slot(head, SET, 8, SIZE), ERASED) == (("broken", "empty"), INITIAL)


def test_a_header_that_claims_more_than_a_slot_is_not_followed(look: Look) -> None:
    head = header(bytes(100_000), MODEL, PLAN)
    assert look(slot(head, SET, 8, SIZE), ERASED) == (("broken", "empty"), INITIAL)


def test_a_save_that_the_flash_does_not_keep_is_noticed(library: ctypes.CDLL, look: Look) -> None:
    head = -(-HEADER_BYTES // 4) * 4
    failed = 0
    for bit in range(8 * (head + len(SET))):
        area = ctypes.create_string_buffer(made(SET, 4, sequence=6) + ERASED, 2 * SIZE)
        result = library.save(area, 8 * SIZE + bit, 0)
        states, taken = look(area.raw[:SIZE], area.raw[SIZE:], 4)
        if result == DONE:
            assert (states, taken) == (("older", "newest"), OTHER)
        else:
            failed += 1
            assert result == FAILED
            assert states[0] == "newest"
            assert taken == SET
    assert failed > 8 * len(SET)  # all bits of the set, which are 0, and the header's 0 bits


def test_the_smaller_loss_is_better_and_no_number_is_worst(library: ctypes.CDLL) -> None:
    def better(before: float, after: float) -> bool:
        return bool(library.is_better(ctypes.c_float(before), ctypes.c_float(after)))

    assert better(1.0, 0.5)
    assert not better(0.5, 1.0)
    assert not better(0.5, 0.5)
    assert not better(0.5, math.nan)
    assert not better(math.nan, math.nan)
    assert better(math.nan, 3.0)
    assert better(math.inf, 3.0)

"""bf16 in C and on the host against torch.bfloat16, for every pattern and every way to round."""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from fleet import RUNTIME
from numpy.typing import NDArray

from boards.building import LANGUAGE, SANITIZERS
from firmware_gen.bf16 import from_bf16, to_bf16

PATTERNS = np.arange(1 << 16, dtype=np.uint16)
# Below, at and above the middle between two neighbours, next to either, and between.
REMAINDERS = (0, 1, 0x1234, 0x7FFF, 0x8000, 0x8001, 0xFEDC, 0xFFFF)
FLOATS = (PATTERNS[:, None].astype(np.uint32) << 16 | np.array(REMAINDERS, np.uint32)).reshape(-1)
SOURCE = """
#include "kernels/bf16.h"
#include <stdio.h>
int main(void) {
    uint32_t bits;
    for (uint32_t k = 0; k < 0x10000u; k++) {
        bits = ft_float_to_bits(ft_bf16_to_float((uint16_t)k));
        fwrite(&bits, sizeof bits, 1, stdout);
    }
    while (fread(&bits, sizeof bits, 1, stdin) == 1) {
        const uint16_t rounded = ft_float_to_bf16(ft_bits_to_float(bits));
        fwrite(&rounded, sizeof rounded, 1, stdout);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """All bf16 patterns as floats, and FLOATS rounded."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("bf16")
    (folder / "main.c").write_text(SOURCE)
    command = [compiler, *LANGUAGE, *SANITIZERS, "-I", str(RUNTIME), "main.c", "-o", "main"]
    subprocess.run(command, cwd=folder, check=True)
    out = subprocess.run([folder / "main"], input=FLOATS.tobytes(), capture_output=True, check=True).stdout
    size = 4 * PATTERNS.size
    return np.frombuffer(out[:size], np.float32), np.frombuffer(out[size:], np.uint16)


def rounded_by_torch() -> NDArray[np.uint16]:
    values = torch.from_numpy(FLOATS.view(np.float32).copy())
    return values.bfloat16().view(torch.int16).numpy().view(np.uint16)


def assert_rounded_as_torch(found: NDArray[np.uint16]) -> None:
    nan = np.isnan(FLOATS.view(np.float32))
    assert np.array_equal(found[~nan], rounded_by_torch()[~nan])
    assert np.isnan(from_bf16(found[nan])).all()


def test_floats_are_rounded_to_the_nearest_in_c(
    in_c: tuple[NDArray[np.float32], NDArray[np.uint16]],
) -> None:
    assert_rounded_as_torch(in_c[1])


def test_floats_are_rounded_to_the_nearest_on_the_host() -> None:
    assert_rounded_as_torch(to_bf16(FLOATS.view(np.float32)))


def test_every_pattern_becomes_its_float(in_c: tuple[NDArray[np.float32], NDArray[np.uint16]]) -> None:
    expected = torch.from_numpy(PATTERNS.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    for found in (in_c[0], from_bf16(PATTERNS)):
        assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_what_is_bf16_already_stays() -> None:
    nan = np.isnan(from_bf16(PATTERNS))
    assert np.array_equal(to_bf16(from_bf16(PATTERNS))[~nan], PATTERNS[~nan])

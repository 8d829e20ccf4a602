"""The kernels stay as short as docs/benchmarks.md says: instructions a multiply-accumulate, exact in QEMU.

The bounds are those that the project has set itself; CMSIS-NN's and PULP-TrainLib's counts lie above them.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMPILERS, TESTED = ("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc"), "12."
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
M4 = {"a": 1.5, "b": 1.5, "c": 1.3, "d": 5.0, "e": 1.5, "f": 2.8, "g": 1.2}
M4_WIDE = {"c": 1.12, "g": 1.05}
M55 = {"a": 0.3, "b": 0.28, "c": 0.28, "d": 1.6, "e": 0.45, "f": 1.0, "g": 0.25}
RV32 = {"a": 3.0, "b": 3.0, "c": 2.8, "d": 9.0, "e": 3.5, "f": 5.0, "g": 2.8}
INT8 = {"mps2_an386": M4, "mps3_an547": M55, "qemu_riscv32": RV32}
FLOAT = {"pw": (1.6, 1.6, 1.6), "pw2": (1.6, 1.6, 1.6), "conv": (2.0, 2.2, 2.0), "dw": (5.0, 2.7, 5.0)}


@pytest.fixture(autouse=True)
def tested_compilers() -> None:
    """Skip where other compilers allocate registers in another way than the one that was counted."""
    for compiler in COMPILERS:
        path = shutil.which(compiler)
        assert path is not None, f"{compiler} is not installed"
        version = subprocess.run([path, "-dumpversion"], capture_output=True, text=True, check=True).stdout
        if not version.startswith(TESTED):
            pytest.skip(f"{compiler} is {version.strip()}; the counts are those of GCC {TESTED}x")


def _measure(script: str, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    assert all(row.get("equal", True) for row in rows)
    return rows


@pytest.mark.parametrize("layers", ["c,d", pytest.param("a,b,e,f,g", marks=pytest.mark.long)])
def test_int8_layers(layers: str) -> None:
    for row in _measure("kernels.py", "--layers", layers, "--boards", ",".join(INT8)):
        assert row["per_mac"] <= INT8[row["board"]][row["layer"]], row


@pytest.mark.parametrize("layers", ["c", pytest.param("g", marks=pytest.mark.long)])
def test_int8_layers_with_weights_twice_as_wide(layers: str) -> None:
    arguments = ("--layers", layers, "--boards", "mps2_an386", "--prefer", "speed")
    for row in _measure("kernels.py", *arguments):
        assert row["per_mac"] <= M4_WIDE[row["layer"]], row


@pytest.mark.parametrize("layers", ["pw", pytest.param("dw,pw2,conv", marks=pytest.mark.long)])
def test_float_layers_that_learn(layers: str) -> None:
    for row in _measure("training_kernels.py", "--layers", layers, "--boards", "mps2_an386"):
        found = (row["forward"], row["dX"], row["dW"])
        assert all(count <= bound for count, bound in zip(found, FLOAT[row["layer"]], strict=True)), row


@pytest.mark.long
def test_a_step_of_mcunet() -> None:
    # TinyEngine takes some 226 KB and 123.3 million instructions (on a Cortex-M4).
    pytest.importorskip("torch")
    (row,) = _measure("mcunet.py", "--boards", "mps2_an500")
    assert row["instructions"] <= 110_000_000
    assert row["ram_bytes"] + row["stack_reserved"] <= 200 * 1024
    assert row["stack_bytes"] <= row["stack_reserved"]

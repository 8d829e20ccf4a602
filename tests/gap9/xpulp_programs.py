"""Programs with Xpulp's instructions, on this computer and in the simulator."""

import functools
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "firmware_gen" / "runtime" / "kernels"
sys.path.insert(0, str(ROOT / "tools" / "xpulp_iss"))

import simulator  # noqa: E402

HOST_FLAGS = ("-std=gnu99", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@functools.cache
def simulator_program() -> Path:
    """Return the simulator, compiled once for this process."""
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    return simulator.build_simulator(Path(folder.name))


_kept: list[tempfile.TemporaryDirectory[str]] = []


def host_program(source: Path, program: Path, flags: Sequence[str] = ()) -> Path:
    """Compile a C file for this computer."""
    command = ["gcc", *HOST_FLAGS, *flags, f"-I{KERNELS}", str(source), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    return program


def on_host(program: Path, given: bytes) -> bytes:
    return subprocess.run([str(program)], input=given, capture_output=True, check=True).stdout


def in_simulator(program: Path, given: bytes = b"") -> bytes:
    return simulator.run(simulator_program(), program, given)

"""Builds the simulators and programs for xpulp_iss, and runs generated models there.

The compiler is Debian's for RV32IMC, which knows no Xpulp: kernels use their `.insn` back end.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boards import Board, load_board
from boards.building import BARE_METAL, CODE
from boards.description import PORTS
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan
from firmware_gen.project import write_project

HERE = Path(__file__).parent
INFER = HERE / "infer.c"
HOST_COMPILER, COMPILER = "gcc", "riscv64-unknown-elf-gcc"
HOST_FLAGS = ("-std=gnu99", "-O1", "-ffp-contract=off", "-fno-strict-aliasing")
TARGET = ("-march=rv32imc", "-mabi=ilp32", "-DFT_XPULP_INSN")
WARNINGS = ("-Wall", "-Wextra", "-Werror")

NUMPY_TYPES = {"f32": np.float32, "u8": np.uint8, "i8": np.int8, "i32": np.int32}

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Answer:
    """The output tensors for a sample, and the instructions of each step of the plan."""

    outputs: dict[str, NDArray[np.generic]]
    instructions: tuple[int, ...]


def board(folder: Path) -> Board:
    """Return a board that is this computer, but whose kernels are those for Xpulp."""
    description = folder / "xpulp.toml"
    description.write_text('extends = "native"\nid = "xpulp"\nname = "Xpulp in portable C"\nxpulp = true\n')
    return load_board(description)


def build_simulator(folder: Path, machine: str = "xpulp_iss") -> Path:
    """Compile the simulator of one core, or of the chip "pulp_open", for this computer; return its path."""
    program = folder / machine
    flags = ("-O2", "-flto", "-std=gnu11", "-ffp-contract=off", *WARNINGS)
    sources = (HERE / name for name in ("core.c", "program.c", f"{machine}.c"))
    _compile(HOST_COMPILER, *flags, *sources, "-o", program, "-lm")
    return program


def stand_in_for_gvsoc(folder: Path, l1_bytes: int) -> Path:
    """Make a command "gvsoc" in `folder`, which runs a program of board pulp_open as GVSOC does.

    Returns the file in which the chip's cores show their counts while a program runs; see `read_counts`.
    """
    counts = folder / "counts"
    command = (build_simulator(folder, "pulp_open"), "--counts", counts, "--l1", l1_bytes)
    script = folder / "gvsoc"
    script.write_text(_GVSOC.format(command=shlex.join(map(str, command))))
    script.chmod(0o755)
    return counts


# What comes before and behind the program says what GVSOC is to be and where it may write.
_GVSOC = """#!/bin/sh
while [ "$1" != --binary ]; do shift; done
exec {command} "$2"
"""


@dataclass(frozen=True)
class CoreCounts:
    """Instructions of a core of pulp_open, and the lowest address of its stack pointer."""

    instructions: int
    lowest_stack: int


def read_counts(path: Path) -> list[CoreCounts]:
    """Return the counts of the eight workers, the master, the fabric controller; see `stand_in_for_gvsoc`."""
    return [CoreCounts(*map(int, row)) for row in np.fromfile(path, np.uint64).reshape(-1, 2)]


def build_program(sources: Sequence[Path], program: Path, flags: Sequence[str] = ()) -> Path:
    """Compile C files, which may include "system.h", into `program`."""
    bare = PORTS / "freestanding"
    # No relaxation: what is counted does not depend on where the linker puts things.
    link = ("-nostdlib", "-mno-relax", "-Wl,--no-warn-rwx-segments", "-T", HERE / "program.ld")
    own = (HERE / "start.s", bare / "memory.c", PORTS / "soft_float" / "soft_float.c")
    compiling = (*TARGET, *CODE, *BARE_METAL, *WARNINGS, *flags, f"-I{HERE}", f"-I{bare}")
    _compile(COMPILER, *compiling, *link, *own, *sources, "-o", program, "-lgcc")
    return program


def build_host_program(sources: Sequence[Path], program: Path, flags: Sequence[str] = ()) -> Path:
    """Compile the same for this computer."""
    _compile(HOST_COMPILER, *HOST_FLAGS, *WARNINGS, *flags, "-I", HERE, *sources, "-o", program, "-lm")
    return program


def _compile(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def run(simulator: Path | None, program: Path, given: bytes = b"", profile: Path | None = None) -> bytes:
    """Return what `program` writes for the input `given`; without a simulator it is one for this computer.

    profile: where the simulator writes the instructions of each function.

    Raises:
        RuntimeError: it did what no core can do, or ended with an error.
    """
    command = [program]
    if simulator is not None:
        options = [] if profile is None else [Path("--profile"), profile]
        command = [simulator, *options, program]
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode != 0:
        raise RuntimeError(f"{program.name} ended with {done.returncode}: {done.stderr.decode().strip()}")
    return done.stdout


def build_model(plan: Plan, folder: Path, flags: Sequence[str] = (), main: Path = INFER) -> Path:
    """Generate the model of `plan` in `folder` and compile it for the simulator, with `main` on top."""
    flags = (*_flags(plan, folder), *flags)
    return build_program(_sources(plan, folder, main), folder / "model.elf", flags)


def build_host_model(plan: Plan, folder: Path, flags: Sequence[str] = (), main: Path = INFER) -> Path:
    """Do the same for this computer."""
    flags = (*_flags(plan, folder), *flags)
    return build_host_program(_sources(plan, folder, main), folder / "model", flags)


def _sources(plan: Plan, folder: Path, main: Path) -> tuple[Path, Path]:
    write_project(plan, folder)
    return folder / "model.c", main


def _flags(plan: Plan, folder: Path) -> tuple[str, ...]:
    steps = sum(step.op.phase == "forward" for step in plan.steps)
    includes = (f"-I{folder / name}" for name in (".", "runtime", "runtime/kernels"))
    return (*includes, f"-DSTEPS={steps}")


def infer(
    simulator: Path | None,
    program: Path,
    graph: Graph,
    samples: Sequence[Arrays],
    profile: Path | None = None,
) -> list[Answer]:
    """Return what the model answers to each sample; see `run`."""
    given = b"".join(sample[name].tobytes() for sample in samples for name in graph.inputs)
    text = run(simulator, program, given, profile)
    size = len(text) // len(samples)
    return [_answer(text[k * size : (k + 1) * size], graph) for k in range(len(samples))]


def _answer(text: bytes, graph: Graph) -> Answer:
    outputs: dict[str, NDArray[np.generic]] = {}
    at = 0
    for name in graph.outputs:
        tensor = graph.tensors[name]
        values = np.frombuffer(text, NUMPY_TYPES[tensor.dtype], tensor.count, at)
        outputs[name] = values.reshape(tensor.shape)
        at += values.nbytes
    return Answer(outputs, tuple(np.frombuffer(text, np.uint32, offset=at).tolist()))

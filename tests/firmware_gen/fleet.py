"""Many generated models in one program, run on this computer under the sanitizers."""

import functools
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from quick_board import PLAIN_FUNCTIONS

from boards.building import JOBS, LANGUAGE, SANITIZERS
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Tensor
from firmware_gen.plan import Plan

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "firmware_gen" / "runtime"
NUMPY_TYPES = {"f32": "<f4", "i32": "<i4", "u8": "u1", "i8": "i1", "bf16": "<u2", "i16": "<i2"}
FLOATS = ("lr", "momentum", "weight_decay", "clip_norm", "beta1", "beta2", "eps")
HYPER = np.dtype([*((name, "<f4") for name in FLOATS), ("accumulate", "<u4")])

_headers = tempfile.TemporaryDirectory(prefix="fieldtune-headers-")

Lanes = Literal["scalar", "avx2"]


def lanes_here() -> tuple[Lanes, ...]:
    """Return the code paths of lanes.h that this computer can run."""
    flags = Path("/proc/cpuinfo").read_text().split() if platform.machine() == "x86_64" else []
    return ("scalar", "avx2") if {"avx2", "fma"} <= set(flags) else ("scalar",)


def compile_program(
    sources: Sequence[Path], program: Path, lanes: Lanes, specialise: bool, sanitize: bool = True
) -> Path:
    """Compile `sources` with the project's flags and, unless told otherwise, the sanitizers.

    Unless the kernels are to be specialised for every layer, as in firmware, they are compiled as ordinary
    functions and without optimization, which takes a tenth of the time.
    """
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    flags = (*LANGUAGE, *(SANITIZERS if sanitize else ()), *(() if specialise else PLAIN_FUNCTIONS))
    if lanes == "avx2":
        flags = _with_intrinsics(compiler, (*flags, "-mavx2", "-mf16c", "-mfma"))
    objects = [program.with_name(f"{program.name}.{source.stem}.o") for source in sources]

    def compile_one(source: Path, out: Path) -> None:
        _run([compiler, *flags, "-I", str(RUNTIME), "-c", str(source), "-o", str(out)])

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(compile_one, sources, objects))
    _run([compiler, *flags, *map(str, objects), "-lm", "-o", str(program)])
    return program


@functools.cache
def _with_intrinsics(compiler: str, flags: tuple[str, ...]) -> tuple[str, ...]:
    """Return `flags` with the intrinsics, compiled: reading them takes half of a model's time."""
    folder = Path(tempfile.mkdtemp(dir=_headers.name))
    header = folder / "intrinsics.h"
    header.write_text("#include <immintrin.h>\n")
    _run([compiler, *flags, str(header), "-o", f"{header}.gch"])
    return (*flags, "-include", str(header))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Fleet:
    """Commands for several models, sent to one program; `run` returns the answers in the order of asking."""

    def __init__(self, plans: Sequence[Plan]) -> None:
        self._plans = list(plans)
        self._commands: list[bytes] = []
        self._answers: list[tuple[np.dtype[Any], tuple[int, ...]]] = []

    def build(
        self, folder: Path, lanes: Lanes = "scalar", specialise: bool = False, sanitize: bool = True
    ) -> Path:
        """Write and compile the models; return the program.

        Models that share their kernels are one source, so that each kernel is compiled once.
        """
        folder.mkdir(parents=True, exist_ok=True)
        models = {f"m{index}": model_c(plan, symbol=f"m{index}") for index, plan in enumerate(self._plans)}
        table = [
            '#include "model_api.h"',
            *(f"extern const ft_model_t {name};" for name in models),
            f"const ft_model_t *const models[] = {{{', '.join(f'&{name}' for name in models)}}};",
        ]
        if not specialise:
            models = {"models": "".join(_renamed(text, f"{name}_") for name, text in models.items())}
        sources = [HERE / "driver.c", folder / "table.c"]
        sources[1].write_text("\n".join(table) + "\n")
        for name, text in models.items():
            sources.append(folder / f"{name}.c")
            sources[-1].write_text(text)
        return compile_program(sources, folder / lanes, lanes, specialise, sanitize)

    def reset(self, model: int) -> None:
        """Initial weights, zero state and arena."""
        self._command("r", model)

    def infer(self, model: int) -> None:
        """Run the forward pass."""
        self._command("i", model)

    def step(self, model: int, accumulate: int = 1, **hyper: float) -> int:
        """Run one training step; return the number of the answer that holds the losses."""
        packed = np.zeros((), HYPER)
        for name, value in {**hyper, "accumulate": accumulate}.items():
            packed[name] = value
        self._command("s", model, packed.tobytes())
        count = sum(step.op.kind == "loss" for step in self._plans[model].steps)
        return self._answer(np.dtype("<f4"), (count,))

    def write(self, model: int, name: str, values: np.ndarray) -> None:
        """Write a tensor, whatever the shape of `values`."""
        tensor = self._tensor(model, name)
        packed = np.ascontiguousarray(values, NUMPY_TYPES[tensor.dtype])
        assert packed.nbytes == tensor.bytes, name
        self._command("w", model, _named(name) + packed.tobytes())

    def read(self, model: int, name: str) -> int:
        """Read a tensor; return the number of the answer."""
        tensor = self._tensor(model, name)
        self._command("g", model, _named(name))
        return self._answer(np.dtype(NUMPY_TYPES[tensor.dtype]), tensor.shape)

    def intact(self, model: int) -> int:
        """Ask whether the arena's guards are untouched; return the number of the answer."""
        self._command("k", model)
        return self._answer(np.dtype("u1"), ())

    def run(self, program: Path) -> list[np.ndarray]:
        """Run the commands from the start; return the answers."""
        done = subprocess.run(
            [program], input=b"".join(self._commands), capture_output=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr.decode()
        values, at = [], 0
        for dtype, shape in self._answers:
            count = int(np.prod(shape))
            values.append(np.frombuffer(done.stdout, dtype, count, at).reshape(shape))
            at += count * dtype.itemsize
        assert at == len(done.stdout)
        return values

    def _command(self, code: str, model: int, rest: bytes = b"") -> None:
        self._commands.append(code.encode() + model.to_bytes(2, "little") + rest)

    def _answer(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
        self._answers.append((dtype, shape))
        return len(self._answers) - 1

    def _tensor(self, model: int, name: str) -> Tensor:
        graph = self._plans[model].graph
        if name in graph.constants:
            return graph.learned(name)
        return graph.state[name] if name in graph.state else graph.tensors[name]


def _renamed(source: str, prefix: str) -> str:
    """Return a generated file with `prefix` before all names that are its own, for files that become one."""
    declared = (
        r"^(?:static|FT_STEP|\}) [^;={\n]*?\b(?!__|always_inline)(\w+)(?=[\[(;]| =| __attribute__\(\(aligned)"
    )
    own = {*re.findall(declared, source, re.MULTILINE)}

    def rename(found: re.Match[str]) -> str:
        return prefix + found[0] if found[0] in own else found[0]

    return re.sub(r'"[^"]*"|(?<![.>\w])[A-Za-z_]\w*', rename, source)


def _named(name: str) -> bytes:
    return len(name.encode()).to_bytes(1, "little") + name.encode()

"""Firmware from a C project: compile, link, measure. Nothing is done twice, nothing is left half-done."""

import hashlib
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from boards.board import Board
from boards.memory_map import read_memory_map
from fieldtune.errors import BoardError
from fieldtune.files import write_text

OPTIMIZATION = "-O2"
# What the generated C means by itself, in whatever build it is compiled.
CODE = (
    "-std=gnu99",
    OPTIMIZATION,
    "-ffp-contract=off",  # a product and a sum stay two roundings; one rounding is asked for with fmaf
    "-fno-math-errno",  # sqrtf is one instruction
    "-fno-strict-aliasing",  # the arena holds values of one type after another in the same bytes
    "-ffunction-sections",
    "-fdata-sections",
)
LANGUAGE = (*CODE, "-fstack-usage", "-Wall", "-Wextra", "-Werror")
# -fbuiltin after -ffreestanding: no C library is needed, yet small copies are still expanded in place.
BARE_METAL = ("-ffreestanding", "-fbuiltin", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
# The loops over floats need almost every register and are in order already: no scheduling before registers
# are allocated (another one comes after). GCC 12 finds none for their assembly otherwise.
FLOATS = ("-fno-schedule-insns",)
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g")
THREAD_SANITIZER = ("-fsanitize=thread", "-fno-omit-frame-pointer", "-g")
L3_FILE = "model_l3.bin"  # of a project: what its firmware has in L3, outside the chip
INCLUDE_FOLDERS = (".", "runtime", "runtime/kernels", "runtime/link", "port")
JOBS = 2

# What finds mistakes while the firmware runs: addresses and undefined behaviour, or races between threads.
Sanitizer = Literal["address", "thread"]
Sign = Literal["signed", "unsigned"]


@dataclass(frozen=True)
class Firmware:
    """A linked firmware and what it takes, in bytes.

    `text_bytes` is code and constants, `data_bytes` initialised and `bss_bytes` zeroed static data. `symbols`
    holds the sizes of named functions and objects, `stack_frames` the frame of every function as the compiler
    states it.
    """

    elf: Path
    map: Path
    text_bytes: int
    data_bytes: int
    bss_bytes: int
    symbols: dict[str, int]
    stack_frames: dict[str, int]

    @property
    def flash_bytes(self) -> int:
        """Code, constants and initial values."""
        return self.text_bytes + self.data_bytes

    @property
    def ram_bytes(self) -> int:
        """Static data, without the stack."""
        return self.data_bytes + self.bss_bytes


def build(
    project: Path, board: Board, *, sanitize: bool | Sanitizer = False, char: Sign | None = None
) -> Firmware:
    """Compile and link all C files of `project` into ``project/build/firmware.elf``.

    Nothing is compiled when sources, flags and compiler are those of the last build. `sanitize` builds for
    a sanitizer (boards that are processes of this computer only); True is "address". `char` chooses the sign
    of C's char, which is the board's otherwise.

    Raises:
        BoardError: no compiler, an error in a source file, a firmware that does not fit into the board, or
            that only the vendor's kit can build.
    """
    if board.kit is not None:
        raise BoardError(
            f"firmware for {board.id} is built by the vendor's kit, {board.kit}, not here; write its project "
            "with: fieldtune build -o DIR, and follow DIR/README.md"
        )
    compiler = _compiler(board)
    flags = (*_flags(board, sanitize), *(() if char is None else (f"-f{char}-char",)))
    folder = project / "build"
    folder.mkdir(parents=True, exist_ok=True)
    elf, fingerprint_file = folder / "firmware.elf", folder / "fingerprint"
    fingerprint = _fingerprint(project, compiler, flags)
    if not (elf.exists() and fingerprint_file.exists() and fingerprint_file.read_text() == fingerprint):
        fingerprint_file.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".objects-") as scratch:
            _build_in(project, Path(scratch).relative_to(project), board, compiler, flags)
        write_text(fingerprint_file, fingerprint)
    firmware = _measure(elf)
    if not sanitize:  # what a sanitizer adds around every array is not the firmware's
        _check_size(firmware, board)
    return firmware


def has_compiler(board: Board) -> bool:
    """Tell whether firmware for `board` can be built here."""
    return bool(board.port) and board.kit is None and shutil.which(_compiler_name(board)) is not None


def compiler_version(board: Board) -> str | None:
    """Return the first line of what the board's compiler says of itself; None if it says nothing.

    Raises:
        BoardError: it is not installed.
    """
    return next(iter(_version(_compiler(board)).splitlines()), None)


def _version(compiler: str) -> str:
    return subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout


def _compiler_name(board: Board) -> str:
    return f"{board.compiler.prefix}gcc"


def _compiler(board: Board) -> str:
    path = shutil.which(_compiler_name(board))
    if path is None:
        package = board.compiler.package
        hint = f", for example with: apt-get install {package}" if package else " with the vendor's kit"
        raise BoardError(
            f"the compiler {_compiler_name(board)} for board {board.id} is not installed; install it{hint}"
        )
    return path


def _flags(board: Board, sanitize: bool | Sanitizer) -> tuple[str, ...]:
    if board.arch != "host":
        if sanitize:
            raise BoardError(f"the sanitizers run on this computer only, not on {board.id}; build for native")
        return (*LANGUAGE, *BARE_METAL, *(FLOATS if board.fpu else ()), *board.compiler.flags)
    found = THREAD_SANITIZER if sanitize == "thread" else SANITIZERS if sanitize else ()
    return (*LANGUAGE, *board.compiler.flags, *_host_vector_flags(), *found)


def _host_vector_flags() -> tuple[str, ...]:
    """Return the flags for fused multiply-adds and vectors, where this computer has them."""
    if platform.machine() != "x86_64":
        return ()
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    has = set(flags[1].split()) if flags else set()
    return ("-mavx2", "-mf16c", "-mfma") if {"avx2", "f16c", "fma"} <= has else ()


def _sources(project: Path) -> list[Path]:
    """Return all C files and headers and linker scripts of the project, sorted, relative to it."""
    found = (path.relative_to(project) for path in project.rglob("*") if path.suffix in (".c", ".h", ".ld"))
    return sorted(path for path in found if path.parts[0] != "build")


def _fingerprint(project: Path, compiler: str, flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256(shlex.join([compiler, _version(compiler), *flags]).encode())
    for source in _sources(project):
        content = (project / source).read_bytes()
        digest.update(f"\0{source}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _build_in(project: Path, scratch: Path, board: Board, compiler: str, flags: tuple[str, ...]) -> None:
    """Compile in `scratch` (relative to `project`), then move the results to ``build/``, the ELF last."""
    sources = [source for source in _sources(project) if source.suffix == ".c"]
    if not sources:
        raise BoardError(f"{project} has no C files; give the folder that was generated for the board")
    objects = [scratch / f"{'__'.join(source.with_suffix('').parts)}.o" for source in sources]
    includes = [f"-I{folder}" for folder in INCLUDE_FOLDERS]
    commands = [
        [compiler, *flags, *includes, "-c", str(source), "-o", str(output)]
        for source, output in zip(sources, objects, strict=True)
    ]
    results = _run_all(commands, project)
    linked = scratch / "firmware.elf"
    if all(result.returncode == 0 for result in results):
        results += _run_all([_link_command(board, compiler, flags, objects, linked)], project)
    log = project / "build" / "compiler.log"
    write_text(log, "".join(f"$ {shlex.join(result.args)}\n{result.stderr}" for result in results))
    for result in results:
        if result.returncode != 0:
            raise _build_error(result.stderr, board, log)
    _write_stack_frames(project / scratch, project / "build" / "stack_frames.txt")
    for made in (linked.with_suffix(".map"), linked):
        (project / made).replace(project / "build" / made.name)


def _run_all(commands: list[list[str]], folder: Path) -> "list[subprocess.CompletedProcess[str]]":
    """Run `commands` in `folder`, JOBS at a time; on Ctrl-C those not yet begun are not begun."""
    executor = ThreadPoolExecutor(JOBS)
    try:
        return list(
            executor.map(
                lambda command: subprocess.run(
                    command, cwd=folder, capture_output=True, text=True, check=False
                ),
                commands,
            )
        )
    finally:
        executor.shutdown(cancel_futures=True)


def _link_command(
    board: Board, compiler: str, flags: tuple[str, ...], objects: list[Path], elf: Path
) -> list[str]:
    command = [compiler, *flags, *map(str, objects), "-o", str(elf)]
    command += ["-Wl,--gc-sections", f"-Wl,-Map={elf.with_suffix('.map')}"]
    if board.arch == "host":
        return [*command, "-lm"]
    return [*command, "-nostdlib", "-T", "port/link.ld", "-lgcc"]


def _build_error(stderr: str, board: Board, log: Path) -> BoardError:
    overflow = re.search(r"region `(\w+)' overflowed by (\d+) bytes", stderr)
    if overflow:
        return BoardError(
            f"the firmware does not fit into {board.id}: region '{overflow[1]}' is "
            f"{int(overflow[2]):,} bytes too small; let fewer layers learn, or take a smaller network or a "
            "larger board"
        )
    lines = [line for line in stderr.splitlines() if line.strip()] or ["the compiler gives no reason"]
    line = next(
        (line for line in lines if re.search(r"error: |undefined reference|multiple def", line)), lines[-1]
    )
    return BoardError(f"the firmware for {board.id} does not compile: {line}; all messages are in {log}")


def _write_stack_frames(scratch: Path, output: Path) -> None:
    """Gather the compiler's .su files (place:function, bytes, kind) into one, largest frame first."""
    frames: dict[str, int] = {}
    for path in scratch.glob("*.su"):
        for line in path.read_text().splitlines():
            place, size, _ = line.split("\t")
            function = place.rsplit(":", 1)[1]
            frames[function] = max(int(size), frames.get(function, 0))
    ordered = sorted(frames.items(), key=lambda item: (-item[1], item[0]))
    write_text(output, "".join(f"{name}\t{size}\n" for name, size in ordered))


def _measure(elf: Path) -> Firmware:
    placed = read_memory_map(elf)
    frames = (line.split("\t") for line in (elf.parent / "stack_frames.txt").read_text().splitlines())
    return Firmware(
        elf=elf,
        map=elf.with_suffix(".map"),
        text_bytes=placed.bytes("text"),
        data_bytes=placed.bytes("data"),
        bss_bytes=placed.bytes("bss"),
        symbols={symbol.name: symbol.bytes for symbol in placed.symbols},
        stack_frames={name: int(size) for name, size in frames},
    )


def _check_size(firmware: Firmware, board: Board) -> None:
    """Refuse what no linker script could: a process has no regions."""
    needed, there = firmware.ram_bytes + board.stack_bytes, board.ram_bytes
    if needed > there:
        raise BoardError(
            f"the firmware does not fit into {board.id}: it needs {needed:,} bytes of RAM with its stack, "
            f"and there are {there:,}; let fewer layers learn or take a smaller network"
        )

"""Board descriptions: one TOML file a board, read strictly: a slip is found before it costs a build."""

import dataclasses
import difflib
import itertools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

from boards.board import (
    Arch,
    Board,
    Compiler,
    Emulator,
    FpuKind,
    HostKind,
    Marks,
    MemoryRegion,
    Power,
    RegionKind,
    Sensors,
    Serial,
    Store,
    Usb,
    pin_number,
)
from boards.flashing import RUNNERS, Runner
from fieldtune.errors import BoardError

SHIPPED = Path(__file__).parent / "descriptions"
PORTS = Path(__file__).parent / "ports"

STORE_UNITS = (1, 2, 4, 8, 16, 32)

T = TypeVar("T")


def board_names() -> list[str]:
    """Return the names of the boards that come with Fieldtune, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_board(name_or_path: str | Path) -> Board:
    """Return the board of that name, or the one that a TOML file of the user's describes.

    Raises:
        BoardError: no such board or file, or the description is wrong; names the file and the key.
    """
    path = _find(str(name_or_path))
    return _board(_Table(_merged(path, seen=()), str(path), ""), path.parent)


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise BoardError(f"there is no board file {path}; give an existing .toml file or a board's name")
        return path
    if name_or_path in board_names():
        return SHIPPED / f"{name_or_path}.toml"
    hint = _closest(name_or_path, board_names())
    raise BoardError(
        f"there is no board '{name_or_path}'{hint}; the boards are {', '.join(board_names())}, "
        "or give a .toml file of your own"
    )


def _closest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=2)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _merged(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return the keys of `path` on top of those of the board that it extends."""
    if path.resolve() in seen:
        raise BoardError(
            f"{path}: 'extends' leads back to this file; name a board that does not extend this one"
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BoardError(f"cannot read the board file {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BoardError(f"{path} is not valid TOML: {error}") from error
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise BoardError(f"{path}: 'extends' must be a board's name or a .toml file, not {base!r}")
    base_path = path.parent / base if base.endswith(".toml") else _find(base)
    below = _merged(base_path, (*seen, path.resolve()))
    below.pop("marks", None)  # driven pins: another board may have something else there that drives them
    return _overlaid(below, content)


def _overlaid(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        merged[key] = (
            _overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
        )
    return merged


class _Table:
    """One table of a description; what is not taken from it by the time of `finish` is unknown."""

    def __init__(self, content: dict[str, Any], file: str, prefix: str) -> None:
        self._content = dict(content)
        self._known: list[str] = []
        self._file = file
        self._prefix = prefix

    def error(self, key: str, problem: str) -> BoardError:
        return BoardError(f"{self._file}: '{self._prefix}{key}' {problem}")

    def _take(self, key: str, required: bool) -> Any:
        self._known.append(key)
        if required and key not in self._content:
            raise self.error(key, "is missing")
        return self._content.pop(key, None)

    def text(self, key: str) -> str:
        value = self._take(key, required=True)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._take(key, required=True)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of strings, not {value!r}")
        return tuple(value)

    def number(self, key: str, least: int = 0) -> int:
        value = self._take(key, required=True)
        if type(value) is not int or value < least:
            raise self.error(key, f"must be a whole number, {least} or more, not {value!r}")
        return value

    def positive(self, key: str) -> float:
        value = self._take(key, required=True)
        if type(value) not in (int, float) or value <= 0:
            raise self.error(key, f"must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, key: str) -> bool:
        value = self._take(key, required=False)
        if not isinstance(value, bool | None):
            raise self.error(key, f"must be true or false, not {value!r}")
        return bool(value)

    def choice(self, key: str, kind: Any) -> Any:
        return self._checked_choice(key, self._take(key, required=True), kind)

    def choices(self, key: str, kind: Any) -> tuple[Any, ...]:
        return tuple(self._checked_choice(key, value, kind) for value in self.texts(key))

    def _checked_choice(self, key: str, value: Any, kind: Any) -> Any:
        allowed = get_args(kind)
        if value not in allowed:
            raise self.error(key, f"must be {_either(allowed)}, not {value!r}")
        return value

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        self._known.append(key)
        return read(key) if key in self._content else None

    def table(self, key: str) -> "_Table":
        value = self._take(key, required=True)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table ([{self._prefix}{key}]), not {value!r}")
        return _Table(value, self._file, f"{self._prefix}{key}.")

    def entries(self) -> list[str]:
        return list(self._content)

    def finish(self) -> None:
        for key in self._content:
            hint = _closest(key, self._known)
            raise self.error(
                key, f"is not a key of a board description{hint}; allowed: {', '.join(self._known)}"
            )


def _either(allowed: tuple[str, ...]) -> str:
    quoted = [f'"{value}"' for value in allowed]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _board(table: _Table, folder: Path) -> Board:
    port = table.optional("port", lambda key: _port(table, folder)) or ()
    board = Board(
        id=table.text("id"),
        name=table.text("name"),
        vendor=table.text("vendor"),
        mcu=table.text("mcu"),
        core=table.text("core"),
        arch=table.choice("arch", Arch),
        clock_hz=table.optional("clock_hz", lambda key: table.number(key, least=1)),
        fpu=table.optional("fpu", lambda key: table.choice(key, FpuKind)),
        dsp=table.flag("dsp"),
        mve=table.flag("mve"),
        xpulp=table.flag("xpulp"),
        port=port,
        stack_bytes=table.number("stack_bytes", least=512),
        rx_ring_bytes=table.number("rx_ring_bytes", least=16),
        port_ram_bytes=(
            table.number("port_ram_bytes") if port else table.optional("port_ram_bytes", table.number) or 0
        ),
        runs_in=table.optional("runs_in", lambda key: table.choices(key, HostKind)) or (),
        sources=table.optional("sources", lambda key: _sources(table.table(key))) or {},
        regions=_regions(table.table("regions")),
        compiler=_compiler(table.table("compiler")),
        emulator=table.optional("emulator", lambda key: _emulator(table.table(key))),
        serial=table.optional("serial", lambda key: _serial(table.table(key))),
        usb=table.optional("usb", lambda key: _usb(table.table(key))),
        flash_runners=table.optional("flash", lambda key: _flash_runners(table.table(key))) or (),
        power=table.optional("power", lambda key: _power(table.table(key))),
        store=table.optional("store", lambda key: _store(table.table(key))),
        marks=table.optional("marks", lambda key: _marks(table.table(key))),
        sensors=table.optional("sensors", lambda key: _sensors(table.table(key))),
    )
    table.finish()
    _check(board, table)
    return board


def _check(board: Board, table: _Table) -> None:
    """Check what concerns more than one key."""
    for kind in get_args(RegionKind):
        if not any(region.kind == kind for region in board.regions):
            raise table.error("regions", f'needs a region of kind "{kind}"')
    if board.clock_hz is not None and "clock_hz" not in board.sources:
        raise table.error("sources.clock_hz", "is missing: say where the number comes from")
    if board.runs_in and not board.port:
        raise table.error("port", 'is missing, although the board "runs_in" something')
    if "qemu" in board.runs_in and board.emulator is None:
        raise table.error("emulator", 'is missing, although the board "runs_in" qemu')
    if board.rx_ring_bytes & (board.rx_ring_bytes - 1):
        raise table.error("rx_ring_bytes", f"must be a power of two, not {board.rx_ring_bytes}")
    if board.stack_bytes % 8:
        raise table.error("stack_bytes", f"must be a multiple of 8, not {board.stack_bytes}")
    _check_apart(board, table)


def _check_apart(board: Board, table: _Table) -> None:
    if board.arch == "host":  # the process's addresses are the operating system's choice
        return
    spans = [(r.start, r.bytes, f"regions.{r.name}", f"region '{r.name}'") for r in board.regions]
    if board.store is not None:
        spans.append((board.store.start, board.store.bytes, "store", "the store"))
    for (start, size, _, below), (above, _, key, _) in itertools.pairwise(sorted(spans)):
        if start + size > above:
            raise table.error(f"{key}.start", f"lies inside {below}")


def _port(table: _Table, folder: Path) -> tuple[Path, ...]:
    """Return the port's folders: a plain name is one of ours, one with a slash a folder beside the file."""
    found = []
    for name in table.texts("port"):
        path = folder / name if "/" in name else PORTS / name
        if not path.is_dir():
            ours = ", ".join(sorted(entry.name for entry in PORTS.iterdir() if entry.is_dir()))
            raise table.error("port", f"names '{name}', which is neither one of {ours} nor a folder (./NAME)")
        found.append(path)
    return tuple(found)


def _sources(table: _Table) -> dict[str, str]:
    return {key: table.text(key) for key in table.entries()}


def _regions(table: _Table) -> tuple[MemoryRegion, ...]:
    return tuple(_region(name, table.table(name)) for name in table.entries())


def _region(name: str, table: _Table) -> MemoryRegion:
    region = MemoryRegion(
        name=name,
        kind=table.choice("kind", RegionKind),
        start=table.number("start"),
        bytes=table.number("bytes", least=1),
        source=table.text("source"),
    )
    table.finish()
    if not name.isidentifier():
        raise table.error("", "must be a C identifier: it becomes a section's name")
    return region


def _compiler(table: _Table) -> Compiler:
    compiler = Compiler(
        prefix=table.text("prefix"),
        package=table.optional("package", table.text),
        flags=table.texts("flags"),
    )
    table.finish()
    return compiler


def _emulator(table: _Table) -> Emulator:
    emulator = Emulator(
        program=table.text("program"), package=table.text("package"), arguments=table.texts("arguments")
    )
    table.finish()
    return emulator


def _serial(table: _Table) -> Serial:
    serial = Serial(baud=table.number("baud", least=1))
    table.finish()
    return serial


def _sensors(table: _Table) -> Sensors:
    sensors = Sensors(recording=table.optional("recording", table.number))
    table.finish()
    return sensors


def _usb(table: _Table) -> Usb:
    usb = Usb(
        ids=_usb_ids(table, "ids"),
        bootloader_ids=table.optional("bootloader_ids", lambda key: _usb_ids(table, key)) or (),
        reenumerates=table.flag("reenumerates"),
        source=table.text("source"),
    )
    table.finish()
    return usb


def _usb_ids(table: _Table, key: str) -> tuple[str, ...]:
    ids = table.texts(key)
    for usb_id in ids:
        if not re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", usb_id):
            raise table.error(key, f'must hold "vendor:product" in lower-case hex, not {usb_id!r}')
    return ids


def _flash_runners(table: _Table) -> tuple[Runner, ...]:
    """Read the tables [flash.NAME]; their order is that of preference."""
    runners: list[Runner] = []
    for name in table.entries():
        if name not in RUNNERS:
            hint = _closest(name, list(RUNNERS))
            raise table.error(name, f"is no flash tool{hint}; there are {', '.join(RUNNERS)}")
        runners.append(_flash_runner(RUNNERS[name], table.table(name)))
    return tuple(runners)


def _flash_runner(runner: type[Runner], table: _Table) -> Runner:
    """Fill a runner's fields: strings (which may be absent), whole numbers, lists of strings."""
    read: dict[Any, Callable[[str], Any]] = {
        str: table.text,
        int: table.number,
        tuple[str, ...]: table.texts,
        str | None: lambda key: table.optional(key, table.text),
    }
    values = {field.name: read[field.type](field.name) for field in dataclasses.fields(runner)}
    table.finish()
    return runner(**values)


def _power(table: _Table) -> Power:
    power = Power(
        active_mw=table.positive("active_mw"),
        condition=table.text("condition"),
        source=table.text("source"),
    )
    table.finish()
    return power


def _store(table: _Table) -> Store:
    store = Store(
        start=table.number("start"),
        bytes=table.number("bytes", least=1),
        sector_bytes=table.number("sector_bytes", least=1),
        unit_bytes=table.number("unit_bytes", least=1),
        source=table.text("source"),
    )
    table.finish()
    if store.unit_bytes not in STORE_UNITS:
        raise table.error("unit_bytes", f"must be one of {', '.join(map(str, STORE_UNITS))}")
    if store.sector_bytes % store.unit_bytes:
        raise table.error("sector_bytes", f"must be a multiple of unit_bytes, {store.unit_bytes}")
    if store.bytes % (2 * store.sector_bytes):
        raise table.error("bytes", "must be an even number of sectors: two slots of whole sectors")
    if store.start % store.sector_bytes:
        raise table.error("start", f"must be a multiple of sector_bytes, {store.sector_bytes}")
    return store


def _marks(table: _Table) -> Marks:
    marks = Marks(
        work=_pin(table, "work"),
        forward=_pin(table, "forward"),
        backward=_pin(table, "backward"),
        update=_pin(table, "update"),
        source=table.text("source"),
    )
    table.finish()
    if len({marks.work, marks.forward, marks.backward, marks.update}) < 4:
        raise table.error("", "names a pin twice")
    return marks


def _pin(table: _Table, key: str) -> str:
    pin = table.text(key)
    try:
        pin_number(pin)
    except ValueError as error:
        raise table.error(key, f'must be a pin such as "PG14" or "P1.03", not {pin!r}') from error
    return pin

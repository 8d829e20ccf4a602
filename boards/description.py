"""Board descriptions: one TOML file a board, read strictly: a slip is found before it costs a build."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

from boards import tables
from boards.board import Arch, Board, FpuKind, HostKind, KitName
from boards.strict_table import StrictTable, closest
from fieldtune.errors import BoardError

SHIPPED = Path(__file__).parent / "descriptions"
PORTS = Path(__file__).parent / "ports"


def board_names() -> list[str]:
    """Return the names of the boards that come with Fieldtune, sorted."""
    return sorted(path.stem for path in SHIPPED.glob("*.toml"))


def load_board(name_or_path: str | Path) -> Board:
    """Return the board of that name, or the one that a TOML file of the user's describes.

    Raises:
        BoardError: no such board or file, or the description is wrong; names the file and the key.
    """
    path = _find(str(name_or_path))
    return _board(StrictTable(_merged(path, seen=()), str(path), ""), path.parent)


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise BoardError(f"there is no board file {path}; give an existing .toml file or a board's name")
        return path
    if name_or_path in board_names():
        return SHIPPED / f"{name_or_path}.toml"
    hint = closest(name_or_path, board_names())
    raise BoardError(
        f"there is no board '{name_or_path}'{hint}; the boards are {', '.join(board_names())}, "
        "or give a .toml file of your own"
    )


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


def _board(table: StrictTable, folder: Path) -> Board:
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
        kit=table.optional("kit", lambda key: table.choice(key, KitName)),
        stack_bytes=table.number("stack_bytes", least=512),
        rx_ring_bytes=table.number("rx_ring_bytes", least=16),
        port_ram_bytes=(
            table.number("port_ram_bytes") if port else table.optional("port_ram_bytes", table.number) or 0
        ),
        runs_in=table.optional("runs_in", lambda key: table.choices(key, HostKind)) or (),
        sources=table.optional("sources", lambda key: tables.sources(table.table(key))) or {},
        regions=tables.regions(table.table("regions")),
        compiler=tables.compiler(table.table("compiler")),
        cluster=table.optional("cluster", lambda key: tables.cluster(table.table(key))),
        emulator=table.optional("emulator", lambda key: tables.emulator(table.table(key))),
        serial=table.optional("serial", lambda key: tables.serial(table.table(key))),
        usb=table.optional("usb", lambda key: tables.usb(table.table(key))),
        flash_runners=table.optional("flash", lambda key: tables.flash_runners(table.table(key))) or (),
        power=table.optional("power", lambda key: tables.power(table.table(key))),
        store=table.optional("store", lambda key: tables.store(table.table(key))),
        marks=table.optional("marks", lambda key: tables.marks(table.table(key))),
        sensors=table.optional("sensors", lambda key: tables.sensors(table.table(key))),
    )
    table.finish()
    _check(board, table)
    return board


def _check(board: Board, table: StrictTable) -> None:
    """Check what concerns more than one key."""
    _check_kinds(board, table)
    if board.clock_hz is not None and "clock_hz" not in board.sources:
        raise table.error("sources.clock_hz", "is missing: say where the number comes from")
    if board.runs_in and not board.port:
        raise table.error("port", 'is missing, although the board "runs_in" something')
    if board.kit and not board.port:
        raise table.error("port", 'is missing, although the "kit" builds whole firmware of it')
    for kind in ("qemu", "gvsoc"):
        if kind in board.runs_in and board.emulator is None:
            raise table.error("emulator", f'is missing, although the board "runs_in" {kind}')
    if board.rx_ring_bytes & (board.rx_ring_bytes - 1):
        raise table.error("rx_ring_bytes", f"must be a power of two, not {board.rx_ring_bytes}")
    if board.l3 is not None and not board.unified:
        raise table.error("cluster.l3", 'is for a board of one "unified" region, whose constants it relieves')
    if board.stack_bytes % 8:
        raise table.error("stack_bytes", f"must be a multiple of 8, not {board.stack_bytes}")
    _check_apart(board, table)


def _check_kinds(board: Board, table: StrictTable) -> None:
    """Check that there is memory for code and memory for data: two kinds of region, or one for all."""
    kinds = {region.kind for region in board.regions}
    if "unified" not in kinds:
        for kind in ("ram", "flash"):
            if kind not in kinds:
                raise table.error("regions", f'needs a region of kind "{kind}"')
    elif len(board.regions) > 1:
        raise table.error("regions", 'has more than one region, although one is "unified": it holds all')


def _check_apart(board: Board, table: StrictTable) -> None:
    if board.arch == "host":  # the process's addresses are the operating system's choice
        return
    spans = [(r.start, r.bytes, f"regions.{r.name}", f"region '{r.name}'") for r in board.regions]
    if board.store is not None:
        spans.append((board.store.start, board.store.bytes, "store", "the store"))
    for (start, size, _, below), (above, _, key, _) in itertools.pairwise(sorted(spans)):
        if start + size > above:
            raise table.error(f"{key}.start", f"lies inside {below}")


def _port(table: StrictTable, folder: Path) -> tuple[Path, ...]:
    """Return the port's folders: a plain name is one of ours, one with a slash a folder beside the file."""
    found = []
    for name in table.texts("port"):
        path = folder / name if "/" in name else PORTS / name
        if not path.is_dir():
            ours = ", ".join(sorted(entry.name for entry in PORTS.iterdir() if entry.is_dir()))
            raise table.error("port", f"names '{name}', which is neither one of {ours} nor a folder (./NAME)")
        found.append(path)
    return tuple(found)

"""Tables of numbers with a header: Nordic's, Joulescope's and Otii's exports, and a user's own.

A column is known by its name and unit: ``Timestamp(ms)``, ``Arc Main Current (A)``, ``voltage_mv``,
``time [s]``. Columns without a unit whose cells are 0 and 1 are digital channels. Sources: Nordic's export
(pc-nrfconnect-ppk, src/actions/exportChartAction.ts) is ``Timestamp(ms),Current(uA),D0-D7`` or has a column
for each of ``D0`` to ``D7``, with ``-`` for not known and ``X`` for both, and leaves out what is NaN;
Joulescope's statistics (pyjoulescope_ui, statistics_record.py) are
``#time,current,voltage,power,charge,energy`` in SI units.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy import ppk2
from energy.trace import Trace, make_trace
from fieldtune.errors import DataError, UserError

_JOULESCOPE = "#time,current,voltage,power,charge,energy"
_UNITS = {
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "utc": 0.0},
    "current": {"a": 1.0, "ma": 1e-3, "ua": 1e-6, "na": 1e-9},
    "voltage": {"v": 1.0, "mv": 1e-3},
    "power": {"w": 1.0, "mw": 1e-3, "uw": 1e-6},
}
_UNIT = re.compile(r"\s*(?:\((\w+)\)|\[(\w+)\]|_([a-zA-Zµμ]+))$")
_HEADER_LINES = 50
_LEVELS = {b"0": 0, b"1": 1, b"-": -1, b"X": 0}
_NORDIC_BITS = "D0-D7"


@dataclass(frozen=True)
class _Column:
    at: int
    name: str
    kind: str  # a key of _UNITS, or "level"
    scale: float  # to SI units; 0 for dates


def read(path: Path, volts: float | None, columns: str | None = None) -> Trace:
    """Return the trace.

    Args:
        path: the table; cells are separated by commas, semicolons or tabs.
        volts: the supply, where the table has neither voltage nor power.
        columns: ``KIND=NAME:UNIT`` separated by commas, in the place of what the header says.

    Raises:
        DataError: the header does not tell what is what, or a cell is no number.
        UserError: `columns` cannot be read.
    """
    lines, delimiter, names = _header(path)
    found = _named(path, names, columns) if columns else _known(path, names, delimiter)
    cells = _cells(path, delimiter, lines, found)
    values = {column.kind: cells[f"f{column.at}"] for column in found if column.kind != "level"}
    scales = {column.kind: column.scale for column in found}
    times, began = _times(path, values.pop("time"), scales["time"])
    rate, index = _on_grid(path, times)
    levels: dict[str, NDArray[np.int8]] = {}
    for column in found:
        if column.kind == "level":
            levels |= _levels(column.name, cells[f"f{column.at}"])
    known = {kind: _spread(value * scales[kind], index, np.nan) for kind, value in values.items()}
    if _instrument(names, delimiter) == "Nordic PPK2":
        known["current"][known["current"] == ppk2.LOST_UA * scales["current"]] = np.nan
    return make_trace(
        path,
        _instrument(names, delimiter),
        rate,
        known["current"],
        power=known.get("power"),
        voltage=known.get("voltage"),
        volts=volts,
        levels={name: _spread(level, index, -1) for name, level in levels.items()},
        began=began,
    )


# --- the header


def _header(path: Path) -> tuple[int, str, list[str]]:
    """Return how many lines to leave out, the delimiter, and the names of the columns."""
    with path.open(encoding="utf-8", errors="replace", newline="") as stream:
        for number, line in zip(range(1, _HEADER_LINES + 1), stream, strict=False):
            text = line.strip().lstrip("\ufeff")
            if not text or (text.startswith("#") and not text.startswith(_JOULESCOPE)):
                continue
            delimiter = max(",;\t", key=text.count)
            names = [name.strip() for name in next(csv.reader([text], delimiter=delimiter))]
            if len(names) > 1 and not any(_is_number(name) for name in names):
                return number, delimiter, names
            break
    raise DataError(
        f"{path} is no trace that is known: neither .ppk2, .jls, a log of an LPM01A, nor a table whose first "
        "line names its columns, as in time(s),current(mA)"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _instrument(names: list[str], delimiter: str) -> str:
    header = delimiter.join(names)
    if header.startswith("Timestamp(ms),Current(uA)"):
        return "Nordic PPK2"
    if header == _JOULESCOPE:
        return "Joulescope"
    return "Otii" if any(re.match(r"(Arc|Ace) Main Current \(A\)", name) for name in names) else "table"


def _known(path: Path, names: list[str], delimiter: str) -> list[_Column]:
    """Return the columns that the header names."""
    joulescope = _instrument(names, delimiter) == "Joulescope"
    found: dict[str, _Column] = {}
    levels = []
    for at, name in enumerate(names):
        unit = _UNIT.search(name)
        kind = _kind(name)
        if kind is None:
            if unit is None or "_" in unit[0]:
                levels.append(_Column(at, name, "level", 1.0))
            continue
        if kind in found:
            raise DataError(
                f"{path} has two columns of {kind}, '{found[kind].name}' and '{name}'; "
                f"say which with --columns {kind}=NAME:UNIT"
            )
        symbol = (unit[1] or unit[2] or unit[3]) if unit else ""
        scale = 1.0 if joulescope else _scale(kind, symbol)
        if scale is None:
            raise DataError(
                f"{path} does not tell the unit of '{name}'; write it into the header, as in {kind}"
                f"({_first_unit(kind)}), or give --columns {kind}={name}:{_first_unit(kind)} and so on"
            )
        found[kind] = _Column(at, name, kind, scale)
    return [*_needed(path, found), *levels]


def _kind(name: str) -> str | None:
    lower = name.lower()
    if any(word in lower for word in ("energy", "charge", "range")):
        return None
    return next((kind for kind in _UNITS if kind in lower), None)


def _scale(kind: str, unit: str) -> float | None:
    return _UNITS[kind].get(unit.lower().replace("µ", "u").replace("μ", "u"))


def _first_unit(kind: str) -> str:
    return {"time": "s", "current": "A", "voltage": "V", "power": "W"}[kind]


def _named(path: Path, names: list[str], columns: str) -> list[_Column]:
    """Return the columns that the user names; all others are channels if they are 0 and 1."""
    found: dict[str, _Column] = {}
    for part in columns.split(","):
        match = re.fullmatch(r"\s*(\w+)=(.+):(\w+)\s*", part)
        scale = _scale(match[1], match[3]) if match and match[1] in _UNITS else None
        if match is None or scale is None:
            raise UserError(
                f"--columns cannot read '{part}'; write KIND=NAME:UNIT, such as time=t:ms,current=i:uA "
                "(kinds: time, current, voltage, power)"
            )
        if match[2] not in names:
            raise DataError(f"{path} has no column '{match[2]}'; it has {', '.join(names)}")
        found[match[1]] = _Column(names.index(match[2]), match[2], match[1], scale)
    taken = {column.at for column in found.values()}
    levels = [_Column(at, name, "level", 1.0) for at, name in enumerate(names) if at not in taken]
    return [*_needed(path, found), *levels]


def _needed(path: Path, found: Mapping[str, _Column]) -> list[_Column]:
    for kind in ("time", "current"):
        if kind not in found:
            raise DataError(
                f"{path} has no column of the {kind}; export it too, or name it with "
                f"--columns {kind}=NAME:UNIT"
            )
    return list(found.values())


# --- the cells


def _cells(path: Path, delimiter: str, lines: int, columns: list[_Column]) -> dict[str, NDArray[Any]]:
    """Return each column's cells under ``f`` and its number."""
    ordered = sorted(columns, key=lambda column: column.at)
    types = [(f"f{column.at}", _type(column)) for column in ordered]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a table without rows is refused below
            table = np.loadtxt(
                path,
                dtype=types,
                delimiter=delimiter,
                skiprows=lines,
                usecols=[column.at for column in ordered],
                comments=None,
                quotechar='"',
                ndmin=1,
                encoding="utf-8",
            )
    except (ValueError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0].rstrip(".;")
        raise DataError(
            f"{path} has a line that is not as its header says: {why}; export it again"
        ) from error
    if len(table) < 2:
        raise DataError(f"{path} has {len(table)} samples; record for longer")
    return {name: np.ascontiguousarray(table[name]) for name, _ in types}


def _type(column: _Column) -> str:
    if column.kind == "level":
        return "S8"
    return "f8" if column.scale else "U32"


def _levels(name: str, cells: NDArray[np.bytes_]) -> dict[str, NDArray[np.int8]]:
    """Return the levels of a column, or of Nordic's eight in one; none if it holds something else."""
    if name == _NORDIC_BITS:
        letters = cells.view("S1").reshape(len(cells), -1)
        split = {f"D{bit}": letters[:, bit] for bit in range(letters.shape[1])}
    else:
        split = {name: cells}
    if any(set(np.unique(part).tolist()) - set(_LEVELS) for part in split.values()):
        return {}
    return {key: _looked_up(part) for key, part in split.items()}


def _looked_up(cells: NDArray[np.bytes_]) -> NDArray[np.int8]:
    level = np.full(len(cells), -1, np.int8)
    for letter, value in _LEVELS.items():
        level[cells == letter] = value
    return level


# --- the times


def _times(path: Path, cells: NDArray[Any], scale: float) -> tuple[NDArray[np.float64], float | None]:
    """Return seconds, and the Unix time of the first sample where the cells are dates."""
    if scale:
        return cells * scale, None
    try:
        dates = np.char.rstrip(cells, "Z").astype("datetime64[ns]")
    except ValueError as error:
        raise DataError(f"{path} has dates that are not as in 2026-11-22T18:00:00.000250: {error}") from error
    since = (dates - dates[0]).astype(np.int64) * 1e-9
    return since, float(dates[0].astype(np.int64)) * 1e-9


def _on_grid(path: Path, times: NDArray[np.float64]) -> tuple[float, NDArray[np.int64]]:
    """Return samples a second, and the place of each sample; a gap leaves places free.

    Times are rounded when they are written, so that every distance counts for itself.
    """
    apart = np.diff(times)
    if not np.all(apart > 0):
        row = int(np.argmin(apart > 0)) + 1
        raise DataError(f"{path} has times that do not rise (sample {row + 1}); export them with more digits")
    usual = apart[apart < 1.5 * np.median(apart)].mean()
    steps = np.maximum(np.rint(apart / usual), 1).astype(np.int64)
    if steps.sum() > 100 * len(times):
        raise DataError(f"{path} is mostly gaps; export samples at an even rate")
    return 1 / float(usual), np.concatenate([[0], np.cumsum(steps)])


def _spread(values: NDArray[Any], index: NDArray[np.int64], empty: float) -> NDArray[Any]:
    spread = np.full(index[-1] + 1, empty, values.dtype)
    spread[index] = values
    return spread

"""What an instrument recorded, on an even grid of samples, whatever file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError

Floats = NDArray[np.float64]
Levels = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Trace:
    """Samples at a fixed rate; a sample that was lost has its place, and is NaN.

    Attributes:
        power: watts, shape (n,).
        current: amperes, shape (n,).
        volts: mean of the supply.
        high: level of every digital channel, shape (n,) each; a lost sample has the one before it.
        moments: the channels' falls are events, without a level between them.
        began: Unix time of the first sample in seconds, None where the file does not tell.
    """

    path: Path
    instrument: str
    rate_hz: float
    power: Floats
    current: Floats
    volts: float
    high: Mapping[str, Levels]
    moments: bool = False
    began: float | None = None

    @property
    def lost(self) -> int:
        """How many samples were lost."""
        return int(np.count_nonzero(np.isnan(self.power)))


def make_trace(
    path: Path,
    instrument: str,
    rate_hz: float,
    current: Floats,
    *,
    power: Floats | None = None,
    voltage: Floats | None = None,
    volts: float | None = None,
    levels: Mapping[str, NDArray[np.int8]] | None = None,
    moments: bool = False,
    began: float | None = None,
) -> Trace:
    """Return the trace of a file.

    Args:
        path: the file.
        instrument: its name for reports.
        rate_hz: samples a second.
        current: amperes, NaN where a sample was lost.
        power: watts, where the instrument tells; else from `voltage`, else from `volts`.
        voltage: volts of every sample, where the instrument tells.
        volts: the supply as the user states it.
        levels: of every channel 0 or 1, or -1 where not known.
        moments: see `Trace`.
        began: see `Trace`.

    Raises:
        DataError: there is no voltage, or more than one, or nothing was recorded.
    """
    lost = np.isnan(current)
    if lost.all():
        raise DataError(f"{path} has no sample of the current; record again")
    if voltage is not None or power is not None:
        if volts is not None:
            raise DataError(f"{path} has its own voltage; leave out --volts")
    elif volts is None:
        raise DataError(f"{path} has no voltage; give the supply's, such as --volts 3.3")
    if power is None:
        power = current * np.asarray(volts if voltage is None else voltage)
    lost = lost | np.isnan(power)
    if lost.all():
        raise DataError(f"{path} has no sample of the power; record again")
    current, power = np.where(lost, np.nan, current), np.where(lost, np.nan, power)
    if volts is None:
        mean = np.nanmean(current)
        volts = float(np.nanmean(voltage if voltage is not None else power / mean)) if mean else 0.0
    high = {name: _held(level, lost) for name, level in (levels or {}).items()}
    return Trace(path, instrument, rate_hz, power, current, volts, high, moments, began)


def _held(level: NDArray[np.int8], lost: Levels) -> Levels:
    """Return a channel's level: what is lost or not known is as before it, or as after it at the beginning.

    Instruments fill lost samples with zeros, which would be edges.
    """
    known = ~lost & (level >= 0)
    latest = np.where(known, np.arange(len(level)), known.argmax())
    held: Levels = level[np.maximum.accumulate(latest)] != 0
    return held


def open_trace(path: Path, volts: float | None = None, columns: str | None = None) -> Trace:
    """Read a trace: .ppk2, .jls, an LPM01A's log, or a table with a header (docs/energy.md).

    Args:
        path: the file; what it is, its content says.
        volts: the supply, where the file has none.
        columns: which columns a table has, as in ``time=t:ms,current=i:uA``.

    Raises:
        DataError: the file is none of these, or is damaged.
        UserError: the file cannot be opened; `pyjls` is missing.
    """
    from energy import jls, lpm01a, ppk2, tables  # each of them makes a Trace

    with path.open("rb") as stream:
        head = stream.read(64 * 1024)
    if not head:
        raise DataError(f"{path} is empty; export the trace again")
    if columns is None:
        if ppk2.recognizes(head):
            return ppk2.read(path, volts)
        if jls.recognizes(head):
            return jls.read(path, volts)
        if lpm01a.recognizes(head):
            return lpm01a.read(path, volts)
    return tables.read(path, volts, columns)

"""Files of the Joulescope (.jls, version 2), through its maker's library.

Signals are named as the instrument's driver names them (github.com/jetperch/pyjoulescope_driver):
``current``, ``voltage``, ``power`` and ``gpi[0]`` to ``gpi[3]``. The library gives NaN for samples that were
lost, and 0 for the bits of a digital channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energy.trace import Trace, make_trace
from fieldtune.errors import DataError, UserError

_MAGIC = b"jlsfmt\r\n"


def recognizes(head: bytes) -> bool:
    """Tell whether a file begins as a .jls of version 2 does."""
    return head.startswith(_MAGIC)


def read(path: Path, volts: float | None) -> Trace:
    """Return the trace of the file's one instrument.

    Raises:
        UserError: the library is not installed.
        DataError: the file is damaged, or has no current.
    """
    try:
        import pyjls
    except ImportError as error:
        raise UserError(f"{path} needs the package pyjls; pip install 'fieldtune[energy]'") from error
    try:
        with pyjls.Reader(str(path)) as reader:
            return _read(path, volts, reader, pyjls)
    except RuntimeError as error:
        raise DataError(f"{path} is no .jls file that can be read ({error}); save it again") from error


def _read(path: Path, volts: float | None, reader: Any, library: Any) -> Trace:
    signals = {}
    for signal in reader.signals.values():
        if signal.signal_type == library.SignalType.FSR and signal.length:
            if signal.name in signals:
                raise DataError(f"{path} has more than one '{signal.name}'; save one instrument to a file")
            signals[signal.name] = signal
    if "current" not in signals:
        raise DataError(f"{path} has no signal 'current'; record current and voltage")
    clock = signals["current"]

    def values(name: str) -> NDArray[np.float64] | None:
        if name not in signals:
            return None
        signal = signals[name]
        return _on_clock(reader.fsr(signal.signal_id, 0, signal.length), signal, clock)

    levels = {
        name: _on_clock(_bits(reader, signal), signal, clock, -1).astype(np.int8)
        for name, signal in signals.items()
        if name.startswith("gpi[") or name == "trigger_in"
    }
    current = values("current")
    assert current is not None
    source = reader.sources[clock.source_id]
    stamp = reader.sample_id_to_timestamp(clock.signal_id, 0)
    return make_trace(
        path,
        f"Joulescope {source.name}".strip(),
        float(clock.sample_rate),
        current,
        power=values("power"),
        voltage=values("voltage"),
        volts=volts,
        levels=levels,
        began=float(library.jls_to_utc(stamp)) if stamp > 0 else None,
    )


def _bits(reader: Any, signal: Any) -> NDArray[np.uint8]:
    packed = reader.fsr(signal.signal_id, 0, signal.length)
    return np.unpackbits(packed, bitorder="little")[: signal.length]


def _on_clock(values: NDArray[Any], signal: Any, clock: Any, missing: float = np.nan) -> NDArray[np.float64]:
    """Return a signal's values at the samples of `clock`, whatever its own rate and first sample."""
    at = np.arange(clock.length) / clock.sample_rate + clock.sample_id_offset / clock.sample_rate
    index = np.floor((at - signal.sample_id_offset / signal.sample_rate) * signal.sample_rate + 1e-6)
    index = index.astype(np.int64)
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.clip(index, 0, len(values) - 1)], missing).astype(np.float64)

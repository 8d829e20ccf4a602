"""Files of Nordic's Power Profiler app 4 (.ppk2), which records what a Power Profiler Kit II measures.

The app's README and source (github.com/NordicSemiconductor/pc-nrfconnect-ppk) tell the format: a zip of
``session.raw`` (for each sample a little-endian float32, microamperes, and a uint16 with two bits for each of
eight digital channels, the least significant D0: 1 it was always 0, 2 always 1, 3 both, 0 not known),
``metadata.json`` and a small picture. The app checks the sample counter of the stream and writes 0.2 for
every sample that it misses, with all channels 0; currents below 0.2 become 0.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from energy.trace import Trace, make_trace
from fieldtune.errors import DataError

CHANNELS = tuple(f"D{bit}" for bit in range(8))
LOST_UA = 0.2
_FRAME = np.dtype([("microamperes", "<f4"), ("bits", "<u2")])
_VERSION = 2
# Of a pair of bits; "both" within a sample is an edge, and what marks a run is that the line is low.
_LEVEL = np.array([-1, 0, 1, 0], np.int8)


def recognizes(head: bytes) -> bool:
    """Tell whether a file begins as a zip does."""
    return head.startswith(b"PK\x03\x04")


def read(path: Path, volts: float | None) -> Trace:
    """Return the trace; the file has no voltage.

    Raises:
        DataError: the file is damaged, of another version, or `volts` is missing.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("metadata.json"))
            raw = archive.read("session.raw")
    except (KeyError, ValueError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(
            f"{path} is no .ppk2 file that can be read ({error}); save the session again with Nordic's "
            "Power Profiler 4 or later"
        ) from error
    rate, began = _described(path, described)
    if not raw or len(raw) % _FRAME.itemsize:
        raise DataError(f"{path} is cut off: session.raw has {len(raw):,} bytes; save the session again")
    frames = np.frombuffer(raw, _FRAME)
    microamperes = frames["microamperes"].astype(np.float64)
    microamperes[frames["microamperes"] == np.float32(LOST_UA)] = np.nan
    levels = {name: _LEVEL[(frames["bits"] >> 2 * bit) & 3] for bit, name in enumerate(CHANNELS)}
    return make_trace(path, "Nordic PPK2", rate, microamperes * 1e-6, volts=volts, levels=levels, began=began)


def _described(path: Path, described: Any) -> tuple[float, float | None]:
    """Return the samples a second, and when the first one was taken."""
    version = described.get("formatVersion") if isinstance(described, dict) else None
    if version != _VERSION:
        raise DataError(
            f"{path} has format version {version}, and {_VERSION} can be read; export the session as CSV"
        )
    metadata = described.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    rate, began = metadata.get("samplesPerSecond"), metadata.get("startSystemTime")
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise DataError(f"{path} does not tell its samples a second; export the session as CSV")
    return float(rate), began / 1e3 if isinstance(began, int | float) else None

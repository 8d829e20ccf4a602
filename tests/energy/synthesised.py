"""Traces with known answers, in each tool's format: work at 20 mA for a repetition, 2 mA between runs."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VOLTS, WORK_A, IDLE_A = 3.3, 20e-3, 2e-3
RUNS, RUN_S, IDLE_S, REPETITIONS = 5, 10.0, 0.5, 20
# What one of the repetitions takes, and what of it is above idling.
UJ = WORK_A * VOLTS * RUN_S / REPETITIONS * 1e6
NET_UJ = (WORK_A - IDLE_A) * VOLTS * RUN_S / REPETITIONS * 1e6
BEGAN = 1_780_000_000.25

Floats = NDArray[np.float64]
Levels = NDArray[np.bool_]


def signal(rate: float, runs: int = RUNS, run_s: float = RUN_S) -> tuple[Floats, Levels]:
    """Current with some ripple of mean 0, and the level of the line that is low while the work runs."""
    idle, work = round(IDLE_S * rate), round(run_s * rate)
    high = np.concatenate([np.ones(idle, bool), *[np.repeat([False, True], [work, idle])] * runs])
    ripple = 1 + 0.3 * np.tile([1, -1], len(high) // 2 + 1)[: len(high)]
    return np.where(high, IDLE_A, WORK_A) * ripple, high


def lost_at(count: int, share: float) -> NDArray[np.int64]:
    """Samples that are lost: bursts of up to 50."""
    random = np.random.default_rng(0)
    starts = random.choice(count - 60, max(round(count * share / 50), 1), replace=False)
    return np.unique(np.concatenate([start + np.arange(50) for start in starts]))


def ppk2(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    frames = np.zeros(len(current), np.dtype([("ua", "<f4"), ("bits", "<u2")]))
    frames["ua"] = current * 1e6
    # Pairs of bits: 1 is low, 2 is high; D1 to D7 stay low.
    frames["bits"] = 0x5554 | np.where(high, 2, 1)
    frames["ua"][lost], frames["bits"][lost] = 0.2, 0x5555
    metadata = {"samplesPerSecond": rate, "startSystemTime": BEGAN * 1e3}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("session.raw", frames.tobytes())
        archive.writestr("metadata.json", json.dumps({"metadata": metadata, "formatVersion": 2}))
        archive.writestr("minimap.raw", b"{}")
    return path


def table(path: Path, header: str, rows: list[str], left_out: NDArray[np.int64]) -> Path:
    gone = set(left_out.tolist())
    kept = [row for number, row in enumerate(rows) if number not in gone]
    path.write_text("\n".join([header, *kept]) + "\n")
    return path


def ppk2_csv(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    values = current * 1e6
    values[lost] = 0.2
    high = high.copy()
    high[lost] = False
    rows = [
        f"{1e3 * n / rate:g},{i:.3f},{int(h)}0000000"
        for n, (i, h) in enumerate(zip(values, high, strict=True))
    ]
    return table(path, "Timestamp(ms),Current(uA),D0-D7", rows, np.array([], np.int64))


def ppk2_csv_pins(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    rows = [
        f"{1e3 * n / rate:g},{1e6 * i:.3f},{int(h)},0,0,0,-,0,0,0"
        for n, (i, h) in enumerate(zip(current, high, strict=True))
    ]
    return table(path, "Timestamp(ms),Current(uA),D0,D1,D2,D3,D4,D5,D6,D7", rows, lost)


def otii(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    times = np.datetime64("2026-11-22T18:00:00") + (np.arange(len(current)) / rate * 1e9).astype(
        "timedelta64[ns]"
    )
    rows = [f'"{t}Z","{i:.9f}","{VOLTS}","{n}"' for n, (t, i) in enumerate(zip(times, current, strict=True))]
    header = '"Wall-clock time (UTC)","Arc Main Current (A)","Arc Main Voltage (V)","Arc Main Energy (J)"'
    return table(path, header, rows, lost)


def plain(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    rows = [
        f"{n / rate:.6f};{1e3 * i:.6f};3300;{int(h)}"
        for n, (i, h) in enumerate(zip(current, high, strict=True))
    ]
    return table(path, "# made by hand\ntime_s;current [mA];voltage_mv;marker", rows, lost)


def joulescope_csv(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    rows = [f"{n / rate:.6f},{i:g},{VOLTS:g},{i * VOLTS:g},0,0" for n, i in enumerate(current)]
    return table(path, "#time,current,voltage,power,charge,energy", rows, lost)


def jls(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    import pyjls

    with pyjls.Writer(str(path)) as writer:
        writer.source_def(
            source_id=1,
            name="JS220-000123",
            vendor="Jetperch",
            model="JS220",
            version="",
            serial_number="000123",
        )
        types = {"current": ("F32", "A"), "voltage": ("F32", "V"), "gpi[0]": ("U1", "")}
        for number, (name, (kind, units)) in enumerate(types.items(), 1):
            writer.signal_def(
                signal_id=number,
                source_id=1,
                signal_type=pyjls.SignalType.FSR,
                data_type=getattr(pyjls.DataType, kind),
                sample_rate=int(rate),
                name=name,
                units=units,
            )
            writer.utc(number, 800, pyjls.utc_to_jls(BEGAN))
        gone = np.zeros(len(current), bool)
        gone[lost] = True
        # Whole bytes of bits at a time; what is lost is not written.
        for at in range(0, len(current), 8):
            if gone[at : at + 8].any():
                continue
            writer.fsr(1, 800 + at, current[at : at + 8].astype(np.float32))
            writer.fsr(2, 800 + at, np.full(len(current[at : at + 8]), VOLTS, np.float32))
            writer.fsr(3, 800 + at, np.packbits(high[at : at + 8], bitorder="little"))
    return path


def _lpm01a(
    path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64], energy: bool
) -> Path:
    lines = [f"PowerShield > ack {command}" for command in ("htc", "format ascii_dec")]
    lines += [f"PowerShield > ack output {'energy' if energy else 'current'}", "PowerShield > ack volt 3300m"]
    lines += [
        f"PowerShield > ack freq {rate / 1e3:g}k",
        "PowerShield > ack eventsrc d7 ris",
        "PowerShield > ack start",
    ]
    gone, falls = set(lost.tolist()), set((np.flatnonzero(high[1:] != high[:-1]) + 1).tolist())
    for number, value in enumerate(current * (VOLTS / rate if energy else 1)):
        if number % round(rate) == 0:
            lines.append(f"\0TimeStamp: {number // round(rate):03d}s 000ms, buff 00%")
        if number in falls:
            lines.append(f"event {len(lines)} ris")
        if number not in gone:
            exponent = int(np.floor(np.log10(value))) - 3
            lines.append(f"{round(value / 10.0**exponent):04d}-{-exponent:02d}")
    lines += ["end", "PowerShield > Acquisition completed"]
    path.write_text("\n".join(lines) + "\n")
    return path


def lpm01a(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    return _lpm01a(path, current, high, rate, lost, energy=False)


def lpm01a_energy(path: Path, current: Floats, high: Levels, rate: float, lost: NDArray[np.int64]) -> Path:
    return _lpm01a(path, current, high, rate, lost, energy=True)


Writer = Callable[[Path, Floats, Levels, float, NDArray[np.int64]], Path]
# Name -> writer, samples a second, options that the file needs.
FORMATS: dict[str, tuple[Writer, float, tuple[str, ...]]] = {
    "nordic.ppk2": (ppk2, 1000, ("--volts", "3.3", "--gpio", "D0")),
    "nordic.csv": (ppk2_csv, 1000, ("--volts", "3.3")),
    "nordic_pins.csv": (ppk2_csv_pins, 1000, ("--volts", "3.3")),
    "otii.csv": (otii, 1000, ()),
    "plain.csv": (plain, 1000, ()),
    "joulescope.csv": (joulescope_csv, 1000, ()),
    "joulescope.jls": (jls, 1000, ()),
    "lpm01a.log": (lpm01a, 1000, ()),
    "lpm01a_energy.log": (lpm01a_energy, 1000, ()),
}
WITHOUT_CHANNEL = ("otii.csv", "joulescope.csv")


def stamps(path: Path, offset: float = 0.0) -> Path:
    """When the runs of `signal` were."""
    starts = IDLE_S + np.arange(RUNS) * (RUN_S + IDLE_S)
    rows = [f"{offset + start:.6f},{offset + start + RUN_S:.6f},{REPETITIONS}" for start in starts]
    path.write_text("\n".join(["start,stop,repetitions", *rows]) + "\n")
    return path

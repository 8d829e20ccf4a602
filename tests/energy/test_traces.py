"""Every format, read with known answers: within 1 %, also when samples were lost, which is told."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from synthesised import (
    BEGAN,
    FORMATS,
    IDLE_A,
    NET_UJ,
    REPETITIONS,
    RUN_S,
    RUNS,
    UJ,
    VOLTS,
    WITHOUT_CHANNEL,
    WORK_A,
    lost_at,
    ppk2,
    signal,
    stamps,
)

from energy.trace import open_trace
from fieldtune.__main__ import main


def written(name: str, folder: Path, share: float) -> tuple[Path, list[str], float]:
    """Return a trace, the options it needs, and how many per cent of its samples are lost."""
    if name.endswith(".jls"):
        pytest.importorskip("pyjls")
    writer, rate, needs = FORMATS[name]
    current, high = signal(rate)
    lost = lost_at(len(current), share) if share else np.array([], np.int64)
    if name.endswith(".jls"):
        lost = np.unique(np.concatenate([lost // 8 * 8 + bit for bit in range(8)]))
    path = writer(folder / name, current, high, rate, lost)
    if name in WITHOUT_CHANNEL:
        gate = ["--stamps", str(stamps(folder / "stamps.csv"))]
    else:
        gate = ["--repetitions", str(REPETITIONS)]
    return path, [*needs, *gate], 100 * len(lost) / len(current)


@pytest.mark.parametrize("share", [0.0, 0.02])
@pytest.mark.parametrize("name", FORMATS)
def test_the_known_energy_is_found_and_what_was_lost_is_told(
    name: str, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, options, lost_percent = written(name, tmp_path, share)
    assert main(["energy", str(path), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["energy_uj"] == pytest.approx(UJ, rel=0.01)
    assert found["net_uj"] == pytest.approx(NET_UJ, rel=0.01)
    assert found["idle_mw"] == pytest.approx(IDLE_A * VOLTS * 1e3, rel=0.02)
    assert found["mean_ma"] == pytest.approx(WORK_A * 1e3, rel=0.01)
    assert found["p50_ma"] <= found["p95_ma"]
    assert found["volts"] == pytest.approx(VOLTS, rel=1e-3)
    assert found["seconds"] == pytest.approx(RUN_S / REPETITIONS, rel=0.01)
    assert found["n"] == RUNS * REPETITIONS
    assert found["window_s"] == pytest.approx(RUN_S, abs=0.1)
    assert [window["repetitions"] for window in found["windows"]] == [REPETITIONS] * RUNS
    assert found["sample_rate_hz"] == [pytest.approx(1000)]
    assert found["estimated"] is False
    assert (share > 0) == (lost_percent > 1)
    assert found["dropped_percent"] == pytest.approx(lost_percent, abs=0.01)


def test_lost_samples_are_no_edges_though_the_app_writes_zeros(tmp_path: Path) -> None:
    current, high = signal(1000)
    lost = np.array([100, 101, 102, 2000])  # while the line is high, and while it is low
    trace = open_trace(ppk2(tmp_path / "a.ppk2", current, high, 1000, lost), VOLTS)
    assert np.array_equal(trace.high["D0"], high)
    assert np.flatnonzero(np.isnan(trace.power)).tolist() == lost.tolist()


def test_pairs_of_bits_that_tell_both_or_nothing_are_a_fall_and_no_edge(tmp_path: Path) -> None:
    frames = np.zeros(6, np.dtype([("ua", "<f4"), ("bits", "<u2")]))
    frames["ua"] = 1000
    frames["bits"] = [2, 0, 3, 2, 1, 0]  # of D0: high, not known, both, high, low, not known
    metadata = {"metadata": {"samplesPerSecond": 1000}, "formatVersion": 2}
    with zipfile.ZipFile(tmp_path / "a.ppk2", "w") as archive:
        archive.writestr("session.raw", frames.tobytes())
        archive.writestr("metadata.json", json.dumps(metadata))
    trace = open_trace(tmp_path / "a.ppk2", VOLTS)
    assert trace.high["D0"].tolist() == [True, True, False, True, False, False]
    assert trace.began is None


def test_the_first_samples_may_be_lost_too(tmp_path: Path) -> None:
    current, high = signal(1000)
    trace = open_trace(ppk2(tmp_path / "a.ppk2", current, high, 1000, np.arange(20)), VOLTS)
    assert np.array_equal(trace.high["D0"], high)


def test_a_missing_library_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jls"
    path.write_bytes(b"jlsfmt\r\n")
    monkeypatch.setitem(sys.modules, "pyjls", None)
    assert main(["energy", str(path)]) == 2
    assert "pip install 'fieldtune[energy]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nordic.ppk2", "joulescope.jls"])
def test_unix_times_of_the_link_gate_a_trace_that_knows_when_it_began(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, options, _ = written(name, tmp_path, 0)
    volts = options[:2] if "--volts" in options else []
    runs = stamps(tmp_path / "stamps.csv", BEGAN)
    assert main(["energy", str(path), *volts, "--stamps", str(runs), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["energy_uj"] == pytest.approx(UJ, rel=0.01)


def test_a_gap_in_a_table_keeps_its_place_however_times_are_rounded(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    times = np.delete(np.arange(3000), slice(1000, 1100)) / 300  # thirds of a hundredth, written as 0.0033
    path.write_text("time(s),current(A)\n" + "".join(f"{t:.4f},0.001\n" for t in times))
    trace = open_trace(path, 3.0)
    assert len(trace.power) == 3000
    assert np.flatnonzero(np.isnan(trace.power)).tolist() == list(range(1000, 1100))
    assert trace.rate_hz == pytest.approx(300, rel=1e-3)


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("time(ms),current(mA)", None),
        ("time [ms],current [mA]", None),
        ("t_time_ms,current_mA", None),
        ("Timestamp,Value", "time=Timestamp:ms,current=Value:mA"),
    ],
)
def test_names_and_units_come_from_the_header_or_from_the_user(
    header: str, columns: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n" + "".join(f"{n},{2.5}\n" for n in range(100)))
    trace = open_trace(path, 2.0, columns)
    assert trace.rate_hz == pytest.approx(1000)
    assert trace.power == pytest.approx(np.full(100, 5e-3))

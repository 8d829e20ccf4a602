"""What counts as a measurement, what does not, and that bad files are answered with one sentence."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from synthesised import NET_UJ, RUN_S, RUNS, UJ, VOLTS, WORK_A, lpm01a, plain, ppk2, signal, stamps
from tiny import write_tiny

from energy.gates import low_spans
from energy.trace import open_trace
from fieldtune.__main__ import main

NOTHING = np.array([], np.int64)
RATE = 1000


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(tmp_path_factory.mktemp("trace") / "plain.csv", *signal(RATE), RATE, NOTHING)


def energy(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, object]:
    assert main(["energy", *map(str, words), "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["energy", *map(str, words)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


# --- what is measured


def test_five_traces_of_a_run_each_are_five_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [plain(tmp_path / f"{n}.csv", *signal(RATE, runs=1), RATE, NOTHING) for n in range(RUNS)]
    assert energy(capsys, *paths, "--repetitions", 20)["energy_uj"] == pytest.approx(UJ, rel=0.01)


def test_short_runs_are_gathered_into_five_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = plain(tmp_path / "short.csv", *signal(100, runs=55, run_s=1.0), 100, NOTHING)
    found = energy(capsys, path)
    assert found["energy_uj"] == pytest.approx(WORK_A * VOLTS * 1.0 * 1e6, rel=0.01)
    assert found["window_s"] == pytest.approx(11.0)
    assert found["n"] == 55


def test_the_median_is_not_moved_by_one_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current, high = signal(RATE)
    first = np.flatnonzero(~high)[0]
    current[first : first + 5000] *= 50
    path = plain(tmp_path / "a.csv", current, high, RATE, NOTHING)
    assert energy(capsys, path, "--repetitions", 20)["energy_uj"] == pytest.approx(UJ, rel=0.01)


def test_pulses_begin_and_end_a_run_in_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current, high = signal(RATE)
    edges = np.flatnonzero(high[1:] != high[:-1]) + 1
    pulses = np.ones(len(high), bool)
    pulses[edges], pulses[edges + 1] = False, False
    path = plain(tmp_path / "a.csv", current, pulses, RATE, NOTHING)
    assert energy(capsys, path, "--mark", "pulses", "--repetitions", 20)["energy_uj"] == pytest.approx(
        UJ, rel=0.01
    )
    pulses[edges[-1] : edges[-1] + 2] = True
    path = plain(tmp_path / "b.csv", current, pulses, RATE, NOTHING)
    assert "falls 9 times" in refused(capsys, path, "--mark", "pulses", "--repetitions", 20)


def test_bouncing_is_no_run() -> None:
    high = np.ones(1000, bool)
    high[200:800] = False
    high[[205, 300, 801, 803, 900]] ^= True
    assert low_spans(high, 5, whole=True) == [(200, 804)]
    assert len(low_spans(high, 1, whole=True)) > 1


def test_runs_that_the_trace_cuts_off_do_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current, high = signal(RATE, runs=7)
    cut = slice(3000, len(high) - 3000)
    path = plain(tmp_path / "a.csv", current[cut], high[cut], RATE, NOTHING)
    found = energy(capsys, path, "--repetitions", 20)
    assert (found["n"], found["energy_uj"]) == (100, pytest.approx(UJ, rel=0.01))


def test_phases_with_channels_of_their_own_are_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    current, high = signal(RATE)
    lines = plain(tmp_path / "a.csv", current, high, RATE, NOTHING).read_text().splitlines()
    half = (np.arange(len(high)) % 100 >= 50) | high
    rows = [f"{line};{int(level)}" for line, level in zip(lines[2:], half, strict=True)]
    (tmp_path / "b.csv").write_text("\n".join([f"{lines[1]};forward", *rows]) + "\n")
    found = energy(
        capsys, tmp_path / "b.csv", "--gpio", "marker", "--phase", "forward=forward", "--repetitions", 20
    )
    assert found["phases"] == [
        {"phase": "forward", "energy_uj": pytest.approx(UJ / 2, rel=0.01), "estimated": False}
    ]


def test_layers_share_the_energy_by_counts_and_it_is_called_an_estimate(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = [("a", "forward", 1), ("b", "forward", 2), ("a", "backward", 5)]
    layers = [{"name": n, "op": "conv2d", "phase": p, "macs": 0, "count": c} for n, p, c in counts]
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"layers": layers}))
    found = json.loads(json.dumps(energy(capsys, trace, "--repetitions", 20, "--profile", profile)))
    assert [layer["energy_uj"] / found["energy_uj"] for layer in found["layers"]] == pytest.approx(
        [1 / 8, 2 / 8, 5 / 8]
    )
    assert [(p["phase"], p["energy_uj"] / found["energy_uj"]) for p in found["phases"]] == [
        ("forward", pytest.approx(3 / 8)),
        ("backward", pytest.approx(5 / 8)),
    ]
    assert all(part["estimated"] for part in found["layers"] + found["phases"])
    assert "estimate" in found["layers_source"]
    assert found["estimated"] is False
    assert main(["energy", str(trace), "--repetitions", "20", "--profile", str(profile)]) == 0
    assert capsys.readouterr().out.count("(estimate, by counts)") == 5


def test_the_idle_power_may_be_given(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = energy(capsys, trace, "--repetitions", 20, "--idle-mw", 6.6)
    assert (found["idle_mw"], found["net_uj"]) == (6.6, pytest.approx(NET_UJ, rel=0.01))


def test_what_is_printed_names_windows_and_what_was_dropped(
    trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["energy", str(trace), "--repetitions", "20"]) == 0
    printed = capsys.readouterr().out
    assert "one of 100 repetitions, measured with table" in printed
    assert "dropped      0.000 % of the samples" in printed
    assert "net of idle" in printed


# --- what is no measurement


def test_too_few_too_short_and_too_rare_is_refused(
    trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "of 10 s and 1 repetitions" in refused(capsys, trace)
    four = plain(tmp_path / "four.csv", *signal(RATE, runs=4), RATE, NOTHING)
    assert "hold 4 of 5 windows" in refused(capsys, four, "--repetitions", 20)
    short = plain(tmp_path / "short.csv", *signal(RATE, run_s=9.0), RATE, NOTHING)
    assert "the shortest of 9 s" in refused(capsys, short, "--repetitions", 20)


def test_runs_of_few_samples_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = plain(tmp_path / "slow.csv", *signal(4), 4, NOTHING)
    assert "a run has 40 samples" in refused(capsys, slow, "--repetitions", 20)


def test_a_trace_that_lost_much_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    current, high = signal(RATE)
    path = ppk2(tmp_path / "a.ppk2", current, high, RATE, np.arange(4000, 5000))
    said = refused(capsys, path, "--volts", 3.3, "--gpio", "D0", "--repetitions", 20)
    assert "has lost 10.0 % of a window's samples" in said


def test_a_channel_that_marks_nothing_is_named(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "it has marker" in refused(capsys, trace, "--gpio", "D0")
    assert "leave out --volts" in refused(capsys, trace, "--volts", 3.3)
    assert "write NAME=CHANNEL" in refused(capsys, trace, "--phase", "forward")
    assert "no channel 'D7' for phase up" in refused(capsys, trace, "--phase", "up=D7", "--repetitions", 20)


def test_the_voltage_is_never_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ppk2(tmp_path / "a.ppk2", *signal(RATE), RATE, NOTHING)
    assert "--volts 3.3" in refused(capsys, path)


def test_an_lpm01a_tells_its_voltage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = lpm01a(tmp_path / "a.log", *signal(RATE), RATE, NOTHING)
    assert "leave out --volts" in refused(capsys, path, "--volts", 3)
    path.write_text(path.read_text().replace("ack volt", "ack other"))
    assert "--volts 3.3" in refused(capsys, path)


def test_stamps_are_of_this_trace(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not tell when it began" in refused(
        capsys, trace, "--stamps", stamps(tmp_path / "unix.csv", 1.78e9)
    )
    assert "lies within" in refused(capsys, trace, "--stamps", stamps(tmp_path / "late.csv", 1e4))
    for content, says in {
        "": "does not begin with the line start,stop,repetitions",
        "start,stop,repetitions\n1,x,2\n": "line 2",
        "start,stop,repetitions\n2,1,2\n": "stops before it starts",
        "start,stop,repetitions\n1,5,2\n3,9,2\n": "line 3",
    }.items():
        (tmp_path / "bad.csv").write_text(content)
        assert says in refused(capsys, trace, "--stamps", tmp_path / "bad.csv")


def zipped(path: Path, **members: str | bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "."), content)
    return path


META = '{"metadata":{"samplesPerSecond":1000},"formatVersion":2}'
BAD_TABLES = {
    "": "is empty",
    "\0\1\2\3": "no trace that is known",
    "1,2\n3,4\n": "no trace that is known",
    "time,current\n0,1\n1,1\n": "does not tell the unit of 'time'",
    "time(s),power(W)\n0,1\n1,1\n": "no column of the current",
    "current(A),gpio\n0,1\n1,1\n": "no column of the time",
    "time(s),current(A),current(mA)\n0,1,1\n": "two columns of current",
    "time(s),current(A)\n0,1\n1,x\n": "not as its header says",
    "time(s),current(A)\n0,1\n1\n": "not as its header says",
    "time(s),current(A)\n0,1\n": "has 1 samples",
    "time(s),current(A)\n": "has 0 samples",
    "time(s),current(A)\n0,1\n0,1\n0,1\n": "times that do not rise",
    "time(s),current(A)\n0,nan\n1,nan\n": "no sample of the current",
    "time(s),current(A)\n0,1\n1,1\n2,1\n9e9,1\n": "mostly gaps",
    "time(utc),current(A)\nyesterday,1\ntoday,1\n": "dates that are not",
    "time(s),current(A)\n0,1\n1,1\n": "no digital channel",
    "PowerShield > ack freq 1k\n0001-01\n": "no answer to 'output'",
    "PowerShield > ack freq 1k\nPowerShield > ack output current\n": "has no samples",
    "PowerShield > ack freq 1x\nPowerShield > ack output current\n0001-01\n": "cannot be read: 1x",
    "PowerShield > ack format bin_hexa\n": "use ascii_dec",
    "PowerShield > ack freq 1k\nerror: overcurrent\n": "tells of an error of the instrument",
    "jlsfmt\r\nand nothing": "no .jls file",
}


@pytest.mark.parametrize(("content", "says"), BAD_TABLES.items())
def test_a_bad_file_is_answered_with_one_sentence(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if says == "no .jls file":
        pytest.importorskip("pyjls")
    path = tmp_path / "bad"
    path.write_bytes(content.encode())
    said = refused(capsys, path, "--volts", 3)
    assert says in said
    assert str(path) in said


def test_a_bad_ppk2_file_is_answered_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.ppk2"
    for members, says in (
        ({"other": "x"}, "is no .ppk2 file"),
        ({"metadata__json": "{", "session__raw": b""}, "is no .ppk2 file"),
        ({"metadata__json": "[]", "session__raw": b""}, "format version None"),
        ({"metadata__json": META.replace("2}", "9}"), "session__raw": b""}, "format version 9"),
        ({"metadata__json": META.replace("1000", "0"), "session__raw": b""}, "samples a second"),
        ({"metadata__json": META, "session__raw": b"12345"}, "cut off"),
    ):
        said = refused(capsys, zipped(path, **members), "--volts", 3)
        assert says in said
    good = ppk2(path, *signal(RATE), RATE, NOTHING).read_bytes()
    path.write_bytes(good[: len(good) // 2])
    assert "is no .ppk2 file" in refused(capsys, path, "--volts", 3)


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.csv" in refused(capsys, tmp_path / "none.csv")
    assert str(tmp_path) in refused(capsys, tmp_path)


def test_wrong_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,i\n0,1\n1,1\n")
    assert "cannot read 'time=t'" in refused(capsys, path, "--columns", "time=t")
    assert "no column 'x'; it has t, i" in refused(capsys, path, "--columns", "time=x:s,current=i:A")
    assert "no column of the current" in refused(capsys, path, "--columns", "time=t:s")


def test_a_wrong_profile_is_named(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "profile.json"
    for content in ("{", "[]", '{"layers":[]}', '{"layers":[{"name":1}]}'):
        bad.write_text(content)
        assert "is not what 'fieldtune profile --json' prints" in refused(
            capsys, trace, "--repetitions", 20, "--profile", bad
        )


FIRMWARE = {
    "model": "tiny",
    "model_hash": 0x1234ABCD,
    "plan_hash": 0xDEADBEEF,
    "board": "nrf52840dk",
    "clock_hz": 64_000_000,
    "fieldtune": "0.1.0",
    "revision": None,
    "compiler": "gcc 12",
}


@pytest.fixture
def profiled(tmp_path: Path) -> Path:
    layers = [{"name": "a", "op": "conv2d", "phase": "forward", "macs": 0, "count": 1}]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"layers": layers, "firmware": FIRMWARE}))
    return path


def test_firmware_that_was_measured_is_told_as_far_as_a_file_tells_it(
    trace: Path, profiled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert energy(capsys, trace, "--repetitions", 20)["firmware"] is None
    assert energy(capsys, trace, "--repetitions", 20, "--profile", profiled)["firmware"] == FIRMWARE
    table = stamps(tmp_path / "stamps.csv")
    assert energy(capsys, trace, "--stamps", table)["firmware"] is None
    plain_table = table.read_text()
    table.write_text(f"# firmware {json.dumps(FIRMWARE)}\n{plain_table}")
    assert energy(capsys, trace, "--stamps", table, "--profile", profiled)["firmware"] == FIRMWARE
    assert main(["energy", str(trace), "--stamps", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "tiny (model 1234abcd, plan deadbeef) for nrf52840dk at 64 MHz\n" in printed
    assert "Fieldtune 0.1.0 (revision unknown), compiler gcc 12\n" in printed
    table.write_text(f"# firmware {json.dumps(FIRMWARE | {'plan_hash': 1})}\n{plain_table}")
    assert "plan deadbeef) for nrf52840dk" in refused(capsys, trace, "--stamps", table, "--profile", profiled)
    for wrong in ("{", "[]", json.dumps(FIRMWARE | {"model": 3})):
        table.write_text(f"# firmware {wrong}\n{plain_table}")
        assert "its firmware cannot be read" in refused(capsys, trace, "--stamps", table)


def test_without_a_trace_the_board_s_power_gives_an_estimate_that_is_called_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = tmp_path / "mine.toml"
    power = 'active_mw = 100.0\ncondition = "at 3.3 V"\nsource = "data sheet"'
    board.write_text(f'extends = "netduinoplus2"\nid = "mine"\n[power]\n{power}\n')
    model = write_tiny(tmp_path / "tiny.onnx")
    assert main(["plan", str(model), "--board", str(board), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["energy_uj"] == pytest.approx(100 * plan["time_estimate_ms"], rel=1e-3)
    assert plan["energy_source"] == "estimate: 100 mW at 3.3 V (data sheet)"
    assert plan["estimated"] is True


def test_a_full_rate_trace_is_read_whole(tmp_path: Path) -> None:
    current, high = signal(100_000, runs=1, run_s=RUN_S)
    trace = open_trace(ppk2(tmp_path / "a.ppk2", current, high, 100_000, NOTHING), VOLTS)
    assert len(trace.power) == len(current)
    assert trace.rate_hz == 100_000

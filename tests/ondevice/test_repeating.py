"""Windows of repeated work, stamped so that a trace can be gated by them."""

import csv
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from boards import load_board
from energy.gates import stamped
from energy.provenance import from_stamps
from energy.trace import make_trace
from fieldtune.__main__ import main
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import Profile, random_work
from ondevice.provenance import provenance
from ondevice.repeating import repeat, run_window, stamps
from ondevice.workbench import open_board


def test_windows_follow_each_other_and_gate_a_trace(tiny_model: Path, tmp_path: Path) -> None:
    plan = plan_network(load_network(tiny_model), load_board("native"), parse_update(None))
    windows = repeat(plan, seconds=0.01, pause=0.02)
    assert len(windows) == 5
    for before, after in itertools.pairwise(windows):
        assert before.stop < after.start
    assert all(window.repetitions >= 10 and window.stop - window.start >= 0.01 for window in windows)
    table = tmp_path / "stamps.csv"
    firmware = provenance(plan)
    table.write_text(stamps(windows, firmware))
    assert from_stamps(table) == firmware
    assert len(list(csv.DictReader(io.StringIO(table.read_text().partition("\n")[2])))) == 5
    began, rate = windows[0].start - 0.1, 1e5
    samples = round((windows[-1].stop - began + 0.1) * rate)
    trace = make_trace(tmp_path / "t", "test", rate, np.ones(samples), volts=1.0, began=began)
    runs = stamped(trace, table)
    assert [run.repetitions for run in runs] == [window.repetitions for window in windows]
    for run, window in zip(runs, windows, strict=True):
        assert run.seconds == pytest.approx(window.stop - window.start, abs=1e-4)


def test_each_repetition_is_a_training_step_of_its_own(counted: tuple[Plan, Profile], tmp_path: Path) -> None:
    plan, _ = counted
    with open_board(plan, tmp_path / "project") as device:
        random_work(plan, device, 0, None).begin()
        window = run_window(device, True, 0.0)
        assert window.repetitions == 10
        device.step(10)  # the board has done ten, or it would refuse


def test_it_does_nothing_else_besides(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(tiny_model), "--board", "native", "--stamps", "x.csv", "--memory"]) == 2
    assert "leave out --memory" in capsys.readouterr().err

"""``fieldtune collect`` and ``fieldtune alone``, end to end on this computer and on an emulated board."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quick_board import quick_board
from tiny import tiny_frames, write_tiny

import boards
from fieldtune.__main__ import main
from ondevice.recording import write_recording
from zoo.frames import Frames, open_frames
from zoo.loaders.npz import write_npz
from zoo.prepare import network_input
from zoo.tof import TofGeometry

GEOMETRY = TofGeometry(flip_vertical=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boards.load_board", quick_board)
    monkeypatch.setattr("ondevice.workbench.load_board", quick_board)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "frames.npz"
    write_npz(path, Frames.of(list(tiny_frames(26))), GEOMETRY)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_a_board_alone_learns_and_its_weights_come_home(
    model: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        f"alone {model} --board native --update dec,depth --buffer 10 --rounds 2 --data {frames} --test 6 "
    )
    assert (
        main([*words.split(), *f"--lr 0.02 --validate-every 4 --epochs 3 -o {tmp_path} --json".split()]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert (found["phase"], found["round"], found["samples"], found["learned"]) == ("at rest", 2, 20, 42)
    assert found["improved"] == 2
    assert found["judged"]["after"]["rmse"] < found["judged"]["before"]["rmse"]
    assert found == json.loads((tmp_path / "results.json").read_text())
    tuned = {w.name: numpy_helper.to_array(w) for w in onnx.load(tmp_path / "tuned.onnx").graph.initializer}
    with np.load(tmp_path / "weights_after.npz") as weights:
        assert (tuned["dec.weight"] == weights["dec.weight"]).all()
    assert not (tmp_path / "recording.bin").exists()


def test_a_board_that_stays_on_is_sent_off_asked_and_called_home(
    model: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> dict[str, Any]:
        where = f"{model} --board native --update dec,depth --buffer 5 --geometry {frames} --port {board.url}"
        assert main(["alone", *where.split(), *words, "-o", str(tmp_path / "out"), "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    options = (
        f"{model} --board native --update dec,depth --buffer 5 --geometry {frames} -o {tmp_path / 'project'}"
    )
    assert main(["build", *options.split()]) == 0
    capsys.readouterr()
    write_recording(tmp_path / "recording.bin", open_frames(frames))
    elf = tmp_path / "project" / "build" / "firmware.elf"
    with boards.start(elf, quick_board("native"), recording=tmp_path / "recording.bin") as board:
        assert said("--start", "--rounds", "0", "--validate-every", "3") == {"phase": "started"}
        while (now := said("--ask"))["samples"] < 26:  # then the recording has nothing more to show
            pass
        while (now := said("--ask"))["phase"] != "collecting":
            pass
        assert (now["round"], now["samples"]) == (5, 26)
        again = f"alone {model} --board native --update dec,depth --buffer 5 --geometry {frames}"
        assert main([*again.split(), "--port", board.url, "-o", str(tmp_path / "out")]) == 2
        assert "at work on its own; ask how far it is with" in capsys.readouterr().err
        home = said("--stop")
    assert (home["phase"], home["round"]) == ("at rest", 5)
    assert (tmp_path / "out" / "tuned.onnx").exists()


def test_a_board_that_watches_says_for_how_long_and_what_that_saved(
    model: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"alone {model} --board native --update dec,depth --buffer 5 --rounds 0 --data {frames} --test 6"
    # No drift is above the higher number: the sensor goes off after the first round, and stays off.
    assert main([*words.split(), *f"--watch 1e6:2e6 --depth-power 300@10 -o {tmp_path} --json".split()]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["round"], found["samples"], found["watched"]) == (1, 5, 15)
    assert (found["sensor_off"], found["saved_j_estimate"]) == (0.75, 0.45)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "give --buffer N"),
        ("--buffer 5 --frames 6", "the buffer holds 5"),
        ("--buffer 5 --rounds 0", "emulated sensors have an end"),
        ("--buffer 12 --rounds 2", "24, but only 20 are there"),
        ("--buffer 5 --start", "name its --port"),
        ("--buffer 5 --watch 4:2", "the lower first"),
        ("--buffer 5 --watch 4", "give two numbers, such as 2:4"),
        ("--buffer 5 --watch 2:4 --depth-power 200", "give two numbers, such as 2@4"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_built(
    words: str, sentence: str, model: Path, frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (
        f"alone {model} --board native --update depth --data {frames} --test 6 -o {tmp_path / 'out'} {words}"
    )
    assert main(command.split()) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_collect_records_what_the_sensors_see_and_goes_on_where_it_was(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "session"
    command = ["collect", "--board", "native", "--recording", str(frames), "-o", str(out), "--frames"]
    assert main([*command, "4"]) == 0
    assert main([*command, "9"]) == 2
    assert "has 4 frames already; go on with --resume" in capsys.readouterr().err
    assert main([*command, "9", "--resume"]) == 0
    there, found = open_frames(frames), open_frames(out)
    assert (len(found), found.geometry) == (9, GEOMETRY)
    for frame, seen in zip(found, there, strict=False):
        assert (frame.rgb == network_input(seen, 48, 48)).all()
        assert frame.tof is not None
        assert seen.tof is not None
        assert (frame.tof.distance_mm == seen.tof.distance_mm).all()
        assert (frame.tof.status == seen.tof.status).all()


def test_ctrl_c_leaves_what_was_collected(frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "session"
    command = [sys.executable, "-m", "fieldtune", "collect", "--board", "native", "--recording", str(frames)]
    process = subprocess.Popen(
        [*command, "-o", str(out), "--frames", "1000"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    while not any(out.glob("frames-*.npz")):  # the first 25 of 26
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "go on with --resume" in said
    assert len(open_frames(out)) in (25, 26)

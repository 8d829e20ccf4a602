"""On real frames, a board without a host beats the map that looks at no image."""

import json
from pathlib import Path

import pytest

from fieldtune.__main__ import main


@pytest.mark.long
@pytest.mark.parametrize("board", ["native", "mps2_an500"])
def test_alone_beats_the_mean_map(
    board: str, upydnet_onnx: Path, room_npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"alone {upydnet_onnx} --board {board} --update decoder0*,ups0* --buffer 50 --rounds 5 --lr 0.05 "
    assert main([*words.split(), *f"--data {room_npz} --test 100 -o {tmp_path} --json".split()]) == 0
    found = json.loads(capsys.readouterr().out)
    after, mean_map = found["judged"]["after"], found["judged"]["baselines"]["mean_map"]
    assert after["abs_rel"] < mean_map["abs_rel"] == pytest.approx(0.208, abs=5e-4)
    assert after["delta1"] > mean_map["delta1"] == pytest.approx(0.596, abs=5e-4)
    assert found["improved"] == found["round"] == 5

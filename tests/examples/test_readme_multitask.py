"""README's line from a torch network of several tasks to a board that goes on learning, at a reduced size."""

import json
import os
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
SMALLER = {
    "pretrain multitask": "pretrain multitask --rooms 4 --epochs 1 --width 0.5",
    "--seeds 200-239": "--seeds 200-203",
    "--max-drop 30%": "--max-drop 50% --rounds 1 --epochs 1",
    "--domain loft --frames 160": "--domain loft --frames 24",
    "--test 100": "--test 8",
    "--steps 200": "--steps 12",
}


def test_one_line_leads_from_torch_to_a_tuned_board(tmp_path: Path) -> None:
    (line,) = (text for text in README.read_text().splitlines() if "zoo.pretrain multitask --out" in text)
    for size, smaller in SMALLER.items():
        assert size in line
        line = line.replace(size, smaller)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outputs = json.loads((tmp_path / "tuned" / "results.json").read_text())["outputs"]
    assert outputs["disparity"]["after"]["rmse"] < 0.9 * outputs["disparity"]["before"]["rmse"]
    assert not outputs["disparity"]["unchanged"]
    assert outputs["segments"]["unchanged"]
    assert outputs["steer"]["unchanged"]

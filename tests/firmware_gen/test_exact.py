"""The planner's heuristics are within 5 % of the smallest arena, which OR-Tools' CP-SAT proves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ortools", reason="needs ortools: pip install '.[planner]'")

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
WITHIN = 0.05


def compared(*arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(ROOT / "benchmarks" / "planner.py"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


@pytest.mark.parametrize("count", ["10", pytest.param("100", marks=pytest.mark.long)])
def test_random_buffers_and_networks(count: str) -> None:
    for row in compared("--count", count):
        assert row["proven"] == row["count"], row
        assert row["most_above"] <= WITHIN, row


def test_the_schedule_of_a_training_step() -> None:
    model = ROOT / "zoo" / "weights" / "upydnet_rendered.onnx"
    (row,) = compared(str(model), "--update", "decoder0*,ups0*")
    assert row["proven"]
    assert row["arena"] <= row["exact"] * (1 + WITHIN)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_schedules_of_inferences() -> None:
    for row in compared(*map(str, sorted(DATA.glob("*.tflite")))):
        assert row["proven"]
        assert row["arena"] <= row["exact"] * (1 + WITHIN)

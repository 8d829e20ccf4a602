"""``--prefer`` from the outside: what the firmware saves."""

import json
from pathlib import Path
from typing import Any

import pytest

from fieldtune.__main__ import main

MODEL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "ad01_int8.tflite"
CHOICES = ("flash", "speed")

pytestmark = pytest.mark.skipif(not MODEL.exists(), reason="needs shared/data/ad01_int8.tflite")


def found(capsys: pytest.CaptureFixture[str], command: str, prefer: str, *words: str) -> dict[str, Any]:
    """Run a command on the emulated Cortex-M4 and return its JSON."""
    capsys.readouterr()
    assert main([command, str(MODEL), "--board", "mps2_an386", "--prefer", prefer, *words, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_speed_costs_flash_and_saves_instructions(capsys: pytest.CaptureFixture[str]) -> None:
    flash, speed = (found(capsys, "profile", choice) for choice in CHOICES)
    assert speed["flash_bytes"] > 1.5 * flash["flash_bytes"]
    assert speed["total"] < 0.9 * flash["total"]
    assert speed["ram_bytes"] == flash["ram_bytes"]


def test_plan_tells_what_build_makes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    flash, speed = (found(capsys, "plan", choice) for choice in CHOICES)
    built = found(capsys, "build", "speed", "-o", str(tmp_path / "project"))
    assert built["flash_bytes"] == speed["flash_bytes"] > flash["flash_bytes"]
    kept = json.loads((tmp_path / "project" / "plan.json").read_text())
    assert (kept["prefer"], kept["plan_hash"]) == ("speed", speed["plan_hash"])
    assert speed["plan_hash"] != flash["plan_hash"]


def test_both_choices_compute_what_the_model_says(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ai_edge_litert")
    for choice in CHOICES:
        assert found(capsys, "verify", choice, "--count", "2")["max_abs_diff"] == 0

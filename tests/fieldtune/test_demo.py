"""The demo, as ``make demo`` runs it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.scenes import DEMO_SCENE

DEMO = [sys.executable, "-m", "fieldtune", "demo"]


def test_the_demo_fine_tunes_on_an_emulated_cortex_m7_and_beats_the_mean_map_by_a_fifth(
    tmp_path: Path,
) -> None:
    if not shutil.which("qemu-system-arm") or not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("needs qemu-system-arm and arm-none-eabi-gcc")
    done = subprocess.run(
        [*DEMO, "--json", "-o", "demo"], cwd=tmp_path, capture_output=True, check=True, text=True
    )
    results = json.loads(done.stdout)
    session = json.loads((tmp_path / "demo" / "session.json").read_text())
    assert session["board"] == "mps2_an500"
    assert results["steps"] == DEMO_SCENE.steps <= 60
    assert DEMO_SCENE.test == 50
    assert results["after"]["rmse"] <= 0.8 * results["baselines"]["mean_map"]["rmse"]
    assert (tmp_path / "demo" / "report.html").is_file()


def test_without_cross_tools_the_demo_says_so_in_one_line_and_runs_on_native(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in ("gcc", "as", "ld", "setpriv"):
        if found := shutil.which(program):
            (tools / program).symlink_to(found)
    done = subprocess.run(
        [*DEMO, "--json", "-o", "demo"],
        cwd=tmp_path,
        env={**os.environ, "PATH": str(tools)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert sum("not installed" in line for line in done.stderr.splitlines()) == 1
    assert json.loads((tmp_path / "demo" / "session.json").read_text())["board"] == "native"


def test_the_demo_replaces_its_own_session_but_nothing_else(tmp_path: Path) -> None:
    keep = tmp_path / "demo" / "thesis.tex"
    keep.parent.mkdir()
    keep.write_text("years of work")
    done = subprocess.run([*DEMO, "-o", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds no session" in done.stderr
    assert keep.read_text() == "years of work"

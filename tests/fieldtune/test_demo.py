"""The demo, as ``make demo`` runs it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.commands.demo import BOARD, _available
from zoo.scenes import DEMO_SCENE

DEMO = [sys.executable, "-m", "fieldtune", "demo"]


def fine_tuned(folder: Path, path: str) -> tuple[str, str]:
    """Run the demo with the programs in `path`, assert its aim; return the board and what was said."""
    done = subprocess.run(
        [*DEMO, "--json", "-o", "demo"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
        text=True,
    )
    results = json.loads(done.stdout)
    assert results["steps"] == DEMO_SCENE.steps <= 60
    assert DEMO_SCENE.test == 50
    assert results["after"]["rmse"] <= 0.8 * results["baselines"]["mean_map"]["rmse"]
    assert (folder / "demo" / "report.html").is_file()
    return json.loads((folder / "demo" / "session.json").read_text())["board"], done.stderr


@pytest.fixture
def cross_tools() -> None:
    if not shutil.which("qemu-system-arm") or not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("needs qemu-system-arm and arm-none-eabi-gcc")


@pytest.mark.long
@pytest.mark.usefixtures("cross_tools")
def test_the_demo_fine_tunes_on_an_emulated_cortex_m7_and_beats_the_mean_map_by_a_fifth(
    tmp_path: Path,
) -> None:
    board, _ = fine_tuned(tmp_path, os.environ["PATH"])
    assert board == "mps2_an500"


@pytest.mark.usefixtures("cross_tools")
def test_with_cross_tools_the_demo_takes_an_emulated_cortex_m7() -> None:
    assert _available(BOARD).id == "mps2_an500"


def test_without_cross_tools_the_demo_says_so_in_one_line_and_fine_tunes_on_native(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for program in ("gcc", "as", "ld", "setpriv"):
        if found := shutil.which(program):
            (tools / program).symlink_to(found)
    board, told = fine_tuned(tmp_path, str(tools))
    assert board == "native"
    assert sum("not installed" in line for line in told.splitlines()) == 1


def test_the_demo_replaces_its_own_session_but_nothing_else(tmp_path: Path) -> None:
    keep = tmp_path / "demo" / "thesis.tex"
    keep.parent.mkdir()
    keep.write_text("years of work")
    done = subprocess.run([*DEMO, "-o", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "holds no session" in done.stderr
    assert keep.read_text() == "years of work"

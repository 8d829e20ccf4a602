"""What stands in for GVSOC."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from xpulp_programs import simulator

from boards import Board, load_board


@dataclass(frozen=True)
class PulpOpen:
    """A board that starts here, and the file in which its cores show their counts."""

    board: Board
    counts: Path


@pytest.fixture(scope="session")
def gvsoc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a command "gvsoc" and its counts."""
    folder = tmp_path_factory.mktemp("gvsoc")
    cluster = load_board("pulp_open").cluster
    assert cluster is not None
    simulator.stand_in_for_gvsoc(folder, cluster.l1_bytes)
    return folder


@pytest.fixture
def pulp_open(gvsoc: Path, monkeypatch: pytest.MonkeyPatch) -> PulpOpen:
    board = load_board("pulp_open")
    if shutil.which(f"{board.compiler.prefix}gcc") is None:
        pytest.skip(f"{board.compiler.prefix}gcc is not installed")
    monkeypatch.setenv("PATH", f"{gvsoc}:{os.environ['PATH']}")
    return PulpOpen(board, gvsoc / "counts")

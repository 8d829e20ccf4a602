"""Our own machine in the place of GVSOC."""

import sys
from dataclasses import dataclass
from pathlib import Path

from boards import Board, load_board

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "xpulp_iss"))

import simulator


@dataclass(frozen=True)
class PulpOpen:
    """A board that starts here, and the file in which its cores show their counts."""

    board: Board
    counts: Path


def make_gvsoc(folder: Path) -> PulpOpen:
    """Make a command "gvsoc" in `folder`, which is to be on the PATH."""
    board = load_board("pulp_open")
    assert board.cluster is not None
    return PulpOpen(board, simulator.stand_in_for_gvsoc(folder, board.cluster.l1_bytes))

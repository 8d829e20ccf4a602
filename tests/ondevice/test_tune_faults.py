"""A session ends with the same bits whatever becomes of the line, the board, or the host."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cable import Cable
from lossy_line import lossy_line
from tuning import Case, outcome, started_boards

from boards import Running, load_board
from fieldtune.errors import UserError
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.session import Session
from zoo.frames import open_frames

EMULATED = [
    pytest.param(name, marks=pytest.mark.long)
    for name in ("mps2_an386", "mps2_an500", "netduinoplus2", "qemu_riscv32")
]
# Every kind of state: velocities, gradients over several samples, a limit on their norm.
STATEFUL = Hyper(lr=0.02, momentum=0.5, clip_norm=1.0, accumulate=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


@pytest.fixture(scope="module")
def case(folder: Path) -> Case:
    return Case.make(folder, hyper=STATEFUL)


@pytest.fixture(scope="module")
def elf(case: Case, folder: Path) -> Path:
    return case.build(folder / "native")


@pytest.fixture(scope="module")
def undisturbed(case: Case, elf: Path, folder: Path) -> dict[str, Any]:
    with case.start(elf) as board:
        case.tune(folder / "undisturbed", board.url)
    return outcome(folder / "undisturbed")


@pytest.fixture
def board(case: Case, elf: Path) -> Iterator[Running]:
    with case.start(elf) as running:
        yield running
        assert running.alive(), running.last_words()


# --- the line


@pytest.mark.parametrize("seed", [1, 2])
def test_a_line_that_spoils_frames_changes_nothing(
    seed: int, case: Case, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with lossy_line(board.url, 0.02, seed) as (url, faults):
        results = case.tune(tmp_path / "session", url)
    assert sum(faults.values()) > 0
    assert results["resent_frames"] > 0
    assert outcome(tmp_path / "session") == undisturbed


def test_a_cable_that_is_pulled_and_comes_back_changes_nothing(
    case: Case, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    # Within a sample, at its end, and several times in one session.
    with Cable(board.url, cuts=(9_000, 23_457, 23_900, 51_003)) as cable:
        case.tune(tmp_path / "session", cable.url)
    assert cable.pulled == 4
    assert outcome(tmp_path / "session") == undisturbed


# --- the board


@pytest.mark.parametrize("name", ["native", *EMULATED])
def test_a_killed_board_and_resume_change_nothing(
    name: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    case = Case.make(tmp_path, name, STATEFUL)
    session = tmp_path / "session"

    def kill_board() -> None:
        os.kill(next(started_boards()), signal.SIGKILL)

    with pytest.raises(UserError, match=f"the firmware that was started for {name} has ended.*--resume"):
        case.tune(session, events={17: kill_board})
    assert list(started_boards()) == []
    assert Session.open(session).curve().step.tolist() == list(range(1, 18))
    case.tune(session)
    assert outcome(session) == undisturbed


@pytest.mark.parametrize("name", ["native", "mps2_an500"])
def test_spoiled_frames_and_a_killed_board_change_nothing(
    name: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    case = Case.make(tmp_path, name, STATEFUL)
    elf, session = case.build(tmp_path / "firmware"), tmp_path / "session"
    with (
        case.start(elf) as board,
        lossy_line(board.url, 0.02, 3) as (url, _),
        pytest.raises(UserError, match="--resume"),
    ):
        case.tune(session, url, events={22: board.kill})
    with case.start(elf) as board, lossy_line(board.url, 0.02, 4) as (url, _):
        case.tune(session, url)
    assert outcome(session) == undisturbed


@pytest.mark.long
def test_the_real_network_on_a_bad_line_and_a_killed_emulator(
    upydnet_onnx: Path, room_npz: Path, tmp_path: Path
) -> None:
    network, frames = load_network(upydnet_onnx), open_frames(room_npz)
    learning = parse_update("decoder0*,ups0*")
    cases = {
        name: Case(network, plan_network(network, load_board(name), learning), Hyper(lr=0.05))
        for name in ("native", "mps2_an500")
    }
    options = {"frames": frames[:60], "test": 10, "steps": 40}
    cases["native"].tune(tmp_path / "undisturbed", **options)
    case, session = cases["mps2_an500"], tmp_path / "session"
    elf = case.build(tmp_path / "firmware")
    with (
        case.start(elf) as board,
        lossy_line(board.url, 0.02, 5) as (url, _),
        pytest.raises(UserError, match="--resume"),
    ):
        case.tune(session, url, events={22: board.kill}, **options)
    with case.start(elf) as board, lossy_line(board.url, 0.02, 6) as (url, _):
        results = case.tune(session, url, **options)
    assert results["after"]["rmse"] < results["before"]["rmse"] / 4
    assert outcome(session) == outcome(tmp_path / "undisturbed")


def test_a_board_that_starts_anew_is_told_and_resume_changes_nothing(
    case: Case, elf: Path, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    session = tmp_path / "session"
    with case.start(elf) as other:
        # Another board at the same port is what a reset board looks like.
        with (
            Cable(board.url) as cable,
            pytest.raises(UserError, match=r"started anew at step 2\d and lost .* --resume"),
        ):
            case.tune(session, cable.url, events={26: lambda: cable.switch(other.url)})
        case.tune(session, other.url)
    assert outcome(session) == undisturbed


# --- the host

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
from ondevice import session
from tuning import Case, EventfulSession
from test_tune_faults import STATEFUL

method, number = sys.argv[3].split(":")
remaining = int(number)
original = getattr(session.Session, method)

def killing(*arguments):
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)

setattr(session.Session, method, killing)
case = Case.make(Path(sys.argv[2]), hyper=STATEFUL)
EventfulSession.record_step = session.Session.record_step
case.tune(Path(sys.argv[2]) / "session", sys.argv[4])
"""


@pytest.mark.parametrize(
    "moment",
    [
        "save_plan:1",
        "record_sample:1",
        "record_step:15",
        "save_checkpoint:2",
        "record_sample:21",
        "save_checkpoint:3",
        "save_weights:2",
        "save_predictions:1",
        "finish:1",
        "results:1",
    ],
)
def test_a_killed_host_and_resume_change_nothing(
    moment: str, case: Case, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    paths = os.pathsep.join(str(path) for path in (Path(__file__).parents[1], Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, paths, str(tmp_path), moment, board.url],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    case.tune(tmp_path / "session", board.url)
    assert outcome(tmp_path / "session") == undisturbed

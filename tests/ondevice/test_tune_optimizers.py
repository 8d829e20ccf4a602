"""Sessions with Adam, with state and weights in bf16, and with learning rates that change."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cable import Cable
from lossy_line import lossy_line
from tuning import STEPS, Arrays, Case, outcome, started_boards

from boards import Running
from fieldtune.errors import UserError
from ondevice.device import Device, Hyper
from ondevice.learning_rate import Schedule
from ondevice.session import Session

ADAM = Hyper(lr=0.005, weight_decay=0.01, beta1=0.8, beta2=0.99)
COSINE = Schedule("cosine", warmup=7)


def make(folder: Path, board: str = "native", hyper: Hyper = ADAM) -> Case:
    return Case.make(folder, board, hyper, optimizer="adamw", state="bf16", weights="bf16")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimizers")


@pytest.fixture(scope="module")
def case(folder: Path) -> Case:
    return make(folder)


@pytest.fixture(scope="module")
def elf(case: Case, folder: Path) -> Path:
    return case.build(folder / "native")


@pytest.fixture
def board(case: Case, elf: Path) -> Iterator[Running]:
    with case.start(elf) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(case: Case, elf: Path, folder: Path) -> dict[str, Any]:
    with case.start(elf) as board:
        case.tune(folder / "undisturbed", board.url, schedule=COSINE)
    return outcome(folder / "undisturbed")


# --- the same bits, whatever happens


def test_a_bad_line_changes_nothing(
    case: Case, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with lossy_line(board.url, 0.02, 1) as (url, faults):
        case.tune(tmp_path / "session", url, schedule=COSINE)
    assert sum(faults.values()) > 0
    assert outcome(tmp_path / "session") == undisturbed


def test_a_pulled_cable_changes_nothing(
    case: Case, board: Running, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    with Cable(board.url, cuts=(9_000, 23_457, 51_003)) as cable:
        case.tune(tmp_path / "session", cable.url, schedule=COSINE)
    assert cable.pulled == 3
    assert outcome(tmp_path / "session") == undisturbed


@pytest.mark.parametrize("name", ["native", "mps2_an500"])
def test_a_killed_board_and_resume_change_nothing(
    name: str, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    case, session = make(tmp_path, name), tmp_path / "session"

    def kill_board() -> None:
        os.kill(next(started_boards()), signal.SIGKILL)

    with pytest.raises(UserError, match="--resume"):
        case.tune(session, events={17: kill_board}, schedule=COSINE)
    state = last_state(session)
    assert {"corrections", "moment1.depth.weight", "moment2.depth.weight"} <= state.keys()
    assert all(np.any(value) for value in state.values())
    case.tune(session, schedule=COSINE)
    assert outcome(session) == undisturbed


def test_a_session_is_resumed_with_its_own_schedule_only(case: Case, board: Running, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        case.tune(tmp_path, board.url, events={12: _fail}, schedule=COSINE)
    assert Session.open(tmp_path).config["schedule"] == "cosine"
    for other in (Schedule(), Schedule("cosine", warmup=3)):
        with pytest.raises(UserError, match=r"was made with (schedule|warmup) = "):
            case.tune(tmp_path, board.url, schedule=other)


def _fail() -> None:
    raise RuntimeError


# --- what the board does


def last_state(session: Path) -> Arrays:
    """Weights and state after the last step."""
    checkpoint = Session.open(session).load_checkpoint()
    assert checkpoint is not None
    return checkpoint.arrays


def test_corrections_count_the_updates(case: Case, board: Running, tmp_path: Path) -> None:
    case.tune(tmp_path / "session", board.url, schedule=COSINE)
    corrections = last_state(tmp_path / "session")["corrections"].ravel()
    expected = [1 - float(np.float32(beta)) ** STEPS for beta in (ADAM.beta1, ADAM.beta2)]
    assert corrections == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("text", ["linear", "cosine", "step:2:0.5"])
def test_every_update_has_the_rate_of_its_number(text: str, tmp_path: Path) -> None:
    hyper = Hyper(lr=0.02, accumulate=3)
    steps, schedule, case = 18, Schedule.parse(text, warmup=2), Case.make(tmp_path, hyper=hyper)
    with case.start(case.build(tmp_path / "firmware")) as board:
        case.tune(tmp_path / "session", board.url, steps=steps, schedule=schedule)
        with Device.open(board.url) as device:
            device.reset_weights()
            for step, (_, sample) in enumerate(Session.open(tmp_path / "session").samples()):
                scale = schedule.scale(step // hyper.accumulate, steps // hyper.accumulate)
                device.set_hyper(dataclasses.replace(hyper, lr=hyper.lr * scale))
                device.put_sample(sample)
                device.step(step)
            by_hand = device.read_role("weight")
    tuned = last_state(tmp_path / "session")
    for name, value in by_hand.items():
        assert value.tobytes() == tuned[name].tobytes(), name


def test_a_state_in_bf16_is_read_exactly_and_written_to_the_nearest(case: Case, board: Running) -> None:
    with Device.open(board.url) as device:
        name, values = "moment1.depth.weight", np.random.default_rng(0).standard_normal
        written = values(device.tensors[name].array_shape).astype(np.float32)
        assert device.tensors[name].bytes == 2 * written.size
        device.write_tensor(name, written)
        read = device.read_tensor(name)
        assert np.array_equal(read, torch.from_numpy(written).bfloat16().float().numpy())
        device.write_tensor(name, read)
        assert np.array_equal(device.read_tensor(name), read)


@pytest.mark.parametrize("hyper", [Hyper(lr=0.1, beta1=1.0), Hyper(lr=0.1, beta2=1 - 1e-9)])
def test_a_beta_of_one_is_refused(hyper: Hyper, board: Running) -> None:
    with Device.open(board.url) as device, pytest.raises(UserError, match=r"beta\d cannot be .* below 1"):
        device.set_hyper(hyper)


def test_a_warmup_must_end(case: Case, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--warmup is {STEPS}, but there are only {STEPS} updates"):
        case.tune(tmp_path / "session", schedule=Schedule(warmup=STEPS))

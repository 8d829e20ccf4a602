"""A board with sensors of its own learns without a host, and learns what a host would have taught it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from quick_board import quick_board
from tiny import tiny_frames, write_tiny

import boards
from boards import load_board
from fieldtune.errors import BoardError, ModelError, UserError
from firmware_gen.field import Buffer
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device, Hyper
from ondevice.field import FieldBoard, Work
from ondevice.link import RefusedError
from ondevice.recording import write_recording
from ondevice.training_data import sample
from zoo.frames import Frames
from zoo.tof import TofGeometry

# Narrower than the picture, mirrored, and one more status: nothing that both sides could leave out unseen.
GEOMETRY = TofGeometry((50.0, 46.0), (45.0, 45.0), True, False, (5, 6, 9))
FRAMES = Frames.of(list(tiny_frames(20)), GEOMETRY)  # the sensor sees nothing in frame 4
CAPACITY, ROUND, EVERY, EPOCHS = 10, 8, 4, 2
LR = 0.02
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("net") / "tiny.onnx"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "frames.bin"
    write_recording(path, FRAMES)
    return path


def planned(network: Network, board: str, **options: Any) -> Plan:
    update = parse_update("dec,depth", **options)
    return plan_network(network, quick_board(board), update, buffer=Buffer(CAPACITY, GEOMETRY))


@pytest.fixture(scope="module")
def plan(network: Network) -> Plan:
    return planned(network, "native", momentum=True)


@pytest.fixture(scope="module")
def elf(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("firmware") / "project"
    write_project(plan, folder)
    return boards.build(folder, plan.board, sanitize=True).elf


@contextlib.contextmanager
def started(plan: Plan, elf: Path, recording: Path | None) -> Iterator[tuple[Device, FieldBoard]]:
    with boards.start(elf, plan.board, recording=recording) as running:
        with Device.open(running.url, plan_hash=plan.hash()) as device:
            device.reset_weights()  # its flash, a file, may hold what another test has learned
            device.set_hyper(Hyper(LR, momentum=0.5))
            yield device, FieldBoard(device)
        assert running.alive(), running.last_words()


def finished(board: FieldBoard) -> None:
    while not board.progress().at_rest:
        pass


def learned(device: Device) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in device.read_role("weight", "state").items()}


def without_labels(network: Network, output: str) -> Network:
    """Return the network with an output that is not learned."""
    task = network.needed_task()
    outputs = (
        dataclasses.replace(spec, labels="none") if spec.name == output else spec for spec in task.outputs
    )
    return dataclasses.replace(network, task=dataclasses.replace(task, outputs=tuple(outputs)))


def rehearsed(
    device: Device, network: Network, plan: Plan, rounds: int
) -> tuple[dict[str, bytes], list[float]]:
    """Do from here what the board should do on its own; return what it learned and the validation losses."""
    samples = [sample(frame, network.needed_task(), plan.graph, GEOMETRY) for frame in FRAMES]
    losses, step = [], 0

    def judged(numbers: range) -> float:
        found = np.float32(0)
        ready = [samples[k] for k in numbers if k % EVERY == EVERY - 1]
        state = device.read_role("weight", "state")
        for one in ready:
            assert one is not None
            device.put_sample(one)
            device.set_hyper(Hyper(0.0))
            nonlocal step
            found = np.float32(found + np.float32(device.step(step).losses[0]))
            step += 1
            device.write_tensors(state)
        device.set_hyper(Hyper(LR, momentum=0.5))
        return float(np.float32(found / np.float32(len(ready))))

    for number in range(rounds):
        have = (number + 1) * ROUND
        ring = range(max(0, have - CAPACITY), have)
        losses.append(judged(ring))
        for _ in range(EPOCHS):
            for k in ring:
                one = samples[k]
                if k % EVERY != EVERY - 1 and one is not None:
                    device.put_sample(one)
                    device.step(step)
                    step += 1
        losses.append(judged(ring))
    return learned(device), losses


def test_rounds_without_a_host_give_the_bits_of_a_host(
    network: Network, plan: Plan, elf: Path, recording: Path
) -> None:
    with started(plan, elf, None) as (device, _):
        wanted, losses = rehearsed(device, network, plan, 2)
    with started(plan, elf, recording) as (device, board):
        board.start(Work(2, ROUND, EVERY, EPOCHS))
        device.close()
        device.reconnect(10)
        finished(board)
        done = board.progress()
        assert (done.round, done.improved, done.undone, done.samples) == (2, 2, 0, 2 * ROUND)
        assert [loss for pair in board.rounds() for loss in pair] == losses
        assert losses[1] < losses[0]
        assert losses[3] < losses[2]
        assert learned(device) == wanted
        assert done.skipped == EPOCHS  # frame 4; the second round's ring begins behind it
        assert device.reconnect(10).step == done.learned
        assert device.memory().arena_intact


def test_what_a_good_round_has_learned_survives_a_power_cut_and_what_a_bad_one_has_does_not(
    plan: Plan, elf: Path, recording: Path
) -> None:
    with started(plan, elf, recording) as (device, board):
        board.start(Work(1, ROUND, EVERY))
        finished(board)
        assert board.progress().improved == 1
        better = device.read_role("weight")
        device.reboot()
        assert all((device.read_role("weight")[name] == better[name]).all() for name in better)
        device.set_hyper(Hyper(1e4))
        board.start(Work(1, ROUND, EVERY))
        finished(board)
        assert board.progress().undone == 1
        device.reboot()
        assert all((device.read_role("weight")[name] == better[name]).all() for name in better)


def test_a_round_that_makes_it_worse_leaves_no_trace(plan: Plan, elf: Path, recording: Path) -> None:
    with started(plan, elf, recording) as (device, board):
        before = learned(device)
        device.set_hyper(Hyper(1e4))
        board.start(Work(1, ROUND, EVERY))
        finished(board)
        done = board.progress()
        assert (done.improved, done.undone, done.learned) == (0, 1, 5)
        assert not done.after < done.before  # also when it is NaN
        assert learned(device) == before


def test_work_that_is_ended_in_the_middle_leaves_no_trace(plan: Plan, elf: Path, recording: Path) -> None:
    with started(plan, elf, recording) as (device, board):
        before = learned(device)
        board.start(Work(1, ROUND, EVERY, epochs=100_000))
        while not board.progress().learned:
            pass
        assert board.stop().at_rest
        assert learned(device) == before


def test_a_board_at_work_lets_nobody_change_what_it_works_on(plan: Plan, elf: Path, recording: Path) -> None:
    with started(plan, elf, recording) as (device, board):
        board.start(Work(0, ROUND, EVERY))  # until the recording ends, and then it waits
        weight = device.read_role("weight")
        for change in (
            lambda: device.write_tensors(weight),
            device.run_inference,
            lambda: device.step(0),
            lambda: device.set_hyper(Hyper(1.0)),
            device.reset_weights,
            lambda: device.set_step(3),
            board.take,
            lambda: board.start(Work(1, 1)),
        ):
            with pytest.raises(RefusedError, match="at work on its own"):
                change()
        assert board.stop().at_rest
        device.write_tensors(weight)


def test_samples_from_the_host_or_the_sensors_are_the_same(plan: Plan, elf: Path, recording: Path) -> None:
    with started(plan, elf, recording) as (_, seeing), started(plan, elf, None) as (_, told):
        for number in range(CAPACITY + 2):
            seeing.take()
            told.put(FRAMES[number])
        with pytest.raises(UserError, match="does not hold sample 1;"):
            told.sample(1)
        for number in range(2, CAPACITY + 2):
            a, b, frame = seeing.sample(number), told.sample(number), FRAMES[number]
            assert a.rgb.tobytes() == b.rgb.tobytes()
            for tof in (a.tof, b.tof):
                assert tof is not None
                assert frame.tof is not None
                assert (tof.distance_mm == frame.tof.distance_mm).all()
                assert (tof.status == frame.tof.status).all()
        with pytest.raises(RefusedError, match="nothing new"):
            told.take()


def test_several_epochs_need_no_host_and_no_sensors(plan: Plan, elf: Path) -> None:
    with started(plan, elf, None) as (_, board):
        for frame in FRAMES[5:11]:
            board.put(frame)
        assert board.progress().samples == 6
        board.start(Work(1, 0, 0, epochs=9, steps=20))
        finished(board)
        done = board.progress()
        assert (done.learned, done.round, done.improved, done.undone) == (20, 1, 0, 0)
        with pytest.raises(RefusedError, match="out of range"):
            board.start(Work(1, CAPACITY + 1))


def test_emulated_boards_give_the_bits_of_this_computer(
    network: Network, plan: Plan, elf: Path, recording: Path, tmp_path: Path
) -> None:
    emulated = planned(network, "mps2_an500", momentum=True)
    write_project(emulated, tmp_path / "project")
    firmware = boards.build(tmp_path / "project", emulated.board)
    assert firmware.ram_bytes == emulated.ram_bytes
    found = []
    for where, file in ((plan, elf), (emulated, firmware.elf)):
        with started(where, file, recording) as (device, board):
            board.start(Work(2, ROUND, EVERY))
            finished(board)
            found.append((learned(device), board.rounds(), board.progress()))
    assert found[0] == found[1]


def test_a_firmware_without_a_buffer_pays_nothing_and_says_so(network: Network, tmp_path: Path) -> None:
    plan = plan_network(network, load_board("mps2_an500"), parse_update("depth"))
    write_project(plan, tmp_path)
    firmware = boards.build(tmp_path, plan.board)
    assert firmware.ram_bytes == plan.ram_bytes
    assert not [name for name in firmware.symbols if "field" in name and name != "field_command"]
    with (
        boards.start(firmware.elf, plan.board) as running,
        Device.open(running.url) as device,
        pytest.raises(UserError, match="has no sample buffer"),
    ):
        FieldBoard(device)


def test_what_cannot_be_is_refused_in_a_sentence(network: Network, tmp_path: Path, recording: Path) -> None:
    native = load_board("native")
    update = parse_update("depth")
    with pytest.raises(UserError, match="nothing would learn"):
        plan_network(network, native, UpdatePlan(()), buffer=Buffer(3))
    with pytest.raises(UserError, match="--buffer is 0"):
        plan_network(network, native, update, buffer=Buffer(0))
    heads = load_network(write_tiny(tmp_path / "two.onnx", ("depth", "segments")))
    with pytest.raises(ModelError, match="segments does not learn from the depth sensor"):
        plan_network(heads, native, parse_update("depth"), buffer=Buffer(3))
    assert plan_network(without_labels(heads, "segments"), native, update, buffer=Buffer(3)).field
    blind = dataclasses.replace(native, sensors=None)
    (tmp_path / "elf").write_text("")
    with (
        pytest.raises(BoardError, match="shows no recorded frames"),
        boards.start(tmp_path / "elf", blind, recording=recording),
    ):
        pass

"""Every layer counted alone: exact on emulated boards, the same each time, together the whole."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_board import quick_board
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo
from tiny import write_tiny

from boards import build, load_board, start
from boards.board import Power, Usb
from fieldtune import __version__
from fieldtune.__main__ import main
from fieldtune.errors import BoardError
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.step_parts import step_parts
from firmware_gen.update import parse_update
from ondevice.device import Device, Hyper
from ondevice.profile import Profile, profile
from ondevice.verify_inputs import random_samples
from ondevice.workbench import open_board

EMULATED = ["mps2_an386", "qemu_riscv32"]
OTHER_TIMERS = ["microbit", "mps2_an505", "mps3_an547", "netduinoplus2"]
UPDATE = "dec,depth"
INTERRUPT_BYTES = 200
SYSTICK_WRAPS = 60  # instructions of the handler, twice at most
DISPATCH = 60  # instructions that calling a step takes at most
# Rows x columns of the output, taps, channels in and out; the taps of `up` do not overlap.
MACS = {
    "image": 0,
    "enc0": 16 * 16 * 9 * 3 * 6,
    "enc1": 8 * 8 * 9 * 6 * 8,
    "up": 16 * 16 * 1 * 8 * 6,
    "skip": 0,
    "dec": 16 * 16 * 9 * 12 * 12,
    "depth": 16 * 16 * 9 * 12 * 1,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


def plan_for(model: Path, board: str, update: str | None = None, **kept: Any) -> Plan:
    return plan_network(load_network(model), quick_board(board), parse_update(update, **kept))


def assert_alike(one: Profile, other: Profile, wrap: int = 0) -> None:
    """All is equal but the stack, on which an interrupt may or may not have come where it was deepest.

    `wrap`: instructions that a timer's own interrupt may add to a count.
    """
    assert one.stack_bytes == pytest.approx(other.stack_bytes, abs=INTERRUPT_BYTES)
    assert one.total == pytest.approx(other.total, abs=wrap)
    counts, others = ([layer.count for layer in each.layers] for each in (one, other))
    assert counts == pytest.approx(others, abs=wrap)
    layers = tuple(dataclasses.replace(a, count=b) for a, b in zip(one.layers, others, strict=True))
    same = dataclasses.replace(one, stack_bytes=0, total=other.total, layers=layers)
    assert same == dataclasses.replace(other, stack_bytes=0)


@pytest.mark.parametrize("board", EMULATED)
def test_an_inference_is_counted_alike_each_time_and_sums_up(model: Path, board: str) -> None:
    plan = plan_for(model, board)
    found = profile(plan)
    assert_alike(found, profile(plan))
    assert found.unit == "instructions"
    assert {layer.name: layer.macs for layer in found.layers} == MACS
    assert {layer.phase for layer in found.layers} == {"forward"}
    assert all(layer.count >= found.call > 0 for layer in found.layers)
    assert 0 <= sum(layer.count for layer in found.layers) - found.total < DISPATCH * len(found.layers)
    for layer in found.layers:
        assert layer.macs <= layer.count <= 20 * layer.macs or layer.macs == 0


@pytest.mark.parametrize("board", EMULATED)
@pytest.mark.parametrize("keep_gradients", [False, True])
def test_a_training_step_is_counted_alike_each_time_and_sums_up(
    model: Path, board: str, keep_gradients: bool
) -> None:
    plan = plan_for(model, board, UPDATE, keep_gradients=keep_gradients)
    found = profile(plan, hyper=Hyper(0.01, clip_norm=float(keep_gradients)))
    assert_alike(found, profile(plan, hyper=Hyper(0.01, clip_norm=float(keep_gradients))))
    phases = [layer.phase for layer in found.layers]
    assert phases[: len(MACS)] == ["forward"] * len(MACS)
    assert set(phases[len(MACS) :]) == {"backward", "update"}
    assert {"clear", "apply"} <= {layer.name for layer in found.layers} or not keep_gradients
    backward = sum(layer.macs for layer in found.layers[len(MACS) :])
    assert backward == MACS["depth"] * 2 + MACS["dec"]  # `dec` lies lowest: nobody asks for its input's
    assert 0 <= sum(layer.count for layer in found.layers) - found.total < DISPATCH * len(found.layers)


@pytest.mark.parametrize("board", OTHER_TIMERS)
def test_every_timer_counts_alike_each_time(tmp_path: Path, board: str) -> None:
    small = write_tiny(tmp_path / "tiny.onnx", size=4)  # what it takes to train fits into 16 KB
    plan = plan_for(small, board, UPDATE)
    found = profile(plan)
    # Every 6 million instructions the handler of a 24-bit SysTick that wraps falls into a count.
    assert_alike(found, profile(plan), wrap=SYSTICK_WRAPS if board == "netduinoplus2" else 0)
    assert found.unit == "instructions"
    assert 0 <= sum(layer.count for layer in found.layers) - found.total < DISPATCH * len(found.layers)


@pytest.mark.parametrize(("board", "resolution"), [("mps2_an386", 40), ("qemu_riscv32", 100)])
def test_the_count_is_what_a_coarser_clock_says(
    model: Path, tmp_path: Path, board: str, resolution: int
) -> None:
    plan = plan_for(model, board)
    write_project(plan, tmp_path / "project")
    elf = build(tmp_path / "project", plan.board).elf
    with start(elf, plan.board, icount=0) as running, Device.open(running.url) as device:
        device.put_sample(random_samples(plan.graph, 1, seed=0)[0])
        coarse = device.run_inference() * 10**9 // device.hello.ticks_hz
    assert profile(plan, seed=0).total == pytest.approx(coarse, abs=resolution)


@pytest.mark.parametrize("board", ["mps2_an385", "mps2_an386"])  # the first with libgcc's functions
def test_the_memory_is_that_of_the_linked_image(model: Path, board: str) -> None:
    found = profile(plan_for(model, board))
    assert found.ram_bytes == plan_for(model, board).ram_bytes
    assert found.flash["constants"] > 4 * (12 * 12 * 9 + 8 * 6 * 4)  # two of the weights
    assert min(found.flash.values()) >= 0
    assert found.flash_bytes == sum(found.flash.values())
    assert 0 < found.stack_bytes < load_board(board).stack_bytes


def test_on_this_computer_the_unit_is_nanoseconds(model: Path) -> None:
    found = profile(plan_for(model, "native", UPDATE))
    assert found.unit == "ns"
    assert found.total > 0
    assert all(layer.count > 0 for layer in found.layers)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("keep_gradients", [False, True])
def test_a_step_in_pieces_gives_the_bits_of_a_whole_one(
    model: Path, tmp_path: Path, keep_gradients: bool, optimizer: str
) -> None:
    plan = plan_for(model, "native", UPDATE, keep_gradients=keep_gradients, optimizer=optimizer)
    parts = len(step_parts(plan))
    sample: dict[str, Any] = dict(random_samples(plan.graph, 1, seed=1)[0])
    sample["depth.label"] = np.full(plan.graph.shape("depth.label"), 2, np.float32)
    sample["depth.mask"] = np.ones(plan.graph.shape("depth.mask"), np.uint8)
    with open_board(plan, tmp_path / "project") as device:
        device.set_hyper(Hyper(lr=0.05, accumulate=2 if keep_gradients else 1))
        whole = [_step(device, sample, step, [(0, parts)]) for step in range(4)]
        device.reset_weights()
        pieces = [_step(device, sample, step, [(k, k + 1) for k in range(parts)]) for step in range(4)]
    for expected, got in zip(whole, pieces, strict=True):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            assert value.tobytes() == got[name].tobytes(), name
    assert whole[0]["losses"] != whole[-1]["losses"]


def _step(
    device: Device, sample: dict[str, Any], step: int, pieces: list[tuple[int, int]]
) -> dict[str, np.ndarray]:
    device.put_sample(sample)
    losses = [device.step(step, first, end).losses for first, end in pieces][-1]
    return {**device.read_role("weight", "gradient", "state"), "losses": np.array(losses)}


def test_energy_is_an_estimate_from_a_known_clock_and_power(model: Path) -> None:
    board = load_board("mps2_an386")
    powered = dataclasses.replace(board, clock_hz=100_000_000, power=Power(50.0, "at 3.3 V", "data sheet"))
    found = Profile(powered, "cycles", 0, {}, 0, 2_000_000, 0, ())
    assert found.energy_uj == pytest.approx(1000)  # 20 ms at 50 mW
    assert found.describe()["energy_source"].startswith("estimate: 50 mW at 3.3 V")
    in_time = dataclasses.replace(found, unit="ns", total=20_000_000)
    assert in_time.energy_uj == pytest.approx(1000)
    for unknown in (
        dataclasses.replace(found, unit="instructions"),
        dataclasses.replace(found, board=board),
        dataclasses.replace(found, board=dataclasses.replace(powered, clock_hz=None)),
    ):
        assert unknown.energy_uj is None
        assert "energy_uj" not in unknown.describe()


@pytest.mark.parametrize(("clock", "unit"), [(10**9, "cycles"), (None, "ns")])
def test_a_board_at_a_port_counts_with_its_own_clock(
    model: Path, tmp_path: Path, clock: int | None, unit: str
) -> None:
    plan = plan_for(model, "native", UPDATE)
    write_project(plan, tmp_path / "project")
    elf = build(tmp_path / "project", plan.board).elf
    elsewhere = dataclasses.replace(plan.board, runs_in=(), clock_hz=clock)
    with start(elf, plan.board) as running:
        found = profile(dataclasses.replace(plan, board=elsewhere), running.url)
    assert found.unit == unit
    assert found.total > 0


def test_the_one_board_that_is_connected_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_for(model, "native")
    write_project(plan, tmp_path / "project")
    elf = build(tmp_path / "project", plan.board).elf
    usb = Usb(ids=("0483:374e",), bootloader_ids=(), reenumerates=False, source="a test")
    plan = dataclasses.replace(plan, board=dataclasses.replace(plan.board, runs_in=(), usb=usb))
    with start(elf, load_board("native")) as running:
        port = ListPortInfo(running.url)
        port.vid, port.pid, port.serial_number, port.product = 0x0483, 0x374E, "003A", "STLINK-V3"
        monkeypatch.setattr(list_ports, "comports", lambda: [port])
        assert profile(plan).unit == "ns"
        with open_board(plan, tmp_path / "unused") as device:
            assert device.hello.plan_hash == plan.hash()
    assert f"native is at {running.url}: STLINK-V3" in capsys.readouterr().err


def test_an_emulator_at_a_port_counts_nothing(model: Path) -> None:
    with pytest.raises(BoardError, match="leave out --port"):
        profile(plan_for(model, "mps2_an386"), port="/dev/null")


def test_json_has_the_keys_that_scripts_rely_on(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["profile", str(model), "--board", "mps2_an386", "--train", "--update", UPDATE, "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["board"], found["unit"]) == ("mps2_an386", "instructions")
    assert {"ram_bytes", "flash_bytes", "stack_bytes", "total", "layers"} <= found.keys()
    assert all({"name", "op", "phase", "macs", "count"} == layer.keys() for layer in found["layers"])
    assert {layer["phase"] for layer in found["layers"]} == {"forward", "backward", "update"}
    firmware = found["firmware"]
    plan = plan_for(model, "mps2_an386", UPDATE)
    assert (firmware["model_hash"], firmware["plan_hash"]) == (plan.graph.fingerprint(), plan.hash())
    assert (firmware["board"], firmware["fieldtune"]) == ("mps2_an386", __version__)
    assert firmware["compiler"].startswith("arm-none-eabi-gcc ")


def test_a_person_reads_a_table_with_bars(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(model), "--board", "mps2_an386"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("one inference")
    rows = {line.split()[0]: line for line in lines[2 : 2 + len(MACS)]}
    assert rows.keys() == MACS.keys()
    assert rows["dec"].count("█") > rows["enc0"].count("█") > 0
    assert any(line.split()[:2] == ["static", "RAM"] for line in lines)


@pytest.mark.parametrize("words", [["--train"], ["--update", UPDATE]])
def test_training_needs_both_options(
    model: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(model), "--board", "mps2_an386", *words]) == 2
    assert "needs both --train and --update" in capsys.readouterr().err

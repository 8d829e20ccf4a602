"""What the firmware takes on every board equals what the plan says, byte for byte."""

from pathlib import Path

import numpy as np
import pytest
from tuning import FRAMES, Case

import boards
from boards import load_board
from firmware_gen.plan import Plan
from firmware_gen.project import plan_network, write_project
from firmware_gen.update import UpdatePlan
from ondevice.device import Device, Hyper
from ondevice.training_data import sample

CROSS_COMPILED = ["mps2_an386", "mps2_an500", "mps3_an547", "netduinoplus2", "qemu_riscv32"]
UPDATES = {
    "inference": UpdatePlan(),
    "training": UpdatePlan(("dec*", "depth")),
    "training with all state": UpdatePlan(("*",), momentum=True, keep_gradients=True),
    "training with moments": UpdatePlan(("*",), optimizer="adam", state="bf16"),
    "training in bf16": UpdatePlan(("*",), momentum=True, state="bf16", weights="bf16", clip_norm=True),
}
SOME_STATE = ("training", "training with moments", "training in bf16")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case.make(tmp_path_factory.mktemp("memory"), heads=("depth", "kind"))


@pytest.mark.parametrize(
    ("name", "update"),
    [
        *((name, update) for name in CROSS_COMPILED for update in ("inference", "training with all state")),
        *(("mps2_an500", update) for update in SOME_STATE),
        *(pytest.param("qemu_riscv32", update, marks=pytest.mark.long) for update in SOME_STATE),
    ],
)
def test_a_firmware_takes_what_its_plan_says(name: str, update: str, case: Case, tmp_path: Path) -> None:
    board = load_board(name)
    plan = plan_network(case.network, board, UPDATES[update])
    write_project(plan, tmp_path / "project")
    firmware = boards.build(tmp_path / "project", board)
    assert firmware.ram_bytes == plan.ram_bytes
    sizes = firmware.symbols
    assert sizes["arena"] == plan.ram["arena"]
    assert sizes["firmware"] == plan.ram["link"]
    learned = [name.replace(".", "_") for name in plan.graph.trained]
    assert sum(sizes[f"w_{name}"] for name in learned) == plan.ram["weights"]
    kinds = ("g", "v", "m1", "m2")
    state = [f"{kind}_{name}" for kind in kinds for name in learned] + [
        "accumulated",
        "corrections",
        "generator",
    ]
    assert sum(sizes.get(name, 0) for name in state) == plan.ram["state"]
    assert firmware.flash_bytes <= board.flash_bytes
    with boards.start(firmware.elf, board) as running, Device.open(running.url) as device:
        if update == "inference":
            device.infer({"image": np.zeros((16, 16, 3), np.uint8)})
        else:
            _train(device, case, plan)
        memory = device.memory()
    assert memory.arena_intact
    assert memory.stack_bytes == board.stack_bytes
    assert 0 < memory.stack_used <= board.stack_bytes
    assert memory.rx_overruns == memory.bad_frames == 0


def _train(device: Device, case: Case, plan: Plan) -> None:
    device.set_hyper(Hyper(lr=0.02, momentum=0.5, clip_norm=1.0))
    for step, frame in enumerate(FRAMES[:3]):
        sent = sample(frame, case.network.needed_task(), plan.graph, FRAMES.geometry)
        assert sent is not None
        device.put_sample(sent)
        device.step(step)

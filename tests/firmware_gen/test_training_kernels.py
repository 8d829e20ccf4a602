"""Float32 layers that learn give the bits of `native` with every board's own instructions."""

from pathlib import Path

import numpy as np
import pytest
from learning_layers import random_layers
from networks import Net
from numpy.typing import NDArray
from quick_board import quick_board

from boards import Board, load_board
from firmware_gen.backward import training_graph
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan
from ondevice.device import Hyper
from ondevice.workbench import open_board

STEPS = 2
UPDATES = {
    "at once": UpdatePlan(("*",), momentum=True),
    "clipped as one": UpdatePlan(("*",), clip_norm=True, weights="bf16", state="bf16"),
    "kept gradients": UpdatePlan(("*",), keep_gradients=True),
    "velocities in bf16": UpdatePlan(("*",), momentum=True, state="bf16"),
    "weights and velocities in bf16": UpdatePlan(("*",), momentum=True, state="bf16", weights="bf16"),
    "Adam at once": UpdatePlan(("*",), optimizer="adam", state="bf16"),
    "a third of the channels": UpdatePlan(("*:1/3",), momentum=True),
    "AdamW of kept gradients": UpdatePlan(("*",), keep_gradients=True, optimizer="adamw"),
}
# The others are repetitions: long. `native` comes with firmware's specialised kernels.
SHORT = {
    "native": ("at once",),
    "mps2_an386": ("at once", "clipped as one", "Adam at once", "AdamW of kept gradients"),
    "mps3_an547": ("velocities in bf16", "Adam at once", "a third of the channels"),
    "qemu_riscv32": ("at once", "weights and velocities in bf16"),
}


@pytest.mark.parametrize(
    ("board", "name"),
    [
        pytest.param(board, name, marks=() if name in short else pytest.mark.long)
        for board, short in SHORT.items()
        for name in UPDATES
    ],
)
def test_random_layers(board: str, name: str, tmp_path: Path) -> None:
    update = UPDATES[name]
    net = random_layers(seed=5 + update.keep_gradients)
    expected = _learn(net, update, quick_board("native"), tmp_path)
    found = _learn(net, update, load_board(board), tmp_path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), f"{name} differs on {board}"


def test_as_many_channels_as_bytes_from_weight_to_weight(tmp_path: Path) -> None:
    # GCC gave the count and the step of blocks_vfp.h one register: see there.
    net = Net(seed=6)
    net.loss(net.conv(net.input(32, 4, 4), 8), "mse")
    boards = (quick_board("native"), load_board("mps2_an386"))
    native, emulated = (_learn(net, UPDATES["at once"], board, tmp_path) for board in boards)
    for name, value in native.items():
        assert np.array_equal(value, emulated[name]), name


def _plan(net: Net, update: UpdatePlan, board: Board, folder: Path) -> Plan:
    graph = training_graph(net.graph(folder), tuple(net.losses), update)
    return make_plan(lighten(graph), board)


def _learn(net: Net, update: UpdatePlan, board: Board, folder: Path) -> dict[str, NDArray[np.uint32]]:
    """Return the bits of losses, weights and outputs after some steps."""
    plan = _plan(net, update, board, folder)
    random = np.random.default_rng(3)
    graph = plan.graph
    with open_board(plan, folder / board.id) as device:
        device.set_hyper(Hyper(lr=0.02, momentum=0.9, weight_decay=0.01, clip_norm=1.0))
        losses = []
        for step in range(STEPS):
            sample = {
                name: random.standard_normal(graph.shape(name)).astype(np.float32)
                for name in (*graph.inputs, *graph.labels)
            }
            device.put_sample(sample | {name: np.ones(graph.shape(name), np.uint8) for name in graph.masks})
            losses += device.step(step).losses
        assert device.memory().arena_intact
        found = {**device.read_role("weight", "state"), "losses": np.array(losses, np.float32)}
    return {name: np.asarray(value, np.float32).view(np.uint32) for name, value in found.items()}

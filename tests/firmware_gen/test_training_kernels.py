"""Float32 layers that learn give the bits of `native` with every board's own instructions."""

from pathlib import Path

import numpy as np
import pytest
from networks import Net
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.backward import training_graph
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan
from ondevice.device import Hyper
from ondevice.workbench import open_board

STEPS = 2
BOARDS = ("mps2_an386", "mps3_an547", "qemu_riscv32")
# Blocks have 1, 2 or 4 rows and 4, 8 or 16 channels, and loops take two products at once.
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 20, 31, 33)


def _random_layers(seed: int) -> Net:
    """Return layers of each kind, with odd shapes, all of which learn; below each one more layer learns."""
    net = Net(seed)
    random = net.rng
    for kind in ("conv", "conv", "pointwise", "grouped", "depthwise", "depthwise", "up", "linear"):
        taken, given = random.choice(CHANNELS, 2).tolist()
        height, width = random.integers(3, 12, 2).tolist()
        kernel, stride, dilation = (random.integers(1, most + 1, 2).tolist() for most in (3, 3, 2))
        x = net.conv(net.input(1, height, width), taken)
        reach = [dilation[k] * (kernel[k] - 1) for k in (0, 1)]
        pads = (reach[0], reach[1], random.integers(0, reach[0] + 1), random.integers(0, reach[1] + 1))
        pads = tuple(map(int, pads))
        if kind == "conv":
            y = net.conv(x, given, kernel, stride, pads, dilation)
        elif kind == "pointwise":
            y = net.conv(x, given)
        elif kind == "grouped":
            y = net.conv(net.conv(x, 15), 9, kernel, stride, pads, dilation, groups=3)
        elif kind == "depthwise":
            channels = int(random.choice([6, 16, 20, 33]))
            y = net.conv(net.conv(x, channels), channels, kernel, stride, pads, dilation, groups=channels)
        elif kind == "up":
            y = net.conv_transpose(x, given, kernel, stride, (0, 0, 0, 0), (0, 0), dilation)
        else:
            y = net.linear(net.flatten(x), given, "gemm")
        net.loss(y, "mse")
    return net


UPDATES = {
    "at once": UpdatePlan(("*",), momentum=True),
    "kept gradients": UpdatePlan(("*",), keep_gradients=True),
    "velocities in bf16": UpdatePlan(("*",), momentum=True, state="bf16"),
    "Adam at once": UpdatePlan(("*",), optimizer="adam", state="bf16"),
    "a third of the channels": UpdatePlan(("*:1/3",), momentum=True),
    "AdamW of kept gradients": UpdatePlan(("*",), keep_gradients=True, optimizer="adamw"),
}


@pytest.mark.parametrize(
    ("board", "name"),
    [
        *((board, name) for board in BOARDS for name in ("at once", "kept gradients", "Adam at once")),
        ("mps2_an386", "AdamW of kept gradients"),
        ("mps3_an547", "velocities in bf16"),
        ("mps2_an386", "a third of the channels"),
        ("mps3_an547", "a third of the channels"),
    ],
)
def test_random_layers(board: str, name: str, tmp_path: Path) -> None:
    update = UPDATES[name]
    net = _random_layers(seed=5 + update.keep_gradients)
    native, emulated = (_learn(net, update, name, tmp_path) for name in ("native", board))
    assert native.keys() == emulated.keys()
    for name, value in native.items():
        assert np.array_equal(value, emulated[name]), f"{name} differs on {board}"


def _plan(net: Net, update: UpdatePlan, board: str, folder: Path) -> Plan:
    graph = training_graph(net.graph(folder), tuple(net.losses), update)
    return make_plan(lighten(graph), load_board(board))


def _learn(net: Net, update: UpdatePlan, board: str, folder: Path) -> dict[str, NDArray[np.uint32]]:
    """Return the bits of losses, weights and outputs after some steps."""
    plan = _plan(net, update, board, folder)
    random = np.random.default_rng(3)
    graph = plan.graph
    with open_board(plan, folder / board) as device:
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

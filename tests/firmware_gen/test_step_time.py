"""The estimate of a step's time is near what QEMU counts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from networks import Net
from test_mixed import mixed_network

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.update import UpdatePlan
from ondevice.profile import profile

BOARDS = ("mps2_an500", "mps3_an547", "qemu_riscv32")


def float_training(folder: Path) -> Graph:
    net = Net(seed=3)
    x = net.activation(net.conv(net.input(3, 32, 32), 16, (3, 3), (2, 2), (1, 1, 1, 1)), "LeakyRelu")
    x = net.activation(net.conv(x, 32, (3, 3), (1, 1), (1, 1, 1, 1)), "LeakyRelu")
    net.loss(net.conv(x, 1, (3, 3), pads=(1, 1, 1, 1)), "mse")
    return lighten(training_graph(net.graph(folder), tuple(net.losses), UpdatePlan(("*",))))


def thawed_training(folder: Path) -> Graph:
    losses = (LossSpec("y", "mse"),)
    return lighten(training_graph(mixed_network(folder), losses, UpdatePlan(("low", "head"))))


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("graph", [float_training, thawed_training])
def test_a_training_step_takes_what_was_estimated_within_a_third(
    graph: Callable[[Path], Graph], board: str, tmp_path: Path
) -> None:
    plan = make_plan(graph(tmp_path), load_board(board))
    assert plan.instructions == pytest.approx(profile(plan).total, rel=1 / 3)


@pytest.mark.long
def test_floats_in_software_on_the_smallest_core_are_estimated_within_a_third(tmp_path: Path) -> None:
    """An Armv7-M core runs the code of an Armv6-M one, and QEMU gives it room."""
    board = load_board("mps2_an385")
    compiler = dataclasses.replace(board.compiler, flags=load_board("microbit").compiler.flags)
    small = dataclasses.replace(board, core="Cortex-M0", compiler=compiler)
    plan = make_plan(float_training(tmp_path), small)
    assert plan.instructions > 1.5 * make_plan(float_training(tmp_path), board).instructions
    assert plan.instructions == pytest.approx(profile(plan).total, rel=1 / 3)

"""Layers on moving grids, and int8 weights that learn, with Xpulp's SIMD: steps give the bits of `native`."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xpulp_programs import PLAIN, SANITIZED, in_simulator, on_host, simulator

pytest.importorskip("torch")

from qdq_models import Scale
from qdq_networks import Join, Layer, QdqNetwork, assert_equal, learned
from quick_board import PLAIN_FUNCTIONS

from boards import Board, load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.emit.model import model_c
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan, parse_update

TRAIN = Path(__file__).with_name("xpulp_train.c")
STEPS = 3


def network(float_head: bool) -> QdqNetwork:
    """Return a network with plain, depthwise, transposed and grouped layers above `head`."""
    parts = (
        Layer("low", "x", (6, 3, 3, 3), Scale(0.03, 2)),
        Layer("head", "low", (12, 6, 3, 3), Scale(0.02, -90), "LeakyRelu", float_weight=float_head),
        Layer("thin", "head", (12, 1, 3, 3), Scale(0.03, -128), "Relu", stride=2, groups=12),
        Layer("up", "thin", (12, 9, 2, 2), Scale(0.02, 5), up=True),
        Join("joined", ("low", "up"), Scale(0.03, 2)),
        Layer("mix", "joined", (9, 15, 3, 3), Scale(0.02, -90), "LeakyRelu"),
        Layer("split", "mix", (12, 3, 1, 1), Scale(0.02, -90), "Relu", groups=3),
        Layer("y", "split", (2, 12, 1, 1), Scale(0.02, 0)),
    )
    return QdqNetwork(parts, size=10, seed=11)


def plan_for(board: Board, net: QdqNetwork, int8_weights: bool, folder: Path) -> Plan:
    layers = ("head", "thin", "up", "mix", "split", "y")
    update = UpdatePlan(layers, weights="int8") if int8_weights else parse_update("head")
    graph = lighten(training_graph(net.graph(folder), (LossSpec("y.dq", "mse"),), update))
    return make_plan(graph, board)


def sample_bytes(plan: Plan, sample: dict[str, Any]) -> bytes:
    graph = plan.graph
    return b"".join(sample[name].tobytes() for name in (*graph.inputs, *graph.labels, *graph.masks))


@pytest.mark.parametrize("int8_weights", [False, True])
def test_training_steps(int8_weights: bool, tmp_path: Path) -> None:
    net = network(float_head=not int8_weights)
    native = plan_for(load_board("native"), net, int8_weights, tmp_path)
    plan = plan_for(simulator.board(tmp_path), net, int8_weights, tmp_path)
    code = model_c(plan)
    assert code.count("FT_TABLES_XPULP, to}") >= 6
    assert ("ft_pack_i8_xpulp(" in code) == int8_weights
    assert ("ft_conv2d_grad_w_dots_i8(" in code) == int8_weights
    given = b"".join(sample_bytes(plan, net.sample(seed)) for seed in range(STEPS))
    host = simulator.build_host_model(native, tmp_path / "native", PLAIN, TRAIN)
    portable = simulator.build_host_model(plan, tmp_path / "portable", (*PLAIN, *SANITIZED), TRAIN)
    core = simulator.build_model(plan, tmp_path / "core", (), TRAIN)
    truth = on_host(host, given)
    steps = np.frombuffer(truth, np.uint8).reshape(STEPS, -1)
    assert all((steps[k] != steps[k + 1]).sum() > 20 for k in range(STEPS - 1)), "nothing was learned"
    assert on_host(portable, given) == truth
    assert in_simulator(core, given) == truth


def test_firmware_for_a_board_of_this_kind_learns_as_native(tmp_path: Path) -> None:
    net, found = network(float_head=True), []
    for board in (load_board("native"), simulator.board(tmp_path)):
        found.append(learned(net, plan_for(_quick(board), net, False, tmp_path), tmp_path))
    assert_equal(*found)


def _quick(board: Board) -> Board:
    flags = (*board.compiler.flags, *PLAIN_FUNCTIONS)
    return dataclasses.replace(board, compiler=dataclasses.replace(board.compiler, flags=flags))

"""Training with products in binary16: the same bits on every board, and gradients near float64 autograd's."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from networks import Net
from numpy.typing import NDArray
from proof import error, hwc
from quick_board import quick_board
from tiny import write_tiny

from boards import Board, load_board
from fieldtune.__main__ import main
from firmware_gen.backward import training_graph
from firmware_gen.passes import lighten
from firmware_gen.passes.half_products import half_products
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan
from ondevice.device import Hyper
from ondevice.workbench import open_board

STEPS = 2
# Of a gradient's relative error in the L2 norm: 2^-11 is half a step of binary16.
TOLERANCE = 2e-3
UPDATES = {
    "at once": UpdatePlan(("*",), momentum=True),
    "clipped as one": UpdatePlan(("*",), clip_norm=True, weights="bf16", state="bf16"),
    "kept gradients": UpdatePlan(("*",), keep_gradients=True),
    "frozen layers above": UpdatePlan(("first",), momentum=True, weights="bf16"),
}


def network(activation: str = "Relu") -> Net:
    """Return layers of each kind that has such kernels, in shapes that fill no block, and two that stay."""
    net = Net(1)
    x = net.input(3, 7, 9)
    x = net.conv(x, 9, (3, 3), pads=(1, 1, 1, 1), name="first")
    y = net.activation(net.conv(x, 11, (3, 2), pads=(1, 0, 1, 1), name="wide"), activation)
    x = net.conv(net.concat(x, y), 9, (4, 4), (2, 2), (1, 2, 2, 1), name="strided")
    x = net.conv_transpose(x, 11, (4, 4), (2, 1), (1, 0, 1, 2), name="up")
    x = net.conv(x, 13, (3, 3), pads=(2, 2, 2, 2), dilation=(2, 2), name="dilated")
    net.loss(net.conv(x, 8, name="last"), "mse")
    return net


def tall_network() -> Net:
    """Return layers whose maps do not fit where their rows do."""
    net = Net(2)
    x = net.input(4, 24, 8)
    for channels in (9, 5, 9):
        x = net.activation(net.conv(x, channels, (3, 3), pads=(1, 1, 1, 1)), "Relu")
    net.loss(net.conv(x, 4, (3, 3), pads=(1, 1, 1, 1)), "mse")
    return net


def plan_of(net: Net, update: UpdatePlan, board: Board, folder: Path, half: bool = True) -> Plan:
    folder.mkdir(exist_ok=True)
    graph = lighten(training_graph(net.graph(folder), tuple(net.losses), update))
    return make_plan(half_products(graph) if half else graph, board)


def on_cores(cores: int) -> Board:
    board = load_board("gap9_host")
    assert board.cluster is not None
    return dataclasses.replace(board, cluster=dataclasses.replace(board.cluster, cores=cores))


def learn(net: Net, update: UpdatePlan, board: Board, folder: Path) -> dict[str, NDArray[np.uint32]]:
    """Return the bits of losses, weights and state after some steps."""
    return run(plan_of(net, update, board, folder), folder / board.id)


def run(plan: Plan, folder: Path) -> dict[str, NDArray[np.uint32]]:
    random = np.random.default_rng(3)
    graph, losses = plan.graph, []
    with open_board(plan, folder) as device:
        device.set_hyper(Hyper(lr=0.02, momentum=0.9, weight_decay=0.01, clip_norm=1.0))
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


@pytest.mark.parametrize(
    ("board", "name"),
    [
        pytest.param("gap9_host", "at once"),
        pytest.param("gap9_host", "frozen layers above"),
        pytest.param("one core", "clipped as one"),
        pytest.param("native", "clipped as one"),  # specialised for each layer, with vectors
        *(
            pytest.param(board, name, marks=pytest.mark.long)
            for board in ("gap9_host", "one core", "native", "mps2_an386", "mps3_an547", "qemu_riscv32")
            for name in UPDATES
        ),
    ],
)
def test_every_board_has_the_same_bits(board: str, name: str, tmp_path: Path) -> None:
    net, update = network(), UPDATES[name]
    expected = learn(net, update, quick_board("native"), tmp_path / "expected")
    other = on_cores(1) if board == "one core" else load_board(board)
    found = learn(net, update, other, tmp_path / "found")
    assert expected.keys() == found.keys()
    for tensor, value in expected.items():
        assert np.array_equal(value, found[tensor]), f"{tensor} differs on {board}"
    losses = expected["losses"].view(np.float32)
    assert losses[0] != losses[-1]


def test_layers_in_bands_have_the_bits_of_whole_ones(tmp_path: Path) -> None:
    whole = plan_of(tall_network(), UPDATES["clipped as one"], quick_board("native"), tmp_path)
    banded = make_plan(whole.graph, whole.board, whole.ram_bytes * 3 // 4)
    kinds = {step.op.kind for step in banded.steps if step.chain is not None}
    assert kinds >= {"conv2d_f16", "conv_grad_input_f16", "conv_update_f16"}
    expected, found = run(whole, tmp_path / "whole"), run(banded, tmp_path / "banded")
    for tensor, value in expected.items():
        assert np.array_equal(value, found[tensor]), tensor


@pytest.mark.parametrize("name", ["at once", "kept gradients"])
def test_gradients_are_those_of_autograd_as_far_as_binary16_goes(name: str, tmp_path: Path) -> None:
    net = network("Sigmoid")  # a ReLU is another function where its input is nearly 0 and changes its sign
    plan = plan_of(net, UPDATES[name], quick_board("native"), tmp_path)
    graph, kept = plan.graph, "velocity" if name == "at once" else "gradient"
    used = {op.kind for op in graph.ops if op.kind.endswith("_f16")}
    assert used == {"conv2d_f16", "conv_grad_input_f16", "conv_update_f16"}
    with open_board(plan, tmp_path / "board") as device:
        device.set_hyper(Hyper(lr=0.0, momentum=0.9))
        sample = {key: hwc(value) for key, value in net.inputs.items()}
        sample |= {f"{key}.label": hwc(value) for key, value in net.labels.items()}
        device.put_sample(sample | {f"{key}.mask": hwc(value) for key, value in net.masks.items()})
        device.step(0)
        found = device.read_role("state", "gradient")
    for constant, truth in net.gradients().items():
        value = np.asarray(found[f"{kept}.{constant}"]).reshape(graph.constants[constant].value.shape)
        gradient = net.parameters[constant].to_file(value).ravel().astype(np.float64)
        assert error(gradient, truth.ravel()) < TOLERANCE, constant
        cosine = gradient @ truth.ravel() / np.linalg.norm(gradient) / np.linalg.norm(truth)
        assert cosine > 1 - TOLERANCE**2, constant


def test_each_operator_has_scratch_of_its_own(tmp_path: Path) -> None:
    board = dataclasses.replace(load_board("mps2_an386"), stack_bytes=2048)  # all scratch lies in the arena
    graph = plan_of(network(), UPDATES["kept gradients"], board, tmp_path).graph
    scratch = [name for op in graph.ops for name in op.scratch]
    assert len(scratch) > len({op.name for op in graph.ops if op.scratch})
    assert len(set(scratch)) == len(scratch)


def test_what_rounding_would_make_slower_stays_in_float32(tmp_path: Path) -> None:
    graph = plan_of(network(), UPDATES["at once"], load_board("native"), tmp_path).graph
    kinds = {(op.name, op.kind) for op in graph.ops}
    for layer, why in (("first", "three channels in"), ("last", "one tap"), ("strided", "")):
        half = (layer, "conv2d_f16") in kinds
        assert half == (why == ""), f"{layer}: {why}"
    assert ("last", "conv_update") in kinds


def test_the_option_is_part_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny(tmp_path / "tiny.onnx")
    plans = []
    for products in ("f32", "f16"):
        options = ["--board", "gap9_host", "--update", "dec", "--products", products, "--json"]
        assert main(["plan", str(model), *options]) == 0
        plans.append(json.loads(capsys.readouterr().out))
    single, half = plans
    assert (single["products"], half["products"]) == ("f32", "f16")
    assert single["plan_hash"] != half["plan_hash"]
    assert [step for step in half["steps"] if "f16" in step] == ["dec conv2d_f16", "dec conv_update_f16"]
    assert half["time_estimate_ms"] < single["time_estimate_ms"]


def test_a_network_with_no_such_layer_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny(tmp_path / "tiny.onnx", size=2)  # 2 x 2 pixels
    assert main(["plan", str(model), "--board", "native", "--update", "dec", "--products", "f16"]) == 2
    assert "--products f16 is for float convolutions" in capsys.readouterr().err

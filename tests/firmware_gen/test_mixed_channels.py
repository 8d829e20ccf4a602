"""Parts of int8 layers that learn: thawed, with int8 gradients above them, in bands, on every board."""

from pathlib import Path

import numpy as np
import pytest
from qdq_models import Scale
from qdq_networks import Array, Found, Join, Layer, QdqNetwork, assert_equal, learned, opened
from quick_board import quick_board

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.plan import Plan, make_plan, plan_schedule
from firmware_gen.schedule import Chain
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan
from ondevice.workbench import open_board

M7 = pytest.param("mps2_an500", marks=pytest.mark.long)  # the code of the M4, in another order
BOARDS = ("mps2_an386", M7, "mps3_an547", "qemu_riscv32")
PARTS = ("low", "each:1/2", "wide:4-11", "up:3/4")


def network() -> QdqNetwork:
    """Return a network of int8 layers.

    x -> low -+-> each (depthwise, stride 2) -> wide -> up (transposed) -+-> joined -+-> top --+-> both -> y
              `----------------------------------------------------------'           `-> side -'

    `top` and `side` read ranges of channels that overlap, and are concatenated.
    """
    bent, straight = Scale(0.02, -60), Scale(0.02, 0)
    parts = (
        Layer("low", "x", (8, 3, 3, 3), bent, "LeakyRelu"),
        Layer("each", "low", (8, 1, 3, 3), bent, "LeakyRelu", stride=2, groups=8),
        Layer("wide", "each", (16, 8, 1, 1), bent, "LeakyRelu"),
        Layer("up", "wide", (16, 8, 2, 2), straight, up=True),
        Join("joined", ("low", "up"), Scale(0.02, -40)),
        Layer("top", "joined", (8, 12, 3, 3), bent, "LeakyRelu", part=(0, 12)),
        Layer("side", "joined", (6, 8, 1, 1), bent, "LeakyRelu", part=(8, 16)),
        Join("both", ("top", "side"), bent),
        Layer("y", "both", (2, 14, 1, 1), straight),
    )
    return QdqNetwork(parts, size=12, seed=5)


def _sparse(graph: Graph, *patterns: str, keep: bool = False) -> Graph:
    update = UpdatePlan(patterns, keep_gradients=keep)
    return lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update))


def _learned(plan: Plan, folder: Path) -> Found:
    return learned(network(), plan, folder)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What `native` finds, with whole layers."""
    folder = tmp_path_factory.mktemp("native")
    return _learned(make_plan(_sparse(network().graph(folder), *PARTS), quick_board("native")), folder)


def test_learning_channels_have_the_gradients_of_the_network_in_float(tmp_path: Path) -> None:
    net = network()
    plan = make_plan(_sparse(net.graph(tmp_path), *PARTS, keep=True), quick_board("native"))
    learning = {op.name: op.constants[0] for op in plan.graph.ops if op.kind == "conv_update"}
    assert learning.keys() == {"low", "each", "wide", "up"}
    with opened(plan, tmp_path, lr=0.0) as device:
        for seed in range(4):
            sample = net.sample(seed)
            device.put_sample(sample)
            device.step(seed)
            if seed < 2:  # the ranges are being found
                continue
            found = device.read_role("gradient")
            truths = net.gradients(sample["x"], sample["y.dq.label"])
            for name, weight in learning.items():
                constant = plan.graph.constants[weight]
                gradient = found[f"gradient.{weight}"].reshape(constant.value.shape)
                truth = np.ascontiguousarray(_to_board(name, truths[f"{name}.weight"]))
                if constant.slab is not None:
                    truth = truth[constant.slab.index]
                # What masks have rounded up and down adds to the norm.
                assert _cosine(gradient, truth) > 0.98, name
                assert np.linalg.norm(gradient) == pytest.approx(np.linalg.norm(truth), rel=0.2), name


def _to_board(name: str, whole: Array) -> Array:
    """Return an array of the file in the order of the kernels."""
    return whole.transpose((2, 3, 0, 1) if name == "up" else (2, 3, 1, 0))


def _cosine(one: Array, other: Array) -> float:
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()))


def test_inference_has_the_bits_of_whole_layers_that_learn(tmp_path: Path) -> None:
    net = network()
    graph, x = net.graph(tmp_path), net.sample(1)["x"]
    found = []
    for number, patterns in enumerate((("low", "each", "wide", "up"), PARTS)):
        plan = make_plan(_sparse(graph, *patterns), quick_board("native"))
        with open_board(plan, tmp_path / str(number)) as device:
            found.append(device.infer({"x": x})["y.dq"])
    assert found[0].tobytes() == found[1].tobytes()


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_the_bits_of_native(board: str, native: Found, tmp_path: Path) -> None:
    plan = make_plan(_sparse(network().graph(tmp_path), *PARTS), load_board(board))
    assert_equal(native, _learned(plan, tmp_path))


@pytest.mark.parametrize("board", ["native", "mps3_an547"])
def test_bands_give_the_bits_of_whole_layers(board: str, native: Found, tmp_path: Path) -> None:
    graph = with_scratch(_sparse(network().graph(tmp_path), *PARTS), load_board(board))
    steps = Bands(graph).steps(_longest_chains(graph))
    in_chains = [step.op for step in steps if step.chain is not None]
    assert {"concat", "conv2d", "conv_grad_input", "moving_conv2d"} <= {op.kind for op in in_chains}
    assert any(op.kind == "conv_grad_input" and len(op.inputs) > 1 for op in in_chains)
    banded = plan_schedule(load_board(board), steps, choose_storage(steps))
    assert_equal(native, _learned(banded, tmp_path))


def _longest_chains(graph: Graph) -> list[Chain]:
    """Return chains of bands of one row, each as long as it can be."""
    bands, chains, start = Bands(graph), [], 0
    while start < len(graph.ops):
        options = [bands.chain(start, end, 1) for end in range(len(graph.ops), start + 1, -1)]
        chain = next((option for option in options if option is not None), None)
        if chain is not None:
            chains.append(chain)
        start = start + 1 if chain is None else chain.end
    return chains


def test_adam_keeps_moments_of_the_learning_channels_only(tmp_path: Path) -> None:
    update = UpdatePlan(("wide:1/4", "y.bias"), optimizer="adam", state="bf16")
    graph = lighten(training_graph(network().graph(tmp_path), (LossSpec("y.dq", "mse"),), update))
    plans = [make_plan(graph, quick_board(name)) for name in ("native", "mps3_an547")]
    assert graph.state["moment1.wide.weight_quantized"].shape[-1] == 4
    assert graph.state["moment1.wide.weight_quantized"].dtype == "bf16"
    assert_equal(*(_learned(plan, tmp_path) for plan in plans))


def test_gradients_that_meet_are_added_in_integers(tmp_path: Path) -> None:
    graph = _sparse(network().graph(tmp_path), "low:1/2")
    views = make_plan(graph, load_board("native")).views
    added = [op for op in graph.ops if op.kind == "moving_add"]
    assert len(added) == 2  # behind `joined` and behind `low`
    for op in added:
        assert {graph.tensors[name].dtype for name in (*op.inputs, *op.outputs)} == {"i8"}
        assert views[op.outputs[0]] in [views[name] for name in op.inputs]


def test_what_learns_of_an_integer_layer_is_made_of_integers_again(tmp_path: Path) -> None:
    graph = _sparse(network().graph(tmp_path), "each:1/2", "wide:1/2")
    loss = next(index for index, op in enumerate(graph.ops) if op.phase == "loss")
    made = {name for op in graph.ops[:loss] for name in op.outputs}
    kept = made & {name for op in graph.ops[loss + 1 :] for name in op.inputs}
    assert {graph.tensors[name].dtype for name in kept} == {"i8", "bits"}

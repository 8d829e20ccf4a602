"""Layers that learn below int8 layers: gradients in int8, ranges that move, the same bits on every board."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from qdq_models import Scale, border, float_model
from qdq_networks import Found, Join, Layer, QdqNetwork, assert_equal, learned, opened
from quick_board import quick_board

import boards
from boards import load_board
from fieldtune.errors import ModelError
from firmware_gen.backward import GRADIENT_TYPES, LossSpec, training_graph
from firmware_gen.graph import Gradients, Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.passes.narrow_gradients import narrow_gradients
from firmware_gen.passes.sign_bits import sign_bits
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from firmware_gen.update import parse_update
from ondevice.weight_store import WeightStore

BOARDS = ("mps2_an386", "mps3_an547", "qemu_riscv32")
SCALES = (1.0, 2.0, 3.0)  # of the input, in one step after the other


def network(activation: str = "LeakyRelu", share: float = 1.0) -> QdqNetwork:
    """Return a network of which one layer learns; `share`: of the range that the upper layers need.

    x -> low (int8, frozen) ------------------------+
          `-> head (float, learns) -> half -> up -> joined -> mix -> y
    """
    fine, coarse = 0.02 * share, 0.03 * share
    parts = (
        Layer("low", "x", (6, 3, 3, 3), Scale(0.03, 2)),
        Layer("head", "low", (12, 6, 3, 3), Scale(coarse, -90), activation, float_weight=True),
        Layer("half", "head", (20, 12, 3, 3), Scale(fine, -90), activation, stride=2),
        Layer("up", "half", (20, 9, 2, 2), Scale(fine, 5), up=True),
        Join("joined", ("low", "up"), Scale(0.03, 2)),
        Layer("mix", "joined", (7, 15, 3, 3), Scale(fine, -90), activation),
        Layer("y", "mix", (2, 7, 1, 1), Scale(fine, 0)),
    )
    return QdqNetwork(parts, size=10, seed=11)


def _plan(graph: Graph, board: str, keep: bool = False, gradients: Gradients = "int8") -> Plan:
    update = parse_update("head", keep_gradients=keep, gradients=gradients)
    return make_plan(lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update)), quick_board(board))


def _learned(plan: Plan, folder: Path) -> Found:
    return learned(network(), plan, folder, scales=SCALES)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What `native` finds, with whole layers."""
    folder = tmp_path_factory.mktemp("native")
    return _learned(_plan(network().graph(folder), "native"), folder)


def test_ranges_are_in_the_order_of_the_tensors_in_every_process(tmp_path: Path) -> None:
    graph = _plan(network().graph(tmp_path), "native").graph
    first_seen = dict.fromkeys(tensor.range for tensor in graph.tensors.values() if tensor.range)
    assert list(graph.ranges) == list(first_seen)
    assert len(graph.ranges) > 5


@pytest.mark.parametrize("activation", ["LeakyRelu", "Relu"])
def test_gradients_are_those_of_the_network_in_float(activation: str, tmp_path: Path) -> None:
    net = network(activation)
    plan = _plan(net.graph(tmp_path), "native", keep=True)
    with opened(plan, tmp_path, lr=0.0) as device:
        for seed in range(3):
            sample = net.sample(seed)
            device.put_sample(sample)
            device.step(seed)
            found = device.read_role("gradient")["gradient.head.weight"]
            truth = net.gradients(sample["x"], sample["y.dq.label"])["head.weight"]
            found = found.reshape(3, 3, 6, 12).transpose(3, 2, 0, 1)
            cosine = (found * truth).sum() / np.sqrt((found**2).sum() * (truth**2).sum())
            size = np.sqrt((found**2).sum() / (truth**2).sum())
            if seed == 0:  # the grids of gradients are guessed
                assert cosine > 0.9
            else:
                assert cosine > 0.97
                assert size == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_the_bits_of_native(board: str, native: Found, tmp_path: Path) -> None:
    assert_equal(native, _learned(_plan(network().graph(tmp_path), board), tmp_path))


@pytest.mark.parametrize("gradients", ["f32", "int16"])
def test_wider_gradients_have_the_bits_of_native_too(gradients: Gradients, tmp_path: Path) -> None:
    graph = network().graph(tmp_path)
    plans = [_plan(graph, name, gradients=gradients) for name in ("native", "mps2_an386")]
    native, emulated = (_learned(plan, tmp_path) for plan in plans)
    assert_equal(native, emulated)


def test_the_type_of_gradients_is_part_of_the_plan(tmp_path: Path) -> None:
    graph = network().graph(tmp_path)
    plans = {kind: _plan(graph, "native", gradients=kind) for kind in GRADIENT_TYPES}
    assert {kind: plan.describe()["gradients"] for kind, plan in plans.items()} == {k: k for k in plans}
    assert len({plan.hash() for plan in plans.values()}) == len(plans)
    for kind, plan in plans.items():
        made = {
            plan.graph.tensors[op.outputs[0]].dtype
            for op in plan.graph.ops
            if op.name == "mix" and op.phase == "backward"
        }
        assert GRADIENT_TYPES[kind] in made


@pytest.mark.parametrize("board", ["native", "mps3_an547"])
def test_bands_of_rows_give_the_bits_of_whole_layers(board: str, native: Found, tmp_path: Path) -> None:
    assert_equal(native, _learned(_banded(network().graph(tmp_path), board), tmp_path))


def _banded(graph: Graph, board: str) -> Plan:
    """Return a plan with a moving convolution in bands: of a graph that keeps what it dequantizes."""
    learning = training_graph(graph, (LossSpec("y.dq", "mse"),), parse_update("head"))
    learning = sign_bits(narrow_gradients(learning))
    whole = make_plan(learning, load_board(board))
    plan = make_plan(learning, load_board(board), whole.ram_bytes - 1)
    assert any(step.chain is not None and step.op.kind == "moving_conv2d" for step in plan.steps)
    return plan


def test_ranges_move_outwards_at_once_and_inwards_slowly(tmp_path: Path) -> None:
    net = network(share=0.1)
    plan = _plan(net.graph(tmp_path), "native")
    initial = {f"range.{name}": moving.high for name, moving in plan.graph.ranges.items()}
    forward = [name for name, high in initial.items() if high > 0]
    high = [[initial[name] for name in forward]]
    with opened(plan, tmp_path, lr=0.0) as device:
        for step, scale in enumerate((1.0, 0.01, 0.01)):
            device.put_sample(net.sample(1, scale))
            device.step(step)
            ranges = device.read_role("range")
            high.append([float(ranges[name].ravel()[1]) for name in forward])
    calibrated, grown, shrunk, less = np.array(high)
    assert (grown > 1.5 * calibrated).sum() >= 3
    for before, after in ((grown, shrunk), (shrunk, less)):
        assert (after <= before).all()
        assert (after > 0.89 * before).all()
    assert all(value.ravel()[1] > 0 for value in ranges.values()), "a gradient's range was not found"


def test_a_board_that_gets_weights_and_ranges_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    net = network()
    plan = _plan(net.graph(tmp_path), "native")
    with opened(plan, tmp_path) as device:
        for step in range(4):
            if step == 2:
                kept = device.read_role("weight", "range")
            device.put_sample(net.sample(step))
            device.step(step)
        truth = device.read_role("weight", "range")
        device.reset_weights()
        device.write_tensors(kept)
        device.set_step(2)
        for step in (2, 3):
            device.put_sample(net.sample(step))
            device.step(step)
        again = device.read_role("weight", "range")
    assert_equal(truth, again)


def test_a_stored_set_has_the_weights_and_ranges(tmp_path: Path) -> None:
    net = network()
    plan = _plan(net.graph(tmp_path), "native")
    with opened(plan, tmp_path) as device:
        store = WeightStore(device)
        for step in range(4):
            if step == 2:
                store.save()
            device.put_sample(net.sample(step))
            device.step(step)
        truth = device.read_role("weight", "range")
        assert store.slots()[0].bytes == plan.describe()["store"]["set_bytes"]
        assert store.load().step == 2
        for step in (2, 3):
            device.put_sample(net.sample(step))
            device.step(step)
        assert_equal(truth, device.read_role("weight", "range"))


def test_the_plan_counts_the_bytes_that_the_linker_places(tmp_path: Path) -> None:
    graph = network().graph(tmp_path)
    for name in ("mps2_an386", "mps3_an547"):
        plan = _plan(graph, name)
        write_project(plan, tmp_path / name)
        assert boards.build(tmp_path / name, plan.board).ram_bytes == plan.ram_bytes


def test_an_int8_layer_whose_scales_cannot_move_is_named(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"low.weight": np.ones((4, 8, 1, 1), np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "low.weight"], ["a"], "low"),
        *border("a", "b", Scale(0.02, 3), arrays),
        helper.make_node("Mul", ["b", "b"], ["c"], "twice"),
        *border("c", "y", Scale(0.02, 3), arrays),
    ]
    path = tmp_path / "closed.onnx"
    onnx.save(float_model(nodes, {"x": (1, 8, 4, 4)}, {"y": (1, 4, 4, 4)}, arrays), path)
    graph = integer_layers(simplify(import_onnx(path)))
    with pytest.raises(ModelError, match=r"twice.*cannot move yet.*--keep-float"):
        training_graph(graph, (LossSpec("y", "mse"),), parse_update("low"))

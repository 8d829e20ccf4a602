"""The backward pass in stages that make again what they read: the bits of whole layers, in less memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from memory_model import MemoryModel
from networks import Net
from proof import Case
from test_bands import CLIPPED, KEPT, assert_same_bits, banded, deep, drawn_chains, training, whole

import boards
from boards import load_board
from fieldtune.errors import DoesNotFitError
from firmware_gen.choose_chains import narrow
from firmware_gen.graph import Graph
from firmware_gen.order import least_alive
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.plan import Plan, make_plan, plan_schedule
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.recompute import recomputed
from firmware_gen.stages import Staging, in_stages, staged
from firmware_gen.update import UpdatePlan
from ondevice.device import Hyper
from ondevice.workbench import open_board

BAR = 786_432  # bytes for µPyD-Net's full update, stack included


def drawn_stages(graph: Graph, random: np.random.Generator) -> Graph:
    """Return `graph` cut anywhere behind the loss, with some of its tensors kept."""
    begin = 1 + max(index for index, op in enumerate(graph.ops) if op.phase == "loss")
    cuts = random.choice(np.arange(begin + 1, len(graph.ops)), random.integers(1, 4), replace=False)
    made = [op.outputs[0] for op in graph.ops if op.phase == "forward"]
    kept = {name for name in made if random.random() < 0.3}
    return staged(graph, Staging(frozenset(map(int, cuts)), frozenset(kept)))[0]


def test_nothing_is_overwritten_before_its_last_use(folders: Iterator[Path]) -> None:
    random = np.random.default_rng(6)
    for _ in range(10):
        graph = drawn_stages(training(deep(random), next(folders), update=CLIPPED), random)
        model = MemoryModel(banded(graph, drawn_chains(graph, random)))
        model.run("forward", "loss", "backward", "update")


@pytest.mark.parametrize(("seed", "update"), [(0, KEPT), (1, CLIPPED)], ids=("kept", "clipped"))
def test_losses_gradients_and_weights_have_the_bits_of_whole_layers(
    seed: int, update: UpdatePlan, tmp_path: Path
) -> None:
    random = np.random.default_rng(10 + seed)
    cases = [deep(random) for _ in range(3)]
    graphs = [training(case, tmp_path, f"net{k}", update) for k, case in enumerate(cases)]
    others = [drawn_stages(graph, random) for graph in graphs]
    assert any(name.endswith(".again1") for other in others for name in other.tensors)
    found = [banded(other, drawn_chains(other, random)) for other in others]
    assert_same_bits(cases, [*map(whole, graphs)], found, tmp_path)


def pyramid() -> Case:
    """Return a network whose map shrinks and grows again, all of which learns."""
    net = Net(seed=4)
    x = high = net.activation(net.conv(net.input(3, 24, 12), 8, (3, 3), pads=(1, 1, 1, 1)), "Relu")
    for _ in range(2):
        x = net.activation(net.conv(x, 12, (3, 3), (2, 2), (1, 1, 1, 1)), "LeakyRelu")
    for channels in (12, 8):
        x = net.conv_transpose(x, channels, (2, 2), (2, 2))
        x = net.activation(net.conv(x, channels, (3, 3), pads=(1, 1, 1, 1)), "Relu")
    net.loss(net.conv(net.concat(x, high), 1, (3, 3), pads=(1, 1, 1, 1)), "mse")
    return Case(net, ("*",))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return training(pyramid(), tmp_path_factory.mktemp("net"), update=CLIPPED)


def in_few_bytes(graph: Graph, board: str) -> Plan:
    """Return the plan in stages that needs the fewest bytes."""
    found = load_board(board)
    return plan_schedule(found, *in_stages(graph, found, 0))


def test_what_no_other_schedule_can_hold_runs_in_stages_and_in_the_memory_that_is_named(graph: Graph) -> None:
    native = load_board("native")
    with pytest.raises(DoesNotFitError) as caught:
        make_plan(graph, native, 4096)
    least = int(str(caught.value).split("--ram ")[-1].split()[0])
    ordered = with_scratch(least_alive(graph), native)
    others = (plan_schedule(native, *narrow(other, 0)) for other in (ordered, *recomputed(ordered)))
    assert least < min(other.ram_bytes for other in others)
    plan = make_plan(graph, native, least)
    assert plan.ram_bytes == least
    assert any(name.endswith(".again1") for name in plan.graph.tensors)


def test_with_more_memory_less_is_made_again(graph: Graph) -> None:
    native = load_board("native")
    tight = in_few_bytes(graph, "native")
    loose = plan_schedule(native, *in_stages(graph, native, tight.arena_bytes * 3 // 2))
    assert loose.arena_bytes <= tight.arena_bytes * 3 // 2
    assert loose.macs("forward") == tight.macs("forward")
    assert loose.macs("backward") < tight.macs("backward")


def test_what_is_sliced_off_for_a_later_stage_does_not_keep_the_rest(graph: Graph) -> None:
    plan = in_few_bytes(graph, "native")
    sources = {
        step.op.inputs[0]
        for step in plan.steps
        if step.op.kind == "slice" and step.chain and step.op.inputs[0] in step.chain.rolling
    }
    assert sources
    assert {plan.views[source].buffer for source in sources} <= plan.rolls.keys()


def test_weights_that_change_at_once_are_never_used_again(tmp_path: Path) -> None:
    at_once = training(pyramid(), tmp_path, update=UpdatePlan())
    with pytest.raises(DoesNotFitError) as caught:
        make_plan(at_once, load_board("native"), 4096)
    plan = make_plan(at_once, load_board("native"), int(str(caught.value).split("--ram ")[-1].split()[0]))
    assert not any(name.endswith(".again0") for name in plan.graph.tensors)


def test_a_board_takes_the_memory_of_the_plan_and_learns_the_bits_of_native(
    graph: Graph, tmp_path: Path
) -> None:
    plan = in_few_bytes(graph, "mps2_an500")
    write_project(plan, tmp_path / "size")
    assert boards.build(tmp_path / "size", plan.board).ram_bytes == plan.ram_bytes
    expected, found = (learned(each, tmp_path / each.board.id) for each in (whole(graph), plan))
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


def learned(plan: Plan, folder: Path) -> dict[str, np.ndarray]:
    """Return the weights after two steps."""
    random = np.random.default_rng(3)
    graph = plan.graph
    with open_board(plan, folder) as device:
        device.set_hyper(Hyper(lr=0.02, clip_norm=0.1))
        for step in range(2):
            device.put_sample(_sample(graph, random))
            device.step(step)
        assert device.memory().arena_intact
        return dict(device.read_role("weight"))


def _sample(graph: Graph, random: np.random.Generator) -> dict[str, np.ndarray]:
    names = (*graph.inputs, *graph.labels)
    values = {name: random.standard_normal(graph.shape(name)).astype(np.float32) for name in names}
    return values | {name: np.ones(graph.shape(name), np.uint8) for name in graph.masks}


@pytest.mark.long
def test_a_full_update_of_upydnet_has_room_in_768_kb(upydnet_onnx: Path, tmp_path: Path) -> None:
    board = load_board("mps2_an500")
    update = UpdatePlan(("*",), weights="bf16", state="bf16", clip_norm=True)
    plan = plan_network(load_network(upydnet_onnx), board, update, BAR - board.stack_bytes)
    assert plan.ram_bytes + board.stack_bytes <= BAR
    write_project(plan, tmp_path / "project")
    assert boards.build(tmp_path / "project", board).ram_bytes == plan.ram_bytes

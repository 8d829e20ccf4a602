"""What the cores of GAP9's cluster do together, played by threads: the bits of `native`, without a race."""

import dataclasses
from pathlib import Path

import mixed_networks
import pytest
from cluster_boards import assert_same, cluster_board, worked
from networks import Net
from qdq_models import Scale
from qdq_networks import Join, Layer, QdqNetwork
from quick_board import quick_board
from references import LOSSES
from tiny import write_tiny

import boards
from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.cluster.layers import ClusterLayers
from firmware_gen.cluster.summary import summarize
from firmware_gen.emit.memory import Memory
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device

LEARNS = ("*head", "*thin", "*up", "*mix", "*split", "*y")
UPDATES = {
    "at once": UpdatePlan(LEARNS, weights="int8", momentum=True),
    "clipped as one": UpdatePlan(LEARNS, weights="int8", clip_norm=True, momentum=True, state="bf16"),
    "kept gradients": UpdatePlan(LEARNS, weights="int8", keep_gradients=True),
    "Adam, to the nearest": UpdatePlan(LEARNS, weights="int8", optimizer="adam", rounding="nearest"),
}
ALL = UpdatePlan(("*",))
CORES = ((8, None), (3, 12_000), (2, 8_000))


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Layers of every kind in int8; maps of 196 pixels are gathered in several parts."""
    parts = (
        Layer("low", "x", (6, 3, 3, 3), Scale(0.03, 2)),
        Layer("head", "low", (12, 6, 3, 3), Scale(0.02, -90), "LeakyRelu"),
        Layer("thin", "head", (12, 1, 3, 3), Scale(0.03, -128), "Relu", stride=2, groups=12),
        Layer("up", "thin", (12, 9, 2, 2), Scale(0.02, 5), up=True),
        Join("joined", ("low", "up"), Scale(0.03, 2)),
        Layer("mix", "joined", (9, 5, 3, 3), Scale(0.02, -90), "LeakyRelu", groups=3),
        Layer("split", "mix", (5, 9, 3, 3), Scale(0.02, -90), "Relu"),
        Layer("y", "split", (2, 5, 1, 1), Scale(0.02, 0)),
    )
    return QdqNetwork(parts, size=14, seed=11).graph(tmp_path_factory.mktemp("network"))


def _learning(graph: Graph, update: UpdatePlan) -> Graph:
    losses = tuple(LossSpec(name, "mse") for name in graph.outputs)
    return lighten(training_graph(graph, losses, update))


@pytest.mark.parametrize("update", UPDATES)
def test_int8_weights(update: str, network: Graph, tmp_path: Path) -> None:
    graph = _learning(network, UPDATES[update])
    expected = worked(graph, quick_board("native"), tmp_path)
    for cores, room in CORES:
        assert_same(expected, worked(graph, cluster_board(cores, room), tmp_path / f"{cores}"))


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.long) for k in range(1, 40))])
def test_int8_weights_of_random_networks(seed: int, tmp_path: Path) -> None:
    graph = _random(range(6 * seed, 6 * seed + 6))
    expected = worked(graph, quick_board("native"), tmp_path)
    for cores, room in ((8, None), ((1, 2, 3, 4)[seed % 4], 12_000)):
        assert_same(expected, worked(graph, cluster_board(cores, room), tmp_path / f"{cores}"))


def _random(seeds: range) -> Graph:
    """Return random networks with int8 weights that learn; turned groups have one scale, as in files."""
    graph = mixed_networks.side_by_side([mixed_networks.Net(seed).graph() for seed in seeds])
    constants = {
        name: dataclasses.replace(known, scales=known.scales[: len(known.scales) and 1])
        if len(known.scales) not in (0, known.value.shape[-1])
        else known
        for name, known in graph.constants.items()
    }
    update = UpdatePlan(("*.a", "*.beside"), weights="int8", momentum=True)
    return _learning(dataclasses.replace(graph, constants=constants), update)


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """All losses: of a value a pixel and of several, more terms than are added up at once, of one pixel."""
    net = Net(seed=5)
    x = net.conv(net.input(2, 23, 25), 3)
    for kind in (*sorted(LOSSES), "mse"):
        net.loss(net.conv(x, 3 if kind in ("cross_entropy", "mse") else 1), kind, weight=0.7)
    net.loss(net.linear(net.flatten(net.input(1, 2, 3)), 600, "gemm"), "l1")
    return lighten(training_graph(net.graph(tmp_path_factory.mktemp("losses")), tuple(net.losses), ALL))


@pytest.mark.parametrize(("cores", "room"), [(1, 40_000), (2, None), (3, 6_000), (4, 20_000), (8, None)])
def test_losses(cores: int, room: int | None, losses: Graph, tmp_path: Path) -> None:
    expected = worked(losses, quick_board("native"), tmp_path)
    assert_same(expected, worked(losses, cluster_board(cores, room), tmp_path / "cluster"))


def test_losses_without_a_race(losses: Graph, tmp_path: Path) -> None:
    expected = worked(losses, quick_board("native"), tmp_path)
    assert_same(expected, worked(losses, cluster_board(8), tmp_path / "cluster", "thread"))


@pytest.mark.parametrize("update", ["at once", "clipped as one"])
def test_int8_weights_without_a_race(update: str, network: Graph, tmp_path: Path) -> None:
    graph = _learning(network, UPDATES[update])
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, cluster_board(4), tmp_path / "cluster", "thread"))


def test_weights_that_were_turned_stay_between_tiles(network: Graph, tmp_path: Path) -> None:
    graph, board = _learning(network, UPDATES["at once"]), cluster_board(3, 5_000)
    plan = make_plan(graph, board)
    tilings = ClusterLayers(Memory(plan)).tilings.items()
    tiles = [len(tiling.tiles[0]) for k, tiling in tilings if plan.steps[k].op.kind == "turning_conv2d"]
    assert max(tiles) > 2
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, board, tmp_path / "cluster", "thread"))


MEETING = "ft_meet(cores);"
TURNED = "ft_meet((ft_cores_t){core, cores, ft_team_meet});"  # before what was turned is packed
MEETINGS = {
    "runtime/kernels/grad_w_dots_i8.h": (MEETING, 4),
    "runtime/kernels/loss.h": (MEETING, 2),
    "runtime/kernels/moving.h": (MEETING, 1),
    "model.c": (TURNED, 3),
}
EACH_MEETING = [(name, k) for name, (_, count) in MEETINGS.items() for k in range(count)]


@pytest.mark.parametrize(("file", "k"), EACH_MEETING)
def test_a_meeting_that_is_missing_is_found(file: str, k: int, network: Graph, tmp_path: Path) -> None:
    """So every one is needed."""
    plan = make_plan(_learning(network, UPDATES["at once"]), cluster_board(4))
    write_project(plan, tmp_path / "project")
    source = tmp_path / "project" / file
    text, count = MEETINGS[file]
    pieces = source.read_text().split(text)
    assert len(pieces) == count + 1
    source.write_text(text.join(pieces[: k + 1]) + ";" + text.join(pieces[k + 1 :]))
    firmware = boards.build(tmp_path / "project", plan.board, sanitize="thread")
    with boards.start(firmware.elf, plan.board) as running:
        with pytest.raises(Exception), Device.open(running.url) as device:  # noqa: B017, PT011
            device.step(0)
        running.process.wait(20)
        assert "data race" in running.last_words()


def test_floats_whose_gradients_wait_without_a_race(tmp_path: Path) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx", ("depth", "kind")))
    update = parse_update("*", weights="bf16", state="bf16", momentum=True, clip_norm=True)
    graph = plan_network(network, quick_board("native"), update).graph
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, cluster_board(8, 20_000), tmp_path / "cluster", "thread"))


def test_an_estimate_has_updates_that_waited(network: Graph) -> None:
    """They are what a step with a norm takes longer, and another optimizer takes longer still."""
    board, cycles = load_board("gap9_evk"), []
    for update in ("kept gradients", "Adam, to the nearest"):
        kept = dataclasses.replace(UPDATES[update], keep_gradients=True)
        found = {layer.name: layer for layer in summarize(make_plan(_learning(network, kept), board)).layers}
        applied = found["apply"].tiling.cycles
        assert applied is not None
        cycles.append(applied.value)
    assert 0 < cycles[0] < cycles[1]
    at_once = summarize(make_plan(_learning(network, UPDATES["at once"]), board))
    assert "apply" not in {layer.name for layer in at_once.layers}

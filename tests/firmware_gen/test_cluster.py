"""Layers on GAP9's cluster, played by threads of this computer, give the bits of `native`, without a race."""

from pathlib import Path

import pytest
from cluster_boards import assert_same, cluster_board, worked
from learning_layers import random_layers
from mixed_networks import trained_side_by_side
from quick_board import quick_board
from tiny import write_tiny

import boards
from boards.building import Sanitizer
from fieldtune.errors import DoesNotFitError
from firmware_gen.backward import training_graph
from firmware_gen.emit.model import model_c
from firmware_gen.passes import lighten
from firmware_gen.plan import make_plan
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device

CORES = (1, 2, 3, 4, 8)
UPDATES = {
    "at once": UpdatePlan(("*",), momentum=True),
    "kept gradients": UpdatePlan(("*",), keep_gradients=True),
    "clipped as one, weights in bf16": UpdatePlan(("*",), clip_norm=True, weights="bf16", state="bf16"),
    "Adam": UpdatePlan(("*",), optimizer="adam", state="bf16"),
    "a third of the channels": UpdatePlan(("*:1/3",), momentum=True),
}


@pytest.mark.parametrize("name", UPDATES)
def test_float_layers_that_learn(name: str, tmp_path: Path) -> None:
    net = random_layers(seed=31 + list(UPDATES).index(name))
    graph = lighten(training_graph(net.graph(tmp_path), tuple(net.losses), UPDATES[name]))
    expected = worked(graph, quick_board("native"), tmp_path)
    for cores, room in ((8, None), (3, 40_000)):
        assert_same(expected, worked(graph, cluster_board(cores, room), tmp_path / f"{cores}"))


@pytest.mark.parametrize("seed", [0, *(pytest.param(k, marks=pytest.mark.long) for k in range(1, 84))])
def test_random_networks_on_moving_grids(seed: int, tmp_path: Path) -> None:
    """With the layers on which their gradients go back; six at a time, 504 in all."""
    graph = trained_side_by_side(range(6 * seed, 6 * seed + 6))
    expected = worked(graph, quick_board("native"), tmp_path)
    for cores, room in ((8, None), (CORES[seed % 4], 12_000)):
        assert_same(expected, worked(graph, cluster_board(cores, room), tmp_path / f"{cores}"))


@pytest.mark.parametrize("cores", [3, 8])
def test_a_master_that_works_as_gap8_s(cores: int, tmp_path: Path) -> None:
    graph = trained_side_by_side(range(6))
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, cluster_board(cores, chip="gap8_host"), tmp_path / "cluster"))


@pytest.mark.parametrize(
    "cores", [pytest.param(cores, marks=() if cores in (3, 8) else pytest.mark.long) for cores in CORES]
)
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_no_core_meets_another_or_what_the_dma_has_not_brought(
    cores: int, sanitizer: Sanitizer, tmp_path: Path
) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx", ("depth", "segments", "kind")))
    plan = plan_network(network, quick_board("native"), parse_update("*", momentum=True))
    expected = worked(plan.graph, plan.board, tmp_path)
    on = cluster_board(cores, 9_000)
    assert_same(expected, worked(plan.graph, on, tmp_path / "cluster", sanitizer))


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_moving_layers_without_a_race(sanitizer: Sanitizer, tmp_path: Path) -> None:
    graph = trained_side_by_side(range(6))
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, cluster_board(8, 9_000), tmp_path / "cluster", sanitizer))


def test_bands_of_rows(tmp_path: Path) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx", size=32))
    graph = plan_network(network, quick_board("native"), parse_update("depth")).graph
    board = cluster_board(8, 5_000)
    limit = make_plan(graph, board).ram_bytes * 2 // 3
    plan = make_plan(graph, board, ram_limit=limit)
    assert any(step.chain for step in plan.steps), "the plan has no bands: this tests nothing"
    expected = worked(graph, quick_board("native"), tmp_path)
    assert_same(expected, worked(graph, board, tmp_path / "cluster", ram_limit=limit))


@pytest.mark.parametrize(
    ("sanitizer", "line", "other", "complaint"),
    [
        ("address", "        finish(&reading[tile & 1]);\n", "", "use-after-poison"),
        ("thread", "        finish(&reading[tile & 1]);\n", "", "data race"),
        ("address", "        finish(&writing[tile & 1]);", "        /* reuse */", "changed before"),
    ],
)
def test_a_wait_that_is_missing_is_found(
    sanitizer: Sanitizer, line: str, other: str, complaint: str, tmp_path: Path
) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx"))
    plan = plan_network(network, cluster_board(4, 4_000), parse_update("*"))
    write_project(plan, tmp_path / "project")
    source = tmp_path / "project/runtime/cluster/team.c"
    text = source.read_text()
    assert line in text
    source.write_text(text.replace(line, other))
    firmware = boards.build(tmp_path / "project", plan.board, sanitize=sanitizer)
    with boards.start(firmware.elf, plan.board) as running:
        with pytest.raises(Exception), Device.open(running.url) as device:  # noqa: B017, PT011
            device.run_inference()
        running.process.wait(20)
        assert complaint in running.last_words()


def test_layers_of_few_channels_that_learn_compile_without_a_warning(tmp_path: Path) -> None:
    """GCC 12 took vectors of eight for stores beyond a bias of three."""
    network = load_network(write_tiny(tmp_path / "tiny.onnx", ("depth", "kind")))
    plan = plan_network(network, cluster_board(8, quick=False), parse_update("*", weights="bf16"))
    write_project(plan, tmp_path / "project")
    boards.build(tmp_path / "project", plan.board)


def test_what_a_core_works_in_must_fit_into_l1(tmp_path: Path) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx"))
    update = parse_update("*", weights="bf16")
    plan = plan_network(network, cluster_board(8, 1_600), update)
    with pytest.raises(DoesNotFitError, match="of L1"):
        model_c(plan)

"""When layers run in bands: only where a network would not fit, and then in the memory that is said."""

import re
from pathlib import Path

import numpy as np
import pytest
from quick_board import quick_board
from test_bands import deep, training, whole
from test_plan import symbols

from boards import load_board
from fieldtune.errors import DoesNotFitError
from firmware_gen.arena import peak_bytes
from firmware_gen.choose_chains import narrow
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Graph
from firmware_gen.plan import make_plan, plan_schedule
from firmware_gen.schedule import layers
from ondevice.profile import profile
from ondevice.workbench import open_board


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return deep(np.random.default_rng(2)).net.graph(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def least(graph: Graph) -> int:
    """Static RAM of the narrowest schedule."""
    return plan_schedule(load_board("native"), *narrow(graph, 0)).ram_bytes


def test_what_fits_runs_in_whole_layers_and_what_does_not_in_bands(graph: Graph, least: int) -> None:
    native = load_board("native")
    enough = make_plan(graph, native).ram_bytes
    assert least < enough
    assert not any(step.chain for step in make_plan(graph, native, enough).steps)
    for limit in (enough - 1, (enough + least) // 2, least):
        plan = make_plan(graph, native, limit)
        assert any(step.chain for step in plan.steps)
        assert plan.ram_bytes <= limit
        assert plan.macs("forward") == make_plan(graph, native).macs("forward")
    with pytest.raises(DoesNotFitError):
        make_plan(graph, native, least - 1)


def test_a_looser_limit_moves_no_more_bytes(graph: Graph, least: int) -> None:
    native = load_board("native")
    middle = (make_plan(graph, native).ram_bytes + least) // 2
    tight, loose = (
        sum(roll.moved for roll in make_plan(graph, native, limit).rolls.values())
        for limit in (least, middle)
    )
    assert loose <= tight


def test_the_peak_is_that_of_the_buffers_in_their_lifetimes(tmp_path: Path) -> None:
    graph = training(deep(np.random.default_rng(8)), tmp_path)
    plan = plan_schedule(load_board("native"), *narrow(graph, 0))
    assert peak_bytes(plan.buffers) <= plan.arena_bytes < whole(graph).arena_bytes
    sizes = symbols(tmp_path, model_c(plan))
    assert plan.ram["arena"] == sizes["arena"]
    ram = {f"w_{name.replace('.', '_')}" for name in plan.graph.trained}
    constants = [name for name in sizes if re.match(r"(w\d*|t|initial)_", name) and name not in ram]
    assert sum(sizes[name] for name in constants) == plan.flash["constants"]


def test_pieces_of_an_inference_are_meaningful_and_each_layer_is_counted_once(
    graph: Graph, least: int, tmp_path: Path
) -> None:
    plan = make_plan(graph, quick_board("native"), least)
    sample = {name: np.ones(graph.shape(name), np.float32) for name in graph.inputs}
    with open_board(plan, tmp_path / "project") as device:
        at_once = device.infer(sample)
        device.put_sample(sample)
        for index in range(len(plan.steps)):
            device.run_inference(index, index + 1)
        for name, value in at_once.items():
            assert np.array_equal(device.read_tensor(name), value)
    found = profile(plan)
    assert [layer.name for layer in found.layers] == [step.op.name for step in layers(plan.steps)]
    assert sorted(layer.name for layer in found.layers) == sorted(op.name for op in graph.ops)

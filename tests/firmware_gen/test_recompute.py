"""What the backward pass reads is made a second time where memory is short: with the same bits."""

from pathlib import Path

import numpy as np
import pytest
from fleet import Fleet, lanes_here
from networks import Net
from test_mixed import HYPER

from boards import load_board
from fieldtune.errors import DoesNotFitError
from firmware_gen.backward import training_graph
from firmware_gen.choose_chains import narrow
from firmware_gen.graph import Graph
from firmware_gen.order import least_alive
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan, plan_schedule
from firmware_gen.recompute import bridges, kept, late_readers, rebuild, recompute, recomputed
from firmware_gen.schedule import whole_layers
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan

INSIDE = UpdatePlan(("low*",))
COPY = ".recomputed"


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A training step of three layers at low resolution, whose inputs are kept while the map grows."""
    net = Net(seed=4)
    x = net.activation(net.conv(net.input(3, 24, 24), 16, (3, 3), (2, 2), (1, 1, 1, 1)), "Relu")
    for index in range(3):
        x = net.activation(net.conv(x, 16, pads=(1, 1, 1, 1), kernel=(3, 3), name=f"low{index}"), "LeakyRelu")
    for _ in range(2):
        x = net.conv(net.resize(x, (24, 24), "linear", "half_pixel", "floor"), 16, (3, 3), pads=(1, 1, 1, 1))
    net.loss(net.conv(x, 1, (3, 3), pads=(1, 1, 1, 1)), "mse")
    return lighten(training_graph(net.graph(tmp_path), tuple(net.losses), INSIDE))


@pytest.fixture
def skipping(tmp_path: Path) -> Graph:
    """A training step in which a wide map bridges everything that is made at low resolution."""
    net = Net(seed=5)
    wide = net.activation(net.conv(net.input(3, 24, 24), 32, (3, 3), pads=(1, 1, 1, 1)), "Relu")
    x = net.activation(net.conv(wide, 8, (3, 3), (2, 2), (1, 1, 1, 1)), "Relu")
    for index in range(3):
        x = net.activation(net.conv(x, 8, pads=(1, 1, 1, 1), kernel=(3, 3), name=f"low{index}"), "LeakyRelu")
    x = net.concat(net.resize(x, (24, 24), "linear", "half_pixel", "floor"), wide)
    net.loss(net.conv(net.conv(x, 4, (3, 3), pads=(1, 1, 1, 1)), 1, (3, 3), pads=(1, 1, 1, 1)), "mse")
    return least_alive(lighten(training_graph(net.graph(tmp_path), tuple(net.losses), INSIDE)))


def whole(graph: Graph) -> Plan:
    steps = whole_layers(graph)
    return plan_schedule(load_board("native"), steps, choose_storage(steps))


def trained(plan: Plan, folder: Path) -> list[np.ndarray]:
    """Return losses and weights of two steps."""
    random = np.random.default_rng(2)
    graph, fleet = plan.graph, Fleet([plan])
    fleet.reset(0)
    asked = []
    for _ in range(2):
        for name in (*graph.inputs, *graph.labels):
            fleet.write(0, name, random.standard_normal(graph.shape(name)))
        for name in graph.masks:
            fleet.write(0, name, np.ones(graph.shape(name)))
        asked += [fleet.step(0, **HYPER), *(fleet.read(0, name) for name in graph.trained)]
    values = fleet.run(fleet.build(folder, lanes_here()[-1]))
    return [values[number] for number in asked]


def test_a_training_step_that_makes_things_again_has_the_same_bits(graph: Graph, tmp_path: Path) -> None:
    others = list(recomputed(graph))
    assert len(others) >= 2
    expected = trained(whole(graph), tmp_path / "kept")
    for index, other in enumerate((others[0], least_alive(others[-1]))):
        found = trained(whole(other), tmp_path / str(index))
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_what_is_made_again_is_not_kept_and_made_before_its_weights_change(graph: Graph) -> None:
    names = kept(graph)
    again = recompute(graph, names)
    copies = [op for op in again.ops if op.outputs and op.outputs[0].endswith(COPY)]
    assert copies
    for copy in copies:
        assert copy.phase == "backward"
        assert not late_readers(again, copy.outputs[0].removesuffix(COPY))
        behind = again.ops[again.ops.index(copy) :]
        before = again.ops[: again.ops.index(copy)]
        assert not any(set(op.constants) & set(copy.constants) for op in before if op.phase == "update")
        assert any(copy.outputs[0] in op.inputs for op in behind)


def test_only_a_plan_that_fits_in_no_other_way_makes_things_again(graph: Graph) -> None:
    native = load_board("native")
    banded = plan_schedule(native, *narrow(least_alive(graph), 0))
    assert not any(name.endswith(COPY) for name in make_plan(graph, native, banded.ram_bytes).graph.tensors)
    plan = make_plan(graph, native, banded.ram_bytes - 1)
    assert plan.ram_bytes < banded.ram_bytes
    assert any(name.endswith(COPY) for name in plan.graph.tensors)
    assert plan.macs("forward") == banded.macs("forward")
    assert plan.macs("backward") > banded.macs("backward")


def test_the_smallest_limit_that_is_named_works(graph: Graph) -> None:
    native = load_board("native")
    with pytest.raises(DoesNotFitError) as caught:
        make_plan(graph, native, 4096)
    least = int(str(caught.value).split("--ram ")[-1].split()[0])
    assert make_plan(graph, native, least).ram_bytes == least
    with pytest.raises(DoesNotFitError):
        make_plan(graph, native, least - 1)


def test_a_skip_connection_that_is_made_again_has_the_same_bits(skipping: Graph, tmp_path: Path) -> None:
    (name,) = bridges(skipping)
    again = rebuild(skipping, name)
    copies = [op for op in again.ops if op.outputs[:1] == (f"{name}{COPY}",)]
    assert [op.phase for op in copies] == ["forward"]
    assert [op.kind for op in again.ops if f"{name}{COPY}" in op.inputs] == ["concat"]
    expected, found = trained(whole(skipping), tmp_path / "kept"), trained(whole(again), tmp_path / "again")
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_skip_connection_is_made_again_where_memory_is_short(skipping: Graph, tmp_path: Path) -> None:
    native, (name,) = load_board("native"), bridges(skipping)
    banded = plan_schedule(native, *narrow(skipping, 0))
    plan = make_plan(skipping, native, banded.ram_bytes - 16384)
    assert f"{name}{COPY}" in plan.graph.tensors
    expected, found = trained(whole(skipping), tmp_path / "kept"), trained(plan, tmp_path / "again")
    assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))

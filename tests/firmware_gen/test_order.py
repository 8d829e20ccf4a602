"""The order of operators: the same values in less memory."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fleet import Fleet, lanes_here
from test_mixed import HYPER, SIZE, mixed_network

from boards import load_board
from firmware_gen.arena import peak_bytes
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph, Op, Tensor, check
from firmware_gen.order import least_alive
from firmware_gen.passes import lighten
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.plan import Plan, plan_schedule
from firmware_gen.schedule import whole_layers
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan


def drawn_graph(random: np.random.Generator, count: int) -> Graph:
    """Return a random network of `count` layers that read one or two of what was made before."""
    names = ["x"]
    ops = []
    for index in range(count):
        inputs = [
            str(name) for name in random.choice(names, size=min(len(names), 1 + index % 2), replace=False)
        ]
        ops.append(Op("conv2d", f"layer{index}", tuple(inputs), (f"t{index}",)))
        names.append(f"t{index}")
    read = {name for op in ops for name in op.inputs}
    tensors = {name: Tensor(name, (1, int(random.integers(1, 9)), 16), "i8") for name in names}
    return Graph("drawn", tuple(ops), tensors, {}, ("x",), tuple(name for name in names if name not in read))


def orders(graph: Graph, ran: tuple[Op, ...] = ()) -> Iterator[tuple[Op, ...]]:
    """Yield every order in which the operators can run."""
    if len(ran) == len(graph.ops):
        yield ran
    known = {*graph.inputs, *(name for op in ran for name in op.outputs)}
    for op in graph.ops:
        if op not in ran and known.issuperset(op.inputs):
            yield from orders(graph, (*ran, op))


def peak(graph: Graph) -> int:
    return peak_bytes(choose_storage(whole_layers(graph)).buffers)


@pytest.mark.parametrize("seed", range(20))
def test_no_order_of_a_small_network_has_a_lower_peak(seed: int) -> None:
    graph = drawn_graph(np.random.default_rng(seed), 7)
    found = least_alive(graph)
    assert peak(found) == min(peak(dataclasses.replace(graph, ops=ops)) for ops in orders(graph))


@pytest.mark.parametrize("seed", range(5))
def test_the_order_is_valid_and_needs_no_more_than_the_models(seed: int) -> None:
    graph = drawn_graph(np.random.default_rng(seed), 40)
    found = check(least_alive(graph))
    assert sorted(op.name for op in found.ops) == sorted(op.name for op in graph.ops)
    assert peak(found) <= peak(graph)


def training(folder: Path) -> Graph:
    """Return a training step of two layers that thaw, above them integers."""
    update = UpdatePlan(("low", "up", "head"))
    return lighten(training_graph(mixed_network(folder), (LossSpec("y", "mse"),), update))


def test_training_in_another_order_has_the_bits_of_the_models_order(tmp_path: Path) -> None:
    graph = training(tmp_path)
    plans = [planned(graph), planned(least_alive(graph))]
    assert [op.name for op in plans[0].graph.ops] != [op.name for op in plans[1].graph.ops]
    one, other = (trained(plan, tmp_path / str(index)) for index, plan in enumerate(plans))
    for a, b in zip(one, other, strict=True):
        assert np.array_equal(a, b)


def test_a_weight_changes_behind_all_that_read_it_and_losses_come_behind_inference(tmp_path: Path) -> None:
    ops = least_alive(training(tmp_path)).ops
    phases = [op.phase for op in ops]
    assert phases.index("loss") > max(k for k, phase in enumerate(phases) if phase == "forward")
    for at, op in enumerate(ops):
        if op.phase == "update":
            assert not any(set(op.constants) & set(later.constants) for later in ops[at + 1 :])


def planned(graph: Graph) -> Plan:
    board = load_board("native")
    steps = whole_layers(with_scratch(graph, board))
    return plan_schedule(board, steps, choose_storage(steps))


def trained(plan: Plan, folder: Path) -> list[np.ndarray]:
    """Return losses and weights of two steps."""
    random = np.random.default_rng(2)
    fleet = Fleet([plan])
    fleet.reset(0)
    asked = []
    for _ in range(2):
        fleet.write(0, "x", random.standard_normal((SIZE, SIZE, 8)))
        fleet.write(0, "y.label", random.standard_normal((SIZE, SIZE, 1)))
        fleet.write(0, "y.mask", np.ones((SIZE, SIZE, 1)))
        asked += [fleet.step(0, **HYPER), *(fleet.read(0, name) for name in plan.graph.trained)]
    values = fleet.run(fleet.build(folder, lanes_here()[-1]))
    return [values[number] for number in asked]

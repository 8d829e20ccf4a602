"""Chains of layers that run in bands of rows: the bits of whole layers, in less memory."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from drawing import SHORT
from fleet import Fleet, lanes_here
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_model import MemoryModel
from networks import Net
from proof import Case, hwc
from test_operators import FAMILIES

from boards import Board, load_board
from firmware_gen.backward import training_graph
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph, Op
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, plan_schedule
from firmware_gen.schedule import Chain, whole_layers
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan

NATIVE = load_board("native")
MANY = settings(SHORT, max_examples=60)
NETWORKS = st.one_of(*(strategy for family in FAMILIES.values() for strategy in family))


KEPT = UpdatePlan(keep_gradients=True)
CLIPPED = UpdatePlan(clip_norm=True, state="bf16")


def training(case: Case, folder: Path, name: str = "net", update: UpdatePlan = KEPT) -> Graph:
    graph = case.net.graph(folder, name)
    update = dataclasses.replace(update, patterns=case.patterns)
    return lighten(training_graph(graph, tuple(case.net.losses), update))


def deep(random: np.random.Generator) -> Case:
    """Return a network of many layers with branches that meet again; a layer at both ends learns."""
    net = Net(seed=int(random.integers(1 << 30)))
    x = net.input(int(random.integers(1, 5)), int(random.integers(9, 20)), int(random.integers(3, 8)))
    x = net.conv(x, int(random.integers(2, 9)), (3, 3), pads=(1, 1, 1, 1), name="low")
    for _ in range(random.integers(5, 10)):
        x = LAYERS[random.integers(len(LAYERS))](net, x, random)
    net.loss(net.conv(x, 2, (3, 1), pads=(1, 0, 1, 0), name="top"), "mse")
    return Case(net, ("low", "top"))


def _conv(net: Net, x: str, random: np.random.Generator) -> str:
    groups = net.shape(x)[1] if random.random() < 0.3 else 1
    kernel, dilation = int(random.integers(1, 5)), int(random.integers(1, 3))
    stride = int(random.integers(1, 3)) if net.shape(x)[2] > 8 else 1
    pad = int(random.integers(0, kernel)) if net.shape(x)[2] > 10 else (kernel - 1) * dilation
    y = net.conv(
        x,
        groups if groups > 1 else int(random.integers(2, 9)),
        (kernel, 1),
        (stride, 1),
        (pad, 0, pad, 0),
        (dilation, 1),
        groups,
    )
    return net.activation(y, str(random.choice(["Relu", "Sigmoid"]))) if random.random() < 0.6 else y


def _same(net: Net, x: str) -> str:
    return net.conv(x, net.shape(x)[1], (3, 3), pads=(1, 1, 1, 1))


def _residual(net: Net, x: str, random: np.random.Generator) -> str:
    y = net.activation(_same(net, x), "Relu")
    return net.add(x, _same(net, y) if random.random() < 0.5 else y)


def _branches(net: Net, x: str, random: np.random.Generator) -> str:
    parts = [x if random.random() < 0.3 else _same(net, x) for _ in range(2)]
    return net.concat(
        net.activation(parts[0], "Relu"), net.max_pool(parts[1], (3, 1), (1, 1), (1, 0, 1, 0), (1, 1))
    )


def _down_and_up(net: Net, x: str, random: np.random.Generator) -> str:
    height, width = net.shape(x)[2:]
    if height < 4 or height > 24:
        return _same(net, x)
    low = net.conv(x, 4, (3, 1), (2, 1), (1, 0, 1, 0))
    if random.random() < 0.5:
        up = net.resize(
            low, (height, width), str(random.choice(["linear", "nearest"])), "half_pixel", "floor"
        )
    else:
        up = net.conv_transpose(low, 4, (3, 1), (2, 1), (1, 0, 1, 0), (1 - height % 2, 0))
    return net.concat(up, x)


LAYERS = (_conv, _residual, _branches, _down_and_up)


def drawn_chains(graph: Graph, random: np.random.Generator) -> list[Chain]:
    """Return chains of random lengths and heights, side by side."""
    bands, chains, start = Bands(graph), [], 0
    while start < len(graph.ops):
        ends = [end for end in range(start + 1, len(graph.ops) + 1) if bands.chain(start, end, 1)]
        if not ends:
            start += 1
            continue
        end = int(random.choice(ends[-3:] if random.random() < 0.7 else ends))
        heights = [height for height in (1, 2, 3, 5) if bands.chain(start, end, height)]
        chain = bands.chain(start, end, int(random.choice(heights)))
        assert chain is not None
        chains.append(chain)
        start = end
    return chains


def banded(graph: Graph, chains: Sequence[Chain], board: Board = NATIVE) -> Plan:
    steps = Bands(graph).steps(chains)
    return plan_schedule(board, steps, choose_storage(steps))


def whole(graph: Graph, board: Board = NATIVE) -> Plan:
    steps = whole_layers(graph)
    return plan_schedule(board, steps, choose_storage(steps))


def test_no_row_of_any_operator_is_overwritten_before_its_last_use(folders: Iterator[Path]) -> None:
    @MANY
    @given(NETWORKS, st.integers(0, 1 << 30))
    def run(case: Case, seed: int) -> None:
        check(case, np.random.default_rng(seed), next(folders))

    run()


def test_no_row_of_a_deep_network_is_overwritten_before_its_last_use(folders: Iterator[Path]) -> None:
    random = np.random.default_rng(5)
    for _ in range(30):
        check(deep(random), random, next(folders))


def check(case: Case, random: np.random.Generator, folder: Path) -> None:
    graph = training(case, folder)
    plan = banded(graph, drawn_chains(graph, random))
    model = MemoryModel(plan)
    model.run("forward", "loss", "backward", "update")
    inference = MemoryModel(plan)
    inference.run("forward")
    for name in graph.outputs:
        inference.assert_holds(name)


@pytest.mark.parametrize(("seed", "update"), [(0, KEPT), (1, CLIPPED)], ids=("kept", "clipped"))
def test_outputs_losses_and_gradients_have_the_bits_of_whole_layers(
    seed: int, update: UpdatePlan, tmp_path: Path
) -> None:
    random = np.random.default_rng(seed)
    cases = [deep(random) for _ in range(6)]
    graphs = [training(case, tmp_path, f"net{k}", update) for k, case in enumerate(cases)]
    others = [banded(graph, drawn_chains(graph, random)) for graph in graphs]
    assert any(op.phase == "update" for plan in others for op in _in_chains(plan))
    assert_same_bits(cases, [*map(whole, graphs)], others, tmp_path)


def _in_chains(plan: Plan) -> list[Op]:
    return [step.op for step in plan.steps if step.chain]


def assert_same_bits(
    cases: Sequence[Case], expected: Sequence[Plan], found: Sequence[Plan], folder: Path
) -> None:
    """Run both plans of each case and compare inference, losses, gradients and weights."""
    plans = [plan for pair in zip(expected, found, strict=True) for plan in pair]
    fleet = Fleet(plans)
    asked = [answers(fleet, k, cases[k // 2].net, plan) for k, plan in enumerate(plans)]
    values = fleet.run(fleet.build(folder, lanes_here()[0]))
    for expected, got in zip(asked[::2], asked[1::2], strict=True):
        for one, other in zip(expected, got, strict=True):
            assert values[one].tobytes() == values[other].tobytes()
        assert values[got[-1]] == 1, "the guards of the arena have been overwritten"


def answers(fleet: Fleet, model: int, net: Net, plan: Plan) -> list[int]:
    """Ask for an inference, and for a step on the same sample."""
    fleet.reset(model)
    for name, value in net.inputs.items():
        if name in plan.graph.inputs:
            fleet.write(model, name, hwc(value))
    fleet.infer(model)
    outputs = [fleet.read(model, name) for name in net.outputs]
    for name, value in net.inputs.items():
        if name in plan.graph.inputs:
            fleet.write(model, name, hwc(value))
    for name in net.labels:
        fleet.write(model, f"{name}.label", hwc(net.labels[name]))
        fleet.write(model, f"{name}.mask", hwc(net.masks[name]))
    losses = fleet.step(model)
    learned = [fleet.read(model, f"{kind}{x}") for x in plan.graph.trained for kind in ("gradient.", "")]
    return [*outputs, losses, *learned, fleet.intact(model)]

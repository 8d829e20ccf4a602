"""Chains of layers that run in bands of rows: the bits of whole layers, in less memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from drawing import SHORT, worth_compiling
from fleet import Fleet, lanes_here
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_model import MemoryModel
from networks import Net
from proof import Case, hwc
from test_operators import FAMILIES

from boards import load_board
from firmware_gen.backward import training_graph
from firmware_gen.bands import Bands
from firmware_gen.graph import Graph
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, plan_schedule
from firmware_gen.schedule import Chain, whole_layers
from firmware_gen.storage import choose_storage
from firmware_gen.update import UpdatePlan

MANY = settings(SHORT, max_examples=60)
NETWORKS = st.one_of(*(strategy for family in FAMILIES.values() for strategy in family))


def training(case: Case, folder: Path, name: str = "net") -> Graph:
    graph = case.net.graph(folder, name)
    update = UpdatePlan(case.patterns, keep_gradients=True)
    return lighten(training_graph(graph, tuple(case.net.losses), update))


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


def banded(graph: Graph, chains: Sequence[Chain], board: str = "native") -> Plan:
    steps = Bands(graph).steps(chains)
    return plan_schedule(load_board(board), steps, choose_storage(steps))


def whole(graph: Graph, board: str = "native") -> Plan:
    steps = whole_layers(graph)
    return plan_schedule(load_board(board), steps, choose_storage(steps))


def test_no_row_is_overwritten_before_its_last_use(folders: Iterator[Path]) -> None:
    @MANY
    @given(NETWORKS, st.integers(0, 1 << 30))
    def run(case: Case, seed: int) -> None:
        graph = training(case, next(folders))
        plan = banded(graph, drawn_chains(graph, np.random.default_rng(seed)))
        model = MemoryModel(plan)
        model.run("forward", "loss", "backward", "update")
        inference = MemoryModel(plan)
        inference.run("forward")
        for name in graph.outputs:
            inference.assert_holds(name)

    run()


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_losses_and_gradients_have_the_bits_of_whole_layers(family: str, folders: Iterator[Path]) -> None:
    @settings(SHORT, max_examples=2)
    @given(st.lists(st.one_of(*FAMILIES[family]), min_size=6, max_size=10), st.integers(0, 1 << 30))
    def run(cases: list[Case], seed: int) -> None:
        assert_same_bits(worth_compiling(cases), np.random.default_rng(seed), next(folders))

    run()


def assert_same_bits(cases: Sequence[Case], random: np.random.Generator, folder: Path) -> None:
    graphs = [training(case, folder, f"net{k}") for k, case in enumerate(cases)]
    plans = [
        plan for graph in graphs for plan in (whole(graph), banded(graph, drawn_chains(graph, random)))
    ]
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
    gradients = [fleet.read(model, f"gradient.{name}") for name in plan.graph.trained]
    return [*outputs, losses, *gradients, fleet.intact(model)]

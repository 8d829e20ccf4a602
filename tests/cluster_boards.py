"""GAP9's or GAP8's cluster on this computer, with as many cores and as much L1 as is wanted, and its bits."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quick_board import PLAIN_FUNCTIONS

import boards
from boards import Board, load_board
from boards.building import Sanitizer, Sign
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from ondevice.device import Device, Hyper

Found = Mapping[str, NDArray[Any]]

STEPS = 2
KNOWN = 0.8  # share of the labels


def cluster_board(
    cores: int,
    data_bytes: int | None = None,
    quick: bool = True,
    l2_bytes: int | None = None,
    chip: str = "gap9_host",
) -> Board:
    """Return board `chip` with `cores` cores and `data_bytes` of L1 beside the stacks; None: all of it.

    `l2_bytes`: of L2, all of it if None. Kernels are ordinary functions, not specialised for every layer,
    unless it is not to be `quick`.
    """
    board = load_board(chip)
    assert board.cluster is not None
    cluster = dataclasses.replace(board.cluster, cores=cores)
    if data_bytes is not None:
        stacks = cluster.l1_bytes - cluster.l1_data_bytes
        cluster = dataclasses.replace(cluster, l1_bytes=stacks + data_bytes)
    flags = (*board.compiler.flags, *(PLAIN_FUNCTIONS if quick else ()))
    compiler = dataclasses.replace(board.compiler, flags=flags)
    (l2,) = board.regions
    l2 = dataclasses.replace(l2, bytes=l2_bytes or l2.bytes)
    return dataclasses.replace(board, cluster=cluster, compiler=compiler, regions=(l2,))


def worked(
    graph: Graph,
    board: Board,
    folder: Path,
    sanitizer: Sanitizer | bool = False,
    ram_limit: int | None = None,
    char: Sign | None = None,
) -> Found:
    """Return what an inference and, if something learns, some steps leave behind."""
    return worked_as(make_plan(graph, board, ram_limit), folder, sanitizer, char)


def worked_as(
    plan: Plan, folder: Path, sanitizer: Sanitizer | bool = False, char: Sign | None = None
) -> Found:
    """Return the same of a plan."""
    graph, board, project = plan.graph, plan.board, folder / plan.board.id
    write_project(plan, project)
    firmware = boards.build(project, board, sanitize=sanitizer, char=char)
    random = np.random.default_rng(3)
    with boards.start(firmware.elf, board) as running, Device.open(running.url) as device:
        sample = {name: _drawn(graph, name, random) for name in graph.inputs}
        found = {f"inferred.{name}": value for name, value in device.infer(sample).items()}
        if not graph.trained:
            return found
        device.set_hyper(Hyper(lr=0.02, momentum=0.9, weight_decay=0.01, clip_norm=1.0))
        losses = []
        for step in range(STEPS):
            sample = {name: _drawn(graph, name, random) for name in (*graph.inputs, *graph.labels)}
            device.put_sample(sample | {name: _mask(graph, name, random) for name in graph.masks})
            losses += device.step(step).losses
        assert device.memory().arena_intact
        return {**found, **device.read_role("weight", "state", "range"), "losses": np.array(losses)}


def _drawn(graph: Graph, name: str, random: np.random.Generator) -> NDArray[Any]:
    if graph.tensors[name].dtype == "f32":
        return random.standard_normal(graph.shape(name)).astype(np.float32)
    return random.integers(0, 3, graph.shape(name)).astype(np.uint8)


def _mask(graph: Graph, name: str, random: np.random.Generator) -> NDArray[np.uint8]:
    return (random.random(graph.shape(name)) < KNOWN).astype(np.uint8)


def assert_same(expected: Found, found: Found) -> None:
    """Assert that two boards have found the same bits."""
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name], equal_nan=True), name

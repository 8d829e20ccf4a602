"""Compares generated int8 C with LiteRT's reference kernels, bit by bit, many models at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fleet import Fleet, lanes_here
from tflite_writer import Array, Reference

from boards import load_board
from firmware_gen.graph import Graph
from firmware_gen.plan import make_plan
from firmware_gen.project import load_network

SAMPLES = 4


@dataclass(frozen=True)
class Case:
    """A .tflite file and samples: inputs in the order of the file. No samples: some over the whole range."""

    model: bytes
    samples: Sequence[Sequence[Array]] = ()
    note: str = ""  # what a failure should say about this case


def prove(
    cases: Sequence[Case], folder: Path, firmware: bool = False, tolerance: float = 0, seed: int = 0
) -> None:
    """Assert that the C of every case gives the bits of LiteRT's reference kernels, as far as `tolerance`.

    Compiled for the sanitizers, or as in firmware.
    """
    random = np.random.default_rng(seed)
    references = [Reference(case.model) for case in cases]
    samples = [
        case.samples or [reference.draw(random) for _ in range(SAMPLES)]
        for case, reference in zip(cases, references, strict=True)
    ]
    graphs = [read(case.model, folder, f"m{k}") for k, case in enumerate(cases)]
    found = run(graphs, samples, folder, firmware)
    for k, (case, truth, inputs, outputs) in enumerate(zip(cases, references, samples, found, strict=True)):
        for sample, answers in zip(inputs, outputs, strict=True):
            for answer, expected in zip(answers, truth(sample), strict=True):
                _compare(answer.ravel(), expected.ravel(), tolerance, f"case {k} {case.note}")


def _compare(answer: Array, expected: Array, tolerance: float, what: str) -> None:
    assert answer.dtype == expected.dtype, what
    difference = np.abs(answer.astype(np.float64) - expected)
    wrong = np.flatnonzero(difference > tolerance)
    assert not wrong.size, (
        f"{what}: {wrong.size} of {expected.size} differ, at most by {difference.max()}; value {wrong[0]} is "
        f"{answer[wrong[0]]}, not {expected[wrong[0]]}"
    )


def read(model: bytes, folder: Path, name: str) -> Graph:
    """Return the graph of a .tflite file, as it is compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.tflite"
    path.write_bytes(model)
    return load_network(path).graph


def run(
    graphs: Sequence[Graph],
    samples: Sequence[Sequence[Sequence[Array]]],
    folder: Path,
    firmware: bool = False,
) -> list[list[list[Array]]]:
    """Return the outputs of every graph for every one of its samples (arrays of rows, columns, channels).

    All graphs are one program: built for the sanitizers and without optimization, or as in firmware. Asserts
    that the arena's guards stay untouched.
    """
    board = load_board("native")
    fleet = Fleet([make_plan(graph, board) for graph in graphs])
    asked: list[list[list[int]]] = []
    intact = []
    for k, (graph, own) in enumerate(zip(graphs, samples, strict=True)):
        fleet.reset(k)
        asked.append([_ask(fleet, k, graph, sample) for sample in own])
        intact.append(fleet.intact(k))
    program = fleet.build(folder, lanes_here()[-1], specialise=firmware, sanitize=not firmware)
    values = fleet.run(program)
    assert all(values[number] == 1 for number in intact)
    return [[[values[number] for number in sample] for sample in own] for own in asked]


def _ask(fleet: Fleet, model: int, graph: Graph, sample: Sequence[Array]) -> list[int]:
    for name, value in zip(graph.inputs, sample, strict=True):
        fleet.write(model, name, value)
    fleet.infer(model)
    return [fleet.read(model, name) for name in graph.outputs]

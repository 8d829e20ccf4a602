"""Runs the firmware of a graph on an emulated board and on `native`, and compares the bits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from quick_board import quick_board
from tflite_writer import Array

import boards
from firmware_gen.graph import Graph
from firmware_gen.operators.base import Prefer
from firmware_gen.plan import make_plan
from firmware_gen.project import write_project
from firmware_gen.window import Window
from ondevice.device import Device

Arrays = dict[str, Array]


def samples(graph: Graph, random: np.random.Generator) -> list[Arrays]:
    """Return int8 inputs: the lowest values, the highest, random ones."""

    def drawn(low: int, high: int) -> Arrays:
        return {
            name: random.integers(low, high, graph.shape(name), np.int8, endpoint=True)
            for name in graph.inputs
        }

    return [drawn(-128, -128), drawn(127, 127), drawn(-128, 127)]


def same_bits(
    graph: Graph, on: Sequence[str], inputs: Sequence[Arrays], folder: Path, prefer: Prefer = "flash"
) -> None:
    """Assert that the boards `on` answer as `native` does to every sample."""
    native = answers(graph, "native", inputs, folder, prefer)
    for board in on:
        for sample, truth in zip(answers(graph, board, inputs, folder, prefer), native, strict=True):
            for name in graph.outputs:
                assert np.array_equal(sample[name], truth[name]), f"{name} of {graph.name} on {board} differs"
    assert any(np.unique(truth[name]).size > 2 for truth in native for name in graph.outputs)


def answers(
    graph: Graph, name: str, inputs: Sequence[Arrays], folder: Path, prefer: Prefer = "flash"
) -> list[Arrays]:
    """Return what the firmware for board `name` answers to every sample."""
    board, project = quick_board(name), folder / name
    write_project(make_plan(graph, board, prefer=prefer), project)
    firmware = boards.build(project, board)
    with boards.start(firmware.elf, board) as running, Device.open(running.url) as device:
        found = []
        for sample in inputs:
            device.put_sample(sample)
            device.run_inference()
            found.append({output: device.read_tensor(output) for output in graph.outputs})
        assert device.memory().arena_intact
        return found


def random_window(random: np.random.Generator, largest: int) -> tuple[Window, int, int]:
    """Return a window and the size of a map on which it has at least one position."""
    kernel, stride, dilation = (random.integers(1, most + 1, 2) for most in (largest, 3, 2))
    span = dilation * (kernel - 1)
    pad, pad_end = random.integers(0, span + 1), random.integers(0, span + 1)
    height, width = np.maximum(1, span + 1 - pad - pad_end) + random.integers(0, 7, 2)
    pairs = [(int(a), int(b)) for a, b in (kernel, stride, pad, pad_end, dilation)]
    return Window(*pairs), int(height), int(width)

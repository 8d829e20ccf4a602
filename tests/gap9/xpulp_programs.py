"""Programs with Xpulp's instructions, on this computer and in the simulator."""

import atexit
import functools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from firmware_gen.graph import Graph
from firmware_gen.plan import make_plan

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "firmware_gen" / "runtime" / "kernels"
sys.path[:0] = [str(ROOT / "tools" / "xpulp_iss"), str(ROOT / "tests" / "firmware_gen")]

import simulator  # noqa: E402
from small_tflite import small_tflite as small_tflite  # noqa: E402

SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
# What the vendor's compiler is, as far as our code can tell.
BUILTINS = Path(__file__).with_name("vendor_builtins.h")
VENDOR = ("-D__gap9__", "-funsigned-char", "-include", str(BUILTINS))
# Kernels are ordinary functions, not specialised for every layer: built in a tenth of the time.
PLAIN = ("-O0", "-Dalways_inline=unused")

Arrays = dict[str, NDArray[np.generic]]


@functools.cache
def simulator_program() -> Path:
    """Return the simulator, compiled once for this process."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return simulator.build_simulator(Path(folder.name))


def on_host(program: Path, given: bytes = b"") -> bytes:
    return simulator.run(None, program, given)


def in_simulator(program: Path, given: bytes = b"") -> bytes:
    return simulator.run(simulator_program(), program, given)


def assert_same_bits(graph: Graph, samples: Sequence[Arrays], folder: Path) -> None:
    """Assert that the kernels for Xpulp answer as the portable ones, with every back end."""
    plan = make_plan(graph, simulator.board(folder))
    host = simulator.build_host_model(make_plan(graph, load_board("native")), folder / "native", PLAIN)
    portable = simulator.build_host_model(plan, folder / "portable", (*PLAIN, *SANITIZED))
    builtins = simulator.build_host_model(plan, folder / "builtins", (*PLAIN, *VENDOR))
    core = simulator.build_model(plan, folder / "core")
    truth = simulator.infer(None, host, graph, samples)
    for where, program in ((None, portable), (None, builtins), (simulator_program(), core)):
        for found, expected in zip(simulator.infer(where, program, graph, samples), truth, strict=True):
            for name in graph.outputs:
                wrong = np.argwhere(found.outputs[name] != expected.outputs[name])
                assert not len(wrong), f"{name} in {program.parent.name}: {len(wrong)} from {wrong[0]} on"
    assert any(np.unique(answer.outputs[name]).size > 2 for answer in truth for name in graph.outputs)


def int8_samples(graph: Graph, random: np.random.Generator) -> list[Arrays]:
    """Return int8 inputs: the lowest values, the highest, random ones."""

    def drawn(low: int, high: int) -> Arrays:
        shapes = {name: graph.shape(name) for name in graph.inputs}
        return {
            name: random.integers(low, high, shape, np.int8, endpoint=True) for name, shape in shapes.items()
        }

    return [drawn(-128, -128), drawn(127, 127), drawn(-128, 127)]

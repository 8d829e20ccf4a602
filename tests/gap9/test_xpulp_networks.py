"""Whole int8 networks on the simulated core: the bits of `native`, and how many instructions they take."""

from pathlib import Path

import numpy as np
import pytest
from xpulp_programs import PLAIN, int8_samples, simulator, simulator_program, small_tflite

from boards import load_board
from firmware_gen.graph import Graph
from firmware_gen.operators import OPERATORS
from firmware_gen.plan import make_plan
from firmware_gen.project import load_network

DATA = Path(__file__).parents[3] / "shared" / "data"


def instructions_per_mac(graph: Graph, folder: Path) -> float:
    """Assert that the simulated core gives the bits of `native`; return its instructions a MAC."""
    samples = int8_samples(graph, np.random.default_rng(50))
    native = simulator.build_host_model(make_plan(graph, load_board("native")), folder / "native", PLAIN)
    core = simulator.build_model(make_plan(graph, simulator.board(folder)), folder / "core")
    truth = simulator.infer(None, native, graph, samples)
    found = simulator.infer(simulator_program(), core, graph, samples, folder / "profile")
    for answer, expected in zip(found, truth, strict=True):
        for name in graph.outputs:
            assert np.array_equal(answer.outputs[name], expected.outputs[name]), name
    macs = sum(OPERATORS[op.kind].macs(op, graph) for op in graph.ops)
    return sum(found[-1].instructions) / macs


def test_every_family_of_operators_and_its_share_in_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(small_tflite())
    graph = load_network(path).graph
    assert instructions_per_mac(graph, tmp_path) > 0
    lines = (line.split() for line in (tmp_path / "profile").read_text().splitlines())
    counts = {name: int(count) for count, name in lines}
    layers = [name for name in counts if name.startswith("s0")]
    assert len(layers) >= len(graph.ops) - 1  # what only moves values may need no code
    assert counts["main"] > 0


@pytest.mark.parametrize(
    ("name", "most"), [("kws_ref_model.tflite", 0.95), ("pretrainedResnet_quant.tflite", 0.66)]
)
def test_published_networks(name: str, most: float, tmp_path: Path) -> None:
    if not (DATA / name).is_file():
        pytest.skip(f"needs ../shared/data/{name}")
    assert instructions_per_mac(load_network(DATA / name).graph, tmp_path) <= most

"""Layers that several cores make, each some rows and output channels, are those that one core makes."""

from pathlib import Path

import numpy as np
import pytest
from xpulp_programs import PLAIN, SANITIZED, int8_samples, simulator, simulator_program
from xpulp_random import add_random_layer

from boards import load_board
from firmware_gen.emit.layers import Layers
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.conv_parts import _arguments
from firmware_gen.plan import make_plan
from firmware_gen.schedule import Step

HERE = Path(__file__).parent
SHARES = 3


def rows(self: Layers, step: Step) -> str:
    y0, y1 = step.rows
    return f"share_row({y0}, {y1}, row_share), share_row({y0}, {y1}, row_share + 1)"


def channels(self: Layers, count: int, multiple: int) -> str:
    return (
        f"share_channel({count}, {multiple}, channel_share), "
        f"share_channel({count}, {multiple}, channel_share + 1)"
    )


@pytest.mark.parametrize("kind", ["dense", "grouped", "transposed", "depthwise"])
def test_random_layers_in_shares(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    random = np.random.default_rng(len(kind))
    network = Builder(kind)
    for k in range(10):
        add_random_layer(network, kind, k, random)
    graph = network.graph()
    samples = int8_samples(graph, random)
    host = simulator.build_host_model(make_plan(graph, load_board("native")), tmp_path / "native", PLAIN)
    plan = make_plan(graph, simulator.board(tmp_path))
    monkeypatch.setattr(Layers, "rows", rows)
    monkeypatch.setattr(Layers, "channels", channels)
    flags, main = (f"-DSHARES={SHARES}", "-include", str(HERE / "xpulp_shares.h")), HERE / "xpulp_shares.c"
    portable = simulator.build_host_model(plan, tmp_path / "portable", (*PLAIN, *SANITIZED, *flags), main)
    core = simulator.build_model(plan, tmp_path / "core", flags, main)
    assert "channel_share + 1)" in (tmp_path / "core" / "model.c").read_text()
    truth = simulator.infer(None, host, graph, samples)
    for where, program in ((None, portable), (simulator_program(), core)):
        for found, expected in zip(simulator.infer(where, program, graph, samples), truth, strict=True):
            for name in graph.outputs:
                assert np.array_equal(found.outputs[name], expected.outputs[name]), name


def test_arguments_are_separated_by_the_commas_outside_parentheses() -> None:
    assert _arguments("y0, y1") == ["y0", "y1"]
    assert _arguments("f(a, g[b, c]), 4") == ["f(a, g[b, c])", "4"]

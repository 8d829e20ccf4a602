"""Layers in bands of rows, whose first and end row are variables: the bits of whole layers on `native`."""

from pathlib import Path

import numpy as np
from xpulp_programs import PLAIN, SANITIZED, int8_samples, simulator, simulator_program

# isort: split
# On the path since xpulp_programs was imported.
from test_bands import banded, drawn_chains, whole
from test_bands_i8 import deep

from boards import load_board
from firmware_gen.emit.model import model_c
from firmware_gen.passes.scratch import with_scratch

SEEDS = range(20, 26)


def test_random_networks_in_bands(tmp_path: Path) -> None:
    native, xpulp, kernels = load_board("native"), simulator.board(tmp_path), ""
    for seed in SEEDS:
        graph = with_scratch(deep(seed), xpulp)
        random = np.random.default_rng(seed)
        samples = int8_samples(graph, random)
        plan = banded(graph, drawn_chains(graph, random), xpulp)
        assert any(step.chain for step in plan.steps)
        host = simulator.build_host_model(
            whole(with_scratch(deep(seed), native), native), tmp_path / "n", PLAIN
        )
        portable = simulator.build_host_model(plan, tmp_path / "p", (*PLAIN, *SANITIZED))
        core = simulator.build_model(plan, tmp_path / "c")
        truth = simulator.infer(None, host, graph, samples)
        for where, program in ((None, portable), (simulator_program(), core)):
            for found, expected in zip(simulator.infer(where, program, graph, samples), truth, strict=True):
                for name in graph.outputs:
                    assert np.array_equal(found.outputs[name], expected.outputs[name]), (seed, program)
        kernels += model_c(plan)
    for family in ("conv2d", "depthwise", "binary", "pool"):
        assert f"ft_{family}_i8_xpulp(" in kernels

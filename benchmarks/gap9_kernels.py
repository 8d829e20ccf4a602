"""Instructions of int8 layers on one core with Xpulp (GAP9's instructions), counted in tools/xpulp_iss.

    python benchmarks/gap9_kernels.py [--layers upydnet,resnet8,kernels | NAME,...] [--model FILE] [--json]

Each layer runs alone; its output must have the bits of board `native`. Instructions, not cycles: the
simulator knows nothing of cores that wait, for each other or for memory. With --model the steps of a whole
network are counted where they stand.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from kernels import LAYERS, Layer

from boards import load_board
from firmware_gen.graph import Graph
from firmware_gen.operators import OPERATORS
from firmware_gen.plan import make_plan
from firmware_gen.project import load_network
from firmware_gen.window import Activation

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "xpulp_iss"))

import simulator

RELU, LEAKY = Activation("relu"), Activation("leaky_relu", 0.125)
SAME = (1, 1)
# The layers of µPyD-Net (zoo/networks/upydnet.py) that differ, and of MLPerf Tiny's ResNet8.
UPYDNET = {
    "encoder0": Layer("conv 3x3 s1, 48x48x3 -> 8", 48, 3, 8, 3, 1, SAME, activation=LEAKY),
    "encoder1": Layer("conv 3x3 s1, 48x48x8 -> 8", 48, 8, 8, 3, 1, SAME, activation=LEAKY),
    "encoder2": Layer("conv 3x3 s2, 48x48x8 -> 16", 48, 8, 16, 3, 2, SAME, activation=LEAKY),
    "encoder3": Layer("conv 3x3 s1, 24x24x16 -> 16", 24, 16, 16, 3, 1, SAME, activation=LEAKY),
    "encoder4": Layer("conv 3x3 s2, 24x24x16 -> 32", 24, 16, 32, 3, 2, SAME, activation=LEAKY),
    "encoder5": Layer("conv 3x3 s1, 12x12x32 -> 32", 12, 32, 32, 3, 1, SAME, activation=LEAKY),
    "upsampler": Layer("transposed 2x2 s2, 12x12x32 -> 32", 12, 32, 32, 2, 2, transposed=True),
    "decoder1": Layer("conv 3x3 s1, 24x24x48 -> 32", 24, 48, 32, 3, 1, SAME, activation=LEAKY),
    "decoder2": Layer("conv 3x3 s1, 48x48x40 -> 32", 48, 40, 32, 3, 1, SAME, activation=LEAKY),
    "disparity": Layer("conv 3x3 s1, 48x48x32 -> 1", 48, 32, 1, 3, 1, SAME),
}
RESNET8 = {
    "conv1": Layer("conv 3x3 s1, 32x32x3 -> 16", 32, 3, 16, 3, 1, SAME, activation=RELU),
    "block1": Layer("conv 3x3 s1, 32x32x16 -> 16", 32, 16, 16, 3, 1, SAME, activation=RELU),
    "block2.0": Layer("conv 3x3 s2, 32x32x16 -> 32", 32, 16, 32, 3, 2, (0, 1), activation=RELU),
    "block2.1": Layer("conv 3x3 s1, 16x16x32 -> 32", 16, 32, 32, 3, 1, SAME),
    "skip2": Layer("conv 1x1 s2, 32x32x16 -> 32", 32, 16, 32, 1, 2),
    "block3.0": Layer("conv 3x3 s2, 16x16x32 -> 64", 16, 32, 64, 3, 2, (0, 1), activation=RELU),
    "block3.1": Layer("conv 3x3 s1, 8x8x64 -> 64", 8, 64, 64, 3, 1, SAME),
    "skip3": Layer("conv 1x1 s2, 16x16x32 -> 64", 16, 32, 64, 1, 2),
}
SETS: dict[str, Mapping[str, Layer]] = {"upydnet": UPYDNET, "resnet8": RESNET8, "kernels": LAYERS}
ALL = {name: layer for layers in SETS.values() for name, layer in layers.items()}


def layer_rows(names: list[str], program: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each layer, alone."""
    for name in names:
        graph = ALL[name].graph()
        x = np.random.default_rng(1).integers(-128, 128, graph.shape("x"), dtype=np.int8)
        with tempfile.TemporaryDirectory() as folder:
            yield from _rows(name, ALL[name].what, graph, {"x": x}, program, Path(folder))


def model_rows(path: Path, program: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each step of a network, and one for all."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        network = load_network(path)
        plan = make_plan(network.graph, simulator.board(where))
        random = np.random.default_rng(1)
        samples = {name: _sample(plan.graph, name, random) for name in plan.graph.inputs}
        model = simulator.build_model(plan, where / "core")
        (found,) = simulator.infer(program, model, plan.graph, [samples])
        host = simulator.build_host_model(make_plan(network.graph, load_board("native")), where / "host")
        (truth,) = simulator.infer(None, host, plan.graph, [samples])
        equal = all(np.array_equal(found.outputs[name], truth.outputs[name]) for name in plan.graph.outputs)
        steps = [step for step in plan.steps if step.op.phase == "forward"]
        for step, count in zip(steps, found.instructions, strict=True):
            macs = OPERATORS[step.op.kind].macs(step.op, plan.graph) if step.band == 0 else 0
            yield _row(step.op.name, step.op.kind, macs, count, equal)
        macs = sum(OPERATORS[op.kind].macs(op, plan.graph) for op in plan.graph.ops)
        yield _row("all", path.stem, macs, sum(found.instructions), equal)


def _sample(graph: Graph, name: str, random: np.random.Generator) -> np.ndarray:
    dtype = np.dtype(simulator.NUMPY_TYPES[graph.tensors[name].dtype])
    if dtype.kind == "f":
        return random.random(graph.shape(name)).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, graph.shape(name), dtype, endpoint=True)


def _rows(
    name: str, what: str, graph: Graph, sample: dict[str, Any], program: Path, folder: Path
) -> Iterator[dict[str, Any]]:
    model = simulator.build_model(make_plan(graph, simulator.board(folder)), folder / "core")
    (found,) = simulator.infer(program, model, graph, [sample])
    host = simulator.build_host_model(make_plan(graph, load_board("native")), folder / "host")
    (truth,) = simulator.infer(None, host, graph, [sample])
    macs = OPERATORS[graph.ops[0].kind].macs(graph.ops[0], graph)
    equal = np.array_equal(found.outputs["y"], truth.outputs["y"])
    yield _row(name, what, macs, sum(found.instructions), bool(equal))


def _row(name: str, what: str, macs: int, count: int, equal: bool) -> dict[str, Any]:
    per_mac = count / macs if macs else None
    return {
        "layer": name,
        "what": what,
        "macs": macs,
        "instructions": count,
        "per_mac": per_mac,
        "equal": equal,
    }


def _print(row: dict[str, Any]) -> None:
    per_mac = f"{row['per_mac']:6.3f} instr/MAC" if row["per_mac"] else " " * 16
    equal = "bit-exact" if row["equal"] else "DIFFERENT"
    print(
        f"{row['layer'][:32]:<32}  {row['what']:<36} {row['macs']:>12,} {row['instructions']:>12,}  "
        f"{per_mac}  {equal}",
        flush=True,
    )


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description="Count instructions of int8 layers with Xpulp.")
    parser.add_argument("--layers", default="upydnet,resnet8")
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    names = [layer for name in filter(None, args.layers.split(",")) for layer in SETS.get(name, [name])]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        program = simulator.build_simulator(Path(folder))
        counted = [layer_rows(names, program), *(model_rows(path, program) for path in args.model)]
        for row in (row for part in counted for row in part):
            rows.append(row)
            if not args.json:
                _print(row)
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

"""Instructions of int8 operators other than convolutions, counted in QEMU.

    python benchmarks/operators.py [--boards mps2_an386,mps3_an547,mps2_an385] [--json]

Each operator stands alone and runs as in `benchmarks/kernels.py`, whose rules hold here; its output must have
the bits of board `native`. The unit of elementwise operators is an output value, that of poolings a tap and
channel, taps in the padding counted. Cortex-M3 runs portable C.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from kernels import count

from firmware_gen.graph import Constant, Graph, Quantization, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.elementwise_i8 import (
    Operand,
    lower_add,
    lower_maximum,
    lower_mul,
    lower_prelu,
)
from firmware_gen.operators.lookup import lower_lookup
from firmware_gen.operators.pool_i8 import lower_mean, lower_pool
from firmware_gen.window import Window

BOARDS = ("mps2_an386", "mps3_an547", "mps2_an385")
MAP, LAST = (16, 16, 32), (8, 8, 128)  # an activation, and what a network pools to one pixel
A, B, Y = Quantization(0.05, -128), Quantization(0.03, 4), Quantization(0.07, -20)
Lower = Callable[[Operand, Operand, Quantization], Lowered]


@dataclass(frozen=True)
class Operator:
    """A row of the table: an operator from `x` to `y`, and how many units of work it is."""

    lowered: Lowered
    x: Shape
    y: Shape
    work: int
    quantization: Quantization = Y

    def graph(self) -> Graph:
        """Return the operator alone."""
        network = Builder("operator")
        network.add_input(Tensor("x", self.x, "i8", A), 4)
        network.put(self.lowered, "y", ["x"], Tensor("y", self.y, "i8", self.quantization))
        network.add_output("y")
        return network.graph()


def _with_constant(lower: Lower, b: Quantization = B, y: Quantization = Y) -> Operator:
    values = np.random.default_rng(0).integers(-128, 128, MAP).astype(np.int8)
    lowered = lower(Operand(A), Operand(b, Constant("b", values)), y)
    return Operator(lowered, MAP, MAP, int(np.prod(MAP)), y)


def _pool(kind: str, size: int, stride: int, pad: int, shape: Shape) -> Operator:
    window = Window((size, size), (stride, stride), (pad, pad), (pad, pad))
    y = (*window.output(*shape[:2]), shape[2])
    lowered = lower_pool("max" if kind == "max" else "average", window, A)
    return Operator(lowered, shape, y, int(np.prod(y)) * size**2, A)


def _table() -> Operator:
    values = np.random.default_rng(0).integers(-128, 128, 256)
    lowered = lower_lookup(Tensor("y", MAP, "i8", Y), values)
    return Operator(lowered, MAP, MAP, int(np.prod(MAP)))


OPERATORS = {
    "add": _with_constant(lower_add),
    "add, equal scales": _with_constant(lower_add, A, A),
    "mul": _with_constant(lower_mul),
    "prelu": _with_constant(lower_prelu),
    "maximum": _with_constant(lower_maximum, A, A),
    "table": _table(),
    "max pool 2x2 s2": _pool("max", 2, 2, 0, MAP),
    "average pool 2x2 s2": _pool("average", 2, 2, 0, MAP),
    "average pool 3x3 s1": _pool("average", 3, 1, 1, MAP),
    "average pool 8x8": _pool("average", 8, 8, 0, LAST),
    "mean 8x8": Operator(lower_mean(64, A, Y), LAST, (1, 1, LAST[2]), int(np.prod(LAST))),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Count instructions of single operators.")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name, operator in OPERATORS.items():
        graph = operator.graph()
        _, truth = count(graph, "native", "flash")
        for board in args.boards.split(","):
            instructions, output = count(graph, board, "flash")
            each = instructions / operator.work
            equal = bool(np.array_equal(output, truth))
            rows.append({"operator": name, "board": board, "instructions": instructions, "each": each})
            if not args.json:
                verdict = "bit-exact" if equal else "DIFFERENT"
                print(
                    f"{name:<20} {board:<12} {instructions:>10,}  {each:6.2f} a unit  {verdict}", flush=True
                )
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

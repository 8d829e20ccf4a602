"""Instructions a multiply-accumulate of single int8 layers, counted in QEMU.

    python benchmarks/kernels.py [--boards mps2_an386,qemu_riscv32] [--layers a,b] [--prefer speed] [--json]

The layers are those by which the peers are measured (docs/benchmarks.md): int8, a factor for each channel,
zero point -128, SAME padding as TFLite has it; taps in the padding count as multiply-accumulates. Each layer
is the firmware's own, run alone with `-icount shift=0`; its output must have the bits of board `native`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import boards
from boards import load_board
from firmware_gen.graph import Constant, Graph, Op, Quantization, Tensor, check
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.base import Prefer
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.plan import make_plan
from firmware_gen.project import write_project
from firmware_gen.window import LINEAR, Activation, Window
from ondevice.device import Device

BOARDS = ("mps2_an386", "qemu_riscv32")
QUANTIZATION = Quantization(0.05, -128)


@dataclass(frozen=True)
class Layer:
    """A layer of the table: sizes, and the padding before and after."""

    what: str
    size: int
    taken: int
    given: int
    kernel: int = 1
    stride: int = 1
    pad: tuple[int, int] = (0, 0)
    groups: int = 1
    transposed: bool = False
    activation: Activation = LINEAR

    def graph(self) -> Graph:
        """Return the layer alone, with random weights."""
        random = np.random.default_rng(0)
        window = Window((self.kernel,) * 2, (self.stride,) * 2, (self.pad[0],) * 2, (self.pad[1],) * 2)
        taken, given = self.taken // self.groups, self.given
        if self.transposed:
            taken, given = self.taken, self.given // self.groups
        weights = random.integers(-127, 128, (self.kernel, self.kernel, taken, given))
        fan_in = self.kernel**2 * self.taken // self.groups
        scales = random.uniform(0.5, 1.0, self.given) / (64 * np.sqrt(fan_in))
        weight = Constant("w", weights.astype(np.int8), scales=tuple(float(np.float32(s)) for s in scales))
        bias = random.integers(-10000, 10001, self.given, dtype=np.int32)
        conv = ConvAttrs(window, self.groups, self.transposed, self.activation)
        lowered = quantized_conv2d("layer", conv, QUANTIZATION, weight, bias, QUANTIZATION)
        x = Tensor("x", (self.size, self.size, self.taken), "i8", QUANTIZATION)
        output = window.transposed_output if self.transposed else window.output
        y = Tensor("y", (*output(self.size, self.size), self.given), "i8", QUANTIZATION)
        names = tuple(constant.name for constant in lowered.constants)
        op = Op(lowered.kind, "layer", ("x",), ("y",), lowered.attrs, names)
        constants = {constant.name: constant for constant in lowered.constants}
        return check(Graph("layer", (op,), {"x": x, "y": y}, constants, ("x",), ("y",)))


LAYERS = {
    "a": Layer("conv 3x3 s1, 16x16x16 -> 16", 16, 16, 16, 3, 1, (1, 1)),
    "b": Layer("conv 3x3 s2, 32x32x16 -> 32", 32, 16, 32, 3, 2, (0, 1)),
    "c": Layer("conv 1x1, 16x16x64 -> 64", 16, 64, 64),
    "d": Layer("depthwise 3x3 s1, 16x16x64", 16, 64, 64, 3, 1, (1, 1), groups=64),
    "e": Layer("fully connected 256 -> 64", 1, 256, 64),
    "f": Layer("conv 3x3 s2, 96x96x3 -> 16", 96, 3, 16, 3, 2, (0, 1)),
    "g": Layer("conv 3x3 s1, 48x48x32 -> 32", 48, 32, 32, 3, 1, (1, 1)),
    "grouped": Layer("conv 3x3 in 4 groups, 16x16x64 -> 64", 16, 64, 64, 3, 1, (1, 1), groups=4),
    "up2": Layer("transposed 2x2 s2, 12x12x32 -> 16", 12, 32, 16, 2, 2, transposed=True),
    "up4": Layer("transposed 4x4 s2, 12x12x32 -> 16", 12, 32, 16, 4, 2, (1, 1), transposed=True),
}


def count(graph: Graph, board_id: str, prefer: Prefer) -> tuple[int, NDArray[Any]]:
    """Return instructions (board's ticks on `native`) of the layer and its output for a fixed input."""
    board = load_board(board_id)
    x = np.random.default_rng(1).integers(-128, 128, graph.shape("x"), dtype=np.int8)
    icount = None if board.arch == "host" else 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        write_project(make_plan(graph, board, prefer=prefer), project)
        firmware = boards.build(project, board)
        with boards.start(firmware.elf, board, icount=icount) as running, Device.open(running.url) as device:
            device.put_sample({"x": x})
            ticks = device.run_inference()
            output = device.read_tensor("y")
            return round(ticks * 1e9 / device.hello.ticks_hz), output


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Count instructions of single layers.")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--prefer", choices=("flash", "speed"), default="flash")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = []
    for name in args.layers.split(","):
        graph = LAYERS[name].graph()
        macs = OPERATORS["conv2d_i8"].macs(graph.ops[0], graph)
        _, truth = count(graph, "native", args.prefer)
        for board in args.boards.split(","):
            instructions, output = count(graph, board, args.prefer)
            equal = bool(np.array_equal(output, truth))
            row = {"layer": name, "what": LAYERS[name].what, "board": board, "macs": macs}
            rows.append(row | {"instructions": instructions, "per_mac": instructions / macs, "equal": equal})
            if not args.json:
                print(
                    f"{name:<7}  {LAYERS[name].what:<36} {board:<14} {instructions:>12,}  "
                    f"{instructions / macs:6.3f} instr/MAC  {'bit-exact' if equal else 'DIFFERENT'}",
                    flush=True,
                )
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

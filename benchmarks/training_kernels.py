"""Instructions a multiply-accumulate of single float32 layers while they learn, counted in QEMU.

    python benchmarks/training_kernels.py [--boards mps2_an386,qemu_riscv32] [--layers pw,conv,...] [--json]

Each layer stands between a small one below, so that it has to pass a gradient on, and a mean squared error.
Forward, input gradient (dX) and weight gradient with the SGD update (dW) are steps of the firmware's plan,
each counted alone. After one training step from the same weights, the weights must have the bits of board
`native`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from boards import load_board
from fieldtune.console import set_verbosity
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.profile import profile
from ondevice.workbench import open_board

BOARDS = ("mps2_an386", "qemu_riscv32")
PHASES = {"conv2d": "forward", "conv_grad_input": "dX", "conv_update": "dW"}


@dataclass(frozen=True)
class Layer:
    """A layer of the table: its input's height and width, channels, window."""

    what: str
    size: int
    taken: int
    given: int
    kernel: int = 1
    stride: int = 1
    pad: int = 0
    groups: int = 1
    transposed: bool = False

    def write(self, path: Path) -> None:
        """Write an ONNX file: a 1x1 convolution from one channel, then the layer."""
        random = np.random.default_rng(0)
        below = random.standard_normal((self.taken, 1, 1, 1)).astype(np.float32)
        shape = (self.taken, self.given) if self.transposed else (self.given, self.taken // self.groups)
        weight = random.standard_normal((*shape, self.kernel, self.kernel)) / (8 * self.kernel)
        out = (self.size + 2 * self.pad - self.kernel) // self.stride + 1
        if self.transposed:
            out = (self.size - 1) * self.stride + self.kernel - 2 * self.pad
        window = {"strides": [self.stride] * 2, "pads": [self.pad] * 4, "group": self.groups}
        kind = "ConvTranspose" if self.transposed else "Conv"
        nodes = [
            helper.make_node("Conv", ["x", "w0"], ["h"], "below"),
            helper.make_node(kind, ["h", "w", "b"], ["y"], "layer", **window),
        ]
        values = {"w0": below, "w": weight.astype(np.float32), "b": np.zeros(self.given, np.float32)}
        graph = helper.make_graph(
            nodes,
            "layer",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 1, self.size, self.size))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, self.given, out, out))],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, path)


LAYERS = {
    "pw": Layer("1x1, 8x8x48 -> 144", 8, 48, 144),
    "pw2": Layer("1x1, 8x8x144 -> 48", 8, 144, 48),
    "conv": Layer("3x3, 10x10x16 -> 8x8x16", 10, 16, 16, 3),
    "same": Layer("3x3 padded, 24x24x16 -> 16", 24, 16, 16, 3, pad=1),
    "stride": Layer("3x3 stride 2, 24x24x16 -> 12x12x32", 24, 16, 32, 3, 2, 1),
    "dw": Layer("depthwise 3x3 padded, 8x8x144", 8, 144, 144, 3, pad=1, groups=144),
    "up": Layer("transposed 2x2 stride 2, 12x12x32 -> 16", 12, 32, 16, 2, 2, transposed=True),
    "fc": Layer("fully connected 160 -> 10", 1, 160, 10),
}


def plan(layer: Layer, board: str) -> Plan:
    """Return the plan of a training step of both layers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "layer.onnx"
        layer.write(path)
        graph = simplify(import_onnx(path))
    learning = training_graph(graph, (LossSpec("y", "mse"),), parse_update("*"))
    return make_plan(lighten(learning), load_board(board))


def learned(made: Plan) -> dict[str, NDArray[np.float32]]:
    """Return the weights after one step."""
    random = np.random.default_rng(1)
    graph = made.graph
    names = (*graph.inputs, *graph.labels)
    sample = {name: random.standard_normal(graph.shape(name)).astype(np.float32) for name in names}
    sample |= {name: np.ones(graph.shape(name), np.uint8) for name in graph.masks}
    with tempfile.TemporaryDirectory() as folder, open_board(made, Path(folder) / "project") as device:
        device.set_hyper(Hyper(lr=0.05))
        device.put_sample(sample)
        device.step(0)
        return device.read_role("weight")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Count instructions of single layers while they learn.")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_verbosity(-1)
    rows = []
    for name in args.layers.split(","):
        layer = LAYERS[name]
        truth = learned(plan(layer, "native"))
        for board in args.boards.split(","):
            made = plan(layer, board)
            counts = {
                PHASES[part.op]: part.count / part.macs
                for part in profile(made).layers
                if part.name == "layer" and part.op in PHASES
            }
            weights = learned(made)
            equal = all(np.array_equal(weights[key], value) for key, value in truth.items())
            rows.append({"layer": name, "what": layer.what, "board": board, **counts, "equal": equal})
            if not args.json:
                print(
                    f"{name:<7} {layer.what:<40} {board:<14} "
                    + "  ".join(f"{phase} {counts[phase]:6.3f}" for phase in PHASES.values())
                    + f"  instr/MAC  {'bit-exact' if equal else 'DIFFERENT'}",
                    flush=True,
                )
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

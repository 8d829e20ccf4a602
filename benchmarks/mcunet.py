"""A training step of an int8 MCUNet-5fps on 128x128 images: RAM and instructions on emulated boards.

    python benchmarks/mcunet.py [--classes 10] [--boards mps2_an500,mps3_an547] [--ram 192K] [--out FILE.onnx]

The network has random weights and is quantized with random images; its memory and instructions are those of a
trained one. What learns is TinyEngine's "49kb" scheme: the classifier, the biases of the layers above the
depthwise convolution of block 7, and a part of the weights of three expansions. --update takes another one.
Needs torch and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from boards import load_board
from fieldtune.console import set_verbosity
from fieldtune.sizes import parse_size
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import profile
from quantize.float_network import read_network
from quantize.pipeline import Options, quantize_network
from zoo.export import CLASS_TASK, export_onnx
from zoo.frames import Frame, Frames
from zoo.networks.mcunet import random_network

BOARDS = ("mps2_an500", "mps3_an547")
UPDATE = (
    "classifier,blocks.1[1-3].*.bias,blocks.10.depthwise.bias,blocks.10.project.bias,"
    "blocks.[89].depthwise.bias,blocks.[89].project.bias,blocks.7.project.bias,"
    "blocks.8.expand:1/4,blocks.9.expand:1/2,blocks.10.expand:1/2"
)
CALIBRATION_IMAGES, PATCH = 8, 8


def int8_model(classes: int, side: int, folder: Path) -> bytes:
    """Return the quantized network for images of `side` x `side` pixels."""
    path = folder / "mcunet.onnx"
    export_onnx(random_network(classes, side=side), CLASS_TASK, (1, 3, side, side), path)
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (CALIBRATION_IMAGES, side // PATCH, side // PATCH, 3), np.uint8)
    images = patches.repeat(PATCH, axis=1).repeat(PATCH, axis=2)
    frames = Frames.of([Frame(image, None, None, None, str(number)) for number, image in enumerate(images)])
    return quantize_network(read_network(path, None), frames, Options("onnxruntime")).model


def measure(model: Path, update: str, board: str, ram: int | None) -> dict[str, Any]:
    """Return one row: what a training step takes."""
    plan = plan_network(load_network(model), load_board(board), parse_update(update), ram)
    found = profile(plan).describe()
    phases = {phase: 0 for phase in ("forward", "backward", "update")}
    for layer in found["layers"]:
        phases[layer["phase"]] += layer["count"]
    sizes = {key: found[key] for key in ("ram_bytes", "flash_bytes", "stack_bytes")}
    reserved = plan.describe()["stack_bytes"]
    return {"board": board, "instructions": found["total"], **phases, **sizes, "stack_reserved": reserved}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--side", type=int, default=128, help="of the images, in pixels")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--update", default=UPDATE)
    parser.add_argument("--ram", type=parse_size, default="192K", help="static RAM that a plan may take")
    parser.add_argument("--out", type=Path, metavar="FILE.onnx", help="keep the quantized network")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_verbosity(-1)
    with tempfile.TemporaryDirectory() as folder:
        model = args.out or Path(folder) / "mcunet_int8.onnx"
        model.write_bytes(int8_model(args.classes, args.side, Path(folder)))
        rows = [measure(model, args.update, board, args.ram) for board in args.boards.split(",")]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(
            f"{row['board']:<14} {row['instructions']:>13,} instructions  (forward {row['forward']:,}, "
            f"backward {row['backward']:,}, update {row['update']:,})\n"
            f"{'':<14} RAM {row['ram_bytes']:,} + stack {row['stack_reserved']:,} B, of which "
            f"{row['stack_bytes']:,} are used; flash {row['flash_bytes']:,} B"
        )


if __name__ == "__main__":
    main()

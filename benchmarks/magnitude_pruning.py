"""Iterative magnitude pruning with rewinding (zoo/training/magnitude.py): losses, and bytes on a board.

    python benchmarks/magnitude_pruning.py [--seed 0] [--rooms 150] [--epochs 12] [--share 0.2] [--rounds 8]
    [--flash 0,6,8]

Trains the multi-task network, prunes a share of the weights that are alive, rewinds, and so on; and once, as
a dense network with few weights, one of half the width. All see the same rendered rooms, as often in each
training; the test is frames of rooms 0 to 19. Prints after each training: weights that are alive, loss and
metric of each task in float, and how far zlib, which a board would have to undo, makes the weights smaller
when they are rounded to int8. For some rounds also what comes of the file: `fieldtune quantize`, then flash
and RAM of the linked firmware and instructions of an inference, and zlib's bytes of the weights that are
really in it.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from multitask import BOARD, CALIBRATION_ROOMS, JUDGED_BY, judge, rooms
from numpy.typing import NDArray
from onnx import numpy_helper
from pruning import fieldtune
from torch import nn

from quantize.float_network import read_network
from quantize.parameters import integers, weight_scales
from zoo.export import export_onnx
from zoo.frames import Frames
from zoo.loaders.npz import write_npz
from zoo.networks.folding import folded
from zoo.networks.multitask import CHANNELS, INPUT_SHAPE
from zoo.pretrain import balance, fresh, room_pool, steering_views
from zoo.scenes import sensor
from zoo.task import Task
from zoo.training.loop import Schedule, named, train
from zoo.training.losses import task_losses
from zoo.training.magnitude import Masks
from zoo.training.pool import Pool, pool

TEST_ROOMS = range(20)
RATE, BATCH = 2e-3, 32  # as in zoo.pretrain

Row = dict[str, Any]


class Bench:
    """Frames to train on and to judge by."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.frames = folder / "calibration.npz"
        write_npz(self.frames, rooms(CALIBRATION_ROOMS), sensor.GEOMETRY)
        _, task = fresh("multitask", 0, tuple(CHANNELS), 1.0)
        self.training = room_pool(task, args.rooms)
        self.test = pool(Frames.of(rooms(TEST_ROOMS)), task, INPUT_SHAPE[2])

    def trained(self, network: nn.Module, task: Task, masks: Masks) -> None:
        """Train from where the network is."""
        schedule = Schedule(self.args.epochs, RATE, BATCH)
        seed, views = self.args.seed, steering_views(task)
        train(network, task, self.training, schedule, balance(task), seed, views, masks)

    def judged(self, name: str, network: nn.Module, task: Task, masks: Masks, flash: bool) -> Row:
        """Return what a network comes to, and what it takes."""
        model = self.folder / f"{name}.onnx"
        export_onnx(folded(copy.deepcopy(network)), task, INPUT_SHAPE, model)
        scores = judge(model, self.test)
        row = {
            "network": name,
            "alive": masks.alive,
            "share": masks.alive / masks.total,
            "losses": losses(network, task, self.test),
            "metrics": {output: scores[output][metric] for output, metric in JUDGED_BY.items()},
            "rounded": compressed(rounded(model)),
        }
        if flash:
            row |= self.costs(model)
        print(json.dumps(row), flush=True)
        return row

    def costs(self, model: Path) -> Row:
        """Return what the int8 file takes on the board."""
        small = model.with_suffix(".int8.onnx")
        fieldtune("quantize", model, "--data", self.frames, "-o", small)
        found = fieldtune("profile", small, "--board", BOARD)
        costs = {key: found[key] for key in ("flash_bytes", "ram_bytes", "total")}
        return costs | {"quantized": compressed(stored(small))}


def losses(network: nn.Module, task: Task, test: Pool) -> dict[str, float]:
    """Return each task's mean loss over the test frames."""
    batch = test.batch(np.arange(len(test)))
    with torch.no_grad():
        found = task_losses(task, named(task, network(*batch.inputs.values())), batch.labels, batch.masks)
    return {name: float(value) for name, value in found.items()}


def rounded(model: Path) -> list[NDArray[np.int8]]:
    """Return the weights of a float file rounded to the nearest of their channel's 255 steps: 0 stays 0."""
    graph = read_network(model).graph
    weights = [graph.constants[op.constants[0]].value for op in graph.ops if op.kind == "conv2d"]
    return [integers(value, weight_scales(value)) for value in weights]


def stored(model: Path) -> list[NDArray[np.int8]]:
    """Return the int8 weights that a quantized file holds."""
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(model).graph.initializer]
    return [value for value in arrays if value.dtype == np.int8 and value.ndim > 1]


def compressed(weights: list[NDArray[np.int8]]) -> Row:
    """Return the bytes of int8 weights, those by zlib, and the share of zeros."""
    values = np.concatenate([value.ravel() for value in weights])
    return {
        "bytes": values.size,
        "zlib": len(zlib.compress(values.tobytes(), 9)),
        "zeros": float(np.mean(values == 0)),
    }


def line(row: Row) -> str:
    """Return a row of the table."""
    cells = [f"{row['network']:8} {row['alive']:7,} {row['share']:6.1%}"]
    cells += [f"{value:7.4f}" for value in (*row["losses"].values(), *row["metrics"].values())]
    cells += [f"{row['rounded']['bytes']:8,} -> {row['rounded']['zlib']:7,}"]
    if "total" in row:
        cells += [f"{row[key]:10,}" for key in ("flash_bytes", "ram_bytes", "total")]
        cells += [f"{row['quantized']['zeros']:6.1%} zeros, zlib {row['quantized']['zlib']:7,}"]
    return "  ".join(cells)


def main() -> None:
    """Train, prune, judge, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rooms", type=int, default=150, help="to learn from, ten frames each")
    parser.add_argument("--epochs", type=int, default=12, help="of each training")
    parser.add_argument("--share", type=float, default=0.2, help="of what is alive, pruned after a training")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--flash", default="0,6,8", help="rounds after which the firmware is built too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    linked = {int(number) for number in args.flash.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        network, task = fresh("multitask", args.seed, tuple(CHANNELS), 1.0)
        masks = Masks(network)
        rows = []
        for number in range(args.rounds + 1):
            bench.trained(network, task, masks)
            rows.append(bench.judged(f"round {number}", network, task, masks, number in linked))
            masks.prune(args.share)
            masks.rewind()
        narrow, task = fresh("multitask", args.seed, tuple(CHANNELS), 0.5)
        whole = Masks(narrow)
        bench.trained(narrow, task, whole)
        rows.append(bench.judged("narrow", narrow, task, whole, True))
    names = [f"{what} {name}" for what in ("loss", "metric") for name in CHANNELS]
    print(
        f"network, alive, share, {', '.join(names)}, int8 -> zlib, flash, RAM, instructions, quantized file"
    )
    print("\n".join(line(row) for row in rows))


if __name__ == "__main__":
    main()

"""The multi-task network against its single-task twins on rendered rooms: what it loses, what it saves.

    python benchmarks/multitask.py FOLDER [--seeds 0-2] [--rooms 500] [--balance KIND] [--flat RHO]
    [--epochs 25] [--classifiers]

Trains four networks a seed as `python -m zoo.pretrain multitask` does, with the same rooms, epochs and rates
for all, two at a time, and keeps them in FOLDER: those that are there already are only judged. Judges them in
float on 500 frames of rooms 0 to 49, which no network was trained on; quantizes those of the first seed,
judges them again and counts their instructions on `mps2_an386`. With --classifiers, DS-CNN and ResNet8 of the
zoo learn to steer as steering's twin does, and are judged and counted beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from zoo.export import MULTITASK_OUTPUTS, export_onnx, multitask_task
from zoo.frames import Frame, Frames
from zoo.loaders.npz import write_npz
from zoo.metrics import class_metrics, delta_mtl, depth_metrics, to_depth
from zoo.networks.folding import folded
from zoo.networks.multitask import CHANNELS, INPUT_SHAPE
from zoo.pretrain import EPOCHS, ROOMS, balance, fresh, room_pool, train_on_rooms
from zoo.scenes import render, sensor
from zoo.training.pool import FRAMES_PER_SCENE, STRIDE, Pool, pool

MULTI = "multitask"
TEST_ROOMS = range(50)
CALIBRATION_ROOMS = range(50, 60)
BOARD = "mps2_an386"
NETWORKS = {MULTI: tuple(CHANNELS)} | {name: (name,) for name in CHANNELS}
STEERING = "steer"
CLASSIFIERS = ("ds-cnn", "resnet8")
JUDGED_BY = {"disparity": "rmse", "segments": "miou", "steer": "accuracy"}
LOWER_IS_BETTER = {"disparity": True, "segments": False, "steer": False}

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Job:
    """A network to train."""

    name: str
    seed: int
    epochs: int
    flat: float
    balance: str
    out: Path


def rooms(numbers: range) -> list[Frame]:
    """Return frames of rooms, as far apart as those that networks learn from."""
    return [f for seed in numbers for f in render("room", seed, FRAMES_PER_SCENE * STRIDE)[::STRIDE]]


def train_all(jobs: list[Job], count: int) -> None:
    """Train what is not there yet, two networks at a time."""
    missing = [job for job in jobs if not job.out.is_file()]
    if not missing:
        return
    frames = room_pool(multitask_task(tuple(CHANNELS)), count)
    with ProcessPoolExecutor(2, get_context("spawn"), _keep, (frames,)) as executor:
        for job in executor.map(_train, missing):
            print(f"trained {job.name}, seed {job.seed}", file=sys.stderr, flush=True)


def _keep(frames: Pool) -> None:
    global _frames
    _frames = frames


def _train(job: Job) -> Job:
    torch.set_flush_denormal(True)
    heads = NETWORKS.get(job.name, (STEERING,))
    network, _ = fresh(job.name if job.name in CLASSIFIERS else MULTI, job.seed, heads, 1.0)
    task = multitask_task(heads)
    train_on_rooms(network, task, _frames, balance(task, job.balance), job.seed, job.epochs, job.flat)
    export_onnx(folded(network), task, INPUT_SHAPE, job.out)
    return job


def judge(model: Path, test: Pool) -> Scores:
    """Return the metrics of each output of a file, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    images = test.images.transpose(0, 3, 1, 2)[:, None].astype(np.float32) / np.float32(255)
    found = zip(*(session.run(names, {"image": image}) for image in images), strict=True)
    outputs = {name: np.concatenate(values) for name, values in zip(names, found, strict=True)}
    return {name: _score(name, outputs[name], test) for name in names}


def _score(name: str, output: NDArray[np.float32], test: Pool) -> dict[str, float]:
    label, mask = test.labels[name], test.masks[name]
    (spec,) = (spec for spec in MULTITASK_OUTPUTS if spec.name == name)
    if spec.kind == "disparity":
        truth = np.where(mask, to_depth(label, spec), 0)
        depth = depth_metrics(to_depth(output, spec), truth)
        return {"rmse": depth.rmse, "abs_rel": depth.abs_rel, "delta1": depth.delta1}
    best = output.argmax(1).reshape(label.shape)
    classes = class_metrics(best, label.astype(np.int64), mask)
    return {"miou": classes.miou, "accuracy": classes.accuracy}


def delta(multi: Scores, twins: Scores) -> float:
    """Return delta_MTL [%] over the one metric of each task that was chosen beforehand."""
    return delta_mtl(
        *([scores[name][metric] for name, metric in JUDGED_BY.items()] for scores in (multi, twins)),
        list(LOWER_IS_BETTER.values()),
    )


def show(title: str, multi: list[Scores], twins: list[Scores]) -> None:
    """Print mean and spread over the seeds of each metric, and of delta_MTL."""
    print(f"\n{title}\n{'':20} {'multi-task':>17} {'twins':>17}")
    for name in CHANNELS:
        for metric in multi[0][name]:
            columns = [_spread([scores[name][metric] for scores in each]) for each in (multi, twins)]
            print(f"{name + ' ' + metric:20} {columns[0]:>17} {columns[1]:>17}")
    deltas = [delta(one, other) for one, other in zip(multi, twins, strict=True)]
    print(f"delta_MTL [%]        {_spread(deltas, 2):>17}   each: {', '.join(f'{d:+.2f}' for d in deltas)}")


def _spread(values: list[float], digits: int = 4) -> str:
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def _fieldtune(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "fieldtune", *words, "--json", "-q"]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def costs(folder: Path, seed: int, names: Iterable[str]) -> dict[str, list[int]]:
    """Quantize networks of a seed; print and return flash, RAM and instructions of each on the board."""
    frames = folder / "calibration.npz"
    write_npz(frames, rooms(CALIBRATION_ROOMS), sensor.GEOMETRY)
    measured = {}
    print(f"\nint8 on {BOARD}{'flash [B]':>17} {'RAM [B]':>9} {'instructions':>13}")
    for name in names:
        model = folder / f"{name}_{seed}_int8.onnx"
        _fieldtune("quantize", str(folder / f"{name}_{seed}.onnx"), "--data", str(frames), "-o", str(model))
        found = _fieldtune("profile", str(model), "--board", BOARD)
        measured[name] = [found[key] for key in ("flash_bytes", "ram_bytes", "total")]
        print(f"{name:20} {measured[name][0]:13,} {measured[name][1]:9,} {measured[name][2]:13,}", flush=True)
    return measured


def show_shares(measured: Mapping[str, list[int]]) -> None:
    """Print what the multi-task network takes, as shares of what its twins do."""
    flash, ram, total = (np.array([measured[name][k] for name in NETWORKS]) for k in range(3))
    share = (flash[0] / flash[1:].sum(), ram[0] / ram[1:].max(), total[0] / total[1:].sum())
    print(f"multi-task: flash {share[0]:.1%} and instructions {share[2]:.1%} of the twins' sum, "
          f"RAM {share[1]:.3f} x the largest twin's")  # fmt: skip


def show_steering(folder: Path, seeds: range, test: Pool) -> None:
    """Print how well the multi-task network and those that do nothing else steer, in float and in int8."""
    print(f"\n{'steering':15} {'parameters':>10} {'accuracy':>18} {'in int8':>9}")
    for name in (MULTI, STEERING, *CLASSIFIERS):
        files = [folder / f"{name}_{seed}.onnx" for seed in seeds]
        found = [judge(file, test)[STEERING]["accuracy"] for file in files]
        small = judge(folder / f"{name}_{seeds[0]}_int8.onnx", test)[STEERING]["accuracy"]
        print(f"{name:15} {parameters(files[0]):10,} {_spread(found):>18} {small:9.4f}")


def parameters(model: Path) -> int:
    """Return how many numbers a float file's weights are."""
    arrays = onnx.load(model).graph.initializer
    return sum(math.prod(array.dims) for array in arrays if array.data_type == onnx.TensorProto.FLOAT)


def main() -> None:
    """Train, judge, quantize, count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0-2", help="first and last")
    parser.add_argument("--rooms", type=int, default=ROOMS)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--flat", type=float, default=0.0)
    parser.add_argument("--balance", choices=("fixed", "uncertainty"), default="fixed")
    parser.add_argument("--classifiers", action="store_true", help="DS-CNN and ResNet8, too")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    first, _, last = arguments.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    names = (*NETWORKS, *(CLASSIFIERS if arguments.classifiers else ()))
    files = {(name, seed): arguments.folder / f"{name}_{seed}.onnx" for seed in seeds for name in names}
    train_all(
        [Job(*key, arguments.epochs, arguments.flat, arguments.balance, out) for key, out in files.items()],
        arguments.rooms,
    )
    test = pool(Frames.of(rooms(TEST_ROOMS)), multitask_task(tuple(CHANNELS)), INPUT_SHAPE[2])
    multi = [judge(files[MULTI, seed], test) for seed in seeds]
    twins = [{name: judge(files[name, seed], test)[name] for name in CHANNELS} for seed in seeds]
    show(f"float, {len(test)} frames, seeds {arguments.seeds}", multi, twins)
    show_shares(costs(arguments.folder, seeds[0], names))
    small = {name: judge(arguments.folder / f"{name}_{seeds[0]}_int8.onnx", test) for name in NETWORKS}
    show(f"int8, seed {seeds[0]}", [small[MULTI]], [{name: small[name][name] for name in CHANNELS}])
    if arguments.classifiers:
        show_steering(arguments.folder, seeds, test)


if __name__ == "__main__":
    main()

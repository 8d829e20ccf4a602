"""Pruning methods side by side, at one share of the instructions that the emulator counts, in int8.

    python benchmarks/pruning.py FOLDER [--seeds 0-2] [--keep 40%] [--methods pagcp,l1,uniform]

FOLDER is that of `benchmarks/multitask.py`: multitask_0.onnx there is the network of seed 0, and so on. Each
is pruned by `fieldtune prune` with unlimited drops, on rooms that are new to it, then quantized, and its
instructions are counted; what is there already is only judged. ONNX Runtime computes the int8 files' outputs
on rooms 0 to 49, which no network was trained on. "whole" is the network as given, fine-tuned as long
as the others after their last step. Prints one JSON line a run, then two tables of shares of the network as
given, mean and range over the seeds: of what is counted and lost, and of what judges depth, classes of pixels
and steering.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from multitask import BOARD, JUDGED_BY, TEST_ROOMS, judge

from fieldtune.console import progress
from quantize.fine_tune import Recipe, even_weights, fine_tune
from quantize.float_network import read_network
from quantize.onnx_writer import float_model
from quantize.training_samples import LabelledSamples
from quantize.training_set import labelled
from zoo import scenes
from zoo.export import multitask_task
from zoo.frames import Frame, open_frames
from zoo.loaders.npz import write_npz
from zoo.networks.multitask import CHANNELS, INPUT_SHAPE
from zoo.task import Task, format_task
from zoo.training.augment import Views
from zoo.training.losses import task_losses
from zoo.training.pool import FRAMES_PER_SCENE, STRIDE, Pool, pool

FIRST_ROOM = 200_000  # no network was trained on these: how good it is there tells what it can lose
METHODS = ("pagcp", "l1", "uniform")
SAMPLES = 64  # to calibrate with
PACKAGE = Path(__file__).resolve().parents[1]


def room(seed: int) -> list[Frame]:
    """Return frames of a room, as far apart as those that networks learn from."""
    return list(scenes.render("room", seed, FRAMES_PER_SCENE * STRIDE)[::STRIDE])


def rendered(path: Path, rooms: int) -> None:
    """Write the rooms to train on, and last those of the test."""
    if path.is_file():
        return
    seeds = [*range(FIRST_ROOM, FIRST_ROOM + rooms), *TEST_ROOMS]
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        found = progress(executor.map(room, seeds, chunksize=4), "rendering", len(seeds))
        write_npz(path, [frame for frames in found for frame in frames], scenes.sensor.GEOMETRY)


def fieldtune(*words: object) -> dict[str, Any]:
    """Run a subcommand on one thread and return its JSON."""
    command = [sys.executable, "-m", "fieldtune", *map(str, words), "--json", "-q"]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=PACKAGE)
    if result.returncode not in (0, 2) or not result.stdout:
        raise SystemExit(f"failed: {' '.join(command)}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def losses(model: Path, test: Pool, task: Task) -> dict[str, float]:
    """Return every output's mean loss, as ONNX Runtime computes the outputs."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    batch = test.batch(np.arange(len(test)))
    images = batch.inputs["image"].numpy()[:, None]
    found = zip(*(session.run(names, {"image": image}) for image in images), strict=True)
    outputs = {
        name: torch.from_numpy(np.concatenate(values)) for name, values in zip(names, found, strict=True)
    }
    return {name: float(loss) for name, loss in task_losses(task, outputs, batch.labels, batch.masks).items()}


@dataclass(frozen=True)
class Bench:
    """The folder of one run of the benchmark."""

    args: argparse.Namespace
    task: Task
    test: Pool

    @property
    def folder(self) -> Path:
        """Where everything is."""
        found: Path = self.args.folder
        return found

    @property
    def common(self) -> tuple[object, ...]:
        """The options that prune and quantize share."""
        data = ("--data", self.folder / "frames.npz", "--test", len(self.test))
        return (*data, "--task", self.folder / "truth.task.toml")

    def run(self, method: str, seed: int) -> dict[str, Any]:
        """Prune, unless that was done, and measure."""
        given = self.folder / f"multitask_{seed}.onnx"
        model = given if method == "given" else self.folder / f"{method}_{seed}.onnx"
        if not model.is_file():
            if method == "whole":
                self._whole(given, model, seed)
            else:
                self._prune(method, given, model, seed)
        return self._measured(method, seed, model)

    def _prune(self, method: str, given: Path, model: Path, seed: int) -> None:
        args = self.args
        words: list[object] = ["--keep-instructions", args.keep, "--max-drop", "1000000%", "--method", method]
        words += ["--rounds", args.rounds, "--epochs", args.epochs, "--final-epochs", args.final_epochs]
        words += ["--lr", args.lr, "--augment", "mirror,colour", "--seed", seed, "--board", BOARD]
        fieldtune("prune", given, *words, *self.common, "-o", model)

    def _whole(self, given: Path, model: Path, seed: int) -> None:
        network = replace(read_network(given), task=self.task)
        frames = open_frames(self.folder / "frames.npz")[: -len(self.test)]
        samples = LabelledSamples(labelled(frames, network), network.graph)
        weights = even_weights(self.task, losses(given, self.test, self.task))
        recipe = Recipe(weights, Views(self.task), self.args.lr)
        graph = fine_tune(network.graph, self.task, samples, recipe, self.args.final_epochs, seed)
        model.write_bytes(float_model(graph, self.task))

    def _measured(self, method: str, seed: int, model: Path) -> dict[str, Any]:
        small = model.with_suffix(".int8.onnx")
        fieldtune("quantize", model, *self.common, "--samples", SAMPLES, "-o", small)
        counted = fieldtune("profile", small, "--board", BOARD, "--task", self.folder / "truth.task.toml")
        scores = judge(small, self.test)
        found = {
            "method": method,
            "seed": seed,
            "instructions": counted["total"],
            "ram": counted["ram_bytes"],
            "flash": counted["flash_bytes"],
            "losses": losses(small, self.test, self.task),
            "scores": {name: scores[name][metric] for name, metric in JUDGED_BY.items()},
        }
        print(json.dumps(found), flush=True)
        return found


def table(found: Sequence[Mapping[str, Any]], columns: Mapping[str, Sequence[str]]) -> str:
    """Return mean (range) over seeds of shares of what the network as given has.

    Args:
        found: runs.
        columns: numbers of a run; for those that are mappings, their keys.
    """
    given = {each["seed"]: each for each in found if each["method"] == "given"}
    lines = [" | ".join(["method", *(key for name, keys in columns.items() for key in keys or [name])])]
    for method in dict.fromkeys(each["method"] for each in found):
        runs = [each for each in found if each["method"] == method]
        cells = [method]
        for name, keys in columns.items():
            if keys:
                cells += [
                    _spread([each[name][key] / given[each["seed"]][name][key] for each in runs])
                    for key in keys
                ]
            else:
                cells.append(_spread([each[name] / given[each["seed"]][name] for each in runs]))
        lines.append(" | ".join(cells))
    return "\n".join(lines)


def _spread(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.1%} ({min(shares):.1%} – {max(shares):.1%})"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0-2", help="first and last")
    parser.add_argument("--methods", default=",".join(METHODS), help="any of whole," + ",".join(METHODS))
    parser.add_argument("--keep", default="40%", help="share of the instructions, by estimate")
    parser.add_argument("--rooms", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="of fine-tuning after a round")
    parser.add_argument("--final-epochs", type=int, default=12, help="of fine-tuning after the last")
    parser.add_argument("--lr", type=float, default=2e-3, help="of fine-tuning")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    torch.set_num_threads(1)
    rendered(args.folder / "frames.npz", args.rooms)
    task = multitask_task(tuple(CHANNELS))
    task = replace(task, outputs=tuple(replace(spec, labels="truth") for spec in task.outputs))
    (args.folder / "truth.task.toml").write_text(format_task(task))
    frames = open_frames(args.folder / "frames.npz")[-len(TEST_ROOMS) * FRAMES_PER_SCENE :]
    bench = Bench(args, task, pool(frames, task, INPUT_SHAPE[2]))
    first, _, last = args.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    methods = ("given", *args.methods.split(","))
    with ThreadPoolExecutor(args.jobs) as executor:
        jobs = [executor.submit(bench.run, method, seed) for method in methods for seed in seeds]
        found = [job.result() for job in jobs]
    print(table(found, {"instructions": (), "flash": (), "ram": (), "losses": tuple(CHANNELS)}))
    print(table(found, {"scores": tuple(CHANNELS)}))


if __name__ == "__main__":
    main()

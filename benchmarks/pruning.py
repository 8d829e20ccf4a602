"""Pruning methods side by side, at one share of the instructions that the emulator counts, in int8.

    python benchmarks/pruning.py [--model FILE.onnx] [--domains room] [--board mps2_an386] [--keep 40%]

Renders scenes, of which the last tenth is the test. For every seed and method: `fieldtune prune` with
unlimited drops, `fieldtune quantize`, `fieldtune profile`; then the loss of every output of the int8 file on
the test frames, as ONNX Runtime computes it. Beside them, the network as given, and fine-tuned as long
without pruning. Labels are the renderer's truth. Prints one JSON line a run, then a table: mean and range
over the seeds, losses as a share of the fine-tuned whole network's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantize.fine_tune import fine_tune
from quantize.float_network import read_network, run
from quantize.losses import loss
from quantize.onnx_writer import float_model
from quantize.training_set import Labelled, labelled
from zoo import scenes
from zoo.frames import Frames, open_frames
from zoo.loaders.npz import write_npz
from zoo.task import Task, format_task

FRAMES_PER_SCENE, STRIDE = 10, 7
FIRST_SCENE = 1_000_000  # far from the seeds of pre-training and of the demo
METHODS = ("pagcp", "l1", "uniform")
SAMPLES = 64  # to calibrate with
PACKAGE = Path(__file__).resolve().parents[1]


def rendered(domains: Sequence[str], count: int) -> Frames:
    """Return frames of `count` scenes; domains take turns, so that the last scenes are like the others."""
    found = []
    for k in range(count):
        every = scenes.render(domains[k % len(domains)], FIRST_SCENE + k, FRAMES_PER_SCENE * STRIDE)
        found += list(every[::STRIDE])
    return Frames.of(found)


def fieldtune(*words: object) -> dict[str, Any]:
    """Run a subcommand on one thread and return its JSON."""
    command = [sys.executable, "-m", "fieldtune", *map(str, words), "--json", "-q"]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=False, cwd=PACKAGE)
    if result.returncode not in (0, 2) or not result.stdout:
        raise SystemExit(f"failed: {' '.join(command)}")
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def int8_losses(model: bytes, samples: Sequence[Labelled], task: Task) -> dict[str, float]:
    """Return every output's mean loss over the frames that know it."""
    totals: dict[str, list[float]] = {spec.name: [] for spec in task.outputs}
    for values, sample in zip(run(model, [s.inputs for s in samples]), samples, strict=True):
        for spec in task.outputs:
            if sample.masks[spec.name].any():
                label, mask = (torch.from_numpy(of[spec.name]) for of in (sample.labels, sample.masks))
                value = torch.from_numpy(values[spec.name]).reshape(1, -1, *label.shape[2:])
                totals[spec.name].append(float(loss(spec.loss, value, label, mask)))
    return {name: float(np.mean(each)) for name, each in totals.items()}


class Bench:
    """The folder of one run of the benchmark."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.data, self.task_file = folder / "frames.npz", folder / "truth.task.toml"
        frames = rendered(args.domains.split(","), args.scenes)
        self.test = len(frames) // 10
        write_npz(self.data, frames)
        given = read_network(args.model)
        task = replace(
            given.task, outputs=tuple(replace(spec, labels="truth") for spec in given.task.outputs)
        )
        self.task_file.write_text(format_task(task))
        self.network = replace(given, task=task)
        frames = open_frames(self.data)
        self.samples = labelled(frames[: -self.test], self.network)
        self.judged = labelled(frames[-self.test :], self.network)

    def measured(self, name: str, seed: int, model: Path) -> dict[str, Any]:
        """Quantize a float file, count its instructions on the board, and judge it."""
        quantized = model.with_suffix(".int8.onnx")
        task = ("--task", self.task_file)
        words = ("--data", self.data, "--test", self.test, "--samples", SAMPLES, *task)
        fieldtune("quantize", model, *words, "-o", quantized)
        counted = fieldtune("profile", quantized, "--board", self.args.board, *task)
        found = {
            "method": name,
            "seed": seed,
            "instructions": counted["total"],
            "ram": counted["ram_bytes"],
            "flash": counted["flash_bytes"],
            "losses": int8_losses(quantized.read_bytes(), self.judged, self.network.task),
        }
        print(json.dumps(found), flush=True)
        return found

    def pruned(self, method: str, seed: int) -> dict[str, Any]:
        """Prune and measure."""
        args, out = self.args, self.folder / f"{method}{seed}.onnx"
        words: list[object] = ["--keep-instructions", args.keep, "--max-drop", "1000000%", "--method", method]
        words += ["--rounds", args.rounds, "--epochs", args.epochs, "--lr", args.lr, "--seed", seed]
        words += ["--data", self.data, "--task", self.task_file, "--board", args.board, "--test", self.test]
        fieldtune("prune", args.model, *words, "-o", out)
        return self.measured(method, seed, out)

    def given(self) -> dict[str, Any]:
        """Measure the network as it is given."""
        return self.measured("given", 0, Path(shutil.copy(self.args.model, self.folder / "given.onnx")))

    def whole(self, seed: int) -> dict[str, Any]:
        """Fine-tune without pruning, and measure."""
        args, out = self.args, self.folder / f"whole{seed}.onnx"
        epochs = args.rounds * args.epochs
        graph = fine_tune(self.network.graph, self.network.task, self.samples, epochs, args.lr, seed)
        out.write_bytes(float_model(graph, self.network.task))
        return self.measured("whole", seed, out)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return mean (range) over seeds, of instructions and losses as shares of the whole network's."""
    whole = [each for each in found if each["method"] == "whole"]
    reference = {name: np.mean([each["losses"][name] for each in whole]) for name in whole[0]["losses"]}
    count = np.mean([each["instructions"] for each in whole])
    lines = []
    for method in dict.fromkeys(each["method"] for each in found):
        runs = [each for each in found if each["method"] == method]
        cells = [_spread([each["instructions"] / count for each in runs])]
        cells += [_spread([each["losses"][name] / reference[name] for each in runs]) for name in reference]
        cells += [f"{np.mean([each[part] for each in runs]) / 1024:.1f} K" for part in ("ram", "flash")]
        lines.append(" | ".join([method, *cells]))
    return "\n".join([" | ".join(["method", "instructions", *reference, "RAM", "flash"]), *lines])


def _spread(shares: Sequence[float]) -> str:
    return f"{np.mean(shares):.1%} ({min(shares):.1%} – {max(shares):.1%})"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=PACKAGE / "zoo/weights/upydnet_rendered.onnx")
    parser.add_argument(
        "--domains", default="loft,hall,loft,corridor,loft,street", help="of the scenes, in turn"
    )
    parser.add_argument("--board", default="mps2_an386")
    parser.add_argument("--keep", default="40%", help="share of the instructions, by estimate")
    parser.add_argument("--scenes", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of fine-tuning a round")
    parser.add_argument("--lr", type=float, default=1e-3, help="of fine-tuning")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    args.model = args.model.resolve()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        given = bench.given()
        with ThreadPoolExecutor(args.jobs) as pool:
            jobs = [
                pool.submit(call, *key)
                for seed in range(args.seeds)
                for call, *key in ((bench.whole, seed), *((bench.pruned, name, seed) for name in METHODS))
            ]
            found = [job.result() for job in jobs]
    print(table([*found, given]))


if __name__ == "__main__":
    main()

"""Two fine-tunings of one network in one: merged by `fieldtune merge`, beside what else can be done.

    python benchmarks/merging.py [--seeds 0-9]
    python benchmarks/merging.py --model MODEL.onnx --data FRAMES.npz [--update LAYERS] [--lr LR]

By default pairs of rendered rooms, as in the demo: 60 frames to learn from, the next 50 judge. With --data
the halves of a file are the places, and the last 50 frames of each judge. From each, `fieldtune tune` on
board `native` makes a network, one step a frame; "both" learns from the frames of both in turn, once or in
four rounds. The coefficients of what is merged are learned on the frames of both, or on every fourth frame of
the first. Prints pooled RMSE [m] and delta1 on the frames that judge, of the first place and of the other
one, for every pair, then the means.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fieldtune.commands.demo import UPDATE
from quantize.float_network import pixels, read_network, run
from zoo.frames import Frames, open_frames
from zoo.loaders.npz import write_npz
from zoo.metrics import depth_metrics, to_depth
from zoo.prepare import measured_depth
from zoo.scenes import DEMO_SCENE, render

PACKAGE = Path(__file__).resolve().parents[1]
TEST = DEMO_SCENE.test
FEW = 4  # every so many-th frame
ROUNDS = 4

Row = list[float]


def fieldtune(*words: object) -> None:
    """Run a subcommand."""
    command = [sys.executable, "-m", "fieldtune", *map(str, words), "-q"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=PACKAGE)


class Place:
    """Frames of one place as a data set of its own in a file."""

    def __init__(self, path: Path, frames: Frames) -> None:
        self.path, self.training, self.test = path, frames[:-TEST], frames[-TEST:]
        write_npz(path, frames, frames.geometry)

    def few(self) -> Place:
        """Return the same place with every `FEW`-th frame to learn from."""
        frames = [*self.training[::FEW], *self.test]
        return Place(self.path.with_suffix(".few.npz"), Frames.of(frames, self.training.geometry))


def both(one: Place, other: Place) -> Place:
    """Return the frames of both places in turn; those that judge are not used."""
    turns = [frame for pair in zip(one.training, other.training, strict=True) for frame in pair]
    return Place(one.path.with_suffix(".both.npz"), Frames.of([*turns, *one.test], one.test.geometry))


class Bench:
    """The folder of a pair of places."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder

    def tuned(self, place: Place, rounds: int = 1) -> Path:
        """Tune on the board, so many steps a frame."""
        out = self.folder / f"session_{place.path.stem}_{rounds}"
        words = ("--board", "native", "--update", self.args.update, "--lr", self.args.lr, "--test", TEST)
        words += ("--data", place.path, "--steps", rounds * len(place.training), "-o", out)
        fieldtune("tune", self.args.model, *words)
        return out / "tuned.onnx"

    def merged(self, name: str, networks: list[Path], places: list[Place], *words: object) -> Path:
        """Merge with coefficients learned at these places."""
        out = self.folder / f"{name}.onnx"
        data = [place.path for place in places]
        fieldtune("merge", self.args.model, *networks, "--data", *data, "--test", TEST, *words, "-o", out)
        return out

    def judged(self, model: Path, place: Place) -> Row:
        """Return RMSE [m] and delta1."""
        network = read_network(model)
        (spec,) = network.task.outputs
        height, width, _ = network.graph.shape(spec.name)
        truth = [measured_depth(frame, height, width, place.test.geometry) for frame in place.test]
        found = run(network.model, [pixels(frame, network) for frame in place.test])
        depth = [to_depth(values[spec.name][0, 0], spec) for values in found]
        metrics = asdict(depth_metrics(np.stack(depth), np.stack(truth)))
        return [metrics["rmse"], metrics["delta1"]]

    def rows(self, one: Place, other: Place) -> Iterator[tuple[str, Row]]:
        """Yield RMSE and delta1 at the first place, then at the other, of every network."""
        here, there = self.tuned(one), self.tuned(other)
        turns = both(one, other)
        networks = {
            "base": self.args.model,
            "tuned on the first": here,
            "tuned on the other": there,
            "tuned on both": self.tuned(turns),
            f"tuned on both, {ROUNDS} rounds": self.tuned(turns, ROUNDS),
            "average": self.merged("average", [here, there], [one], "--lr", 0, "--steps", 1),
            "merged, task": self.merged("task", [here, there], [one, other], "--granularity", "task"),
            "merged, layer": self.merged("layer", [here, there], [one, other]),
            "merged, layer, few": self.merged("few", [here, there], [one.few()]),
        }
        for name, model in networks.items():
            yield name, self.judged(model, one) + self.judged(model, other)


def pairs(args: argparse.Namespace, folder: Path) -> Iterator[tuple[Place, Place]]:
    """Yield two places at a time."""
    if args.data is not None:
        frames = open_frames(args.data)
        half = len(frames) // 2
        yield Place(folder / "0.npz", frames[:half]), Place(folder / "1.npz", frames[half : 2 * half])
        return
    first, _, last = args.seeds.partition("-")
    for seed in range(int(first), int(last or first), 2):
        one, other = (
            render(DEMO_SCENE.domain, number, DEMO_SCENE.train + TEST) for number in (seed, seed + 1)
        )
        yield Place(folder / f"{seed}.npz", one), Place(folder / f"{seed + 1}.npz", other)


def main() -> None:
    """Tune, merge, judge, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=PACKAGE / "zoo/weights/upydnet_rendered.onnx")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", default="0-9", help="first and last room")
    parser.add_argument("--update", default=UPDATE, help="what learns")
    parser.add_argument("--lr", type=float, default=DEMO_SCENE.lr, help="of tuning")
    args = parser.parse_args()
    args.model = args.model.resolve()
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (one, other) in enumerate(pairs(args, Path(folder))):
            bench = Bench(args, Path(folder) / str(number))
            bench.folder.mkdir()
            for name, row in bench.rows(one, other):
                found.setdefault(name, []).append(row)
                print(json.dumps({"pair": number, "network": name, "row": row}), flush=True)
    print(f"{'':24}  first: RMSE  delta1   other: RMSE  delta1   both: RMSE  delta1")
    for name, rows in found.items():
        rmse, delta, other_rmse, other_delta = np.mean(rows, 0)
        values = (rmse, delta, other_rmse, other_delta, (rmse + other_rmse) / 2, (delta + other_delta) / 2)
        print(f"{name:24}  " + "  ".join(f"{value:9.3f}" for value in values))


if __name__ == "__main__":
    main()

"""Can a network teach itself a room, with no sensor, from what several views of an image agree on?

    python benchmarks/consensus.py [--seeds 0-3] [--spreads 0.05,0.1,0.3]
        [--model MODEL --update LAYERS --lr LR]

As the demo does it, on board `native`: 60 steps on each rendered room, the last 50 frames are judged. Labels
are what the task says (such as "tof"), or the consensus of the untuned network's views (zoo/consensus.py):
depth and disparity where these differ by at most a share of their mean, segmentation where all have the same
class.

Prints RMSE [m] and delta1, or accuracy and mean IoU, of each output after training, then how good the
consensus is on the training frames: the share of the known pixels that are labelled; RMSE (or accuracy) of
the untuned network there, after the arrow that of the labels; the untuned network's in all known pixels.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from fieldtune.commands.demo import UPDATE
from firmware_gen.graph import Graph
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.device import Device, Hyper
from ondevice.evaluation import Judge
from ondevice.training_data import LABEL_DTYPES, inputs, sample
from ondevice.workbench import open_board
from zoo.consensus import consensus, predictions
from zoo.frames import Frame, Frames
from zoo.metrics import class_metrics, depth_metrics
from zoo.scenes import DEMO_SCENE, render
from zoo.task import OutputSpec, Task

WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights" / "upydnet_rendered.onnx"
KINDS = ("depth", "disparity", "segmentation")

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Row = list[float]


class Bench:
    """A board, and one room."""

    def __init__(self, device: Device, graph: Graph, task: Task, room: Frames, lr: float) -> None:
        self.device, self.graph, self.task, self.lr = device, graph, task, lr
        self.training, self.held_out = room[: DEMO_SCENE.train], room[DEMO_SCENE.train :]
        self.outputs = [spec for spec in task.outputs if spec.kind in KINDS]

    def infer(self, frame: Frame) -> dict[str, Array]:
        """What the board makes of a frame."""
        return self.device.infer(inputs(frame, self.task, self.graph))

    def views(self, frame: Frame) -> dict[str, NDArray[np.float64]]:
        """What it makes of each view of a frame."""
        ((name, image),) = inputs(frame, self.task, self.graph).items()
        return predictions(lambda view: self.device.infer({name: view}), image)

    def judged(self) -> dict[str, Row]:
        """Two metrics of each output on the held-out frames."""
        found = [self.infer(frame) for frame in self.held_out]
        rows = {}
        for spec in self.outputs:
            maps = np.stack([outputs[spec.name] for outputs in found])
            metrics = Judge.of(spec, self.held_out, self.graph).results(maps, maps, {})["after"]
            rows[spec.name] = [
                v for key, v in metrics.items() if key in ("rmse", "delta1", "accuracy", "miou")
            ]
        return rows

    def trained(self, samples: Iterator[Arrays]) -> dict[str, Row]:
        """The same after a step on each sample, from the initial weights."""
        self.device.reset_weights()
        self.device.set_hyper(Hyper(self.lr))
        for step, arrays in enumerate(samples):
            self.device.put_sample(arrays)
            self.device.step(step)
        return self.judged()

    def by_task(self) -> Iterator[Arrays]:
        """Samples with the labels that the task names."""
        for frame in self.training:
            ready = sample(frame, self.task, self.graph, self.training.geometry)
            if ready is not None:
                yield ready

    def by_views(self, labels: Sequence[Mapping[str, tuple[Array, Array]]]) -> Iterator[Arrays]:
        """Samples with these labels, by frame and output; other outputs learn nothing."""
        names = list(zip(self.task.learned, self.graph.labels, self.graph.masks, strict=True))
        for frame, known in zip(self.training, labels, strict=True):
            arrays = inputs(frame, self.task, self.graph)
            for spec, label, mask in names:
                tensor = self.graph.tensors[label]
                dtype = LABEL_DTYPES[tensor.dtype]
                nothing = (np.zeros(tensor.shape), np.zeros(tensor.shape))
                value, agreed = known.get(spec.name, nothing)
                arrays |= {label: value.reshape(tensor.shape).astype(dtype)}
                arrays |= {mask: agreed.reshape(tensor.shape).astype(np.uint8)}
            if any(arrays[mask].any() for _, _, mask in names):
                yield arrays

    def quality(self, spec: OutputSpec, single: Array, labels: Array, agreed: Array) -> Row:
        """The share with a label, metrics of prediction and label there, and of the prediction everywhere."""
        judge = Judge.of(spec, self.training, self.graph)
        if spec.kind == "segmentation":
            found = single.argmax(-1)[..., None]
            both = judge.known * agreed
            scores = [
                class_metrics(what, judge.truth, mask).accuracy
                for what, mask in ((found, both), (labels, both), (found, judge.known))
            ]
        else:
            known = np.where(agreed[..., 0] > 0, judge.truth, 0)
            both, depth = known > 0, judge.depth(single)
            pairs = ((depth, known), (judge.depth(labels), known), (depth, judge.truth))
            scores = [depth_metrics(predicted, truth).rmse for predicted, truth in pairs]
        return [both.sum() / judge.known.sum(), *scores]


def compare(bench: Bench, spreads: Sequence[float], show: Callable[[str, str, Row], None]) -> None:
    """Train on each kind of labels and show what comes of it, for each output."""

    def show_all(labels: str, rows: Mapping[str, Row]) -> None:
        for spec in bench.outputs:
            show(spec.name, labels, rows[spec.name])

    bench.device.reset_weights()
    show_all("untuned", bench.judged())
    views = [bench.views(frame) for frame in bench.training]
    show_all("task's", bench.trained(bench.by_task()))
    for spread in spreads:
        labels = [
            {spec.name: consensus(found[spec.name], spec, spread) for spec in bench.outputs}
            for found in views
        ]
        rows = bench.trained(bench.by_views(labels))
        for spec in bench.outputs:
            value, agreed = (np.stack([known[spec.name][k] for known in labels]) for k in (0, 1))
            single = np.stack([found[spec.name][0] for found in views])
            rows[spec.name] += bench.quality(spec, single, value, agreed)
        show_all(f"views {spread:g}", rows)


def main() -> None:
    """Print a row a room, output and kind of labels, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="with depth, disparity or segmentation")
    parser.add_argument("--update", default=UPDATE, help="names or globs of the layers that learn")
    parser.add_argument("--lr", type=float, default=DEMO_SCENE.lr, help="learning rate")
    parser.add_argument("--seeds", default="0-3", help="first and last room")
    parser.add_argument("--spreads", default="0.05,0.1,0.3", help="of views, relative to their mean")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    network = load_network(args.model)
    plan = plan_network(network, load_board("native"), parse_update(args.update))
    found: dict[tuple[str, str], list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder, open_board(plan, Path(folder) / "project") as device:
        for seed in range(int(first), int(last or first) + 1):
            room = render(DEMO_SCENE.domain, seed, DEMO_SCENE.train + DEMO_SCENE.test)

            def show(output: str, labels: str, row: Row, seed: int = seed) -> None:
                found.setdefault((output, labels), []).append(row)
                _print(output, labels, str(seed), row)

            bench = Bench(device, plan.graph, network.needed_task(), room, args.lr)
            compare(bench, [float(spread) for spread in args.spreads.split(",")], show)
    for (output, labels), rows in found.items():
        _print(output, labels, "mean", list(np.mean(rows, 0)))


def _print(output: str, labels: str, room: str, row: Row) -> None:
    text = f"{output:<10}  {labels:<10}  {room:>4}   {row[0]:6.3f}  {row[1]:6.3f}"
    if len(row) > 2:
        text += f"   {100 * row[2]:3.0f} %   {row[3]:.3f} -> {row[4]:.3f}   {row[5]:.3f}"
    print(text, flush=True)


if __name__ == "__main__":
    main()

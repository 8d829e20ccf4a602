"""How good the network is on held-out frames, beside what is had without it, and what it forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import progress, say
from fieldtune.errors import DataError
from firmware_gen.graph import Graph
from ondevice.device import Device
from ondevice.session import Predictions, Segmentation
from ondevice.training_data import inputs
from zoo.frames import UNKNOWN_CLASS, Frame, Frames
from zoo.metrics import (
    DepthMetrics,
    class_metrics,
    depth_metrics,
    depth_metrics_per_image,
    mean_map,
    scale_factor,
    to_depth,
)
from zoo.prepare import brings, label, measured_depth, network_input
from zoo.task import OutputSpec, Task
from zoo.tof import TofGeometry

Metrics = dict[str, float]
Maps = NDArray[np.float32]

SCALE_FRAMES = 50  # training frames from which the one factor of the scale-only baseline is taken
SHOWN_FRAMES = 5  # held-out frames that the report shows
HEADLINE = ("rmse", "abs_rel", "delta1")  # of the metrics of depth: what is compared at a glance


@dataclass(frozen=True)
class Shown:
    """Some held-out frames for the report: the first depth map, and every segmentation by its name."""

    depth: Predictions | None
    segmentations: dict[str, Segmentation]


class Evaluation:
    """Compares the network before and after on frames that it has not learned from, in every output."""

    def __init__(
        self,
        task: Task,
        graph: Graph,
        training: Frames,
        held_out: Frames,
        source: Frames | None = None,
    ) -> None:
        """Collect the truth of the frames, so that what cannot be judged is refused before it is trained.

        Args:
            task: what inputs and outputs mean.
            graph: the network.
            training: the target's frames that are not held out.
            held_out: the target's frames to judge by.
            source: frames of the domain that the network was trained on, to judge by what it forgets.

        Raises:
            DataError: the held-out or the source frames say of no output what it should be.
        """
        self._task, self._graph = task, graph
        self._training, self._held_out = training, held_out
        self._judges = _judges(task, held_out, graph, "held-out")
        self._source: Frames = Frames.of([]) if source is None else source
        self._source_judges = _judges(task, source, graph, "source") if source else {}

    def run(
        self, device: Device, weights: Mapping[str, NDArray[Any]], seen: Sequence[int]
    ) -> tuple[dict[str, Any], Shown]:
        """Return ``outputs``: of each ``before``, ``after``, ``baselines``, ``unchanged``.

        ``unchanged`` tells whether all predictions have the same bits before and after. ``before``, ``after``
        and ``baselines`` beside it are those of the first depth, without one of the first output, which
        ``output`` names. With source frames there is ``source`` as well: the same without baselines, and how
        many ``frames``. Outputs of which no frame says what they should be are left out. In ``outputs``,
        depth has all of its metrics, ``pooled`` over pixels and averaged ``per_image``.

        Args:
            device: a board with the plan's firmware; it is left with `weights`.
            weights: what the board learned, and ranges that moved.
            seen: indices of the training frames that it learned from.

        Returns:
            The results, and some held-out frames.
        """
        some = spread(seen, SCALE_FRAMES) if any(_is_depth(spec) for spec in self._task.outputs) else []
        device.reset_weights()
        before = self._predict(device, self._held_out, "judging the untuned network")
        untuned = self._predict(device, [self._training[index] for index in some], "judging its scale")
        knew = self._predict(device, self._source, "judging what it knows of the source")
        device.write_tensors(weights)
        after = self._predict(device, self._held_out, "judging the tuned network")
        knows = self._predict(device, self._source, "judging what is left of that")
        outputs = {}
        for name, judge in self._judges.items():
            scaled = dict(zip(some, untuned[name], strict=True))
            baselines = judge.baselines(self._training, seen, scaled, before[name])
            outputs[name] = judge.results(before[name], after[name], baselines)
        judged = {**self._of_main(outputs, "before", "after", "baselines"), "outputs": outputs}
        return {**judged, **self._forgotten(knew, knows)}, self._shown(before, after)

    def _of_main(self, outputs: Mapping[str, dict[str, Any]], *keys: str) -> dict[str, Any]:
        """Return what is said of the output that stands for the network."""
        depths = [spec.name for spec in self._task.outputs if spec.name in outputs and _is_depth(spec)]
        main = next(iter((*depths, *outputs)))
        return {"output": main, **{key: outputs[main][key] for key in keys}}

    def _forgotten(self, before: Mapping[str, Maps], after: Mapping[str, Maps]) -> dict[str, Any]:
        if not self._source_judges:
            return {}
        outputs = {
            name: judge.results(before[name], after[name], {}) for name, judge in self._source_judges.items()
        }
        judged = self._of_main(outputs, "before", "after")
        return {"source": {"frames": len(self._source), **judged, "outputs": outputs}}

    def _predict(self, device: Device, frames: Sequence[Frame], what: str) -> dict[str, Maps]:
        """Return each output over all frames, (frames, height, width, channels)."""
        found = [
            device.infer(inputs(f, self._task, self._graph)) for f in progress(frames, what, len(frames))
        ]
        return {
            spec.name: np.array([outputs[spec.name] for outputs in found], np.float32)
            for spec in self._task.outputs
        }

    def _shown(self, before: Mapping[str, Maps], after: Mapping[str, Maps]) -> Shown:
        rows = spread(range(len(self._held_out)), SHOWN_FRAMES)
        depth, segmentations = None, {}
        for name, judge in self._judges.items():
            height, width, _ = self._graph.shape(name)
            rgb = [network_input(self._held_out[row], height, width) for row in rows]
            if _is_depth(judge.spec) and depth is None:
                then, now = (judge.depth(maps[name][rows]) for maps in (before, after))
                depth = Predictions(np.stack(rgb), judge.truth[rows], then, now)
            elif judge.spec.kind == "segmentation":
                then, now = (maps[name][rows].argmax(-1).astype(np.uint8) for maps in (before, after))
                truth = np.where(judge.known[rows] > 0, judge.truth[rows], UNKNOWN_CLASS)[..., 0]
                segmentations[name] = Segmentation(np.stack(rgb), truth.astype(np.uint8), then, now)
        return Shown(depth, segmentations)


def _judges(task: Task, frames: Frames, graph: Graph, role: str) -> dict[str, Judge]:
    """Return a judge of each output of which one of the `frames` says what it should be.

    Raises:
        DataError: that is none.
    """
    judges = {spec.name: Judge.of(spec, frames, graph) for spec in task.outputs}
    found = {name: judge for name, judge in judges.items() if judge.known.any()}
    if not found:
        names = " or ".join(judges)
        raise DataError(
            f"none of the {len(frames)} {role} frames has a known value for output {names}; "
            "hold out others with --test, or look at what the data set brings (docs/your_data.md)"
        )
    for spec in task.outputs:
        if spec.name not in found:
            say(f"no {role} frame says what {spec.name} should be: it is not judged there")
    return found


@dataclass(frozen=True)
class Judge:
    """Judges one output on frames that the network does not learn from.

    Depth is judged in metres against the true depth, or what the ToF zones saw where a data set has no truth.
    """

    spec: OutputSpec
    truth: NDArray[Any]
    known: NDArray[np.uint8]

    @classmethod
    def of(cls, spec: OutputSpec, frames: Frames, graph: Graph) -> Judge:
        """Collect the truth of `frames`, as far as they tell it.

        Raises:
            DataError: a frame has a class that the output has not.
        """
        height, width, channels = graph.shape(spec.name)
        if _is_depth(spec):
            depths = _depths(frames, frames.geometry, height, width, spec)
            return cls(spec, depths, (depths > 0).astype(np.uint8))
        shape = (height, width, channels if spec.kind == "value" else 1)
        nothing = (np.zeros(shape, np.float32), np.zeros(shape, np.uint8))
        found = [
            label(frame, spec, (height, width, channels), frames.geometry) if brings(frame, spec) else None
            for frame in frames
        ]
        pairs = [nothing if pair is None else pair for pair in found]
        truth, known = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        return cls(spec, truth, known)

    def results(self, before: Maps, after: Maps, baselines: Mapping[str, Maps]) -> dict[str, Any]:
        """Return the metrics ``before`` and ``after``, those of the ``baselines``, and ``unchanged``.

        Of depth these are the headline; all are in ``pooled`` and ``per_image``, by the same names.
        Unchanged are predictions that have the same bits before and after.

        Args:
            before: the untuned network's output, (frames, height, width, channels).
            after: the tuned network's, likewise.
            baselines: depth maps, as :meth:`baselines` returns them.
        """
        unchanged = before.tobytes() == after.tobytes()
        if not _is_depth(self.spec):
            found = {"before": self._metrics(before), "after": self._metrics(after), "baselines": {}}
            return {**found, "unchanged": unchanged}
        depths = {"before": self.depth(before), "after": self.depth(after), **baselines}
        pooled = {name: _named(depth_metrics(depth, self.truth)) for name, depth in depths.items()}
        images = {name: _named(depth_metrics_per_image(depth, self.truth)) for name, depth in depths.items()}
        headline = {name: {key: found[key] for key in HEADLINE} for name, found in pooled.items()}
        return {
            "before": headline.pop("before"),
            "after": headline.pop("after"),
            "baselines": headline,
            "unchanged": unchanged,
            "pooled": pooled,
            "per_image": images,
        }

    def _metrics(self, prediction: Maps) -> Metrics:
        if self.spec.kind == "value":
            error = (prediction - self.truth)[self.known > 0]
            return {"rmse": float(np.sqrt(np.mean(error.astype(np.float64) ** 2)))}
        found = class_metrics(prediction.argmax(-1)[..., None], self.truth, self.known)
        return {"accuracy": found.accuracy, "miou": found.miou}

    def baselines(
        self, training: Frames, seen: Sequence[int], untuned: Mapping[int, Maps], before: Maps
    ) -> dict[str, Maps]:
        """Return depth that is had without tuning: the mean map, and the untuned network's times one factor.

        Args:
            training: the frames that are not held out.
            seen: indices of those that the board trained on; the mean map and the factor know no others.
            untuned: the untuned network's output on some of them, (height, width, channels).
            before: its output on the held-out frames, as :meth:`results` takes it.

        Returns:
            (frames, height, width) in metres; nothing for outputs that are no depth; without what needs a
            depth that no frame knows.
        """
        if not _is_depth(self.spec):
            return {}
        rows = {index: row for row, index in enumerate(sorted(set(seen)))}
        height, width = self.truth.shape[1:]
        truth = _depths([training[index] for index in rows], training.geometry, height, width, self.spec)
        found: dict[str, Maps] = {}
        if truth.any():
            found["mean_map"] = np.broadcast_to(mean_map(truth), self.truth.shape)
        compared = truth[[rows[index] for index in untuned]]
        if compared.any():
            factor = np.float32(scale_factor(self.depth(np.stack([*untuned.values()])), compared))
            limit = np.float32(self.spec.max_depth)
            found["scale_only"] = np.minimum(self.depth(before) * factor, limit)
        return found

    def depth(self, prediction: Maps) -> Maps:
        """Return depth in metres, (frames, height, width)."""
        return to_depth(prediction[..., 0], self.spec)


def _named(metrics: DepthMetrics) -> Metrics:
    return {name: value for name, value in asdict(metrics).items() if name != "pixels"}


def _is_depth(spec: OutputSpec) -> bool:
    return spec.kind in ("depth", "disparity")


def _depths(
    frames: Sequence[Frame], geometry: TofGeometry, height: int, width: int, spec: OutputSpec
) -> Maps:
    """Return what depth is judged by, (frames, height, width) in metres, 0 = unknown."""
    return np.stack(
        [
            measured_depth(frame, height, width, geometry, spec.crop)
            if frame.depth is not None or frame.tof is not None
            else np.zeros((height, width), np.float32)
            for frame in frames
        ]
    )


def spread(indices: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the indices, evenly spaced."""
    unique = sorted(set(indices))
    if len(unique) <= most:
        return unique
    return [unique[round(k * (len(unique) - 1) / (most - 1))] for k in range(most)]

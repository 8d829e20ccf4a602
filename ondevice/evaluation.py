"""How good the network is on held-out frames, beside what is had without it, and what it forgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import progress
from fieldtune.errors import DataError
from firmware_gen.graph import Graph
from ondevice.device import Device
from ondevice.session import Predictions
from ondevice.training_data import inputs
from zoo.frames import Frame, Frames
from zoo.metrics import (
    DepthMetrics,
    class_metrics,
    depth_metrics,
    depth_metrics_per_image,
    mean_map,
    scale_factor,
    to_depth,
)
from zoo.prepare import label, measured_depth, network_input
from zoo.task import OutputSpec, Task
from zoo.tof import TofGeometry

Metrics = dict[str, float]
Maps = NDArray[np.float32]

SCALE_FRAMES = 50  # training frames from which the one factor of the scale-only baseline is taken
SHOWN_FRAMES = 5  # held-out frames that the report shows
HEADLINE = ("rmse", "abs_rel", "delta1")  # of the metrics of depth: what is compared at a glance


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
            DataError: the held-out or the source frames do not say what an output should be.
        """
        self._task, self._graph = task, graph
        self._training, self._held_out = training, held_out
        self._judges = {spec.name: Judge.of(spec, held_out, graph) for spec in task.outputs}
        self._source: Frames = Frames.of([]) if source is None else source
        self._source_judges = (
            {spec.name: Judge.of(spec, source, graph, "source") for spec in task.outputs} if source else {}
        )

    def run(
        self, device: Device, weights: Mapping[str, NDArray[Any]], seen: Sequence[int]
    ) -> tuple[dict[str, Any], Predictions | None]:
        """Return ``before``, ``after`` and ``baselines`` (of the first output, and of each in ``outputs``).

        With source frames there is ``source`` as well: the same without baselines, and how many ``frames``.
        In ``outputs``, depth has all of its metrics, ``pooled`` over pixels and averaged ``per_image``.

        Args:
            device: a board with the plan's firmware; it is left with `weights`.
            weights: what the board learned, and ranges that moved.
            seen: indices of the training frames that it learned from.

        Returns:
            The results, and some held-out frames with the first depth map (None without such an output).
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
        first = outputs[self._task.outputs[0].name]
        judged = {key: first[key] for key in ("before", "after", "baselines")}
        return {**judged, "outputs": outputs, **self._forgotten(knew, knows)}, self._shown(before, after)

    def _forgotten(self, before: Mapping[str, Maps], after: Mapping[str, Maps]) -> dict[str, Any]:
        if not self._source_judges:
            return {}
        outputs = {
            name: judge.results(before[name], after[name], {}) for name, judge in self._source_judges.items()
        }
        first = outputs[self._task.outputs[0].name]
        judged = {key: first[key] for key in ("before", "after")}
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

    def _shown(self, before: Mapping[str, Maps], after: Mapping[str, Maps]) -> Predictions | None:
        for name, judge in self._judges.items():
            if _is_depth(judge.spec):
                rows = spread(range(len(self._held_out)), SHOWN_FRAMES)
                height, width, _ = self._graph.shape(name)
                return Predictions(
                    rgb=np.stack([network_input(self._held_out[row], height, width) for row in rows]),
                    truth=judge.truth[rows],
                    before=judge.depth(before[name][rows]),
                    after=judge.depth(after[name][rows]),
                )
        return None


@dataclass(frozen=True)
class Judge:
    """Judges one output on frames that the network does not learn from.

    Depth is judged in metres against the true depth, or what the ToF zones saw where a data set has no truth.
    """

    spec: OutputSpec
    truth: NDArray[Any]
    known: NDArray[np.uint8]

    @classmethod
    def of(cls, spec: OutputSpec, frames: Frames, graph: Graph, role: str = "held-out") -> Judge:
        """Collect the truth of `frames`, which messages call by their `role`.

        Raises:
            DataError: none of them says what the output should be.
        """
        height, width, channels = graph.shape(spec.name)
        if _is_depth(spec):
            truth: NDArray[Any] = _depths(frames, frames.geometry, height, width, spec)
            known = (truth > 0).astype(np.uint8)
        else:
            shape = (height, width, channels if spec.kind == "value" else 1)
            nothing = (np.zeros(shape, np.float32), np.zeros(shape, np.uint8))
            pairs = [label(f, spec, (height, width, channels), frames.geometry) or nothing for f in frames]
            truth, known = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
        if not known.any():
            raise DataError(
                f"none of the {len(frames)} {role} frames has a known value for output {spec.name}; "
                "hold out others with --test"
            )
        return cls(spec, truth, known)

    def results(self, before: Maps, after: Maps, baselines: Mapping[str, Maps]) -> dict[str, Any]:
        """Return the metrics ``before`` and ``after``, and those of the ``baselines``.

        Of depth these are the headline; all are in ``pooled`` and ``per_image``, by the same names.

        Args:
            before: the untuned network's output, (frames, height, width, channels).
            after: the tuned network's, likewise.
            baselines: depth maps, as :meth:`baselines` returns them.
        """
        if not _is_depth(self.spec):
            return {"before": self._metrics(before), "after": self._metrics(after), "baselines": {}}
        depths = {"before": self.depth(before), "after": self.depth(after), **baselines}
        pooled = {name: _named(depth_metrics(depth, self.truth)) for name, depth in depths.items()}
        images = {name: _named(depth_metrics_per_image(depth, self.truth)) for name, depth in depths.items()}
        headline = {name: {key: found[key] for key in HEADLINE} for name, found in pooled.items()}
        return {
            "before": headline.pop("before"),
            "after": headline.pop("after"),
            "baselines": headline,
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
    return np.stack([measured_depth(frame, height, width, geometry, spec.crop) for frame in frames])


def spread(indices: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of the indices, evenly spaced."""
    unique = sorted(set(indices))
    if len(unique) <= most:
        return unique
    return [unique[round(k * (len(unique) - 1) / (most - 1))] for k in range(most)]

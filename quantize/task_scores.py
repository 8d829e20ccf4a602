"""How good a float graph, or an ONNX file, is on labelled frames, output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fieldtune.errors import DataError
from firmware_gen.graph import Array, Graph
from quantize.float_network import run
from quantize.torch_module import GraphModule
from quantize.training_samples import LabelledSamples
from zoo.metrics import class_metrics
from zoo.task import OutputSpec, Task
from zoo.training.losses import loss

BATCH = 64


@dataclass(frozen=True)
class Score:
    """An output's mean loss over the frames that have a label for it, and what is right of it in per cent.

    `points`: mIoU of kind segmentation, accuracy of kind class, None of others.
    """

    loss: float
    points: float | None = None


class Judge:
    """Frames to judge graphs by."""

    def __init__(self, task: Task, samples: LabelledSamples, what: str) -> None:
        """Take the frames.

        Raises:
            DataError: no frame has a label for one of the outputs; `what` says which frames these are.
        """
        self._task, self._count = task, len(samples)
        self._samples = samples.whole()
        self._known = {name: (mask > 0).flatten(1).any(1) for name, mask in self._samples.masks.items()}
        for name, known in self._known.items():
            if not known.any():
                raise DataError(
                    f"none of the {what} has a valid label for the output '{name}'; give more frames, or "
                    "check what is known in them (docs/your_data.md)"
                )

    def losses(self, graph: Graph) -> Array:
        """Return the loss of every output, in the task's order."""
        outputs = self._outputs(graph)
        return np.array([self._loss(spec, outputs[spec.name]) for spec in self._task.learned], np.float32)

    def scores(self, graph: Graph) -> dict[str, Score]:
        """Return the score of every output."""
        return self._scores(self._outputs(graph))

    def file_scores(self, model: bytes) -> dict[str, Score]:
        """Return the score of every output of an ONNX model, float or quantized, in ONNX Runtime."""
        inputs = self._samples.inputs
        frames = [{name: x[k : k + 1].numpy() for name, x in inputs.items()} for k in range(self._count)]
        found = list(run(model, frames))
        joined = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        return self._scores(self._shaped({name: torch.from_numpy(each) for name, each in joined.items()}))

    def _scores(self, outputs: Mapping[str, Tensor]) -> dict[str, Score]:
        return {
            spec.name: Score(self._loss(spec, outputs[spec.name]), self._points(spec, outputs[spec.name]))
            for spec in self._task.learned
        }

    def _shaped(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return outputs that have labels, each in the shape of a map."""
        return {
            name: value.reshape(self._count, -1, *self._samples.labels[name].shape[2:])
            for name, value in outputs.items()
            if name in self._samples.labels
        }

    def _outputs(self, graph: Graph) -> dict[str, Tensor]:
        module = GraphModule(graph, {}).eval()
        inputs = [values.split(BATCH) for values in self._samples.inputs.values()]
        with torch.no_grad():
            parts = [module(*batch) for batch in zip(*inputs, strict=True)]
        values = (torch.cat(each) for each in zip(*parts, strict=True))
        return self._shaped(dict(zip(graph.outputs, values, strict=True)))

    def _loss(self, spec: OutputSpec, prediction: Tensor) -> float:
        known = self._known[spec.name]
        labels, masks = (each[spec.name][known] for each in (self._samples.labels, self._samples.masks))
        return float(loss(spec.loss, prediction[known], labels, masks))

    def _points(self, spec: OutputSpec, prediction: Tensor) -> float | None:
        if spec.kind not in ("segmentation", "class"):
            return None
        classes = prediction.argmax(1, keepdim=True).numpy()
        truth = self._samples.labels[spec.name].numpy().astype(np.int64)
        mask = self._samples.masks[spec.name].numpy()
        found = class_metrics(classes, truth, (mask > 0).astype(np.uint8))
        return 100 * (found.miou if spec.kind == "segmentation" else found.accuracy)

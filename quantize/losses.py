"""The task's losses in torch, as firmware_gen/runtime/kernels/loss.h defines them for one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quantize.training_set import Labelled
from zoo.task import Task

_LEAST = 1e-12  # keeps berHu's threshold positive where every error is 0, as on the board


def task_loss(task: Task, outputs: Mapping[str, Tensor], samples: Sequence[Labelled]) -> Tensor:
    """Return the sum of the task's losses, each the mean over the samples.

    Args:
        task: says which loss each output has.
        outputs: (n, c, h, w) or (n, c) for n samples.
        samples: give labels and masks.
    """
    total = torch.zeros(())
    for spec in task.learned:
        labels, masks = (
            torch.from_numpy(np.concatenate([known[spec.name] for known in each]))
            for each in zip(*((sample.labels, sample.masks) for sample in samples), strict=True)
        )
        prediction = outputs[spec.name].reshape(len(samples), -1, *labels.shape[2:])
        total = total + spec.weight * loss(spec.loss, prediction, labels, masks)
    return total


def loss(kind: str, prediction: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over a batch of the samples' losses; a sample without valid positions counts 0.

    Args:
        kind: one of zoo.task.LOSSES.
        prediction: (n, c, h, w).
        label: in the prediction's shape, or class indices (n, 1, h, w) for cross_entropy.
        mask: in the label's shape, 0 = ignored.
    """
    return torch.stack([_sample(kind, *each) for each in zip(prediction, label, mask, strict=True)]).mean()


def _sample(kind: str, prediction: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    known = mask > 0
    if not known.any():
        return prediction.sum() * 0
    if kind == "cross_entropy":
        losses = F.cross_entropy(prediction[None], label.long(), reduction="none")
        return losses[known].mean()
    error = prediction[known] - label[known]
    if kind == "l1":
        return error.abs().mean()
    if kind == "mse":
        return error.square().mean()
    return _berhu(prediction, label, known, published=kind == "berhu_published")


def _berhu(prediction: Tensor, label: Tensor, known: Tensor, *, published: bool) -> Tensor:
    top = label[known].max()
    if top <= 0:
        return prediction.sum() * 0
    error = ((prediction[known] - label[known]) / top).abs()
    everywhere = ((prediction - torch.where(known, label, -1.0)) / top).abs()
    threshold = 0.2 * (everywhere if published else error).max().detach() + _LEAST
    square = threshold.square() * (-1 if published else 1)
    return torch.where(error < threshold, error, (error.square() + square) / (2 * threshold)).mean()

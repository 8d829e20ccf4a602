"""The task's losses in torch, as firmware_gen/runtime/kernels/loss.h defines them for one sample."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.task import Task

_LEAST = 1e-12  # keeps berHu's threshold positive where every error is 0, as on the board
_MAP = (1, 2, 3)


def task_losses(
    task: Task, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the loss of each output that learns, a mean over the batch.

    Args:
        task: says which loss each output has.
        outputs: (n, c, h, w) or (n, c).
        labels: (n, c, h, w), class indices (n, 1, h, w) for cross_entropy.
        masks: in the labels' shape, 0 = ignored.
    """
    return {
        spec.name: loss(
            spec.loss,
            outputs[spec.name].reshape(len(labels[spec.name]), -1, *labels[spec.name].shape[2:]),
            labels[spec.name],
            masks[spec.name],
        )
        for spec in task.learned
    }


def loss(kind: str, prediction: Tensor, label: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over a batch of the samples' losses; a sample without valid positions counts 0.

    A sample's loss is what one step with batch 1 on the board computes: a mean over its valid positions.

    Args:
        kind: one of zoo.task.LOSSES.
        prediction: (n, c, h, w).
        label: in the prediction's shape, or class indices (n, 1, h, w) for cross_entropy; one that is no
            class of the prediction counts as masked.
        mask: in the label's shape, 0 = ignored.
    """
    known = mask > 0
    if kind == "cross_entropy":
        known = known & (label >= 0) & (label < prediction.shape[1])
        classes = torch.where(known, label, torch.zeros_like(label)).long()
        each = F.cross_entropy(prediction, classes[:, 0], reduction="none")[:, None]
    elif kind == "l1":
        each = (prediction - label).abs()
    elif kind == "mse":
        each = (prediction - label).square()
    else:
        known = known & ((label * known).amax(_MAP, keepdim=True) > 0)
        each = _berhu(prediction, label, known, published=kind == "berhu_published")
    each = torch.where(known, each, torch.zeros_like(each))
    return (each.sum(_MAP) / known.sum(_MAP).clamp(min=1)).mean()


def _berhu(prediction: Tensor, label: Tensor, known: Tensor, *, published: bool) -> Tensor:
    """Return berHu at each position; what unknown positions get means nothing."""
    top = (label * known).amax(_MAP, keepdim=True).clamp(min=_LEAST)
    error = ((prediction - label) / top).abs() * known
    judged = ((prediction - torch.where(known, label, -1.0)) / top).abs() if published else error
    threshold = 0.2 * judged.detach().amax(_MAP, keepdim=True) + _LEAST
    square = -(threshold**2) if published else threshold**2
    return torch.where(error < threshold, error, (error**2 + square) / (2 * threshold))

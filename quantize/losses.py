"""The task's loss of labelled samples, in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from quantize.training_set import Labelled
from zoo.task import Task
from zoo.training.losses import task_losses


def task_loss(task: Task, outputs: Mapping[str, Tensor], samples: Sequence[Labelled]) -> Tensor:
    """Return the weighted sum of the task's losses, each the mean over the samples.

    Args:
        task: says which loss each output has.
        outputs: (n, c, h, w) or (n, c) for n samples.
        samples: give labels and masks.
    """
    labels, masks = (
        {
            spec.name: torch.from_numpy(np.concatenate([known[spec.name] for known in each]))
            for spec in task.learned
        }
        for each in zip(*((sample.labels, sample.masks) for sample in samples), strict=True)
    )
    losses = task_losses(task, outputs, labels, masks)
    return torch.stack([spec.weight * losses[spec.name] for spec in task.learned]).sum()

"""The task's loss of labelled samples, in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from quantize.training_set import Labelled
from zoo.task import Task
from zoo.training.losses import loss


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

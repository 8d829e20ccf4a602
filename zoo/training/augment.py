"""Changes to a batch that teach a network what does not matter."""

import numpy as np
import torch
from torch import Tensor

from zoo.scenes.steering import MIRRORED
from zoo.task import Task
from zoo.training.pool import Batch


def mirrored(batch: Batch, task: Task, which: Tensor) -> Batch:
    """Mirror some images left to right, and their labels with them.

    A class of the whole frame is a steering command: left becomes right.

    Args:
        which: bool (n, 1, 1, 1).
    """
    labels = dict(batch.labels)
    for spec in task.outputs:
        label = labels[spec.name]
        other = torch.tensor(MIRRORED)[label.long()] if spec.kind == "class" else label.flip(3)
        labels[spec.name] = torch.where(which, other.to(label.dtype), label)
    masks = {name: torch.where(which, mask.flip(3), mask) for name, mask in batch.masks.items()}
    return Batch(torch.where(which, batch.image.flip(3), batch.image), labels, masks)


def recolour(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the colours of images (n, 3, h, w) in [0, 1], one way a sample: the room's palette must not come
    as a surprise.
    """
    count = len(image)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape, 1, 1)).astype(np.float32))

    order = torch.from_numpy(np.stack([rng.permutation(3) for _ in range(count)]))
    shuffled = torch.take_along_dim(image, order[:, :, None, None], 1)
    image = torch.where(draw(0, 1, 1) < 0.5, shuffled, image)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * draw(0, 1.5, 1)
    image = image.clamp(0, 1) ** draw(0.7, 1.4, 1)
    image = image * draw(0.8, 1.2, 3) * draw(0.6, 1.5, 1)
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    return (image + noise * draw(0, 0.02, 1)).clamp(0, 1)

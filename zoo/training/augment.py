"""Changes to a batch that teach a network what does not matter."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from zoo.task import Task
from zoo.training.pool import Batch

Augment = Callable[[Batch, np.random.Generator], Batch]

_MAPS = ("depth", "disparity", "segmentation")


@dataclass(frozen=True)
class Views:
    """Shows frames mirrored and in other colours, by chance.

    Args:
        task: says what inputs and outputs mean.
        mirror: left to right, one frame in two.
        colour: as :func:`recolour` does.
        swaps: by output of kind class, what becomes of each class in a mirrored frame; the labels of others
            whose mirrored meaning is not known are masked there.
    """

    task: Task
    mirror: bool = True
    colour: bool = True
    swaps: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Return the batch as it is shown."""
        if self.mirror:
            count = len(next(iter(batch.inputs.values())))
            which = torch.from_numpy(rng.random((count, 1, 1, 1)) < 0.5)
            batch = mirrored(batch, self.task, which, self.swaps)
        if self.colour:
            batch = replace(batch, inputs={**batch.inputs, **self._recoloured(batch, rng)})
        return batch

    def _recoloured(self, batch: Batch, rng: np.random.Generator) -> dict[str, Tensor]:
        found = {}
        for spec in self.task.inputs:
            low, reach = spec.bias, 255 * spec.scale
            found[spec.name] = recolour((batch.inputs[spec.name] - low) / reach, rng) * reach + low
        return found


def mirrored(batch: Batch, task: Task, which: Tensor, swaps: Mapping[str, Sequence[int]]) -> Batch:
    """Mirror some frames left to right, and their labels with them.

    Args:
        which: bool (n, 1, 1, 1).
        swaps: as in :class:`Views`.
    """
    labels, masks = dict(batch.labels), dict(batch.masks)
    for spec in task.learned:
        label, mask = labels[spec.name], masks[spec.name]
        if spec.kind in _MAPS:
            labels[spec.name] = torch.where(which, label.flip(3), label)
            masks[spec.name] = torch.where(which, mask.flip(3), mask)
        elif spec.name in swaps:
            other = torch.tensor(swaps[spec.name])[label.long()]
            labels[spec.name] = torch.where(which, other.to(label.dtype), label)
        else:
            masks[spec.name] = torch.where(which, torch.zeros_like(mask), mask)
    inputs = {name: torch.where(which, values.flip(3), values) for name, values in batch.inputs.items()}
    return Batch(inputs, labels, masks)


def recolour(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the colours of images (n, c, h, w) in [0, 1], one way a sample: the room's palette must not come
    as a surprise.
    """
    count, channels = image.shape[:2]

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (count, *shape, 1, 1)).astype(np.float32))

    order = torch.from_numpy(np.stack([rng.permutation(channels) for _ in range(count)]))
    shuffled = torch.take_along_dim(image, order[:, :, None, None], 1)
    image = torch.where(draw(0, 1, 1) < 0.5, shuffled, image)
    grey = image.mean(1, keepdim=True)
    image = grey + (image - grey) * draw(0, 1.5, 1)
    image = image.clamp(0, 1) ** draw(0.7, 1.4, 1)
    image = image * draw(0.8, 1.2, channels) * draw(0.6, 1.5, 1)
    noise = torch.from_numpy(rng.standard_normal(image.shape, np.float32))
    return (image + noise * draw(0, 0.02, 1)).clamp(0, 1)

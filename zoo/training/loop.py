"""The training loop."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fieldtune.console import progress, say
from fieldtune.errors import UserError
from zoo.task import Task
from zoo.training import flat
from zoo.training.augment import Augment
from zoo.training.balance import Balance
from zoo.training.losses import task_losses
from zoo.training.magnitude import Masks
from zoo.training.pool import Batch, Samples


@dataclass(frozen=True)
class Schedule:
    """So many epochs in batches of `batch`; Adam, whose rate warms up and falls as a cosine to zero.

    Args:
        flat: how far the weights are perturbed (`zoo.training.flat`); 0 = not at all.
    """

    epochs: int
    learning_rate: float
    batch: int
    flat: float = 0.0


def train(
    network: nn.Module,
    task: Task,
    samples: Samples,
    schedule: Schedule,
    balance: Balance,
    seed: int,
    augment: Augment,
    masks: Masks | None = None,
) -> None:
    """Train `network` on frames that are shown as `augment` changes them.

    The same arguments, threads and machine give the same weights. A label that is missing adds nothing: to a
    task's loss, nor to its weight.

    Args:
        network: its outputs are those of `task`, in their order.
        balance: may learn too.
        seed: of the order of frames and of what is done to them.
        augment: changes batches, by chance.
        masks: of the network; weights that are pruned stay 0.

    Raises:
        UserError: there are fewer samples than a batch, or the loss is no finite number any more.
    """
    rng = np.random.default_rng(seed)
    network.train().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.Adam([*network.parameters(), *balance.parameters()], schedule.learning_rate)
    batches = len(samples) // schedule.batch
    if not batches:
        raise UserError(f"{len(samples)} frames are fewer than a batch of {schedule.batch}; give more")
    steps = schedule.epochs * batches
    warm_up = min(200, steps // 10 + 1)
    rates = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min((k + 1) / warm_up, 0.5 + 0.5 * math.cos(math.pi * k / steps))
    )
    for epoch in range(schedule.epochs):
        totals = dict.fromkeys((spec.name for spec in task.learned), 0.0)
        order = rng.permutation(len(samples))[: batches * schedule.batch]
        for numbers in progress(np.split(order, batches), f"epoch {epoch + 1}"):
            batch = augment(samples.batch(numbers), rng)
            optimizer.zero_grad()
            for name, value in backward(network, task, batch, balance, schedule.flat).items():
                totals[name] += value
            if masks is not None:
                masks.hold_gradients()
            optimizer.step()
            if masks is not None:
                masks.hold_weights()
            rates.step()
        if not math.isfinite(sum(totals.values())):
            raise UserError(f"training diverges in epoch {epoch + 1}; take a smaller rate")
        means = ", ".join(f"{name} {total / batches:.4f}" for name, total in totals.items())
        say(f"epoch {epoch + 1} of {schedule.epochs}: loss of {means}")
    network.to(memory_format=torch.contiguous_format).eval()


def backward(network: nn.Module, task: Task, batch: Batch, balance: Balance, rho: float) -> dict[str, float]:
    """Add the gradients of a batch to those of network and balance; return each task's loss, not weighed.

    Args:
        rho: as `Schedule.flat`.
    """
    shares = {name: (mask > 0).flatten(1).any(1).float().mean() for name, mask in batch.masks.items()}

    def losses() -> Mapping[str, Tensor]:
        return task_losses(task, named(task, network(*batch.inputs.values())), batch.labels, batch.masks)

    def weighed(name: str, loss: Tensor) -> Tensor:
        return balance(name, loss, shares[name])

    if rho:
        found = flat.backward(network, losses, weighed, rho)
    else:
        found = losses()
        torch.stack([weighed(name, loss) for name, loss in found.items()]).sum().backward()
    return {name: float(loss.detach()) for name, loss in found.items()}


def named(task: Task, found: Tensor | tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return a network's outputs by the names that `task` gives them."""
    outputs = (found,) if isinstance(found, Tensor) else found
    return {spec.name: output for spec, output in zip(task.outputs, outputs, strict=True)}

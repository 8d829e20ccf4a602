"""Training in flat regions of several tasks' losses (Phan et al. 2022, arXiv 2211.13723).

For each task, weights are moved to where its loss is worst nearby, and the gradient is taken there: adaptive
sharpness-aware minimisation (Kwon et al. 2021, arXiv 2102.11600), one perturbation a task.
The paper aggregates the plain gradients and what the perturbation adds to them separately, by methods that
settle conflicts. We add the tasks up as they are weighed, and for sums both ways are the same.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_LEAST = 1e-12


def backward(
    network: nn.Module,
    losses: Callable[[], Mapping[str, Tensor]],
    weighed: Callable[[str, Tensor], Tensor],
    rho: float,
) -> Mapping[str, Tensor]:
    """Add the sum's gradients, each task's taken at its own perturbed weights, to the parameters' ``grad``.

    The perturbation of a task is rho w^2 g / norm(w g), w being all weights that its loss depends on, and g
    its gradient. Batch normalization sees the batch once; its statistics rest at perturbed weights.

    Args:
        network: whose parameters are perturbed.
        losses: computes each task's loss on the batch.
        weighed: what a task's loss adds to the sum.
        rho: how far; 0.5 to 2 is usual.

    Returns:
        The losses before the perturbation.
    """
    weights = list(network.parameters())
    found = losses()
    moves = {name: _ascent(weights, loss, rho) for name, loss in found.items()}
    kept = [weight.detach().clone() for weight in weights]
    with _resting_statistics(network):
        for name, move in moves.items():
            with torch.no_grad():
                for weight, step in zip(weights, move, strict=True):
                    weight.add_(step)
            weighed(name, losses()[name]).backward()
            with torch.no_grad():
                for weight, value in zip(weights, kept, strict=True):
                    weight.copy_(value)
    return found


def _ascent(weights: list[Tensor], loss: Tensor, rho: float) -> list[Tensor]:
    gradients = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
    norm = torch.sqrt(sum((w.detach() * g).square().sum() for w, g in zip(weights, gradients, strict=True)))
    reach = rho / norm.clamp(min=_LEAST)
    return [reach * w.detach().square() * g for w, g in zip(weights, gradients, strict=True)]


@contextmanager
def _resting_statistics(network: nn.Module) -> Iterator[None]:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

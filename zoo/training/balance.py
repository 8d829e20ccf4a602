"""From the losses of several tasks to the one that is minimised."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.task import Task


class FixedWeights(nn.Module):  # type: ignore[misc]  # torch's types are not installed everywhere
    """Each task's loss times a constant."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def forward(self, name: str, loss: Tensor, share: Tensor) -> Tensor:
        """Return what the task `name` adds to the sum."""
        return self._weights[name] * loss


class Uncertainty(nn.Module):  # type: ignore[misc]
    """Kendall et al., CVPR 2018 (arXiv 1705.07115): each task's noise is learned, and weighs its loss.

    With s = log of the noise's variance, a task adds exp(-s) loss + s / 2, a regression half of exp(-s) loss.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.log_variances = nn.ParameterDict(
            {spec.name: nn.Parameter(torch.zeros(())) for spec in task.outputs}
        )
        self._factors = {spec.name: 1.0 if spec.loss == "cross_entropy" else 0.5 for spec in task.outputs}

    def forward(self, name: str, loss: Tensor, share: Tensor) -> Tensor:
        """Return what the task `name` adds to the sum.

        Args:
            loss: a mean over the batch.
            share: of the batch's frames that have a label for the task; the others' noise is not judged.
        """
        s = self.log_variances[name]
        return self._factors[name] * torch.exp(-s) * loss + 0.5 * s * share


Balance = FixedWeights | Uncertainty

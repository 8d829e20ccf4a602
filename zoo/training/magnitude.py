"""Iterative magnitude pruning with rewinding, of single weights: a reference for what pruning can reach.

Frankle and Carbin 2019 (arXiv 1803.03635), in the form of MIR-L (arXiv 2510.14463): train, prune a share of
the weights that are still alive, the smallest of the whole network, set all others back to where training
began, repeat. It saves nothing on a microcontroller, whose kernels read every weight (docs/benchmarks.md).
"""

import torch
from torch import Tensor, nn


class Masks:
    """Which weights of a network are alive, and the network as it was when this was made.

    What can be pruned are weights of convolutions and linear layers; biases and normalizations stay whole.

    Args:
        network: untrained; kept, not copied.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._start = {name: value.clone() for name, value in network.state_dict().items()}
        self._alive = {
            name: torch.ones_like(value, dtype=torch.bool)
            for name, value in network.named_parameters()
            if value.ndim > 1
        }

    @property
    def total(self) -> int:
        """How many weights can be pruned."""
        return sum(alive.numel() for alive in self._alive.values())

    @property
    def alive(self) -> int:
        """How many are left; some of them may be 0 by chance."""
        return sum(int(alive.sum()) for alive in self._alive.values())

    def hold_gradients(self) -> None:
        """Forget the gradients of pruned weights: to be called before every step of the optimizer."""
        for weight, alive in self._weights():
            if weight.grad is not None:
                weight.grad.masked_fill_(~alive, 0)

    def hold_weights(self) -> None:
        """Set pruned weights to 0: to be called after every step of the optimizer.

        Moments of steps before the pruning would move them all the same.
        """
        with torch.no_grad():
            for weight, alive in self._weights():
                weight.masked_fill_(~alive, 0)

    def prune(self, share: float) -> None:
        """Prune that share of the weights that are alive: those of the whole network nearest to 0.

        Args:
            share: 0 to 1; what it comes to is rounded to whole weights.
        """
        sizes = torch.cat([weight.detach().abs()[alive] for weight, alive in self._weights()])
        order = torch.argsort(sizes, stable=True)
        kept = torch.ones(len(sizes), dtype=torch.bool)
        kept[order[: round(share * len(sizes))]] = False
        parts = kept.split([int(alive.sum()) for alive in self._alive.values()])
        for alive, part in zip(self._alive.values(), parts, strict=True):
            alive[alive.clone()] = part
        self.hold_weights()

    def rewind(self) -> None:
        """Set all that is not pruned back to where it began, statistics of normalizations included."""
        self._network.load_state_dict(self._start)
        self.hold_weights()

    def _weights(self) -> list[tuple[Tensor, Tensor]]:
        """Return the weights that can be pruned, each with which of it are alive."""
        parameters = dict(self._network.named_parameters())
        return [(parameters[name], alive) for name, alive in self._alive.items()]

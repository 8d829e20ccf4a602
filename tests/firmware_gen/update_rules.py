"""Hyper-parameters of a few steps of one network, and the same steps by torch.optim."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from fleet import FLOATS
from networks import Net
from references import Array

from firmware_gen.graph import Optimizer, Real
from firmware_gen.update import UpdatePlan, WeightType

STEPS = 6


@dataclass(frozen=True)
class Rule:
    """Hyper-parameters of a run; `kept`: the plan keeps gradients over the step."""

    lr: float = 0.05
    momentum: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    kept: bool = False
    optimizer: Optimizer = "sgd"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    state: Real = "f32"
    weights: WeightType = "f32"  # rounded to nearest

    def update(self) -> UpdatePlan:
        return UpdatePlan(
            ("*",),
            self.momentum > 0,
            self.kept,
            self.optimizer,
            self.state,
            self.weights,
            "nearest",
            clip_norm=self.clip_norm > 0,
        )

    @property
    def waits_in_bf16(self) -> bool:
        """Whether gradients wait for the norm in bf16."""
        return self.clip_norm > 0 and self.state == "bf16" and not self.kept

    def hyper(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in FLOATS}

    def reference(self, weights: Iterable[torch.Tensor]) -> torch.optim.Optimizer:
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                weights, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            )
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        betas = (self.beta1, self.beta2)
        return kind(weights, lr=self.lr, betas=betas, eps=self.eps, weight_decay=self.weight_decay)


def network() -> Net:
    net = Net(seed=7)
    x = net.input(2, 7, 5)
    x = net.conv(x, 6, (3, 3), (2, 2), (1, 1, 1, 1), name="first")
    x = net.activation(x, "LeakyRelu", high=0.1)
    x = net.conv(x, 6, (3, 3), (1, 1), (1, 1, 1, 1), groups=6)
    x = net.linear(net.flatten(x), 4, "gemm_transposed")
    net.loss(x, "mse", masked=0.0)
    return net


def predict(x: torch.Tensor, w: dict[str, torch.Tensor]) -> torch.Tensor:
    x = F.leaky_relu(F.conv2d(x, w["first.weight"], w["first.bias"], 2, 1), float(np.float32(0.1)))
    x = F.conv2d(x, w["conv2.weight"], w["conv2.bias"], 1, 1, groups=6)
    return F.linear(x.flatten(1), w["fc4.weight"], w["fc4.bias"])


def round_state(optimizer: torch.optim.Optimizer) -> None:
    """Round velocities and first moments to bf16, as they are stored; the step itself saw them exactly."""
    for state in optimizer.state.values():
        for name in state.keys() & {"momentum_buffer", "exp_avg"}:
            state[name] = state[name].float().bfloat16().double()


def round_gradients(weights: Iterable[torch.Tensor]) -> None:
    """Round gradients of weights to bf16, in which they wait for the norm; those of biases stay."""
    for weight in weights:
        if weight.ndim > 1:
            assert weight.grad is not None
            weight.grad = weight.grad.float().bfloat16().double()


def samples() -> list[tuple[Array, Array]]:
    rng = np.random.default_rng(1)
    return [
        (rng.standard_normal((1, 2, 7, 5)).astype(np.float32), rng.standard_normal((1, 4)).astype(np.float32))
        for _ in range(STEPS)
    ]

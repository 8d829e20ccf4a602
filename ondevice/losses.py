"""The loss of samples with the weights as they are: the one way to judge what a board has learned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from firmware_gen.plan import Plan
from firmware_gen.step_parts import step_parts
from ondevice.device import Device, Hyper
from ondevice.training_data import Sample


def sample_losses(device: Device, plan: Plan, step: int, samples: Sequence[Sample]) -> list[float]:
    """Return for each of `samples` a training step's losses, added up.

    The board runs training steps as far as their last loss; weights, ranges, optimizer state and the number
    of steps are the same afterwards, the learning rate is 0. No gradients may wait for further samples
    (`accumulate`).

    Args:
        device: runs the plan's firmware.
        plan: tells where the losses are.
        step: training steps that the board has done.
        samples: with inputs, labels and masks.
    """
    parts = [None if part.step is None else plan.steps[part.step].op for part in step_parts(plan)]
    end = 1 + max(index for index, op in enumerate(parts) if op is not None and op.kind == "loss")
    updates = any(op is None or op.phase == "update" for op in parts[:end])
    kept = device.read_role("weight", "state") if updates else {}
    device.set_hyper(Hyper(lr=0.0))  # the order of parts does not promise that no weight moves before a loss
    losses = []
    for sample in samples:
        device.put_sample(sample)
        losses.append(math.fsum(device.step(step, 0, end).losses))
    if kept:
        device.write_tensors(kept)
    return losses

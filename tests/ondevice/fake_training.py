"""Training the fake model: what a session does, reduced to the link's part of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.device import Device, Hyper, StepResult
from ondevice.timing import Timing

Arrays = dict[str, NDArray[Any]]

HYPER = Hyper(lr=0.01, momentum=0.9)
IMPATIENT = Timing(first=0.1, shortest=0.03, longest=0.3, computing_check=0.1)


def sample(step: int) -> Arrays:
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (48, 48, 3), dtype=np.uint8),
        "depth": rng.random((48, 48, 1), dtype=np.float32),
        "known": rng.integers(0, 2, (48, 48, 1), dtype=np.uint8),
        "tilt": rng.integers(-5, 5, (1, 1, 1), dtype=np.int8),
    }


def train(device: Device, steps: range) -> list[StepResult]:
    results = []
    for step in steps:
        device.put_sample(sample(step))
        results.append(device.step(step))
    return results


def learned(device: Device) -> Arrays:
    return device.read_role("weight", "state", "gradient", "output")


def losses(results: list[StepResult]) -> list[tuple[float, ...]]:
    return [result.losses for result in results]

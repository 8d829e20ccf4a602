"""Latent replay: of a source frame the session keeps what the frozen layers make of it, in int8.

int8 tensors are kept as they are: a step from them has the bits of a step on the frame. Floats become int8,
with a scale for each channel of each sample, and are made floats again before they are sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import progress
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan
from ondevice.device import Device
from ondevice.session import Session
from ondevice.training_data import Sample

Arrays = dict[str, NDArray[Any]]


def keep_latents(
    device: Device, plan: Plan, samples: Iterable[tuple[int, Sample]], session: Session, count: int
) -> None:
    """Keep in `session` the latents and labels of what some steps train on.

    Args:
        device: a board with the firmware of `plan`; its inputs are overwritten.
        plan: of a training graph with latents.
        samples: steps, counted from 1, and the sample that each trains on.
        session: what it has of an earlier attempt is not computed again.
        count: how many `samples` there are.
    """
    kept = {step for step, _ in session.latents()}
    for step, sample in progress(samples, "making latents", count):
        if step not in kept:
            device.put_sample({name: sample[name] for name in plan.graph.inputs})
            device.run_inference(0, plan.latent_step)
            latents = _packed(device.read_role("latent"))
            session.record_latents(step, {**_read_above(sample, plan.graph), **latents})


class LatentSamples:
    """The samples that `keep_latents` has kept, in the order of their steps, as the board takes them."""

    def __init__(self, session: Session) -> None:
        """Read nothing yet."""
        self._session = session

    def __iter__(self) -> Iterator[Sample]:
        """Yield latents, labels and masks."""
        for _, arrays in self._session.latents():
            yield _unpacked(arrays)


def kept_bytes(session: Session, plan: Plan) -> int:
    """Return the bytes that `session` keeps of a source frame besides its labels; 0 when it keeps none."""
    names = {f"{name}{what}" for name in plan.graph.latents for what in ("", *_OF_FLOATS)}
    first = next((arrays for _, arrays in session.latents()), {})
    return sum(array.nbytes for name, array in first.items() if name in {*names, *plan.graph.inputs})


_OF_FLOATS = (".low", ".scale")  # arrays of one float a channel beside a latent that is float on the board


def _read_above(sample: Sample, graph: Graph) -> Sample:
    """Return what a step from latents reads of a sample besides: labels, masks, perhaps an input."""
    replaced = set(graph.inputs) - set(graph.inputs_above)
    return {name: array for name, array in sample.items() if name not in replaced}


def _packed(latents: Mapping[str, NDArray[Any]]) -> Arrays:
    packed: Arrays = {}
    for name, array in latents.items():
        if array.dtype != np.float32:
            packed[name] = array
            continue
        low = array.min((0, 1))
        scale = (array.max((0, 1)) - low) / np.float32(255)
        steps = np.rint((array - low) / np.where(scale > 0, scale, 1))
        packed |= dict(zip(_names(name), ((steps - 128).astype(np.int8), low, scale), strict=True))
    return packed


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    sample = dict(arrays)
    for name in arrays:
        whole = _names(name)
        if sample.keys() >= {*whole}:
            steps, low, scale = (sample.pop(part) for part in whole)
            sample[name] = (steps.astype(np.float32) + 128) * scale + low
    return sample


def _names(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}{what}" for what in _OF_FLOATS))

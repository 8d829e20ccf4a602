"""Offsets for buffers whose lifetimes are known, so that buffers alive at the same time do not overlap."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Tries of the local search that follows the greedy orders; it stops early at the lower bound.
TRIES = 2000


@dataclass(frozen=True)
class Buffer:
    """Storage that is needed from step `first` to step `last`, both included; -1: before the first step."""

    name: str
    bytes: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        """Tell whether both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


def peak_bytes(buffers: Iterable[Buffer]) -> int:
    """Return the most bytes that are alive at one step: no placement needs less."""
    changes = _changes(buffers)
    return max(itertools.accumulate((changes[step] for step in sorted(changes)), initial=0))


def alive_bytes(buffers: Iterable[Buffer], steps: int) -> list[int]:
    """Return the bytes that are alive at each of `steps` steps."""
    changes = _changes(buffers)
    before = sum(change for step, change in changes.items() if step < 0)
    alive = itertools.accumulate((changes.get(step, 0) for step in range(steps)), initial=before)
    return list(alive)[1:]


def _changes(buffers: Iterable[Buffer]) -> dict[int, int]:
    """Return for each step at which something begins, or has ended, the bytes that come or go."""
    changes: dict[int, int] = {}
    for buffer in buffers:
        changes[buffer.first] = changes.get(buffer.first, 0) + buffer.bytes
        changes[buffer.last + 1] = changes.get(buffer.last + 1, 0) - buffer.bytes
    return changes


def place(buffers: Sequence[Buffer]) -> Mapping[str, int]:
    """Return an offset in bytes for every buffer; deterministic.

    First fit in several orders (Pisarchyk & Lee 2020 call the first "greedy by size"), then a seeded local
    search that moves single buffers within the best order.
    """
    bound = peak_bytes(buffers)
    orders = [
        sorted(buffers, key=lambda b: (-b.bytes, b.first, b.name)),
        sorted(buffers, key=lambda b: (-(b.last - b.first), -b.bytes, b.name)),
        sorted(buffers, key=lambda b: (-b.bytes * (b.last - b.first + 1), b.name)),
        sorted(buffers, key=lambda b: (b.first, -b.bytes, b.name)),
    ]
    neighbours = {b.name: [other for other in buffers if b is not other and b.meets(other)] for b in buffers}
    order = min(orders, key=lambda order: extent(buffers, _first_fit(order, neighbours)))
    best = _first_fit(order, neighbours)
    needed = extent(buffers, best)
    rng = random.Random(0)
    for _ in range(TRIES):
        if needed == bound:
            break
        trial = list(order)
        trial.insert(rng.randrange(len(trial)), trial.pop(rng.randrange(len(trial))))
        offsets = _first_fit(trial, neighbours)
        if extent(buffers, offsets) <= needed:
            order, best, needed = trial, offsets, extent(buffers, offsets)
    return best


def extent(buffers: Iterable[Buffer], offsets: Mapping[str, int]) -> int:
    """Return the bytes from 0 to the end of the highest buffer."""
    return max((offsets[b.name] + b.bytes for b in buffers), default=0)


def _first_fit(order: Sequence[Buffer], neighbours: Mapping[str, Sequence[Buffer]]) -> dict[str, int]:
    """Give each buffer, in `order`, the lowest offset that those `neighbours` leave which have one."""
    offsets: dict[str, int] = {}
    for buffer in order:
        taken = [(offsets[b.name], b.bytes) for b in neighbours[buffer.name] if b.name in offsets]
        at = 0
        for offset, size in sorted(taken):
            if at + buffer.bytes <= offset:
                break
            at = max(at, offset + size)
        offsets[buffer.name] = at
    return offsets

"""Weights that outlive the power: the two slots in a board's flash, and which weights deserve one."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import BoardError
from firmware_gen import protocol
from firmware_gen.plan import Plan
from firmware_gen.stored_set import set_bytes, slot_room
from ondevice.device import Device
from ondevice.link import RefusedError, Request
from ondevice.losses import sample_losses
from ondevice.training_data import Sample

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Slot:
    """What a slot holds: see SLOT in docs/protocol.md. Numbers are 0 when it is empty or broken."""

    state: str  # of protocol.SLOT_STATES
    sequence: int
    step: int
    model_hash: int
    plan_hash: int
    bytes: int


@dataclass(frozen=True)
class Loaded:
    """Which set is in use now: number of its save (0: the initial weights) and of its training steps."""

    sequence: int
    step: int


@dataclass(frozen=True)
class Kept:
    """What came of a comparison: whether the weights were saved, and which set is in use now."""

    saved: bool
    sequence: int
    step: int


class WeightStore:
    """The slots of an open board. Every method may raise what those of `Device` raise, and RefusedError."""

    def __init__(self, device: Device) -> None:
        """Use the flash of `device`.

        Raises:
            BoardError: it has no slots.
        """
        if not device.hello.store_room:
            raise BoardError(
                f"the board at {device.link.url} keeps no weights: its port brings no flash pages, or its "
                "firmware only infers; docs/add_a_board.md tells what a port needs for it"
            )
        self._link = device.link

    def slots(self) -> tuple[Slot, ...]:
        """Return what both slots hold."""
        size = protocol.SLOT.reply.fixed_size
        requests = [Request(protocol.SLOT, {"index": index}, size) for index in (0, 1)]
        replies = self._link.exchange(requests)
        return tuple(Slot(**{**reply, "state": _state(reply["state"])}) for reply in replies)

    def save(self) -> int:
        """Store weights, ranges and the number of steps as they are; return the number of the save."""
        return int(self._link.command(protocol.SAVE)["sequence"])

    def load(self, *, older: bool = False) -> Loaded:
        """Take the newest set, or the one before it; what the optimizer keeps begins at 0.

        Raises:
            RefusedError: there is none that belongs to the board's firmware; nothing has changed.
        """
        return Loaded(**self._link.command(protocol.LOAD, older=int(older)))

    def erase(self) -> None:
        """Erase both slots; the weights in use stay until the board starts anew."""
        self._link.command(protocol.ERASE)

    def keep_better(self, before: float, after: float) -> Kept:
        """Have the board save its weights if their mean loss `after` is below `before`, else go back.

        `before` is the mean loss of the newest set, or of the initial weights where none is stored. A loss
        that is no number is worse than all others.
        """
        with np.errstate(over="ignore"):
            losses = {"before": float(np.float32(before)), "after": float(np.float32(after))}
        reply = self._link.command(protocol.KEEP, **losses)
        return Kept(bool(reply["saved"]), reply["sequence"], reply["step"])


def _state(number: int) -> str:
    return protocol.SLOT_STATES[number] if number < len(protocol.SLOT_STATES) else f"unknown ({number})"


def check_room(plan: Plan) -> None:
    """Refuse a plan whose weights no slot of its board can keep.

    Raises:
        BoardError: the board has no slots, or they are too small.
    """
    store, needed = plan.board.store, set_bytes(plan.graph)
    if store is None:
        raise BoardError(
            f"{plan.board.id} has no flash pages for weights ([store] in its description); "
            "leave out --keep, weights_after.npz of the session has them"
        )
    if needed > slot_room(store):
        raise BoardError(
            f"the weights that learn take {needed:,} bytes, and a slot of {plan.board.id} holds "
            f"{slot_room(store):,}; let fewer layers learn, or leave out --keep"
        )


def keep_better(
    device: Device, plan: Plan, weights: Arrays, steps: int, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Keep `weights` in flash if they do better on the `samples` than what is kept now.

    Without samples they are kept in any case. The board is left with the better ones.

    Args:
        device: a board with the plan's firmware.
        plan: the firmware's.
        weights: what learned, and ranges.
        steps: training steps behind them.
        samples: of frames that were not trained on.

    Returns:
        What `Kept` says, and both mean losses: ``before``, ``after``, None without samples.
    """
    store = WeightStore(device)
    if not samples:
        _put(device, weights, steps)
        return {"saved": True, "sequence": store.save(), "step": steps, "before": None, "after": None}
    before = statistics.fmean(sample_losses(device, plan, _go_back(device, store), samples))
    _put(device, weights, steps)
    after = statistics.fmean(sample_losses(device, plan, steps, samples))
    kept = store.keep_better(before, after)
    return {**dataclasses.asdict(kept), "before": before, "after": after}


def _put(device: Device, weights: Arrays, steps: int) -> None:
    device.write_tensors(weights)
    device.set_step(steps)


def _go_back(device: Device, store: WeightStore) -> int:
    """Take the newest set, or the initial weights where none is stored; return the steps behind it."""
    try:
        return store.load().step
    except RefusedError as refused:
        if refused.refusal is not protocol.NOTHING_STORED:
            raise
    device.reset_weights()
    return 0

"""A board sent off to learn on its own, and what it came back with."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldtune.console import detail
from fieldtune.errors import DataError, LinkError, UserError
from firmware_gen.plan import Plan
from firmware_gen.project import Network
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.weights import to_source
from ondevice.device import Device, Hyper
from ondevice.evaluation import Evaluation
from ondevice.field import FieldBoard, Progress, Work
from ondevice.session_files import write_arrays, write_json
from ondevice.workbench import open_twin
from zoo.frames import Frames

FIRST_LOOK_S, LONGEST_ABSENCE_S = 1.0, 30.0


@dataclass(frozen=True)
class DepthPower:
    """What the depth sensor takes while it is on, and how many pictures the camera takes in a second."""

    milliwatts: float
    pictures_per_second: float

    def saved(self, watched: int) -> float:
        """Return the joules that it did not take in `watched` pictures: an estimate, nothing was measured."""
        return round(self.milliwatts * 1e-3 * watched / self.pictures_per_second, 3)


def check_work(work: Work, plan: Plan, shown: Frames | None) -> None:
    """Check that the work can end, where the sensors show the recorded frames `shown` and then nothing more.

    Raises:
        UserError: too few frames, or more than the buffer holds.
    """
    assert plan.field is not None
    if not 0 <= work.drift_off <= work.drift_on:
        raise UserError(
            f"--watch {work.drift_off:g}:{work.drift_on:g} must be two numbers from 0 up, the lower first"
        )
    if work.frames > plan.field.samples:
        raise UserError(
            f"--frames is {work.frames}, but the buffer holds {plan.field.samples}; give a larger --buffer"
        )
    if shown is None:
        return
    if work.rounds == 0 and not work.drift_off:
        raise UserError("--rounds 0 goes on and on, and the emulated sensors have an end; give --rounds")
    if work.drift_off:
        return  # rounds come as the pictures ask for them
    if work.rounds * work.frames > len(shown):
        raise DataError(
            f"{work.rounds} rounds of {work.frames} frames need {work.rounds * work.frames}, but only "
            f"{len(shown)} are there to learn from; give fewer with --rounds, --frames or --test"
        )


def send_off(device: Device, hyper: Hyper, work: Work) -> None:
    """Set the board to work and close the port: from here on it is alone.

    Raises:
        RefusedError: the board has no sensors, or is at work already.
    """
    board = FieldBoard(device)
    device.set_hyper(hyper)
    board.start(work)
    device.close()


def wait_for(
    device: Device, pictures: int | None = None, sleep: Callable[[float], None] = time.sleep
) -> Progress:
    """Come back to the board now and then until it is at rest; the port stays closed in between.

    Where its camera shows only so many `pictures`, the work ends when it has seen them all.

    Raises:
        LinkError: the port does not come back.
        UserError: the board has started anew, and what it learned is lost.
    """
    absence = FIRST_LOOK_S
    while True:
        sleep(absence)
        device.reconnect(LONGEST_ABSENCE_S)
        now = FieldBoard(device).progress()
        detail(f"{now.phase}: round {now.round}, {now.samples} samples, {now.learned} steps")
        if now.phase in ("collecting", "watching") and now.samples + now.watched == pictures:
            now = FieldBoard(device).stop()
        if now.at_rest:
            return now
        device.close()
        absence = min(1.5 * absence, LONGEST_ABSENCE_S)


def bring_home(
    network: Network,
    plan: Plan,
    device: Device,
    folder: Path,
    evaluation: Evaluation | None,
    seen: int,
    depth: DepthPower | None = None,
) -> dict[str, Any]:
    """Read what the board has learned, judge it; write weights_after.npz, tuned.onnx and results.json.

    Args:
        network: as read from its file.
        plan: the firmware's.
        device: the board, at rest.
        folder: where the files go.
        evaluation: how to judge; None: not at all.
        seen: how many of its training frames the board saw, from the first on.
        depth: of the sensor, for an estimate of what switching it off has saved.

    Raises:
        LinkError: the board does not answer.
        UserError: the weights are not finite, or a file cannot be written.
    """
    board = FieldBoard(device)
    progress, rounds = board.progress(), board.rounds()
    learned = device.read_role("weight", "range")
    memory = device.memory()
    if not memory.arena_intact:
        raise LinkError("the firmware wrote outside its arena; please report this with the model")
    constants = plan.graph.constants
    after = {name: to_source(constants[name], learned[name]) for name in plan.graph.trained}
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / "weights_after.npz", after)
    write_tuned_onnx(network.path, plan.graph, after, folder / "tuned.onnx", learned)
    judged: dict[str, Any] = {"before": {}, "after": {}, "baselines": {}, "outputs": {}}
    if evaluation is not None:
        with open_twin(plan, device) as (judge, _):
            judged, _ = evaluation.run(judge, learned, range(seen))
    results = {
        **{
            name: None if isinstance(v, float) and not math.isfinite(v) else v
            for name, v in vars(progress).items()
        },
        "rounds": [{"before": before, "after": after} for before, after in rounds],
        "sensor_off": progress.sensor_off,
        "stack_used": memory.stack_used,
        "judged": judged,
        **({} if depth is None else {"saved_j_estimate": depth.saved(progress.watched)}),
    }
    write_json(folder / "results.json", results)
    return results

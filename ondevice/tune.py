"""Fine-tuning on the board: the session from the first frame to the report."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.console import say
from fieldtune.errors import BoardError
from firmware_gen.plan import Plan
from firmware_gen.project import Network
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.weights import to_source
from ondevice.device import Device
from ondevice.evaluation import Evaluation
from ondevice.latents import LatentSamples, keep_latents, kept_bytes
from ondevice.replay import ReplayedSamples, source_samples
from ondevice.session import Session
from ondevice.training import Trainer, TuneOptions
from ondevice.training_data import TrainingSamples, sample
from ondevice.weight_store import check_room, keep_better
from ondevice.workbench import open_board, open_twin
from zoo.frames import Frames

Arrays = dict[str, NDArray[Any]]

__all__ = ["TuneOptions", "tune"]


def tune(
    network: Network,
    plan: Plan,
    frames: Frames,
    session: Session,
    options: TuneOptions,
    source: Frames | None = None,
) -> dict[str, Any]:
    """Train on the board, judge on the held-out frames, leave everything in the session; return its results.

    The data are looked at before anything is built. Frames of the domain that the network was trained on,
    `source`, are judged as well, and replayed as the options say.

    Raises:
        UserError: what its message says (BoardError, DataError, LinkError); the session can be resumed.
    """
    options.check(frames, source)
    task = network.needed_task()
    training, held_out = _split(frames, options.test)
    replayable, judged_source = _split(source, options.test) if source is not None else (None, None)
    samples: TrainingSamples | ReplayedSamples
    samples = TrainingSamples(training, task, plan.graph, options.shuffle_seed)
    if options.replay and replayable is not None:
        replayed = source_samples(replayable, task, plan.graph, options.replay.seed)
        samples = ReplayedSamples(samples, replayed, options.replay)
    samples.check()
    if options.keep:
        check_room(plan)
    evaluation = Evaluation(task, plan.graph, training, held_out, judged_source) if options.test else None
    session.save_plan({**plan.describe(), "plan_hash": plan.hash()})
    with open_board(plan, session.path / "firmware", options.port, session.log) as device:
        if isinstance(samples, ReplayedSamples) and plan.graph.latents:
            _keep_latents(plan, device, session, samples, options)
        trainer = Trainer(device, session, task, plan.graph, options, plan.latent_step)
        weights = trainer.run(samples)
        used: dict[str, Any] = _memory_used(device, session) | _labelled_steps(trainer)
        _save_weights(network, plan, session, weights)
        judged: dict[str, Any] = {"before": {}, "after": {}, "baselines": {}, "outputs": {}}
        if evaluation:
            with open_twin(plan, device, session.log) as (judge, _):
                judged, shown = evaluation.run(judge, weights, trainer.seen)
            if depth := shown.depth:
                session.save_predictions(depth.rgb, depth.truth, depth.before, depth.after)
            if shown.segmentations:
                session.save_segmentations(shown.segmentations)
        if options.keep:
            found = (sample(frame, task, plan.graph, frames.geometry) for frame in held_out)
            validation = [ready for ready in found if ready is not None]
            used["kept"] = keep_better(device, plan, weights, options.steps, validation)
    replayed_steps = options.replay.count(options.steps) if options.replay else 0
    used |= {"replayed_steps": replayed_steps, "skipped_frames": len(samples.skipped)}
    if plan.graph.latents and options.replay:
        used["latents"] = _latents_used(plan, session, trainer)
    return _finish(session, {"steps": options.steps, **judged, **used})


def _split(frames: Frames, test: int) -> tuple[Frames, Frames]:
    """Return the frames to train on, and the last `test`, to judge by."""
    cut = max(0, len(frames) - test)
    return frames[:cut], frames[cut:]


def _keep_latents(
    plan: Plan, device: Device, session: Session, samples: ReplayedSamples, options: TuneOptions
) -> None:
    """Keep the source frames that will be trained on as latents, and let `samples` take these."""
    assert options.replay is not None
    with open_twin(plan, device, session.log) as (twin, its_plan):
        replayed = samples.of_source(options.steps)
        keep_latents(twin, its_plan, replayed, session, options.replay.count(options.steps))
    samples.start_from(LatentSamples(session))


def _latents_used(plan: Plan, session: Session, trainer: Trainer) -> dict[str, Any]:
    """Return what a replayed step took, and what one on a frame does; bytes are those of one sample."""
    described = plan.describe()["latents"]
    return {
        "layer": described["layer"],
        "kept_bytes": kept_bytes(session, plan),
        "sent_bytes": described["bytes"],
        "frame_bytes": described["frame_bytes"],
        "macs": described["macs"],
        "frame_macs": plan.macs("forward", "loss", "backward", "update"),
        "step_ms": trainer.step_ms(from_latents=True),
        "frame_step_ms": trainer.step_ms(from_latents=False),
    }


def _labelled_steps(trainer: Trainer) -> dict[str, Any]:
    for name, count in trainer.labelled_steps.items():
        if not count:
            say(f"no frame had a label for {name}: nothing was learned from it")
    return {"labelled_steps": trainer.labelled_steps}


def _memory_used(device: Device, session: Session) -> dict[str, int]:
    memory = device.memory()
    if not memory.arena_intact:
        raise BoardError(
            f"the firmware of {device.hello.model} wrote outside its arena; "
            f"please report this with {session.path}"
        )
    return {"stack_bytes": memory.stack_bytes, "stack_used": memory.stack_used}


def _save_weights(network: Network, plan: Plan, session: Session, learned: Arrays) -> None:
    constants = plan.graph.constants
    weights = {name: value for name, value in learned.items() if name in plan.graph.trained}
    before = {name: to_source(constants[name], constants[name].value) for name in weights}
    after = {name: to_source(constants[name], value) for name, value in weights.items()}
    session.save_weights("before", before)
    session.save_weights("after", after)
    if not write_tuned_onnx(network.path, plan.graph, after, session.path / "tuned.onnx", learned):
        say(
            "what learned is no array of the model's file, so the tuned weights are only in weights_after.npz"
        )


def _finish(session: Session, results: dict[str, Any]) -> dict[str, Any]:
    """Write results and report; return the results as JSON has them, without NaN."""
    from ondevice.report import write_report

    curve = session.curve()
    session.finish(
        {
            **results,
            "seconds": round(float(np.sum(curve.seconds)), 3),
            "resent_frames": int(np.sum(curve.resent)),
            "report": str(session.path / "report.html"),
        }
    )
    write_report(session.path)
    written = session.results()
    assert written is not None
    return written

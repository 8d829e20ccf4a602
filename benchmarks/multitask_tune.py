"""What becomes of a network's other tasks while one learns from the board's depth sensor alone?

    python benchmarks/multitask_tune.py MODEL --head 'heads.disparity*' --trunk 'decoder0*' [--int8]
    [--weights disparity=1,steer=0.1]

MODEL, float or int8, has a depth output, a segmentation, and whatever else its task names. The target is a
rendered scene of a domain that it does not know: of the frames that it learns from only the sensor's zones
are kept, the last frames are judged with all that is true of them. Three sessions from the same weights: the
head learns alone; trunk and head learn; they learn, and other frames of the source domain are replayed with
all their labels, in as many more steps. Without replay the other outputs have no labels and no loss. Prints
the metrics of every output, before and after, on target and source, and whether its predictions have kept
their bits. Weights of losses that are not given are those of MODEL's task.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from boards import load_board
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.replay import Replay
from ondevice.session import Session
from ondevice.tune import TuneOptions, tune
from zoo.frames import Frames
from zoo.scenes import DOMAINS, render, sensor
from zoo.task import NO_LABELS

REPLAYED, JUDGED = range(60, 80), range(80, 100)  # scenes of the source, not those of the pre-training
SOURCE_FRAMES = 10  # of each scene
TEST = len(JUDGED) * SOURCE_FRAMES  # frames that are judged, of target and source


def target(domain: str, seed: int, learned: int) -> Frames:
    """Return frames of one scene, of which all but the last `TEST` tell nothing but what the sensor saw."""
    frames = list(render(domain, seed, learned + TEST))
    seen = [replace(frame, depth=None, classes=None, target=None) for frame in frames[:learned]]
    return Frames.of([*seen, *frames[learned:]], sensor.GEOMETRY)


def source(domain: str) -> Frames:
    """Return frames of several scenes in turn, and behind them those of others to judge by."""
    frames = []
    for seeds in (REPLAYED, JUDGED):
        scenes = [render(domain, seed, SOURCE_FRAMES) for seed in seeds]
        frames += [scene[k] for k in range(SOURCE_FRAMES) for scene in scenes]
    return Frames.of(frames, sensor.GEOMETRY)


def by_the_sensor(network: Network) -> Network:
    """Return the network with labels for depth alone."""
    task = network.needed_task()
    outputs = (spec if spec.labels == "tof" else replace(spec, labels=NO_LABELS) for spec in task.outputs)
    return replace(network, task=replace(task, outputs=tuple(outputs)))


def weighed(network: Network, weights: Mapping[str, float]) -> Network:
    """Return the network with other weights of these outputs' losses."""
    task = network.needed_task()
    if unknown := set(weights) - {spec.name for spec in task.outputs}:
        raise SystemExit(f"--weights names {min(unknown)}, which is no output of {network.path}")
    outputs = (replace(spec, weight=weights.get(spec.name, spec.weight)) for spec in task.outputs)
    return replace(network, task=replace(task, outputs=tuple(outputs)))


def tuned(
    network: Network,
    update: str,
    replay: Replay | None,
    data: tuple[Frames, Frames],
    args: argparse.Namespace,
) -> Any:
    """Tune to the first of `data` in a new session; return its results."""
    steps = args.steps if replay is None else round(args.steps / (1 - replay.share))
    network = network if replay is not None else by_the_sensor(network)
    learning = parse_update(update, weights="int8" if args.int8 else "f32")
    plan = plan_network(network, load_board(args.board), learning)
    options = TuneOptions(steps, TEST, Hyper(args.lr), replay=replay)
    with (
        tempfile.TemporaryDirectory() as folder,
        Session.create(Path(folder), options.config()) as session,
    ):
        frames, known = data
        return tune(network, plan, frames, session, options, known) | {"ram_bytes": plan.ram_bytes}


def report(title: str, results: Any) -> None:
    """Print what a session came to."""
    print(f"{title}: {results['steps']} steps, {results['ram_bytes']:,} B of RAM")
    for where, judged in (("target", results["outputs"]), ("source", results["source"]["outputs"])):
        for name, found in judged.items():
            changes = (
                _change(metric, value, found["after"][metric]) for metric, value in found["before"].items()
            )
            same = "  (the same bits)" if found["unchanged"] else ""
            print(f"  {where}  {name:<12}  {'   '.join(changes)}{same}")


def _change(metric: str, before: float, after: float) -> str:
    points = f" ({100 * (after - before):+.1f} points)" if metric in ("miou", "accuracy") else ""
    return f"{metric} {before:.3f} -> {after:.3f}{points}"


def _weights(text: str) -> dict[str, float]:
    pairs = (part.partition("=") for part in text.split(","))
    return {name: float(weight) for name, _, weight in pairs}


def main() -> None:
    """Print three sessions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--head", required=True, help="the layers of the depth head, as --update takes them")
    parser.add_argument("--trunk", required=True, help="the layers of the trunk that learn as well")
    parser.add_argument("--board", default="mps2_an500")
    parser.add_argument("--int8", action="store_true", help="int8 layers learn in int8 (--weights int8)")
    parser.add_argument("--domain", choices=sorted(DOMAINS), default="loft", help="of the target")
    parser.add_argument("--known", choices=sorted(DOMAINS), default="room", help="domain of the source")
    parser.add_argument("--seed", type=int, default=0, help="of the target's scene and of replay")
    parser.add_argument("--weights", type=_weights, default={}, help="of the losses, such as steer=0.1")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--steps", type=int, default=60, help="on frames of the target")
    parser.add_argument("--replay", default="1/2", help="share of the third session's steps")
    args = parser.parse_args()
    network = weighed(load_network(args.model), args.weights)
    data = target(args.domain, args.seed, args.steps), source(args.known)
    both = f"{args.trunk},{args.head}"
    for title, update, replay in (
        ("head alone", args.head, None),
        ("trunk and head", both, None),
        (f"trunk and head, replay {args.replay}", both, Replay.parse(args.replay, args.seed)),
    ):
        report(title, tuned(network, update, replay, data, args))


if __name__ == "__main__":
    main()

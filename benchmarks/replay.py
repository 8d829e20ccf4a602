"""What does the demo's network forget of the domains it was trained on, and how much less with replay?

    python benchmarks/replay.py [--seeds 0-3] [--lr LR] [--schedule SCHEDULE] [--latents LAYER]

As the demo does it, on board `native`: 60 steps on each rendered room, and as many more as are replayed. The
source is new scenes of the four domains of the pre-training; the last 50 frames of both are judged. With
--latents, source frames are replayed from int8 activations at that layer.
"""

import argparse
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

import boards
from boards import Running, load_board
from fieldtune.commands.demo import UPDATE
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.learning_rate import Schedule
from ondevice.replay import Replay
from ondevice.session import Session
from ondevice.tune import TuneOptions, tune
from zoo.frames import Frames
from zoo.scenes import DEMO_SCENE, SOURCE_DOMAINS, render, sensor

WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights" / "upydnet_rendered.onnx"
SHARES = (None, Fraction(1, 4), Fraction(1, 2))
SOURCE_SEEDS, SOURCE_FRAMES = range(2000, 2004), 13  # not those of the pre-training; frames of each scene

Row = list[float]


def source() -> Frames:
    """Return frames of all source domains in turn."""
    scenes = [render(domain, seed, SOURCE_FRAMES) for seed in SOURCE_SEEDS for domain in SOURCE_DOMAINS]
    return Frames.of([scene[k] for k in range(SOURCE_FRAMES) for scene in scenes], sensor.GEOMETRY)


def tuned(
    board: Running, plan: Plan, network: Network, room: Frames, known: Frames, options: TuneOptions
) -> Row:
    """Tune in a new session; return RMSE and delta1, before and after, of target and source."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Session.create(Path(folder), options.config()) as session,
    ):
        target = tune(network, plan, room, session, replace(options, port=board.url), known)
    return [
        domain[when][metric]
        for domain in (target, target["source"])
        for metric in ("rmse", "delta1")
        for when in ("before", "after")
    ]


def main() -> None:
    """Print a row a room and share, and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", default="0-3", help="first and last room")
    parser.add_argument("--lr", type=float, default=DEMO_SCENE.lr)
    parser.add_argument("--schedule", default="constant")
    parser.add_argument("--latents", metavar="LAYER")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    network = load_network(WEIGHTS)
    plan = plan_network(network, load_board("native"), parse_update(UPDATE), latents=args.latents)
    hyper, schedule, known = Hyper(args.lr), Schedule.parse(args.schedule), source()
    rows: dict[Fraction | None, list[Row]] = {share: [] for share in SHARES}
    print("replay  room   target RMSE [m]    delta1             source RMSE [m]    delta1")
    with tempfile.TemporaryDirectory() as folder:
        write_project(plan, Path(folder))
        with boards.start(boards.build(Path(folder), plan.board).elf, plan.board) as board:
            for seed in range(int(first), int(last or first) + 1):
                room = render(DEMO_SCENE.domain, seed, DEMO_SCENE.train + DEMO_SCENE.test)
                for share in SHARES:
                    steps = round(DEMO_SCENE.steps / (1 - (share or 0)))
                    replay = None if share is None else Replay(share)
                    options = TuneOptions(steps, DEMO_SCENE.test, hyper, schedule=schedule, replay=replay)
                    rows[share].append(tuned(board, plan, network, room, known, options))
                    _show(share, str(seed), rows[share][-1])
    for share in SHARES:
        _show(share, "mean", list(np.mean(rows[share], 0)))


def _show(share: Fraction | None, name: str, row: Row) -> None:
    cells = (f"{row[k]:6.3f} -> {row[k + 1]:6.3f}" for k in range(0, len(row), 2))
    print(f"{'none' if share is None else share!s:>6}  {name:>4}   {'   '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()

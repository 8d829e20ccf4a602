"""``fieldtune tune MODEL --board B --data D --update LAYERS``: build, start, train on the board, report."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune import __version__
from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import BoardError, FieldtuneError, LinkError, UserError

if TYPE_CHECKING:
    from firmware_gen.plan import Plan
    from firmware_gen.project import Network
    from ondevice.tune import TuneOptions
    from zoo.frames import Frames

NAME = "tune"
HELP = "fine-tune a network on the board, driven from here over the serial port"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune tune``."""
    options.add_model(parser)
    options.add_plan(parser)
    options.add_search(parser)
    options.add_port(parser)
    parser.add_argument(
        "--data", type=Path, required=True, help="frames: .npz, a data set (docs/your_data.md)"
    )
    parser.add_argument(
        "--steps", type=options.positive, default=250, help="training steps, one frame each (default 250)"
    )
    parser.add_argument("--weight-decay", type=options.not_negative, default=0.0, help="weight decay")
    parser.add_argument("--beta1", type=options.below_one, help="of adam and adamw (default 0.9)")
    parser.add_argument("--beta2", type=options.below_one, help="of adam and adamw (default 0.999)")
    parser.add_argument("--eps", type=options.above_zero, help="of adam and adamw (default 1e-8)")
    parser.add_argument(
        "--schedule",
        default="constant",
        help="of the learning rate: constant, linear, cosine, step:EVERY:FACTOR (default constant)",
    )
    parser.add_argument(
        "--warmup", type=options.positive, default=0, help="updates in which the learning rate rises"
    )
    parser.add_argument("--shuffle", action="store_true", help="mix the frames instead of keeping file order")
    parser.add_argument("--seed", type=int, default=0, help="of --shuffle and --replay (default 0)")
    parser.add_argument(
        "--source",
        type=Path,
        metavar="FRAMES",
        help="frames of the domain the network was trained on, as --data: what does it forget?",
    )
    parser.add_argument(
        "--replay", metavar="SHARE", help="of the steps, such as 1/4, that train on --source frames instead"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="store the weights in the board's flash if better on the held-out frames than those there",
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="session folder (default: sessions/...)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the session in -o from its checkpoint"
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Check everything that can be checked, then train."""
    from boards import check_port, load_board
    from ondevice.learning_rate import Schedule
    from ondevice.replay import Replay
    from ondevice.tune import TuneOptions
    from zoo.frames import open_frames

    if args.resume and args.out is None:
        raise UserError("--resume needs the session's folder; give it with -o")
    if args.port is None:
        check_port(load_board(args.board))
    network = options.load_model(args)
    frames = open_frames(args.data)
    source = None if args.source is None else open_frames(args.source)
    seed = args.seed if args.shuffle else None
    schedule = Schedule.parse(args.schedule, args.warmup)
    replay = None if args.replay is None else Replay.parse(args.replay, args.seed)
    if args.latents is not None and replay is None:
        raise UserError("--latents is how source frames are kept for --replay; give --replay SHARE as well")
    tuning = TuneOptions(
        args.steps,
        args.test,
        options.hyper(args),
        seed,
        port=args.port,
        schedule=schedule,
        replay=replay,
        keep=args.keep,
    )
    origin = {"data": str(args.data), "source": None if args.source is None else str(args.source)}
    if args.update == options.AUTO:
        tuning.check(frames, source)
        origin["searched"] = _searched(args, network, frames)
    plan = options.make_plan(args, network)
    if not plan.graph.trained:
        raise UserError("nothing would learn; name layers with --update, such as --update 'decoder0*,ups0*'")
    results = tune_in_session(network, plan, frames, tuning, args.out, origin, args.resume, source)
    print_results(results, as_json=args.json)
    return 0


def _searched(args: argparse.Namespace, network: Network, frames: Frames) -> str:
    """Put what a search finds, or what the session to resume was made with, in the place of ``auto``."""
    from ondevice.session import Session

    if args.resume:
        args.update = Session.open(args.out).config.get("searched", options.AUTO)
    else:
        found = options.search(args, network, frames)
        say(found.table())
        args.update = found.update
    return str(args.update)


def tune_in_session(
    network: Network,
    plan: Plan,
    frames: Frames,
    tuning: TuneOptions,
    out: Path | None,
    origin: dict[str, Any],
    resume: bool = False,
    source: Frames | None = None,
) -> dict[str, Any]:
    """Open or create the session's folder and tune in it; `origin` says where the data came from."""
    from ondevice.session import Session
    from ondevice.tune import tune

    tuning.check(frames, source)
    config = {
        "model": network.graph.name,
        "board": plan.board.id,
        "update": list(plan.graph.trained),
        "optimizer": plan.graph.optimizer,
        "state": sorted({tensor.dtype for tensor in plan.graph.state.values()}),
        "weights": sorted({plan.graph.learned(name).dtype for name in plan.graph.trained}),
        "latents": plan.describe()["latents"]["layer"] if plan.graph.latents else None,
        "model_hash": plan.graph.fingerprint(),
        "plan_hash": plan.hash(),
        **tuning.config(),
        **origin,
    }
    folder = out or _default_folder(network.graph.name, plan.board.id)
    versions = {"fieldtune": __version__, "python": platform.python_version(), "system": platform.platform()}
    removable = not resume and not (folder.is_dir() and any(folder.iterdir()))
    session = (
        Session.resume(folder, config) if resume else Session.create(folder, {**config, "versions": versions})
    )
    say(f"session {folder}")
    with _ends_in_a_sentence(folder, removable), session:
        return tune(network, plan, frames, session, tuning, source)


def _default_folder(model: str, board: str) -> Path:
    return Path("sessions") / f"{model}-{board}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


@contextlib.contextmanager
def _ends_in_a_sentence(folder: Path, removable: bool) -> Iterator[None]:
    """Say how a session that was stopped goes on; remove one that learned nothing, if `removable`."""
    from ondevice.session import Session, remove_session

    again = f"continue with the same command, -o {folder} and --resume"
    try:
        yield
    except (FieldtuneError, KeyboardInterrupt) as error:
        begun = Session.open(folder).curve().step.size > 0
        if removable and not begun and not _has_compiler_messages(folder / "firmware" / "build"):
            remove_session(folder)
        if isinstance(error, KeyboardInterrupt):
            how = again if folder.exists() else "start it again"
            raise UserError(f"stopped by Ctrl-C; {how}") from error
        if begun and isinstance(error, LinkError | BoardError):
            say(again)
        raise


def _has_compiler_messages(build: Path) -> bool:
    return (build / "compiler.log").exists() and not (build / "firmware.elf").exists()


def print_results(results: dict[str, Any], *, as_json: bool) -> None:
    """Print what a session came to."""
    if as_json:
        print(json.dumps(results, indent=1))
        return
    print_outputs(results["outputs"])
    if "source" in results:
        print_outputs(results["source"]["outputs"], " on the source domain")
    if "kept" in results:
        print(_kept(results["kept"]))
    print(f"{results['steps']} steps in {results['seconds']:.1f} s; report: {results['report']}")


def _kept(kept: dict[str, Any]) -> str:
    """Return what became of the weights in the board's flash."""
    if kept["before"] is None:
        return f"kept in the board's flash as save {kept['sequence']}; no frames were held out to compare"
    losses = f"mean loss on held-out frames {kept['after']:.4g}, before {kept['before']:.4g}"
    if kept["saved"]:
        return f"kept in the board's flash as save {kept['sequence']}: {losses}"
    back = f"save {kept['sequence']}" if kept["sequence"] else "the initial weights"
    return f"not kept, the board is back at {back}: {losses}"


def print_outputs(outputs: dict[str, Any], where: str = "") -> None:
    """Print the metrics of each output, before and after and of the baselines."""
    for output, found in outputs.items():
        same = ", bit for bit as before" if found.get("unchanged") else ""
        print(f"{output}{where}{same}:")
        rows = {"untuned": found["before"], "tuned": found["after"], **found.get("baselines", {})}
        for name, metrics in rows.items():
            values = (f"{key} {'-' if value is None else f'{value:.3f}'}" for key, value in metrics.items())
            print(f"  {name.replace('_', ' '):<12} {'  '.join(values)}")

"""Fine-tune a network on your own frames: what ``fieldtune tune`` does, from Python.

    python examples/fine_tune_on_my_folder.py net.onnx my_frames.npz --update 'decoder0*,ups0*' -o my_session

The frames are a .npz, an IDSIA-µMDE csv folder or a TUM RGB-D folder (docs/your_data.md); the last tenth of
them is held out to judge by. The folder my_session gets weights, curve, every sample and report.html.
"""

import argparse
from pathlib import Path

from boards import load_board
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.device import Hyper
from ondevice.session import Session
from ondevice.tune import TuneOptions, tune
from zoo.frames import open_frames


def main() -> None:
    """Plan, train on the board, print how good it was and is."""
    args = arguments()
    network = load_network(args.model)
    plan = plan_network(network, load_board(args.board), parse_update(args.update))
    print(f"{plan.board.name}: {plan.ram_bytes:,} bytes of RAM, {len(plan.graph.trained)} tensors learn")

    frames = open_frames(args.frames)
    held_out = max(1, len(frames) // 10)
    options = TuneOptions(steps=args.steps or len(frames) - held_out, test=held_out, hyper=Hyper(lr=args.lr))
    # The configuration is yours: what it holds must be the same again when the session is resumed.
    config = {
        "model": str(args.model),
        "data": str(args.frames),
        "plan_hash": plan.hash(),
        **options.config(),
    }
    with Session.create(args.out, config) as session:
        results = tune(network, plan, frames, session, options)

    for name, value in results["after"].items():
        print(f"{name}: {results['before'][name]:.3f} -> {value:.3f}")
    print(f"report: {results['report']}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Fine-tune a network on your own frames.")
    parser.add_argument("model", type=Path, help="an ONNX file with its task (docs/your_model.md)")
    parser.add_argument("frames", type=Path, help="your data (docs/your_data.md)")
    parser.add_argument("--update", required=True, help="names or globs of the layers that learn")
    parser.add_argument("--board", default="native", help="a name that 'fieldtune boards' lists")
    parser.add_argument("--steps", type=int, help="training steps (default: each training frame once)")
    parser.add_argument("--lr", type=float, default=0.05, help="learning rate")
    parser.add_argument("-o", "--out", type=Path, required=True, help="a new folder for the session")
    return parser.parse_args()


if __name__ == "__main__":
    main()

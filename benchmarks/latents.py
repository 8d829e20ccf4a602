"""What a training step takes that starts from latents instead of a frame, on emulated boards.

    python benchmarks/latents.py MODEL --update LAYERS --latents LAYER [--boards mps2_an500,...] [--ram SIZE]

One row for each board: instructions of both steps, static RAM with latents in the plan and without, and bytes
of a frame and of its latents.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from boards import load_board
from fieldtune.console import set_verbosity
from fieldtune.sizes import parse_size
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import profile

BOARDS = ("mps2_an500", "mps3_an547")


def row(network: Network, board: str, update: str, latents: str, ram: int | None) -> str:
    """Measure both steps on one board."""
    chosen = load_board(board), parse_update(update), ram
    without = plan_network(network, *chosen)
    plan = plan_network(network, *chosen, latents=latents)
    counted = profile(plan)
    left_out = sum(layer.count - counted.call for layer in counted.layers[: plan.graph.latent_ops])
    rest, sizes = counted.total - left_out, plan.describe()["latents"]
    return (
        f"{board:<14} {counted.total / 1e6:8.2f} M on a frame of {sizes['frame_bytes']:,} B, "
        f"{rest / 1e6:8.2f} M ({rest / counted.total:.0%}) from latents of {sizes['bytes']:,} B; "
        f"RAM {plan.ram_bytes:,} B, without latents {without.ram_bytes:,} B"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--update", required=True, metavar="LAYERS")
    parser.add_argument("--latents", required=True, metavar="LAYER")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--ram", type=parse_size, help="static RAM that a plan may take")
    args = parser.parse_args()
    set_verbosity(-1)
    network = load_network(args.model)
    for board in args.boards.split(","):
        print(row(network, board, args.update, args.latents, args.ram), flush=True)


if __name__ == "__main__":
    main()

"""How near the estimate of a step's instructions (`fieldtune plan`) is to what QEMU counts.

    python benchmarks/step_time.py MODEL ... [--update LAYERS] [--boards mps2_an500,...]

One row for each model and board: an inference, or with --update a training step of what it names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from boards import load_board
from fieldtune.console import set_verbosity
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import profile

BOARDS = ("mps2_an500", "mps3_an547", "qemu_riscv32")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare estimated and counted instructions.")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--update", metavar="LAYERS")
    parser.add_argument("--boards", default=",".join(BOARDS))
    args = parser.parse_args()
    set_verbosity(-1)
    for model in args.models:
        for board in args.boards.split(","):
            plan = plan_network(load_network(model), load_board(board), parse_update(args.update))
            counted = profile(plan).total
            off = plan.instructions / counted - 1
            print(
                f"{model.stem:<24} {board:<14} estimate {plan.instructions / 1e6:9.2f} M  "
                f"counted {counted / 1e6:9.2f} M  {off:+.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()

"""µPyD-Net on real frames: what each of the 15 combinations of its four blocks takes and comes to.

    python benchmarks/block_combinations.py MODEL.onnx FRAMES.npz [--weights bf16] [--only e+d0,d1]

The blocks are those of the network's authors: the encoder, and each decoder with the transposed convolution
behind it. For each combination: static RAM on the board with whole layers, and the least that the planner
finds; RMSE [m], abs_rel and delta1 of one run of `fieldtune tune` on `native`, as in real_frames.py. Prints a
table in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import re
import subprocess
import tempfile
from pathlib import Path

from real_frames import METRICS, learned

from boards import Board, load_board
from fieldtune.errors import DoesNotFitError, UserError
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import UpdatePlan, parse_update

BLOCKS = {"e": "encoder*", "d0": "decoder0*,ups0*", "d1": "decoder1*,ups1*", "d2": "decoder2*"}
COMBINATIONS = [some for count in (1, 2, 3, 4) for some in itertools.combinations(BLOCKS, count)]
ENDLESS = 1 << 30  # bytes


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--board", default="mps2_an500", help="whose memory is planned")
    parser.add_argument("--only", help="some combinations, such as d0,e+d0")
    parser.add_argument("--weights", choices=("f32", "bf16"), default="f32", help="as in tune")
    args = parser.parse_args()
    network, board = load_network(args.model), load_board(args.board)
    wanted = args.only.split(",") if args.only else ["+".join(some) for some in COMBINATIONS]
    print("| learns | RAM, whole layers | RAM, the least | RMSE [m] | abs. rel. | δ1 |")
    print("|---|---|---|---|---|---|")
    for name in wanted:
        update = ",".join(BLOCKS[block] for block in name.split("+"))
        whole, least = ram(network, board, parse_update(update, weights=args.weights))
        metrics = tuned(args.model, args.data, update, args.weights)
        print(f"| {name} | {whole:,} B | {least:,} B | {metrics} |", flush=True)


def ram(network: Network, board: Board, update: UpdatePlan) -> tuple[int, int]:
    """Return the static RAM with whole layers, and the least that the planner finds."""
    regions = tuple(dataclasses.replace(region, bytes=ENDLESS) for region in board.regions)
    whole = plan_network(network, dataclasses.replace(board, regions=regions), update).ram_bytes
    try:
        return whole, plan_network(network, board, update, ram=1).ram_bytes
    except DoesNotFitError as refused:  # and says what it found
        found = re.search(r"needs ([\d,]+) B", str(refused))
        assert found
        return whole, int(found[1].replace(",", ""))


def tuned(model: Path, data: Path, update: str, weights: str) -> str:
    """Return the metrics after one run, as cells of the table."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            options = ["--board", "native", "--update", update, "--weights", weights]
            found = learned("tune", model, data, options, Path(folder) / "session")
        except subprocess.CalledProcessError as failed:
            if failed.returncode != UserError.exit_code:
                raise
            return "diverges | – | –"
    return " | ".join(f"{found['after'][key]:.3f}" for key in METRICS)


if __name__ == "__main__":
    main()

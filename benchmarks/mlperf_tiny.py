"""Whole networks on emulated boards: instructions, RAM, flash, stack of one inference.

    python benchmarks/mlperf_tiny.py MODEL.tflite ... [--boards mps2_an386,...] [--prefer speed] [--ram 24K]

Meant for the quantized reference networks of MLPerf Tiny (github.com/mlcommons/tiny: kws_ref_model.tflite,
pretrainedResnet_quant.tflite, ad01_int8.tflite, vww_96_int8.tflite); any network that `fieldtune profile`
takes will do. All layers count, and so do taps in the padding.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from boards import load_board
from fieldtune.console import set_verbosity
from fieldtune.sizes import parse_size
from firmware_gen.operators.base import Prefer
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import profile

BOARDS = ("mps2_an386", "qemu_riscv32")


def measure(model: Path, board: str, prefer: Prefer, ram: int | None) -> dict[str, Any]:
    """Return one row: what an inference takes."""
    network, update = load_network(model), parse_update(None)
    found = profile(plan_network(network, load_board(board), update, ram, prefer))
    macs = sum(layer.macs for layer in found.layers)
    described = found.describe()
    sizes = {key: described[key] for key in ("ram_bytes", "flash_bytes", "stack_bytes")}
    return {
        "model": model.stem,
        "board": board,
        "unit": found.unit,
        "total": found.total,
        "macs": macs,
        **sizes,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Count the instructions of whole networks.")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL")
    parser.add_argument("--boards", default=",".join(BOARDS))
    parser.add_argument("--prefer", choices=("flash", "speed"), default="flash")
    parser.add_argument(
        "--ram", type=parse_size, help="static RAM that a plan may take; less lets layers run in bands"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_verbosity(-1)
    rows = []
    for model in args.models:
        for board in args.boards.split(","):
            row = measure(model, board, args.prefer, args.ram)
            rows.append(row)
            if not args.json:
                print(
                    f"{row['model']:<24} {board:<14} {row['total']:>13,} {row['unit']}  "
                    f"{row['total'] / max(row['macs'], 1):6.3f} a MAC  RAM {row['ram_bytes']:>7,}  "
                    f"flash {row['flash_bytes']:>8,}  stack {row['stack_bytes']:>5,}",
                    flush=True,
                )
    if args.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

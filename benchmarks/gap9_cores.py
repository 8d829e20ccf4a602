"""What the nine cores of a cluster take, instruction for instruction, beside the cycle model.

    python benchmarks/gap9_cores.py MODEL.onnx [--update 'decoder0*'] [--weights bf16] [--products f16]
        [--ram 248K] [--l1 128K] [--json]

The program for RISC-V of board pulp_open runs on ten cores of tools/xpulp_iss/pulp_open.c, where each core
executes one instruction in each round. Rounds are cycles of a machine that never waits: for memory, for a
branch, for another core at the same bank. What the cores wait for each other and for the DMA (46 rounds a
command, a round for 8 bytes) is in them. GVSOC on the PATH gives cycles: fieldtune profile --board pulp_open.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from boards import load_board
from fieldtune.sizes import parse_size
from firmware_gen.cluster.cycles import instruction_cycles
from firmware_gen.cluster.summary import summarize
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.profile import Profile, profile

sys.path.insert(0, str(Path(__file__).parents[1] / "tools" / "xpulp_iss"))

import simulator

ROUNDS_A_NS = 0.37  # the board counts at 370 MHz


def arguments() -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--update")
    parser.add_argument("--weights", default="f32", choices=("f32", "bf16", "int8"))
    parser.add_argument("--products", default="f32", choices=("f32", "f16"))
    parser.add_argument("--ram", type=parse_size)
    parser.add_argument("--l1", type=parse_size, default=parse_size("128K"))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def planned(args: argparse.Namespace) -> Plan:
    """Return the plan for pulp_open with that much L1."""
    board = load_board("pulp_open")
    assert board.cluster is not None
    cluster = dataclasses.replace(board.cluster, l1_bytes=args.l1)
    board = dataclasses.replace(board, cluster=cluster)
    update = parse_update(args.update, weights=args.weights, products=args.products)
    return plan_network(load_network(args.model), board, update, ram=args.ram)


def counted(plan: Plan, l1_bytes: int) -> Profile:
    """Return what an inference, or a step if something learns, takes on our machine."""
    with tempfile.TemporaryDirectory() as folder:
        simulator.stand_in_for_gvsoc(Path(folder), l1_bytes)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        return profile(plan)


def rows(plan: Plan, found: Profile) -> Iterator[dict[str, Any]]:
    """Yield a row for each layer that runs on the cores, in the order of the plan."""
    waiting = list(summarize(plan).layers)
    for layer in found.layers:
        if not waiting or (waiting[0].name, waiting[0].kind) != (layer.name, layer.op):
            continue  # what the cores have nothing to do for
        known = waiting.pop(0)
        if known.tiling.cycles is None:
            continue
        rounds = layer.count * ROUNDS_A_NS
        yield {
            "name": layer.name,
            "op": layer.op,
            "macs": layer.macs,
            "cores": known.tiling.share.cores,
            "tiles": sum(map(len, known.tiling.tiles)),
            "rounds": round(rounds),
            "rounds_a_mac": rounds * known.tiling.share.cores / layer.macs if layer.macs else None,
            "cycles_estimate": round(known.tiling.cycles.value),
        }


def main() -> None:
    """Count, and print a line for each layer."""
    args = arguments()
    plan = planned(args)
    found = counted(plan, args.l1)
    table = list(rows(plan, found))
    rounds = found.total * ROUNDS_A_NS
    times = summarize(plan).times
    assert times is not None
    estimate = times.cycles
    if args.json:
        json.dump({"rounds": rounds, "cycles_estimate": estimate.value, "layers": table}, sys.stdout)
        return
    print(
        f"{'layer':24}{'operator':20}{'MACs':>12}{'tiles':>6}{'rounds':>11}{'x cores/MAC':>12}{'cycles':>11}"
    )
    for row in table:
        each = "" if row["rounds_a_mac"] is None else f"{row['rounds_a_mac']:.3f}"
        print(
            f"{row['name']:24}{row['op']:20}{row['macs']:12,}{row['tiles']:6}{row['rounds']:11,}{each:>12}"
            f"{row['cycles_estimate']:11,}"
        )
    print(f"rounds {rounds:,.0f}; cycles by the model {estimate}")
    for arithmetic in ("integer", "float"):
        cycles = instruction_cycles(arithmetic) * rounds
        print(f"rounds x {instruction_cycles(arithmetic):.3f} ({arithmetic}s): {cycles:,.0f} cycles")


if __name__ == "__main__":
    main()

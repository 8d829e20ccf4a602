"""How near the planner's heuristics are to the best arena that OR-Tools' CP-SAT finds and proves.

    pip install '.[planner]'
    python benchmarks/planner.py [--count 100]                            # random problems
    python benchmarks/planner.py MODEL ... [--update LAYERS] [--ram SIZE] # the schedules of networks

Random problems: buffers with random sizes and lifetimes, which are placed; networks of layers that read one
or two tensors each, which are ordered and placed. Of a network's schedule all buffers are placed again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boards import load_board
from fieldtune.console import set_verbosity
from fieldtune.sizes import parse_size
from firmware_gen.arena import Buffer, extent, peak_bytes, place
from firmware_gen.exact import Exact, exact_order, exact_placement
from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.order import least_alive
from firmware_gen.project import load_network, plan_network
from firmware_gen.schedule import whole_layers
from firmware_gen.storage import choose_storage
from firmware_gen.update import parse_update

BOARD = "mps2_an500"


def drawn_buffers(rng: random.Random, count: int) -> list[Buffer]:
    """Return buffers of which most live for some steps, a few for many."""
    buffers = []
    for index in range(count):
        first = rng.randrange(-1, count)
        last = min(count, first + (rng.randrange(count) if rng.random() < 0.2 else rng.randrange(1, 5)))
        buffers.append(Buffer(f"b{index}", 16 * rng.randrange(1, 200), first, last))
    return buffers


def drawn_graph(rng: random.Random, count: int) -> Graph:
    """Return a network of `count` layers, each of which reads one or two tensors."""
    names, ops = ["x"], []
    for index in range(count):
        inputs = rng.sample(names, min(len(names), rng.randrange(1, 3)))
        ops.append(Op("conv2d", f"layer{index}", tuple(inputs), (f"t{index}",)))
        names.append(f"t{index}")
    read = {name for op in ops for name in op.inputs}
    tensors = {name: Tensor(name, (1, rng.randrange(1, 100), 16), "i8") for name in names}
    outputs = tuple(name for name in names if name not in read)
    return Graph("drawn", tuple(ops), tensors, {}, ("x",), outputs)


def placed(rng: random.Random, count: int) -> tuple[int, Exact]:
    """Return what the heuristic and the solver need for random buffers."""
    buffers = drawn_buffers(rng, count)
    return extent(buffers, place(buffers)), exact_placement(buffers)


def ordered(rng: random.Random, count: int) -> tuple[int, Exact]:
    """Return what the heuristics and the solver need for a random network."""
    graph = drawn_graph(rng, count)
    buffers = choose_storage(whole_layers(least_alive(graph))).buffers
    return extent(buffers, place(buffers)), exact_order(graph)


PROBLEMS: dict[str, Callable[[random.Random, int], tuple[int, Exact]]] = {
    "placement": placed,
    "order": ordered,
}
SIZES = (("placement", 10), ("placement", 20), ("placement", 40), ("order", 6), ("order", 9), ("order", 12))


def random_row(what: str, size: int, count: int) -> dict[str, Any]:
    """Return how far the heuristic is above the solver over `count` problems."""
    found = [PROBLEMS[what](random.Random(f"{what} {size} {seed}"), size) for seed in range(count)]
    above = [heuristic / exact.bytes - 1 for heuristic, exact in found if exact.proven]
    return {
        "problem": what,
        "size": size,
        "count": count,
        "proven": len(above),
        "optimal": above.count(0.0),
        "mean_above": sum(above) / max(len(above), 1),
        "most_above": max(above, default=0.0),
    }


def network_row(model: Path, update: str | None, ram: int | None) -> dict[str, Any]:
    """Return how the arena of a network's schedule compares with the smallest for its buffers."""
    plan = plan_network(load_network(model), load_board(BOARD), parse_update(update), ram)
    exact = exact_placement(plan.buffers)
    return {
        "model": model.stem,
        "buffers": len(plan.buffers),
        "alive": peak_bytes(plan.buffers),
        "arena": plan.arena_bytes,
        "exact": exact.bytes,
        "proven": exact.proven,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Compare the planner with an exact solver.")
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL")
    parser.add_argument("--update", metavar="LAYERS")
    parser.add_argument("--ram", type=parse_size)
    parser.add_argument("--count", type=int, default=100, help="random problems of each size (default 100)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    set_verbosity(-1)
    rows = [network_row(model, args.update, args.ram) for model in args.models] or [
        random_row(what, size, args.count) for what, size in SIZES
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(
                "  ".join(
                    f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in row.items()
                )
            )


if __name__ == "__main__":
    main()

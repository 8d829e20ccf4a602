"""What `fieldtune search` finds, beside as many candidates that were only drawn.

    python benchmarks/search_precision.py [--model FILE.onnx] [--rooms 48] [--trials 40] [--seeds 1]

Renders rooms, of which the last tenth is the test, as benchmarks/pruning.py does. For every seed and kind it
searches for what takes no more instructions and flash than the network in int8: with a predictor after the
first candidates; with random draws alone; with all layers in int8 ("int8"). Prints one JSON line a search.
Then a table: the loss of the output that loses most, on the held-out frames, as a share of the network's as
given, of the best candidate that takes at most a share of the instructions and of the flash of the network in
int8; mean and range over the seeds; and the rank correlation of predicted and measured losses.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pruning import FIRST_ROOM, PACKAGE, fieldtune, room

from zoo import scenes
from zoo.loaders.npz import write_npz

SHARES = (1.0, 0.9, 0.8, 0.7, 0.6)
KINDS = {
    "search": (),
    "random": ("--first", "{trials}"),
    "int8": ("--types", "int8"),
}


def best(found: Mapping[str, Any], whole: Mapping[str, float], share: float) -> float:
    """Return the least loss within a share of what the whole network takes in int8; infinite if none does."""
    return min(
        (
            trial["worst"]
            for trial in found["trials"]
            if all(trial["costs"][metric] <= share * whole[metric] for metric in ("instructions", "flash"))
        ),
        default=np.inf,
    )


def table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the losses by share, a row a kind of search."""
    whole = next(iter(found.values()))[0]["references"]["int8"]["costs"]
    lines = [" | ".join(["", *(f"{share:.0%}" for share in SHARES), "rank correlation"])]
    for kind, runs in found.items():
        cells = [_spread([best(run, whole, share) for run in runs]) for share in SHARES]
        ranks = [run["rank_correlation"] for run in runs if run["rank_correlation"] is not None]
        cells.append(f"{np.mean(ranks):.2f}" if ranks else "-")
        lines.append(" | ".join([kind, *cells]))
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    if not np.isfinite(values).all():
        return "-"
    if len(values) == 1:
        return f"{values[0]:.1%}"
    return f"{np.mean(values):.1%} ({min(values):.1%} – {max(values):.1%})"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=PACKAGE / "zoo/weights/multitask_rendered.onnx")
    parser.add_argument("--board", default="mps2_an386")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--rooms", type=int, default=48)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--first", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--max-drop", default="300%")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in args.kinds.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "frames.npz"
        frames = [frame for k in range(args.rooms) for frame in room(FIRST_ROOM + k)]
        write_npz(data, frames, scenes.sensor.GEOMETRY)
        words = ["--data", data, "--test", len(frames) // 10, "--board", args.board, "--jobs", args.jobs]
        words += ["--trials", args.trials, "--first", args.first, "--epochs", args.epochs]
        words += ["--max-drop", args.max_drop, "--keep-instructions", "100%", "--keep-flash", "100%"]
        for seed in range(args.seeds):
            for kind in found:
                begun = time.monotonic()
                out = Path(folder) / f"{kind}{seed}"
                given = [word.format(trials=args.trials) for word in KINDS[kind]]
                run = fieldtune("search", args.model.resolve(), *words, "--seed", seed, *given, "-o", out)
                found[kind].append(run)
                line = {"kind": kind, "seed": seed, "seconds": round(time.monotonic() - begun)}
                line |= {key: run[key] for key in ("rank_correlation", "predicted", "references")}
                line |= {"trials": [[each["worst"], each["costs"]] for each in run["trials"]]}
                line |= {"points": [[each["worst"], each["costs"], each["scores"]] for each in run["points"]]}
                print(json.dumps(line), flush=True)
    print(table(found))


if __name__ == "__main__":
    main()

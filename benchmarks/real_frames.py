"""Fine-tuning on real frames: mean and spread over runs from weights perturbed by 1e-6.

    python benchmarks/real_frames.py MODEL.onnx FRAMES.npz [--runs 5] [--board native] [--alone] [OPTIONS]

Training this network is chaotic, so one run says little; the first run is unperturbed. Each run is the
command `fieldtune tune` with --json: decoder0 and ups0 learn at 0.05, unless its options say otherwise. With
--alone it is `fieldtune alone`: five rounds of 50 frames, which the board takes and judges by itself.
Prints RMSE [m], abs_rel and delta1 on the held-out frames of every run, their mean, and the baselines.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

METRICS = ("rmse", "abs_rel", "delta1")
LEARNS = (".weight", ".bias", ".weight.scale")
HELD_OUT = ("--lr", "0.05", "--test", "100")
RECIPES = {
    "tune": ("--steps", "250", *HELD_OUT, "-q"),
    "alone": ("--buffer", "50", "--rounds", "5", *HELD_OUT, "-q"),
}


def perturbed(model: Path, update: str, seed: int, out: Path) -> Path:
    """Write `model` with its trained weights multiplied by 1 + 1e-6 n, n standard normal; seed 0: as is.

    The same is done to the scales of int8 weights.
    """
    proto = onnx.load(model)
    rng = np.random.default_rng(seed)
    for initializer in proto.graph.initializer:
        name = initializer.name
        value = numpy_helper.to_array(initializer)
        trained = any(_learns(name, pattern.split(":")[0]) for pattern in update.split(","))
        if seed and trained and value.dtype == np.float32 and name.endswith(LEARNS):
            noisy = value * (1 + 1e-6 * rng.standard_normal(value.shape)).astype(np.float32)
            initializer.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), name))
    onnx.save(proto, out)
    return out


def _learns(constant: str, pattern: str) -> bool:
    """Tell whether `pattern` of ``--update`` names the constant or its layer, or part of it."""
    layer = constant.removesuffix(".scale").rpartition(".")[0]
    return fnmatch.fnmatchcase(constant, pattern) or fnmatch.fnmatchcase(layer, pattern)


def learned(way: str, model: Path, data: Path, options: list[str], out: Path) -> dict[str, Any]:
    """Run ``fieldtune tune`` or ``alone`` and return its JSON; `options` replace those of the recipe."""
    command = [sys.executable, "-m", "fieldtune", way, str(model), "--data", str(data), *RECIPES[way]]
    result = subprocess.run(
        [*command, *options, "--json", "-o", str(out)], stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found.get("judged", found)  # alone: the board's own losses are beside it


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--board", default="native")
    parser.add_argument("--update", default="decoder0*,ups0*")
    parser.add_argument("--alone", action="store_true", help="the board learns without a host")
    args, options = parser.parse_known_args()
    options = ["--board", args.board, "--update", args.update, *options]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.runs):
            model = perturbed(args.model, args.update, seed, Path(folder) / f"run{seed}.onnx")
            session = Path(folder) / f"session{seed}"
            results = learned("alone" if args.alone else "tune", model, args.data, options, session)
            rows.append([results["after"][key] for key in METRICS])
            if seed == 0:
                for name, metrics in {"untuned": results["before"], **results["baselines"]}.items():
                    show(name, [metrics[key] for key in METRICS])
            show(f"run {seed}", rows[-1])
    table = np.array(rows)
    show("mean", table.mean(0).tolist())
    print(f"RMSE from {table[:, 0].min():.3f} to {table[:, 0].max():.3f} m over {args.runs} runs")


def show(name: str, values: list[float]) -> None:
    """Print one line of the table."""
    rmse, abs_rel, delta1 = values
    print(f"{name:<12} RMSE {rmse:.3f} m  abs_rel {abs_rel:.3f}  delta1 {delta1:.3f}", flush=True)


if __name__ == "__main__":
    main()

"""µPyD-Net in int8 on real frames: how far from float, and what training brings.

    python benchmarks/quantize_upydnet.py CHECKPOINT.pth FRAMES.npz [--epochs 5]

Runs `fieldtune quantize` on every 7th of the frames before the last 100 (36 of 250) and judges the written
files on the last 100 with ONNX Runtime: RMS difference to the float network as a share of the float output's
range (max - min), and RMSE of depth [m] against the true depth. Prints one line a variant.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from zoo.export import UPYDNET_TASK, export_onnx, load_zoo
from zoo.frames import Frames, open_frames
from zoo.metrics import depth_metrics, to_depth
from zoo.prepare import network_input, true_depth

TEST = 100
SAMPLES = 36
SIZE = 48


def predictions(model: Path, frames: Frames) -> NDArray[np.float32]:
    """Return the disparity that a file gives, (n, h, w)."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    images = (network_input(frame, SIZE, SIZE).transpose(2, 0, 1)[None] for frame in frames)
    found = [session.run(None, {"image": (image / 255).astype(np.float32)})[0][0, 0] for image in images]
    return np.stack(found)


def quantize(model: Path, data: Path, out: Path, words: list[str]) -> dict[str, Any]:
    """Run ``fieldtune quantize`` and return its JSON."""
    command = [sys.executable, "-m", "fieldtune", "quantize", str(model), "--data", str(data), "-o", str(out)]
    command += ["--test", str(TEST), "--samples", str(SAMPLES), "--json", "-q", *words]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    variants = {
        "NNCF": [],
        "NNCF, decoder0 + ups0 float": ["--keep-float", "decoder0*,ups0*"],
        "ONNX Runtime": ["--backend", "onnxruntime"],
        f"NNCF, {args.epochs} epochs": ["--epochs", str(args.epochs)],
    }
    frames = open_frames(args.data)[-TEST:]
    truth = np.stack([true_depth(frame, SIZE, SIZE) for frame in frames])
    spec = UPYDNET_TASK.outputs[0]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "float.onnx"
        module, task, shape = load_zoo("upydnet", args.checkpoint)
        export_onnx(module, task, shape, model)
        exact = predictions(model, frames)
        spread = exact.max() - exact.min()
        print(f"float: output from {exact.min():.2f} to {exact.max():.2f}")
        for name, words in variants.items():
            start = time.monotonic()
            report = quantize(model, args.data, Path(folder) / "int8.onnx", words)
            seconds = time.monotonic() - start
            found = predictions(Path(folder) / "int8.onnx", frames)
            share = np.sqrt(np.square(found - exact).mean()) / spread
            rmse = depth_metrics(to_depth(found, spec), truth).rmse
            line = f"{name:<28} calibration frames {report['calibration']}, difference {share:.2%}"
            if report["loss"]:
                line += ", loss {before:.4f} -> {after:.4f}".format(**report["loss"])
            print(f"{line}, RMSE {rmse:.3f} m, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""``fieldtune quantize MODEL --data D -o OUT``: a float network becomes an int8 ONNX file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from quantize.pipeline import Result

NAME = "quantize"
HELP = "turn a float network into an int8 ONNX file, calibrated and trained on your frames"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune quantize``."""
    options.add_float_model(parser)
    parser.add_argument("--data", type=Path, required=True, help="the frames (docs/your_data.md)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument(
        "--samples", type=options.positive, default=300, help="frames to calibrate with, at most (300)"
    )
    parser.add_argument(
        "--test", type=int, default=0, metavar="N", help="the last N frames only judge the result (0)"
    )
    parser.add_argument(
        "--keep-float", metavar="LAYERS", help="names or globs of what stays float, such as 'decoder0*,ups0*'"
    )
    parser.add_argument(
        "--update",
        metavar="LAYERS",
        help="int8 layers that will learn on the device, as tune has them: their weights keep their size",
    )
    parser.add_argument(
        "--backend",
        choices=("nncf", "onnxruntime"),
        default="nncf",
        help="what finds the ranges (nncf); onnxruntime needs no torch, but cannot train",
    )
    training = parser.add_argument_group("quantization-aware training")
    training.add_argument("--epochs", type=int, default=0, help="rounds over all frames but the test's (0)")
    training.add_argument("--lr", type=options.not_negative, default=1e-4, help="Adam's learning rate (1e-4)")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Quantize, write, report."""
    from fieldtune.files import replacing
    from quantize.pipeline import Options, quantize_network
    from zoo.frames import open_frames

    for name in ("test", "epochs"):
        if getattr(args, name) < 0:
            raise UserError(f"--{name} {getattr(args, name)} is no number from 0 up")
    chosen = Options(
        args.backend, args.keep_float, args.update, args.samples, args.test, args.epochs, args.lr
    )
    # Opened first: that nothing can be written there must not be found after minutes of work.
    with replacing(args.out) as stream:
        result = quantize_network(options.load_float_model(args), open_frames(args.data), chosen)
        stream.write(result.model)
    _report(result, args)
    return 0


def _report(result: Result, args: argparse.Namespace) -> None:
    if args.json:
        report = asdict(result) | {"out": str(args.out), "backend": args.backend}
        del report["model"]
        if result.loss is not None:
            report["loss"] = dict(zip(("before", "after"), result.loss, strict=True))
        print(json.dumps(report, indent=1))
    width = max(len(layer.name) for layer in result.layers)
    for layer in result.layers:
        say(f"  {layer.name:<{width}}  {layer.sensitivity:8.3%}")
    frames = "test" if args.test else "calibration"
    say(f"RMS difference to float on the {frames} frames: {result.rms_error_share:.2%} of the output's range")
    if result.loss is not None:
        say(f"loss before and after training: {result.loss[0]:.4g}, {result.loss[1]:.4g}")
    say(f"wrote {args.out}: {len(result.model):,} bytes, calibrated on {result.calibration} frames")

"""``fieldtune export zoo:upydnet --weights X.pth -o X.onnx``: a checkpoint becomes a model with its task."""

import argparse
import json
from pathlib import Path

from fieldtune.console import say
from fieldtune.errors import UserError

NAME = "export"
HELP = "turn a zoo network and its checkpoint into an ONNX file that carries its task"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune export``."""
    parser.add_argument("network", help="zoo:upydnet, zoo:multitask, zoo:mcunet, zoo:ds-cnn or zoo:resnet8")
    parser.add_argument(
        "--weights", type=Path, required=True, help="its checkpoint, a state_dict saved by torch.save"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Load, export, report."""
    kind, _, name = args.network.partition(":")
    if kind != "zoo" or not name:
        raise UserError(f"'{args.network}' is no network of the zoo; write zoo:upydnet")
    from zoo.export import export_onnx, load_zoo

    module, task, input_shape = load_zoo(name, args.weights)
    export_onnx(module, task, input_shape, args.out)
    size = args.out.stat().st_size
    parameters = sum(parameter.numel() for parameter in module.parameters())
    say(f"wrote {args.out}: {name}, {parameters:,} parameters, {size:,} bytes")
    if args.json:
        print(json.dumps({"path": str(args.out), "parameters": parameters, "bytes": size}))
    return 0

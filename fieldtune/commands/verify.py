"""``fieldtune verify MODEL --board B``: does the firmware compute what the model's own runtime computes?"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.commands import options
from fieldtune.console import say
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from firmware_gen.project import Network
    from ondevice.references import Reference
    from ondevice.verify import Difference, Verification

NAME = "verify"
HELP = "compare the firmware, layer by layer, with the model's own runtime"
DIFFERS = 2
DEFAULT_COUNT = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune verify``."""
    options.add_model(parser)
    parser.add_argument("--weights", type=Path, help="checkpoint, if MODEL is zoo:NAME")
    parser.add_argument(
        "--board", default="native", help="a name that 'fieldtune boards' lists, or a board file"
    )
    options.add_prefer(parser)
    options.add_port(parser)
    parser.add_argument(
        "--inputs", type=Path, metavar="X", help=".npy or .npz arrays, or frames (default: random values)"
    )
    parser.add_argument(
        "--count", type=options.positive, help="how many inputs (default: all of --inputs, 10 random ones)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random inputs (default 0)")
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Build, run both, compare; return 0 if they agree and 2 if not."""
    from boards import load_board
    from firmware_gen.project import plan_network
    from firmware_gen.update import parse_update
    from ondevice.verify import verify
    from ondevice.verify_inputs import random_samples, read_samples
    from ondevice.workbench import open_board

    with tempfile.TemporaryDirectory(prefix="fieldtune-") as folder:
        network, reference = _load(args, Path(folder))
        plan = plan_network(network, load_board(args.board), parse_update(None), prefer=args.prefer)
        if args.inputs is None:
            samples = random_samples(plan.graph, args.count or DEFAULT_COUNT, args.seed)
        else:
            samples = read_samples(args.inputs, network, reference, args.count)
        with open_board(plan, Path(folder) / "firmware", args.port, say) as device:
            found = verify(network, plan, device, reference, samples)
    _print(found, as_json=args.json)
    return 0 if found.equal else DIFFERS


def _load(args: argparse.Namespace, folder: Path) -> tuple[Network, Reference]:
    """Return the network and what it is compared with; torch networks are exported to `folder`."""
    from firmware_gen.project import load_network
    from ondevice.references import OnnxRuntime, Torch, open_reference
    from ondevice.verify import sourced_tensors
    from zoo.export import export_onnx
    from zoo.torch_models import is_torch_model, load_torch_model

    if not is_torch_model(str(args.model)):
        if args.weights is not None:
            raise UserError(f"{args.model} has its weights inside; leave out --weights")
        network = load_network(args.model, args.task)
        return network, open_reference(args.model, sourced_tensors(network.graph))
    module, task, shape = load_torch_model(str(args.model), args.weights)
    path = folder / "exported.onnx"
    export_onnx(module, task, shape, path)
    network = load_network(path, args.task)
    exported = OnnxRuntime(path, sourced_tensors(network.graph))
    return network, Torch(module, exported, [spec.name for spec in task.outputs])


def _print(found: Verification, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.describe(), indent=1))
        return
    width = max((len(layer.name) for layer in found.layers), default=5)
    print(f"{'layer':<{width}}  {'operator':<14}  {'difference':>16}")
    for layer in found.layers:
        mark = "  <- first that differs" if layer is found.first_difference else ""
        print(f"{layer.name:<{width}}  {layer.op:<14}  {_amount(layer.difference):>16}{mark}")
    if found.banded:
        print(f"{found.banded} operators run in bands of rows, so that they cannot be compared one by one")
    print(f"{found.inputs} inputs through {found.reference} and {found.board}; layers of input {found.worst}")
    print(verdict(found))


def verdict(found: Verification) -> str:
    """Return what came out, in one sentence."""
    first = found.first_difference
    if first is not None:
        at = first.difference
        row, column, channel = at.index
        return (
            f"DIFFERENT: the first layer that differs is {first.name} ({first.op}), by {_amount(at)} at "
            f"row {row}, column {column}, channel {channel}: expected {at.expected:.9g}, got {at.got:.9g}"
        )
    if not found.equal:
        return (
            f"DIFFERENT: outputs are apart by up to {_amount(found.worst_output)}, although no layer by "
            "itself is; small differences add up on the way"
        )
    compared = (*found.outputs, *(layer.difference for layer in found.layers))
    if all(difference.max_abs_diff == 0 for difference in compared):
        return "EQUAL: every value of every layer and output"
    how = "; every layer is within a step, but steps add up" if found.mismatches else ""
    return f"EQUAL within the tolerance: outputs are apart by at most {_amount(found.worst_output)}{how}"


def _amount(difference: Difference) -> str:
    value = difference.max_abs_diff
    if not difference.integers:
        return f"{value:.3g}"
    return f"{value:.0f} step{'' if value == 1 else 's'}"

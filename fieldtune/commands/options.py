"""Options that several subcommands share."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldtune.durations import parse_duration
from fieldtune.errors import UserError
from fieldtune.sizes import parse_size

if TYPE_CHECKING:
    from firmware_gen.field import Buffer
    from firmware_gen.plan import Plan
    from firmware_gen.project import Network
    from firmware_gen.update import UpdatePlan
    from ondevice.device import Hyper
    from ondevice.search_found import Found
    from quantize.float_network import FloatNetwork
    from zoo.frames import Frames

AUTO = "auto"
LEARNING_RATES = {"sgd": 0.01, "adam": 0.001, "adamw": 0.001}
OF_ADAM = ("beta1", "beta2", "eps")


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model file and its task."""
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="the network: .onnx, .tflite, .keras or .h5"
    )
    parser.add_argument(
        "--task",
        type=Path,
        metavar="FILE",
        help="what its inputs and outputs mean (default: NAME.task.toml or the file)",
    )


def add_float_model(parser: argparse.ArgumentParser) -> None:
    """Add a float network, which may be torch's, and its task."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a float ONNX file, zoo:upydnet or path.py:function (docs/quantize.md)",
    )
    parser.add_argument("--weights", type=Path, help="the checkpoint of a zoo network")
    parser.add_argument(
        "--task",
        type=Path,
        metavar="FILE",
        help="what the inputs and outputs mean (default: NAME.task.toml or the model's own)",
    )


def add_goals(group: argparse._ArgumentGroup) -> None:
    """Add the most that a network may take on its board, and what will learn there."""
    group.add_argument(
        "--keep-ram", metavar="SIZE", help="static RAM, such as 128K, or 60%% of what it takes now"
    )
    group.add_argument("--keep-flash", metavar="SIZE", help="flash, likewise; by estimate")
    group.add_argument("--keep-instructions", metavar="N", help="of an inference: 40%%, or 33M; by estimate")
    group.add_argument(
        "--update", metavar="LAYERS", help="what will learn on the board: --keep-ram is for that firmware"
    )


def goals(args: argparse.Namespace) -> dict[str, str]:
    """Return the goals that the options name, by metric."""
    found = {name: getattr(args, f"keep_{name}") for name in ("ram", "flash", "instructions")}
    return {name: text for name, text in found.items() if text is not None}


def require(command: str, packages: Sequence[str]) -> None:
    """See that the packages of a command's extra are there, which has its name.

    Raises:
        UserError: one is not.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(f"{command} needs {package}: pip install 'fieldtune[{command}]'") from error


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Add what a memory plan depends on."""
    parser.add_argument(
        "--board", required=True, help="a name that 'fieldtune boards' lists, or a board file"
    )
    parser.add_argument(
        "--update",
        metavar="LAYERS",
        help="names or globs of what learns, such as 'decoder0*,ups0*:1/4'; plan and tune: auto chooses",
    )
    parser.add_argument(
        "--latents",
        metavar="LAYER",
        help="below all that learns: --replay keeps source frames as int8 activations there and starts there",
    )
    parser.add_argument("--ram", metavar="SIZE", help="hard limit on static RAM, such as 256K")
    parser.add_argument(
        "--time", metavar="DURATION", help="hard limit on the estimated time of a step, such as 400ms"
    )
    add_prefer(parser)
    field = parser.add_argument_group("without a host")
    field.add_argument(
        "--buffer",
        type=int,
        metavar="N",
        help="samples from its own sensors that the board keeps to learn from",
    )
    field.add_argument(
        "--geometry",
        type=Path,
        metavar="FRAMES",
        help="of the depth sensor on that board, as these frames state it (default: those of --data, if any)",
    )
    optimizer = parser.add_argument_group("optimizer")
    optimizer.add_argument(
        "--optimizer",
        choices=("sgd", "adam", "adamw"),
        default="sgd",
        help="how gradients change weights (default sgd; the others keep two moments for each weight)",
    )
    optimizer.add_argument(
        "--momentum", type=not_negative, default=0.0, help="of sgd (keeps a velocity for each weight)"
    )
    optimizer.add_argument(
        "--state",
        choices=("f32", "bf16"),
        default="f32",
        help="how velocity, first moment and gradients that wait for --clip-norm are stored (default f32)",
    )
    optimizer.add_argument(
        "--weights",
        choices=("f32", "bf16", "int8"),
        default="f32",
        help="how weights that learn are stored: f32 (default), bf16, or those of int8 layers in int8",
    )
    optimizer.add_argument(
        "--rounding",
        choices=("stochastic", "nearest"),
        default="stochastic",
        help="of weights in bf16 or int8: stochastic (default) lets small moves count, nearest drops them",
    )
    optimizer.add_argument(
        "--gradients",
        choices=("int8", "int16", "f32"),
        default="int8",
        help="type of gradients that pass through int8 layers (default int8)",
    )
    optimizer.add_argument(
        "--products",
        choices=("f32", "f16"),
        default="f32",
        help="in what float convolutions multiply: f32 (default), or binary16 for GAP9's vectors",
    )
    optimizer.add_argument(
        "--clip-norm", type=not_negative, default=0.0, help="limit of the gradient's norm (keeps gradients)"
    )
    optimizer.add_argument(
        "--accumulate", type=positive, default=1, help="samples an update (keeps gradients)"
    )


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add what ``--update auto`` looks at besides the memory."""
    parser.add_argument("--lr", type=not_negative, help="learning rate (default 0.01; adam and adamw 0.001)")
    parser.add_argument("--test", type=int, default=50, help="last frames, held out to judge by (default 50)")


def add_prefer(parser: argparse.ArgumentParser) -> None:
    """Add what the firmware saves."""
    parser.add_argument(
        "--prefer",
        choices=("flash", "speed"),
        default="flash",
        help="what to save: speed stores int8 weights expanded where that saves instructions (default flash)",
    )


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add where a real board is."""
    parser.add_argument(
        "--port",
        help="serial port of a board that runs this firmware (default: the emulator, or the one board there, "
        "which is flashed if need be)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def not_negative(text: str) -> float:
    """Return the number in `text` for argparse: from 0 up, as far as the board's float32 goes."""
    value = float(text)
    if not 0 <= value <= 3.4e38:
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 up")
    return value


def below_one(text: str) -> float:
    """Return the number in `text` for argparse: from 0 to before 1."""
    value = float(text)
    if not 0 <= value <= 1 - 2**-24:  # what lies above is 1 as the board's float32
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 to before 1")
    return value


def above_zero(text: str) -> float:
    """Return the number in `text` for argparse: above 0, as far as the board's float32 goes."""
    value = float(text)
    if not 1.2e-38 <= value <= 3.4e38:
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return value


def positive(text: str) -> int:
    """Return the whole number in `text` for argparse: from 1 up, as far as the board's uint32 goes."""
    value = int(text)
    if not 1 <= value < 1 << 32:
        raise argparse.ArgumentTypeError(f"{text} is no number from 1 up")
    return value


def load_model(args: argparse.Namespace) -> Network:
    """Read the model that the options name."""
    from firmware_gen.project import load_network

    return load_network(args.model, args.task)


def load_float_model(args: argparse.Namespace) -> FloatNetwork:
    """Read the float network that the options name."""
    from quantize.float_network import read_network
    from zoo.torch_models import is_torch_model, load_torch_model

    if not is_torch_model(args.model):
        if args.weights is not None:
            raise UserError(f"--weights is for networks of the zoo; {args.model} has its own")
        return read_network(Path(args.model), args.task)
    from zoo.export import export_onnx

    module, task, shape = load_torch_model(args.model, args.weights)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{args.model.rpartition(':')[2]}.onnx"
        export_onnx(module, task, shape, path)
        return read_network(path, args.task)


def add_mlperf(parser: argparse.ArgumentParser) -> None:
    """Add the other link."""
    parser.add_argument(
        "--mlperf",
        metavar="MODEL",
        help="speak MLPerf Tiny's serial API in place of our link, as the model of that name (kws01, ic01)",
    )


def make_plan(args: argparse.Namespace, network: Network, mlperf: str | None = None) -> Plan:
    """Plan the network as the options say; `mlperf` as for `plan_network`."""
    from boards import load_board
    from firmware_gen.project import plan_network

    if args.update == AUTO:
        raise UserError(
            "--update auto needs frames to measure on; 'fieldtune plan --update auto --data FRAMES' "
            "prints what to give to --update"
        )
    ram = None if args.ram is None else parse_size(args.ram)
    board, update = load_board(args.board), _update(args)
    return plan_network(
        network, board, update, ram, args.prefer, _seconds(args), args.latents, mlperf, _buffer(args)
    )


def hyper(args: argparse.Namespace) -> Hyper:
    """Return the hyperparameters that the options name.

    Raises:
        UserError: one belongs to another optimizer.
    """
    from ondevice.device import Hyper

    given: dict[str, float] = {
        name: value for name in OF_ADAM if (value := getattr(args, name, None)) is not None
    }
    if given and args.optimizer == "sgd":
        raise UserError(f"--{next(iter(given))} is for adam and adamw; leave it out or give --optimizer adam")
    lr = LEARNING_RATES[args.optimizer] if args.lr is None else args.lr
    chosen = Hyper(lr, args.momentum, args.weight_decay, args.clip_norm, args.accumulate)
    return dataclasses.replace(chosen, **given)  # type: ignore[arg-type]


def _buffer(args: argparse.Namespace) -> Buffer | None:
    from firmware_gen.field import Buffer
    from zoo.frames import open_frames

    if args.buffer is None:
        if args.geometry is not None:
            raise UserError("--geometry is for the labels that the board makes itself; give --buffer as well")
        return None
    stated = args.geometry or getattr(args, "data", None)
    return Buffer(args.buffer) if stated is None else Buffer(args.buffer, open_frames(stated).geometry)


def search(args: argparse.Namespace, network: Network, frames: Frames) -> Found:
    """Search what ``--update auto`` stands for, measured on the `frames` that are not held out."""
    from boards import load_board
    from ondevice.search import search_update
    from ondevice.search_costs import Limits

    if args.weights == "int8":
        raise UserError(
            "--update auto searches for layers that learn as floats; leave out --weights, and give what it "
            "finds to --update together with --weights int8"
        )
    board = load_board(args.board)
    ram = None if args.ram is None else parse_size(args.ram)
    limits = Limits.of(board, ram, _seconds(args))
    training = frames[: len(frames) - args.test]
    # The search learns by plain gradient descent; a rate that suits Adam says nothing of it.
    lr = 0.01 if args.lr is None or args.optimizer != "sgd" else args.lr
    return search_update(network, board, training, _update(args), limits, lr=lr, prefer=args.prefer)


def _seconds(args: argparse.Namespace) -> float | None:
    return None if args.time is None else parse_duration(args.time)


def _update(args: argparse.Namespace) -> UpdatePlan:
    from firmware_gen.update import parse_update

    if args.optimizer != "sgd" and args.momentum > 0:
        raise UserError(f"--momentum is for sgd; --optimizer {args.optimizer} has beta1 in its place")
    stores = args.optimizer != "sgd" or args.momentum > 0 or (args.clip_norm > 0 and args.accumulate == 1)
    if not stores and args.state != "f32":
        raise UserError(
            "--state is how a velocity is stored, or gradients that wait for --clip-norm, but this sgd has "
            "neither; add --momentum or --clip-norm"
        )
    if args.rounding != "stochastic" and args.weights == "f32":
        raise UserError("--rounding is for weights in bf16 or int8; add --weights bf16 or int8")
    return parse_update(
        args.update,
        momentum=args.momentum > 0,
        keep_gradients=args.accumulate > 1,
        clip_norm=args.clip_norm > 0,
        optimizer=args.optimizer,
        state=args.state,
        weights=args.weights,
        rounding=args.rounding,
        gradients=args.gradients,
        products=args.products,
    )

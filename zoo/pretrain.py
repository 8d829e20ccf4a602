"""Train a network of the zoo on rendered frames.

    python -m zoo.pretrain upydnet --out upydnet.onnx
    python -m zoo.pretrain multitask --out multitask.onnx
    python -m zoo.pretrain multitask --heads disparity,steer --width 0.5 --flat 1 --out half.pth

A name that ends in .pth gets the ``state_dict`` for ``zoo:NAME --weights``, any other the exported network.
The same arguments on the same machine give the same file.

µPyD-Net sees streets, halls, corridors and lofts, but no rooms, which the demo fine-tunes to. The others see
rooms with numbers from 100,000 on: those below are for tests.
"""

import argparse
import io
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fieldtune.console import say
from fieldtune.errors import FieldtuneError, UserError
from fieldtune.files import write_bytes
from zoo.export import CLASS_TASK, UPYDNET_TASK, export_onnx, multitask_task
from zoo.networks.classifiers import DsCnn, ResNet8
from zoo.networks.folding import folded
from zoo.networks.multitask import CHANNELS, MultiTaskNet
from zoo.networks.upydnet import SLOPE, UPydNet
from zoo.scenes import STEERING
from zoo.scenes.steering import MIRRORED
from zoo.task import Task
from zoo.training.augment import Views
from zoo.training.balance import Balance, FixedWeights, Uncertainty
from zoo.training.loop import Schedule, train
from zoo.training.pool import Pool, render_pool

INPUT_SHAPE = (1, 3, 48, 48)  # of all these networks
WORKERS = 2


@dataclass(frozen=True)
class Stage:
    """A part of µPyD-Net's training: so many scenes of each domain, epochs over them, first learning rate."""

    scenes: Mapping[str, int]
    epochs: int
    learning_rate: float


# Large plain scenes first: with the cluttered lofts from the beginning the loss hardly falls for five epochs.
STAGES = (
    Stage({"hall": 200, "corridor": 100, "street": 100}, 10, 2e-3),
    Stage({"loft": 400, "hall": 50, "corridor": 25, "street": 25}, 8, 1.5e-3),
)

FIRST_ROOM = 100_000
ROOMS = 500
EPOCHS = 25
WEIGHTS = {"disparity": 15.0, "segments": 8.0, "steer": 1.0}
"""Of the multi-task network's losses: with these none rules the trunk (docs/benchmarks.md).

Weights by uncertainty do not suit it: steering's few labels are learned by heart, its loss falls to nothing
where the network was trained, and so its weight grows at the others' cost.
"""


def train_upydnet(seed: int) -> UPydNet:
    """Render :data:`STAGES` and train µPyD-Net on them, on two threads."""
    torch.set_num_threads(2)
    network = fresh_upydnet(seed)
    for number, stage in enumerate(STAGES):
        stage_seed = seed * len(STAGES) + number
        pool = render_pool(
            [
                (domain, stage_seed * 100_000 + k)
                for domain, count in stage.scenes.items()
                for k in range(count)
            ],
            UPYDNET_TASK,
            INPUT_SHAPE[2],
            WORKERS,
        )
        schedule = Schedule(stage.epochs, stage.learning_rate, batch=16)
        balance = FixedWeights({"disparity": 1.0})
        train(network, UPYDNET_TASK, pool, schedule, balance, stage_seed, Views(UPYDNET_TASK))
    return network


def fresh_upydnet(seed: int) -> UPydNet:
    """Return µPyD-Net with He's initialisation, whose output starts about the pool's usual disparities.

    Torch's own initialisation lets the signal fade over 17 layers without normalisation.
    """
    torch.manual_seed(seed)
    network = UPydNet()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        network.decoder2.conv2.weight.mul_(5)
        network.decoder2.conv2.bias.fill_(8)
    return network


def room_pool(task: Task, rooms: int = ROOMS) -> Pool:
    """Render the rooms that all networks but µPyD-Net learn from."""
    jobs = [("room", FIRST_ROOM + k) for k in range(rooms)]
    return render_pool(jobs, task, INPUT_SHAPE[2], WORKERS)


def train_on_rooms(
    network: nn.Module,
    task: Task,
    pool: Pool,
    balance: Balance,
    seed: int,
    epochs: int = EPOCHS,
    flat: float = 0.0,
) -> None:
    """Train a network with batch normalization, on one thread; `pool` may have labels of other tasks too."""
    torch.set_num_threads(1)
    schedule = Schedule(epochs, 2e-3, batch=32, flat=flat)
    train(network, task, pool, schedule, balance, seed, steering_views(task))


def steering_views(task: Task) -> Views:
    """Return how frames are shown whose class is where to steer."""
    return Views(task, swaps={spec.name: MIRRORED for spec in task.outputs if spec.kind == "class"})


def fresh(name: str, seed: int, heads: tuple[str, ...], width: float) -> tuple[nn.Module, Task]:
    """Return an untrained "multitask", "ds-cnn" or "resnet8", and its task."""
    torch.manual_seed(seed)
    if name == "multitask":
        return MultiTaskNet(heads, width), multitask_task(heads)
    return (DsCnn if name == "ds-cnn" else ResNet8)(len(STEERING), width), CLASS_TASK


def main(words: list[str] | None = None) -> int:
    """Render, train, write; return the exit code."""
    arguments = _parser().parse_args(words)
    try:
        network, task = _trained(arguments)
        if arguments.out.suffix == ".pth":
            stream = io.BytesIO()
            torch.save(network.state_dict(), stream)
            write_bytes(arguments.out, stream.getvalue())
        else:
            export_onnx(folded(network), task, INPUT_SHAPE, arguments.out)
    except FieldtuneError as error:
        print(f"zoo.pretrain: {error}", file=sys.stderr)
        return error.exit_code
    say(f"wrote {arguments.out}, {arguments.out.stat().st_size:,} bytes")
    return 0


def _trained(arguments: argparse.Namespace) -> tuple[nn.Module, Task]:
    if arguments.network == "upydnet":
        return train_upydnet(arguments.seed), UPYDNET_TASK
    network, task = fresh(arguments.network, arguments.seed, arguments.heads, arguments.width)
    weighed = balance(task, arguments.balance, arguments.weights)
    pool = room_pool(task, arguments.rooms)
    train_on_rooms(network, task, pool, weighed, arguments.seed, arguments.epochs, arguments.flat)
    return network, task


def balance(task: Task, kind: str = "fixed", weights: Mapping[str, float] | None = None) -> Balance:
    """Return how the losses of `task` are added up: "fixed" or by "uncertainty".

    Args:
        weights: fixed ones; the others are those of :data:`WEIGHTS`.

    Raises:
        UserError: `weights` names no output, or is given where weights are learned.
    """
    names = [spec.name for spec in task.outputs]
    weights = weights or {}
    if unknown := sorted(set(weights) - set(names)):
        raise UserError(f"--weights names {unknown[0]}, but the outputs are {', '.join(names)}")
    if kind == "uncertainty":
        if weights:
            raise UserError("--balance uncertainty learns the weights; leave out --weights")
        return Uncertainty(task)
    known = {spec.name: WEIGHTS.get(spec.name, spec.weight) for spec in task.outputs}
    return FixedWeights(known | dict(weights))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zoo.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    networks = parser.add_subparsers(dest="network", required=True, metavar="NETWORK")
    for name in ("upydnet", "multitask", "ds-cnn", "resnet8"):
        network = networks.add_parser(name)
        network.add_argument("--out", type=Path, required=True, help="the file to write, .onnx or .pth")
        network.add_argument("--seed", type=int, default=0)
        if name == "upydnet":
            continue
        network.set_defaults(heads=(), balance="fixed", weights={})
        network.add_argument("--width", type=_positive, default=1.0, help="times the channels of every layer")
        network.add_argument("--rooms", type=_count, default=ROOMS, help="how many to learn from")
        network.add_argument("--epochs", type=_count, default=EPOCHS, help="how often")
        network.add_argument(
            "--flat", type=_positive, default=0.0, metavar="RHO", help="train in flat regions: try 0.5 to 2"
        )
        if name == "multitask":
            network.add_argument(
                "--heads", type=_heads, default=tuple(CHANNELS), help=f"of {','.join(CHANNELS)}"
            )
            network.add_argument("--balance", choices=("fixed", "uncertainty"), default="fixed")
            network.add_argument(
                "--weights",
                type=_weights,
                default={},
                help=f"fixed ones; default {','.join(f'{k}={v:g}' for k, v in WEIGHTS.items())}",
            )
    return parser


def _heads(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _weights(text: str) -> dict[str, float]:
    pairs = (part.partition("=") for part in text.split(","))
    return {name: _positive(number) for name, _, number in pairs}


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # channels that fade would slow every epoch down more
    sys.exit(main())

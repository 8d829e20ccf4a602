"""Merging networks that were tuned from one: AdaMerging (Yang et al., ICLR 2024, arXiv 2310.02575).

A merged weight is base + sum over networks of coefficient * (network - base), with one coefficient for each
network and layer. These few numbers learn; the paper lowers the entropy of predictions, which says nothing of
depth, so here it is the task's own loss with the labels that the board would get.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from fieldtune.errors import DataError, ModelError, UserError
from firmware_gen.graph import Graph, Op
from quantize.float_network import FloatNetwork
from quantize.losses import task_loss
from quantize.onnx_writer import float_model
from quantize.task_scores import Judge, Score
from quantize.torch_module import GraphModule
from quantize.training_samples import LabelledSamples
from quantize.training_set import Labelled, labelled
from zoo.frames import Frames
from zoo.task import Task

Granularity = Literal["layer", "task"]

BATCH = 16  # as in the paper


@dataclass(frozen=True)
class Options:
    """What the user can choose.

    Args:
        granularity: a coefficient for each network and layer, or one for each network.
        steps: of Adam.
        rate: its learning rate.
        test: the last frames of each data set, which only judge.
        seed: of the order of the frames.
    """

    granularity: Granularity = "layer"
    steps: int = 200
    rate: float = 0.01
    test: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """What has come of it.

    Args:
        model: the merged network's ONNX file.
        coefficients: of each layer in which a network differs from the base, one for each network.
        scores: by data set and network ("base", the networks' names, "average", "merged"), of every output.
    """

    model: bytes
    coefficients: Mapping[str, tuple[float, ...]]
    scores: Mapping[str, Mapping[str, Mapping[str, Score]]]

    def describe(self) -> dict[str, Any]:
        """Return what --json prints; the keys are stable."""
        return {
            "coefficients": {layer: list(row) for layer, row in self.coefficients.items()},
            "scores": {
                data: {
                    network: {output: asdict(score) for output, score in outputs.items()}
                    for network, outputs in rows.items()
                }
                for data, rows in self.scores.items()
            },
        }


class Mixture:
    """The weights between a base and networks with the same layers.

    Args:
        base: simplified, in float.
        networks: with the same layers.

    Attributes:
        layers: the names of those in which a network differs from the base, in the graph's order.
    """

    def __init__(self, base: Graph, networks: Sequence[Graph]) -> None:
        self._module = GraphModule(base, {}).eval()
        self._base = _weights(self._module)
        others = [_weights(GraphModule(graph, {})) for graph in networks]
        moves = {
            name: torch.stack([other[name] - value for other in others]) for name, value in self._base.items()
        }
        self._moves = {name: move for name, move in moves.items() if move.any()}
        owners = _owners(base)
        self.layers = tuple(dict.fromkeys(owners[name] for name in self._moves))
        self._rows = {name: self.layers.index(owners[name]) for name in self._moves}
        self._networks = len(networks)

    def alike(self, coefficient: float) -> Tensor:
        """Return that coefficient for every layer and network, (layers, networks)."""
        return torch.full((len(self.layers), self._networks), coefficient, dtype=torch.float64)

    def outputs(self, coefficients: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the merged network computes; gradients reach the coefficients."""
        found: tuple[Tensor, ...] = torch.func.functional_call(
            self._module, self._merged(coefficients), inputs
        )
        return found

    def graph(self, coefficients: Tensor) -> Graph:
        """Return the merged network; 0 is the base and 1 for a single network is that network, to the bit."""
        with torch.no_grad():
            self._module.load_state_dict(self._merged(coefficients))
        graph: Graph = self._module.graph()
        return graph

    def _merged(self, coefficients: Tensor) -> dict[str, Tensor]:
        found = dict(self._base)
        for name, move in self._moves.items():
            found[name] = found[name] + torch.tensordot(coefficients[self._rows[name]], move, 1)
        return {name: value.float() for name, value in found.items()}


def _weights(module: GraphModule) -> dict[str, Tensor]:
    """Return weights in double precision, in which base + (network - base) is the network."""
    return {name: value.detach().double() for name, value in module.named_parameters()}


def _owners(graph: Graph) -> dict[str, str]:
    """Return the layer whose coefficients a parameter of the module gets: the first that reads the constant.

    Layers that share a weight would else get two of it.
    """
    first: dict[str, str] = {}
    found = {}
    for index, op in enumerate(graph.ops):
        for part, constant in zip(("weight", "bias"), op.constants, strict=False):
            found[f"layer{index}.{part}"] = first.setdefault(constant, op.name)
    return found


def merge_networks(
    base: FloatNetwork,
    networks: Mapping[str, FloatNetwork],
    data: Mapping[str, Frames],
    options: Options,
) -> Result:
    """Learn between which weights the losses on the frames of all data sets are lowest.

    The coefficients begin at the networks' average and stay in 0 to 1. The same arguments give the same bytes
    on the same machine.

    Args:
        base: what the networks were tuned from.
        networks: by name.
        data: data sets by name.

    Raises:
        ModelError: a network has other layers or another task than the base, or has learned nothing.
        DataError: too few frames, or frames without labels.
        UserError: the loss is no finite number.
    """
    for name, network in networks.items():
        _check(base, network, name)
    mixture = Mixture(base.graph, [network.graph for network in networks.values()])
    training, judges = _frames(base, data, options.test)
    average = mixture.alike(1 / len(networks))
    learned = learn(mixture, base.graph, base.task, training, average, options)
    merged = mixture.graph(learned)
    graphs = {
        "base": base.graph,
        **{name: network.graph for name, network in networks.items()},
        "average": mixture.graph(average),
        "merged": merged,
    }
    return Result(
        float_model(merged, base.task),
        {name: tuple(row) for name, row in zip(mixture.layers, learned.tolist(), strict=True)},
        {name: {row: judge.scores(graph) for row, graph in graphs.items()} for name, judge in judges.items()},
    )


def learn(
    mixture: Mixture, graph: Graph, task: Task, samples: Sequence[Labelled], start: Tensor, options: Options
) -> Tensor:
    """Return the coefficients, (layers, networks), after Adam from `start`; each stays in 0 to 1.

    Args:
        mixture: of `graph`, whose inputs and outputs are in the order of the graph's.
        task: its losses.
        samples: frames to learn from, in random order, `BATCH` a step.

    Raises:
        UserError: the loss is no finite number.
    """
    free = start[:1] if options.granularity == "task" else start
    free = free.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], options.rate)
    generator = torch.Generator().manual_seed(options.seed)
    order: list[int] = []
    for _ in range(options.steps):
        if not order:
            order = torch.randperm(len(samples), generator=generator).tolist()
        batch, order = [samples[k] for k in order[:BATCH]], order[BATCH:]
        inputs = [
            torch.from_numpy(np.concatenate([sample.inputs[name] for sample in batch]))
            for name in graph.inputs
        ]
        outputs = mixture.outputs(free.expand_as(start), *inputs)
        value = task_loss(task, dict(zip(graph.outputs, outputs, strict=True)), batch)
        if not math.isfinite(value.item()):
            raise UserError("the merged network's loss is no finite number; do all of the networks work?")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        with torch.no_grad():
            free.clamp_(0, 1)
    return free.detach().expand_as(start)


def _frames(
    network: FloatNetwork, data: Mapping[str, Frames], test: int
) -> tuple[list[Labelled], dict[str, Judge]]:
    """Return the frames to learn from, of all data sets, and those that judge: the last of each, if any."""
    training: list[Labelled] = []
    judges = {}
    for name, frames in data.items():
        count = len(frames) - test
        if count < 1:
            raise DataError(
                f"there are {len(frames)} frames in {name}, of which --test sets {test} apart: none is left "
                "to learn from"
            )
        training += labelled(frames[:count], network)
        judged = labelled(frames[count:] if test else frames, network)
        samples = LabelledSamples(judged, network.graph)
        judges[name] = Judge(network.task, samples, f"{'test ' if test else ''}frames of {name}")
    return training, judges


def _check(base: FloatNetwork, network: FloatNetwork, name: str) -> None:
    """Refuse a network that was not tuned from the base."""
    what = f"{name} was not tuned from {base.graph.name}"
    if network.task != base.task:
        raise ModelError(f"{what}: it has another task; give --task FILE, which is then that of all")
    theirs, ours = (_layers(each.graph) for each in (network, base))
    # With the same outputs neither list can be the beginning of the other.
    for one, other in zip(theirs, ours, strict=False):
        if one != other:
            raise ModelError(
                f"{what}: its layer '{one[0].name}' differs in kind, shape or place from '{other[0].name}'; "
                "only networks with the same layers can be merged"
            )
    values = network.graph.constants
    if all(np.array_equal(values[key].value, own.value) for key, own in base.graph.constants.items()):
        raise ModelError(f"{name} has the weights of {base.graph.name}: it has learned nothing to merge")


def _layers(graph: Graph) -> list[tuple[Op, list[tuple[int, ...]]]]:
    """Return what must agree: operators, with the shapes of what they read, write and hold."""
    return [
        (
            op,
            [
                *(graph.shape(name) for name in (*op.inputs, *op.outputs)),
                *(graph.constants[name].value.shape for name in op.constants),
            ],
        )
        for op in graph.ops
    ]

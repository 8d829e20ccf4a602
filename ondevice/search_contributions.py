"""What each layer could contribute, measured over some labelled frames on board `native`."""

from __future__ import annotations

import glob
import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from fieldtune.console import progress
from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan
from ondevice.device import Device, Hyper
from ondevice.evaluation import spread
from ondevice.training_data import Sample, TrainingSamples
from ondevice.workbench import open_board
from zoo.frames import Frames

Gradients = Mapping[str, NDArray[np.float32]]
FRAMES = 16


@dataclass(frozen=True)
class Contribution:
    """What a layer could contribute.

    `gradients`: of its constants, the mean over the frames. `decrease`: by how much the mean loss falls when
    it learns alone for one round.
    """

    gradients: Gradients
    decrease: float


def learnable(graph: Graph) -> list[Op]:
    """Return the layers that could learn, in the order of the graph."""
    uses = [name for op in graph.ops for name in op.constants]
    return [
        op
        for op in graph.ops
        if OPERATORS[op.kind].learns and op.constants and all(uses.count(name) == 1 for name in op.constants)
    ]


def contributions(network: Network, frames: Frames, lr: float) -> dict[str, Contribution]:
    """Return what every layer that can learn could contribute, in the order of the graph.

    Up to `FRAMES` of the frames, evenly spread, are learned from and judged by; each layer learns alone, with
    plain gradient descent at learning rate `lr`.

    Raises:
        ModelError: nothing of the network can learn. DataError: no frame has a label.
    """
    plan = _whole_update(network)
    chosen = [frames[index] for index in spread(range(len(frames)), FRAMES)]
    samples = TrainingSamples(Frames.of(chosen, frames.geometry), network.needed_task(), plan.graph)
    samples.check()
    ready = [sample for _, sample in itertools.islice(samples, len(chosen))]
    layers = [op for op in learnable(network.graph) if op.constants[0] in plan.graph.trained]
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
        open_board(plan, Path(folder) / "native") as device,
    ):
        bench = _Bench(device, plan.graph, ready)
        gradients = bench.mean_gradients()
        before = bench.loss()
        return {
            op.name: Contribution(
                {name: gradients[name] for name in op.constants},
                max(before - bench.learned_alone(op, lr), 0.0),
            )
            for op in progress(layers, "measuring layers", len(layers))
        }


class _Bench:
    """A board on which any layer can learn alone.

    Its firmware has the gradients of all layers; the weights are changed from here.
    """

    def __init__(self, device: Device, graph: Graph, samples: Sequence[Sample]) -> None:
        device.set_hyper(Hyper(lr=0.0))
        self._device, self._graph, self._samples = device, graph, samples
        self._steps = 0

    def mean_gradients(self) -> Gradients:
        """Return the mean gradient over the samples of every constant that can learn."""
        names = self._graph.trained
        sums = {name: np.zeros(self._graph.constants[name].value.shape) for name in names}
        for sample in self._samples:
            self._step(sample)
            for name, gradient in self._gradients(names).items():
                sums[name] += gradient
        return {name: (total / len(self._samples)).astype(np.float32) for name, total in sums.items()}

    def loss(self) -> float:
        """Return the mean loss over the samples."""
        return float(np.mean([self._step(sample) for sample in self._samples]))

    def learned_alone(self, layer: Op, lr: float) -> float:
        """Return the mean loss after a step of `layer` alone on each sample; its weights are put back."""
        initial = {name: self._graph.constants[name].value for name in layer.constants}
        weights = dict(initial)
        for sample in self._samples:
            self._step(sample)
            for name, gradient in self._gradients(layer.constants).items():
                weights[name] = (weights[name] - np.float32(lr) * gradient).astype(np.float32)
            self._write(weights)
        loss = self.loss()
        self._write(initial)
        return loss if np.isfinite(loss) else math.inf

    def _step(self, sample: Sample) -> float:
        self._device.put_sample(sample)
        losses = self._device.step(self._steps).losses
        self._steps += 1
        return sum(losses)

    def _gradients(self, names: Sequence[str]) -> Gradients:
        read = self._device.read_tensors([f"gradient.{name}" for name in names])
        return {
            name: read[f"gradient.{name}"].reshape(self._graph.constants[name].value.shape) for name in names
        }

    def _write(self, weights: Gradients) -> None:
        self._device.write_tensors(
            {name: value.reshape(self._graph.constants[name].shape) for name, value in weights.items()}
        )


def _whole_update(network: Network) -> Plan:
    """Return the plan on `native` in which all learns that can: an operator may let no gradient through."""
    layers = learnable(network.graph)
    refused: Any = ModelError(
        f"no layer of {network.graph.name} can learn: all are integer layers or share their weights; "
        "leave some in float with fieldtune quantize --keep-float"
    )
    for first in range(len(layers)):
        patterns = tuple(glob.escape(op.name) for op in layers[first:])
        try:
            return plan_network(network, load_board("native"), UpdatePlan(patterns, keep_gradients=True))
        except ModelError as error:
            refused = error
    raise refused

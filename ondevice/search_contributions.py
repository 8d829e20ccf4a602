"""What each layer could contribute, measured over some labelled frames on board `native`."""

from __future__ import annotations

import contextlib
import glob
import itertools
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
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
from firmware_gen.passes.split_channels import Divisible
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import UpdatePlan, trained_constants
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


@contextlib.contextmanager
def open_bench(network: Network, frames: Frames, lr: float) -> Iterator[Bench]:
    """Yield a board on which anything can learn from up to `FRAMES` of the frames, evenly spread.

    Raises:
        ModelError: nothing of the network can learn. DataError: no frame has a label.
    """
    plan = _whole_update(network)
    chosen = [frames[index] for index in spread(range(len(frames)), FRAMES)]
    samples = TrainingSamples(Frames.of(chosen, frames.geometry), network.needed_task(), plan.graph)
    samples.check()
    ready = [sample for _, sample in itertools.islice(samples, len(chosen))]
    with (
        tempfile.TemporaryDirectory(prefix="fieldtune-") as folder,
        open_board(plan, Path(folder) / "native") as device,
    ):
        yield Bench(device, network.graph, plan.graph.trained, ready, lr)


class Bench:
    """A board on which any part of the network can learn, a step a sample, by plain gradient descent.

    Its firmware has the gradients of all layers; the weights are changed from here, and put back.
    """

    def __init__(
        self, device: Device, graph: Graph, trained: Sequence[str], samples: Sequence[Sample], lr: float
    ) -> None:
        """Use a firmware that keeps the gradients of `trained`; `graph` is the network's own."""
        device.set_hyper(Hyper(lr=0.0))
        self._device, self._graph, self._trained = device, graph, trained
        self._samples, self._lr = samples, np.float32(lr)
        self._steps = 0

    def contributions(self) -> dict[str, Contribution]:
        """Return what every layer that can learn could contribute, in the order of the graph."""
        gradients = self.mean_gradients()
        before = self.loss()
        layers = [op for op in learnable(self._graph) if op.constants[0] in self._trained]
        return {
            op.name: Contribution(
                {name: gradients[name] for name in op.constants},
                max(before - self.learned((glob.escape(op.name),)), 0.0),
            )
            for op in progress(layers, "measuring layers", len(layers))
        }

    def mean_gradients(self) -> Gradients:
        """Return the mean gradient over the samples of every constant that can learn."""
        names = self._trained
        sums = {name: np.zeros(self._graph.constants[name].value.shape) for name in names}
        for sample in self._samples:
            self._step(sample)
            for name, gradient in self._gradients(names).items():
                sums[name] += gradient
        return {name: (total / len(self._samples)).astype(np.float32) for name, total in sums.items()}

    def loss(self) -> float:
        """Return the mean loss over the samples."""
        return float(np.mean([self._step(sample) for sample in self._samples]))

    def learned(self, patterns: tuple[str, ...]) -> float:
        """Return the mean loss after a step of what `patterns` name on each sample."""
        parts = _learning_parts(self._graph, patterns)
        initial = {name: self._graph.constants[name].value for name in parts}
        weights = {name: value.copy() for name, value in initial.items()}
        for sample in self._samples:
            self._step(sample)
            for name, gradient in self._gradients(list(parts)).items():
                weights[name][parts[name]] -= self._lr * gradient[parts[name]]
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


def _learning_parts(graph: Graph, patterns: tuple[str, ...]) -> dict[str, tuple[slice, ...]]:
    """Return which part of each constant learns, as numpy indexes it."""
    shares = trained_constants(graph, UpdatePlan(patterns))
    parts = {}
    for op in learnable(graph):
        for name in op.constants:
            if name in shares:
                layer = Divisible.of(op, graph)
                slab = layer.part_of(graph.constants[name], layer.learning(shares[name])).slab
                assert slab is not None
                parts[name] = slab.index
    return parts


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

"""Boards `native` on which any part of a network learns, to see how well it does."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from boards import load_board
from fieldtune.console import progress
from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.passes.split_channels import Divisible
from firmware_gen.passes.thaw import thaw
from firmware_gen.plan import Plan
from firmware_gen.project import Network, plan_network
from firmware_gen.update import WHOLE, UpdatePlan, trained_constants
from ondevice.device import Device, Hyper
from ondevice.evaluation import spread
from ondevice.training_data import Sample, TrainingSamples
from ondevice.workbench import open_boards
from zoo.frames import Frames

Arrays = Mapping[str, NDArray[Any]]
T = TypeVar("T")
R = TypeVar("R")
FRAMES = 128  # from which trials learn


def learnable(graph: Graph) -> list[Op]:
    """Return the layers of a thawed graph that could learn, in its order."""
    uses = [name for op in graph.ops for name in op.constants]
    return [
        op
        for op in graph.ops
        if OPERATORS[op.kind].learns and op.constants and all(uses.count(name) == 1 for name in op.constants)
    ]


def thawed(network: Network) -> Graph:
    """Return the network's graph with every int8 layer as a float layer, as it is where it learns."""
    return thaw(network.graph, lambda op: dict.fromkeys(op.constants[:2], WHOLE))


@contextlib.contextmanager
def open_bench(network: Network, frames: Frames, lr: float) -> Iterator[Bench]:
    """Yield boards, one a core, on which anything can learn from up to `FRAMES` of the frames, evenly spread.

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
        open_boards(plan, Path(folder) / "native", os.cpu_count() or 1) as devices,
    ):
        yield Bench(devices, thawed(network), plan.graph.trained, ready, lr)


class Bench:
    """Boards on which any part of the network can learn, a step a sample, by plain gradient descent.

    Their firmware has the gradients of all layers; the weights are changed from here, and put back. int8
    layers are thawed in it, all at once, so that one firmware serves every trial.
    """

    def __init__(
        self,
        devices: Iterable[Device],
        graph: Graph,
        trained: Sequence[str],
        samples: Sequence[Sample],
        lr: float,
    ) -> None:
        """Use a firmware that keeps the gradients of `trained`; `graph` is the network's own, thawed."""
        self.graph, self.trained = graph, trained
        self.samples, self.lr = samples, np.float32(lr)
        self._idle: queue.Queue[BenchBoard] = queue.Queue()
        for device in devices:
            device.set_hyper(Hyper(lr=0.0))
            self._idle.put(BenchBoard(device, graph))
        with self.board() as board:
            self.ranges = board.read_ranges()

    @contextlib.contextmanager
    def board(self) -> Iterator[BenchBoard]:
        """Yield a board that nobody else works with; wait for one."""
        board = self._idle.get()
        try:
            yield board
        finally:
            self._idle.put(board)

    def trial(self, patterns: tuple[str, ...], samples: Sequence[Sample] | None = None) -> Trial:
        """Return a trial in which `patterns` learn from the samples, in their order."""
        return Trial(self, patterns, self.samples if samples is None else samples)


class BenchBoard:
    """One board of a bench."""

    def __init__(self, device: Device, graph: Graph) -> None:
        """Take the board as it is."""
        self._device, self._graph = device, graph
        self._steps = 0

    def step(self, sample: Sample) -> float:
        """Return the loss of `sample`; the board keeps its gradients."""
        self._device.put_sample(sample)
        losses = self._device.step(self._steps).losses
        self._steps += 1
        return sum(losses)

    def gradients(self, names: Sequence[str]) -> Arrays:
        """Return the gradients of the last step."""
        read = self._device.read_tensors([f"gradient.{name}" for name in names])
        return {
            name: read[f"gradient.{name}"].reshape(self._graph.constants[name].value.shape) for name in names
        }

    def write(self, weights: Arrays) -> None:
        """Write weights in the kernels' order."""
        self._device.write_tensors(
            {name: value.reshape(self._graph.constants[name].shape) for name, value in weights.items()}
        )

    def read_ranges(self) -> Arrays:
        """Return the moving ranges of int8 tensors as they are."""
        return self._device.read_role("range")

    def write_ranges(self, ranges: Arrays) -> None:
        """Set the moving ranges."""
        self._device.write_tensors(ranges)


class Trial:
    """Part of the network learns, a step a sample, as far as it is asked for.

    Its measure is the loss of each sample before it is learned from (prequential: Dawid 1984), which judges a
    network on what it has not seen, and needs no frames of its own.
    """

    def __init__(self, bench: Bench, patterns: tuple[str, ...], samples: Sequence[Sample]) -> None:
        """Begin at the untuned weights."""
        self._bench, self._samples = bench, samples
        self._parts = _learning_parts(bench.graph, patterns)
        self._initial = {name: bench.graph.constants[name].value for name in self._parts}
        self._weights = {name: value.copy() for name, value in self._initial.items()}
        self._ranges = bench.ranges
        self.losses: list[float] = []

    def advance(self, steps: int, stop: threading.Event | None = None) -> None:
        """Learn until `steps` are done, or the samples or the numbers end; then put the weights back."""
        with self._bench.board() as board:
            board.write(self._weights)
            board.write_ranges(self._ranges)
            for sample in self._samples[len(self.losses) : steps]:
                if not np.isfinite(self.losses[-1:]).all() or (stop is not None and stop.is_set()):
                    break
                self.losses.append(board.step(sample))
                for name, gradient in board.gradients(list(self._parts)).items():
                    self._weights[name][self._parts[name]] -= self._bench.lr * gradient[self._parts[name]]
                board.write(self._weights)
            self._ranges = board.read_ranges()
            board.write(self._initial)
            board.write_ranges(self._bench.ranges)

    def later_losses(self, steps: int) -> NDArray[np.float64]:
        """Return the losses of the second half of the first `steps`; infinite where learning has diverged."""
        wanted = min(steps, len(self._samples))
        known = [loss if np.isfinite(loss) else np.inf for loss in self.losses[:wanted]]
        return np.array(known + [np.inf] * (wanted - len(known)))[wanted // 2 :]

    def loss(self, steps: int) -> float:
        """Return the mean of `later_losses`."""
        return float(np.mean(self.later_losses(steps)))


def side_by_side(work: Callable[[T, threading.Event], R], items: Sequence[T], what: str) -> list[R]:
    """Return ``work(item, stop)`` of all items, as many at once as there are cores.

    What ends one of them, or Ctrl-C, sets `stop` for the others.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(work, item, stop) for item in items]
        try:
            for future in progress(as_completed(futures), what, len(futures)):
                future.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


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
    layers = learnable(thawed(network))
    refused: Any = ModelError(
        f"no layer of {network.graph.name} can learn: it has no convolution or linear layer "
        "whose weights are its own"
    )
    for first in range(len(layers)):
        patterns = tuple(glob.escape(op.name) for op in layers[first:])
        try:
            return plan_network(network, load_board("native"), UpdatePlan(patterns, keep_gradients=True))
        except ModelError as error:
            refused = error
    raise refused

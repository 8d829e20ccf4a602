"""From a float network and frames to an int8 model: what the command calls."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from fieldtune.console import say
from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import Array, Graph
from quantize.equalize import equalize
from quantize.float_network import FloatNetwork, Values, pixels, run
from quantize.onnx_writer import float_model, quantized_model
from quantize.parameters import QuantizedGraph, input_types
from quantize.round_weights import round_weights
from quantize.scheme import Scheme, divide
from quantize.training_set import Labelled, labelled, split
from zoo.frames import Frames
from zoo.task import Task

if TYPE_CHECKING:
    from quantize.nncf_backend import NncfModel

Backend = Literal["nncf", "onnxruntime"]
PACKAGES: Mapping[Backend, tuple[str, ...]] = {
    "nncf": ("onnxruntime", "torch", "nncf"),
    "onnxruntime": ("onnxruntime",),
}

ROUNDING_FRAMES = 64
SENSITIVITY_FRAMES = 16
"""How many of the calibration frames these steps use at most: more take time and change little."""


@dataclass(frozen=True)
class Options:
    """What the user can choose.

    Args:
        backend: who finds the ranges of the activations; only nncf can train.
        keep_float: names or globs of layers that stay in float.
        update: the same of layers that will learn on the device.
        samples: frames for calibration, at most.
        test: the last frames, which are set apart.
        epochs: of quantization-aware training, over all frames but the test's.
        rate: Adam's learning rate.
    """

    backend: Backend = "nncf"
    keep_float: str | None = None
    update: str | None = None
    samples: int = 300
    test: int = 0
    epochs: int = 0
    rate: float = 1e-4


@dataclass(frozen=True)
class Sensitivity:
    """The error of the outputs when only this layer is int8, as `Result.rms_error_share`."""

    name: str
    sensitivity: float


@dataclass(frozen=True)
class Result:
    """An int8 model and how far it is from the float network.

    Args:
        model: the ONNX file.
        calibration: how many frames were used to calibrate.
        layers: int8 layers with weights, in the network's order, before training.
        rms_error: RMS difference to the float network on the test frames, else those of calibration; of the
            output whose share is largest; before training, which is meant to make a difference.
        rms_error_share: the same as a share of the float output's range (max - min) on these frames.
        loss: mean loss before and after training on the test frames, else those of training; None without.
    """

    model: bytes
    calibration: int
    layers: tuple[Sensitivity, ...]
    rms_error: float
    rms_error_share: float
    loss: tuple[float, float] | None


def quantize_network(network: FloatNetwork, frames: Frames, options: Options) -> Result:
    """Return `network` in int8. The same arguments give the same bytes.

    Raises:
        UserError: an option does not suit the network, or a package is missing.
        ModelError: an operator cannot be quantized.
        DataError: too few frames, or frames without labels where training needs them.
    """
    _require(options)
    scheme = divide(network.graph, options.keep_float, options.update)
    parts = split(frames, options.test, options.samples)
    training = labelled(parts.training, network) if options.epochs else []
    inputs = [pixels(frame, network) for frame in parts.calibration]
    say(f"calibrating on {len(inputs)} frames")
    scheme = equalized(scheme, inputs)
    types = input_types(network.task)
    trainer: NncfModel | None = None
    if options.backend == "nncf":
        from quantize.nncf_backend import NncfModel

        trainer = NncfModel(scheme, inputs, types)
        quantized = trainer.quantized()
    else:
        from quantize.onnxruntime_backend import calibrate

        quantized = calibrate(scheme, inputs, types)
    quantized = round_weights(quantized, thinned(inputs, ROUNDING_FRAMES))
    layers = _sensitivities(scheme, quantized, thinned(inputs, SENSITIVITY_FRAMES))
    model = quantized_model(quantized, network.task)
    seen = [pixels(frame, network) for frame in parts.test] or inputs
    error, share = _difference(run(network.model, seen), run(model, seen))
    losses = None
    if trainer is not None and training:
        judged = labelled(parts.test, network) if options.test else training
        before = _loss(model, judged, network.task)
        trainer.load(quantized.graph)
        model = _trained(trainer, training, network.task, options)
        losses = before, _loss(model, judged, network.task)
    return Result(model, len(inputs), layers, error, share, losses)


def _require(options: Options) -> None:
    for package in PACKAGES[options.backend]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"--backend {options.backend} needs {package}: pip install 'fieldtune[quantize]'"
            ) from error
    if options.epochs and options.backend != "nncf":
        raise UserError("--epochs needs --backend nncf; ONNX Runtime does not train")


def equalized(scheme: Scheme, inputs: Sequence[Values]) -> Scheme:
    """Return the scheme of a graph that computes the same with channels of like ranges on these inputs."""
    largest: dict[str, Array] = {}
    for values, outputs in zip(inputs, run(float_model(scheme.graph, all_tensors=True), inputs), strict=True):
        for name, value in {**outputs, **values}.items():
            magnitude = np.abs(value).reshape(*value.shape[:2], -1).max((0, 2))
            if not np.isfinite(magnitude).all():
                raise ModelError(f"'{name}' of {scheme.graph.name} is not finite on the calibration frames")
            largest[name] = np.maximum(largest.get(name, magnitude), magnitude)
    return replace(scheme, graph=equalize(scheme.graph, largest, scheme.unscaled_layers))


def thinned(inputs: Sequence[Values], count: int) -> Sequence[Values]:
    """Return at most `count` of the inputs, evenly spread."""
    return inputs[:: -(-len(inputs) // count)]


def layers_alone(graph: Graph, quantized: QuantizedGraph) -> Iterator[tuple[str, QuantizedGraph]]:
    """Yield for each int8 layer the network in which it alone is int8: its weights, and what it stores.

    Args:
        graph: in float, before the weights were rounded.
        quantized: all of it.
    """
    for op in graph.ops:
        if not op.constants or op.constants[0] not in quantized.weights:
            continue
        constants = {name: quantized.graph.constants[name] for name in op.constants}
        yield (
            op.name,
            QuantizedGraph(
                replace(graph, constants={**graph.constants, **constants}),
                {name: quantized.activations[name] for name in op.outputs if name in quantized.activations},
                {op.constants[0]: quantized.weights[op.constants[0]]},
            ),
        )


def _sensitivities(
    scheme: Scheme, quantized: QuantizedGraph, inputs: Sequence[Values]
) -> tuple[Sensitivity, ...]:
    exact = list(run(float_model(scheme.graph), inputs))
    return tuple(
        Sensitivity(name, _difference(exact, run(quantized_model(alone), inputs))[1])
        for name, alone in layers_alone(scheme.graph, quantized)
    )


def _difference(exact: Iterable[Values], other: Iterable[Values]) -> tuple[float, float]:
    """Return the RMS difference, and it as a share of the range of `exact`, of the output that is worst."""
    squares: dict[str, list[float]] = {}
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for right, wrong in zip(exact, other, strict=True):
        for name, value in right.items():
            squares.setdefault(name, []).append(
                float(np.square(value - wrong[name], dtype=np.float64).mean())
            )
            lows[name] = min(lows.get(name, np.inf), float(value.min()))
            highs[name] = max(highs.get(name, -np.inf), float(value.max()))
    errors = {name: float(np.sqrt(np.mean(each))) for name, each in squares.items()}
    shares = {name: error / ((highs[name] - lows[name]) or 1.0) for name, error in errors.items()}
    worst = max(shares, key=lambda name: shares[name])
    return errors[worst], shares[worst]


def _trained(trainer: NncfModel, samples: Sequence[Labelled], task: Task, options: Options) -> bytes:
    for epoch, loss in enumerate(trainer.train(samples, task, options.epochs, options.rate), 1):
        say(f"epoch {epoch} of {options.epochs}: loss {loss:.4g}")
    return quantized_model(trainer.quantized(), task)


def _loss(model: bytes, samples: Sequence[Labelled], task: Task) -> float:
    import torch

    from quantize.losses import task_loss

    total = 0.0
    for values, sample in zip(run(model, [s.inputs for s in samples]), samples, strict=True):
        outputs = {name: torch.from_numpy(value) for name, value in values.items()}
        total += task_loss(task, outputs, [sample]).item()
    return total / len(samples)

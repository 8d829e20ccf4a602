"""NNCF on a graph: ranges of its activations by calibration, and quantization-aware training.

NNCF compiles its own kernels when they are first used. That takes a C++ compiler and a minute, and a build
that is interrupted leaves a lock behind on which the next one hangs. Its reference functions in torch compute
the same, and are quick enough for networks of this size, so they are used instead.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fieldtune.errors import FieldtuneError, ModelError, UserError
from firmware_gen.graph import Array, Graph, Op, Quantization
from quantize.float_network import Values
from quantize.losses import task_loss
from quantize.parameters import QuantizedGraph, covering, nearest
from quantize.scheme import MOVERS, Scheme
from quantize.torch_module import GraphModule
from quantize.training_set import Labelled
from zoo.task import Task

os.environ.setdefault("NNCF_CI", "1")  # else importing it reports usage to its makers over the network

import nncf
from nncf.common.quantization.structs import QuantizationScheme
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    OverflowFix,
    QuantizationParameters,
)
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from nncf.torch.function_hook import get_hook_storage
from nncf.torch.quantization.extensions import QuantizedFunctionsCPU
from nncf.torch.quantization.layers import (
    AsymmetricQuantizer,
    BaseQuantizer,
    SymmetricQuantizer,
)
from nncf.torch.quantization.reference import ReferenceQuantizedFunctions

BATCH = 8
SEED = 0

# What a microcontroller computes: one scale and zero point a tensor, one scale an output channel of a weight.
# NNCF's defaults quantize the inputs of depthwise convolutions per channel, which no kernel can.
_PARAMETERS = AdvancedQuantizationParameters(
    overflow_fix=OverflowFix.DISABLE,
    disable_bias_correction=True,  # round_weights does it, layer after layer
    activations_quantization_params=QuantizationParameters(
        num_bits=8, mode=QuantizationScheme.ASYMMETRIC, per_channel=False
    ),
    weights_quantization_params=QuantizationParameters(
        num_bits=8, mode=QuantizationScheme.SYMMETRIC, per_channel=True, narrow_range=True
    ),
    activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM,
)

# A hook's name tells where NNCF quantizes: "pre_hooks.layer3/conv2d/0__1.0" is operand 1 of layer 3.
_HOOK = re.compile(r"(?P<side>pre|post)_hooks\.(?P<part>layer|watch)(?P<index>\d+)/\w+/\d+__(?P<port>\d+)\.")

_QUANTIZED_READERS = ("conv2d", "add", "average_pool")


class NncfModel:
    """A graph under NNCF's quantizers."""

    def __init__(
        self, scheme: Scheme, inputs: Sequence[Values], input_types: Mapping[str, Quantization]
    ) -> None:
        """Calibrate.

        Args:
            scheme: what becomes int8.
            inputs: the network's inputs for the calibration frames.
            input_types: the quantization of the network's inputs.

        Raises:
            ModelError: the graph has an operator that torch or NNCF cannot handle.
        """
        self._scheme = scheme
        self._types = dict(input_types)
        module = GraphModule(scheme.graph, _watched(scheme))
        kept = [f"layer{k}/.*" for k, op in enumerate(scheme.graph.ops) if not scheme.is_int8(op)]
        ignored = nncf.IgnoredScope(patterns=kept, validate=False) if kept else None
        samples = nncf.Dataset(list(inputs), self._tensors)
        try:
            with _quiet_and_eager():
                self._model = nncf.quantize(
                    module.eval(),
                    samples,
                    subset_size=len(inputs),
                    ignored_scope=ignored,
                    advanced_parameters=_PARAMETERS,
                )
        except Exception as error:  # NNCF raises its own, torch's and Python's
            problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"NNCF cannot quantize {scheme.graph.name}: {problem}") from error
        self._activations, self._weights = self._find_quantizers()

    def quantized(self) -> QuantizedGraph:
        """Return the graph with the weights, scales and zero points as they are now."""
        found = {name: _range(quantizer) for name, quantizer in self._activations.items()}
        for group in self._scheme.groups():
            lows, highs = zip(*(found[name] for name in group & found.keys()), strict=True)
            found |= dict.fromkeys(group, (min(lows), max(highs)))
        missing = [name for name in self._scheme.tensors if name not in found and name not in self._types]
        if missing:
            raise FieldtuneError(f"NNCF has found no range for {', '.join(missing)}")
        activations = {name: self._types.get(name) or covering(*found[name]) for name in self._scheme.tensors}
        weights = {
            name: quantizer.get_parameters_for_torch_fq()[2].detach().numpy().astype(np.float32)
            for name, quantizer in self._weights.items()
        }
        return QuantizedGraph(_own(self._model).graph(), activations, weights)

    def load(self, graph: Graph) -> None:
        """Take the weights of `graph`, which has the same layers; scales and ranges stay."""
        _own(self._model).load(graph)

    def train(self, samples: Sequence[Labelled], task: Task, epochs: int, rate: float) -> Iterator[float]:
        """Train weights, scales and ranges (Adam, batches of `BATCH` in random order).

        Yields:
            The mean loss of each epoch.

        Raises:
            UserError: the loss is no finite number any more.
        """
        generator = torch.Generator().manual_seed(SEED)
        optimizer = torch.optim.Adam(self._model.parameters(), rate)
        for _ in range(epochs):
            order = torch.randperm(len(samples), generator=generator).tolist()
            total = 0.0
            for first in range(0, len(order), BATCH):
                batch = [samples[k] for k in order[first : first + BATCH]]
                with _quiet_and_eager():
                    value = self._loss(batch, task)
                    optimizer.zero_grad()
                    value.backward()
                    optimizer.step()
                total += value.item() * len(batch)
            if not np.isfinite(total):
                raise UserError(f"training diverges with --lr {rate:g}; give a smaller one")
            yield total / len(samples)

    def _loss(self, batch: Sequence[Labelled], task: Task) -> Tensor:
        inputs = [self._tensors(sample.inputs) for sample in batch]
        outputs = self._model(*(torch.cat(parts) for parts in zip(*inputs, strict=True)))
        named = dict(zip(self._scheme.graph.outputs, outputs, strict=True))
        return task_loss(task, named, batch)

    def _tensors(self, inputs: Values) -> tuple[Tensor, ...]:
        """Return a sample's inputs as int8 holds them: NNCF itself quantizes no input of the network."""
        arrays: list[Array] = []
        for name in self._scheme.graph.inputs:
            known = self._types.get(name)
            arrays.append(inputs[name] if known is None else nearest(inputs[name], known))
        return tuple(torch.from_numpy(array) for array in arrays)

    def _find_quantizers(
        self,
    ) -> tuple[dict[str, AsymmetricQuantizer], dict[str, SymmetricQuantizer]]:
        """Return the quantizers of activations by tensor, and of weights by constant."""
        activations, weights = {}, {}
        ops = self._scheme.graph.ops
        for name, hook in get_hook_storage(self._model).named_modules(remove_duplicate=False):
            place = _HOOK.match(name)
            if not isinstance(hook, BaseQuantizer) or place is None:
                continue
            op, port = ops[int(place["index"])], int(place["port"])
            if place["part"] == "layer" and place["side"] == "pre":
                if op.kind == "conv2d" and port == 1:
                    weights[op.constants[0]] = hook
                    continue
                tensor = op.inputs[port]
            else:
                tensor = op.outputs[0]
            activations[tensor] = hook
        return activations, weights


def _own(model: torch.nn.Module) -> GraphModule:
    assert isinstance(model, GraphModule)
    return model


def _watched(scheme: Scheme) -> dict[str, set[str]]:
    """Return the int8 tensors that NNCF would not quantize for some of their readers; see GraphModule."""
    watched: dict[str, set[str]] = {}
    for name in scheme.tensors:
        if name in scheme.graph.inputs:
            continue
        readers = {op.name for op in scheme.graph.consumers(name) if not _asks_for_int8(op, scheme)}
        if name in scheme.graph.outputs:
            readers.add("")
        if readers:
            watched[name] = readers
    return watched


def _asks_for_int8(op: Op, scheme: Scheme) -> bool:
    """Tell whether NNCF quantizes what `op` reads, for its own sake or for that of what reads its output."""
    return scheme.is_int8(op) and op.kind in (*_QUANTIZED_READERS, *MOVERS)


def _range(quantizer: AsymmetricQuantizer) -> tuple[float, float]:
    low, high = quantizer.get_input_low_input_high()
    return low.item(), high.item()


@contextlib.contextmanager
def _quiet_and_eager() -> Iterator[None]:
    """Keep NNCF from compiling anything and from writing to the terminal."""
    nncf.set_log_level(logging.ERROR)
    QuantizedFunctionsCPU._loaded_namespace = ReferenceQuantizedFunctions
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        torch.compiler.set_stance("force_eager"),
    ):
        warnings.simplefilter("ignore")
        yield

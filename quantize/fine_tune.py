"""Training of a float graph, as it follows a round of pruning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from firmware_gen.graph import Graph
from quantize.torch_module import Conv, GraphModule
from zoo.task import Task
from zoo.training.augment import Augment
from zoo.training.balance import FixedWeights
from zoo.training.loop import Schedule, train
from zoo.training.pool import Samples

BATCH = 32
_STATISTICS = 256  # frames that tell what layers compute before training


@dataclass(frozen=True)
class Recipe:
    """How networks are fine-tuned.

    Args:
        weights: by output, what its loss is multiplied by.
        augment: how frames are shown.
        rate: Adam's learning rate at the beginning; it falls to 0 along a half cosine.
    """

    weights: Mapping[str, float]
    augment: Augment
    rate: float


def even_weights(task: Task, losses: Mapping[str, float]) -> dict[str, float]:
    """Return weights with which losses count as shares of what they are, so that none rules.

    Args:
        task: may weigh its outputs besides.
        losses: by output.
    """
    return {spec.name: spec.weight / max(losses[spec.name], 1e-9) for spec in task.learned}


def fine_tune(graph: Graph, task: Task, samples: Samples, recipe: Recipe, epochs: int, seed: int) -> Graph:
    """Return `graph` with weights that were trained, in batches of `BATCH` at most.

    While it trains, batches are normalized behind every layer that an activation follows, as in networks
    that are made with batch normalization; what does that is folded into the weights again.

    Args:
        graph: simplified, in float.
        task: its losses.
        samples: frames to train on.
        recipe: how.
        epochs: how often each is seen.
        seed: of the order, and of what is done to the frames.

    Raises:
        UserError: the loss is no finite number any more.
    """
    if not epochs:
        return graph
    outputs = {spec.name: spec for spec in task.outputs}
    task = replace(task, outputs=tuple(outputs[name] for name in graph.outputs))
    module = GraphModule(graph, {})
    few = np.linspace(0, len(samples) - 1, min(_STATISTICS, len(samples))).astype(np.intp)
    _normalize(module, tuple(samples.batch(few).inputs.values()))
    schedule = Schedule(epochs, recipe.rate, min(BATCH, len(samples)))
    train(module, task, samples, schedule, FixedWeights(recipe.weights), seed, recipe.augment)
    return module.graph()


def _normalize(module: GraphModule, inputs: tuple[Tensor, ...]) -> None:
    found: dict[Conv, tuple[Tensor, Tensor]] = {}
    layers = [layer for layer in module.modules() if isinstance(layer, Conv) and layer.normalizable]
    hooks = [layer.register_forward_hook(_statistics(found)) for layer in layers]
    with torch.no_grad():
        module(*inputs)
        for layer, hook in zip(layers, hooks, strict=True):
            hook.remove()
            layer.normalize(*found[layer])


def _statistics(found: dict[Conv, tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    def look(layer: Conv, taken: tuple[Tensor, ...], _given: Tensor) -> None:
        variance, mean = torch.var_mean(layer.sums(*taken), (0, 2, 3), correction=0)
        found[layer] = mean, variance

    return look

"""Training of a float graph, as it follows a round of pruning."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from fieldtune.errors import UserError
from firmware_gen.graph import Graph
from quantize.losses import task_loss
from quantize.torch_module import GraphModule
from quantize.training_set import Labelled
from zoo.task import Task

BATCH = 16


def fine_tune(
    graph: Graph, task: Task, samples: Sequence[Labelled], epochs: int, rate: float, seed: int
) -> Graph:
    """Return `graph` with weights that were trained by Adam, in batches of `BATCH` in random order.

    Args:
        graph: simplified, in float.
        task: its losses.
        samples: frames to train on.
        epochs: how often each is seen.
        rate: learning rate at the beginning; it falls to 0 along a half cosine.
        seed: of the order.

    Raises:
        UserError: the loss is no finite number any more.
    """
    module = GraphModule(graph, {})
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(module.parameters(), rate)
    steps = epochs * -(-len(samples) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 + 0.5 * math.cos(math.pi * step / max(steps, 1))
    )
    for _ in range(epochs):
        order = torch.randperm(len(samples), generator=generator).tolist()
        for first in range(0, len(order), BATCH):
            batch = [samples[k] for k in order[first : first + BATCH]]
            inputs = [
                torch.from_numpy(np.concatenate([sample.inputs[name] for sample in batch]))
                for name in graph.inputs
            ]
            value = task_loss(task, dict(zip(graph.outputs, module(*inputs), strict=True)), batch)
            if not math.isfinite(value.item()):
                raise UserError(f"training diverges with --lr {rate:g}; give a smaller one")
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            schedule.step()
    return module.graph()

"""Let int8 layers learn as they are: their weights stay integers, their biases become real values.

They are moving layers, because what is behind a layer that learns moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.learning_i8 import MOST_PIXELS
from firmware_gen.passes.thaw import float_bias
from firmware_gen.update import Share


def learn_in_int8(graph: Graph, learns: Callable[[Op], Mapping[str, Share]]) -> Graph:
    """Return `graph` in which the int8 layers of which `learns` names something can learn.

    Raises:
        UserError: none of them is int8. ModelError: a map is too large.
    """
    chosen = [op for op in graph.ops if op.kind == "conv2d_i8" and learns(op)]
    if not chosen:
        raise UserError(
            f"--weights int8 is for int8 layers, but none that the update names is one in {graph.name}: "
            "quantize the model with fieldtune quantize, or leave the option out"
        )
    for op in chosen:
        for name in (op.inputs[0], op.outputs[0]):
            height, width, _ = graph.shape(name)
            if height * width > MOST_PIXELS:
                raise ModelError(
                    f"layer '{op.name}' has a map of {height} x {width} pixels: with --weights int8 it can "
                    f"have up to {MOST_PIXELS:,}; leave the layer out of the update or use --weights f32"
                )
        graph = float_bias(graph, op, "learning_conv2d")
    return graph

"""Give the network the inputs of its task: pixels, which the firmware scales itself."""

from __future__ import annotations

import dataclasses

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op, Tensor, check
from firmware_gen.operators.elementwise import PixelScale
from zoo.task import Task


def attach_task(graph: Graph, task: Task) -> Graph:
    """Return `graph` with a uint8 tensor for every image input, in front of the float one.

    Raises:
        ModelError: the task names an input or output that the model does not have, or leaves out an input.
    """
    for what, named, present in (
        ("input", [spec.name for spec in task.inputs], graph.inputs),
        ("output", [spec.name for spec in task.outputs], graph.outputs),
    ):
        for name in named:
            if name not in present:
                raise ModelError(
                    f"the task names an {what} '{name}', but the {what}s of {graph.name} are "
                    f"{', '.join(present)}"
                )
    missing = [name for name in graph.inputs if name not in [spec.name for spec in task.inputs]]
    if missing:
        raise ModelError(f"the task of {graph.name} does not say what the input '{missing[0]}' means")
    ops = list(graph.ops)
    tensors = dict(graph.tensors)
    for spec in reversed(task.inputs):
        scaled = f"{spec.name}.scaled"
        shape = graph.shape(spec.name)
        tensors[scaled] = Tensor(scaled, shape)
        tensors[spec.name] = Tensor(spec.name, shape, "u8")
        ops = [
            dataclasses.replace(op, inputs=tuple(scaled if x == spec.name else x for x in op.inputs))
            for op in ops
        ]
        scale = PixelScale(spec.scale, spec.bias)
        ops.insert(0, Op("dequantize", spec.name, (spec.name,), (scaled,), scale))
    return check(graph.with_ops(ops, tensors=tensors))

"""Give the network the inputs and outputs of its task: pixels, which the firmware scales, and floats."""

from __future__ import annotations

import dataclasses

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op, Tensor, check
from firmware_gen.operators.quantize import PixelScale, dequantize, quantize
from zoo.task import InputSpec, Task


def attach_task(graph: Graph, task: Task) -> Graph:
    """Return `graph` with a uint8 tensor in front of every input and a float one behind every integer output.

    Both take the names by which the task knows them.

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
    for spec in reversed(task.inputs):
        graph = _with_pixels(graph, spec)
    for name in graph.outputs:
        if graph.tensors[name].dtype != "f32":
            graph = _with_floats(graph, name)
    return check(graph)


def _with_pixels(graph: Graph, spec: InputSpec) -> Graph:
    old, scaled = graph.tensors[spec.name], f"{spec.name}.scaled"
    inner = scaled if old.dtype == "f32" else f"{spec.name}.quantized"
    graph = graph.renamed(spec.name, inner)
    tensors = {
        **graph.tensors,
        spec.name: Tensor(spec.name, old.shape, "u8"),
        scaled: dataclasses.replace(old, name=scaled, dtype="f32", quantization=None),
    }
    new = [Op("dequantize", spec.name, (spec.name,), (scaled,), PixelScale(spec.scale, spec.bias))]
    if inner != scaled:
        tensors[scaled] = dataclasses.replace(tensors[scaled], source="")
        step = quantize("away")
        new.append(Op(step.kind, spec.name, (scaled,), (inner,), step.attrs))
    return graph.with_ops([*new, *graph.ops], tensors=tensors)


def _with_floats(graph: Graph, name: str) -> Graph:
    inner = f"{name}.quantized"
    shape = graph.shape(name)
    graph = graph.renamed(name, inner)
    step = dequantize()
    op = Op(step.kind, name, (inner,), (name,), step.attrs)
    return graph.with_ops([*graph.ops, op], tensors={**graph.tensors, name: Tensor(name, shape)})

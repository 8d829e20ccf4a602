"""A float ONNX file as what quantization works on, and running ONNX models on frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.passes import simplify
from firmware_gen.window import LINEAR
from zoo.frames import Frame
from zoo.prepare import network_input
from zoo.task import Task, find_task

Values = Mapping[str, NDArray[np.float32]]
"""Tensors by name, each (1, c, h, w)."""


@dataclass(frozen=True)
class FloatNetwork:
    """A float network with its task; `model` is the file as it was read, for comparison."""

    graph: Graph
    task: Task
    model: bytes


def read_network(path: Path, task_file: Path | None = None) -> FloatNetwork:
    """Read a float ONNX file whose inputs are colour images.

    Raises:
        ModelError: no such file, not ONNX, quantized already, without a task, or with other inputs.
    """
    if path.suffix != ".onnx":
        raise ModelError(f"{path} is no .onnx file; give a float ONNX model, zoo:NAME or path.py:function")
    graph = _separate_sigmoids(simplify(import_onnx(path)))
    if any(tensor.dtype != "f32" for tensor in graph.tensors.values()):
        raise ModelError(f"{path} holds integers already; give the float model that it was made from")
    task = find_task(path, task_file)
    if task is None:
        raise ModelError(
            f"{path} has no task: write one to {path.with_suffix('.task.toml').name} beside it, or give "
            "--task FILE (docs/your_model.md shows an example)"
        )
    for what, specs, names in (("input", task.inputs, graph.inputs), ("output", task.outputs, graph.outputs)):
        if sorted(spec.name for spec in specs) != sorted(names):
            raise ModelError(
                f"the task of {path} describes the {what}s {', '.join(spec.name for spec in specs)}, "
                f"but the model has {', '.join(names)}"
            )
    for name in graph.inputs:
        if graph.shape(name)[2] != 3:
            raise ModelError(
                f"input '{name}' of {path} has {graph.shape(name)[2]} channels; "
                "frames are colour images with 3"
            )
    # Read anew rather than taken as bytes: weights may lie in files beside it.
    return FloatNetwork(graph, task, onnx.load(path).SerializeToString())


def pixels(frame: Frame, network: FloatNetwork) -> Values:
    """Return the network's inputs for a frame: pixel * scale + bias, (1, 3, h, w) each."""
    found = {}
    for spec in network.task.inputs:
        height, width, _ = network.graph.shape(spec.name)
        image = network_input(frame, height, width).transpose(2, 0, 1)[None]
        found[spec.name] = (image * spec.scale + spec.bias).astype(np.float32)
    return found


def run(model: bytes, inputs: Sequence[Values]) -> Iterator[Values]:
    """Yield all outputs of an ONNX model, sample by sample, as ONNX Runtime computes them.

    Raises:
        ModelError: ONNX Runtime cannot run the model on such inputs.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception
    options.intra_op_num_threads = 1  # samples are too small to share
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for values in inputs:
            yield dict(zip(names, session.run(names, dict(values)), strict=True))
    except Exception as error:  # its exceptions have no common base
        raise ModelError(f"ONNX Runtime cannot run the model: {str(error).splitlines()[0]}") from error


def _separate_sigmoids(graph: Graph) -> Graph:
    """Return `graph` with sigmoids as operators of their own: in integers they are tables, not clamps."""
    ops: list[Op] = []
    tensors = dict(graph.tensors)
    for op in graph.ops:
        attrs = op.attrs
        if isinstance(attrs, ConvAttrs) and attrs.activation.kind == "sigmoid":
            linear = f"{op.name}.linear"
            tensors[linear] = Tensor(linear, graph.shape(op.outputs[0]))
            ops.append(replace(op, outputs=(linear,), attrs=replace(attrs, activation=LINEAR)))
            ops.append(Op("activation", f"{op.name}.sigmoid", (linear,), op.outputs, attrs.activation))
        else:
            ops.append(op)
    return graph.with_ops(ops, tensors=tensors)

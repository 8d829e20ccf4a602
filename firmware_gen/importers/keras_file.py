"""Reads Keras files by way of TensorFlow's own converter to TFLite."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph
from firmware_gen.importers.tflite.file import read_tflite


def import_keras(path: Path) -> Graph:
    """Return the network in a .keras or .h5 file as a graph of rows, columns, channels.

    Inputs, outputs and layers have the names that they have in Keras.

    Raises:
        ModelError: no TensorFlow, no Keras model, or something in it that is not supported.
    """
    model = _load(path)
    data = _converted(model, path)
    graph = read_tflite(data, path)
    # The converter calls the outputs output_0, output_1 ... in the order of the model.
    keras = {f"output_{k}": name for k, name in enumerate(getattr(model, "output_names", ()))}
    names = {str(index): keras.get(name, name) for index, name in _signature(data).items()}
    edges = {name: graph.tensors[name].source for name in (*graph.inputs, *graph.outputs)}
    layers = frozenset(layer.name for layer in model.layers)
    return _renamed(graph, {name: names.get(source, name) for name, source in edges.items()}, layers)


def convert_keras(path: Path) -> bytes:
    """Return a Keras model as the bytes of a float32 .tflite file.

    Raises:
        ModelError: TensorFlow is not installed, or cannot read or convert the file.
    """
    return _converted(_load(path), path)


def _load(path: Path) -> Any:
    if importlib.util.find_spec("tensorflow") is None:
        raise ModelError(
            f"{path} can only be read with TensorFlow; install it with: pip install 'fieldtune[tensorflow]', "
            "or convert the model to .tflite"
        )
    import tensorflow as tf

    try:
        # Layers that carry code of their own (Lambda) are not run: the file may come from anywhere.
        return tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # TensorFlow, Keras and h5py raise errors of many kinds
        raise ModelError(f"{path} cannot be read as a Keras model: {_first_line(error)}") from error


def _converted(model: Any, path: Path) -> bytes:
    import tensorflow as tf

    try:
        return bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    except Exception as error:
        raise ModelError(f"TensorFlow cannot convert {path} to TFLite: {_first_line(error)}") from error


def _signature(data: bytes) -> dict[int, str]:
    """Return the names that the signature of a converted model gives to tensors, by their number."""
    import tflite

    signature = tflite.Model.GetRootAs(data, 0).SignatureDefs(0)
    entries = [signature.Inputs(k) for k in range(signature.InputsLength())]
    entries += [signature.Outputs(k) for k in range(signature.OutputsLength())]
    return {entry.TensorIndex(): entry.Name().decode() for entry in entries}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _renamed(graph: Graph, tensors: Mapping[str, str], layers: frozenset[str]) -> Graph:
    """Return `graph` with other names of `tensors`; `layers` are those of the Keras model."""

    def swap(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(tensors.get(name, name) for name in names)

    def layer(name: str) -> str:
        # The converter traces a model a second time, and numbers all names for it.
        first = name.removesuffix("_1")
        return first if name not in layers and first in layers else name

    ops = [
        dataclasses.replace(op, name=layer(op.name), inputs=swap(op.inputs), outputs=swap(op.outputs))
        for op in graph.ops
    ]
    described = {
        tensors.get(name, name): dataclasses.replace(tensor, name=tensors.get(name, name))
        for name, tensor in graph.tensors.items()
    }
    inputs, outputs = swap(graph.inputs), swap(graph.outputs)
    return graph.with_ops(ops, tensors=described, inputs=inputs, outputs=outputs)

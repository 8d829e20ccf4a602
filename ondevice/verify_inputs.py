"""What goes through the network to verify it: random values, arrays of the user's, frames."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import DataError
from firmware_gen.graph import Graph, Tensor
from firmware_gen.project import Network
from ondevice.references import FileTensor, Reference
from ondevice.training_data import inputs
from zoo.frames import open_frames
from zoo.loaders.arrays import BROKEN_ARRAY, read_array

Array = NDArray[Any]
Sample = Mapping[str, Array]


def random_samples(graph: Graph, count: int, seed: int) -> list[Sample]:
    """Return `count` samples: integers and pixels of the whole range, floats of the standard normal."""
    random = np.random.default_rng(seed)
    return [{name: _random(graph.tensors[name], random) for name in graph.inputs} for _ in range(count)]


def _random(tensor: Tensor, random: np.random.Generator) -> Array:
    if tensor.dtype == "f32":
        return random.standard_normal(tensor.shape, np.float32)
    dtype = {"u8": np.uint8, "i8": np.int8}.get(tensor.dtype, np.int32)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, tensor.shape, dtype, endpoint=True)


def read_samples(path: Path, network: Network, reference: Reference, most: int | None = None) -> list[Sample]:
    """Return the samples in a file or folder, the first `most` of them.

    Either arrays (``.npy``; ``.npz`` with one for each input by its name), of the shape that an input has in
    the model file, with or without the batch axis, samples along it; images are uint8 (rows, columns, 3). Or
    frames, as ``fieldtune tune`` takes them.

    Raises:
        DataError: there is nothing at `path`, or it is neither, or does not suit the network.
    """
    arrays = _read_arrays(path, network.graph)
    if arrays is None:
        task = network.task
        if task is None:
            raise DataError(
                f"{path} holds no arrays named {', '.join(network.graph.inputs)}, and without a task "
                f"{network.graph.name} takes no frames"
            )
        frames = open_frames(path)
        return [inputs(frame, task, network.graph) for frame in frames[:most]]
    stacked = {
        name: _fitted(array, name, path, network.graph, reference)[:most] for name, array in arrays.items()
    }
    counts = {name: len(array) for name, array in stacked.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise DataError(f"{path} holds {told}; give as many samples of every input, and at least one")
    (count,) = set(counts.values())
    return [{name: array[k] for name, array in stacked.items()} for k in range(count)]


def _read_arrays(path: Path, graph: Graph) -> dict[str, Array] | None:
    """Return the array of each input by name, or None when the file is none that holds such arrays."""
    if path.suffix == ".npy":
        if len(graph.inputs) != 1:
            raise DataError(
                f"{path} is one array, but {graph.name} has the inputs {', '.join(graph.inputs)}; "
                "give an .npz with these names"
            )
        return {graph.inputs[0]: read_array(path)}
    if path.suffix != ".npz" or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not {*graph.inputs} <= {*archive.files}:
                return None
            return {name: archive[name] for name in graph.inputs}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, *BROKEN_ARRAY) as error:
        raise DataError(f"{path} is no complete .npz file; write it again with numpy.savez") from error


def _fitted(array: Array, name: str, path: Path, graph: Graph, reference: Reference) -> Array:
    """Return the samples (count, rows, columns, channels) as the board takes them."""
    tensor = graph.tensors[name]
    images = not tensor.source
    own = FileTensor((1, *tensor.shape), np.dtype(np.uint8)) if images else reference.inputs[tensor.source]
    single = array.shape == own.shape[1:]
    floats = own.dtype.kind == "f" and array.dtype.kind == "f"
    if not (single or array.shape[1:] == own.shape[1:]) or not (floats or array.dtype == own.dtype):
        shape = ", ".join(map(str, own.shape[1:]))
        raise DataError(
            f"'{name}' in {path} is {array.dtype} {array.shape}, but must be {own.dtype} ({shape}) or "
            f"(samples, {shape})"
        )
    if not np.isfinite(array).all():
        raise DataError(f"'{name}' in {path} holds values that are not finite")
    samples = array[None] if single else array
    if images:
        return samples
    fitted = [reference.to_graph(tensor.source, sample[None].astype(own.dtype)) for sample in samples]
    return np.array(fitted).reshape(-1, *tensor.shape)

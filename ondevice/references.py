"""A model file's own runtime: LiteRT's reference kernels, ONNX Runtime, torch."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import ModelError, UserError
from firmware_gen.graph import Tensor
from firmware_gen.importers.keras_file import convert_keras

if TYPE_CHECKING:
    import onnx
    from torch import nn

Array = NDArray[Any]
Values = Mapping[str, Array]
"""Tensors by the name that they have in the model file, in the graph's shapes and dtypes."""

_GRAPH_DTYPES = {"f32": np.float32, "u8": np.uint8, "i8": np.int8, "i32": np.int32}
_ONNX_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
}


@dataclass(frozen=True)
class FileTensor:
    """A tensor as the model file has it, with a batch axis of 1."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def of(self, array: Array) -> Array:
        """Return a graph's array with the file's shape and dtype, the values in the same order."""
        return np.ascontiguousarray(_shifted(array, self.dtype).astype(self.dtype).reshape(self.shape))


class Reference(abc.ABC):
    """Computes a model as its own runtime does.

    Attributes:
        name: the runtime with its version.
        steps: how far integers of one layer may be apart although both are right: 0 where the runtime
            promises bits, 1 where it computes integers in float and rounds.
        inputs: the file's inputs, in its order, which is the graph's.
        tensors: what is computed, by source.
    """

    name: str
    steps: int
    inputs: Mapping[str, FileTensor]

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        """Compute these `tensors` of a graph, which have a source."""
        self.tensors = {tensor.source: tensor for tensor in tensors}

    @abc.abstractmethod
    def run(self, inputs: Values) -> Values:
        """Return the tensors for these inputs of the network.

        Raises:
            ModelError: the runtime cannot compute the model.
        """

    def layers(self, inputs: Values, board: Values) -> Values:
        """Return what `board`, the tensors as a board has them, should have been.

        Each is computed from the board's values of the tensors before it where the runtime can do that; then
        a difference is the layer's own, and not the sum of all before it.

        Raises:
            ModelError: the runtime cannot compute the model.
        """
        return self.run(inputs)

    def to_graph(self, source: str, array: Array) -> Array:
        """Return an array of the file's shape and dtype in the graph's."""
        tensor = self.tensors[source]
        return _shifted(array, np.dtype(_GRAPH_DTYPES[tensor.dtype])).reshape(tensor.shape)


def open_reference(path: Path, tensors: Iterable[Tensor]) -> Reference:
    """Return the runtime for a model file: LiteRT for .tflite and what is converted to it, else ONNX Runtime.

    Raises:
        UserError: the runtime is not installed.
        ModelError: it cannot read the file.
    """
    return OnnxRuntime(path, tensors) if path.suffix == ".onnx" else LiteRt(path, tensors)


class LiteRt(Reference):
    """LiteRT with its reference kernels, which define what int8 models compute."""

    steps = 0

    def __init__(self, path: Path, tensors: Iterable[Tensor]) -> None:
        super().__init__(tensors)
        try:
            import ai_edge_litert  # type: ignore[import-untyped]
            from ai_edge_litert.interpreter import (  # type: ignore[import-untyped]
                Interpreter,
                OpResolverType,
            )
        except ImportError as error:
            raise _missing("LiteRT", path) from error
        self.name = f"LiteRT {ai_edge_litert.__version__} (reference kernels)"
        self._path = path
        try:
            self._interpreter = Interpreter(
                model_content=path.read_bytes() if path.suffix == ".tflite" else convert_keras(path),
                experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                experimental_preserve_all_tensors=True,
                num_threads=1,
            )
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise self._failure(error) from error
        self.inputs = {
            str(entry["index"]): FileTensor(tuple(map(int, entry["shape"])), np.dtype(entry["dtype"]))
            for entry in self._interpreter.get_input_details()
        }

    def run(self, inputs: Values) -> Values:
        """Return the tensors as LiteRT leaves them."""
        for source, described in self.inputs.items():
            self._interpreter.set_tensor(int(source), described.of(inputs[source]))
        try:
            self._interpreter.invoke()
            return {s: self.to_graph(s, self._interpreter.get_tensor(int(s))) for s in self.tensors}
        except RuntimeError as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ModelError:
        return ModelError(f"LiteRT cannot run {self._path}: {_first_line(error)}")


class OnnxRuntime(Reference):
    """ONNX Runtime without graph optimizations: every tensor of the file is computed as the file says."""

    steps = 1

    def __init__(self, path: Path, tensors: Iterable[Tensor]) -> None:
        super().__init__(tensors)
        try:
            import onnxruntime
        except ImportError as error:
            raise _missing("ONNX Runtime", path) from error
        import onnx

        self.name = f"ONNX Runtime {onnxruntime.__version__}"
        self._path = path
        self._model = onnx.load(path)
        made = {name for node in self._model.graph.node for name in node.output}
        self._made = [source for source in self.tensors if source in made]
        whole = _copy(self._model)
        _set_outputs(whole, self._made)
        self._whole = self._session(whole)
        self.inputs = {
            value.name: FileTensor(_fixed(value.shape), np.dtype(_ONNX_DTYPES[value.type]))
            for value in self._whole.get_inputs()
        }
        self._described = dict(self.inputs)

    def run(self, inputs: Values) -> Values:
        """Return the tensors as ONNX Runtime computes them one after the other."""
        feed = {name: _channels_first(inputs[name], described) for name, described in self.inputs.items()}
        made = dict(zip(self._made, self._compute(self._whole, self._made, feed), strict=True))
        self._described |= {name: FileTensor(array.shape, array.dtype) for name, array in made.items()}
        found = {**feed, **made}
        return {name: self.to_graph(name, found[name]) for name in self.tensors if name in found}

    def layers(self, inputs: Values, board: Values) -> Values:
        """Return each tensor as ONNX Runtime computes it from the board's values of those before it."""
        whole = self.run(inputs)
        names = [value.name for value in self._apart.get_inputs()]
        # What is not on the board: float inputs that are pixels there, and tensors that never exist whole.
        known = {**whole, **inputs, **board}
        feed = {name: _channels_first(known[name], self._described[name]) for name in names}
        found = self._compute(self._apart, [_apart(name) for name in self._made], feed)
        made = {name: self.to_graph(name, array) for name, array in zip(self._made, found, strict=True)}
        return {**whole, **made}

    def to_graph(self, source: str, array: Array) -> Array:
        """Return an array of the file's shape and dtype in the graph's."""
        return super().to_graph(source, np.moveaxis(array, 1, -1) if array.ndim > 1 else array)

    @functools.cached_property
    def _apart(self) -> Any:
        """The model cut at every tensor: what is made goes to an output, what is read comes from an input."""
        from onnx import helper

        model = _copy(self._model)
        for node in model.graph.node:
            for position, name in enumerate(node.output):
                if name in self._made:
                    node.output[position] = _apart(name)
        read = {name for node in model.graph.node for name in node.input}
        for name in self._made:
            if name in read:
                described = self._described[name]
                element = helper.np_dtype_to_tensor_dtype(described.dtype)
                model.graph.input.append(helper.make_tensor_value_info(name, element, described.shape))
        _set_outputs(model, [_apart(name) for name in self._made])
        return self._session(model)

    def _session(self, model: onnx.ModelProto) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors, which come as exceptions too
        providers = ["CPUExecutionProvider"]
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions have no base of their own
            raise self._failure(error) from error

    def _compute(self, session: Any, names: list[str], feed: Values) -> list[Array]:
        try:
            return list(session.run(names, feed))
        except Exception as error:  # as above
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> ModelError:
        return ModelError(f"ONNX Runtime cannot run {self._path}: {_first_line(error)}")


class Torch(Reference):
    """A torch module for the outputs, and ONNX Runtime on its export for what lies between."""

    def __init__(self, module: nn.Module, exported: OnnxRuntime, outputs: Sequence[str]) -> None:
        """Take the outputs, which have these names, from the module that `exported` was made from."""
        import torch

        super().__init__(exported.tensors.values())
        self.name = f"torch {torch.__version__}; layers: {exported.name}"
        self.steps = exported.steps
        self.inputs = exported.inputs
        self._module = module.eval()
        self._exported = exported
        self._outputs = outputs

    def run(self, inputs: Values) -> Values:
        """Return the module's outputs, and what lies between from its export."""
        import torch

        arguments = [
            torch.from_numpy(_channels_first(inputs[name], described))
            for name, described in self.inputs.items()
        ]
        with torch.no_grad():
            found = self._module(*arguments)
        found = (found,) if isinstance(found, torch.Tensor) else found
        own = zip(self._outputs, found, strict=True)
        return {**self._exported.run(inputs), **{name: self.to_graph(name, y.numpy()) for name, y in own}}

    def layers(self, inputs: Values, board: Values) -> Values:
        """Return each tensor as ONNX Runtime computes it from the board's values of those before it."""
        return self._exported.layers(inputs, board)

    def to_graph(self, source: str, array: Array) -> Array:
        """Return an array of the file's shape and dtype in the graph's."""
        return self._exported.to_graph(source, array)


def _channels_first(array: Array, described: FileTensor) -> Array:
    """Return a graph's array (rows, columns, channels) as an ONNX file has it."""
    if len(described.shape) < 2:
        return described.of(array)
    batch, channels, *space = described.shape
    raster = FileTensor((batch, *space, channels), described.dtype).of(array)
    return np.ascontiguousarray(np.moveaxis(raster, -1, 1))


def _shifted(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return `array` as `dtype` if one is int8 and the other uint8: the graph's int8 is uint8 less 128."""
    if {array.dtype.name, dtype.name} == {"int8", "uint8"}:
        return (array.view(np.uint8) ^ 0x80).view(dtype)
    return array


def _fixed(shape: Iterable[Any]) -> tuple[int, ...]:
    """Return a shape whose free axis, which can only be the batch's, is 1."""
    return tuple(n if isinstance(n, int) else 1 for n in shape)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _set_outputs(model: onnx.ModelProto, names: Iterable[str]) -> None:
    """Make `names` the outputs; ONNX Runtime infers their types."""
    from onnx import ValueInfoProto

    del model.graph.output[:]
    model.graph.output.extend(ValueInfoProto(name=name) for name in names)


def _apart(name: str) -> str:
    return f"{name}/made"


def _missing(runtime: str, path: Path) -> UserError:
    return UserError(f"verifying {path} needs {runtime}: pip install 'fieldtune[verify]'")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""The network as a list of operators over named tensors.

Activations are feature maps of (rows, columns, channels), vectors are (1, 1, channels). The same graph
describes inference and, after :mod:`firmware_gen.backward`, a training step: gradients are tensors, and
what computes them are operators.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.errors import FieldtuneError

Shape = tuple[int, int, int]
DType = Literal["f32", "u8", "i8", "i32", "bits", "bf16", "i16"]
Optimizer = Literal["sgd", "adam", "adamw"]
Real = Literal["f32", "bf16"]  # types of what is real in memory
Gradients = Literal["int8", "int16", "f32"]
Products = Literal["f32", "f16"]
Phase = Literal["forward", "loss", "backward", "update"]
Array = NDArray[np.float32]

ITEM_BITS: Mapping[str, int] = {"f32": 32, "i32": 32, "u8": 8, "i8": 8, "bits": 1, "bf16": 16, "i16": 16}


@dataclass(frozen=True)
class Quantization:
    """What the integers of a tensor mean: value = scale * (q - zero_point). `scale` is a float32 number."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class Range:
    """A range of real values that moves while the network learns: see kernels/moving.h.

    `low` <= 0 <= `high` are where it begins; both 0: found in the first step. A gradient's is symmetric: its
    integers reach from -`symmetric` to `symmetric` and have zero point 0. Of activations that is 0.
    """

    low: float
    high: float
    headroom: float
    rate: float
    symmetric: int = 0


@dataclass(frozen=True)
class Tensor:
    """A value that operators write and read: rows, columns, channels.

    `source` is the tensor of the model file that holds the same values: its name in ONNX, its index in
    TFLite; empty where the file has no such tensor. `range` names the `Graph.ranges` that tells what its
    integers mean while the network learns; then `quantization` is only what they meant in the file.
    """

    name: str
    shape: Shape
    dtype: DType = "f32"
    quantization: Quantization | None = None
    source: str = ""
    range: str = ""

    @property
    def count(self) -> int:
        """Number of values."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    @property
    def bytes(self) -> int:
        """Size of the values when they lie densely."""
        return (self.count * ITEM_BITS[self.dtype] + 7) // 8


@dataclass(frozen=True)
class Slab:
    """Positions `first` to `end` (excluded) along the axis `axis` of `whole`."""

    whole: NDArray[Any]
    axis: int
    first: int
    end: int

    @property
    def index(self) -> tuple[slice, ...]:
        """What numpy takes to find the part in the whole."""
        return (*(slice(None),) * self.axis, slice(self.first, self.end))


@dataclass(frozen=True)
class Constant:
    """A weight, bias or table, in the order of the kernels: convolutions (rows, columns, in, out).

    `source_axes` leads back to the model file: ``value.transpose(source_axes).reshape(source_shape)`` is
    the array that stands there under `name`; None when the value is a product of folding and stands
    nowhere. `scales` of an int8 weight: one for all or one for each output channel, value = scale * q.
    `slab`: of which array, in the kernels' order too, `value` is only a part.
    """

    name: str
    value: NDArray[Any]  # float32, int8 or int32
    source_axes: tuple[int, ...] | None = None
    source_shape: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    slab: Slab | None = None

    @property
    def dtype(self) -> DType:
        """Type of the values."""
        types: Mapping[str, DType] = {"float32": "f32", "int8": "i8", "int32": "i32"}
        return types[self.value.dtype.name]

    @property
    def shape(self) -> Shape:
        """Taps, in, out of a weight; 1, 1, count of a bias: how the firmware's tensor table has it."""
        if self.value.ndim == 4:
            rows, columns, inner, outer = self.value.shape
            return rows * columns, inner, outer
        return 1, 1, self.value.size


@dataclass(frozen=True)
class Op:
    """One operator. `attrs` is the operator's own frozen dataclass.

    `scratch` lives only while it runs; so do `stack` bytes, which lie on the stack and not in the arena.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: object = None
    constants: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    phase: Phase = "forward"
    stack: int = 0


@dataclass(frozen=True)
class Graph:
    """Operators in an order in which they can run. All lists keep the order of the model file."""

    name: str
    ops: tuple[Op, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Constant]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    labels: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()  # constants that learn
    weights: Real = "f32"  # how those of float layers lie in RAM
    gradients: Gradients = "int8"  # that pass through int8 layers
    products: Products = "f32"  # of float convolutions; f16: binary16
    optimizer: Optimizer = "sgd"
    state: Mapping[str, Tensor] = field(default_factory=dict)  # what gradients and optimizer keep over a step
    ranges: Mapping[str, Range] = field(default_factory=dict)
    latents: tuple[str, ...] = ()  # tensors that a training step can start from instead of `inputs`
    scaled_by_reader: tuple[str, ...] = ()  # outputs in int8 that the model has in floats

    @property
    def latent_ops(self) -> int:
        """How many operators, the first ones, are left out when a step starts from the latents."""
        makers = (k for k, op in enumerate(self.ops) if not set(op.outputs).isdisjoint(self.latents))
        return 1 + max(makers, default=-1)

    @property
    def inputs_above(self) -> tuple[str, ...]:
        """The inputs that a step from the latents reads as well."""
        read = {name for op in self.ops[self.latent_ops :] for name in op.inputs}
        return tuple(name for name in self.inputs if name in read)

    def with_ops(self, ops: Iterable[Op], **changes: object) -> Graph:
        """Return a copy with other operators; tensors and constants that none uses any more are dropped."""
        graph = dataclasses.replace(self, ops=tuple(ops), **changes)  # type: ignore[arg-type]
        named = {name for op in graph.ops for name in (*op.inputs, *op.outputs, *op.scratch)}
        named.update(graph.inputs, graph.outputs, graph.labels, graph.masks)
        used = {name for op in graph.ops for name in op.constants}
        return dataclasses.replace(
            graph,
            tensors={name: tensor for name, tensor in graph.tensors.items() if name in named},
            constants={name: constant for name, constant in graph.constants.items() if name in used},
        )

    def renamed(self, old: str, new: str) -> Graph:
        """Return a copy with another name for a tensor wherever an operator reads or writes it.

        Lists keep their names, and `new` takes the description of `old`.
        """

        def swap(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(new if name == old else name for name in names)

        ops = [dataclasses.replace(op, inputs=swap(op.inputs), outputs=swap(op.outputs)) for op in self.ops]
        described = dataclasses.replace(self.tensors[old], name=new)
        return self.with_ops(ops, tensors={**self.tensors, new: described})

    def producer(self, tensor: str) -> Op | None:
        """Return the operator that writes `tensor`, None for an input."""
        return next((op for op in self.ops if tensor in op.outputs), None)

    def consumers(self, tensor: str) -> list[Op]:
        """Return the operators that read `tensor`."""
        return [op for op in self.ops if tensor in op.inputs]

    def shape(self, tensor: str) -> Shape:
        """Return the shape of `tensor`."""
        return self.tensors[tensor].shape

    def learned(self, constant: str) -> Tensor:
        """Return how `constant`, which learns, lies in RAM.

        Biases stay in f32: they are few, nothing is saved by keeping fewer of their digits.
        """
        described = self.constants[constant]
        weights = described.dtype == "f32" and described.value.ndim == 4
        return Tensor(constant, described.shape, self.weights if weights else described.dtype)

    def fingerprint(self) -> int:
        """Return 32 bits that change when any operator, shape or weight changes; scratch is the board's."""
        digest = hashlib.sha256()
        scratch = {name for op in self.ops for name in op.scratch}
        for op in self.ops:
            digest.update(repr(dataclasses.replace(op, scratch=(), stack=0)).encode())
        for name, tensor in sorted(self.tensors.items()):
            if name in scratch:
                continue
            digest.update(f"{name} {tensor.shape} {tensor.dtype} {tensor.quantization}".encode())
            digest.update(tensor.range.encode())
        for name, moving in sorted(self.ranges.items()):
            digest.update(f"{name} {moving}".encode())
        for name, constant in sorted(self.constants.items()):
            digest.update(f"{name} {constant.value.shape} {constant.value.dtype}".encode())
            digest.update(np.ascontiguousarray(constant.value).tobytes())
        return zlib.crc32(digest.digest())


def gradient_name(constant: str) -> str:
    """Return the name of the gradient of a constant, where it is kept for longer than a layer's update."""
    return f"gradient.{constant}"


def check(graph: Graph) -> Graph:
    """Return `graph` if every name is defined before it is used, once; every pass must keep this so.

    Raises:
        FieldtuneError: a pass or importer has made an inconsistent graph (a defect of ours).
    """
    known = {*graph.inputs, *graph.labels, *graph.masks}
    for op in graph.ops:
        for name in op.inputs:
            if name not in known:
                raise FieldtuneError(f"operator {op.name} reads {name}, which nothing has written")
        for name in op.outputs:
            if name in known:
                raise FieldtuneError(f"operator {op.name} writes {name} a second time")
            known.add(name)
        for name in op.constants:
            if name not in graph.constants:
                raise FieldtuneError(f"operator {op.name} uses the constant {name}, which does not exist")
    for name in (*known, *graph.outputs):
        if name not in graph.tensors:
            raise FieldtuneError(f"the tensor {name} has no description")
    return graph

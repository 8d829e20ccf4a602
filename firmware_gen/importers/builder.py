"""Grows a graph node by node, whatever the file format."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.graph import Constant, Graph, Op, Shape, Tensor
from firmware_gen.operators.base import Lowered

# Beyond these a tensor is a broken file, not a network for a microcontroller.
MAX_VALUES = 1 << 28
MAX_AXIS = (1 << 16) - 1  # ft_tensor_t counts in 16 bits


class Builder:
    """Collects operators. Tensors are rows, columns, channels; an alias stands for a node without effect."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ops: list[Op] = []
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, Constant] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []
        self._aliases: dict[str, str] = {}
        self._ranks: dict[str, int] = {}

    def add_input(self, tensor: Tensor, rank: int) -> None:
        """Add a network input."""
        self._inputs.append(tensor.name)
        self.declare(tensor, rank)

    def declare(self, tensor: Tensor, rank: int) -> None:
        """Describe a tensor: `rank` is its number of axes in the file."""
        if min(tensor.shape) < 1 or max(tensor.shape) > MAX_AXIS or tensor.count > MAX_VALUES:
            raise ModelError(
                f"the tensor '{tensor.name}' of {self._name} has the impossible shape {tensor.shape}"
            )
        self._tensors[tensor.name] = tensor
        self._ranks[tensor.name] = rank

    def alias(self, name: str, of: str, rank: int) -> None:
        """Let `name` stand for the tensor `of`, seen with `rank` axes."""
        self._aliases[name] = self.resolve(of)
        self._ranks[name] = rank

    def resolve(self, name: str) -> str:
        """Return the tensor behind `name`."""
        name = self._aliases.get(name, name)
        if name not in self._tensors:
            raise ModelError(f"'{name}' is used in {self._name} but is no result of a supported operator")
        return name

    def knows(self, name: str) -> bool:
        """Tell whether `name` is a tensor, and no constant."""
        return self._aliases.get(name, name) in self._tensors

    def tensor(self, name: str) -> Tensor:
        """Return the description of the tensor behind `name`."""
        return self._tensors[self.resolve(name)]

    def shape(self, name: str) -> Shape:
        """Return rows, columns, channels."""
        return self.tensor(name).shape

    def rank(self, name: str) -> int:
        """Return the number of axes in the file."""
        return self._ranks[name] if name in self._aliases else self._ranks[self.resolve(name)]

    def constant(self, constant: Constant) -> str:
        """Add a weight; the same one may be added again."""
        if not np.isfinite(constant.value).all():
            raise ModelError(f"the weights '{constant.name}' of {self._name} are not all finite numbers")
        known = self._constants.setdefault(constant.name, constant)
        if known is not constant and not np.array_equal(known.value, constant.value):
            raise ModelError(f"'{constant.name}' of {self._name} is used in two different ways")
        return constant.name

    def add(
        self,
        kind: str,
        layer: str,
        inputs: Sequence[str],
        output: str,
        shape: Shape,
        attrs: object = None,
        constants: Sequence[str] = (),
        rank: int = 4,
    ) -> None:
        """Add a float operator with its output; a layer's name that is taken gets a number."""
        lowered = Lowered(kind, attrs, tuple(self._constants[name] for name in constants))
        self.put(lowered, layer, inputs, Tensor(output, shape, source=output), rank)

    def put(self, lowered: Lowered, layer: str, inputs: Sequence[str], output: Tensor, rank: int = 4) -> None:
        """Add an operator with its constants and output; a layer's name that is taken gets a number."""
        resolved = tuple(self.resolve(x) for x in inputs)
        constants = tuple(self.constant(constant) for constant in lowered.constants)
        op = Op(lowered.kind, self.free(layer), resolved, (output.name,), lowered.attrs, constants)
        self._ops.append(op)
        self.declare(output, rank)

    def free(self, layer: str) -> str:
        """Return `layer`, with a number if a layer has that name already."""
        taken = {op.name for op in self._ops}
        name, count = layer, 1
        while name in taken:
            count += 1
            name = f"{layer}.{count}"
        return name

    def add_output(self, name: str) -> None:
        """Make `name` an output of the network."""
        actual = self.resolve(name)
        if actual in self._inputs:
            raise ModelError(f"the output '{name}' of {self._name} is its input: nothing is computed")
        if actual in self._outputs:
            raise ModelError(f"outputs '{actual}' and '{name}' of {self._name} are the same; leave one out")
        if actual != name:
            # The caller knows the output by the file's name, not by that of the tensor it stands for.
            self._rename(actual, name)
            actual = name
        self._outputs.append(actual)

    def _rename(self, old: str, new: str) -> None:
        def swap(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(new if name == old else name for name in names)

        self._ops = [
            Op(o.kind, o.name, swap(o.inputs), swap(o.outputs), o.attrs, o.constants) for o in self._ops
        ]
        self._tensors[new] = dataclasses.replace(self._tensors.pop(old), name=new)
        self._ranks[new] = self._ranks.pop(old)
        self._aliases = {key: new if of == old else of for key, of in self._aliases.items()}
        self._aliases.pop(new, None)

    def graph(self) -> Graph:
        """Return what was collected, without operators that no output needs."""
        needed = set(self._outputs)
        kept: list[Op] = []
        for op in reversed(self._ops):
            if needed.intersection(op.outputs):
                kept.append(op)
                needed.update(op.inputs)
        graph = Graph(
            self._name,
            tuple(reversed(kept)),
            self._tensors,
            self._constants,
            tuple(self._inputs),
            tuple(self._outputs),
        )
        return graph.with_ops(graph.ops)


def hwc(dims: Sequence[int], name: str) -> Shape:
    """Return (rows, columns, channels) of channels-first dimensions with a batch axis of 1.

    Raises:
        ModelError: other numbers of axes, or a batch.
    """
    if not 2 <= len(dims) <= 4 or dims[0] != 1:
        raise ModelError(
            f"the tensor '{name}' has shape {tuple(dims)}; supported are (1, C), (1, C, L) and (1, C, H, W)"
        )
    channels = dims[1]
    height = dims[2] if len(dims) == 4 else 1
    width = dims[-1] if len(dims) >= 3 else 1
    return height, width, channels

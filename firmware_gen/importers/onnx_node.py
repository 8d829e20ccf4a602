"""One node of an ONNX file, as the converters see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.graph import Array


@dataclass(frozen=True)
class Grid:
    """The integers behind a constant: value = scale * q, one scale or one for each position of `axis`."""

    scales: tuple[float, ...]
    axis: int | None


@dataclass(frozen=True)
class Node:
    """One node of the file.

    `values` are all constants known so far, `grids` those of them that came out of integers, `origins` the
    initializers from which folding made them.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int
    values: dict[str, np.ndarray] = field(repr=False)
    grids: dict[str, Grid] = field(default_factory=dict, repr=False)
    origins: dict[str, str] = field(default_factory=dict, repr=False)

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute."""
        return self.attributes.get(name, default)

    def has(self, position: int) -> bool:
        """Tell whether an optional input is given."""
        return len(self.inputs) > position and self.inputs[position] != ""

    def value(self, position: int) -> np.ndarray:
        """Return an input that must be constant."""
        name = self.inputs[position]
        if name not in self.values:
            raise self.error(f"its input '{name}' must be a constant")
        return self.values[name]

    def is_constant(self, position: int) -> bool:
        """Tell whether an input is constant."""
        return self.inputs[position] in self.values

    def origin(self, position: int) -> str:
        """Return the name by which the file knows a constant input."""
        return self.origins.get(self.inputs[position], self.inputs[position])

    def scales(self, position: int, axis: int) -> tuple[float, ...]:
        """Return the scales of a constant input on a grid: one, or one a position of `axis`; () if none."""
        grid = self.grids.get(self.inputs[position])
        return grid.scales if grid is not None and grid.axis in (None, axis) else ()

    def error(self, problem: str) -> ModelError:
        """Return the error that names this node."""
        return ModelError(f"{self.kind} (node '{self.name}') is not supported: {problem}")

    def layer(self, weight: str = "") -> str:
        """Return the name by which users know the layer: its weight's, or the path in the node's name."""
        weight = weight.removesuffix("_quantized")  # as ONNX Runtime's quantizer calls the integers
        for ending in (".weight", "_weight", ".kernel", "/kernel"):
            if weight.endswith(ending):
                return weight[: -len(ending)]
        path = self.name.strip("/").split("/")
        return ".".join(path[:-1]) if len(path) > 1 else path[0]


def floats(node: Node, position: int) -> Array:
    """Return an input that must be a constant of finite floats, in single precision."""
    value = node.value(position)
    if value.dtype not in (np.float32, np.float64, np.float16):
        raise node.error(
            f"its constant '{node.inputs[position]}' has type {value.dtype}; floats are supported"
        )
    with np.errstate(over="ignore"):
        single = value.astype(np.float32)
    if not np.isfinite(single).all():
        raise ModelError(f"the weights '{node.inputs[position]}' are not all finite numbers")
    return single

"""A graph that is built twice at once: as an ONNX file and, in float64, of torch's values."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from references import LOSSES, Array

from boards import load_board
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import lighten, simplify
from firmware_gen.plan import Plan, make_plan
from firmware_gen.update import UpdatePlan

Pads = tuple[int, int, int, int]  # top, left, bottom, right
Pair = tuple[int, int]


@dataclass(frozen=True)
class Parameter:
    """A weight of the reference; `to_file` brings the kernels' order into the model file's."""

    value: torch.Tensor
    to_file: Callable[[Array], Array]


class TwinGraph:
    """Adds operators to an ONNX graph and computes their float64 values at the same time.

    Values are torch tensors (1, C, H, W) or (1, C). With `rank` 3 the file holds maps of (1, C, L), which are
    maps of one row here.
    """

    def __init__(self, seed: int, rank: int = 4, opset: int = 19) -> None:
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.rank = rank
        self.opset = opset
        self.values: dict[str, torch.Tensor] = {}
        self.parameters: dict[str, Parameter] = {}
        self.inputs: dict[str, Array] = {}
        self.outputs: list[str] = []
        self.losses: list[LossSpec] = []
        self.labels: dict[str, Array] = {}
        self.masks: dict[str, Array] = {}
        self.loss_values: list[torch.Tensor] = []
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._count = 0

    def __repr__(self) -> str:
        return "\n".join([onnx.printer.to_text(node) for node in self._nodes])

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.values[name].shape)

    def input(self, channels: int, height: int, width: int) -> str:
        name = f"input{len(self.inputs)}"
        value = self.rng.standard_normal((1, channels, height, width)).astype(np.float32)
        self.inputs[name] = value
        self.values[name] = torch.tensor(value).double()
        return name

    def output(self, name: str) -> str:
        self.outputs.append(name)
        return name

    def loss(self, output: str, kind: str, masked: float = 0.3, weight: float = 1.0) -> None:
        """Make `output` an output that learns by `kind` from random labels; `masked` is the share unknown."""
        name = self.output(output)
        prediction = self.values[name]
        shape = (1, 1, *prediction.shape[2:]) if kind == "cross_entropy" else tuple(prediction.shape)
        mask = (self.rng.random(shape) >= masked).astype(np.uint8)
        if kind == "cross_entropy":
            # Also labels that name no class, such as 255 for "unknown": they count as masked.
            classes = prediction.shape[1]
            dtype = np.uint8 if classes <= 256 else np.int32
            label: Array = self.rng.integers(-1, classes + 1, shape).astype(dtype)
            known = torch.tensor((mask > 0) & (label >= 0) & (label < classes))
        else:
            label = self.rng.uniform(0.5, 3.0, shape).astype(np.float32)
            known = torch.tensor(mask > 0)
        self.losses.append(LossSpec(name, kind, weight))
        self.labels[name], self.masks[name] = label, mask
        if kind == "cross_entropy" and name.startswith("softmax"):
            prediction = prediction.log()  # the loss of a softmax is that of the logits below it
        value = LOSSES[kind](prediction, torch.tensor(label).double(), known)
        self.loss_values.append(weight * value)

    def model(self) -> onnx.ModelProto:
        """Return the ONNX model."""
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, self._dims(value.shape))
            for name, value in self.inputs.items()
        ]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, self._dims(self.shape(name)))
            for name in self.outputs
        ]
        graph = helper.make_graph(self._nodes, "net", inputs, outputs, self._initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)

    def graph(self, folder: Path, name: str = "net") -> Graph:
        """Return the imported and simplified graph."""
        path = folder / f"{name}.onnx"
        onnx.save(self.model(), path)
        return simplify(import_onnx(path))

    def plan(self, folder: Path, update: UpdatePlan, name: str = "net") -> Plan:
        """Return the plan of a training step."""
        graph = lighten(training_graph(self.graph(folder, name), tuple(self.losses), update))
        return make_plan(graph, load_board("native"))

    def gradients(self) -> dict[str, Array]:
        """Return autograd's gradients of the sum of all losses, in the file's order."""
        for parameter in self.parameters.values():
            parameter.value.grad = None
            parameter.value.retain_grad()
        torch.stack(self.loss_values).sum().backward(retain_graph=True)
        return {
            name: np.zeros(parameter.value.shape)
            if parameter.value.grad is None
            else parameter.value.grad.numpy()
            for name, parameter in self.parameters.items()
        }

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _dims(self, shape: Sequence[int]) -> list[int]:
        dims = list(shape)
        return dims if self.rank == 4 or len(dims) < 4 else [dims[0], dims[1], dims[3]]

    def _node(
        self, kind: str, name: str, inputs: Sequence[str], value: torch.Tensor, **attributes: Any
    ) -> str:
        out = f"{name}.out"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], name=name, **attributes))
        self.values[out] = value
        return out

    def _initializer(self, name: str, value: Array) -> str:
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _weight(self, name: str, shape: Sequence[int], fan: int) -> tuple[Array, torch.Tensor]:
        """Add random weights to the file; return them and their leaf in float64."""
        value = (self.rng.standard_normal(tuple(shape)) / math.sqrt(fan)).astype(np.float32)
        kept = value[:, :, 0] if self.rank == 3 and value.ndim == 4 else value
        self._initializer(name, kept)
        return value, torch.tensor(value).double().requires_grad_()

    def _spatial(self, values: Sequence[int]) -> list[int]:
        return list(values) if self.rank == 4 else list(values[1:])

    def _pads(self, pads: Pads) -> list[int]:
        return list(pads) if self.rank == 4 else [pads[1], pads[3]]

    def _axis(self, axis: int) -> int:
        """Return the file's axis of an axis of (1, C, H, W)."""
        return axis if self.rank == 4 or axis < 2 else axis - 1

    def _replace(self, name: str, value: torch.Tensor) -> None:
        """Go on with `value`, which must be what stands there already."""
        assert torch.allclose(value, self.values[name], rtol=1e-9, atol=1e-9)
        self.values[name] = value

"""Networks of convolutions as QDQ files and as float weights, and how they learn on a board."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from onnx import helper
from qdq_models import Scale, border, float_model, integer_weight

from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

Array = NDArray[np.float32]
Found = dict[str, NDArray[Any]]
SLOPE = 0.125
OUTPUT = "y.dq"


@dataclass(frozen=True)
class Layer:
    """A convolution that keeps the size of its map, or halves it with `stride` 2; `up`: one that doubles it.

    `shape` is that of the weight in the file; `part` are the channels of `x` that are read, all if None.
    """

    name: str
    x: str
    shape: tuple[int, int, int, int]
    scale: Scale
    activation: Literal["", "Relu", "LeakyRelu"] = ""
    stride: int = 1
    groups: int = 1
    up: bool = False
    float_weight: bool = False
    part: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        return self.shape[1 if self.up else 0]

    def forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = x if self.part is None else x[:, slice(*self.part)]
        if self.up:
            y = F.conv_transpose2d(x, weight, bias, self.shape[2])
        else:
            y = F.conv2d(x, weight, bias, self.stride, self.shape[2] // 2, groups=self.groups)
        if self.activation == "LeakyRelu":
            return F.leaky_relu(y, SLOPE)
        return F.relu(y) if self.activation else y


@dataclass(frozen=True)
class Join:
    """A concatenation of channels."""

    name: str
    inputs: tuple[str, ...]
    scale: Scale


class QdqNetwork:
    """A network from `x`, a map of `size` rows and columns with 3 channels, to the layer `y`."""

    def __init__(self, parts: Sequence[Layer | Join], size: int, seed: int) -> None:
        self.parts, self.size = tuple(parts), size
        layers = [part for part in parts if isinstance(part, Layer)]
        random = np.random.default_rng(seed)
        self.weights: dict[str, Array] = {
            layer.name: (random.standard_normal(layer.shape) / np.sqrt(np.prod(layer.shape[1:]))).astype("f4")
            for layer in layers
        }
        self.biases: dict[str, Array] = {
            layer.name: (0.1 * random.standard_normal(layer.channels)).astype("f4") for layer in layers
        }

    def graph(self, folder: Path) -> Graph:
        """Return the imported file."""
        return integer_layers(simplify(import_onnx(self.file(folder))))

    def file(self, folder: Path) -> Path:
        """Write net.onnx; tensors are called as their layers, .dq behind the quantization."""
        arrays: dict[str, Any] = {"channel axis": np.array([1])}
        nodes = border("x", "x.dq", Scale(0.03, 0), arrays)
        for part in self.parts:
            if isinstance(part, Layer):
                nodes += self._layer(part, arrays)
            else:
                inputs = [f"{name}.dq" for name in part.inputs]
                nodes.append(helper.make_node("Concat", inputs, [f"{part.name}.float"], axis=1))
                nodes += border(f"{part.name}.float", f"{part.name}.dq", part.scale, arrays)
        channels, out = self.weights["y"].shape[0], self._out_size()
        shapes = {"x": (1, 3, self.size, self.size)}, {OUTPUT: (1, channels, out, out)}
        path = folder / "net.onnx"
        onnx.save(float_model(nodes, *shapes, arrays), path)
        return path

    def _out_size(self) -> int:
        """Return the rows and columns of y."""
        sizes = {"x": self.size}
        for part in self.parts:
            if isinstance(part, Layer):
                size = sizes[part.x]
                sizes[part.name] = size * part.shape[2] if part.up else -(-size // part.stride)
            else:
                sizes[part.name] = sizes[part.inputs[0]]
        return sizes["y"]

    def _layer(self, layer: Layer, arrays: dict[str, Any]) -> list[onnx.NodeProto]:
        name, x, nodes = layer.name, f"{layer.x}.dq", []
        if layer.part is not None:
            first, end = f"{name}.first", f"{name}.end"
            arrays |= {number: np.array([k]) for number, k in zip((first, end), layer.part, strict=True)}
            nodes.append(helper.make_node("Slice", [x, first, end, "channel axis"], [f"{name}.part"]))
            x = f"{name}.part"
        weight = f"{name}.weight"
        if layer.float_weight:
            arrays[weight] = self.weights[name]
        else:
            nodes.append(integer_weight(weight, self.weights[name], int(layer.up), arrays))
            weight += ".dq"
        arrays[f"{name}.bias"] = self.biases[name]
        kind, strides, pad = "Conv", layer.stride, layer.shape[2] // 2
        if layer.up:
            kind, strides, pad = "ConvTranspose", layer.shape[2], 0
        attributes = {"strides": [strides] * 2, "pads": [pad] * 4, "group": layer.groups}
        out = f"{name}.sum"
        nodes.append(helper.make_node(kind, [x, weight, f"{name}.bias"], [out], name, **attributes))
        if layer.activation:
            slope = {"alpha": SLOPE} if layer.activation == "LeakyRelu" else {}
            nodes.append(helper.make_node(layer.activation, [out], [f"{name}.act"], **slope))
            out = f"{name}.act"
        return [*nodes, *border(out, f"{name}.dq", layer.scale, arrays)]

    def gradients(self, x: Array, label: Array, weights: dict[str, Array] | None = None) -> dict[str, Array]:
        """Return dLoss/d of weights and biases by autograd, in the file's order, without any quantization.

        `weights` take the place of those of the file.
        """

        def learning(values: dict[str, Array]) -> dict[str, torch.Tensor]:
            return {name: torch.tensor(value).double().requires_grad_() for name, value in values.items()}

        def channels_first(value: Array) -> torch.Tensor:
            return torch.tensor(value).double().permute(2, 0, 1)[None]

        w, b = learning(self.weights | (weights or {})), learning(self.biases)
        maps = {"x": channels_first(x)}
        for part in self.parts:
            if isinstance(part, Layer):
                maps[part.name] = part.forward(maps[part.x], w[part.name], b[part.name])
            else:
                maps[part.name] = torch.cat([maps[name] for name in part.inputs], 1)
        F.mse_loss(maps["y"], channels_first(label)).backward()
        found = {f"{name}.weight": value.grad for name, value in w.items()}
        found |= {f"{name}.bias": value.grad for name, value in b.items()}
        return {name: value.numpy().astype(np.float32) for name, value in found.items() if value is not None}

    def sample(self, seed: int, scale: float = 1.0) -> dict[str, Any]:
        """Return an input, its label and a mask of ones; `scale`: of the input."""
        random = np.random.default_rng(seed)
        size, channels = (self.size, self.size), self.weights["y"].shape[0]
        return {
            "x": (scale * random.standard_normal((*size, 3))).astype(np.float32),
            f"{OUTPUT}.label": random.standard_normal((*size, channels)).astype(np.float32),
            f"{OUTPUT}.mask": np.ones((*size, channels), np.uint8),
        }


@contextmanager
def opened(plan: Plan, folder: Path, lr: float = 0.02, momentum: float = 0.0) -> Iterator[Device]:
    """Yield the board of `plan`, built in a folder of its name, with these hyper-parameters."""
    with open_board(plan, folder / plan.board.id) as device:
        device.set_hyper(Hyper(lr=lr, momentum=momentum))
        yield device


def learned(
    net: QdqNetwork, plan: Plan, folder: Path, momentum: float = 0.0, scales: Sequence[float] = (1, 1, 1)
) -> Found:
    """Return losses, weights, state and ranges after some steps, and an inference's output.

    `scales`: of the input of one step after the other.
    """
    with opened(plan, folder, momentum=momentum) as device:
        losses = []
        for step, scale in enumerate(scales):
            device.put_sample(net.sample(step, scale))
            losses += device.step(step).losses
        output = device.infer({"x": net.sample(9)["x"]})[OUTPUT]
        assert device.memory().arena_intact
        kept = device.read_role("weight", "state", "range")
        return {**kept, "losses": np.array(losses), "y": output}


def assert_equal(one: Found, other: Found) -> None:
    """Assert that two boards found the same bits."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name

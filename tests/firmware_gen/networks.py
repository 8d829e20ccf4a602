"""Networks that are built twice at once: as an ONNX file and, in float64, by torch's own operators."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from references import LOSSES, Array, pool_count, resize_matrix

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


class Net:
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

    # Building blocks.

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

    # Operators.

    def conv(
        self,
        x: str,
        channels: int,
        kernel: Pair = (1, 1),
        stride: Pair = (1, 1),
        pads: Pads = (0, 0, 0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        bias: bool = True,
        norm: bool = False,
        name: str = "",
    ) -> str:
        """Add a convolution, with `norm` a batch normalization behind it, which the importer folds."""
        name = name or self._fresh("conv")
        inner = self.shape(x)[1] // groups
        array, weight = self._weight(
            f"{name}.weight", (channels, inner, *kernel), inner * kernel[0] * kernel[1]
        )
        leaf_bias = self._bias(f"{name}.bias", channels) if bias else None

        def run(w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
            padded = F.pad(self.values[x], (pads[1], pads[3], pads[0], pads[2]))
            return F.conv2d(padded, w, b, stride, 0, dilation, groups)

        inputs = [x, f"{name}.weight", *([f"{name}.bias"] if bias else [])]
        out = self._node(
            "Conv",
            name,
            inputs,
            run(weight, leaf_bias),
            kernel_shape=self._spatial(kernel),
            strides=self._spatial(stride),
            pads=self._pads(pads),
            dilations=self._spatial(dilation),
            group=groups,
        )
        if norm:
            out, factor, shift = self._norm_node(out)
            weight, leaf_bias = self._folded(weight * factor[:, None, None, None], leaf_bias, factor, shift)
            self._replace(out, run(weight, leaf_bias))
        self._register_conv(name, weight, leaf_bias, (3, 2, 0, 1), array.shape)
        return out

    def conv_transpose(
        self,
        x: str,
        channels: int,
        kernel: Pair,
        stride: Pair = (1, 1),
        pads: Pads = (0, 0, 0, 0),
        output_padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        bias: bool = True,
        norm: bool = False,
        name: str = "",
    ) -> str:
        name = name or self._fresh("tconv")
        inner, given = self.shape(x)[1], channels // groups
        array, weight = self._weight(
            f"{name}.weight", (inner, given, *kernel), inner // groups * kernel[0] * kernel[1]
        )
        leaf_bias = self._bias(f"{name}.bias", channels) if bias else None

        def run(w: torch.Tensor, b: torch.Tensor | None) -> torch.Tensor:
            # Without padding, then the padding cut off and the extra rows and columns added: the definition.
            full = F.conv_transpose2d(self.values[x], w, None, stride, 0, 0, groups, dilation)
            full = F.pad(full, (0, output_padding[1], 0, output_padding[0]))
            height, width = full.shape[2:]
            cut = full[:, :, pads[0] : height - pads[2], pads[1] : width - pads[3]]
            return cut if b is None else cut + b[None, :, None, None]

        inputs = [x, f"{name}.weight", *([f"{name}.bias"] if bias else [])]
        out = self._node(
            "ConvTranspose",
            name,
            inputs,
            run(weight, leaf_bias),
            kernel_shape=self._spatial(kernel),
            strides=self._spatial(stride),
            pads=self._pads(pads),
            output_padding=self._spatial(output_padding),
            dilations=self._spatial(dilation),
            group=groups,
        )
        if norm:
            out, factor, shift = self._norm_node(out)
            by_input = factor.reshape(groups, 1, given).expand(groups, inner // groups, given)
            scaled = weight * by_input.reshape(inner, given)[:, :, None, None]
            weight, leaf_bias = self._folded(scaled, leaf_bias, factor, shift)
            self._replace(out, run(weight, leaf_bias))
        self._register_conv(name, weight, leaf_bias, (2, 3, 0, 1), array.shape)
        return out

    def linear(self, x: str, outputs: int, form: str = "gemm", alpha: float = 1.0, beta: float = 1.0) -> str:
        """Add a fully connected layer; form: gemm, gemm_transposed, matmul or matmul_add."""
        name = self._fresh("fc")
        inner, transposed = self.shape(x)[1], form == "gemm_transposed"
        array, leaf = self._weight(
            f"{name}.weight", (outputs, inner) if transposed else (inner, outputs), inner
        )
        weight = (leaf * alpha).detach().requires_grad_()  # alpha is folded into the weights
        product = self.values[x] @ (weight.T if transposed else weight)
        self.parameters[f"{name}.weight"] = Parameter(weight, _linear_to_file(array.shape, transposed))
        if form.startswith("gemm"):
            bias = (self._bias(f"{name}.bias", outputs) * beta).detach().requires_grad_()
            self.parameters[f"{name}.bias"] = Parameter(bias, np.ravel)
            inputs = [x, f"{name}.weight", f"{name}.bias"]
            return self._node(
                "Gemm", name, inputs, product + bias, transB=int(transposed), alpha=alpha, beta=beta
            )
        out = self._node("MatMul", name, [x, f"{name}.weight"], product)
        if form == "matmul":
            return out
        bias = self._bias(f"{name}.bias", outputs)
        self.parameters[f"{name}.bias"] = Parameter(bias, np.ravel)
        return self._node("Add", f"{name}.add", [out, f"{name}.bias"], self.values[out] + bias)

    def batch_norm(self, x: str) -> str:
        """Add a batch normalization that nothing can absorb: its scale and shift are weights of their own."""
        out, factor, shift = self._norm_node(x)
        name = out.removesuffix(".out")
        factor, shift = factor.detach().requires_grad_(), shift.detach().requires_grad_()
        self.parameters[f"{name}.scale"] = Parameter(factor, np.ravel)
        self.parameters[f"{name}.shift"] = Parameter(shift, np.ravel)
        around = (1, -1) + (1,) * (len(self.shape(x)) - 2)
        self._replace(out, self.values[x] * factor.reshape(around) + shift.reshape(around))
        return out

    def activation(self, x: str, kind: str, low: float = 0.0, high: float = 1.0) -> str:
        """Add Relu, LeakyRelu (slope `high`), Clip (limits) or Sigmoid."""
        value, name = self.values[x], self._fresh(kind.lower())
        if kind == "Clip":
            inputs = [x, f"{name}.low", f"{name}.high"]
            self._initializer(inputs[1], np.float32(low))
            self._initializer(inputs[2], np.float32(high))
            return self._node(
                kind, name, inputs, value.clamp(float(np.float32(low)), float(np.float32(high)))
            )
        if kind == "LeakyRelu":
            return self._node(kind, name, [x], F.leaky_relu(value, float(np.float32(high))), alpha=high)
        return self._node(kind, name, [x], F.relu(value) if kind == "Relu" else torch.sigmoid(value))

    def add(self, a: str, b: str) -> str:
        return self._node("Add", self._fresh("add"), [a, b], self.values[a] + self.values[b])

    def add_constant(self, x: str, form: str) -> str:
        """Add a constant of x: form is scalar, channels or batch (with a batch axis)."""
        name, shape = self._fresh("plus"), self.shape(x)
        channels, spatial = shape[1], (1,) * (len(self._dims(shape)) - 2)
        dims = {"scalar": (), "channels": (channels, *spatial), "batch": (1, channels, *spatial)}[form]
        value = self.rng.standard_normal(dims).astype(np.float32)
        self._initializer(f"{name}.value", value)
        leaf = torch.tensor(np.broadcast_to(value.ravel(), (channels,)).copy()).double().requires_grad_()
        scale = torch.ones(channels, dtype=torch.float64, requires_grad=True)
        around = (1, -1) + (1,) * (len(shape) - 2)
        own = form != "scalar"  # a scalar is broadcast, so what learns stands nowhere in the file
        constant = f"{name}.value" if own else f"{name}.shift"
        self.parameters[constant] = Parameter(leaf, np.ravel)
        self.parameters[f"{name}.scale"] = Parameter(scale, np.ravel)
        result = self.values[x] * scale.reshape(around) + leaf.reshape(around)
        return self._node("Add", name, [f"{name}.value", x], result)

    def concat(self, *parts: str, axis: int = 1) -> str:
        """Add a concatenation; `axis` of (1, C, H, W)."""
        value = torch.cat([self.values[x] for x in parts], axis)
        return self._node("Concat", self._fresh("concat"), parts, value, axis=self._axis(axis))

    def split(self, x: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Add a Split into parts of `sizes` positions."""
        name = self._fresh("split")
        outs = [f"{name}.{k}.out" for k in range(len(sizes))]
        given = self._initializer(f"{name}.sizes", np.array(sizes, np.int64))
        self._nodes.append(helper.make_node("Split", [x, given], outs, name=name, axis=self._axis(axis)))
        self.values.update(zip(outs, self.values[x].split(list(sizes), axis), strict=True))
        return outs

    def slice(self, x: str, ranges: dict[int, tuple[int, int, int]]) -> str:
        """Add a Slice; `ranges`: first, step, count by the axis of (1, C, H, W)."""
        name, value = self._fresh("slice"), self.values[x]
        for axis, (first, step, count) in ranges.items():
            value = value.index_select(axis, torch.tensor([first + k * step for k in range(count)]))
        # The end is excluded; before the first position there is none to name but one far away.
        ends = [first + step * count for first, step, count in ranges.values()]
        given = {
            "starts": [first for first, _, _ in ranges.values()],
            "ends": [end if end >= 0 else -(1 << 31) for end in ends],
            "axes": [self._axis(axis) for axis in ranges],
            "steps": [step for _, step, _ in ranges.values()],
        }
        inputs = [self._initializer(f"{name}.{key}", np.array(v, np.int64)) for key, v in given.items()]
        return self._node("Slice", name, [x, *inputs], value)

    def pad(self, x: str, pads: Pads, mode: str, channels: Pair = (0, 0)) -> str:
        """Add a Pad of rows and columns (and channels); mode: constant, reflect or edge."""
        name, value = self._fresh("pad"), self.values[x]
        border = (pads[1], pads[3], pads[0], pads[2])
        if mode == "constant":
            padded = F.pad(value, (*border, *channels), value=0.5)
        else:
            padded = F.pad(value, border, {"edge": "replicate"}.get(mode, mode))
        spatial = self._pads(pads)
        half = len(spatial) // 2
        amounts = [0, channels[0], *spatial[:half], 0, channels[1], *spatial[half:]]
        inputs = [x, self._initializer(f"{name}.pads", np.array(amounts, np.int64))]
        if mode == "constant":
            inputs.append(self._initializer(f"{name}.value", np.float32(0.5)))
        return self._node("Pad", name, inputs, padded, mode=mode)

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """Add a Transpose; `order` of (1, C, H, W)."""
        value = self.values[x].permute(*order)
        return self._node("Transpose", self._fresh("transpose"), [x], value, perm=list(order))

    def depth_to_space(self, x: str, size: int, mode: str) -> str:
        value = self.values[x]
        _, channels, height, width = value.shape
        if mode == "CRD":
            value = F.pixel_shuffle(value, size)
        else:
            deep = value.reshape(1, size, size, channels // size**2, height, width)
            value = deep.permute(0, 3, 4, 1, 5, 2).reshape(1, -1, height * size, width * size)
        return self._node("DepthToSpace", self._fresh("depth"), [x], value, blocksize=size, mode=mode)

    def _axis(self, axis: int) -> int:
        """Return the file's axis of an axis of (1, C, H, W)."""
        return axis if self.rank == 4 or axis < 2 else axis - 1

    def max_pool(
        self, x: str, kernel: Pair, stride: Pair, pads: Pads, dilation: Pair, ceil: bool = False
    ) -> str:
        padded, _ = self._pool_pad(x, kernel, stride, pads, dilation, ceil, -math.inf)
        value = F.max_pool2d(padded, kernel, stride, 0, dilation)
        return self._pool_node("MaxPool", x, value, kernel, stride, pads, dilation, ceil_mode=int(ceil))

    def average_pool(
        self,
        x: str,
        kernel: Pair,
        stride: Pair,
        pads: Pads,
        dilation: Pair,
        ceil: bool = False,
        count_padding: bool = False,
    ) -> str:
        padded, counted = self._pool_pad(x, kernel, stride, pads, dilation, ceil, 0.0, count_padding)
        channels = padded.shape[1]
        ones = torch.ones((channels, 1, *kernel), dtype=torch.float64)
        total = F.conv2d(padded, ones, None, stride, 0, dilation, channels)
        value = total / F.conv2d(counted, ones[:1], None, stride, 0, dilation)
        return self._pool_node(
            "AveragePool",
            x,
            value,
            kernel,
            stride,
            pads,
            dilation,
            ceil_mode=int(ceil),
            count_include_pad=int(count_padding),
        )

    def global_average_pool(self, x: str) -> str:
        value = self.values[x].mean((2, 3), keepdim=True)
        return self._node("GlobalAveragePool", self._fresh("gap"), [x], value)

    def reduce(self, x: str, kind: str, axes: Sequence[int]) -> str:
        """Add a ReduceMean or ReduceSum over axes of (1, C, H, W)."""
        name, value = self._fresh("reduce"), self.values[x]
        result = value.mean(tuple(axes), True) if kind == "ReduceMean" else value.sum(tuple(axes), True)
        given = [self._axis(axis) for axis in axes]
        inputs = [x, self._initializer(f"{name}.axes", np.array(given, np.int64))]
        return self._node(kind, name, inputs, result, keepdims=1)

    def resize(
        self, x: str, size: Pair, mode: str, coordinates: str, rounding: str, by_scale: bool = False
    ) -> str:
        """Add a Resize; with `by_scale` the file holds the scales size / input size instead of the size."""
        name, shape = self._fresh("resize"), self.shape(x)
        scale = [size[k] / shape[2 + k] for k in (0, 1)]
        rows, columns = (
            torch.tensor(resize_matrix(shape[2 + k], size[k], scale[k], mode, coordinates, rounding))
            for k in (0, 1)
        )
        value = torch.einsum("ih,bchw,jw->bcij", rows, self.values[x], columns)
        if by_scale:
            given = self._initializer(f"{name}.scales", np.array([1, 1, *scale], np.float32))
            inputs = [x, "", given]
        else:
            given = self._initializer(f"{name}.sizes", np.array([1, shape[1], *size], np.int64))
            inputs = [x, "", "", given]
        return self._node(
            "Resize",
            name,
            inputs,
            value,
            mode=mode,
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
        )

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        name = self._fresh("reshape")
        dims = self._initializer(f"{name}.dims", np.array(shape, np.int64))
        return self._node("Reshape", name, [x, dims], self.values[x].reshape(list(shape)))

    def flatten(self, x: str) -> str:
        return self._node("Flatten", self._fresh("flatten"), [x], self.values[x].flatten(1))

    def softmax(self, x: str, axis: int = 1) -> str:
        return self._node("Softmax", self._fresh("softmax"), [x], F.softmax(self.values[x], axis), axis=axis)

    # Losses.

    def loss(self, output: str, kind: str, masked: float = 0.3) -> None:
        """Make `output` an output that learns by `kind` from random labels; `masked` is the share unknown."""
        name = self.output(output)
        prediction = self.values[name]
        shape = (1, 1, *prediction.shape[2:]) if kind == "cross_entropy" else tuple(prediction.shape)
        mask = (self.rng.random(shape) >= masked).astype(np.uint8)
        if kind == "cross_entropy":
            # Also labels that name no class, such as 255 for "unknown": they count as masked.
            label: Array = self.rng.integers(-1, prediction.shape[1] + 1, shape).astype(np.int32)
            known = torch.tensor((mask > 0) & (label >= 0) & (label < prediction.shape[1]))
        else:
            label = self.rng.uniform(0.5, 3.0, shape).astype(np.float32)
            known = torch.tensor(mask > 0)
        self.losses.append(LossSpec(name, kind))
        self.labels[name], self.masks[name] = label, mask
        if kind == "cross_entropy" and name.startswith("softmax"):
            prediction = prediction.log()  # the loss of a softmax is that of the logits below it
        self.loss_values.append(LOSSES[kind](prediction, torch.tensor(label).double(), known))

    # What was built.

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

    # Details.

    def _bias(self, name: str, channels: int) -> torch.Tensor:
        value = (self.rng.standard_normal(channels) * 0.3).astype(np.float32)
        self._initializer(name, value)
        return torch.tensor(value).double().requires_grad_()

    def _register_conv(
        self,
        name: str,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        axes: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> None:
        self.parameters[f"{name}.weight"] = Parameter(weight, lambda v: v.transpose(axes).reshape(shape))
        if bias is not None:
            self.parameters[f"{name}.bias"] = Parameter(bias, np.ravel)

    def _norm_node(self, x: str) -> tuple[str, torch.Tensor, torch.Tensor]:
        """Add a BatchNormalization; return it, and the scale and shift that it amounts to."""
        name, channels = self._fresh("norm"), self.shape(x)[1]
        arrays = {
            "gamma": self.rng.uniform(0.5, 1.5, channels),
            "beta": self.rng.standard_normal(channels) * 0.3,
            "mean": self.rng.standard_normal(channels) * 0.3,
            "var": self.rng.uniform(0.3, 2.0, channels),
        }
        inputs = [x] + [
            self._initializer(f"{name}.{key}", value.astype(np.float32)) for key, value in arrays.items()
        ]
        gamma, beta, mean, var = (torch.tensor(v.astype(np.float32)).double() for v in arrays.values())
        value = F.batch_norm(self.values[x], mean, var, gamma, beta, training=False, eps=1e-3)
        out = self._node("BatchNormalization", name, inputs, value, epsilon=1e-3)
        factor = gamma / torch.sqrt(var + 1e-3)
        return out, factor, beta - mean * factor

    def _folded(
        self, weight: torch.Tensor, bias: torch.Tensor | None, factor: torch.Tensor, shift: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        start = torch.zeros_like(shift) if bias is None else bias
        return weight.detach().requires_grad_(), (start * factor + shift).detach().requires_grad_()

    def _replace(self, name: str, value: torch.Tensor) -> None:
        """Go on with `value`, which must be what stands there already."""
        assert torch.allclose(value, self.values[name], rtol=1e-9, atol=1e-9)
        self.values[name] = value

    def _pool_pad(
        self,
        x: str,
        kernel: Pair,
        stride: Pair,
        pads: Pads,
        dilation: Pair,
        ceil: bool,
        fill: float,
        count_padding: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the map as the windows see it, and 1 where a position counts."""
        value = self.values[x]
        counted = F.pad(torch.ones_like(value[:, :1]), (0, 0, 0, 0))
        sizes = value.shape[2:]
        missing = []
        for k in (0, 1):
            count = pool_count(sizes[k], kernel[k], stride[k], pads[k], pads[k + 2], dilation[k], ceil)
            seen = (count - 1) * stride[k] + dilation[k] * (kernel[k] - 1) + 1
            missing.append(seen - sizes[k] - pads[k])
        inside = [min(pads[2 + k], missing[k]) for k in (0, 1)]
        border = (pads[1], inside[1], pads[0], inside[0])
        counted = F.pad(counted, border, value=1.0 if count_padding else 0.0)
        counted = F.pad(counted, (0, missing[1] - inside[1], 0, missing[0] - inside[0]))
        return F.pad(value, (pads[1], missing[1], pads[0], missing[0]), value=fill), counted

    def _pool_node(
        self,
        kind: str,
        x: str,
        value: torch.Tensor,
        kernel: Pair,
        stride: Pair,
        pads: Pads,
        dilation: Pair,
        **attributes: int,
    ) -> str:
        if dilation != (1, 1):
            attributes["dilations"] = self._spatial(dilation)  # type: ignore[assignment]
        return self._node(
            kind,
            self._fresh("pool"),
            [x],
            value,
            kernel_shape=self._spatial(kernel),
            strides=self._spatial(stride),
            pads=self._pads(pads),
            **attributes,
        )


def _linear_to_file(shape: tuple[int, ...], transposed: bool) -> Callable[[Array], Array]:
    def to_file(value: Array) -> Array:
        # (rows, columns, in, out): more than one row or column where a flattening was folded in.
        matrix = value.transpose(2, 0, 1, 3).reshape(-1, value.shape[3])
        return (matrix.T if transposed else matrix).reshape(shape)

    return to_file

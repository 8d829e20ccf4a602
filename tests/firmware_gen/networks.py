"""Networks that are built twice at once: as an ONNX file and, in float64, by torch's own operators."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper
from references import pool_count, resize_matrix
from twin_graph import Pads, Pair, Parameter
from twin_layers import TwinLayers


class Net(TwinLayers):
    """A twin graph with every operator that is imported from ONNX."""

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

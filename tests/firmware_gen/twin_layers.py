"""Layers with weights, each as ONNX operators and as torch's."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from references import Array
from twin_graph import Pads, Pair, Parameter, TwinGraph


class TwinLayers(TwinGraph):
    """A twin graph with layers that can learn."""

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


def _linear_to_file(shape: tuple[int, ...], transposed: bool) -> Callable[[Array], Array]:
    def to_file(value: Array) -> Array:
        # (rows, columns, in, out): more than one row or column where a flattening was folded in.
        matrix = value.transpose(2, 0, 1, 3).reshape(-1, value.shape[3])
        return (matrix.T if transposed else matrix).reshape(shape)

    return to_file

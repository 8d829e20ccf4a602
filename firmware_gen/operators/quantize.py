"""The borders between floats and integers (C: kernels/quantize.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firmware_gen.c_text import c_float
from firmware_gen.operators.base import Emitter, Lowered, Operator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

Rounding = Literal["away", "even"]  # where halves go: away from zero (TFLite) or to the even neighbour (ONNX)


@dataclass(frozen=True)
class QuantizeAttrs:
    """How values between two integers are rounded."""

    rounding: Rounding


@dataclass(frozen=True)
class PixelScale:
    """network input = pixel * scale + bias."""

    scale: float
    bias: float = 0.0


def quantize(rounding: Rounding) -> Lowered:
    """Lower y = x / scale + zero point: float32 to int8; scale and zero point are the output's."""
    return Lowered("quantize", QuantizeAttrs(rounding))


def dequantize() -> Lowered:
    """Lower y = scale * (x - zero point): int8 or uint8 to float32; scale and zero point are the input's."""
    return Lowered("dequantize")


class Quantize(Operator):
    """int8 from float32, saturated. Nothing can learn below: rounding has no slope."""

    kind = "quantize"
    row_by_row = True

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        attrs, target = step.op.attrs, step.graph.tensors[y].quantization
        assert isinstance(attrs, QuantizeAttrs)
        assert target is not None
        return (
            f"ft_quantize_f32_i8({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c_float(target.scale)}, {target.zero_point}, FT_HALF_{attrs.rounding.upper()}, "
            f"{c.rows(step)});"
        )


class Dequantize(Operator):
    """float32 from int8 or uint8; with a `PixelScale`, from pixels. Here gradients end."""

    kind = "dequantize"
    row_by_row = True

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        source = step.graph.tensors[x]
        if isinstance(step.op.attrs, PixelScale):
            scale, bias, zero_point = step.op.attrs.scale, step.op.attrs.bias, 0
        else:
            assert source.quantization is not None
            scale, bias, zero_point = source.quantization.scale, 0.0, source.quantization.zero_point
        return (
            f"ft_dequantize_{source.dtype}_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {zero_point}, {c_float(scale)}, {c_float(bias)}, {c.rows(step)});"
        )

"""The borders between floats and integers (C: kernels/quantize.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from firmware_gen.c_text import c_float
from firmware_gen.graph import Op
from firmware_gen.operators.base import Emitter, Lowered, Operator, Tape
from firmware_gen.operators.layout import handed_on

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
    """int8 from float32, saturated. On a moving grid the gradient passes as if nothing were rounded."""

    kind = "quantize"
    row_by_row = True

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if not tape.graph.tensors[y].range:
            super().backward(op, tape)
        if not tape.wants(x):
            return
        dy = tape.gradient(y)
        if tape.gradients == "f32":
            tape.contribute(x, handed_on(op.name, dy, tape.graph.shape(x)))
        else:
            tape.contribute(x, Op("dequantize", op.name, (dy,), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        attrs, target = step.op.attrs, step.graph.tensors[y]
        assert isinstance(attrs, QuantizeAttrs)
        quantize = (
            f"ft_quantize_f32_i8({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c.grid(y)}, FT_HALF_{attrs.rounding.upper()}, {c.rows(step)});"
        )
        if not target.range:
            return quantize
        return (
            f"{quantize}\nft_range_observe({c.range(y)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    0, {target.shape[2]}, {c.rows(step)});"
        )


class Dequantize(Operator):
    """float32 from int8 or uint8; with a `PixelScale`, from pixels. Gradients end at a fixed grid."""

    kind = "dequantize"
    row_by_row = True

    def backward(self, op: Op, tape: Tape) -> None:
        x, y = op.inputs[0], op.outputs[0]
        if not tape.graph.tensors[x].range:
            super().backward(op, tape)
        if not tape.wants(x):
            return
        dy = tape.gradient(y)
        if tape.gradients == "f32":
            tape.contribute(x, handed_on(op.name, dy, tape.graph.shape(x)))
        else:
            tape.contribute_integers(x, Op("quantize_gradient", op.name, (dy,), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        source = step.graph.tensors[x]
        if isinstance(step.op.attrs, PixelScale):
            grid, bias = f"(ft_grid_t){{{c_float(step.op.attrs.scale)}, 0}}", step.op.attrs.bias
        else:
            grid, bias = c.grid(x), 0.0
        return (
            f"ft_dequantize_{source.dtype}_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {grid}, {c_float(bias)}, {c.rows(step)});"
        )

"""int8 softmax over the channels (C: kernels/softmax_i8.h)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.fixed_point import (
    Integers,
    exp_on_negative_values,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from firmware_gen.graph import Constant, Op, Quantization, Tensor
from firmware_gen.operators.base import Emitter, Lowered, Operator
from firmware_gen.operators.lookup import requantize

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

MAX_CHANNELS = 4095  # their sum fits in 12 integer bits
INTEGER_BITS = 5  # of scaled differences: below -32 nothing is left of e^x
OUTPUT = Quantization(1 / 256, -128)  # of TFLite's softmax


class SoftmaxI8(Operator):
    """y = softmax(x) for each pixel; constants: exponentials and, for a scale other than 1/256, a table."""

    kind = "softmax_i8"
    row_by_row = True

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0,)

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        exponentials, *output = (c.weight(name) for name in step.op.constants)
        return (
            f"ft_softmax_i8({c.pointer(x)}, {c.map(x)}, {exponentials}, {output[0] if output else 'NULL'},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {c.rows(step)});"
        )


def lower_softmax(x: Tensor, y: Tensor, beta: float = 1.0) -> Lowered:
    """Lower y = softmax(beta * x) over the channels.

    Raises:
        ModelError: more than `MAX_CHANNELS` channels, or a tensor without quantization.
    """
    if x.quantization is None or x.dtype != "i8" or y.dtype != "i8":
        raise ModelError(f"the softmax that makes '{y.name}' is not between quantized int8 tensors")
    if x.shape[2] > MAX_CHANNELS:
        raise ModelError(
            f"the softmax that makes '{y.name}' has {x.shape[2]:,} classes, not {MAX_CHANNELS:,}"
        )
    table = exponentials(x.quantization.scale * beta).astype(np.int32)
    constants = [Constant(f"{y.name}.exponentials", table)]
    if y.quantization != OUTPUT:
        constants += requantize(Tensor(x.name, x.shape, "i8", OUTPUT), y).constants
    return Lowered("softmax_i8", None, tuple(constants))


def exponentials(scale: float) -> Integers:
    """Return e^(-k * scale) for k = 0..255 with 31 fractional bits, as TFLite's reference softmax has it."""
    steps = np.arange(256)
    factor = min(scale * (1 << (31 - INTEGER_BITS)), float((1 << 31) - 1))
    multiplier, shift = quantize_multiplier(factor)
    if shift < 0:
        raise ModelError(f"a softmax has the input scale {scale:g}, which is too small to tell values apart")
    radius = math.floor(((1 << INTEGER_BITS) - 1) * (1 << (31 - INTEGER_BITS)) / (1 << shift))
    within = np.minimum(steps, radius)
    scaled = multiply_by_quantized_multiplier(-within, multiplier, shift)
    return np.where(steps <= radius, exp_on_negative_values(scaled, INTEGER_BITS), 0)

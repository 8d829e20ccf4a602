"""Operators that combine two int8 values at a time (C: kernels/elementwise_i8.h), with the bits of TFLite.

Scales are divided in single or double precision as TFLite's reference kernels do it: that decides the last
bit of the multipliers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from boards import Isa
from fieldtune.errors import ModelError
from firmware_gen.fixed_point import activation_range, quantize_multiplier, single_ratio
from firmware_gen.graph import Constant, Graph, Op, Quantization, Tensor
from firmware_gen.operators import elementwise_i8_mve, elementwise_i8_simd
from firmware_gen.operators.base import Emitter, Lowered
from firmware_gen.operators.binary import Binary, BinaryAttrs, operands
from firmware_gen.operators.variants import Variant, VariedOperator

if TYPE_CHECKING:
    from firmware_gen.schedule import Step

INPUT_SHIFT = 20  # additions work on inputs times 2^20, which leaves room for the sum of two


@dataclass(frozen=True)
class Rescale:
    """ft_rescale_t: a factor multiplier * 2^(shift - 31), and a zero point before or behind it."""

    zero_point: int
    multiplier: int
    shift: int

    def c(self) -> str:
        """Return the initializer."""
        return f"{{{self.zero_point}, {self.multiplier}, {self.shift}}}"


@dataclass(frozen=True)
class BinaryAttrsI8(BinaryAttrs):
    """How operands are brought to one scale (`a`, `b`) and the result to its own (`y`), between low and high.

    For operators that multiply, only the zero points of `a` and `b` matter.
    """

    a: Rescale = Rescale(0, 0, 0)
    b: Rescale = Rescale(0, 0, 0)
    y: Rescale = Rescale(0, 0, 0)
    low: int = -128
    high: int = 127

    def c(self) -> str:
        """Return the ft_binary_i8_t literal."""
        return f"(ft_binary_i8_t){{{self.a.c()}, {self.b.c()}, {self.y.c()}, {self.low}, {self.high}}}"


@dataclass(frozen=True)
class Operand:
    """An int8 operand: what its integers mean and, if it is a constant, its three axes (HWC) of integers."""

    quantization: Quantization
    constant: Constant | None = None


class Lowering(Protocol):
    """How a binary operator becomes an integer one; `low` and `high` are real limits of the result."""

    def __call__(
        self, a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
    ) -> Lowered: ...


class BinaryI8(VariedOperator, Binary):
    """y = a (kind) b, int8."""

    variants: ClassVar[Mapping[Isa, tuple[Variant[BinaryAttrsI8], ...]]] = {
        "dsp": (elementwise_i8_simd,),
        "mve": (elementwise_i8_mve,),
        "xpulp": (elementwise_i8_simd,),
    }
    function: ClassVar[str]

    def emit_portable(self, step: Step, c: Emitter) -> str:
        y, attrs = step.op.outputs[0], step.op.attrs
        assert isinstance(attrs, BinaryAttrsI8)
        return (
            f"{self.function}({operands(step, c)},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {attrs.c()}, {c.rows(step)});"
        )


class AddI8(BinaryI8):
    """y = a + b."""

    kind = "add_i8"
    function = "ft_add_i8"


class SubI8(BinaryI8):
    """y = a - b: a sum in which b's multiplier is negative."""

    kind = "sub_i8"
    function = "ft_add_i8"


class MulI8(BinaryI8):
    """y = a * b."""

    kind = "mul_i8"
    function = "ft_mul_i8"


class PreluI8(BinaryI8):
    """y = a above 0, a * b below."""

    kind = "prelu_i8"
    function = "ft_prelu_i8"


class MaximumI8(BinaryI8):
    """y = the larger one of a and b."""

    kind = "maximum_i8"
    function = "ft_maximum_i8"


class MinimumI8(BinaryI8):
    """y = the smaller one of a and b."""

    kind = "minimum_i8"
    function = "ft_minimum_i8"


def lower_add(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower y = a + b.

    Raises:
        ModelError: the inputs' scales are so much larger than the output's that TFLite refuses them too.
    """
    return _lower_sum("add_i8", 1, a, b, y, low, high)


def lower_sub(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower y = a - b; as `lower_add`."""
    return _lower_sum("sub_i8", -1, a, b, y, low, high)


def _lower_sum(
    kind: str, sign: int, a: Operand, b: Operand, y: Quantization, low: float, high: float
) -> Lowered:
    common = 2 * max(a.quantization.scale, b.quantization.scale)
    factor = common / ((1 << INPUT_SHIFT) * y.scale)
    if factor >= 1:
        raise ModelError(
            f"a sum of int8 values has inputs of scale {common / 2:g} but an output of scale {y.scale:g}; "
            "check the quantization"
        )

    def to_common(operand: Operand, sign: int) -> Rescale:
        multiplier, shift = quantize_multiplier(operand.quantization.scale / common)
        return Rescale(operand.quantization.zero_point, sign * multiplier, shift)

    return _lowered(kind, a, b, to_common(a, 1), to_common(b, sign), _output(y, factor), y, low, high)


def lower_mul(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower y = a * b."""
    rescale = _output(y, single_ratio(a.quantization.scale, b.quantization.scale, divisor=y.scale))
    return _lowered("mul_i8", a, b, _unscaled(a), _unscaled(b), rescale, y, low, high)


def lower_prelu(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower y = a above 0, a * b below: `b` are the slopes."""
    multiplier, shift = quantize_multiplier(single_ratio(a.quantization.scale, divisor=y.scale))
    first = Rescale(a.quantization.zero_point, multiplier, shift)
    rescale = _output(y, single_ratio(a.quantization.scale, b.quantization.scale, divisor=y.scale))
    return _lowered("prelu_i8", a, b, first, _unscaled(b), rescale, y, low, high)


def lower_maximum(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower the larger one of two values.

    Raises:
        ModelError: the operands and the result have not all the same scale and zero point.
    """
    return _lower_choice("maximum_i8", a, b, y, low, high)


def lower_minimum(
    a: Operand, b: Operand, y: Quantization, low: float = -math.inf, high: float = math.inf
) -> Lowered:
    """Lower the smaller one of two values; as `lower_maximum`."""
    return _lower_choice("minimum_i8", a, b, y, low, high)


def _lower_choice(kind: str, a: Operand, b: Operand, y: Quantization, low: float, high: float) -> Lowered:
    if not a.quantization == b.quantization == y:
        raise ModelError(
            f"operands and result of a {kind.removesuffix('_i8')} are quantized with different scales or "
            "zero points; give them the same"
        )
    return _lowered(kind, a, b, _unscaled(a), _unscaled(b), Rescale(y.zero_point, 0, 0), y, low, high)


LOWERINGS: dict[str, Lowering] = {
    "add": lower_add,
    "maximum": lower_maximum,
    "minimum": lower_minimum,
    "mul": lower_mul,
    "prelu": lower_prelu,
    "sub": lower_sub,
}


def binary_twin(op: Op, graph: Graph, inputs: tuple[Tensor, ...], output: Tensor) -> Lowered | None:
    """Return the integer operator that makes `output` as the float `op` does, None if there is none."""
    found = [Operand(_known(x)) for x in inputs]
    for name in op.constants:
        constant = graph.constants[name]
        if len(constant.scales) != 1:
            return None  # the file left it in float
        first = isinstance(op.attrs, BinaryAttrs) and op.attrs.constant_first
        found.insert(0 if first else 1, _on_its_grid(constant))
    y = _known(output)
    if op.kind in ("maximum", "minimum") and any(operand.quantization != y for operand in found):
        return None
    return LOWERINGS[op.kind](found[0], found[1], y)


def _known(tensor: Tensor) -> Quantization:
    assert tensor.quantization is not None
    return tensor.quantization


def _on_its_grid(constant: Constant) -> Operand:
    """Return the integers of a float constant that came out of integers with one scale."""
    scale = constant.scales[0]
    steps = np.clip(np.rint(constant.value / np.float32(scale)), -128, 127).astype(np.int8)
    return Operand(Quantization(scale, 0), replace(constant, value=steps))


def _unscaled(operand: Operand) -> Rescale:
    return Rescale(operand.quantization.zero_point, 0, 0)


def _output(y: Quantization, factor: float) -> Rescale:
    multiplier, shift = quantize_multiplier(factor)
    return Rescale(y.zero_point, multiplier, shift)


def _lowered(
    kind: str,
    a: Operand,
    b: Operand,
    first: Rescale,
    second: Rescale,
    result: Rescale,
    y: Quantization,
    low: float,
    high: float,
) -> Lowered:
    limits = activation_range(low, high, y)
    attrs = BinaryAttrsI8(a.constant is not None, first, second, result, *limits)
    constants = tuple(operand.constant for operand in (a, b) if operand.constant is not None)
    return Lowered(kind, attrs, constants)

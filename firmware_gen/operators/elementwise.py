"""Operators that look at one value at a time or only move values (C: kernels/elementwise.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from firmware_gen.graph import Op
from firmware_gen.operators.base import Channels, Emitter, Operator, Tape

if TYPE_CHECKING:
    from firmware_gen.schedule import Step


class Add(Operator):
    """y = a + b, both of y's shape."""

    kind = "add"

    def overwrites(self, op: Op) -> tuple[int, ...]:
        return (0, 1)

    def backward(self, op: Op, tape: Tape) -> None:
        dy = tape.gradient(op.outputs[0])
        channels = Channels(0, tape.graph.shape(op.outputs[0])[2])
        for x in op.inputs:
            if tape.wants(x):
                tape.contribute(x, Op("slice", op.name, (dy,), (), channels))

    def emit(self, step: Step, c: Emitter) -> str:
        a, b = step.op.inputs
        y = step.op.outputs[0]
        return (
            f"ft_add_f32({c.pointer(a)}, {c.map(a)}, {c.pointer(b)}, {c.map(b)},\n"
            f"    {c.pointer(y)}, {c.map(y)}, {step.rows[0]}, {step.rows[1]});"
        )


class Concat(Operator):
    """y = the inputs' channels side by side. An input that the plan placed inside y needs no copy."""

    kind = "concat"

    def backward(self, op: Op, tape: Tape) -> None:
        dy, first = tape.gradient(op.outputs[0]), 0
        for x in op.inputs:
            channels = Channels(first, first + tape.graph.shape(x)[2])
            if tape.wants(x):
                tape.contribute(x, Op("slice", op.name, (dy,), (), channels))
            first = channels.end

    def emit(self, step: Step, c: Emitter) -> str:
        y = step.op.outputs[0]
        lines, first = [], 0
        for x in step.op.inputs:
            count = step.graph.shape(x)[2]
            if not c.inside(x, y):
                part = c.map(y, channels=count)
                lines.append(
                    f"ft_copy_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)} + {first}, {part},\n"
                    f"    {step.rows[0]}, {step.rows[1]});"
                )
            first += count
        return "\n".join(lines)


class Slice(Operator):
    """y = a range of x's channels; only a view, never a copy."""

    kind = "slice"

    def emit(self, step: Step, c: Emitter) -> str:
        return ""


@dataclass(frozen=True)
class PixelScale:
    """network input = pixel * scale + bias."""

    scale: float
    bias: float = 0.0


class Dequantize(Operator):
    """y = x * scale + bias for the network's uint8 input."""

    kind = "dequantize"

    def emit(self, step: Step, c: Emitter) -> str:
        from firmware_gen.c_text import c_float

        attrs = step.op.attrs
        assert isinstance(attrs, PixelScale)
        x, y = step.op.inputs[0], step.op.outputs[0]
        return (
            f"ft_dequantize_u8_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)}, {c.map(y)},\n"
            f"    {c_float(attrs.scale)}, {c_float(attrs.bias)}, {step.rows[0]}, {step.rows[1]});"
        )


class ChannelsFirst(Operator):
    """A map flattened the way channels-first models do it: (h, w, c) -> (1, 1, c * h * w)."""

    kind = "channels_first"

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("from_channels_first", op.name, (tape.gradient(op.outputs[0]),), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return f"ft_to_channels_first_f32({c.pointer(x)}, {c.map(x)}, {c.pointer(y)});"


class FromChannelsFirst(Operator):
    """A channels-first vector or map as (h, w, c)."""

    kind = "from_channels_first"

    def backward(self, op: Op, tape: Tape) -> None:
        x = op.inputs[0]
        if tape.wants(x):
            tape.contribute(x, Op("channels_first", op.name, (tape.gradient(op.outputs[0]),), ()))

    def emit(self, step: Step, c: Emitter) -> str:
        x, y = step.op.inputs[0], step.op.outputs[0]
        return f"ft_from_channels_first_f32({c.pointer(x)}, {c.pointer(y)}, {c.map(y)});"

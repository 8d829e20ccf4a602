"""Which class of kernel runs a layer on the cluster's cores, and what it has to do; see `cycles.KERNELS`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from boards import Isa
from firmware_gen.cluster.cycles import PACK_INSTRUCTIONS, TURN_INSTRUCTIONS
from firmware_gen.graph import Graph, Op
from firmware_gen.operators import OPERATORS
from firmware_gen.operators.conv2d import ConvAttrs, ConvGradAttrs
from firmware_gen.operators.conv2d_f16 import rounded_before
from firmware_gen.operators.conv2d_i8 import ConvI8Attrs
from firmware_gen.operators.learning_i8 import ConvUpdateI8, LearningConv2d, TurningConv2d, find_dots
from firmware_gen.operators.loss import Loss, shared_terms
from firmware_gen.operators.moving_values import QuantizeGradient
from firmware_gen.step_time import FREE, HALF_KINDS, QUANTIZERS

# Instructions for each weight that learns in int8, before the layer can run.
PREPARED = {
    LearningConv2d.kind: PACK_INSTRUCTIONS,
    TurningConv2d.kind: TURN_INSTRUCTIONS + PACK_INSTRUCTIONS,
}


@dataclass(frozen=True)
class Amount:
    """What a layer is to its kernel: the class, multiply-accumulates, values made, bytes gathered before.

    For every tile anew, cores round `packed` weights, each those of its channels, and `repeated` values each.
    `meetings`: how often the cores meet. `alone`: values that the first one adds up besides. `fetched`: what
    the kernel loads from its maps, where all else that it loads lies in scratch; None: not known. `prepared`:
    instructions before the first tile.
    """

    kernel: str
    macs: int
    outputs: int
    gathered: int = 0
    packed: int = 0
    repeated: int = 0
    meetings: int = 0
    alone: int = 0
    fetched: int | None = None
    prepared: float = 0.0


def amount(op: Op, graph: Graph, isa: Isa) -> Amount | None:
    """Return the work of an operator; None if it moves nothing that the plan has not put in place."""
    if op.kind in FREE:
        return None
    operator, tensors = OPERATORS[op.kind], graph.tensors
    made = sum(tensors[name].count for name in op.outputs)
    macs = operator.macs(op, graph)
    if op.kind == ConvUpdateI8.kind:
        return _weight_gradient(op, macs, graph, isa)
    if macs:
        kernel, taps = _weighted(op, graph, isa)
        pixels = made // max(1, graph.shape(op.outputs[0])[2]) if op.outputs else 0
        gathered = pixels * taps if kernel in ("conv_i8", "moving_conv_i8") else 0
        weights = graph.constants[op.constants[0]].value.size
        learns = kernel in ("conv_i8", "moving_conv_i8") and op.constants[0] in graph.trained
        fetched = gathered if learns else None
        prepared = weights * PREPARED.get(op.kind, 0.0) if op.constants[0] in graph.trained else 0.0
        amount = Amount(kernel, macs, made or weights, gathered, fetched=fetched, prepared=prepared)
        if kernel != "conv_f16":
            return amount
        packed = weights if op.constants[0] in graph.trained else 0
        return dataclasses.replace(amount, packed=packed, repeated=rounded_before(op, graph))
    if op.kind == Loss.kind:
        return _loss(op, graph)
    values = max((made, *(tensors[name].count for name in op.inputs)))
    kernel = _plain(op, graph)
    if op.kind == QuantizeGradient.kind:
        return Amount(kernel, 0, values, meetings=1)
    return Amount(kernel, values, made) if kernel == "pool_i8" else Amount(kernel, 0, values)


def _weight_gradient(op: Op, macs: int, graph: Graph, isa: Isa) -> Amount:
    """Return the work of the gradients of int8 weights."""
    weights, dots = graph.constants[op.constants[0]].value.size, find_dots(op, graph, isa)
    if dots is None:
        return Amount("few_grad_w_i8", macs, weights)
    conv = _conv(op)
    assert conv is not None
    values = sum(graph.tensors[name].count for name in op.inputs)
    return Amount("conv_grad_w_i8", macs, weights, meetings=dots.meetings, fetched=conv.window.taps * values)


def _loss(op: Op, graph: Graph) -> Amount:
    height, width, channels = graph.shape(op.inputs[0])
    some, positions = shared_terms(op, graph)
    pixels = height * width
    meetings = 1 + -(-pixels // some)
    return Amount("loss", 0, pixels * channels, meetings=meetings, alone=pixels * positions)


def _weighted(op: Op, graph: Graph, isa: Isa) -> tuple[str, int]:
    """Return the class of an operator with weights, and the values that one output sums over."""
    value = graph.constants[op.constants[0]].value
    conv = _conv(op)
    depthwise = conv is not None and conv.groups > 1 and value.shape[2] == 1
    taken = int(value[..., 0].size)
    if op.kind in HALF_KINDS:
        return "conv_grad_w_f16" if op.kind == "conv_update_f16" else "conv_f16", taken
    if value.dtype != np.int8:
        if not op.outputs:
            return "linear_grad_w_f32" if _is_linear(conv, graph, op) else "conv_grad_w_f32", taken
        if depthwise:
            return "depthwise_f32", taken
        return "conv_grad_x_f32" if op.kind == "conv_grad_input" else "conv_f32", taken
    if graph.tensors[op.inputs[0]].dtype == "i16":
        return "gradient_i16", taken
    if op.kind == "conv2d_i8_f32":
        return "sums_i8_f32", taken
    if isa != "xpulp":
        return "moving_i8" if _moves(op, graph) else "portable_i8", taken
    if depthwise:
        return "depthwise_i8", taken
    if conv is not None and conv.window.taps == 1:
        return "linear_i8" if _is_linear(conv, graph, op) else "pointwise_i8", taken
    return "moving_conv_i8" if _moves(op, graph) else "conv_i8", taken


def _conv(op: Op) -> ConvAttrs | None:
    attrs = op.attrs
    if isinstance(attrs, ConvI8Attrs | ConvGradAttrs):
        return attrs.conv
    return attrs if isinstance(attrs, ConvAttrs) else None


def _is_linear(conv: ConvAttrs | None, graph: Graph, op: Op) -> bool:
    height, width, _ = graph.shape(op.inputs[0])
    return conv is not None and conv.window.taps == 1 and height * width == 1


def _moves(op: Op, graph: Graph) -> bool:
    return bool(graph.tensors[op.outputs[0]].range)


def _plain(op: Op, graph: Graph) -> str:
    """Return the class of an operator without weights."""
    dtypes = {graph.tensors[name].dtype for name in (*op.inputs, *op.outputs)}
    if op.kind in QUANTIZERS:
        return "quantize"
    if op.kind.startswith("bias_update"):
        return "bias_grad"
    if "softmax" in op.kind:
        return "softmax_i8"
    if "pool" in op.kind or "mean" in op.kind:
        return "pool_i8" if "f32" not in dtypes else "other"
    if op.kind in ("add_i8", "moving_add"):
        return "add_i8"
    if op.kind in ("mask_gradient", "rescale"):
        return "rounded_i8"
    return "elementwise_f32"

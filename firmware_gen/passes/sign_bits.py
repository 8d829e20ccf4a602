"""Keep one bit a value for the gradient of an activation instead of the value.

Only where nothing else in the backward pass reads the output: a saved input of a learning layer serves both.
A float gradient of an int8 layer always takes the bits.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.window import Activation

GRADIENTS = ("activation_grad", "mask_gradient")
# What packs the bits of outputs of these types.
PACKERS = {"f32": "activation_bits", "i8": "activation_bits_i8"}


def sign_bits(graph: Graph) -> Graph:
    """Replace forward outputs that only activation gradients read by their bits."""
    for grad in graph.ops:
        if grad.kind not in GRADIENTS:
            continue
        assert isinstance(grad.attrs, Activation)
        y = grad.inputs[1]
        late = [op for op in graph.consumers(y) if op.phase != "forward" and op is not grad]
        dtype = graph.tensors[y].dtype
        only_bits = grad.kind == "activation_grad" and dtype == "i8"  # no kernel reads both types of values
        if not grad.attrs.slope_is_bit or (late and not only_bits):
            continue
        bits = f"{y}.bits"
        pack = Op(PACKERS[dtype], grad.name, (y,), (bits,), grad.attrs, phase="backward")
        tensors = {**graph.tensors, bits: Tensor(bits, graph.shape(y), "bits")}
        ops: list[Op] = []
        for op in graph.ops:
            ops.append(dataclasses.replace(op, inputs=(op.inputs[0], bits)) if op is grad else op)
            if y in op.outputs:
                ops.append(pack)
        graph = graph.with_ops(ops, tensors=tensors)
    return graph

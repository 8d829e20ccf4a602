"""Keep one bit a value for the gradient of an activation instead of the value.

Only where nothing else in the backward pass reads the output: a saved input of a learning layer serves both.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op, Tensor
from firmware_gen.operators.layout import OneLayer
from firmware_gen.window import Activation


def sign_bits(graph: Graph) -> Graph:
    """Replace forward outputs that only activation gradients read by their bits."""
    for grad in graph.ops:
        if grad.kind != "activation_grad":
            continue
        assert isinstance(grad.attrs, Activation)
        y = grad.inputs[1]
        late = [op for op in _readers(graph, y) if op.phase != "forward" and op is not grad]
        if late or not grad.attrs.slope_is_bit:
            continue
        bits = f"{y}.bits"
        pack = Op("activation_bits", grad.name, (y,), (bits,), grad.attrs, phase="backward")
        tensors = {**graph.tensors, bits: Tensor(bits, graph.shape(y), "bits")}
        ops: list[Op] = []
        for op in graph.ops:
            ops.append(dataclasses.replace(op, inputs=(op.inputs[0], bits)) if op is grad else op)
            if y in op.outputs:
                ops.append(pack)
        graph = graph.with_ops(ops, tensors=tensors)
    return graph


def _readers(graph: Graph, tensor: str) -> list[Op]:
    """Return the operators that read `tensor`, or the layer's output of which it is a part."""
    direct = graph.consumers(tensor)
    whole = [op.outputs[0] for op in direct if isinstance(op.attrs, OneLayer)]
    return [*direct, *(reader for name in whole for reader in graph.consumers(name))]

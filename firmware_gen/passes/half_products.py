"""Float convolutions compute with products in binary16, forwards and backwards, where that pays."""

from __future__ import annotations

import dataclasses

from fieldtune.errors import UserError
from firmware_gen.graph import Graph
from firmware_gen.operators.conv2d_f16 import F16_OPERATORS, LEAST_CHANNELS, LEAST_TAPS, suits


def half_products(graph: Graph) -> Graph:
    """Return `graph` with the kinds of operators that kernels/conv2d_f16.h has.

    Raises:
        UserError: no layer is one for them.
    """
    if not any(suits(op, graph) for op in graph.ops):
        raise UserError(
            f"--products f16 is for float convolutions with kernels of {LEAST_TAPS} taps or more and "
            f"{LEAST_CHANNELS} channels or more; {graph.name} has none, so leave it out"
        )
    ops = (
        dataclasses.replace(op, kind=F16_OPERATORS[op.kind].kind) if suits(op, graph) else op
        for op in graph.ops
    )
    return graph.with_ops(ops, products="f16")

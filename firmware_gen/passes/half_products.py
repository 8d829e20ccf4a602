"""Float convolutions compute with products in binary16, forwards and backwards, where that pays."""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph
from firmware_gen.operators.conv2d_f16 import F16_OPERATORS, suits


def half_products(graph: Graph) -> Graph:
    """Return `graph` with the kinds of operators that kernels/conv2d_f16.h has."""
    ops = (
        dataclasses.replace(op, kind=F16_OPERATORS[op.kind].kind) if suits(op, graph) else op
        for op in graph.ops
    )
    return graph.with_ops(ops, products="f16")

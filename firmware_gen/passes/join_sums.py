"""Let an input gradient go on from another one that it would be added to.

Where a map is read by several convolutions, or by one of which only some channels learn, its gradient is a
sum, and a convolution can start from what another one has made: no second map, no addition.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op


def join_sums(graph: Graph) -> Graph:
    """Merge every backward addition with the convolution's input gradient that makes its last operand."""
    for add in graph.ops:
        if add.kind == "add" and add.phase == "backward":
            graph = _join(graph, add)
    return graph


def _join(graph: Graph, add: Op) -> Graph:
    order = {op.outputs[0]: index for index, op in enumerate(graph.ops) if op.outputs}
    part, last = sorted(add.inputs, key=lambda name: order[name])
    op = graph.ops[order[last]]
    kinds = {op.kind, graph.ops[order[part]].kind}
    # A part that is a view of something wider would keep that alive.
    if part == last or kinds != {"conv_grad_input"} or len(op.inputs) > 1 or graph.consumers(last) != [add]:
        return graph
    joined = dataclasses.replace(op, inputs=(*op.inputs, part), outputs=add.outputs)
    return graph.with_ops([joined if other is op else other for other in graph.ops if other is not add])

"""Leave outputs in int8 whose floats nothing on the board would read.

A QDQ model dequantizes at its end, and so does what a task puts behind an int8 one. On the board that would
be four bytes a value, in RAM and over the link, that say no more than the integers do: who reads the output
multiplies, with the same bits.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, Op, check


def integer_outputs(graph: Graph) -> Graph:
    """Return `graph` whose outputs are integers wherever they are dequantized for the reader alone.

    An output that a loss reads stays in floats, and so does one whose range moves: its scale is another one
    after each step.
    """
    for op in graph.ops:
        if _for_the_reader(graph, op):
            (integers,), (name,) = op.inputs, op.outputs
            rest = graph.with_ops(other for other in graph.ops if other is not op)
            left = (*rest.scaled_by_reader, name)
            graph = dataclasses.replace(rest.renamed(integers, name), scaled_by_reader=left)
    return check(graph)


def _for_the_reader(graph: Graph, op: Op) -> bool:
    if op.kind != "dequantize" or op.outputs[0] not in graph.outputs or graph.consumers(op.outputs[0]):
        return False
    integers = graph.tensors[op.inputs[0]]
    shared = integers.name in (*graph.inputs, *graph.outputs)
    return integers.dtype == "i8" and not integers.range and not shared

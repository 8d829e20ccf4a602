"""Leave outputs in int8 whose floats nothing on the board would read.

A QDQ model dequantizes at its end, and so does what a task puts behind an int8 one. On the board that would
be four bytes a value, in RAM and over the link, that say no more than the integers do: who reads the output
multiplies, with the same bits.
"""

from __future__ import annotations

import dataclasses

from firmware_gen.graph import Graph, check


def integer_outputs(graph: Graph) -> Graph:
    """Return `graph` whose outputs are integers wherever they are dequantized for the reader alone.

    An output that a loss reads stays in floats.
    """
    for name in graph.outputs:
        integers = _integers(graph, name)
        if integers is not None:
            rest = graph.with_ops(op for op in graph.ops if name not in op.outputs)
            left = (*graph.scaled_by_reader, name)
            graph = dataclasses.replace(rest.renamed(integers, name), scaled_by_reader=left)
    return check(graph)


def _integers(graph: Graph, output: str) -> str | None:
    """Return the int8 tensor that is dequantized to `output` for the reader alone."""
    op = graph.producer(output)
    if op is None or op.kind != "dequantize" or graph.consumers(output):
        return None
    integers = graph.tensors[op.inputs[0]]
    shared = integers.name in (*graph.inputs, *graph.outputs)
    return integers.name if integers.dtype == "i8" and not shared else None

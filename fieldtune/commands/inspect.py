"""``fieldtune inspect MODEL``: what is in a model file."""

from __future__ import annotations

import argparse
import json
from typing import Any

from fieldtune.commands import options

NAME = "inspect"
HELP = "list the layers of a model: shapes, parameters, multiply-accumulates"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune inspect``."""
    options.add_model(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read and list."""
    from firmware_gen.operators import OPERATORS

    network = options.load_model(args)
    graph = network.graph
    layers: list[dict[str, Any]] = [
        {
            "name": op.name,
            "op": op.kind,
            "shape": list(graph.shape(op.outputs[0])),
            "dtype": graph.tensors[op.outputs[0]].dtype,
            "parameters": sum(graph.constants[name].value.size for name in OPERATORS[op.kind].parameters(op)),
            "macs": OPERATORS[op.kind].macs(op, graph),
        }
        for op in graph.ops
    ]
    counted = {name for op in graph.ops for name in OPERATORS[op.kind].parameters(op)}
    parameters = sum(graph.constants[name].value.size for name in counted)
    macs = sum(layer["macs"] for layer in layers)
    if args.json:
        print(
            json.dumps(
                {"model": graph.name, "parameters": parameters, "macs": macs, "layers": layers}, indent=1
            )
        )
        return 0
    width = max(len(layer["name"]) for layer in layers)
    heads = f"{'output':>14}  {'type':<4}  {'parameters':>10}  {'MAC':>12}"
    print(f"{'layer':<{width}}  {'operator':<14}  {heads}")
    for layer in layers:
        shape = " x ".join(map(str, layer["shape"]))
        sizes = f"{shape:>14}  {layer['dtype']:<4}  {layer['parameters']:>10,}  {layer['macs']:>12,}"
        print(f"{layer['name']:<{width}}  {layer['op']:<14}  {sizes}")
    print(f"{parameters:,} parameters, {macs:,} MAC")
    return 0

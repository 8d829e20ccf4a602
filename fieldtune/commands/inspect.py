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
            "parameters": sum(int(graph.constants[name].value.size) for name in op.constants),
            "macs": OPERATORS[op.kind].macs(op, graph),
        }
        for op in graph.ops
    ]
    parameters = sum(constant.value.size for constant in graph.constants.values())
    macs = sum(layer["macs"] for layer in layers)
    if args.json:
        print(
            json.dumps(
                {"model": graph.name, "parameters": parameters, "macs": macs, "layers": layers}, indent=1
            )
        )
        return 0
    width = max(len(layer["name"]) for layer in layers)
    print(f"{'layer':<{width}}  {'operator':<14}  {'output':>14}  {'parameters':>10}  {'MAC':>12}")
    for layer in layers:
        shape = " x ".join(map(str, layer["shape"]))
        sizes = f"{shape:>14}  {layer['parameters']:>10,}  {layer['macs']:>12,}"
        print(f"{layer['name']:<{width}}  {layer['op']:<14}  {sizes}")
    print(f"{parameters:,} parameters, {macs:,} MAC")
    return 0

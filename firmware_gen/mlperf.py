"""The link that speaks MLPerf Tiny's serial API: what ``runtime/mlperf/`` needs to know of a model."""

from __future__ import annotations

from firmware_gen.c_text import c_float, c_string
from firmware_gen.graph import Graph, Tensor

_CONTEXT_BYTES = 16
_COMMAND_BYTES = 84
"""Sizes on a 32-bit board of what `monitor` in mlperf.c holds before its input, and behind it."""


def input_bytes(graph: Graph) -> int:
    """Return how many bytes ``db load`` takes: all inputs, in the order of the model."""
    return sum(graph.tensors[name].bytes for name in graph.inputs)


def mlperf_ram_bytes(graph: Graph) -> int:
    """Return the link's static RAM on a 32-bit board."""
    return _CONTEXT_BYTES + -(-input_bytes(graph) // 4) * 4 + _COMMAND_BYTES


def mlperf_header(graph: Graph, model: str) -> str:
    """Return ``runtime/mlperf/config.h``: `model` is what ``profile`` answers, such as kws01."""
    grids = "".join(f"    {_grid(graph.tensors[name])},\n" for name in graph.outputs)
    return (
        "/* Generated for this model. */\n"
        "#ifndef FT_MLPERF_CONFIG_H\n#define FT_MLPERF_CONFIG_H\n\n#include <stdint.h>\n\n"
        f"#define FT_MLPERF_MODEL       {c_string(model)}\n"
        f"#define FT_MLPERF_INPUT_BYTES {input_bytes(graph)}\n\n"
        "typedef struct {\n    float scale;\n    int32_t zero_point;\n} ft_mlperf_grid_t;\n\n"
        "/* Of each output; a float has none. */\n"
        f"static const ft_mlperf_grid_t ft_mlperf_grids[] = {{\n{grids}}};\n\n#endif\n"
    )


def _grid(tensor: Tensor) -> str:
    known = tensor.quantization
    return "{1.0f, 0}" if known is None else f"{{{c_float(known.scale)}, {known.zero_point}}}"

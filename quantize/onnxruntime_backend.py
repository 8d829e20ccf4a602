"""ONNX Runtime's calibration: ranges of activations without torch."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    create_calibrator,
)

from firmware_gen.graph import Array, Quantization
from quantize.float_network import Values
from quantize.onnx_writer import float_model
from quantize.parameters import QuantizedGraph, covering, nearest, weight_scales
from quantize.scheme import Scheme

CHUNK = 16
"""Frames whose tensors are in memory at the same time."""


def calibrate(
    scheme: Scheme, inputs: Sequence[Values], input_types: Mapping[str, Quantization]
) -> QuantizedGraph:
    """Return scales and zero points for what `scheme` makes int8; weights stay float.

    Args:
        scheme: what becomes int8.
        inputs: the network's inputs for the calibration frames.
        input_types: the quantization of the network's inputs.
    """
    graph = scheme.graph
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "float.onnx"
        model.write_bytes(float_model(graph, all_tensors=True))
        calibrator = create_calibrator(
            model,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.Percentile,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            for first in range(0, len(inputs), CHUNK):
                calibrator.collect_data(_Reader(inputs[first : first + CHUNK], input_types))
            measured = calibrator.compute_data()
    ranges = {name: measured[name].range_value for name in scheme.tensors if name not in input_types}
    for group in scheme.groups():
        lows, highs = zip(*(ranges[name] for name in group), strict=True)
        ranges |= dict.fromkeys(group, (min(lows), max(highs)))
    types = {name: covering(float(low), float(high)) for name, (low, high) in ranges.items()}
    weights = {
        op.constants[0]: weight_scales(graph.constants[op.constants[0]].value)
        for op in graph.ops
        if op.constants and scheme.is_int8(op)
    }
    return QuantizedGraph(
        graph, {name: input_types.get(name) or types[name] for name in scheme.tensors}, weights
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # the base class has no types
    """Hands out samples, then None."""

    def __init__(self, inputs: Sequence[Values], types: Mapping[str, Quantization]) -> None:
        self._samples = (
            {name: nearest(value, types[name]) if name in types else value for name, value in values.items()}
            for values in inputs
        )

    def get_next(self) -> dict[str, Array] | None:
        return next(self._samples, None)

"""QDQ models as exporters write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
OPSET = 17


@dataclass(frozen=True)
class Scale:
    """Quantization of an activation in the file: `dtype` is int8 or uint8."""

    scale: float
    zero_point: int
    dtype: str = "int8"


def float_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, Array],
    output_type: int = TensorProto.FLOAT,
    *,
    check: bool = True,
) -> onnx.ModelProto:
    """Return a model with float inputs, checked unless it is meant to be wrong."""

    def described(tensors: Mapping[str, tuple[int, ...]], kind: int) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, kind, dims) for name, dims in tensors.items()]

    graph = helper.make_graph(
        list(nodes),
        "net",
        described(inputs, TensorProto.FLOAT),
        described(outputs, output_type),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    if check:
        onnx.checker.check_model(model, full_check=True)
    return model


def between_integers(
    node: onnx.NodeProto,
    shapes: Mapping[str, tuple[int, ...]],
    scales: Mapping[str, Scale],
    constants: Mapping[str, Array],
) -> onnx.ModelProto:
    """Return the model in which `node` stands between quantized tensors; `shapes`: of its inputs and output.

    Float weights (names that end in .weight) become int8 with a scale for each position of axis 0, or of
    axis 1 for a transposed convolution.
    """
    nodes: list[onnx.NodeProto] = []
    arrays: dict[str, Array] = {}
    inputs = list(node.input)
    for k, name in enumerate(inputs):
        if name in scales:
            nodes += border(name, f"{name}.dq", scales[name], arrays)
            inputs[k] = f"{name}.dq"
        elif name.endswith(".weight"):
            inputs[k] = f"{name}.dq"
            nodes.append(
                integer_weight(name, constants[name], 1 if node.op_type == "ConvTranspose" else 0, arrays)
            )
        elif name:
            arrays[name] = constants[name]
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    del changed.input[:], changed.output[:]
    changed.input.extend(inputs)
    changed.output.append("y.float")
    nodes += [changed, *border("y.float", "y", scales["y"], arrays)]
    given = {name: dims for name, dims in shapes.items() if name != "y"}
    return float_model(nodes, given, {"y": shapes["y"]}, arrays)


def border(x: str, y: str, scale: Scale, arrays: dict[str, Array]) -> list[onnx.NodeProto]:
    """Return quantize and dequantize from `x` to `y`."""
    numbers = [f"{y}.scale", f"{y}.zero"]
    arrays[numbers[0]] = np.array(scale.scale, np.float32)
    arrays[numbers[1]] = np.array(scale.zero_point, scale.dtype)
    return [
        helper.make_node("QuantizeLinear", [x, *numbers], [f"{y}.q"]),
        helper.make_node("DequantizeLinear", [f"{y}.q", *numbers], [y]),
    ]


def integer_weight(name: str, value: Array, axis: int, arrays: dict[str, Array]) -> onnx.NodeProto:
    """Return the dequantize of a weight, whose result is called `name`.dq; one scale a position of `axis`."""
    others = tuple(k for k in range(value.ndim) if k != axis)
    scales = np.abs(value).max(axis=others, keepdims=True) / np.float32(127)
    arrays[f"{name}_quantized"] = np.clip(np.rint(value / scales), -127, 127).astype(np.int8)
    arrays[f"{name}.scale"] = scales.ravel().astype(np.float32)
    arrays[f"{name}.zero"] = np.zeros(scales.size, np.int8)
    numbers = [f"{name}_quantized", f"{name}.scale", f"{name}.zero"]
    return helper.make_node("DequantizeLinear", numbers, [f"{name}.dq"], axis=axis)


def quantized(
    model: onnx.ModelProto,
    samples: Sequence[Mapping[str, Array]],
    folder: Path,
    *,
    unsigned: bool = False,
    per_channel: bool = True,
) -> Path:
    """Write the QDQ model that ONNX Runtime's quantizer makes of `model`; return its path."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = list(samples)

        def get_next(self) -> Mapping[str, Array] | None:
            return self.left.pop(0) if self.left else None

    folder.mkdir(parents=True, exist_ok=True)
    source, target = folder / "float.onnx", folder / "qdq.onnx"
    onnx.save(model, source)
    quantize_static(
        source,
        target,
        Samples(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    return target

"""Reads ONNX files: checks, constants, attributes. What the operators mean is in onnx_operators.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.errors import ModelError
from firmware_gen.graph import DType, Graph, Tensor, check
from firmware_gen.importers.builder import Builder, hwc
from firmware_gen.importers.onnx_node import Grid, Node
from firmware_gen.importers.onnx_operators import CONVERTERS

OWN_DOMAINS = ("", "ai.onnx")
READ_INTEGERS = ("DequantizeLinear", "Identity")


def import_onnx(path: Path) -> Graph:
    """Return the float network in an ONNX file as a graph of rows, columns, channels.

    Raises:
        ModelError: no such file, not ONNX, dynamic shapes, batch above 1, or something that is not supported.
    """
    model = _load(path)
    builder = Builder(path.stem)
    opset = max((entry.version for entry in model.opset_import if entry.domain in OWN_DOMAINS), default=0)
    values: dict[str, np.ndarray] = {}
    grids: dict[str, Grid] = {}
    origins: dict[str, str] = {}
    for initializer in model.graph.initializer:
        values[initializer.name] = _array(initializer, path)
    for value in model.graph.input:
        if value.name not in values:
            dims = _input_shape(value, path)
            shape, dtype = hwc(dims, value.name), _input_type(value, path)
            builder.add_input(Tensor(value.name, shape, dtype, source=value.name), len(dims))
    for index, proto in enumerate(model.graph.node):
        node = Node(
            proto.op_type,
            proto.name or f"{proto.op_type}_{index}",
            tuple(proto.input),
            tuple(proto.output),
            {a.name: _attribute(a, path) for a in proto.attribute},
            opset,
            values,
            grids,
            origins,
        )
        if proto.domain not in OWN_DOMAINS:
            raise ModelError(_unsupported(path, node, f"{proto.domain}.{proto.op_type}"))
        if proto.op_type not in CONVERTERS:
            raise ModelError(_unsupported(path, node, proto.op_type))
        _convert(node, builder, path)
    for value in model.graph.output:
        _expect_output_type(value, builder, path)
        builder.add_output(value.name)
    return check(builder.graph())


def _convert(node: Node, builder: Builder, path: Path) -> None:
    for name in node.inputs:
        if builder.knows(name) and builder.tensor(name).dtype != "f32" and node.kind not in READ_INTEGERS:
            raise ModelError(
                f"the node '{node.name}' ({node.kind}) of {path} reads the integers '{name}'; only "
                "DequantizeLinear can"
            )
    try:
        CONVERTERS[node.kind](node, builder)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # ONNX's own checker lets many wrong attributes and constants pass.
        raise ModelError(
            f"the node '{node.name}' ({node.kind}) of {path} is malformed: {_first_line(error)}"
        ) from error


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ModelError(f"there is no model at {path}")
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(path)
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelError(
            f"{path} cannot be read as an ONNX model; is it complete? ({_first_line(error)})"
        ) from error
    if not (model.graph.node and model.graph.input and model.graph.output):
        raise ModelError(f"{path} cannot be read as an ONNX model: it holds no operators, inputs or outputs")
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker raises its own errors and those of protobuf and C++
        raise ModelError(f"{path} is not a valid ONNX model: {_first_line(error)}") from error
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _array(tensor: Any, path: Path) -> np.ndarray:
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor, base_dir=str(path.parent)))
    except (LookupError, OSError, TypeError, ValueError) as error:
        raise ModelError(
            f"the initializer '{tensor.name}' of {path} is broken: {_first_line(error)}"
        ) from error


def _attribute(attribute: Any, path: Path) -> Any:
    from onnx import helper

    value = helper.get_attribute_value(attribute)
    if hasattr(value, "raw_data"):
        return _array(value, path)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _input_type(value: Any, path: Path) -> DType:
    from onnx import TensorProto

    types: dict[int, DType] = {
        TensorProto.FLOAT: "f32",
        TensorProto.FLOAT16: "f32",
        TensorProto.DOUBLE: "f32",
        TensorProto.INT8: "i8",
        TensorProto.UINT8: "u8",
    }
    known = types.get(value.type.tensor_type.elem_type)
    if known is None:
        raise ModelError(f"input '{value.name}' of {path} is no tensor of float, int8 or uint8")
    return known


def _expect_output_type(value: Any, builder: Builder, path: Path) -> None:
    """Refuse uint8 outputs: activations are int8 here, and whoever reads them would be off by 128."""
    from onnx import TensorProto

    unsigned = value.type.tensor_type.elem_type == TensorProto.UINT8
    if unsigned and builder.knows(value.name) and builder.tensor(value.name).dtype == "i8":
        raise ModelError(
            f"the output '{value.name}' of {path} is uint8; quantize it to int8, or end with DequantizeLinear"
        )


def _input_shape(value: Any, path: Path) -> tuple[int, ...]:
    dims = []
    for position, dim in enumerate(value.type.tensor_type.shape.dim):
        if position == 0 and not dim.dim_value:
            dims.append(1)  # a free batch axis: firmware computes one sample at a time
        elif dim.dim_value > 0:
            dims.append(dim.dim_value)
        else:
            raise ModelError(
                f"axis {position} of input '{value.name}' of {path} is dynamic; "
                "export the model with fixed sizes"
            )
    if not dims or dims[0] != 1:
        raise ModelError(
            f"input '{value.name}' of {path} has shape {tuple(dims)}; export it with batch size 1"
        )
    return tuple(dims)


def _unsupported(path: Path, node: Node, kind: str) -> str:
    return (
        f"{path} uses the operator {kind} (node '{node.name}'), which is not supported; "
        f"supported are {', '.join(sorted(CONVERTERS))}"
    )

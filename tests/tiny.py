"""A network and frames so small that firmware builds in a second and runs on every board."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from zoo.frames import UNKNOWN_CLASS, Frame, Frames
from zoo.task import METADATA_KEY, InputSpec, OutputSpec, Task, format_task
from zoo.tof import TofFrame

SIZE = 16
CLASSES = 3
OUTPUTS = {
    "depth": OutputSpec("depth", "depth", "berhu", "tof", max_depth=6.0),
    "segments": OutputSpec("segments", "segmentation", "cross_entropy", "truth"),
    "kind": OutputSpec("kind", "class", "cross_entropy", "truth"),
    "amount": OutputSpec("amount", "value", "mse", "truth"),
}


def tiny_task(heads: Sequence[str] = ("depth",)) -> Task:
    return Task((InputSpec("image", 1 / 255),), tuple(OUTPUTS[head] for head in heads))


def write_tiny(
    path: Path, heads: Sequence[str] = ("depth",), operator: str = "LeakyRelu", size: int = SIZE
) -> Path:
    """Write an encoder and a decoder with a skip connection, and heads on top, with their task."""
    net = _Net()
    net.layer("Conv", "enc0", ["image"], [6, 3, 3, 3], pads=[1] * 4)
    net.node(operator, "enc0.act", ["enc0"], **({"alpha": 0.125} if operator == "LeakyRelu" else {}))
    net.layer("Conv", "enc1", ["enc0.act"], [8, 6, 3, 3], pads=[1] * 4, strides=[2, 2])
    net.node("Relu", "enc1.act", ["enc1"])
    net.layer("ConvTranspose", "up", ["enc1.act"], [8, 6, 2, 2], strides=[2, 2])
    net.node("Concat", "skip", ["up", "enc0.act"], axis=1)
    net.layer("Conv", "dec", ["skip"], [12, 12, 3, 3], pads=[1] * 4)
    net.node("Relu", "dec.act", ["dec"])
    shapes = {
        "depth": (1, 1, size, size),
        "segments": (1, CLASSES, size, size),
        "kind": (1, CLASSES),
        "amount": (1, 1),
    }
    if {"kind", "amount"} & {*heads}:
        net.node("GlobalAveragePool", "mean", ["dec.act"])
        net.node("Flatten", "flat", ["mean"])
    for head in heads:
        if head in ("depth", "segments"):
            net.layer("Conv", head, ["dec.act"], [shapes[head][1], 12, 3, 3], pads=[1] * 4)
        else:
            net.layer("Gemm", head, ["flat"], [shapes[head][1], 12], transB=1)
    graph = helper.make_graph(
        net.nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, size, size))],
        [helper.make_tensor_value_info(head, TensorProto.FLOAT, shapes[head]) for head in heads],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: format_task(tiny_task(heads))})
    onnx.save(model, path)
    return path


class _Net:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(7)

    def node(self, kind: str, name: str, inputs: list[str], **attributes: object) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))

    def layer(self, kind: str, name: str, inputs: list[str], shape: list[int], **attributes: object) -> None:
        fan_in = int(np.prod(shape[1:]))
        weight = self._random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        channels = shape[1] if kind == "ConvTranspose" else shape[0]
        bias = np.full(channels, 0.1, np.float32)
        self.weights += [
            numpy_helper.from_array(weight, f"{name}.weight"),
            numpy_helper.from_array(bias, f"{name}.bias"),
        ]
        self.node(kind, name, [*inputs, f"{name}.weight", f"{name}.bias"], **attributes)


def tiny_frames(count: int = 20, size: int = 24, seed: int = 3) -> Frames:
    """Slanted walls with one box each; the sensor sees all but some zones, and nothing in frame 4.

    The box's class and size are the whole frame's target; frame 5 has no classes.
    """
    random = np.random.default_rng(seed)
    return Frames.of([_frame(index, size, random) for index in range(count)])


def _frame(index: int, size: int, random: np.random.Generator) -> Frame:
    rows, columns = np.mgrid[0:size, 0:size] / size
    depth = 1.5 + random.random() * rows + random.random() * columns
    side, left, top = random.integers(6, size // 2), *random.integers(0, size // 2, 2)
    kind = int(random.integers(1, CLASSES))
    classes = np.zeros((size, size), np.uint8)
    box = np.s_[top : top + side, left : left + side]
    depth[box], classes[box] = 0.8 + 0.2 * kind, kind
    light = 40 + 160 / depth + random.normal(0, 3, (size, size))
    rgb = np.stack([light, light * (classes == 1), light * (classes == 2)], -1).clip(0, 255).astype(np.uint8)
    if index == 5:
        classes[:] = UNKNOWN_CLASS
    return Frame(
        rgb,
        depth.astype(np.float32),
        classes,
        _tof(depth, blind=index == 4, random=random),
        f"frame {index}",
        np.array([kind], np.float32),
    )


def _tof(depth: NDArray[np.float64], blind: bool, random: np.random.Generator) -> TofFrame:
    size = depth.shape[0] // 8
    zones = depth.reshape(8, size, 8, size).mean((1, 3)) * 1000
    status = np.where(random.random((8, 8)) < 0.1, 255, 5)
    return TofFrame(
        zones.astype(np.int16), np.full((8, 8), 255, np.uint8) if blind else status.astype(np.uint8)
    )

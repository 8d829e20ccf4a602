"""Small float networks in ONNX, one for each family of operators, with weights whose channels differ much."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from zoo.task import METADATA_KEY, InputSpec, OutputSpec, Task, format_task

SIZE = 16


class Net:
    """Grows a network node by node; every node is named after its output."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def node(self, kind: str, name: str, *inputs: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.values.append(numpy_helper.from_array(value, name))
        return name

    def layer(
        self, kind: str, name: str, x: str, shape: Sequence[int], *, bias: bool = True, **attributes: object
    ) -> str:
        """Add Conv, ConvTranspose or Gemm; output channels differ in range by up to 30."""
        fan_in = int(np.prod(shape[1:]))
        weight = self._random.normal(0, np.sqrt(2 / fan_in), shape)
        axis = 1 if kind == "ConvTranspose" else 0
        spread = np.exp(self._random.uniform(-1.7, 1.7, shape[axis]))
        weight *= spread.reshape([-1 if k == axis else 1 for k in range(len(shape))])
        operands = [x, self.constant(f"{name}.weight", weight.astype(np.float32))]
        if bias:
            count = shape[axis] * int(attributes.get("group", 1)) if axis else shape[0]  # type: ignore[call-overload]
            values = self._random.normal(0, 0.1, count).astype(np.float32)
            operands.append(self.constant(f"{name}.bias", values))
        return self.node(kind, name, *operands, **attributes)

    def write(self, path: Path, kind: str, shape: tuple[int, ...]) -> Path:
        loss = "cross_entropy" if kind == "class" else "mse"
        task = Task((InputSpec("image", 1 / 255),), (OutputSpec("y", kind, loss, "truth"),))
        graph = helper.make_graph(
            self.nodes,
            path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, SIZE, SIZE))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            self.values,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {METADATA_KEY: format_task(task)})
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def inverted_residuals(path: Path) -> Path:
    """Depthwise convolutions, ReLU6, a residual addition, a mean, fully connected, softmax: MobileNetV2."""
    net = Net(1)
    net.constant("zero", np.float32(0))
    net.constant("six", np.float32(6))
    net.layer("Conv", "stem", "image", [8, 3, 3, 3], strides=[2, 2], pads=[0, 0, 1, 1], bias=False)
    for part, shape in (("scale", 8), ("shift", 8), ("mean", 8), ("variance", 8)):
        value = np.random.default_rng(shape + len(part)).uniform(0.5, 1.5, shape)
        net.constant(f"bn.{part}", value.astype(np.float32))
    net.node("BatchNormalization", "bn", "stem", "bn.scale", "bn.shift", "bn.mean", "bn.variance")
    net.node("Clip", "stem6", "bn", "zero", "six")
    net.layer("Conv", "expand", "stem6", [16, 8, 1, 1])
    net.node("Relu", "expanded", "expand")
    net.layer("Conv", "depthwise", "expanded", [16, 1, 3, 3], group=16, pads=[1] * 4)
    net.node("Clip", "depthwise6", "depthwise", "zero", "six")
    net.layer("Conv", "project", "depthwise6", [8, 16, 1, 1])
    net.node("Add", "sum", "project", "stem6")
    net.node("GlobalAveragePool", "mean", "sum")
    net.node("Flatten", "flat", "mean")
    net.layer("Gemm", "classes", "flat", [4, 8], transB=1)
    net.node("Softmax", "y", "classes", axis=1)
    return net.write(path, "class", (1, 4))


def residual(path: Path) -> Path:
    """Convolutions, additions with ReLU, average pooling, flattening of a map: ResNet."""
    net = Net(2)
    net.layer("Conv", "stem", "image", [8, 3, 3, 3], pads=[1] * 4)
    net.node("Relu", "a", "stem")
    net.layer("Conv", "conv1", "a", [8, 8, 3, 3], pads=[1] * 4)
    net.node("Relu", "b", "conv1")
    net.layer("Conv", "conv2", "b", [8, 8, 3, 3], pads=[1] * 4)
    net.node("Add", "sum", "conv2", "a")
    net.node("Relu", "c", "sum")
    net.layer("Conv", "skip", "c", [12, 8, 1, 1], strides=[2, 2])
    net.layer("Conv", "conv3", "c", [12, 8, 3, 3], pads=[1] * 4, strides=[2, 2])
    net.node("Add", "sum2", "conv3", "skip")
    net.node("Relu", "d", "sum2")
    net.node("AveragePool", "pool", "d", kernel_shape=[2, 2], strides=[2, 2])
    net.node("Flatten", "flat", "pool")
    net.layer("Gemm", "y", "flat", [3, 12 * 16], transB=1)
    return net.write(path, "value", (1, 3))


def pyramid(path: Path) -> Path:
    """Max pooling, resizing, transposed convolutions, concatenation, LeakyReLU, sigmoid: U-Net."""
    net = Net(3)
    net.layer("Conv", "enc0", "image", [6, 3, 3, 3], pads=[1] * 4)
    net.node("LeakyRelu", "skip", "enc0", alpha=0.125)
    net.node("MaxPool", "half", "skip", kernel_shape=[2, 2], strides=[2, 2])
    net.layer("Conv", "enc1", "half", [8, 6, 3, 3], pads=[1] * 4)
    net.node("LeakyRelu", "deep", "enc1", alpha=0.125)
    net.node("MaxPool", "quarter", "deep", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    net.layer("ConvTranspose", "up0", "quarter", [8, 3, 3, 3], group=2, strides=[2, 2], pads=[0, 0, 1, 1])
    net.node("Concat", "both", "deep", "up0", axis=1)
    net.constant("scales", np.array([1, 1, 2, 2], np.float32))
    mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    net.node("Resize", "large", "both", "", "scales", **mode)
    net.layer("ConvTranspose", "up1", "deep", [8, 4, 2, 2], strides=[2, 2])
    net.node("Resize", "linear", "deep", "", "scales", mode="linear")
    net.node("Concat", "all", "skip", "large", "up1", "linear", axis=1)
    net.layer("Conv", "dec", "all", [4, 16, 3, 3], pads=[1] * 4, group=2)
    net.node("Relu", "dec.act", "dec")
    net.layer("Conv", "head", "dec.act", [1, 4, 1, 1])
    net.node("Sigmoid", "y", "head")
    return net.write(path, "value", (1, 1, SIZE, SIZE))


NETWORKS: tuple[Callable[[Path], Path], ...] = (inverted_residuals, residual, pyramid)

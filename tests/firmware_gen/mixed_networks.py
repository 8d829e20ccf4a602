"""Random networks in which layers on moving grids stand above a float layer that learns."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Graph, Op, Quantization, Shape, Tensor
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.operators.elementwise_i8 import Operand, lower_add
from firmware_gen.operators.pool_i8 import lower_mean
from firmware_gen.operators.quantize import dequantize, quantize
from firmware_gen.passes import lighten
from firmware_gen.update import parse_update
from firmware_gen.window import LINEAR, Activation, Window

KNOWN = 1.5  # what gradients' ranges begin with, so that no grid is guessed
ACTIVATIONS = (LINEAR, Activation("relu"), Activation("leaky_relu", 0.125), Activation("clip", 0.0, 1.0))
KINDS = ("dense", "depthwise", "grouped", "transposed", "grouped transposed", "linear")


class Net:
    """A float layer that learns below int8 layers: one of a random kind and, by its number, what follows.

    x -> head (float) -> a ---------+
     `-> low (int8, fixed) -> concat -> mean -> y     a -> beside -> sum with a
    """

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self.kind = KINDS[seed % len(KINDS)]
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, Constant] = {}
        self._ops: list[Op] = []
        size = (1, 1) if self.kind == "linear" else tuple(self._random.integers(3, 9, 2).tolist())
        groups = 1 if self.kind in ("dense", "transposed", "linear") else int(self._random.integers(2, 5))
        inner = 1 if self.kind == "depthwise" else int(self._random.integers(1, 6))
        self._float("x", (*size, 3))
        self._head(groups * inner)
        self._conv("a", "h", groups)
        last = "a"
        if seed % 2:
            last = self._residual("a", relu=seed % 4 == 3)
        if seed % 3 == 1:
            last = self._joined(last)
        if seed % 5 > 2:
            last = self._mean(last)
        self._float("y", self._tensors[last].shape)
        self._op("out", dequantize(), (last,), "y")

    def graph(self) -> Graph:
        """Return the network, not trained."""
        made = {op.outputs[0] for op in self._ops}
        inputs = tuple(name for name in self._tensors if name not in made)
        return Graph("net", tuple(self._ops), self._tensors, self._constants, inputs, ("y",))

    def _op(self, name: str, lowered: Lowered, inputs: Sequence[str], output: str) -> None:
        self._constants.update({constant.name: constant for constant in lowered.constants})
        names = tuple(constant.name for constant in lowered.constants)
        self._ops.append(Op(lowered.kind, name, tuple(inputs), (output,), lowered.attrs, names))

    def _float(self, name: str, shape: Shape) -> str:
        self._tensors[name] = Tensor(name, shape)
        return name

    def _int8(self, name: str, shape: Shape, zero: int | None = None) -> Quantization:
        """Add a tensor that reaches from some -3 to 3, or from 0 to 3."""
        zero = int(self._random.integers(-20, 20)) if zero is None else zero
        scale = float(np.float32((3 if zero == -128 else 6) / 255))
        self._tensors[name] = Tensor(name, shape, "i8", Quantization(scale, zero))
        return Quantization(scale, zero)

    def _known(self, name: str) -> Quantization:
        known = self._tensors[name].quantization
        assert known is not None
        return known

    def _head(self, channels: int) -> None:
        shape = (*self._tensors["x"].shape[:2], channels)
        values = {
            "head.weight": self._random.standard_normal((1, 1, 3, channels)) / 2,
            "head.bias": self._random.standard_normal(channels) / 4,
        }
        constants = tuple(Constant(name, value.astype(np.float32)) for name, value in values.items())
        self._op(
            "head", Lowered("conv2d", ConvAttrs(Window((1, 1))), constants), ("x",), self._float("h.f", shape)
        )
        self._int8("h", shape)
        self._op("border", quantize("even"), ("h.f",), "h")

    def _conv(self, name: str, x: str, groups: int, same: bool = False) -> None:
        """Add a layer of the network's kind, or one that keeps the shape."""
        random, (height, width, channels) = self._random, self._tensors[x].shape
        transposed = "transposed" in self.kind and not same
        window = Window((1, 1))
        if self.kind == "linear" or same:
            groups = 1
        else:
            kernel = tuple(random.integers(1, 8 if self.kind == "depthwise" else 4, 2).tolist())
            dilation = (1, 1) if max(kernel) > 3 else tuple(random.integers(1, 3, 2).tolist())
            spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
            room = (0, 0) if transposed else (height, width)
            pad = tuple(
                max(int(random.integers(0, span // 2 + 1)), (span - size + 1) // 2 if size else 0)
                for span, size in zip(spans, room, strict=True)
            )
            window = Window(kernel, tuple(random.integers(1, 3, 2).tolist()), pad, pad, dilation)
        size = window.transposed_output(height, width) if transposed else window.output(height, width)
        given = 1 if self.kind == "depthwise" and not same else int(random.integers(1, 7))
        given = channels if same else given * groups
        shape = (channels, given // groups) if transposed else (channels // groups, given)
        value = random.integers(-127, 128, (*window.kernel, *shape)).astype(np.int8)
        fan_in = window.taps * channels / groups
        scales = random.uniform(0.5, 1.5, given) / (73 * np.sqrt(fan_in))
        weight = Constant(f"{name}.weight", value, scales=tuple(np.float32(s).item() for s in scales))
        activation = ACTIVATIONS[int(random.integers(len(ACTIVATIONS)))]
        known = self._int8(name, (*size, given), -128 if activation.kind in ("relu", "clip") else None)
        attrs = ConvAttrs(window, groups, transposed, activation)
        bias = random.integers(-2000, 2000, given).astype(np.int32)
        self._op(name, quantized_conv2d(name, attrs, self._known(x), weight, bias, known), (x,), name)

    def _residual(self, x: str, relu: bool) -> str:
        self._conv("beside", x, 1, same=True)
        known = self._int8("sum", self._tensors[x].shape, -128 if relu else None)
        lowered = lower_add(Operand(self._known(x)), Operand(self._known("beside")), known)
        self._op("sum", lowered, (x, "beside"), "sum")
        return "sum"

    def _joined(self, x: str) -> str:
        """Concatenate `x` and an int8 map that depends on nothing that learns."""
        height, width, channels = self._tensors[x].shape
        self._float("low.f", (height, width, 4))
        self._tensors["low"] = Tensor("low", (height, width, 4), "i8", self._known(x))
        self._op("low.border", quantize("even"), ("low.f",), "low")
        self._tensors["joined"] = Tensor("joined", (height, width, channels + 4), "i8", self._known(x))
        self._ops.append(Op("concat", "joined", (x, "low"), ("joined",)))
        return "joined"

    def _mean(self, x: str) -> str:
        height, width, channels = self._tensors[x].shape
        known = self._int8("mean", (1, 1, channels))
        self._op("mean", lower_mean(height * width, self._known(x), known), (x,), "mean")
        return "mean"


def observable(graph: Graph) -> Graph:
    """Return the training `graph` as an inference of which the host sees every value.

    The gradient of the loss is an input; gradients' ranges are known before the first step.
    """
    (loss,) = (op for op in graph.ops if op.kind == "loss")
    dy = loss.outputs[0]
    idle = dataclasses.replace(graph.tensors[dy], name="idle")
    early = [
        dataclasses.replace(op, phase="forward") for op in graph.ops if op.phase not in ("loss", "update")
    ]
    late = [dataclasses.replace(loss, outputs=("idle",)), *(op for op in graph.ops if op.phase == "update")]
    seen = [op.outputs[0] for op in early if graph.tensors[op.outputs[0]].dtype != "bits"]
    ranges = {
        name: dataclasses.replace(moving, low=-KNOWN, high=KNOWN) if moving.symmetric else moving
        for name, moving in graph.ranges.items()
    }
    return dataclasses.replace(
        graph,
        ops=(*early, *late),
        tensors={**graph.tensors, "idle": idle},
        inputs=(*graph.inputs, dy),
        outputs=tuple(seen),
        ranges=ranges,
    )


def trained_side_by_side(seeds: Sequence[int]) -> Graph:
    """Return random networks as one graph, in which what stands below the int8 layers learns."""
    whole = side_by_side([Net(seed).graph() for seed in seeds])
    losses = tuple(LossSpec(name, "mse") for name in whole.outputs)
    return lighten(training_graph(whole, losses, parse_update("*head")))


def side_by_side(networks: Sequence[Graph]) -> Graph:
    """Return networks as one graph, in which the names of the k-th begin with `nk.`."""
    graphs = [_prefixed(graph, f"n{k}") for k, graph in enumerate(networks)]
    return Graph(
        "side by side",
        tuple(op for graph in graphs for op in graph.ops),
        {name: tensor for graph in graphs for name, tensor in graph.tensors.items()},
        {name: constant for graph in graphs for name, constant in graph.constants.items()},
        tuple(name for graph in graphs for name in graph.inputs),
        tuple(name for graph in graphs for name in graph.outputs),
    )


def _prefixed(graph: Graph, prefix: str) -> Graph:
    def renamed(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(f"{prefix}.{name}" for name in names)

    def op(old: Op) -> Op:
        return dataclasses.replace(
            old,
            name=f"{prefix}.{old.name}",
            inputs=renamed(old.inputs),
            outputs=renamed(old.outputs),
            constants=renamed(old.constants),
        )

    return Graph(
        prefix,
        tuple(map(op, graph.ops)),
        {
            f"{prefix}.{name}": dataclasses.replace(tensor, name=f"{prefix}.{name}")
            for name, tensor in graph.tensors.items()
        },
        {
            f"{prefix}.{name}": dataclasses.replace(constant, name=f"{prefix}.{name}")
            for name, constant in graph.constants.items()
        },
        renamed(graph.inputs),
        renamed(graph.outputs),
    )

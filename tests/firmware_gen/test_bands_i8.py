"""Integer layers in bands of rows: the bits of whole layers on every instruction set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from emulation import Arrays, samples
from quick_board import quick_board
from test_bands import banded, drawn_chains, whole

import boards
from boards import load_board
from firmware_gen.graph import Constant, Graph, Quantization, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.operators.elementwise_i8 import Operand, lower_add
from firmware_gen.operators.lookup import leaky_relu
from firmware_gen.operators.pool_i8 import lower_pool
from firmware_gen.operators.resize_i8 import ResizeAttrsI8, lower_bilinear, lower_nearest
from firmware_gen.passes.scratch import with_scratch
from firmware_gen.plan import Plan
from firmware_gen.project import write_project
from firmware_gen.window import Activation, Window
from ondevice.device import Device

GRID = Quantization(0.05, -7)
NETWORKS = 3


class Integers:
    """Adds random integer layers; all tensors have one grid."""

    def __init__(self, random: np.random.Generator, name: str) -> None:
        self.random = random
        self._builder = Builder(name)
        self._count = 0

    def input(self, shape: Shape) -> str:
        self._builder.add_input(Tensor("x", shape, "i8", GRID), 4)
        return "x"

    def shape(self, x: str) -> Shape:
        return self._builder.shape(x)

    def put(self, lowered: Lowered, inputs: Sequence[str], shape: Shape) -> str:
        self._count += 1
        name = f"t{self._count}"
        self._builder.put(lowered, f"layer{self._count}", inputs, Tensor(name, shape, "i8", GRID))
        return name

    def conv(self, x: str, out: int, attrs: ConvAttrs) -> str:
        height, width, channels = self.shape(x)
        window, groups = attrs.window, attrs.groups
        inner, outer = (channels, out // groups) if attrs.transposed else (channels // groups, out)
        values = self.random.integers(-127, 128, (*window.kernel, inner, outer)).astype(np.int8)
        scales = tuple(self.random.uniform(0.1, 0.4, outer) / np.sqrt(window.taps * channels / groups) / 16)
        name = f"layer{self._count + 1}"
        bias = self.random.integers(-500, 500, out).astype(np.int32)
        weight = Constant(f"{name}.weight", values, scales=scales)
        size = window.transposed_output if attrs.transposed else window.output
        return self.put(
            quantized_conv2d(name, attrs, GRID, weight, bias, GRID), [x], (*size(height, width), out)
        )

    def direct(self, x: str) -> str:
        random, (height, _, channels) = self.random, self.shape(x)
        depthwise = random.random() < 0.4
        kernel, dilation = int(random.integers(1, 5)), int(random.integers(1, 3))
        if depthwise and random.random() < 0.5:
            dilation = 1
        stride = int(random.integers(1, 3)) if height > 8 else 1
        pad = int(random.integers(0, kernel)) if height > 10 else (kernel - 1) * dilation
        pads = (pad, (kernel - 1) // 2)
        window = Window((kernel, kernel), (stride, stride), pads, (pad, kernel // 2), (dilation, 1))
        out = channels if depthwise else int(random.integers(2, 19))
        kinds = (Activation(), Activation("relu"), Activation("leaky_relu", 0.1))
        activation = kinds[int(random.integers(3))]
        return self.conv(x, out, ConvAttrs(window, channels if depthwise else 1, activation=activation))

    def residual(self, x: str) -> str:
        channels = self.shape(x)[2]
        y = self.conv(x, channels, ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1))))
        return self.put(lower_add(Operand(GRID), Operand(GRID), GRID), [x, y], self.shape(x))

    def pooled(self, x: str) -> str:
        height, width, channels = self.shape(x)
        window = Window((3, 2), (2, 1) if height > 8 else (1, 1), (1, 0), (1, 1))
        kind = "max" if self.random.random() < 0.5 else "average"
        return self.put(lower_pool(kind, window, GRID), [x], (*window.output(height, width), channels))

    def function(self, x: str) -> str:
        tensor = Tensor("x", self.shape(x), "i8", GRID)
        return self.put(leaky_relu(tensor, tensor, 0.25), [x], self.shape(x))

    def larger(self, x: str) -> str:
        height, width, channels = self.shape(x)
        if height > 12:
            return self.function(x)
        choice = self.random.random()
        if choice < 0.5:
            window = Window((3, 3), (2, 2), (1, 1), (0, 0))
            up = self.conv(x, 6, ConvAttrs(window, transposed=True))
            tall, wide, _ = self.shape(up)
        else:
            tall, wide = 2 * height, 2 * width
            lower = lower_bilinear if choice < 0.75 else lower_nearest
            attrs = ResizeAttrsI8(False, True)
            up = self.put(lower((height, width, channels), (tall, wide), attrs), [x], (tall, wide, channels))
        other = self.conv(up, 4, ConvAttrs(Window((1, 1))))
        joined = (tall, wide, self.shape(up)[2] + 4)
        return self.put(Lowered("concat"), [up, other], joined)

    def graph(self, y: str) -> Graph:
        self._builder.add_output(y)
        return self._builder.graph()


def deep(seed: int) -> Graph:
    net = Integers(np.random.default_rng(seed), f"deep{seed}")
    random = net.random
    x = net.input((int(random.integers(9, 20)), int(random.integers(4, 9)), int(random.integers(1, 6))))
    layers = (net.direct, net.direct, net.residual, net.pooled, net.function, net.larger)
    for _ in range(9):
        x = layers[int(random.integers(len(layers)))](x)
    return net.graph(x)


def outputs(plan: Plan, inputs: Sequence[Arrays], folder: Path) -> list[bytes]:
    write_project(plan, folder)
    firmware = boards.build(folder, plan.board)
    with boards.start(firmware.elf, plan.board) as running, Device.open(running.url) as device:
        found = []
        for sample in inputs:
            found += [device.infer(sample)[name].tobytes() for name in plan.graph.outputs]
        assert device.memory().arena_intact
    return found


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[list[bytes]]:
    """What whole layers give, one network after the other."""
    folder, native, found = tmp_path_factory.mktemp("whole"), quick_board("native"), []
    for seed in range(NETWORKS):
        graph = with_scratch(deep(seed), native)
        inputs = samples(graph, np.random.default_rng(seed))
        found.append(outputs(whole(graph, native), inputs, folder / str(seed)))
        assert len(set(found[-1])) > 1
    return found


@pytest.mark.parametrize("board", ["native", "mps2_an386", "mps3_an547", "qemu_riscv32"])
def test_integer_layers_have_the_bits_of_whole_ones(
    board: str, expected: list[list[bytes]], tmp_path: Path
) -> None:
    for seed in range(NETWORKS):
        graph = with_scratch(deep(seed), load_board(board))
        random = np.random.default_rng(seed)
        inputs = samples(graph, random)
        plan = banded(graph, drawn_chains(graph, random), load_board(board))
        assert any(step.chain for step in plan.steps)
        assert outputs(plan, inputs, tmp_path / str(seed)) == expected[seed]

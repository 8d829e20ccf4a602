"""Depthwise int8 layers with the instructions of Cortex-M4 give the bits of the portable kernel."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from quick_board import quick_board

import boards
from boards import load_board
from firmware_gen.graph import Constant, Graph, Op, Quantization, Tensor, check
from firmware_gen.operators import depthwise_i8_dsp
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import ConvI8Attrs, quantized_conv2d
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from firmware_gen.window import LINEAR, Activation, Window
from ondevice.device import Device

LAYERS = 32
ACTIVATIONS = (
    LINEAR,
    LINEAR,
    Activation("relu"),
    Activation("clip", -1.0, 2.0),
    Activation("leaky_relu", 0.1),
)
# Sums that the fast rounding may meet, at its limit, and beyond what it is proved for.
BIASES = (20_000, (1 << 30) - (1 << 20), 20_000, 1 << 30, (1 << 30) - (1 << 20), (1 << 31) - 1)

Random = np.random.Generator


def _window(random: Random) -> tuple[Window, tuple[int, int]]:
    """Return a window and the size of a map on which every output row meets it."""
    kernel = (int(random.integers(1, 6)), int(random.integers(1, 6)))
    before = (int(random.integers(0, kernel[0])), int(random.integers(0, kernel[1])))
    after = (int(random.integers(0, kernel[0])), int(random.integers(0, kernel[1])))
    stride = (int(random.integers(1, 4)), int(random.integers(1, 3)))
    least = [max(1, k - b - a) for k, b, a in zip(kernel, before, after, strict=True)]
    size = (least[0] + int(random.integers(0, 6)), least[1] + int(random.integers(0, 18)))
    return Window(kernel, stride, before, after), size


def _zero_point(random: Random) -> int:
    return int(random.choice((-128, 127, 0, int(random.integers(-128, 128)))))


def _layer(random: Random, number: int) -> tuple[Op, tuple[Tensor, Tensor], Lowered]:
    window, size = _window(random)
    channels = int(random.integers(2, 20))
    x = Quantization(0.05, _zero_point(random))
    y = Quantization(0.05, _zero_point(random))
    weights = random.integers(-127, 128, (*window.kernel, 1, channels), dtype=np.int8)
    bound = BIASES[number % len(BIASES)]
    bias = random.integers(-bound, bound, channels, dtype=np.int64, endpoint=True).astype(np.int32)
    # Outputs over the whole range, some far beyond it, some channels that are always zero.
    spread = max(bound, 4000 * window.taps)
    scales = 100.0 / spread * 2.0 ** random.uniform(-3, 3 if number % 7 else 9, channels)
    scales[random.random(channels) < 0.1] = 2.0 ** random.uniform(-40, -20)
    weight = Constant(
        f"w{number}", weights, scales=tuple(float(np.float32(s / x.scale * y.scale)) for s in scales)
    )
    conv = ConvAttrs(window, channels, activation=ACTIVATIONS[int(random.integers(len(ACTIVATIONS)))])
    lowered = quantized_conv2d(f"layer{number}", conv, x, weight, bias, y)
    names = tuple(constant.name for constant in lowered.constants)
    op = Op(lowered.kind, f"layer{number}", (f"x{number}",), (f"y{number}",), lowered.attrs, names)
    given = Tensor(f"x{number}", (*size, channels), "i8", x)
    made = Tensor(f"y{number}", (*window.output(*size), channels), "i8", y)
    return op, (given, made), lowered


def _graph(random: Random) -> Graph:
    """Return a network of unconnected layers."""
    layers = [_layer(random, number) for number in range(LAYERS)]
    return check(
        Graph(
            "layers",
            tuple(op for op, _, _ in layers),
            {tensor.name: tensor for _, tensors, _ in layers for tensor in tensors},
            {constant.name: constant for _, _, lowered in layers for constant in lowered.constants},
            tuple(tensors[0].name for _, tensors, _ in layers),
            tuple(tensors[1].name for _, tensors, _ in layers),
        )
    )


def _outputs(plan: Plan, samples: dict[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    write_project(plan, folder)
    firmware = boards.build(folder, plan.board)
    with boards.start(firmware.elf, plan.board) as running, Device.open(running.url) as device:
        device.put_sample(samples)
        device.run_inference()
        assert device.memory().arena_intact
        return {name: device.read_tensor(name) for name in plan.graph.outputs}


@pytest.mark.parametrize(("board", "seed"), [("mps2_an386", 0), ("mps2_an386", 1), ("qemu_riscv32", 2)])
def test_random_layers_give_the_bits_of_native(board: str, seed: int, tmp_path: Path) -> None:
    """On RISC-V they are the portable kernel's, whose blocks are others there than on native."""
    random = np.random.default_rng(seed)
    graph = _graph(random)
    samples = {name: random.integers(-128, 128, graph.shape(name), dtype=np.int8) for name in graph.inputs}
    truth = _outputs(make_plan(graph, quick_board("native")), samples, tmp_path / "native")
    found = _outputs(make_plan(graph, load_board(board)), samples, tmp_path / board)
    for op in graph.ops:
        (name,) = op.outputs
        assert np.array_equal(found[name], truth[name]), f"{name}: {op.attrs}"
    taken = [_is_taken(op, graph) for op in graph.ops]
    assert sum(taken) > LAYERS * 3 // 4


def _is_taken(op: Op, graph: Graph) -> bool:
    assert isinstance(op.attrs, ConvI8Attrs)
    return depthwise_i8_dsp.takes(op, op.attrs, graph)


def test_every_row_of_outputs_is_split_into_blocks_of_which_the_outer_ones_hold_the_padding() -> None:
    for kernel, stride, width in itertools.product(range(1, 6), (1, 2), range(1, 40)):
        for before, after in itertools.product(range(kernel), repeat=2):
            if width + before + after < kernel:
                continue
            window = Window((1, kernel), (1, stride), (0, before), (0, after))
            columns = window.output(1, width)[1]
            row = depthwise_i8_dsp._split(window, width, columns)
            if row is None:
                continue
            assert row.first + row.blocks * depthwise_i8_dsp.BLOCK + row.last == columns
            inner = range(row.first, columns - row.last)
            assert all(0 <= k * stride - before <= width - kernel for k in inner)
            assert max(row.first, row.last) <= depthwise_i8_dsp.LARGEST_BLOCK

"""Int8 operators other than convolutions: emulated Cortex-M boards give the bits of `native`."""

from pathlib import Path

import numpy as np
import pytest
from emulation import same_bits, samples
from tflite_layers import Random

from boards import load_board
from firmware_gen.emit.model import model_c
from firmware_gen.graph import Constant, Graph, Quantization, Shape, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.binary import broadcast_shape
from firmware_gen.operators.elementwise_i8 import LOWERINGS, Operand
from firmware_gen.operators.lookup import lower_lookup
from firmware_gen.operators.pool_i8 import lower_mean, lower_pool, lower_sum
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation, Window

M4, M55 = "mps2_an386", "mps3_an547"
BOARDS = (M4, M55)
LOW, HIGH = -128, 127
CHANNELS = (1, 2, 3, 5, 15, 16, 17, 31, 32, 48)
# Scales of a, b and y: equal ones, of which halves are halves; factors that shift to either side; results
# that all saturate, and results that are all zero.
SCALES = {
    "equal": (0.05, 0.05, 0.05),
    "halves": (0.05, 0.05, 0.1),
    "first_larger": (0.1, 0.03, 0.07),
    "second_larger": (0.001, 0.2, 0.15),
    "far_apart": (1.0, 1e-7, 1.0),
    "fine": (0.5, 0.3, 1e-3),
    "coarse": (0.02, 0.03, 40.0),
}


@pytest.mark.parametrize(("kind", "finest"), [("add", 1e-6), ("sub", 1e-6), ("mul", 1e-5), ("prelu", 1e-5)])
def test_all_pairs_of_values(kind: str, finest: float, tmp_path: Path) -> None:
    network, values = Builder("pairs"), np.arange(LOW, HIGH + 1, dtype=np.int8)
    for k, (name, scales) in enumerate({**SCALES, "finest": (0.5, 0.3, finest)}.items()):
        zeros = ((LOW, 0, HIGH)[k % 3], (HIGH, 17, LOW, -3)[k % 4], (0, LOW, HIGH)[k % 3])
        a, b, y = (Quantization(*unit) for unit in zip(scales, zeros, strict=True))
        network.add_input(Tensor(f"a_{name}", (1, 256, 1), "i8", a), 4)
        rows = Operand(b, Constant(f"b_{name}", values.reshape(256, 1, 1)))
        lowered = LOWERINGS[kind](Operand(a), rows, y)
        network.put(lowered, name, [f"a_{name}"], Tensor(name, (256, 256, 1), "i8", y))
        network.add_output(name)
    graph = network.graph()
    assert f"ft_mve_binary_i8(FT_MVE_{'ADD' if kind == 'sub' else kind.upper()}" in _code(graph, M55)
    boards = [board for board in BOARDS if kind != "prelu" or board == M55]
    assert M4 not in boards or "ft_binary_i8_dsp(" in _code(graph, M4)
    same_bits(graph, boards, [{x: values.reshape(1, 256, 1) for x in graph.inputs}], tmp_path)


def test_random_pairs_of_maps(tmp_path: Path) -> None:
    random = np.random.default_rng(41)
    network = Builder("maps")
    for k in range(30):
        _add_pair(network, k, random)
    _same_bits(network.graph(), random, tmp_path)


def _add_pair(network: Builder, k: int, random: Random) -> None:
    """Add an operator on two maps, or a map and a constant, of which one may be repeated along axes."""
    kind = tuple(LOWERINGS)[k % len(LOWERINGS)]
    shape = (*random.integers(1, 6, 2).tolist(), int(random.choice(CHANNELS)))
    shapes = [shape, tuple(1 if random.random() < 0.3 else size for size in shape)]
    random.shuffle(shapes)
    units = [Quantization(float(10 ** random.uniform(-3, 0)), _zero_point(random)) for _ in range(3)]
    if kind in ("maximum", "minimum"):
        units = units[:1] * 3
    constant = None
    if random.random() < 0.3:
        constant = Constant(f"c{k}", random.integers(LOW, HIGH + 1, shapes[1]).astype(np.int8))
    operands = [Operand(units[0]), Operand(units[1], constant)]
    names = [f"a{k}"] if constant else [f"a{k}", f"b{k}"]
    for name, own, unit in zip(names, shapes, units, strict=False):
        network.add_input(Tensor(name, own, "i8", unit), 4)
    if constant and random.random() < 0.5:
        operands.reverse()
    low, high = ((-np.inf, np.inf), (0.0, np.inf), (-0.1, 0.2))[k % 3]
    lowered = LOWERINGS[kind](operands[0], operands[1], units[2], low, high)
    y = Tensor(f"y{k}", broadcast_shape(shapes[0], shapes[1], "a pair"), "i8", units[2])
    network.put(lowered, f"y{k}", names, y)
    network.add_output(f"y{k}")


@pytest.mark.parametrize("channels", [1, 21])
def test_maps_that_are_slices_of_wider_ones(channels: int, tmp_path: Path) -> None:
    random, unit = np.random.default_rng(43), Quantization(0.05, 3)
    network, shape = Builder("slices"), (4, 5, channels)
    network.add_input(Tensor("x", shape, "i8", unit), 4)
    network.put(_table("a", random), "a", ["x"], Tensor("a", shape, "i8", unit))
    network.put(
        LOWERINGS["add"](Operand(unit), Operand(unit), unit), "b", ["x", "a"], Tensor("b", shape, "i8", unit)
    )
    joined = Tensor("ab", (4, 5, 2 * channels), "i8", unit)
    network.put(Lowered("concat"), "ab", ["a", "b"], joined)
    window = Window((2, 3), (1, 2))
    for name, lowered, x, size in (
        ("table", _table("table", random), ["b"], shape),
        ("sum", LOWERINGS["sub"](Operand(unit), Operand(unit), unit), ["b", "x"], shape),
        ("product", LOWERINGS["mul"](Operand(unit), Operand(unit), unit), ["a", "b"], shape),
        ("largest", lower_pool("max", window, unit), ["b"], (3, 2, channels)),
        ("average", lower_pool("average", window, unit), ["b"], (3, 2, channels)),
        ("mean", lower_mean(20, unit, unit), ["b"], (1, 1, channels)),
    ):
        network.put(lowered, name, x, Tensor(name, size, "i8", unit))
        network.add_output(name)
    network.add_output("ab")
    plan = make_plan(network.graph(), load_board(M55))
    assert plan.views["b"].pixel > channels, (
        "the plan no longer places the slices in place: this tests nothing"
    )
    _same_bits(network.graph(), random, tmp_path)


def test_random_poolings(tmp_path: Path) -> None:
    random = np.random.default_rng(44)
    network = Builder("poolings")
    for k in range(24):
        kernel, stride = random.integers(1, 6, 2), random.integers(1, 4, 2)
        pad, pad_end = random.integers(0, kernel), random.integers(0, kernel)
        height, width = np.maximum(1, kernel - pad - pad_end) + random.integers(0, 6, 2)
        pairs = [(int(a), int(b)) for a, b in (kernel, stride, pad, pad_end)]
        window, unit = Window(*pairs), Quantization(0.05, _zero_point(random))
        x = Tensor(f"x{k}", (int(height), int(width), int(random.choice(CHANNELS))), "i8", unit)
        network.add_input(x, 4)
        activation = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75))[k % 3]
        lowered = lower_pool("max" if k % 2 else "average", window, unit, activation)
        shape = (*window.output(*x.shape[:2]), x.shape[2])
        network.put(lowered, f"y{k}", [x.name], Tensor(f"y{k}", shape, "i8", unit))
        network.add_output(f"y{k}")
    _same_bits(network.graph(), random, tmp_path)


def test_means_beside_halves(tmp_path: Path) -> None:
    """Sums that are whole means and a half, one more and one less, of as many taps as a kernel takes."""
    network, unit, inputs = Builder("means"), Quantization(0.05, 0), {}
    for size in ((3, 7), (15, 17), (16, 16), (60, 68), (64, 64)):
        name, count = f"x{size[0]}", size[0] * size[1]
        wholes = np.array([LOW, -127, -64, -1, 0, 1, 125, 126])
        sums = (wholes * count + count // 2 + np.array([[-1], [0], [1]])).ravel()
        # Each sum of values that differ by one at most.
        values = sums // count + (np.arange(count)[:, None] < sums % count)
        inputs[name] = values.reshape(*size, sums.size).astype(np.int8)
        network.add_input(Tensor(name, inputs[name].shape, "i8", unit), 4)
        y = Tensor(f"y{size[0]}", (1, 1, sums.size), "i8", unit)
        network.put(lower_pool("average", Window(size), unit), y.name, [name], y)
        network.add_output(y.name)
    graph = network.graph()
    assert _code(graph, M4).count("ft_pool_i8_dsp(") == 2
    assert _code(graph, M55).count("ft_mve_pool_i8(") == 4
    same_bits(graph, BOARDS, [inputs], tmp_path)


def test_random_sums_and_means(tmp_path: Path) -> None:
    random = np.random.default_rng(45)
    network = Builder("sums")
    for k in range(24):
        shape: Shape = (*random.integers(1, 9, 2).tolist(), int(random.choice(CHANNELS)))
        kept = random.random(3) < (0.3, 0.3, 0.8)
        out: Shape = tuple(np.where(kept, shape, 1).tolist())
        x = Quantization(0.05, _zero_point(random))
        y = Quantization(0.05 * float(10 ** random.uniform(-3, 3)), _zero_point(random))
        count = int(np.prod(shape) / np.prod(out))
        network.add_input(Tensor(f"x{k}", shape, "i8", x), 4)
        lowered = (lower_sum if k % 2 else lower_mean)(count, x, y)
        network.put(lowered, f"y{k}", [f"x{k}"], Tensor(f"y{k}", out, "i8", y))
        network.add_output(f"y{k}")
    assert "ft_mve_sum_i8(" in _code(network.graph(), M55)
    assert "ft_sum_i8_dsp(" in _code(network.graph(), M4)
    _same_bits(network.graph(), random, tmp_path)


def test_random_tables(tmp_path: Path) -> None:
    random = np.random.default_rng(46)
    network = Builder("tables")
    for k, channels in enumerate(CHANNELS):
        shape = (*random.integers(1, 6, 2).tolist(), channels)
        network.add_input(Tensor(f"x{k}", shape, "i8", Quantization(1.0, 0)), 4)
        network.put(
            _table(f"y{k}", random), f"y{k}", [f"x{k}"], Tensor(f"y{k}", shape, "i8", Quantization(1.0, 0))
        )
        network.add_output(f"y{k}")
    assert "ft_mve_lookup(" in _code(network.graph(), M55)
    same_bits(network.graph(), (M55,), samples(network.graph(), random), tmp_path)


def _zero_point(random: Random) -> int:
    return int(random.choice([LOW, HIGH, 0, int(random.integers(LOW, HIGH + 1))]))


def _table(y: str, random: Random) -> Lowered:
    return lower_lookup(Tensor(y, (1, 1, 1), "i8", Quantization(1.0, 0)), random.integers(LOW, HIGH + 1, 256))


def _code(graph: Graph, board: str) -> str:
    return model_c(make_plan(graph, load_board(board)))


def _same_bits(graph: Graph, random: Random, folder: Path) -> None:
    same_bits(graph, BOARDS, samples(graph, random), folder)

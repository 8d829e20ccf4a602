"""Sums, products and poolings with Xpulp's instructions give the bits of `native`."""

from pathlib import Path

import numpy as np
from xpulp_programs import assert_same_bits, int8_samples, simulator
from xpulp_random import Random, random_window

from firmware_gen.emit.model import model_c
from firmware_gen.graph import Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.base import Lowered
from firmware_gen.operators.elementwise_i8 import Operand, lower_add, lower_mul, lower_sub
from firmware_gen.operators.pool_i8 import lower_mean, lower_pool, lower_sum
from firmware_gen.plan import make_plan
from firmware_gen.window import LINEAR, Activation


def _unit(random: Random, least: float = 0.02, most: float = 0.1) -> Quantization:
    zero = random.choice((-128, 127, *random.integers(-128, 128, 4)))
    return Quantization(random.uniform(least, most), int(zero))


def test_sums_differences_and_products(tmp_path: Path) -> None:
    random = np.random.default_rng(40)
    network = Builder("binary")
    for k in range(24):
        shape = tuple(random.integers(1, 8, 3).tolist())
        other = (shape, (1, 1, shape[2]), (*shape[:2], 1))[k % 3]
        a, b = _unit(random), _unit(random)
        if k % 4 == 0:
            b = Quantization(a.scale, b.zero_point)  # both factors are 1/2
        lower = (lower_add, lower_sub, lower_mul)[k // 3 % 3]
        y = _unit(random, 0.1, 0.4) if lower is not lower_mul else _unit(random, 0.02, 0.2)
        network.add_input(Tensor(f"a{k}", shape, "i8", a), 4)
        network.add_input(Tensor(f"b{k}", other, "i8", b), 4)
        limits = ((), (0.0,), (-1.0, 0.5))[k % 3]
        lowered = lower(Operand(a), Operand(b), y, *limits)
        network.put(lowered, f"y{k}", [f"a{k}", f"b{k}"], Tensor(f"y{k}", shape, "i8", y))
        network.add_output(f"y{k}")
    graph = network.graph()
    assert model_c(make_plan(graph, simulator.board(tmp_path))).count("ft_binary_i8_xpulp(") >= 20
    assert_same_bits(graph, int8_samples(graph, random), tmp_path)


def test_poolings_sums_and_means(tmp_path: Path) -> None:
    random = np.random.default_rng(41)
    network = Builder("pools")
    for k in range(20):
        channels = 3 if k == 19 else 4 * int(random.integers(1, 6))
        unit = _unit(random)
        if k % 2:
            window, height, width = random_window("dense", random)
        else:
            height, width = random.integers(1, 9, 2).tolist()
        x, y = f"x{k}", f"y{k}"
        network.add_input(Tensor(x, (height, width, channels), "i8", unit), 4)
        if k % 2:
            activation = (LINEAR, Activation("relu"), Activation("clip", -0.5, 0.75))[k % 3]
            lowered = lower_pool("max" if k % 4 == 1 else "average", window, unit, activation)
            shape, made = (*window.output(height, width), channels), unit
        else:
            axes = ((1, 1), (1, width), (height, 1))[k % 3]
            count, made = height * width // (axes[0] * axes[1]), _unit(random)
            lowered = (lower_mean if k % 4 else lower_sum)(count, unit, made)
            shape = (*axes, channels)
        network.put(lowered, y, [x], Tensor(y, shape, "i8", made))
        network.add_output(y)
    graph = network.graph()
    code = model_c(make_plan(graph, simulator.board(tmp_path)))
    for kernel in ("FT_MAX_POOL_XPULP, (", "FT_AVERAGE_POOL_XPULP, (", "ft_sum_i8_xpulp("):
        assert code.count(kernel) >= 3, kernel
    assert_same_bits(graph, int8_samples(graph, random), tmp_path)


def test_poolings_of_slices_in_which_words_lie_across_pixels(tmp_path: Path) -> None:
    random, unit = np.random.default_rng(42), Quantization(0.05, 3)
    network = Builder("slices")
    network.add_input(Tensor("a", (5, 4, 3), "i8", unit), 4)
    network.add_input(Tensor("b", (5, 4, 8), "i8", unit), 4)
    window = random_window("dense", random)[0]
    lowered = lower_add(Operand(unit), Operand(unit), unit)
    network.put(lowered, "sum", ["b", "b"], Tensor("sum", (5, 4, 8), "i8", unit))
    network.put(Lowered("concat"), "ab", ["a", "sum"], Tensor("ab", (5, 4, 11), "i8", unit))
    shape = (*window.output(5, 4), 8)
    network.put(lower_pool("max", window, unit), "pooled", ["sum"], Tensor("pooled", shape, "i8", unit))
    network.add_output("pooled")
    network.add_output("ab")
    plan = make_plan(network.graph(), simulator.board(tmp_path))
    assert plan.views["sum"].pixel == 11, "the plan no longer places the slice in place: this tests nothing"
    assert "ft_max_pool_i8((" in model_c(plan)
    assert_same_bits(network.graph(), int8_samples(network.graph(), random), tmp_path)

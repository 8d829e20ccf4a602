"""Convolutions in TFLite files: int8 ones give the bits of LiteRT, float ones its numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from int8_proof import Case, prove, run
from tflite_layers import DRAWS, Layer, Random, as_float, draw_scale, fields, model
from tflite_writer import Operation, Reference, Value, reference, tflite_bytes

from firmware_gen.graph import Constant, Quantization, Tensor
from firmware_gen.importers.builder import Builder
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import quantized_conv2d
from firmware_gen.window import Activation, Window

MODELS, LAYERS = 4, 12


@pytest.mark.parametrize("draw", DRAWS)
def test_random_layers_give_litert_s_bits_under_the_sanitizers(
    draw: Callable[[Random], Layer], tmp_path: Path
) -> None:
    random = np.random.default_rng(11)
    prove([Case(model([draw(random) for _ in range(LAYERS)])) for _ in range(MODELS)], tmp_path)


def test_specialised_as_in_firmware_they_give_the_same_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(12)
    prove([Case(model([draw(random) for draw in DRAWS])) for _ in range(2)], tmp_path, firmware=True)


def test_a_leaky_layer_is_one_linear_layer_above_zero_and_another_below(tmp_path: Path) -> None:
    random = np.random.default_rng(13)
    slope = 0.125  # exact in the scales of the second layer
    weight = random.integers(-127, 128, (4, 3, 3, 5))
    scales = [draw_scale(random) for _ in range(4)]
    bias = random.integers(-3000, 3000, 4)
    x, y = Quantization(0.0625, 7), Quantization(float(np.float32(max(scales))), -9)

    def linear(factor: float) -> bytes:
        own = [scale * factor for scale in scales]
        values = [
            Value("x", (1, 6, 8, 5), scale=x.scale, zero_point=x.zero_point),
            Value("w", scale=own, data=weight),
            Value("b", dtype="i32", scale=np.array(own, np.float32) * np.float32(x.scale), data=bias),
            Value("y", (1, 6, 8, 4), scale=y.scale, zero_point=y.zero_point),
        ]
        options = fields((1, 1), (1, 1), 0, 0)
        operation = Operation("CONV_2D", ["x", "w", "b"], ["y"], "Conv2DOptions", options)
        return tflite_bytes(values, [operation], ["x"], ["y"])

    conv = ConvAttrs(Window((3, 3), pad=(1, 1), pad_end=(1, 1)), activation=Activation("leaky_relu", slope))
    kernel = np.ascontiguousarray(weight.transpose(1, 2, 3, 0).astype(np.int8))
    lowered = quantized_conv2d(
        "layer", conv, x, Constant("w", kernel, scales=tuple(scales)), bias.astype(np.int32), y
    )
    builder = Builder("leaky")
    builder.add_input(Tensor("x", (6, 8, 5), "i8", x), 4)
    builder.put(lowered, "layer", ["x"], Tensor("y", (6, 8, 4), "i8", y))
    builder.add_output("y")
    sample = Reference(linear(1)).draw(random)
    above, below = reference(linear(1), sample)[0], reference(linear(slope), sample)[0]
    expected = np.where(above >= y.zero_point, above, below)
    assert np.count_nonzero(above < y.zero_point) > 10
    assert np.array_equal(run([builder.graph()], [[sample]], tmp_path)[0][0][0], expected[0])


@pytest.mark.parametrize("draw", DRAWS)
def test_float_layers_are_as_close_to_litert_as_rounding_allows(
    draw: Callable[[Random], Layer], tmp_path: Path
) -> None:
    random = np.random.default_rng(14)
    layers = [as_float(draw(random), random) for _ in range(LAYERS)]
    prove([Case(model(layers))], tmp_path, tolerance=1e-4)

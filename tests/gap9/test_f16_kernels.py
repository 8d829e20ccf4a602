"""Convolutions with products in binary16: every back end has the bits of the contract, in numpy."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import half_model
import numpy as np
import pytest
from half_model import Layer
from numpy.typing import NDArray
from xpulp_programs import KERNELS, PLAIN, SANITIZED, in_simulator, on_host, simulator

from firmware_gen.window import Window

RUNTIME = KERNELS.parent
AVX = ("-mavx2", "-mf16c", "-mfma")
# Blocks of 4 pixels and 4 channels; slabs of 8; words of 2; chains of 64, in a row of the window and across.
LAYERS = (
    Layer(Window((3, 3), pad=(1, 1), pad_end=(1, 1)), 5, 6, 7, 9),
    Layer(Window((3, 3), pad=(1, 1), pad_end=(1, 1)), 2, 3, 50, 4),
    Layer(Window((1, 1)), 2, 9, 134, 4),
    Layer(Window((2, 3), (2, 3), (1, 2), (0, 1), (2, 1)), 9, 11, 5, 16),
    Layer(Window((3, 2), (1, 2), (2, 3), (2, 0), (2, 3)), 7, 8, 4, 5),
    Layer(Window((2, 2), (2, 2)), 4, 5, 8, 6, transposed=True),
    Layer(Window((3, 4), (2, 3), (1, 2), (0, 1)), 4, 5, 6, 7, transposed=True),
    Layer(Window((3, 2), (3, 2), (0, 0), (0, 0), (2, 3)), 3, 4, 5, 8, transposed=True),
    Layer(Window((1, 3), (2, 4)), 3, 6, 9, 17, transposed=True),
    Layer(Window((2, 2), pad=(1, 0)), 2, 70, 4, 10),
    Layer(Window((1, 2), (1, 2)), 2, 70, 5, 4, transposed=True),
)
SIZES = (1.0, 1e-30, 1e30)

Random = np.random.Generator
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Call:
    """A call of a kernel in C, what it reads, and what it writes by the contract."""

    text: str
    given: tuple[F32, ...]
    expected: F32


def spread(random: Random, shape: tuple[int, ...], size: float = 1.0) -> F32:
    """Return values over seven decades, some 0."""
    values = random.standard_normal(shape) * 10 ** random.uniform(-7, 0, shape) * size
    return np.where(random.random(shape) < 0.1, 0, values).astype(np.float32)


def calls(layer: Layer, seed: int) -> Iterator[Call]:
    """Yield forward passes of a layer, with a bias, onto a map in two parts, and its weight gradients."""
    random = np.random.default_rng(seed)
    win, (height, width) = layer.window, layer.out
    x = spread(random, (layer.height, layer.width, layer.taken), SIZES[seed % 3])
    weight = spread(random, (*win.kernel, layer.taken, layer.given), SIZES[(seed + 1) % 3])
    bias, part = spread(random, (layer.given,)), spread(random, (height, width, layer.given))
    dy = spread(random, part.shape, SIZES[seed % 3] if seed % 3 == 0 else 1.0)
    kernel = "ft_conv2d_transpose" if layer.transposed else "ft_conv2d"
    xm, ym = _map(x.shape), _map(part.shape)
    numbers = (1, layer.taken, layer.given, layer.taken * layer.given, 0, layer.given, 1)
    conv = f"(ft_conv_t){{{win.c()}, {', '.join(map(str, numbers))}}}"
    act = "(ft_activation_t){FT_LINEAR, 0.0f, 0.0f}"
    middle, half = height // 2, layer.given // 2 // 4 * 4
    source = "(ft_weights_f16_t){.f32 = given[1]}"
    yield Call(
        f"{kernel}_f16(given[0], {xm}, {source}, given[2], made, {ym}, {conv}, {act}, scratch, "
        f"0, {layer.given}, 0, {height});",
        (x, weight, bias),
        half_model.forward(layer, x, weight, np.broadcast_to(bias, part.shape)),
    )
    onto = f"{kernel}_onto_f16(given[0], {xm}, {source}, given[2], {ym}, made, {ym}, {conv}, {act}, scratch, "
    yield Call(
        "\n    ".join(
            f"{onto}{share});"
            for share in (
                f"0, {half}, 0, {height}",
                f"{half}, {layer.given}, 0, {middle}",
                f"{half}, {layer.given}, {middle}, {height}",
            )
        ),
        (x, weight, part),
        half_model.forward(layer, x, weight, part),
    )
    near, start = layer.height if layer.transposed else height, spread(random, weight.shape)
    grad = f"{kernel}_grad_w_f16(given[0], {xm}, given[1], {ym}, to, {conv}, scratch, "
    count, half = weight.size, layer.taken // 2 // 4 * 4
    copied = f"memcpy(made, given[2], {4 * count});\n    const ft_sink_t to = {{.g = made}};\n    "
    yield Call(
        f"{copied}{grad}0, 0, {half}, 0, {near});\n    {grad}0, {half}, {layer.taken}, 0, {near});",
        (x, dy, start),
        half_model.weight_gradients(layer, x, dy, start, one_by_one=False),
    )
    rows = (0, near // 2, near)
    yield Call(
        copied + "\n    ".join(f"{grad}1, 0, {layer.taken}, {a}, {b});" for a, b in itertools.pairwise(rows)),
        (x, dy, start),
        half_model.weight_gradients(layer, x, dy, start, one_by_one=True),
    )


def _map(shape: tuple[int, ...]) -> str:
    height, width, channels = shape
    return f"(ft_map_t){{{height}, {width}, {channels}, {width * channels}, {channels}}}"


@pytest.fixture(scope="module")
def work() -> list[Call]:
    return [call for seed, layer in enumerate(LAYERS) for call in calls(layer, seed)]


@pytest.fixture(scope="module")
def source(work: list[Call], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with a function for each call, all shapes constants as in a model.c."""
    path = tmp_path_factory.mktemp("f16") / "layers.c"
    most = max(max(call.expected.size, *(value.size for value in call.given)) for call in work)
    text = f"""#include <string.h>
#include "conv2d_f16.h"
#include "system.h"

static float given[3][{most}], made[{most}];
static uint32_t scratch[16384];
"""
    for k, call in enumerate(work):
        text += f"static __attribute__((noinline)) void call{k}(void) {{\n    {call.text}\n}}\n"
    text += "int main(void) {\n"
    for k, call in enumerate(work):
        text += "".join(f"    read_input(given[{n}], {v.nbytes});\n" for n, v in enumerate(call.given))
        text += f"    call{k}();\n    write_output(made, {call.expected.nbytes});\n"
    path.write_text(text + "    return 0;\n}\n")
    return path


@pytest.mark.parametrize("back_end", ["portable", "avx", "insn"])
def test_all_kernels_have_the_bits_of_the_contract(
    back_end: str, work: list[Call], source: Path, tmp_path: Path
) -> None:
    includes = [f"-I{KERNELS}", f"-I{RUNTIME}"]
    if back_end == "insn":
        program = simulator.build_program([source], tmp_path / "layers.elf", includes)
    else:
        flags = (*PLAIN, *(AVX if back_end == "avx" else SANITIZED))
        program = simulator.build_host_program([source], tmp_path / "layers", [*includes, *flags])
    given = b"".join(value.tobytes() for call in work for value in call.given)
    answer = (in_simulator if back_end == "insn" else on_host)(program, given)
    at = 0
    for call in work:
        found = np.frombuffer(answer, np.float32, call.expected.size, at).reshape(call.expected.shape)
        at += found.nbytes
        wrong = np.argwhere(found.view(np.uint32) != call.expected.view(np.uint32))
        assert not len(wrong), f"{len(wrong)} of {found.size} from {wrong[0]} on: {call.text}"
    assert at == len(answer)


@pytest.mark.parametrize("flags", [("-O2",), ("-O2", *AVX)], ids=["portable", "avx"])
def test_a_sum_of_floats_is_that_of_binary16(flags: tuple[str, ...], tmp_path: Path) -> None:
    source = Path(__file__).with_name("half_operands.c")
    program = simulator.build_host_program([source], tmp_path / "operands", [f"-I{KERNELS}", *flags])
    compared, different = np.frombuffer(on_host(program), np.uint32)
    assert compared > 1_000_000
    assert different == 0


def test_instructions_are_encoded_as_others_encode_them(tmp_path: Path) -> None:
    """As LLVM's tests (fcvt.s.h a0, a1) and a public disassembler (vfmac.r.h a0, a1, a2) have them."""
    source, program = tmp_path / "encoded.c", tmp_path / "encoded.elf"
    source.write_text(
        """#include "xpulp/xpulp.h"
uint32_t sum(uint32_t acc, uint32_t a, uint32_t b);
float value(uint32_t other, uint32_t half);
uint32_t sum(uint32_t acc, uint32_t a, uint32_t b) {
    return ft_vfmac_r_h_xpulp(a, b, acc);
}
float value(uint32_t other, uint32_t half) {
    (void)other;
    return ft_half_to_float_xpulp(half);
}
int main(void) {
    return (int)sum(0, 0, 0) + (int)(value(0, 0) != 0);
}
"""
    )
    simulator.build_program([source], program, [f"-I{KERNELS}"])
    code = program.read_bytes()
    for word in (0x90C5E533, 0x40258553):
        assert word.to_bytes(4, "little") in code, f"{word:#x}"

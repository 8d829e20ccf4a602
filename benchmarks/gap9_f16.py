"""Instructions of the kernels with products in binary16 on one simulated core of GAP9 (tools/xpulp_iss).

    python benchmarks/gap9_f16.py

Prints for some layers the instructions a multiply-accumulate of the forward pass, the input gradient (dX) and
the weight gradient (dW), all of it: rounding maps and weights, sums, storing. Once for a core that makes all
channels, once for one of several that divide them and make 4 each. The compiler is GCC for RV32IMC, which
neither makes hardware loops nor moves pointers with loads where no assembly does: the vendor's should need
fewer instructions around the inner loops. Nothing here has run on a GAP9.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from firmware_gen.window import Window

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "firmware_gen" / "runtime" / "kernels"
sys.path.insert(0, str(ROOT / "tools" / "xpulp_iss"))

import simulator  # noqa: E402

SHARE = 4  # channels
SAME = Window((3, 3), pad=(1, 1), pad_end=(1, 1))
STRIDED = Window((3, 3), (2, 2), (1, 1), (1, 1))


@dataclass(frozen=True)
class Layer:
    """A convolution of (size, size, taken) to `given` channels."""

    name: str
    window: Window
    size: int
    taken: int
    given: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of each of the three passes."""
        height, width = self.window.output(self.size, self.size)
        return self.window.taps * self.taken * self.given * height * width

    def calls(self) -> list[tuple[str, float]]:
        """Return C calls and what part of the layer's work each is: all, then a share, of each pass."""
        height, width = self.window.output(self.size, self.size)
        x, y = _map(self.size, self.size, self.taken), _map(height, width, self.given)
        tap = self.taken * self.given
        forward = _conv(self.window, self.taken, self.given, (tap, 0, self.given, 1))
        back = _conv(self.window, self.given, self.taken, (tap, 0, 1, self.given))
        weights, linear = "(ft_weights_f16_t){.f32 = w}", "(ft_activation_t){FT_LINEAR, 0, 0}"
        found = []
        for count in (self.given, SHARE):
            text = f"ft_conv2d_f16(x, {x}, {weights}, b, y, {y}, {forward}, {linear}, scratch, "
            found.append((f"{text}0, {count}, 0, {height});", count / self.given))
        for count in (self.taken, SHARE):
            text = f"ft_conv2d_transpose_f16(y, {y}, {weights}, NULL, x, {x}, {back}, {linear}, scratch, "
            found.append((f"{text}0, {count}, 0, {self.size});", count / self.taken))
        for count in (self.taken, SHARE):
            text = f"ft_conv2d_grad_w_f16(x, {x}, y, {y}, (ft_sink_t){{.g = w}}, {forward}, scratch, 0, "
            found.append((f"{text}0, {count}, 0, {height});", count / self.taken))
        return found


LAYERS = (
    Layer("3x3, 12x12, 32 to 32", SAME, 12, 32, 32),
    Layer("3x3, 24x24, 16 to 16", SAME, 24, 16, 16),
    Layer("3x3, 24x24, 32 to 32", SAME, 24, 32, 32),
    Layer("3x3, 6x6, 64 to 64", SAME, 6, 64, 64),
    Layer("3x3 / 2, 24x24, 32 to 32", STRIDED, 24, 32, 32),
    Layer("1x1, 12x12, 64 to 64", Window((1, 1)), 12, 64, 64),
)


def _map(height: int, width: int, channels: int) -> str:
    return f"(ft_map_t){{{height}, {width}, {channels}, {width * channels}, {channels}}}"


def _conv(window: Window, taken: int, given: int, strides: tuple[int, ...]) -> str:
    return f"(ft_conv_t){{{window.c()}, {', '.join(map(str, (1, taken, given, *strides)))}}}"


def program(calls: list[str]) -> str:
    """Return a C program that writes the instructions of each call (uint32)."""
    most = max(layer.size**2 * max(layer.taken, layer.given) for layer in LAYERS)
    weights = max(layer.window.taps * layer.taken * layer.given for layer in LAYERS)
    text = f"""#include "conv2d_f16.h"
#include "system.h"
static float x[{most}], y[{most}], w[{weights}], b[64];
static uint32_t scratch[16384], seed = 1;
static void fill(float *values, int count) {{
    for (int k = 0; k < count; k++) {{
        seed = seed * 1664525u + 1013904223u;
        values[k] = ft_bits_to_float(0x3f000000u | seed >> 9 | seed << 31);
    }}
}}
"""
    for k, call in enumerate(calls):
        text += f"static __attribute__((noinline)) void call{k}(void) {{\n    {call}\n}}\n"
    text += "int main(void) {\n    uint32_t before, count;\n"
    for k in range(len(calls)):
        text += f"    fill(x, {most});\n    fill(y, {most});\n    fill(w, {weights});\n"
        text += f"    before = instructions();\n    call{k}();\n    count = instructions() - before;\n"
        text += "    write_output(&count, sizeof count);\n"
    return text + "    return 0;\n}\n"


def main() -> None:
    """Count and print."""
    calls = [call for layer in LAYERS for call in layer.calls()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "calls.c"
        source.write_text(program([text for text, _ in calls]))
        includes = [f"-I{KERNELS}", f"-I{KERNELS.parent}"]
        built = simulator.build_program([source], folder / "calls.elf", includes)
        counts = np.frombuffer(simulator.run(simulator.build_simulator(folder), built), np.uint32)
    print(f"{'instructions a MAC':26} forward        dX             dW   (all channels, then 4)")
    rows = counts.reshape(len(LAYERS), -1)
    for layer, row in zip(LAYERS, rows, strict=True):
        parts = [part for _, part in layer.calls()]
        each = [int(count) / (layer.macs * part) for count, part in zip(row, parts, strict=True)]
        pairs = zip(each[::2], each[1::2], strict=True)
        print(f"{layer.name:26} " + "   ".join(f"{whole:.2f}  {share:.2f}" for whole, share in pairs))


if __name__ == "__main__":
    main()

"""int8 layers that learn without a float copy of their weights: gradients, rounding, equal bits."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from fleet import Lanes, compile_program, lanes_here
from numpy.typing import NDArray
from onnx import helper
from qdq_models import Scale, border, float_model, integer_weight

import boards
from boards import load_board
from fieldtune.errors import UserError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.passes import lighten, simplify
from firmware_gen.passes.integer_layers import integer_layers
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from firmware_gen.update import GENERATOR, Rounding, UpdatePlan
from firmware_gen.weights import to_source
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

Array = NDArray[np.float32]
SIZE = 10
BOARDS = ("mps2_an386", "mps2_an500", "mps3_an547", "qemu_riscv32")
SLOPE = 0.125
QUANTIZED = "_quantized"  # ends the file's name of an integer weight
LEARNS = ("head", "thin", "up", "mix", "y")


class Net:
    """A network as a QDQ file and as float weights; all is int8, and all but the first layer learns.

    x -> low ------------------------------------------+
          `-> head -> thin (depthwise) -> up (transposed) -> joined -> mix (groups) -> y
    """

    def __init__(self) -> None:
        random = np.random.default_rng(11)

        def weight(*dims: int) -> Array:
            return (random.standard_normal(dims) / np.sqrt(np.prod(dims[1:]))).astype(np.float32)

        self.weights = {
            "low": weight(6, 3, 3, 3),
            "head": weight(12, 6, 3, 3),
            "thin": weight(12, 1, 3, 3),
            "up": weight(12, 9, 2, 2),
            "mix": weight(9, 5, 3, 3),
            "y": weight(2, 9, 1, 1),
        }
        self.biases = {
            name: (0.1 * random.standard_normal(w.shape[1 if name == "up" else 0])).astype(np.float32)
            for name, w in self.weights.items()
        }

    def file(self, folder: Path) -> Path:
        arrays: dict[str, Any] = {}
        nodes = [*border("x", "x.dq", Scale(0.03, 0), arrays)]

        def layer(name: str, x: str, scale: float, zero: int, act: str = "", **attributes: Any) -> None:
            kind = "ConvTranspose" if name == "up" else "Conv"
            axis = 1 if name == "up" else 0
            nodes.append(integer_weight(f"{name}.weight", self.weights[name], axis, arrays))
            arrays[f"{name}.bias"] = self.biases[name]
            out, taken = f"{name}.sum", [x, f"{name}.weight.dq", f"{name}.bias"]
            nodes.append(helper.make_node(kind, taken, [out], name, **attributes))
            if act:
                slope = {"alpha": SLOPE} if act == "LeakyRelu" else {}
                nodes.append(helper.make_node(act, [out], [f"{name}.act"], **slope))
                out = f"{name}.act"
            nodes.extend(border(out, f"{name}.dq", Scale(scale, zero), arrays))

        pads = [1, 1, 1, 1]
        layer("low", "x.dq", 0.03, 2, pads=pads)
        layer("head", "low.dq", 0.02, -90, "LeakyRelu", pads=pads)
        layer("thin", "head.dq", 0.03, -128, "Relu", pads=pads, strides=[2, 2], group=12)
        layer("up", "thin.dq", 0.02, 5, strides=[2, 2])
        nodes.append(helper.make_node("Concat", ["low.dq", "up.dq"], ["joined.float"], axis=1))
        nodes.extend(border("joined.float", "joined", Scale(0.03, 2), arrays))
        layer("mix", "joined", 0.02, -90, "LeakyRelu", pads=pads, group=3)
        layer("y", "mix.dq", 0.02, 0)
        shapes = {"x": (1, 3, SIZE, SIZE)}, {"y.dq": (1, 2, SIZE, SIZE)}
        path = folder / "net.onnx"
        onnx.save(float_model(nodes, *shapes, arrays), path)
        return path

    def graph(self, folder: Path) -> Graph:
        return integer_layers(simplify(import_onnx(self.file(folder))))

    def gradients(self, x: Array, label: Array, weights: dict[str, Array]) -> dict[str, Array]:
        """Return dLoss/d of weights and biases by autograd, in the file's order, without any quantization."""
        w = {name: torch.tensor(value).double().requires_grad_() for name, value in weights.items()}
        b = {name: torch.tensor(value).double().requires_grad_() for name, value in self.biases.items()}
        low = F.conv2d(torch.tensor(x).double().permute(2, 0, 1)[None], w["low"], b["low"], padding=1)
        head = F.leaky_relu(F.conv2d(low, w["head"], b["head"], padding=1), SLOPE)
        thin = F.relu(F.conv2d(head, w["thin"], b["thin"], 2, 1, groups=12))
        up = F.conv_transpose2d(thin, w["up"], b["up"], 2)
        joined = torch.cat([low, up], 1)
        mix = F.leaky_relu(F.conv2d(joined, w["mix"], b["mix"], padding=1, groups=3), SLOPE)
        y = F.conv2d(mix, w["y"], b["y"])
        F.mse_loss(y, torch.tensor(label).double().permute(2, 0, 1)[None]).backward()
        found = {f"{name}.weight": value.grad for name, value in w.items()}
        found |= {f"{name}.bias": value.grad for name, value in b.items()}
        return {name: value.numpy().astype(np.float32) for name, value in found.items() if value is not None}


def _plan(graph: Graph, board: str = "native", rounding: Rounding = "stochastic", **changes: Any) -> Plan:
    update = UpdatePlan(LEARNS, weights="int8", rounding=rounding, **changes)
    return make_plan(lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update)), load_board(board))


def _sample(seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "x": random.standard_normal((SIZE, SIZE, 3)).astype(np.float32),
        "y.dq.label": random.standard_normal((SIZE, SIZE, 2)).astype(np.float32),
        "y.dq.mask": np.ones((SIZE, SIZE, 2), np.uint8),
    }


@contextmanager
def _board(plan: Plan, folder: Path, lr: float = 0.02) -> Iterator[Device]:
    with open_board(plan, folder / plan.board.id) as device:
        device.set_hyper(Hyper(lr=lr, momentum=0.5))
        yield device


def _real(plan: Plan, name: str, value: NDArray[Any]) -> Array:
    """Return what the board has of a weight, as the file's array of real values."""
    constant = plan.graph.constants[name]
    if constant.dtype == "i8":
        attrs = next(op.attrs for op in plan.graph.ops if name in op.constants and op.phase == "forward")
        assert isinstance(attrs, ConvAttrs)
        shaped = Constant(name, value.reshape(constant.value.shape), scales=constant.scales)
        value = real_weight(shaped, attrs).astype(np.float32)
    return to_source(constant, value)


def test_gradients_are_those_of_the_network_in_float(tmp_path: Path) -> None:
    net = Net()
    plan = _plan(net.graph(tmp_path), keep_gradients=True)
    constants = plan.graph.constants
    integers = {name: constants[f"{name}.weight{QUANTIZED}"] for name in LEARNS}
    assert {constant.dtype for constant in integers.values()} == {"i8"}
    weights = {name: _real(plan, constant.name, constant.value) for name, constant in integers.items()}
    weights["low"] = net.weights["low"]
    assert len(plan.graph.trained) == 2 * len(LEARNS)
    samples = [_sample(seed) for seed in range(9)]
    truths = [net.gradients(sample["x"], sample["y.dq.label"], weights) for sample in samples[1:]]
    with open_board(plan, tmp_path / "native") as device:
        for seed, sample in enumerate(samples):
            # The first step only finds the grids of the gradients; the others make one update.
            device.set_hyper(Hyper(lr=0.0, accumulate=len(truths) if seed else 1))
            device.put_sample(sample)
            device.step(seed)
        found = device.read_role("gradient")
    for name in plan.graph.trained:
        gradient = to_source(constants[name], found[f"gradient.{name}"])
        truth = np.sum([one[name.removesuffix(QUANTIZED)] for one in truths], axis=0)
        cosine = (gradient * truth).sum() / np.sqrt((gradient**2).sum() * (truth**2).sum())
        assert cosine > 0.97, name
        assert np.sqrt((gradient**2).sum() / (truth**2).sum()) == pytest.approx(1, abs=0.1), name


@pytest.mark.parametrize("board", BOARDS)
def test_every_board_gives_the_bits_of_native(board: str, tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    native, emulated = (_learned(_plan(graph, name, momentum=True), tmp_path) for name in ("native", board))
    _assert_equal(native, emulated)


def _learned(plan: Plan, folder: Path) -> dict[str, NDArray[Any]]:
    """Return losses, weights, state and ranges after four steps, and an inference's output."""
    with _board(plan, folder) as device:
        losses = []
        for step in range(4):
            device.put_sample(_sample(step))
            losses += device.step(step).losses
        output = device.infer({"x": _sample(9)["x"]})["y.dq"]
        assert device.memory().arena_intact
        learned = device.read_role("weight", "state", "range")
        return {**learned, "losses": np.array(losses), "y": output}


def _assert_equal(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


def test_weights_stay_integers_and_follow_the_gradient(tmp_path: Path) -> None:
    plan = _plan(Net().graph(tmp_path), rounding="nearest", keep_gradients=True)
    rate = 0.5
    with open_board(plan, tmp_path / "native") as device:
        device.set_hyper(Hyper(lr=rate))
        for step in range(3):
            before = device.read_role("weight")
            device.put_sample(_sample(step))
            device.step(step)
            after, gradients = device.read_role("weight"), device.read_role("gradient")
            for name in plan.graph.trained:
                constant, old = plan.graph.constants[name], before[name]
                gradient = to_source(constant, gradients[f"gradient.{name}"])
                aim, found = (_real(plan, name, old) - rate * gradient, _real(plan, name, after[name]))
                if constant.dtype == "i8":
                    unit = _real(plan, name, np.ones_like(old))
                    inside = np.abs(aim) < 127 * unit
                    assert (np.abs(found - aim) <= 0.501 * unit)[inside].all(), name
                    assert inside.mean() > 0.9, name
                else:
                    assert np.allclose(found, aim, rtol=1e-6), name
                assert not np.array_equal(old, after[name]), name


def test_a_board_that_gets_weights_state_and_ranges_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    plan = _plan(Net().graph(tmp_path), momentum=True)
    roles = ("weight", "state", "range")
    with _board(plan, tmp_path) as device:
        for step in range(4):
            if step == 2:
                kept = device.read_role(*roles)
            device.put_sample(_sample(step))
            device.step(step)
        truth = device.read_role(*roles)
        device.reset_weights()
        assert device.read_tensor(GENERATOR).item() == 0
        device.write_tensors(kept)
        device.set_step(2)
        for step in (2, 3):
            device.put_sample(_sample(step))
            device.step(step)
        again = device.read_role(*roles)
        # Another seed, other bits.
        device.reset_weights()
        device.write_tensor(GENERATOR, np.full((1, 1, 1), 5, np.int32))
        for step in range(4):
            device.put_sample(_sample(step))
            device.step(step)
        other = device.read_role("weight")
    _assert_equal(truth, again)
    name = f"up.weight{QUANTIZED}"
    different = other[name].astype(int) - truth[name]
    assert (different != 0).any()
    assert np.abs(different).max() <= 8


def test_the_plan_counts_the_bytes_that_the_linker_places(tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    for name in ("mps2_an386", "mps3_an547"):
        plan = _plan(graph, name, momentum=True)
        write_project(plan, tmp_path / name)
        assert boards.build(tmp_path / name, plan.board).ram_bytes == plan.ram_bytes


def test_int8_weights_of_a_float_network_are_refused(tmp_path: Path) -> None:
    graph = Net().graph(tmp_path)
    with pytest.raises(UserError, match=r"--weights int8 is for int8 layers.*fieldtune quantize"):
        training_graph(graph, (LossSpec("y.dq", "mse"),), UpdatePlan(("nothing*",), weights="int8"))


def test_some_channels_of_an_int8_layer_are_refused(tmp_path: Path) -> None:
    update = UpdatePlan(("head:1/2",), weights="int8")
    with pytest.raises(
        UserError, match=r"head .* in some of its channels: with --weights int8 a layer learns whole"
    ):
        training_graph(Net().graph(tmp_path), (LossSpec("y.dq", "mse"),), update)


UPDATES = """
#include "kernels/learning_i8.h"
#include <stdio.h>
/* COUNT weights in CHANNELS channels; each update is COUNT gradients in real values. */
int main(void) {
    static int8_t q[COUNT];
    static float scales[CHANNELS], g[COUNT];
    static int32_t generator;
    ft_hyper_t hyper = {.lr = 0.5f};
    if (fread(q, 1, sizeof q, stdin) != sizeof q || fread(scales, 1, sizeof scales, stdin) != sizeof scales)
        return 1;
    while (fread(g, 1, sizeof g, stdin) == sizeof g) {
        const ft_weights_t w = {.steps = {q, scales, CHANNELS, STOCHASTIC,
                                          ft_next_key(&generator)}};
        ft_apply_f32((ft_sink_t){.sgd = ft_sgd(&hyper, w, (ft_reals_t){NULL, NULL})}, g, COUNT, 1.0f);
        fwrite(q, 1, sizeof q, stdout);
    }
    return 0;
}
"""
CHANNELS = 8


def _updated(
    rounding: Rounding, q: NDArray[np.int8], steps: NDArray[np.float64], folder: Path, lanes: Lanes = "scalar"
) -> NDArray[np.int8]:
    """Return the weights after each update; `steps` (updates, weights) are the moves, in scales."""
    scales = (0.01 * 1.5 ** np.arange(CHANNELS)).astype(np.float32)
    gradients = (-2.0 * steps * np.resize(scales, q.size)).astype(np.float32)
    numbers = {"COUNT": q.size, "CHANNELS": CHANNELS, "STOCHASTIC": int(rounding == "stochastic")}
    source = folder / "main.c"
    source.write_text("".join(f"#define {name} {value}\n" for name, value in numbers.items()) + UPDATES)
    program = compile_program([source], folder / f"main.{lanes}", lanes, specialise=True)
    data = q.tobytes() + scales.tobytes() + gradients.tobytes()
    out = subprocess.run([program], input=data, capture_output=True, check=True).stdout
    return np.frombuffer(out, np.int8).reshape(steps.shape)


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_small_updates_without_a_mean_do_not_wear_weights_away(rounding: Rounding, tmp_path: Path) -> None:
    """Truncation, as in TinyEngine, takes the mean of abs(w) from 51 to 0.14."""
    random = np.random.default_rng(3)
    q = random.integers(-100, 101, 4096).astype(np.int8)
    last = _updated(rounding, q, random.normal(0, 0.07, (200, q.size)), tmp_path)[-1]
    assert np.abs(last.astype(int)).mean() == pytest.approx(np.abs(q.astype(int)).mean(), rel=0.02)
    if rounding == "nearest":
        assert np.array_equal(last, q)


def test_stochastic_rounding_moves_weights_by_the_sum_of_small_updates(tmp_path: Path) -> None:
    q = np.zeros(4096, np.int8)
    steps = np.repeat([[0.07], [-0.03]], [200, 100], axis=0) * np.ones(q.size)
    moved = _updated("stochastic", q, steps, tmp_path).astype(int)
    for after in (1, 100, 200, 300):
        deviation = np.sqrt(after * 0.07 * 0.93 / q.size)
        assert moved[after - 1].mean() == pytest.approx(steps[:after, 0].sum(), abs=5 * deviation)
    # Weights and updates are independent.
    assert moved[199].var() == pytest.approx(200 * 0.07 * 0.93, rel=0.15)
    assert abs(np.corrcoef(moved[99], moved[199] - moved[99])[0, 1]) < 0.08
    assert abs(np.corrcoef(moved[199][:-1], moved[199][1:])[0, 1]) < 0.08


@pytest.mark.parametrize("rounding", ["stochastic", "nearest"])
def test_weights_saturate_and_a_gradient_of_zero_moves_none(rounding: Rounding, tmp_path: Path) -> None:
    q = np.array([120, -120, 127, -128, -128, 5, -5, 64], np.int8)
    steps = np.array([[20, -20, 0, 0, np.nan, 1, -1, 1e30], [0, 0, -1, 1, 0, 0, 0, -1e30]])
    first, second = _updated(rounding, q, steps, tmp_path).tolist()
    assert first == [127, -128, 127, -128, -128, 6, -6, 127]
    assert second == [127, -128, 126, -127, -128, 6, -6, -128]


def test_vectors_round_as_scalars(tmp_path: Path) -> None:
    if "avx2" not in lanes_here():
        pytest.skip("this computer has no AVX2")
    random = np.random.default_rng(4)
    q = random.integers(-128, 128, 1000).astype(np.int8)
    steps = random.normal(0, 2, (20, q.size))
    one, other = (_updated("stochastic", q, steps, tmp_path, lanes) for lanes in lanes_here())
    assert np.array_equal(one, other)

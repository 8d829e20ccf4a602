"""int8 layers that learn without a float copy of their weights: gradients, rounding, equal bits."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet import Lanes, compile_program, lanes_here
from numpy.typing import NDArray
from qdq_models import Scale
from qdq_networks import Array, Found, Join, Layer, QdqNetwork, assert_equal, learned, opened
from quick_board import quick_board

import boards
from boards import Board, load_board
from fieldtune.errors import UserError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Constant, Graph
from firmware_gen.operators.conv2d import ConvAttrs
from firmware_gen.operators.conv2d_i8 import real_weight
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import write_project
from firmware_gen.update import GENERATOR, Rounding, UpdatePlan
from firmware_gen.weights import to_source
from ondevice.device import Hyper
from ondevice.workbench import open_board

M7 = pytest.param("mps2_an500", marks=pytest.mark.long)  # the code of the M4, in another order
BOARDS = ("native", "mps2_an386", M7, "mps3_an547", "qemu_riscv32")
QUANTIZED = "_quantized"  # ends the file's name of an integer weight
LEARNS = ("head", "thin", "up", "mix", "y")


def network() -> QdqNetwork:
    """Return a network of int8 layers, of which all but the first learn.

    x -> low ------------------------------------------+
          `-> head -> thin (depthwise) -> up (transposed) -> joined -> mix (groups) -> y
    """
    parts = (
        Layer("low", "x", (6, 3, 3, 3), Scale(0.03, 2)),
        Layer("head", "low", (12, 6, 3, 3), Scale(0.02, -90), "LeakyRelu"),
        Layer("thin", "head", (12, 1, 3, 3), Scale(0.03, -128), "Relu", stride=2, groups=12),
        Layer("up", "thin", (12, 9, 2, 2), Scale(0.02, 5), up=True),
        Join("joined", ("low", "up"), Scale(0.03, 2)),
        Layer("mix", "joined", (9, 5, 3, 3), Scale(0.02, -90), "LeakyRelu", groups=3),
        Layer("y", "mix", (2, 9, 1, 1), Scale(0.02, 0)),
    )
    return QdqNetwork(parts, size=10, seed=11)


def _plan(
    graph: Graph, board: Board | None = None, rounding: Rounding = "stochastic", **changes: Any
) -> Plan:
    """Return the plan for `board`, a quickly built `native` if None."""
    update = UpdatePlan(LEARNS, weights="int8", rounding=rounding, **changes)
    learning = lighten(training_graph(graph, (LossSpec("y.dq", "mse"),), update))
    return make_plan(learning, board or quick_board("native"))


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
    net = network()
    plan = _plan(net.graph(tmp_path), keep_gradients=True)
    constants = plan.graph.constants
    integers = {name: constants[f"{name}.weight{QUANTIZED}"] for name in LEARNS}
    assert {constant.dtype for constant in integers.values()} == {"i8"}
    weights = {name: _real(plan, constant.name, constant.value) for name, constant in integers.items()}
    assert len(plan.graph.trained) == 2 * len(LEARNS)
    samples = [net.sample(seed) for seed in range(9)]
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
def test_every_board_gives_the_bits_of_native(board: str, native: Found, tmp_path: Path) -> None:
    assert_equal(native, _learned(load_board(board), tmp_path))


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return _learned(quick_board("native"), tmp_path_factory.mktemp("native"))


def _learned(board: Board, folder: Path) -> Found:
    net = network()
    plan = _plan(net.graph(folder), board, momentum=True)
    return learned(net, plan, folder, momentum=0.5, scales=(1, 1, 1, 1))


def test_weights_stay_integers_and_follow_the_gradient(tmp_path: Path) -> None:
    net = network()
    plan = _plan(net.graph(tmp_path), rounding="nearest", keep_gradients=True)
    rate = 0.5
    with open_board(plan, tmp_path / "native") as device:
        device.set_hyper(Hyper(lr=rate))
        for step in range(3):
            before = device.read_role("weight")
            device.put_sample(net.sample(step))
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
    net = network()
    plan = _plan(net.graph(tmp_path), momentum=True)
    roles = ("weight", "state", "range")
    with opened(plan, tmp_path, momentum=0.5) as device:
        for step in range(4):
            if step == 2:
                kept = device.read_role(*roles)
            device.put_sample(net.sample(step))
            device.step(step)
        truth = device.read_role(*roles)
        device.reset_weights()
        assert device.read_tensor(GENERATOR).item() == 0
        device.write_tensors(kept)
        device.set_step(2)
        for step in (2, 3):
            device.put_sample(net.sample(step))
            device.step(step)
        again = device.read_role(*roles)
        # Another seed, other bits.
        device.reset_weights()
        device.write_tensor(GENERATOR, np.full((1, 1, 1), 5, np.int32))
        for step in range(4):
            device.put_sample(net.sample(step))
            device.step(step)
        other = device.read_role("weight")
    assert_equal(truth, again)
    name = f"up.weight{QUANTIZED}"
    different = other[name].astype(int) - truth[name]
    assert (different != 0).any()
    assert np.abs(different).max() <= 8


def test_the_plan_counts_the_bytes_that_the_linker_places(tmp_path: Path) -> None:
    graph = network().graph(tmp_path)
    for name in ("mps2_an386", "mps3_an547"):
        plan = _plan(graph, load_board(name), momentum=True)
        write_project(plan, tmp_path / name)
        assert boards.build(tmp_path / name, plan.board).ram_bytes == plan.ram_bytes


def test_int8_weights_of_a_float_network_are_refused(tmp_path: Path) -> None:
    graph = network().graph(tmp_path)
    with pytest.raises(UserError, match=r"--weights int8 is for int8 layers.*fieldtune quantize"):
        training_graph(graph, (LossSpec("y.dq", "mse"),), UpdatePlan(("nothing*",), weights="int8"))


def test_some_channels_of_an_int8_layer_are_refused(tmp_path: Path) -> None:
    update = UpdatePlan(("head:1/2",), weights="int8")
    with pytest.raises(
        UserError, match=r"head .* in some of its channels: with --weights int8 a layer learns whole"
    ):
        training_graph(network().graph(tmp_path), (LossSpec("y.dq", "mse"),), update)


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
        ft_apply_f32((ft_sink_t){.sgd = ft_sgd(&hyper, w, (ft_reals_t){NULL, NULL})}, g, COUNT, 1.0f,
                     FT_ALONE);
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

"""What differs from the model's own runtime is found, at the layer that is to blame."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from quick_board import quick_board
from tiny import write_tiny

from boards import build, load_board, start
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import load_network, write_project
from ondevice.device import Device
from ondevice.references import open_reference
from ondevice.verify import FLOAT_TOLERANCE, Verification, compare, sourced_tensors, verify
from ondevice.verify_inputs import random_samples
from ondevice.workbench import open_board

pytest.importorskip("onnxruntime")

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
LAYERS = ["image", "enc0", "enc1", "up", "skip", "dec", "mean", "depth", "kind"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tiny(tmp_path / "tiny.onnx", ["depth", "kind"])


def verify_on(device: Device, plan: Plan, model: Path, count: int = 3) -> Verification:
    network = load_network(model)
    reference = open_reference(model, sourced_tensors(network.graph))
    return verify(network, plan, device, reference, random_samples(plan.graph, count, seed=1))


@contextmanager
def altered_firmware(plan: Plan, folder: Path, alter: Callable[[str], str]) -> Iterator[Device]:
    """A board whose generated C somebody has changed behind the plan's back."""
    write_project(plan, folder)
    source = folder / "model.c"
    before = source.read_text()
    source.write_text(alter(before))
    assert source.read_text() != before
    with start(build(folder, plan.board).elf, plan.board) as running, Device.open(running.url) as device:
        yield device


@pytest.mark.parametrize("board", ["native", "mps2_an386", "qemu_riscv32"])
def test_firmware_is_equal_to_onnx_runtime_in_every_layer(board: str, model: Path, tmp_path: Path) -> None:
    plan = make_plan(load_network(model).graph, load_board(board))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, model)
    assert [layer.name for layer in found.layers] == LAYERS
    assert found.equal
    assert (found.inputs, found.mismatches, found.first_difference) == (3, 0, None)
    assert found.worst_output.max_abs_diff < 1e-4
    assert max(layer.difference.max_abs_diff for layer in found.layers) > 0  # they were computed twice


def test_one_changed_weight_is_found_in_its_layer_and_no_other(model: Path, tmp_path: Path) -> None:
    graph = load_network(model).graph
    plan = make_plan(_with_changed_weight(graph, "enc1.weight"), quick_board("native"))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, model)
    assert not found.equal
    assert [layer.name for layer in found.layers if layer.difference.mismatches] == ["enc1"]
    assert found.first_difference is not None
    assert found.first_difference.difference.index[2] == 5  # the output channel
    described = found.describe()
    assert described["first_difference"]["name"] == "enc1"
    assert described["first_difference"]["input"] == found.worst
    assert described["mismatches"] > 0


def _with_changed_weight(graph: Graph, name: str) -> Graph:
    value = graph.constants[name].value.copy()
    value[1, 1, 0, 5] += 0.5
    changed = dataclasses.replace(graph.constants[name], value=value)
    return dataclasses.replace(graph, constants={**graph.constants, name: changed})


def test_wrong_generated_code_is_found_where_it_stands(model: Path, tmp_path: Path) -> None:
    plan = make_plan(load_network(model).graph, quick_board("native"))
    with altered_firmware(plan, tmp_path / "firmware", lambda c: c.replace("0.125f", "0.25f")) as device:
        found = verify_on(device, plan, model)
    assert found.first_difference is not None
    assert found.first_difference.name == "enc0"  # the slope of its LeakyRelu


def test_the_layers_are_those_of_the_input_that_differs_most(model: Path, tmp_path: Path) -> None:
    network = load_network(model)
    plan = make_plan(_with_changed_weight(network.graph, "enc1.weight"), quick_board("native"))
    reference = open_reference(model, sourced_tensors(network.graph))
    dark, bright = (np.full((16, 16, 3), level, np.uint8) for level in (0, 255))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify(
            network, plan, device, reference, [{"image": dark}, {"image": bright}, {"image": dark}]
        )
    assert found.worst == 1


def test_floats_are_compared_in_proportion_to_the_largest() -> None:
    expected = np.linspace(-50, 50, 24, dtype=np.float32).reshape(2, 3, 4)
    got = expected.copy()
    got[1, 2, 0] += np.float32(40 * FLOAT_TOLERANCE)
    assert compare(expected, got, steps=1).mismatches == 0
    got[1, 2, 0] += np.float32(40 * FLOAT_TOLERANCE)
    found = compare(expected, got, steps=1)
    assert (found.mismatches, found.index) == (1, (1, 2, 0))
    assert found.max_abs_diff == pytest.approx(80 * FLOAT_TOLERANCE, rel=1e-3)
    assert found.expected == expected[1, 2, 0]


def test_integers_are_compared_in_steps() -> None:
    expected = np.array([[[-128, 0, 127]]], np.int8)
    got = np.array([[[127, 1, 127]]], np.int8)
    exact, rounded = compare(expected, got, steps=0), compare(expected, got, steps=1)
    assert (exact.max_abs_diff, exact.mismatches) == (255, 2)
    assert (rounded.max_abs_diff, rounded.mismatches) == (255, 1)


@pytest.mark.parametrize(
    ("expected", "got", "mismatches"),
    [(np.nan, np.nan, 0), (np.inf, np.inf, 0), (np.nan, 1.0, 1), (1.0, np.inf, 1), (np.inf, -np.inf, 1)],
)
def test_what_is_no_number_differs_from_all_others(expected: float, got: float, mismatches: int) -> None:
    arrays = (np.full((1, 1, 1), value, np.float32) for value in (expected, got))
    found = compare(*arrays, steps=0)
    assert found.mismatches == mismatches
    assert np.isfinite([found.max_abs_diff, found.expected, found.got]).all()  # as JSON wants it


def int8_model(name: str) -> Path:
    pytest.importorskip("ai_edge_litert")
    path = SHARED / "data" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"needs ../shared/data/{name}.tflite")
    return path


@pytest.mark.parametrize(
    ("name", "board"),
    [
        ("kws_ref_model", "native"),
        ("pretrainedResnet_quant", "native"),
        ("ad01_int8", "native"),
        ("kws_ref_model", "mps2_an386"),
        ("pretrainedResnet_quant", "qemu_riscv32"),
    ],
)
def test_int8_firmware_has_litert_s_bits_in_every_layer(name: str, board: str, tmp_path: Path) -> None:
    path = int8_model(name)
    plan = make_plan(load_network(path).graph, quick_board(board))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, path)
    assert found.reference.startswith("LiteRT")
    assert len(found.layers) >= len(plan.steps) - 2
    assert [layer.name for layer in found.layers if layer.difference.max_abs_diff] == []
    assert (found.equal, found.worst_output.max_abs_diff, found.mismatches) == (True, 0, 0)


def test_layers_in_bands_are_told_and_those_behind_them_compared(tmp_path: Path) -> None:
    path = int8_model("pretrainedResnet_quant")
    graph, native = load_network(path).graph, quick_board("native")
    plan = make_plan(graph, native, make_plan(graph, native).ram_bytes // 2)
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, path)
    banded = {step.op.name for step in plan.steps if step.chain}
    assert 0 < found.banded == len(banded) < len(graph.ops)
    assert banded.isdisjoint(layer.name for layer in found.layers)
    assert len(found.layers) >= len(graph.ops) - len(banded) - 2
    assert (found.equal, found.worst_output.max_abs_diff, found.mismatches) == (True, 0, 0)


def test_pixels_become_the_integers_that_the_task_says(tmp_path: Path) -> None:
    path = int8_model("pretrainedResnet_quant")  # its input is a pixel less 128
    bare = load_network(path).graph
    task_file = tmp_path / "task.toml"
    # Half of all pixels lie between two integers.
    task_file.write_text(
        f"[input.{bare.inputs[0]}]\nscale = 0.5\nbias = 3.0\n"
        f'[output.{bare.outputs[0]}]\nkind = "class"\nloss = "cross_entropy"\nlabels = "truth"\n'
    )
    network = load_network(path, task_file)
    plan = make_plan(network.graph, quick_board("native"))
    reference = open_reference(path, sourced_tensors(network.graph))
    with open_board(plan, tmp_path / "firmware") as device:
        samples = random_samples(plan.graph, 3, seed=1)
        assert device.infer(samples[0])[bare.outputs[0]].dtype == np.float32
        found = verify(network, plan, device, reference, samples)
    assert found.layers[0].name == bare.inputs[0]
    assert found.equal
    assert found.worst_output.integers


@pytest.fixture
def quantized(model: Path, tmp_path: Path) -> Path:
    """The tiny network as ONNX Runtime quantizes it: uint8 activations, weights per channel, no task."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    random = np.random.default_rng(5)

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            self._left = [{"image": random.random((1, 3, 16, 16), np.float32)} for _ in range(4)]

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return self._left.pop() if self._left else None

    path = tmp_path / "quantized.onnx"
    quantization.quantize_static(model, path, Images(), per_channel=True)
    return path


def test_no_layer_of_a_qdq_model_is_more_than_a_step_from_onnx_runtime(
    quantized: Path, tmp_path: Path
) -> None:
    plan = make_plan(load_network(quantized).graph, quick_board("native"))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, quantized)
    assert found.equal
    integers = [layer for layer in found.layers if layer.difference.integers]
    assert {"enc0", "enc1", "up", "dec"} <= {layer.name for layer in integers}
    assert all(layer.difference.max_abs_diff <= 1 for layer in integers)
    assert found.worst_output.integers  # although the file ends in floats


def test_a_changed_integer_weight_is_found_in_its_layer(quantized: Path, tmp_path: Path) -> None:
    graph = load_network(quantized).graph
    (weight,) = (
        name
        for op in graph.ops
        for name in op.constants
        if op.name == "enc1" and graph.constants[name].value.ndim == 4
    )
    value = graph.constants[weight].value.copy()
    value[1, 1, 0, 5] ^= 64
    changed = dataclasses.replace(graph.constants[weight], value=value)
    altered = dataclasses.replace(graph, constants={**graph.constants, weight: changed})
    plan = make_plan(altered, quick_board("native"))
    with open_board(plan, tmp_path / "firmware") as device:
        found = verify_on(device, plan, quantized)
    assert not found.equal
    assert [layer.name for layer in found.layers if layer.difference.mismatches] == ["enc1"]

"""Networks with several heads learn on every board: weights of losses, missing labels, frozen parts."""

import dataclasses
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper
from qdq_models import quantized
from quick_board import quick_board
from tiny import SIZE, tiny_frames, write_tiny

from boards.building import CODE
from fieldtune.errors import ModelError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.component import write_component
from firmware_gen.passes import lighten
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.update import WeightType, parse_update
from firmware_gen.weights import to_source
from ondevice.device import Device, Hyper
from ondevice.training_data import Sample, inputs, sample
from ondevice.workbench import open_board
from zoo.prepare import network_input
from zoo.task import METADATA_KEY, Task, format_task

HEADS = ("depth", "segments", "kind")
FRAMES = tiny_frames()
STEPS = 12
BOARDS = ("native", "mps2_an500")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def in_float(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("float") / "tiny.onnx", HEADS))


@pytest.fixture(scope="module")
def in_int8(in_float: Network, tmp_path_factory: pytest.TempPathFactory) -> Network:
    return made_int8(in_float, tmp_path_factory.mktemp("int8"))


def made_int8(network: Network, folder: Path) -> Network:
    images = [network_input(frame, SIZE, SIZE).transpose(2, 0, 1)[None] for frame in FRAMES[:8]]
    calibration = [{"image": image.astype(np.float32) / 255} for image in images]
    path = quantized(onnx.load(network.path), calibration, folder)
    model = onnx.load(path)
    helper.set_model_props(model, {METADATA_KEY: format_task(network.needed_task())})
    onnx.save(model, path)
    return load_network(path)


def with_outputs(network: Network, **changes: Mapping[str, Any]) -> Network:
    """Return the network with other keys in the outputs of its task."""
    task = network.needed_task()
    outputs = (dataclasses.replace(spec, **changes.get(spec.name, {})) for spec in task.outputs)
    return dataclasses.replace(network, task=Task(task.inputs, tuple(outputs)))


def planned(network: Network, board: str, update: str, weights: WeightType = "f32") -> Plan:
    return plan_network(network, quick_board(board), parse_update(update, weights=weights))


def samples_of(network: Network, plan: Plan) -> list[Sample]:
    """Return samples with a label for every head."""
    made = (sample(frame, network.needed_task(), plan.graph, FRAMES.geometry) for frame in FRAMES)
    return [ready for ready in made if ready and all(ready[mask].any() for mask in plan.graph.masks)]


def without(ready: Sample, plan: Plan, *heads: str) -> Sample:
    """Return the sample without these heads' labels."""
    return {**ready, **{f"{head}.mask": np.zeros_like(ready[f"{head}.mask"]) for head in heads}}


def outputs_of(device: Device, network: Network, plan: Plan) -> Arrays:
    found = [device.infer(inputs(frame, network.needed_task(), plan.graph)) for frame in FRAMES[:4]]
    return {head: np.stack([outputs[head] for outputs in found]) for head in HEADS}


def train(device: Device, samples: list[Sample], lr: float = 0.02) -> list[tuple[float, ...]]:
    device.set_hyper(Hyper(lr=lr))
    losses = []
    for step, ready in enumerate(samples):
        device.put_sample(ready)
        losses.append(device.step(step).losses)
    return losses


# --- weights of losses


def test_a_weight_scales_loss_and_gradient(in_float: Network, tmp_path: Path) -> None:
    found = {}
    for name, weight in (("one", 1.0), ("quarter", 0.25)):  # powers of two scale without rounding
        network = with_outputs(in_float, segments={"weight": weight})
        plan = planned(network, "native", "segments")
        with open_board(plan, tmp_path / name) as device:
            before = device.read_role("weight")
            losses = train(device, samples_of(network, plan)[:1])
            after = device.read_role("weight")
        found[name] = losses[0], {key: before[key] - value for key, value in after.items()}
    (losses, steps), (lighter, shorter) = found["one"], found["quarter"]
    assert (lighter[0], lighter[1], lighter[2]) == (losses[0], losses[1] / 4, losses[2])
    for key, step in steps.items():
        assert np.abs(step).max() > 0
        np.testing.assert_allclose(shorter[key], step / 4, rtol=0, atol=1e-7)


def test_an_output_without_labels_has_neither_loss_nor_buffers(in_float: Network) -> None:
    network = with_outputs(in_float, segments={"labels": "none"})
    plan = planned(network, "native", "dec*")
    assert plan.graph.labels == ("depth.label", "kind.label")
    assert plan.graph.masks == ("depth.mask", "kind.mask")
    assert not [name for name in plan.graph.tensors if name.startswith("segments.")]
    assert "segments" in plan.graph.outputs
    assert sample(FRAMES[0], network.needed_task(), plan.graph, FRAMES.geometry)


def test_a_network_whose_outputs_all_have_no_labels_cannot_learn(in_float: Network) -> None:
    network = with_outputs(in_float, **{head: {"labels": "none"} for head in HEADS})
    with pytest.raises(ModelError, match='no output of tiny learns: each has labels = "none"'):
        planned(network, "native", "dec*")


# --- a label that is missing


def test_a_loss_without_a_label_is_0_and_moves_nothing(in_float: Network, tmp_path: Path) -> None:
    plan = planned(in_float, "native", "depth*,segments*,kind*")
    with open_board(plan, tmp_path) as device:
        before = device.read_role("weight")
        (losses,) = train(device, [without(samples_of(in_float, plan)[0], plan, "segments", "kind")])
        after = device.read_role("weight")
    assert losses[0] > 0
    assert losses[1:] == (0, 0)
    moved = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert moved == {"depth.weight", "depth.bias"}


@pytest.mark.parametrize(("update", "weights"), [("dec*", "f32"), ("dec*,depth*,segments*", "int8")])
def test_ranges_of_a_gradient_outlast_samples_without_its_label(
    update: str, weights: WeightType, in_int8: Network, tmp_path: Path
) -> None:
    plan = planned(in_int8, "native", update, weights)
    full = samples_of(in_int8, plan)
    own = [f"range.{name}" for name in plan.graph.ranges if name.startswith(("grad.segments.", "grad.kind."))]
    with open_board(plan, tmp_path) as device:
        train(device, full[:3])
        known = device.read_tensors(own)
        device.set_hyper(Hyper(lr=0.02))
        for step in range(3, 9):
            device.put_sample(without(full[step], plan, "segments", "kind"))
            device.step(step)
        kept = device.read_tensors(own)
    # What floats become lies on a grid for each sample; the others' grids come from samples before.
    tracked = [name for name in own if known[name].any() and kept[name].max() > 1e-30]
    assert tracked
    for name in tracked:
        assert known[name].tobytes() == kept[name].tobytes(), name


# --- what is frozen

PARTS = [
    pytest.param("in_float", "depth*", "f32", id="float", marks=pytest.mark.long),
    pytest.param("in_int8", "depth*", "f32", id="float-head"),
    pytest.param("in_int8", "depth*", "int8", id="int8"),
]


@pytest.mark.parametrize(("network", "update", "weights"), PARTS)
def test_a_head_that_learns_alone_leaves_the_bits_of_the_others(
    network: str, update: str, weights: WeightType, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    found = [
        learned(request.getfixturevalue(network), board, update, weights, tmp_path / board)
        for board in BOARDS
    ]
    for before, after, _ in found:
        assert before["depth"].tobytes() != after["depth"].tobytes()
        for head in ("segments", "kind"):
            assert before[head].tobytes() == after[head].tobytes(), head
    assert_same(*found)


@pytest.mark.parametrize(
    ("network", "weights"),
    [
        pytest.param("in_float", "f32", id="float", marks=pytest.mark.long),
        pytest.param("in_int8", "f32", id="float-layers", marks=pytest.mark.long),
        pytest.param("in_int8", "int8", id="int8"),
    ],
)
def test_a_trunk_that_learns_from_labels_that_come_and_go_has_the_bits_of_native(
    network: str, weights: WeightType, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    heavier = with_outputs(request.getfixturevalue(network), depth={"weight": 2.5}, kind={"weight": 0.3})
    found = [learned(heavier, board, "dec*,depth*", weights, tmp_path / board) for board in BOARDS]
    for before, after, _ in found:
        for head in HEADS:
            assert before[head].tobytes() != after[head].tobytes(), head
    assert_same(*found)


def learned(
    network: Network, board: str, update: str, weights: WeightType, folder: Path
) -> tuple[Arrays, Arrays, Arrays]:
    """Return outputs before and after training with all labels or depth's alone, and all that was learned."""
    plan = planned(network, board, update, weights)
    full = samples_of(network, plan)[:STEPS]
    samples = [s if k % 4 == 1 else without(s, plan, "segments", "kind") for k, s in enumerate(full)]
    with open_board(plan, folder) as device:
        before = outputs_of(device, network, plan)
        losses = train(device, samples)
        after = outputs_of(device, network, plan)
        ends = device.read_role("weight", "range")
        assert device.memory().arena_intact
    return before, after, {**ends, "losses": np.array(losses, np.float32)}


def assert_same(first: tuple[Arrays, ...], *others: tuple[Arrays, ...]) -> None:
    for other in others:
        for expected, got in zip(first, other, strict=True):
            assert expected.keys() == got.keys()
            for name, value in expected.items():
                assert value.tobytes() == got[name].tobytes(), name


# --- what the host has of outputs, and what a step leaves out


def silent(network: Network, *heads: str) -> Network:
    """Return the network with no labels for these heads."""
    return with_outputs(network, **{head: {"labels": "none"} for head in heads})


def test_outputs_in_int8_are_on_the_host_the_floats_of_the_model(in_int8: Network, tmp_path: Path) -> None:
    image = inputs(FRAMES[0], in_int8.needed_task(), in_int8.graph)
    plan = planned(in_int8, "native", "")
    floats = make_plan(in_int8.graph, plan.board)
    with open_board(plan, tmp_path / "int8") as device, open_board(floats, tmp_path / "f32") as other:
        found, expected = device.infer(image), other.infer(image)
        for head in HEADS:
            assert device.read_tensor(head).dtype == np.int8
            assert device.tensors[head].bytes * 4 == other.tensors[head].bytes
            assert found[head].dtype == np.float32
            assert found[head].tobytes() == expected[head].tobytes(), head
            described = plan.graph.tensors[head].quantization
            assert described is not None
            assert device.read_tensor(f"grid.{head}.scale").item() == np.float32(described.scale)
            assert device.read_tensor(f"grid.{head}.zero_point").item() == described.zero_point


def test_while_a_head_learns_outputs_without_a_loss_stay_in_int8(in_int8: Network) -> None:
    plan = planned(silent(in_int8, "segments", "kind"), "native", "depth*")
    assert {head: plan.graph.tensors[head].dtype for head in HEADS} == {
        "depth": "f32",
        "segments": "i8",
        "kind": "i8",
    }


@pytest.mark.parametrize("board", [BOARDS[0], pytest.param(BOARDS[1], marks=pytest.mark.long)])
def test_above_a_trunk_that_learns_the_host_follows_the_scale_of_an_output(
    board: str, in_int8: Network, tmp_path: Path
) -> None:
    update = parse_update("dec*,depth*")
    plan = plan_network(silent(in_int8, "segments", "kind"), quick_board(board), update)
    assert plan.graph.scaled_by_reader == ("segments", "kind")
    on_board = lighten(training_graph(in_int8.graph, (LossSpec("depth", "berhu"),), update))
    floats = make_plan(on_board, plan.board)
    found, grids = [], []
    for name, one in (("int8", plan), ("f32", floats)):
        with open_board(one, tmp_path / name) as device:
            samples = samples_of(silent(in_int8, "segments", "kind"), plan)
            first = outputs_of(device, in_int8, one)
            grids.append(device.read_role("grid"))
            train(device, samples[:STEPS])
            found.append((first, outputs_of(device, in_int8, one)))
            grids.append(device.read_role("grid"))
    assert_same(*found)
    assert not grids[2]
    for head in ("segments", "kind"):
        assert grids[0][f"grid.{head}.scale"] != grids[1][f"grid.{head}.scale"]
        assert found[0][0][head].tobytes() != found[0][1][head].tobytes()


def test_the_tuned_file_has_the_scales_that_an_output_without_a_loss_has_come_to(
    tmp_path: Path,
) -> None:
    network = load_network(write_tiny(tmp_path / "tiny.onnx", ("depth", "segments")))
    network = silent(made_int8(network, tmp_path), "segments")
    plan, out = planned(network, "native", "dec*,depth*", "int8"), tmp_path / "tuned.onnx"
    image = inputs(FRAMES[0], network.needed_task(), plan.graph)
    with open_board(plan, tmp_path / "native") as device:
        train(device, samples_of(network, plan)[:STEPS], lr=0.1)
        learned = device.read_role("weight", "range")
        expected = device.infer(image)
    constants = plan.graph.constants
    after = {name: to_source(constants[name], learned[name]) for name in plan.graph.trained}
    assert write_tuned_onnx(network.path, plan.graph, after, out, learned)
    feed = {"image": (image["image"] / 255).astype(np.float32).transpose(2, 0, 1)[None]}
    apart = {}
    for file in (network.path, out):
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (found,) = session.run(["segments"], feed)
        apart[file] = np.abs(found[0].transpose(1, 2, 0) - expected["segments"]).max()
    assert apart[out] < 0.03 * np.ptp(expected["segments"])
    assert apart[network.path] > 3 * apart[out]


@pytest.mark.parametrize("update", ["depth*", "dec*,depth*"])
def test_a_component_s_header_has_what_makes_real_values(
    update: str, in_int8: Network, tmp_path: Path
) -> None:
    network = silent(in_int8, "segments", "kind")
    plan = planned(network, "native", update)
    write_component(plan, network.task, "cmake", tmp_path / "net")
    (tmp_path / "user.c").write_text(USER)
    sources = [*map(str, (tmp_path / "net" / "src").rglob("*.c")), str(tmp_path / "user.c")]
    folders = [f"-I{tmp_path / 'net' / 'src'}", f"-I{tmp_path / 'net' / 'src' / 'fieldtune'}"]
    subprocess.run(["gcc", *CODE, "-Werror", *folders, *sources, "-lm", "-o", tmp_path / "user"], check=True)
    image = inputs(FRAMES[0], network.needed_task(), plan.graph)
    said = subprocess.run([tmp_path / "user"], input=image["image"].tobytes(), stdout=-1, check=True).stdout
    with open_board(plan, tmp_path / "native") as device:
        expected = device.infer(image)
    assert said == expected["segments"].tobytes() + expected["kind"].tobytes()


USER = """
#include <fieldtune.h>
#include <stdio.h>
#define PRINT(name, NAME)                                                                                  \\
    for (int k = 0; k < FT_OUTPUT_##NAME##_COUNT; k++) {                                                   \\
        const int8_t q = ft_output_##name()[k];                                                            \\
        const float value = FT_OUTPUT_##NAME##_SCALE * (float)(q - FT_OUTPUT_##NAME##_ZERO_POINT);         \\
        fwrite(&value, sizeof value, 1, stdout);                                                           \\
    }
int main(void) {
    ft_init();
    if (fread(ft_input_image(), 1, FT_INPUT_IMAGE_COUNT, stdin) != FT_INPUT_IMAGE_COUNT)
        return 1;
    ft_infer();
    PRINT(segments, SEGMENTS)
    PRINT(kind, KIND)
    return 0;
}
"""


def test_a_class_takes_a_byte_of_a_label(in_float: Network) -> None:
    plan = planned(in_float, "native", "dec*")
    assert plan.graph.tensors["segments.label"].bytes == SIZE * SIZE
    assert plan.graph.tensors["kind.label"].dtype == "u8"
    assert {ready["segments.label"].dtype for ready in samples_of(in_float, plan)} == {np.dtype(np.uint8)}


def test_a_step_leaves_out_a_head_without_a_loss(in_float: Network, tmp_path: Path) -> None:
    heard = planned(in_float, "native", "dec*,depth*")
    plan = planned(silent(in_float, "segments"), "native", "dec*,depth*")
    assert not heard.left_out
    assert {plan.steps[k].op.name for k in plan.left_out} == {"segments"}
    assert plan.instructions <= heard.instructions
    (index,) = plan.left_out
    view = plan.views["segments"]
    place = plan.offsets[view.buffer], plan.graph.tensors["segments"].bytes
    samples = [without(ready, heard, "segments") for ready in samples_of(in_float, heard)[:3]]
    given = [{k: v for k, v in ready.items() if not k.startswith("segments.")} for ready in samples]
    with open_board(heard, tmp_path / "heard") as device, open_board(plan, tmp_path / "silent") as other:
        losses = train(device, samples)
        assert train(other, given) == [(first, last) for first, _, last in losses]
        weights = device.read_role("weight")
        for name, value in other.read_role("weight").items():
            assert value.tobytes() == weights[name].tobytes(), name
        outputs, expected = outputs_of(other, in_float, plan), outputs_of(device, in_float, heard)
        for head in HEADS:
            assert outputs[head].tobytes() == expected[head].tobytes(), head
        # The bytes in which an inference would put the output are left alone by its part of a step.
        other.put_sample(given[0])
        other.step(3, 0, index)
        before = other.read_arena(*place)
        other.step(3, index, index + 1)
        assert other.read_arena(*place) == before
        other.run_inference(index, index + 1)
        assert other.read_arena(*place) != before


def test_a_step_goes_over_a_head_whose_ranges_follow_the_trunk(in_int8: Network) -> None:
    network = silent(in_int8, "segments", "kind")
    frozen, learning = (planned(network, "native", update) for update in ("depth*", "dec*"))
    assert {frozen.steps[k].op.name for k in frozen.left_out} >= {"segments"}
    tensors = learning.graph.tensors
    ranged = {op.name for op in learning.graph.ops if any(tensors[name].range for name in op.outputs)}
    assert ranged.isdisjoint(learning.steps[k].op.name for k in learning.left_out)

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from fieldtune.errors import ModelError
from zoo.task import (
    CROPS,
    LOSSES_OF_KIND,
    METADATA_KEY,
    InputSpec,
    OutputSpec,
    Task,
    find_task,
    format_task,
    parse_task,
)

UPYDNET = """
[input.image]
scale = 0.00392156862745098
[output.disparity]
kind = "disparity"
fb = 80.0
loss = "berhu"
labels = "tof"
max_depth = 20.0
"""

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1)
positive = st.floats(1e-6, 1e6)


@st.composite
def outputs(draw: st.DrawFn) -> OutputSpec:
    kind = draw(st.sampled_from(sorted(LOSSES_OF_KIND)))
    metric = kind in ("depth", "disparity")
    return OutputSpec(
        draw(names),
        kind,
        loss=draw(st.sampled_from(LOSSES_OF_KIND[kind])),
        labels=draw(st.sampled_from(("tof", "truth", "none") if metric else ("truth", "none"))),
        weight=draw(positive),
        fb=draw(positive) if kind == "disparity" else None,
        max_depth=draw(positive) if metric else None,
        crop=draw(st.sampled_from((None, *CROPS))) if metric else None,
    )


inputs = st.builds(InputSpec, names, st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))


def unique(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(strategy, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)


def test_the_design_documents_example_is_read() -> None:
    assert parse_task(UPYDNET, "example") == Task(
        (InputSpec("image", 1 / 255, 0.0),),
        (OutputSpec("disparity", "disparity", "berhu", "tof", fb=80.0, max_depth=20.0),),
    )


def test_an_output_without_labels_is_not_learned() -> None:
    still = 'labels = "none"\n[output.more]\nkind = "class"\nweight = 0.5'
    task = parse_task(UPYDNET.replace('labels = "tof"', "") + still, "example")
    assert [spec.labels for spec in task.outputs] == ["none", "truth"]
    assert [(spec.name, spec.weight) for spec in task.learned] == [("more", 0.5)]


@settings(deadline=None, derandomize=True)
@given(st.builds(Task, unique(inputs), unique(outputs())))
def test_format_and_parse_are_inverse(task: Task) -> None:
    assert parse_task(format_task(task), "test") == task


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'kind = "disparity"',
            'kind = "disparities"',
            ["output.disparity.kind", "'disparities'", "segmentation"],
        ),
        ('kind = "disparity"', "", ["output.disparity.kind", "missing", "depth, disparity"]),
        ('kind = "disparity"', 'kind = "depth"', ["output.disparity.fb", "depth"]),
        ("fb = 80.0", "", ["output.disparity.fb", "missing"]),
        ("fb = 80.0", "fb = 0", ["output.disparity.fb", "above 0"]),
        ("fb = 80.0", "fb = true", ["output.disparity.fb", "number"]),
        ('loss = "berhu"', 'loss = "huber"', ["output.disparity.loss", "'huber'", "berhu_published"]),
        (
            'loss = "berhu"',
            'loss = "cross_entropy"',
            ["output.disparity.loss", "berhu, berhu_published, l1, mse"],
        ),
        ('labels = "tof"', 'labels = "lidar"', ["output.disparity.labels", "tof, truth, none"]),
        ('labels = "tof"', "weight = 0", ["output.disparity.weight", "is 0; give a number from 1e-06 to"]),
        (
            'labels = "tof"',
            "weight = -1.0",
            ["output.disparity.weight", "is -1; give a number from 1e-06 to"],
        ),
        ("max_depth = 20.0", "max_depth = nan", ["output.disparity.max_depth", "finite"]),
        ("max_depth = 20.0", 'crop = "kitti"', ["output.disparity.crop", "'kitti'", "garg, eigen, nyu"]),
        (
            'kind = "disparity"\nfb = 80.0\nloss = "berhu"\nlabels = "tof"\nmax_depth = 20.0',
            'kind = "segmentation"\ncrop = "garg"',
            ["output.disparity.crop", 'means nothing for kind = "segmentation"'],
        ),
        ("max_depth = 20.0", "maxdepth = 20.0", ["output.disparity.maxdepth", "unknown key", "max_depth"]),
        ("scale = 0.00392156862745098", 'scale = "1/255"', ["input.image.scale", "1/255", "number"]),
        ("[input.image]", "[inputs.image]", ["unknown key inputs", "input, output"]),
        ("[input.image]\nscale = 0.00392156862745098", "", ["[input.NAME]"]),
        ("[input.image]", "[input]", ["input.scale", "not a section"]),
        ("fb = 80.0", "fb = ", ["not valid TOML"]),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_file_and_what_is_allowed(
    old: str, new: str, said: list[str]
) -> None:
    assert old in UPYDNET
    with pytest.raises(ModelError) as caught:
        parse_task(UPYDNET.replace(old, new), "net.task.toml")
    for part in ["net.task.toml", *said]:
        assert part in str(caught.value)


def write_model(path: Path, task: str | None) -> Path:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [])
    model = helper.make_model(graph)
    if task is not None:
        helper.set_model_props(model, {METADATA_KEY: task})
    onnx.save(model, path)
    return path


def with_fb(fb: float) -> str:
    return UPYDNET.replace("80.0", str(fb))


def test_the_option_precedes_the_file_beside_the_model_which_precedes_the_metadata(tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx", with_fb(1.0))
    assert find_task(model, None).outputs[0].fb == 1.0
    (tmp_path / "net.task.toml").write_text(with_fb(2.0))
    assert find_task(model, None).outputs[0].fb == 2.0
    option = tmp_path / "other.toml"
    option.write_text(with_fb(3.0))
    assert find_task(model, option).outputs[0].fb == 3.0


def test_a_model_may_have_no_task(tmp_path: Path) -> None:
    assert find_task(write_model(tmp_path / "net.onnx", None), None) is None


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    model = write_model(tmp_path / "net.onnx", None)
    with pytest.raises(ModelError, match=r"absent\.onnx"):
        find_task(tmp_path / "absent.onnx", None)
    with pytest.raises(ModelError, match=r"absent\.toml"):
        find_task(model, tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(ModelError, match=r"latin\.toml is not UTF-8"):
        find_task(model, tmp_path / "latin.toml")
    (tmp_path / "cut.onnx").write_bytes(model.read_bytes()[:-3])
    with pytest.raises(ModelError, match=r"cut\.onnx"):
        find_task(tmp_path / "cut.onnx", None)


def test_a_model_of_another_format_takes_its_task_from_the_file_beside_it(tmp_path: Path) -> None:
    model = tmp_path / "net.int8.tflite"
    model.write_bytes(b"TFL3")
    (tmp_path / "net.int8.task.toml").write_text(UPYDNET)
    assert find_task(model, None).outputs[0].name == "disparity"

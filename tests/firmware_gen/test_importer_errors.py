"""ONNX files that cannot be used: one sentence, never a traceback, and never a wrong network."""

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import Net
from onnx import TensorProto, helper, numpy_helper

from fieldtune.errors import ModelError
from firmware_gen.graph import Graph
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import simplify

Model = onnx.ModelProto
MUTATIONS = 300


def small() -> Net:
    net = Net(seed=1)
    x = net.activation(net.conv(net.input(2, 6, 6), 3, (3, 3), norm=True), "Relu")
    x = net.max_pool(x, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1))
    net.output(net.softmax(net.linear(net.flatten(x), 4)))
    return net


def one_node(kind: str, dims: list[int], constants: dict[str, Any] | None = None, **attributes: Any) -> Model:
    """Return a model of one operator on an input "x" of `dims`; constants are its further inputs."""
    constants = constants or {}
    initializers = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    domain = attributes.pop("domain", "")
    opset = attributes.pop("opset", 19)
    node = helper.make_node(kind, ["x", *constants], ["y"], name="the/node", domain=domain, **attributes)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "g",
        [value("x", TensorProto.FLOAT, dims)],
        [value("y", TensorProto.FLOAT, ["any"])],
        initializers,
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def refused(model: Model | bytes, folder: Path) -> str:
    """Import a model that cannot be used; return what the user is told."""
    path = folder / "broken.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    with pytest.raises(ModelError) as caught:
        simplify(import_onnx(path))
    return one_sentence(caught.value)


def one_sentence(error: ModelError) -> str:
    message = str(error)
    assert message
    assert "\n" not in message
    assert "Traceback" not in message
    return message


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_an_unknown_operator_is_named_with_its_node_and_what_is_supported(tmp_path: Path) -> None:
    message = refused(one_node("Erf", [1, 2, 3, 3]), tmp_path)
    assert "the operator Erf (node 'the/node')" in message
    assert "supported are Add, AveragePool" in message


def test_an_operator_of_another_domain_is_named_with_its_domain(tmp_path: Path) -> None:
    message = refused(one_node("Conv", [1, 2, 3, 3], domain="com.microsoft"), tmp_path)
    assert "com.microsoft.Conv" in message


def with_input(dims: list[Any], kind: int = TensorProto.FLOAT) -> Model:
    model = small().model()
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("input0", kind, dims))
    return model


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (with_input([1, 2, "height", 6]), "axis 2 of input 'input0' .* is dynamic"),
        (with_input([4, 2, 6, 6]), r"shape \(4, 2, 6, 6\); export it with batch size 1"),
        (
            with_input([1, 2, 6, 6], TensorProto.INT32),
            "input 'input0' .* no tensor of float, int8",
        ),
        (
            with_input([1, 2, 6, 6], TensorProto.UINT8),
            "reads the integers 'input0'; only Deq",
        ),
        (with_input([1, 2, 3, 6, 6]), r"\(1, 2, 3, 6, 6\); supported are"),
        (with_input([1]), r"shape \(1,\)"),
        (with_input([1, 2, 70_000, 6]), r"impossible shape \(70000, 6, 2\)"),
        (with_input([1, 2, 60_000, 60_000]), "impossible shape"),
        (with_input([1, 2, 1, 1]), "impossible shape"),
        (with_input([1, 5, 6, 6]), "5 channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_inputs_that_firmware_cannot_have_are_refused(model: Model, says: str, tmp_path: Path) -> None:
    assert re.search(says, refused(model, tmp_path))


def test_a_free_batch_axis_means_one_sample(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(with_input(["batch", 2, 6, 6]), path)
    assert import_onnx(path).shape("input0") == (6, 6, 2)


SCALE = np.array([1, 1, 2, 2], np.float32)
NO = np.array([], np.float32)
BAD_NODES: dict[str, tuple[Model, str]] = {
    "weights of other channels": (one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 4, 3, 3)}), "2 channels"),
    "weights without a kernel": (one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 2, 0, 3)}), "kernel"),
    "no stride": (one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 2, 3, 3)}, strides=[0, 1]), "strides"),
    "negative pads": (one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 2, 3, 3)}, pads=[-1, 0, 0, 0]), "pads"),
    "pads beyond an int": (
        one_node(
            "Conv", [1, 2, 5, 5], {"w": weights(3, 2, 3, 3)}, pads=[1 << 40, 0, 0, 0], strides=[1 << 40, 1]
        ),
        "pads",
    ),
    "half the pads": (
        one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 2, 3, 3)}, pads=[1, 1, 1]),
        "malformed",
    ),
    "groups that do not divide": (
        one_node("Conv", [1, 4, 5, 5], {"w": weights(3, 2, 3, 3)}, group=2),
        "groups",
    ),
    "no groups": (one_node("Conv", [1, 4, 5, 5], {"w": weights(3, 2, 3, 3)}, group=0), "0 groups|malformed"),
    "a volume": (one_node("Conv", [1, 2, 5, 5], {"w": weights(3, 2, 3, 3, 3)}), "spatial"),
    "a kernel beyond the map": (
        one_node("Conv", [1, 2, 2, 2], {"w": weights(3, 2, 3, 3)}),
        "impossible shape",
    ),
    "not a number": (
        one_node("Conv", [1, 2, 5, 5], {"w": np.full((3, 2, 3, 3), np.nan, np.float32)}),
        "'w' are not all finite",
    ),
    "beyond single precision": (
        one_node("Conv", [1, 2, 5, 5], {"w": np.full((3, 2, 3, 3), 1e300)}),
        "'w' are not all finite",
    ),
    "integers": (
        one_node("Conv", [1, 2, 5, 5], {"w": np.ones((3, 2, 3, 3), np.int64)}),
        "floats are supported",
    ),
    "a negative variance": (
        one_node("BatchNormalization", [1, 2, 5, 5], {n: -np.ones(2, np.float32) for n in "gbmv"}),
        "not all finite",
    ),
    "statistics of other channels": (
        one_node("BatchNormalization", [1, 2, 5, 5], {n: np.ones(3, np.float32) for n in "gbmv"}),
        "malformed",
    ),
    "a map times a matrix": (one_node("MatMul", [1, 2, 1, 1], {"w": weights(1, 4)}), "vector"),
    "a constant of two samples": (one_node("Add", [1, 2, 5, 5], {"c": weights(2, 2, 5, 5)}), "of shape"),
    "a constant of other channels": (one_node("Mul", [1, 2, 5, 5], {"c": weights(3, 1, 1)}), "do not fit"),
    "slopes of other channels": (one_node("PRelu", [1, 2, 5, 5], {"c": weights(3, 1, 1)}), "do not fit"),
    "pooled padding": (
        one_node("MaxPool", [1, 1, 1, 1], kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 1, 1, 1]),
        "outside of the map",
    ),
    "a pool that is too large": (one_node("MaxPool", [1, 1, 40, 40], kernel_shape=[20, 20]), "at most 255"),
    "a pool without window": (one_node("AveragePool", [1, 1, 4, 4], kernel_shape=[0, 2]), "kernel"),
    "cubic": (one_node("Resize", [1, 1, 4, 4], {"r": NO, "s": SCALE}, mode="cubic"), "mode cubic"),
    "more channels by resizing": (
        one_node("Resize", [1, 1, 4, 4], {"r": NO, "s": np.array([1, 2, 2, 2], np.float32)}),
        "rows and columns",
    ),
    "a scale of nan": (
        one_node("Resize", [1, 1, 4, 4], {"r": NO, "s": np.array([1, 1, np.nan, 2], np.float32)}),
        "sizes or scales",
    ),
    "to nothing": (
        one_node("Resize", [1, 1, 4, 4], {"r": NO, "s": np.array([1, 1, 0.1, 2], np.float32)}),
        "impossible shape",
    ),
    "clipped upside down": (
        one_node("Clip", [1, 1, 4, 4], {"a": np.float32(2), "b": np.float32(1)}),
        "limits 2.0 and 1.0",
    ),
    "a falling leaky relu": (one_node("LeakyRelu", [1, 1, 4, 4], alpha=-0.1), "must be positive"),
    "joined batches": (one_node("Concat", [1, 1, 4, 4], axis=0), "axis 0"),
    "normalised rows": (one_node("Softmax", [1, 3, 4, 4], axis=2), "axis 2"),
    "an old softmax": (one_node("Softmax", [1, 3, 4, 4], axis=1, opset=11), "opset 13"),
    "another size by reshaping": (
        one_node("Reshape", [1, 3, 4, 4], {"s": np.array([1, 47], np.int64)}),
        r"\(1, 3, 4, 4\) as \(1, 47\)",
    ),
    "a mean of batches": (one_node("ReduceMean", [1, 3, 4, 4], {"a": integers(0)}), r"axes \[0\]"),
    "axes that are not there": (one_node("ReduceMean", [1, 3, 4, 4], {"a": integers(4)}), r"axes \[4\] of 4"),
    "a batch turned into channels": (one_node("Transpose", [1, 3, 4, 4], perm=[1, 0, 2, 3]), "supported are"),
    "an order of other axes": (one_node("Transpose", [1, 3, 4, 4], perm=[0, 1, 2]), "of 4 axes"),
    "a cropping pad": (one_node("Pad", [1, 3, 4, 4], {"p": integers(0, 0, -1, 0, 0, 0, 0, 0)}), "positive"),
    "a mirror beyond the map": (
        one_node("Pad", [1, 3, 4, 4], {"p": integers(0, 0, 4, 0, 0, 0, 0, 0)}, mode="reflect"),
        "mirrored",
    ),
    "an empty slice": (one_node("Slice", [1, 3, 4, 4], {"s": integers(3), "e": integers(3)}), "empty"),
    "parts that do not add up": (
        one_node("Split", [1, 3, 4, 4], {"s": integers(4)}, axis=1),
        r"3 positions in parts of \[4\]",
    ),
    "blocks that do not fit": (one_node("DepthToSpace", [1, 3, 4, 4], blocksize=2), "blocks of 2"),
    "an identity": (one_node("Identity", [1, 3, 4, 4]), "nothing is computed"),
}


@pytest.mark.parametrize("name", BAD_NODES)
def test_nodes_that_cannot_be_what_they_claim_are_refused(name: str, tmp_path: Path) -> None:
    model, says = BAD_NODES[name]
    assert re.search(says, refused(model, tmp_path))


def test_two_outputs_that_are_one_tensor_are_refused(tmp_path: Path) -> None:
    model = small().model()
    model.graph.node.append(helper.make_node("Identity", [model.graph.output[0].name], ["again"]))
    model.graph.output.append(helper.make_tensor_value_info("again", TensorProto.FLOAT, [1, 4]))
    assert "are the same" in refused(model, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"not an onnx file\n" * 20, b"\x08\x07", small().model().SerializeToString()[:-300]],
    ids=["empty", "one byte", "text", "no graph", "truncated"],
)
def test_files_that_are_no_models_are_refused_by_name(content: bytes, tmp_path: Path) -> None:
    assert "broken.onnx" in refused(content, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no model at .*none\.onnx"):
        import_onnx(tmp_path / "none.onnx")


def external(location: str, folder: Path) -> Path:
    """Save a model whose first weights lie in another file."""
    model = small().model()
    tensor = model.graph.initializer[0]
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": str(len(data))}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    path = folder / "models" / "broken.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    (folder / "weights.bin").write_bytes(data)
    return path


def test_weights_in_a_file_beside_the_model_are_read(tmp_path: Path) -> None:
    path = external("weights.bin", tmp_path)
    (tmp_path / "weights.bin").rename(path.parent / "weights.bin")
    found = import_onnx(path).constants["conv1.weight"].value
    inside = tmp_path / "inside.onnx"
    onnx.save(small().model(), inside)
    assert np.array_equal(found, import_onnx(inside).constants["conv1.weight"].value)


@pytest.mark.parametrize("location", ["gone.bin", "../weights.bin", "/etc/hostname", "link.bin"])
def test_weights_that_are_missing_or_outside_of_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    path = external(location, tmp_path)
    (path.parent / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(ModelError) as caught:
        import_onnx(path)
    assert "broken.onnx" in one_sentence(caught.value)


def test_damaged_files_give_a_message_or_a_valid_graph(tmp_path: Path) -> None:
    whole, rng = small().model().SerializeToString(), random.Random(0)
    path, outcomes = tmp_path / "broken.onnx", [0, 0]
    for _ in range(MUTATIONS):
        path.write_bytes(damage(whole, rng))
        try:
            graph = simplify(import_onnx(path))
        except ModelError as error:
            one_sentence(error)
            outcomes[0] += 1
        else:
            assert_valid(graph)
            outcomes[1] += 1
    assert min(outcomes) > MUTATIONS // 10  # the damage is neither always nor never fatal


def damage(whole: bytes, rng: random.Random) -> bytes:
    """Return `whole` with one or two bytes changed, removed or doubled, or cut off behind."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(content))
        change: Callable[[], object] = rng.choice(
            [
                lambda at=at: content.__setitem__(at, rng.randrange(256)),
                lambda at=at: content.__setitem__(at, content[at] ^ (1 << rng.randrange(8))),
                lambda at=at: content.insert(at, content[at]),
                lambda at=at: content.pop(at),
            ]
        )
        change()
    return bytes(content[: rng.randrange(len(content))] if rng.random() < 0.05 else content)


def assert_valid(graph: Graph) -> None:
    assert graph.outputs
    for op in graph.ops:
        for name in op.outputs:
            assert min(graph.shape(name)) >= 1
        for name in op.constants:
            assert np.isfinite(graph.constants[name].value).all()

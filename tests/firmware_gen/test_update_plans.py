"""What an update plan makes of the training graph."""

from pathlib import Path

import pytest
from networks import Net

from fieldtune.errors import ModelError, UserError
from firmware_gen.backward import LossSpec, training_graph
from firmware_gen.graph import Graph, Op
from firmware_gen.operators.base import Channels
from firmware_gen.operators.conv2d import ConvGradAttrs
from firmware_gen.passes import lighten
from firmware_gen.update import UpdatePlan, parse_update, trained_constants

BACKWARD = ("backward", "update")


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """An encoder of two layers with a skip connection into a decoder of two."""
    net = Net(seed=5)
    image = net.input(3, 8, 8)
    low = net.activation(net.conv(image, 4, (3, 3), pads=(1, 1, 1, 1), name="encoder.0"), "LeakyRelu")
    high = net.activation(net.conv(low, 6, (3, 3), (2, 2), (1, 1, 1, 1), name="encoder.1"), "LeakyRelu")
    up = net.conv_transpose(high, 5, (2, 2), (2, 2), name="up")
    joint = net.concat(low, net.activation(up, "LeakyRelu"))
    middle = net.activation(net.conv(joint, 7, (3, 3), pads=(1, 1, 1, 1), name="decoder.0"), "LeakyRelu")
    net.output(net.conv(middle, 2, name="decoder.1"))
    return net.graph(tmp_path)


def train(graph: Graph, *patterns: str, keep: bool = False) -> Graph:
    loss = LossSpec(graph.outputs[0], "mse")
    return lighten(training_graph(graph, (loss,), UpdatePlan(patterns, keep_gradients=keep)))


def steps(graph: Graph, kind: str) -> list[Op]:
    return [op for op in graph.ops if op.kind == kind]


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        (("decoder.1",), ["decoder.1.weight", "decoder.1.bias"]),
        (("decoder.1.bias",), ["decoder.1.bias"]),
        (("*.bias",), ["encoder.0.bias", "encoder.1.bias", "up.bias", "decoder.0.bias", "decoder.1.bias"]),
        (("decoder.1", "u*.weight"), ["up.weight", "decoder.1.weight", "decoder.1.bias"]),
        (("encoder.?.weight",), ["encoder.0.weight", "encoder.1.weight"]),
    ],
)
def test_names_and_globs_choose_layers_or_single_weights(
    graph: Graph, patterns: tuple[str, ...], trained: list[str]
) -> None:
    assert list(trained_constants(graph, UpdatePlan(patterns))) == trained


def test_an_update_is_split_at_commas() -> None:
    assert parse_update(" a*, b.bias ,", momentum=True) == UpdatePlan(("a*", "b.bias"), momentum=True)
    assert parse_update(None).patterns == parse_update("").patterns == ()


@pytest.mark.parametrize("pattern", ["decoder", "decoder.2*", "DECODER.0", "encoder.0.weights"])
def test_a_pattern_that_matches_nothing_is_refused_with_the_layers(graph: Graph, pattern: str) -> None:
    with pytest.raises(
        UserError, match=r"no layer or weight.*encoder\.0, encoder\.1, up, decoder\.0"
    ) as caught:
        train(graph, pattern, "decoder.1")
    assert f"'{pattern}'" in str(caught.value)


def test_nothing_below_the_lowest_learning_layer_has_a_backward(graph: Graph) -> None:
    trained = train(graph, "decoder.0")
    touched = {op.name for op in trained.ops if op.phase in BACKWARD}
    assert touched == {"decoder.0", "decoder.1"}
    assert [op.name for op in steps(trained, "conv_grad_input")] == ["decoder.1"]


def test_the_lowest_learning_layer_computes_no_input_gradient(graph: Graph) -> None:
    assert not steps(train(graph, "decoder.1"), "conv_grad_input")
    assert {op.name for op in steps(train(graph, "*"), "conv_grad_input")} == {
        "encoder.1",
        "up",
        "decoder.0",
        "decoder.1",
    }


def test_a_frozen_layer_keeps_no_input_and_bits_instead_of_its_output(graph: Graph) -> None:
    trained = train(graph, "up")
    made = {name for op in trained.ops if op.phase == "forward" for name in op.outputs}
    read_late = {
        name: trained.tensors[name].dtype
        for op in trained.ops
        if op.phase in BACKWARD and op.kind != "activation_bits"
        for name in op.inputs
        if name in made or trained.tensors[name].dtype == "bits"
    }
    # encoder.1 is the input of what learns; of everything above only a bit a value is left.
    assert read_late == {"encoder.1": "f32", "up.bits": "bits", "decoder.0.bits": "bits"}


def test_an_output_that_is_kept_anyway_serves_its_activation_too(graph: Graph) -> None:
    trained = train(graph, "decoder.0", "decoder.1")  # decoder.1 keeps the output of decoder.0 as its input
    assert not steps(trained, "activation_bits")
    (grad,) = steps(trained, "activation_grad")
    assert grad.inputs[1] == "decoder.0"


def test_a_learning_bias_alone_keeps_no_input(graph: Graph) -> None:
    trained = train(graph, "decoder.1.bias")
    read = {name for op in trained.ops if op.phase in BACKWARD for name in op.inputs}
    assert "decoder.0" not in read
    assert [op.kind for op in trained.ops if op.phase in BACKWARD] == ["bias_update"]


def test_the_skip_connections_share_of_an_input_gradient_is_left_out(graph: Graph) -> None:
    (narrow,) = (op for op in steps(train(graph, "up"), "conv_grad_input") if op.name == "decoder.0")
    assert isinstance(narrow.attrs, ConvGradAttrs)
    assert narrow.attrs.channels == Channels(4, 9)
    (whole,) = (op for op in steps(train(graph, "encoder.0"), "conv_grad_input") if op.name == "decoder.0")
    assert isinstance(whole.attrs, ConvGradAttrs)
    assert whole.attrs.channels == Channels(0, 9)


def test_weights_change_after_the_layers_own_input_gradient(graph: Graph) -> None:
    trained = train(graph, "*")
    order = [(op.kind, op.name) for op in trained.ops]
    for kind, name in order:
        if kind == "conv_grad_input":
            assert order.index((kind, name)) < order.index(("conv_update", name))


def test_only_kept_gradients_are_state(graph: Graph) -> None:
    assert not train(graph, "decoder.1").state
    assert set(train(graph, "decoder.1", keep=True).state) == {
        "gradient.decoder.1.weight",
        "gradient.decoder.1.bias",
    }


def test_a_weight_that_two_layers_share_cannot_learn(tmp_path: Path) -> None:
    net = Net(seed=5)
    x = net.conv(net.input(3, 4, 4), 3, name="first")
    net.output(net.conv(x, 3, name="second"))
    model = net.model()
    model.graph.node[1].input[1] = "first.weight"
    from onnx import save

    from firmware_gen.importers.onnx_file import import_onnx

    save(model, tmp_path / "net.onnx")
    shared = import_onnx(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"first\.weight .* used by several layers"):
        train(shared, "first*")
    train(shared, "second.bias")


def test_a_loss_that_nothing_learning_reaches_is_refused(tmp_path: Path) -> None:
    net = Net(seed=5)
    image = net.input(3, 4, 4)
    net.output(net.conv(image, 2, name="judged"))
    net.output(net.conv(image, 2, name="unjudged"))
    with pytest.raises(ModelError, match=r"no loss of net depends on unjudged\.weight"):
        train(net.graph(tmp_path), "unjudged")


def test_a_loss_of_classes_needs_several_channels(tmp_path: Path) -> None:
    net = Net(seed=5)
    net.output(net.conv(net.input(3, 4, 4), 1))
    graph = net.graph(tmp_path)
    with pytest.raises(ModelError, match="cross_entropy needs one a class"):
        training_graph(graph, (LossSpec(graph.outputs[0], "cross_entropy"),), UpdatePlan(("*",)))

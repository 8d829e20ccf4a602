"""Layers of which only some output channels learn."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Net
from proof import Case, prove
from quick_board import quick_board

from boards import load_board
from fieldtune.errors import UserError
from firmware_gen.backward import training_graph
from firmware_gen.graph import Graph
from firmware_gen.operators.base import Channels
from firmware_gen.operators.conv2d import ConvGradAttrs
from firmware_gen.passes import lighten
from firmware_gen.passes.split_channels import split_channels
from firmware_gen.plan import make_plan
from firmware_gen.tuned_onnx import write_tuned_onnx
from firmware_gen.update import UpdatePlan, trained_constants
from firmware_gen.weights import from_source, to_source
from ondevice.workbench import open_board

PARTS = ("*:1/4", "*:1/2", "*:2/3")


def every_kind(seed: int) -> Net:
    """Convolutions of every kind in a row, with a skip connection; below each something learns."""
    net = Net(seed)
    x = net.activation(net.conv(net.input(2, 8, 7), 6, (3, 3), pads=(1, 1, 1, 1)), "LeakyRelu", high=0.1)
    wide = net.activation(net.conv(x, 12, (3, 3), (2, 2), (1, 1, 1, 1), groups=6), "Relu")
    deep = net.conv(net.activation(net.conv(wide, 12, (3, 3), pads=(1, 1, 1, 1), groups=12), "Relu"), 9)
    up = net.conv_transpose(deep, 8, (2, 2), (2, 2))
    up = net.conv_transpose(up, 8, (3, 3), pads=(1, 1, 1, 1), groups=4)
    narrow = net.slice(up, {2: (0, 1, 8), 3: (0, 1, 7)})
    joint = net.concat(x, narrow)
    y = net.activation(net.conv(joint, 5, (1, 1)), "Clip", -0.5, 0.9)
    net.loss(net.conv(y, 3, (3, 3), pads=(1, 1, 1, 1), bias=False), "mse")
    net.loss(net.linear(net.flatten(wide), 7, "gemm"), "mse")
    return net


def sparse(net: Net, folder: Path, *patterns: str) -> Graph:
    return lighten(training_graph(net.graph(folder), tuple(net.losses), UpdatePlan(patterns)))


def test_learning_channels_have_the_gradients_of_the_full_update(tmp_path: Path) -> None:
    prove([Case(every_kind(seed=k), (pattern,)) for k, pattern in enumerate(PARTS)], tmp_path)


def test_inference_has_the_bits_of_the_whole_layers(tmp_path: Path) -> None:
    net, found = every_kind(seed=7), []
    for number, patterns in enumerate((("*",), ("*:1/3",))):
        plan = make_plan(sparse(net, tmp_path, *patterns), quick_board("native"))
        with open_board(plan, tmp_path / str(number)) as device:
            found.append(device.infer({name: np.moveaxis(v[0], 0, -1) for name, v in net.inputs.items()}))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert value.tobytes() == found[1][name].tobytes(), name


def test_only_the_learning_channels_lie_in_ram(tmp_path: Path) -> None:
    net = Net(seed=1)
    net.loss(net.conv(net.conv(net.input(2, 4, 4), 16, (3, 3), name="wide"), 2), "mse")
    plan = make_plan(sparse(net, tmp_path, "wide:1/4"), load_board("native"))
    assert plan.ram["weights"] == 4 * (3 * 3 * 2 * 4 + 4)
    whole = make_plan(sparse(net, tmp_path, "wide"), load_board("native"))
    assert whole.ram["weights"] == 4 * plan.ram["weights"]
    assert plan.macs("update") * 4 == whole.macs("update")
    assert plan.macs("forward") == whole.macs("forward")
    assert plan.flash["constants"] <= whole.flash["constants"]


def test_the_neighbours_with_the_largest_weights_learn(tmp_path: Path) -> None:
    net = Net(seed=1)
    net.loss(net.conv(net.input(2, 4, 4), 8, name="layer"), "mse")
    graph = net.graph(tmp_path)
    weight = graph.constants["layer.weight"]
    value = np.full_like(weight.value, 0.1)
    value[..., 5:7] = -2
    graph = replace(graph, constants={**graph.constants, "layer.weight": replace(weight, value=value)})
    slab = split_channels(graph, {"layer.weight": Fraction(1, 4)}).constants["layer.weight"].slab
    assert slab is not None
    assert (slab.axis, slab.first, slab.end) == (3, 5, 7)


def test_a_range_names_the_channels(tmp_path: Path) -> None:
    net = Net(seed=1)
    net.loss(net.conv(net.input(2, 4, 4), 8, name="layer"), "mse")
    slab = sparse(net, tmp_path, "layer.bias:2-4").constants["layer.bias"].slab
    assert slab is not None
    assert (slab.first, slab.end) == (2, 5)


@pytest.mark.parametrize("pattern", ["layer:1/1", "layer:0-7", "layer:7/8"])
def test_a_layer_of_which_all_channels_learn_is_not_split(pattern: str, tmp_path: Path) -> None:
    net = Net(seed=1)
    net.loss(net.conv(net.conv(net.input(2, 4, 4), 8, name="layer"), 1, name="one"), "mse")
    whole = [op.kind for op in sparse(net, tmp_path, "layer").ops]
    kinds = [op.kind for op in sparse(net, tmp_path, pattern, "one:1/8").ops]
    assert ("concat" in kinds) == (pattern == "layer:7/8")
    assert "concat" not in whole


def test_a_frozen_part_passes_its_gradient_on_without_another_map(tmp_path: Path) -> None:
    net = Net(seed=1)
    x = net.conv(net.input(2, 4, 4), 8, name="low")
    net.loss(net.conv(x, 8, (3, 3), pads=(1, 1, 1, 1), name="high"), "mse")
    graph = sparse(net, tmp_path, "low", "high:2-5")
    grads = [op for op in graph.ops if op.kind == "conv_grad_input"]
    assert [len(op.inputs) for op in grads] == [1, 2, 2]
    assert not [op for op in graph.ops if op.kind == "add"]
    views = make_plan(graph, load_board("native")).views
    assert len({views[op.outputs[0]].buffer for op in grads}) == 1


def test_a_sum_of_gradients_is_as_narrow_as_what_is_read_of_it(tmp_path: Path) -> None:
    net = Net(seed=1)
    image = net.input(2, 4, 4)
    joint = net.concat(net.conv(image, 3, name="frozen"), net.conv(image, 5, name="low"))
    net.loss(net.conv(joint, 8, (3, 3), pads=(1, 1, 1, 1), name="high"), "mse")
    grads = [op for op in sparse(net, tmp_path, "low", "high:1/2").ops if op.kind == "conv_grad_input"]
    assert len(grads) > 1
    for op in grads:
        assert isinstance(op.attrs, ConvGradAttrs)
        assert op.attrs.channels == Channels(3, 8)


def test_weights_go_back_into_the_whole_array_of_the_file(tmp_path: Path) -> None:
    net = every_kind(seed=3)
    full, part = net.graph(tmp_path), sparse(net, tmp_path, "*:1/3")
    random = np.random.default_rng(0)
    tuned = {}
    for name in part.trained:
        constant, before = part.constants[name], full.constants[name]
        source = to_source(before, before.value)
        assert np.array_equal(to_source(constant, constant.value), source)
        assert np.array_equal(from_source(constant, source), constant.value)
        tuned[name] = to_source(constant, random.standard_normal(constant.value.shape).astype(np.float32))
        assert tuned[name].shape == source.shape
        assert np.count_nonzero(tuned[name] != source) == constant.value.size
    assert any(part.constants[name].value.size < full.constants[name].value.size for name in tuned)
    assert write_tuned_onnx(tmp_path / "net.onnx", part, tuned, tmp_path / "tuned.onnx")
    again = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "tuned.onnx").graph.initializer
    }
    for name, value in tuned.items():
        assert np.array_equal(again[name], value)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("wide:0/4",), "'wide:0/4' in the update plan names no part of a layer"),
        (("wide:5/4",), "names no part of a layer"),
        (("wide:1/0",), "names no part of a layer"),
        (("wide:5-3",), "names no part of a layer"),
        (("wide:4-8",), r"wide has 8 channels; the update plan names channel 8, and the first is 0"),
        (("groups:1-3",), r"channels 1 to 3 of groups cut one of its groups of 2"),
        (("wide", "w*:1/4"), r"has wide\.bias of net twice, with other channels at 'w\*:1/4'"),
        (
            ("wide.weight:1/4", "wide.bias"),
            r"weight and bias of wide of net would learn in different channels",
        ),
        (("nothing:1/4",), r"no layer or weight of net is called 'nothing'"),
    ],
)
def test_a_share_that_makes_no_sense_is_refused(
    patterns: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    net = Net(seed=1)
    x = net.conv(net.input(2, 4, 4), 8, name="wide")
    net.loss(net.conv(x, 8, groups=4, name="groups"), "mse")
    with pytest.raises(UserError, match=message):
        sparse(net, tmp_path, *patterns)


def test_a_name_with_a_colon_is_still_a_name(tmp_path: Path) -> None:
    net = Net(seed=1)
    net.loss(net.conv(net.input(2, 4, 4), 8, name="conv:0"), "mse")
    shares = trained_constants(net.graph(tmp_path), UpdatePlan(("conv:0:1/2",)))
    assert shares == {"conv:0.weight": Fraction(1, 2), "conv:0.bias": Fraction(1, 2)}

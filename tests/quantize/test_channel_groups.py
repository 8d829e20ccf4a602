"""Removing channels, against ONNX Runtime on the same network whose filters are zeros."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from float_networks import SIZE, Net, inverted_residuals, pyramid, residual
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[prune]'")

from firmware_gen.graph import Constant, Graph
from quantize.channel_groups import ChannelGroup, Member, channel_groups, filter_sizes, without
from quantize.float_network import pixels, read_network, run
from quantize.onnx_writer import float_model
from quantize.torch_module import is_depthwise


def several_heads(path: Path) -> Path:
    return write_tiny(path, ("depth", "segments", "kind"))


def branches(path: Path) -> Path:
    """A sum of a concatenation, transposed convolutions that crop and that are depthwise, a map flattened."""
    net = Net(4)
    net.layer("Conv", "a", "image", [6, 3, 3, 3], pads=[1] * 4)
    net.node("Relu", "a.act", "a")
    net.layer("Conv", "a2", "a.act", [6, 6, 1, 1])
    net.node("Concat", "two", "a2", "a.act", axis=1)
    net.layer("Conv", "b", "two", [12, 12, 3, 3], pads=[1] * 4)
    net.node("Add", "sum", "b", "two")
    net.layer("Conv", "c", "sum", [8, 12, 3, 3], strides=[2, 2], pads=[1] * 4)
    net.node("LeakyRelu", "c.act", "c", alpha=0.25)
    net.layer("ConvTranspose", "up", "c.act", [8, 1, 2, 2], group=8, strides=[2, 2])
    net.layer("ConvTranspose", "large", "c.act", [8, 5, 3, 3], strides=[2, 2], pads=[0, 0, 1, 1])
    net.node("Concat", "all", "up", "large", "sum", axis=1)
    net.layer("Conv", "d", "all", [9, 25, 1, 1])
    net.node("Relu", "d.act", "d")
    net.node("AveragePool", "pool", "d.act", kernel_shape=[4, 4], strides=[4, 4])
    net.node("Flatten", "flat", "pool")
    net.layer("Gemm", "y", "flat", [3, 9 * 16], transB=1)
    return net.write(path, "value", (1, 3))


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (several_heads, ["enc0", "enc1", "up", "dec"]),
        (branches, ["a", "c", "large", "d"]),
        (residual, ["stem", "conv1", "skip"]),
        (inverted_residuals, ["stem", "expand"]),
    ],
)
def test_without_channels_it_computes_what_it_does_with_zeros_in_their_place(
    write: Callable[[Path], Path], names: list[str], tmp_path: Path
) -> None:
    network = read_network(write(tmp_path / "net.onnx"))
    groups = channel_groups(network.graph)
    assert [group.name for group in groups] == names
    random = np.random.default_rng(5)
    dropped = {
        group: random.choice(group.channels, random.integers(1, group.channels), replace=False).tolist()
        for group in groups
    }
    smaller = without(network.graph, dropped)
    assert all(smaller.shape(op.outputs[0])[2] >= 1 for op in smaller.ops)
    inputs = [pixels(frame, network) for frame in tiny_frames(3)]
    expected = run(float_model(_zeroed(network.graph, dropped)), inputs)
    for values, zeros in zip(run(float_model(smaller), inputs), expected, strict=True):
        for name, value in values.items():
            np.testing.assert_allclose(value, zeros[name], rtol=1e-4, atol=1e-5)


def _zeroed(graph: Graph, dropped: dict[ChannelGroup, list[int]]) -> Graph:
    """Return `graph` with zeros for the filters and biases of channels; all activations here keep 0."""
    constants = dict(graph.constants)
    ops = {op.name: op for op in graph.ops}
    for group, channels in dropped.items():
        for member in group.members:
            if member.side == "in":
                continue
            gone = [member.positions[k] for k in channels]
            op = ops[member.layer]
            by_input = is_depthwise(op, graph) and op.attrs.transposed  # type: ignore[attr-defined]
            for name in op.constants:
                value = constants[name].value.copy()
                value[(..., gone, slice(None)) if by_input and value.ndim == 4 else (..., gone)] = 0
                constants[name] = Constant(name, value)
    return replace(graph, constants=constants)


def test_channels_go_with_all_that_make_and_read_them(tmp_path: Path) -> None:
    graph = read_network(several_heads(tmp_path / "net.onnx")).graph
    six, eight, twelve = tuple(range(6)), tuple(range(8)), tuple(range(12))
    behind = tuple(range(6, 12))
    heads = tuple(Member(name, "in", twelve) for name in ("depth", "segments", "kind"))
    assert channel_groups(graph) == (
        ChannelGroup(
            "enc0", 6, (Member("enc0", "out", six), Member("enc1", "in", six), Member("dec", "in", behind))
        ),
        ChannelGroup("enc1", 8, (Member("enc1", "out", eight), Member("up", "in", eight))),
        ChannelGroup("up", 6, (Member("up", "out", six), Member("dec", "in", six))),
        ChannelGroup("dec", 12, (Member("dec", "out", twelve), *heads)),
    )


def test_what_is_added_or_filtered_alone_goes_together(tmp_path: Path) -> None:
    groups = channel_groups(read_network(inverted_residuals(tmp_path / "net.onnx")).graph)
    makers = [{member.layer for member in group.members if member.side == "out"} for group in groups]
    assert makers == [{"stem", "project"}, {"expand", "depthwise"}]


def test_channels_of_grouped_convolutions_and_of_shared_weights_stay(tmp_path: Path) -> None:
    assert channel_groups(read_network(pyramid(tmp_path / "grouped.onnx")).graph) == ()
    net = Net(6)
    net.layer("Conv", "a", "image", [4, 3, 3, 3], pads=[1] * 4)
    net.layer("Conv", "b", "a", [4, 4, 3, 3], pads=[1] * 4)
    net.node("Conv", "c", "b", "b.weight", "b.bias", pads=[1] * 4)
    net.layer("Conv", "d", "c", [4, 4, 3, 3], pads=[1] * 4)
    net.layer("Conv", "y", "d", [1, 4, 1, 1])
    graph = read_network(net.write(tmp_path / "shared.onnx", "value", (1, 1, SIZE, SIZE))).graph
    assert [group.name for group in channel_groups(graph)] == ["d"]


def test_channels_behind_which_a_softmax_is_stay(tmp_path: Path) -> None:
    net = Net(7)
    net.layer("Conv", "a", "image", [4, 3, 3, 3], pads=[1] * 4)
    net.node("Softmax", "shares", "a", axis=1)
    net.layer("Conv", "b", "shares", [4, 4, 1, 1])
    net.layer("Conv", "y", "b", [1, 4, 1, 1])
    graph = read_network(net.write(tmp_path / "net.onnx", "value", (1, 1, SIZE, SIZE))).graph
    assert [group.name for group in channel_groups(graph)] == ["b"]


def test_channels_that_are_concatenated_with_themselves_stay(tmp_path: Path) -> None:
    net = Net(8)
    net.layer("Conv", "a", "image", [6, 3, 3, 3], pads=[1] * 4)
    net.node("Relu", "a.act", "a")
    net.node("Concat", "twice", "a.act", "a.act", axis=1)
    net.layer("Conv", "b", "twice", [4, 12, 3, 3], pads=[1] * 4)
    net.layer("Conv", "y", "b", [1, 4, 1, 1])
    graph = read_network(net.write(tmp_path / "net.onnx", "value", (1, 1, SIZE, SIZE))).graph
    assert [group.name for group in channel_groups(graph)] == ["b"]


def test_a_filters_size_is_the_mean_over_layers_of_the_weights_that_are_left(tmp_path: Path) -> None:
    graph = read_network(residual(tmp_path / "net.onnx")).graph
    stem, conv1, _ = channel_groups(graph)
    weights = {name: np.abs(graph.constants[f"{name}.weight"].value) for name in ("stem", "conv2")}
    expected = (weights["stem"].mean((0, 1, 2)) + weights["conv2"].mean((0, 1, 2))) / 2
    np.testing.assert_allclose(filter_sizes(graph, stem, {}), expected, rtol=1e-6)
    left = weights["conv2"][:, :, 3:].mean((0, 1, 2))
    expected = (weights["stem"].mean((0, 1, 2)) + left) / 2
    found = filter_sizes(graph, stem, {("conv2", "in"): {0, 1, 2}})
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert conv1.name == "conv1"

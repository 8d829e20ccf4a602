"""What layers lose with channels is made up for as well as least squares can."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from float_networks import inverted_residuals
from numpy.typing import NDArray
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[prune]'")
import torch

from firmware_gen.graph import Array, Constant, Graph
from quantize.channel_groups import ChannelGroup, channel_groups, without
from quantize.float_network import FloatNetwork, pixels, read_network
from quantize.reconstruct import importance_order, reconstructed, second_moments
from quantize.torch_module import GraphModule
from zoo.frames import Frames
from zoo.training.pool import Batch


@pytest.fixture
def network(tmp_path: Path) -> FloatNetwork:
    return read_network(write_tiny(tmp_path / "net.onnx", ("depth", "segments", "kind")))


@dataclass(frozen=True)
class Images:
    """Samples without labels."""

    values: torch.Tensor

    def __len__(self) -> int:
        return len(self.values)

    def batch(self, numbers: NDArray[np.intp]) -> Batch:
        return Batch({"image": self.values[torch.from_numpy(numbers)]}, {}, {})


@pytest.fixture
def images(network: FloatNetwork) -> Images:
    return Images(_images(tiny_frames(40), network))


def _images(frames: Frames, network: FloatNetwork) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([pixels(frame, network)["image"] for frame in frames]))


def _group(graph: Graph, name: str) -> ChannelGroup:
    (group,) = (group for group in channel_groups(graph) if group.name == name)
    return group


def _with_twins(graph: Graph, layer: str, pairs: dict[int, int]) -> Graph:
    """Return the graph in which channel `k` of a layer, for each k: j of `pairs`, is twice channel j."""
    (op,) = (op for op in graph.ops if op.name == layer)
    constants = dict(graph.constants)
    for name in op.constants:
        value = constants[name].value.copy()
        for twin, other in pairs.items():
            value[..., twin] = 2 * value[..., other]
        constants[name] = Constant(name, value)
    return replace(graph, constants=constants)


def _outputs(graph: Graph, images: torch.Tensor) -> list[Array]:
    with torch.no_grad():
        return [y.numpy() for y in GraphModule(graph, {}).eval()(images)]


@pytest.mark.parametrize(
    ("layer", "twins"), [("enc0", {1: 0, 5: 4}), ("enc1", {7: 2}), ("dec", {0: 3, 8: 3})]
)
def test_channels_that_others_are_multiples_of_are_not_missed(
    layer: str, twins: dict[int, int], network: FloatNetwork, images: Images
) -> None:
    graph = _with_twins(network.graph, layer, twins)
    group, expected = _group(graph, layer), _outputs(graph, images.values)
    smaller = reconstructed(graph, {group: twins}, second_moments(graph, images))
    for found, plain, output in zip(
        _outputs(smaller, images.values),
        _outputs(without(graph, {group: twins}), images.values),
        expected,
        strict=True,
    ):
        spread = float(output.std())
        assert np.abs(plain - output).max() > 0.05 * spread
        assert np.abs(found - output).max() < 0.01 * spread


def test_of_two_channels_that_are_alike_one_goes_first(network: FloatNetwork, images: Images) -> None:
    graph = _with_twins(network.graph, "enc1", {6: 1, 3: 5})
    order = importance_order(graph, _group(graph, "enc1"), {}, second_moments(graph, images))
    assert sorted(order) == list(range(8))
    assert {frozenset(order[-2:])} <= {frozenset(pair) for pair in ((6, 3), (6, 5), (1, 3), (1, 5))}


def test_a_layer_of_single_pixels_gets_the_weights_of_least_squares(
    tmp_path: Path,
) -> None:
    """Against numpy's, with the same small ridge."""
    network = read_network(inverted_residuals(tmp_path / "net.onnx"))
    graph, images = network.graph, _images(tiny_frames(20), network)
    group, gone = _group(graph, "expand"), [2, 3, 11]
    smaller = reconstructed(graph, {group: gone}, second_moments(graph, Images(images)))
    (index,) = (k for k, op in enumerate(graph.ops) if op.name == "project")
    read: list[torch.Tensor] = []
    module = GraphModule(graph, {}).eval()
    module.get_submodule(f"layer{index}").register_forward_hook(lambda _, taken, __: read.append(taken[0]))
    with torch.no_grad():
        module(images)
    x = read[0].permute(0, 2, 3, 1).reshape(-1, 16).double().numpy()
    weight, bias = (graph.constants[name].value.astype(np.float64) for name in graph.ops[index].constants)
    kept = np.delete(x, gone, 1)
    ridge = np.sqrt(1e-4 * np.square(x).mean() * len(x)) * np.eye(13, 14)
    system = np.concatenate([np.column_stack([kept, np.ones(len(x))]), ridge])
    wanted = np.concatenate([x[:, gone] @ weight[0, 0, gone], np.zeros((13, 8))])
    change = np.linalg.lstsq(system, wanted, rcond=None)[0]
    found_weight, found_bias = (smaller.constants[name].value for name in graph.ops[index].constants)
    expected = np.delete(weight[0, 0], gone, 0) + change[:13]
    np.testing.assert_allclose(found_weight[0, 0], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found_bias, bias + change[13], rtol=1e-3, atol=1e-4)


def test_layers_without_moments_just_lose_their_weights(network: FloatNetwork) -> None:
    dropped = {_group(network.graph, "enc1"): [0, 4]}
    found, expected = reconstructed(network.graph, dropped, {}), without(network.graph, dropped)
    assert found.constants.keys() == expected.constants.keys()
    for name, constant in expected.constants.items():
        np.testing.assert_array_equal(found.constants[name].value, constant.value)


def test_a_constant_channel_becomes_a_bias(network: FloatNetwork, images: Images) -> None:
    """Of a transposed convolution, one of whose taps makes each output; for this channel all are alike."""
    (op,) = (op for op in network.graph.ops if op.name == "enc1")
    weight, bias = (network.graph.constants[name].value.copy() for name in op.constants)
    weight[..., 2], bias[2] = 0, 0.7
    constants = dict(network.graph.constants)
    (up,) = (op for op in network.graph.ops if op.name == "up")
    taps = constants[up.constants[0]].value.copy()
    taps[:, :, 2] = taps[:, :, 2].mean((0, 1))
    constants[up.constants[0]] = Constant(up.constants[0], taps)
    constants |= {
        name: Constant(name, value) for name, value in zip(op.constants, (weight, bias), strict=True)
    }
    graph = replace(network.graph, constants=constants)
    group = _group(graph, "enc1")
    smaller = reconstructed(graph, {group: [2]}, second_moments(graph, images))
    for found, expected in zip(_outputs(smaller, images.values), _outputs(graph, images.values), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.01 * float(expected.std()))

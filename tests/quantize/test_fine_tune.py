"""Training of float graphs: normalization comes, helps and goes without a trace."""

from pathlib import Path

import numpy as np
import pytest
from float_networks import inverted_residuals
from tiny import tiny_frames, write_tiny

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")

from firmware_gen.graph import Graph  # noqa: E402
from quantize.fine_tune import Recipe, _normalize, fine_tune  # noqa: E402
from quantize.float_network import FloatNetwork, pixels, read_network  # noqa: E402
from quantize.torch_module import Conv, GraphModule  # noqa: E402
from quantize.training_samples import LabelledSamples  # noqa: E402
from quantize.training_set import labelled  # noqa: E402
from zoo.training.augment import Views  # noqa: E402

HEADS = ("depth", "segments", "kind")


@pytest.fixture
def network(tmp_path: Path) -> FloatNetwork:
    return read_network(write_tiny(tmp_path / "net.onnx", HEADS))


def _outputs(module: torch.nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(module.eval()(images))


def test_normalization_changes_nothing_until_it_learns_and_folds_into_the_weights(tmp_path: Path) -> None:
    """Plain, depthwise and transposed convolutions."""
    for path in (write_tiny(tmp_path / "tiny.onnx", HEADS), inverted_residuals(tmp_path / "net.onnx")):
        network = read_network(path)
        frames = tiny_frames(12)
        images = torch.from_numpy(np.concatenate([pixels(frame, network)["image"] for frame in frames]))
        module = GraphModule(network.graph, {})
        expected = _outputs(module, images)
        _normalize(module, (images,))
        layers = [layer for layer in module.modules() if isinstance(layer, Conv)]
        assert (
            sum(layer.norm is not None for layer in layers) == sum(layer.normalizable for layer in layers) > 2
        )
        for found, value in zip(_outputs(module, images), expected, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-4, atol=1e-5)
        optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 0.01)
        for _ in range(3):
            optimizer.zero_grad()
            sum(y.square().mean() for y in module.train()(images)).backward()
            optimizer.step()
        learned = _outputs(module, images)
        assert not torch.allclose(learned[0], expected[0], rtol=0.01)
        for found, value in zip(_outputs(GraphModule(module.graph(), {}), images), learned, strict=True):
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-4)


def _tuned(network: FloatNetwork, epochs: int, seed: int = 0) -> Graph:
    samples = LabelledSamples(labelled(tiny_frames(16), network), network.graph)
    recipe = Recipe(dict.fromkeys(HEADS, 1.0), Views(network.task), 5e-3)
    return fine_tune(network.graph, network.task, samples, recipe, epochs, seed)


def test_the_same_seed_gives_the_same_weights(network: FloatNetwork) -> None:
    first, again, other = (_tuned(network, 2, seed) for seed in (0, 0, 1))

    def same(one: Graph, two: Graph) -> bool:
        return all(np.array_equal(c.value, two.constants[name].value) for name, c in one.constants.items())

    assert same(first, again)
    assert not same(first, other)


def test_no_epochs_leave_the_network_as_it_is(network: FloatNetwork) -> None:
    assert _tuned(network, 0) is network.graph

"""What quantization does before and after calibration, against ONNX Runtime on the file that was given."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from float_networks import NETWORKS
from numpy.typing import NDArray
from tiny import tiny_frames, write_tiny

from fieldtune.errors import UserError
from quantize.equalize import equalize
from quantize.float_network import FloatNetwork, Values, pixels, read_network, run
from quantize.losses import task_loss
from quantize.onnx_writer import float_model, quantized_model
from quantize.onnxruntime_backend import calibrate
from quantize.parameters import covering, limits, nearest
from quantize.round_weights import round_weights
from quantize.scheme import divide
from quantize.torch_module import GraphModule
from quantize.training_set import labelled
from zoo.training.losses import loss

Write = Callable[[Path], Path]
WRITERS = (*NETWORKS, write_tiny)


def _inputs(network: FloatNetwork, count: int = 6) -> list[Values]:
    return [pixels(frame, network) for frame in tiny_frames(count)]


def _outputs(model: bytes, inputs: list[Values]) -> NDArray[np.float32]:
    return np.concatenate(
        [np.concatenate([y.ravel() for y in values.values()]) for values in run(model, inputs)]
    )


def _magnitudes(network: FloatNetwork, inputs: list[Values]) -> dict[str, NDArray[np.float32]]:
    tensors = [
        {**x, **values}
        for x, values in zip(inputs, run(float_model(network.graph, all_tensors=True), inputs), strict=True)
    ]
    return {
        name: np.max(
            [np.abs(values[name]).reshape(values[name].shape[1], -1).max(1) for values in tensors], 0
        )
        for name in tensors[0]
    }


@pytest.fixture(params=WRITERS, ids=lambda write: write.__name__)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> FloatNetwork:
    return read_network(request.param(tmp_path / "net.onnx"))


def test_the_graph_written_again_computes_the_same(network: FloatNetwork) -> None:
    inputs = _inputs(network)
    expected = _outputs(network.model, inputs)
    np.testing.assert_allclose(_outputs(float_model(network.graph), inputs), expected, rtol=1e-4, atol=1e-5)


def test_the_torch_module_computes_the_same(network: FloatNetwork) -> None:
    inputs = _inputs(network)
    module = GraphModule(network.graph, {})
    with torch.no_grad():
        outputs = [y.numpy().ravel() for x in inputs for y in module(*map(torch.from_numpy, x.values()))]
    np.testing.assert_allclose(np.concatenate(outputs), _outputs(network.model, inputs), rtol=1e-4, atol=1e-5)


def test_the_torch_module_gives_its_weights_back(network: FloatNetwork) -> None:
    given_back = GraphModule(network.graph, {}).graph()
    for name, constant in network.graph.constants.items():
        np.testing.assert_array_equal(given_back.constants[name].value, constant.value)


@pytest.mark.parametrize("fixed", [None, 1, -1])
def test_equalization_changes_weights_but_not_what_is_computed(
    network: FloatNetwork, fixed: int | None
) -> None:
    inputs = _inputs(network)
    convolutions = [op for op in network.graph.ops if op.constants]
    kept = [] if fixed is None else [convolutions[fixed]]
    equal = equalize(network.graph, _magnitudes(network, inputs), [op.name for op in kept])
    np.testing.assert_allclose(
        _outputs(float_model(equal), inputs), _outputs(network.model, inputs), rtol=2e-4, atol=2e-5
    )
    changed = {
        name
        for name, constant in network.graph.constants.items()
        if not np.array_equal(equal.constants[name].value, constant.value)
    }
    assert changed or kept
    assert not changed & {name for op in kept for name in op.constants}


def test_equalized_channels_share_the_range_of_their_concatenation(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    inputs = _inputs(network)
    equal = replace(network, graph=equalize(network.graph, _magnitudes(network, inputs)))
    before, after = (_magnitudes(each, inputs)["skip"] for each in (network, equal))
    assert before.min() < 0.6 * before.max()
    assert after.min() > 0.99 * after.max()


def test_rounded_weights_are_multiples_of_their_scales_and_beat_the_nearest(network: FloatNetwork) -> None:
    inputs = _inputs(network, 12)
    scheme = divide(network.graph)
    types = {name: covering(0, 1) for name in network.graph.inputs}
    plain = calibrate(scheme, inputs, types)
    rounded = round_weights(plain, inputs)
    for name, scales in rounded.weights.items():
        steps = rounded.graph.constants[name].value / scales
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        assert np.abs(steps).max() < 127.5
    exact = _outputs(network.model, inputs)
    errors = [np.square(_outputs(quantized_model(q), inputs) - exact).mean() for q in (plain, rounded)]
    assert errors[1] < errors[0]


def test_a_range_is_covered_and_zero_exact() -> None:
    random = np.random.default_rng(0)
    for low, high in random.normal(0, 10, (200, 2)) * np.exp(random.normal(0, 5, (200, 1))):
        found = covering(min(low, high), max(low, high))
        bottom, top = limits(found)
        assert bottom <= min(low, high, 0) + found.scale / 2
        assert top >= max(low, high, 0) - found.scale / 2
        assert nearest(np.zeros(1, np.float32), found)[0] == 0


def test_layers_without_weights_follow_their_readers_into_float(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    assert divide(network.graph, "dec*, depth").float_layers == {"dec", "depth", "skip"}
    assert "enc1" in divide(network.graph, "dec*").tensors


@pytest.mark.parametrize("update", ["dec", "dec:1/4", "dec.bias:0-1"])
def test_layers_that_will_learn_keep_the_size_of_their_weights(tmp_path: Path, update: str) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    scheme = divide(network.graph, update=update)
    assert "dec" in scheme.unscaled_layers
    assert not scheme.float_layers
    magnitudes = _magnitudes(network, _inputs(network))
    scaled = equalize(scheme.graph, magnitudes, scheme.unscaled_layers)
    changed = {
        op.name
        for op in scaled.ops
        for name in op.constants
        if not np.array_equal(scaled.constants[name].value, scheme.graph.constants[name].value)
    }
    assert changed
    assert "dec" not in changed


@pytest.mark.parametrize(
    ("patterns", "complaint"), [("nothing*", "is called 'nothing"), ("*", "is left for int8")]
)
def test_patterns_that_leave_nothing_to_do_are_refused(tmp_path: Path, patterns: str, complaint: str) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match=complaint):
        divide(network.graph, patterns)


def test_the_tasks_loss_is_the_weighted_sum_over_what_is_learned(tmp_path: Path) -> None:
    read = read_network(write_tiny(tmp_path / "net.onnx", ("depth", "segments", "kind")))
    changes = {"segments": {"weight": 0.25}, "kind": {"labels": "none"}}
    outputs = (replace(spec, **changes.get(spec.name, {})) for spec in read.task.outputs)
    network = replace(read, task=replace(read.task, outputs=tuple(outputs)))
    samples = labelled(tiny_frames(3), network)
    assert set(samples[0].labels) == {"depth", "segments"}
    (values,) = run(float_model(network.graph), [samples[0].inputs])
    found = {name: torch.from_numpy(value) for name, value in values.items()}

    def own(name: str, kind: str) -> torch.Tensor:
        label, mask = (torch.from_numpy(known[name]) for known in (samples[0].labels, samples[0].masks))
        return loss(kind, found[name], label, mask)

    expected = own("depth", "berhu") + 0.25 * own("segments", "cross_entropy")
    torch.testing.assert_close(task_loss(network.task, found, samples[:1]), expected)

"""Merging: what the coefficients mean, and that they learn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from float_networks import NETWORKS, Net
from onnx import numpy_helper
from tiny import tiny_frames, write_tiny

from fieldtune.errors import ModelError, UserError
from quantize.float_network import FloatNetwork, pixels, read_network, run
from quantize.merge import Mixture, Options, learn, merge_networks
from quantize.onnx_writer import float_model
from quantize.training_set import Labelled
from zoo.frames import Frames
from zoo.task import InputSpec, OutputSpec, Task

MSE = Task((InputSpec("image", 1 / 255),), (OutputSpec("depth", "depth", "mse", "truth", max_depth=6.0),))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _tuned(base: Path, seed: int, layers: Sequence[str] = ("",)) -> Path:
    """Write `base` with other weights in the layers whose names begin so, as tuning would."""
    proto = onnx.load(base)
    random = np.random.default_rng(seed)
    for initializer in proto.graph.initializer:
        value = numpy_helper.to_array(initializer)
        if value.size > 4 and value.dtype == np.float32 and initializer.name.startswith(tuple(layers)):
            other = value + 0.3 * np.abs(value).mean() * random.standard_normal(value.shape)
            initializer.CopyFrom(numpy_helper.from_array(other.astype(np.float32), initializer.name))
    out = base.with_name(f"{base.stem}_{seed}.onnx")
    onnx.save(proto, out)
    return out


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A base and two networks tuned from it, of which the second learned in two layers only."""
    base = write_tiny(tmp_path_factory.mktemp("merge") / "tiny.onnx")
    return base, _tuned(base, 1), _tuned(base, 2, ("enc1", "dec"))


@pytest.fixture(scope="module")
def networks(files: tuple[Path, ...]) -> list[FloatNetwork]:
    return [read_network(path) for path in files]


def _arrays(model: bytes) -> dict[str, np.ndarray]:
    tensors = onnx.load_from_string(model).graph.initializer
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}


@pytest.mark.parametrize("write", NETWORKS)
def test_0_is_the_base_and_1_the_network_to_the_bit(write: object, tmp_path: Path) -> None:
    base = write(tmp_path / "net.onnx")  # type: ignore[operator]
    own, other = read_network(base), read_network(_tuned(base, 1))
    mixture = Mixture(own.graph, [other.graph])
    for coefficient, expected in ((0.0, own), (1.0, other)):
        found = mixture.graph(mixture.alike(coefficient)).constants
        for name, constant in expected.graph.constants.items():
            assert found[name].value.tobytes() == constant.value.tobytes(), name


def test_networks_that_are_the_same_merge_into_that_network(networks: list[FloatNetwork]) -> None:
    base, other, _ = (network.graph for network in networks)
    nothing = Mixture(base, [base, base])
    assert nothing.layers == ()
    for mixture, graph in ((nothing, base), (Mixture(base, [other, other]), other)):
        merged = mixture.graph(mixture.alike(0.5))
        assert all(np.array_equal(merged.constants[k].value, c.value) for k, c in graph.constants.items())


def test_a_coefficient_moves_a_layer_from_the_base_towards_its_network(
    files: tuple[Path, ...], networks: list[FloatNetwork]
) -> None:
    mixture = Mixture(networks[0].graph, [network.graph for network in networks[1:]])
    assert mixture.layers == ("enc0", "enc1", "up", "dec", "depth")
    rows = np.random.default_rng(0).random((5, 2))
    found = _arrays(float_model(mixture.graph(torch.from_numpy(rows))))
    base, one, other = (_arrays(path.read_bytes()) for path in files)
    assert found.keys() >= base.keys()
    for name, value in base.items():
        first, second = rows[mixture.layers.index(name.split(".")[0])]
        expected = value + first * (one[name] - value) + second * (other[name] - value)
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7, err_msg=name)


def test_only_layers_that_have_learned_have_coefficients(networks: list[FloatNetwork]) -> None:
    assert Mixture(networks[0].graph, [networks[2].graph]).layers == ("enc1", "dec")


def test_layers_that_share_a_weight_go_on_sharing_it(tmp_path: Path) -> None:
    net = Net(5)
    net.layer("Conv", "first", "image", [3, 3, 3, 3], pads=[1] * 4)
    net.node("Relu", "a", "first")
    net.node("Conv", "second", "a", "first.weight", "first.bias", pads=[1] * 4)
    net.layer("Conv", "y", "second", [1, 3, 1, 1])
    base = net.write(tmp_path / "shared.onnx", "value", (1, 1, 16, 16))
    own, other = read_network(base), read_network(_tuned(base, 1))
    mixture = Mixture(own.graph, [other.graph])
    assert mixture.layers == ("first",)
    image = np.random.default_rng(0).random((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        (inside,) = mixture.outputs(mixture.alike(0.4), torch.from_numpy(image))
    (outside,) = run(float_model(mixture.graph(mixture.alike(0.4))), [{"image": image}])
    np.testing.assert_allclose(inside.numpy(), outside["y"], rtol=1e-4, atol=1e-5)


def _samples(network: FloatNetwork, mixture: Mixture, rows: torch.Tensor) -> list[Labelled]:
    """Return frames whose labels are what the network with these coefficients says."""
    found = []
    for frame in tiny_frames(16):
        inputs = pixels(frame, network)
        with torch.no_grad():
            (label,) = mixture.outputs(rows, *(torch.from_numpy(value) for value in inputs.values()))
        mask = np.ones(label.shape, np.float32)
        found.append(Labelled(inputs, {"depth": label.numpy()}, {"depth": mask}))
    return found


def test_learning_finds_the_coefficients_that_the_labels_were_made_with(
    networks: list[FloatNetwork],
) -> None:
    base = networks[0].graph
    mixture = Mixture(base, [networks[1].graph])
    rows = torch.tensor([[0.9], [0.2], [1.0], [0.0], [0.6]], dtype=torch.float64)
    samples = _samples(networks[0], mixture, rows)
    options = Options(steps=150, rate=0.05)
    found = learn(mixture, base, MSE, samples, mixture.alike(0.5), options)
    torch.testing.assert_close(found, rows, atol=0.03, rtol=0)


@pytest.mark.parametrize("granularity", ["layer", "task"])
def test_coefficients_stay_in_0_to_1(networks: list[FloatNetwork], granularity: str) -> None:
    base = networks[0].graph
    mixture = Mixture(base, [networks[1].graph])
    beyond = _samples(networks[0], mixture, mixture.alike(1.5))
    options = Options(granularity, steps=30, rate=0.1)  # type: ignore[arg-type]
    found = learn(mixture, base, MSE, beyond, mixture.alike(0.5), options)
    assert float(found.max()) == 1.0
    assert float(found.min()) >= 0.0
    if granularity == "task":
        assert torch.equal(found, mixture.alike(1.0))


def test_merging_lowers_the_loss_below_the_averages(networks: list[FloatNetwork]) -> None:
    tuned = {"one": networks[1], "other": networks[2]}
    data = {"here": tiny_frames(12), "there": tiny_frames(12, seed=4)}
    options = Options(steps=40, rate=0.03)
    result, again = (merge_networks(networks[0], tuned, data, options) for _ in range(2))
    assert result.model == again.model
    for rows in result.scores.values():
        assert list(rows) == ["base", "one", "other", "average", "merged"]
        assert rows["merged"]["depth"].loss < 0.95 * rows["average"]["depth"].loss
    assert {len(row) for row in result.coefficients.values()} == {2}


def test_the_last_frames_of_each_data_set_only_judge(networks: list[FloatNetwork]) -> None:
    here, there = tiny_frames(16), tiny_frames(16, seed=9)
    data = (here, Frames.of([*here[:12], *there[12:]]), Frames.of([*there[:12], *here[12:]]))
    options, tuned = Options(steps=3, test=4), {"one": networks[1]}
    given, tested, taught = (merge_networks(networks[0], tuned, {"x": frames}, options) for frames in data)
    assert given.model == tested.model != taught.model
    assert given.scores["x"]["base"] == taught.scores["x"]["base"] != tested.scores["x"]["base"]


def test_a_network_that_computes_no_numbers_is_told(
    files: tuple[Path, ...], networks: list[FloatNetwork], tmp_path: Path
) -> None:
    proto = onnx.load(files[1])
    weight = proto.graph.initializer[0]
    huge = numpy_helper.to_array(weight) * np.float32(1e38)
    weight.CopyFrom(numpy_helper.from_array(huge, weight.name))
    onnx.save(proto, tmp_path / "huge.onnx")
    broken = read_network(tmp_path / "huge.onnx")
    with pytest.raises(UserError, match="no finite number"):
        merge_networks(networks[0], {"broken": broken}, {"here": tiny_frames(8)}, Options())


def test_a_network_that_was_not_tuned_from_the_base_is_refused(
    networks: list[FloatNetwork], tmp_path: Path
) -> None:
    others = (
        (write_tiny(tmp_path / "relu.onnx", operator="Relu"), "tiny: its layer 'enc0' differs in kind"),
        (write_tiny(tmp_path / "large.onnx", size=24), "tiny: its layer 'enc0' differs in kind, shape"),
        (write_tiny(tmp_path / "heads.onnx", ("depth", "segments")), "tiny: it has another task"),
        (write_tiny(tmp_path / "same.onnx"), "has the weights of tiny"),
    )
    for path, message in others:
        with pytest.raises(ModelError, match=message):
            merge_networks(networks[0], {"x": read_network(path)}, {"here": tiny_frames(8)}, Options())

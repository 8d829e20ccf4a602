from pathlib import Path

import numpy as np
import pytest

from fieldtune.errors import ModelError, UserError

torch = pytest.importorskip("torch", reason="torch is not installed; pip install 'fieldtune[torch]'")
from quick_board import quick_board  # noqa: E402
from torch import nn  # noqa: E402

from firmware_gen.plan import make_plan  # noqa: E402
from firmware_gen.project import load_network  # noqa: E402
from ondevice.references import open_reference  # noqa: E402
from ondevice.verify import sourced_tensors, verify  # noqa: E402
from ondevice.verify_inputs import random_samples  # noqa: E402
from ondevice.workbench import open_board  # noqa: E402
from zoo.export import MULTITASK_OUTPUTS, export_onnx, load_zoo, multitask_task  # noqa: E402
from zoo.frames import Frames  # noqa: E402
from zoo.metrics import depth_metrics, to_depth  # noqa: E402
from zoo.networks.classifiers import DsCnn, ResNet8  # noqa: E402
from zoo.networks.folding import folded  # noqa: E402
from zoo.networks.multitask import CHANNELS, INPUT_SHAPE, MultiTaskNet, Up  # noqa: E402
from zoo.scenes import render  # noqa: E402
from zoo.task import find_task  # noqa: E402
from zoo.training.pool import pool  # noqa: E402

SHIPPED = Path(__file__).parents[2] / "zoo" / "weights" / "multitask_rendered.onnx"


def _size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def _seen(network: nn.Module, shape: tuple[int, ...] = (8, 3, 48, 48)) -> nn.Module:
    """Let batch normalization see something."""
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.rand(shape))
    return network.eval()


def test_outputs_come_in_order_with_the_images_resolution() -> None:
    network = MultiTaskNet()
    shapes = [tuple(output.shape) for output in network(torch.rand(2, 3, 48, 48))]
    assert shapes == [(2, 1, 48, 48), (2, 12, 48, 48), (2, 4)]
    assert tuple(network.heads) == tuple(spec.name for spec in MULTITASK_OUTPUTS)


def test_width_scales_the_network_and_1_has_50_to_150_thousand_parameters() -> None:
    sizes = [_size(MultiTaskNet(width=width)) for width in (0.5, 1, 2)]
    assert 50_000 < sizes[1] < 150_000
    assert sizes[0] < 0.3 * sizes[1]
    assert sizes[2] > 3.5 * sizes[1]
    channels = [
        layer.out_channels for layer in MultiTaskNet(width=0.7).modules() if isinstance(layer, nn.Conv2d)
    ]
    assert {count % 4 for count in channels} == {0}


@pytest.mark.parametrize("head", CHANNELS)
def test_a_twin_is_the_network_less_what_its_head_does_not_read(head: str) -> None:
    shapes = {name: value.shape for name, value in MultiTaskNet().state_dict().items()}
    twin = MultiTaskNet([head])
    kept = {name for name in shapes if not name.startswith("heads.") or name.startswith(f"heads.{head}.")}
    if head == "steer":
        kept = {name for name in kept if not name.startswith("decoder")}
    assert {name: value.shape for name, value in twin.state_dict().items()} == {n: shapes[n] for n in kept}
    sum(output.square().sum() for output in twin(torch.rand(2, 3, 48, 48))).backward()
    assert all(p.grad is not None and p.grad.any() for p in twin.parameters())


def test_the_encoders_features_come_first_in_a_concatenation() -> None:
    up = Up(8, 4).eval()
    torch.nn.init.zeros_(up.join.conv.weight[:, :4])
    below = torch.rand(1, 8, 3, 3)
    one, other = (up(torch.rand(1, 4, 6, 6), below) for _ in range(2))
    assert one.any()
    assert torch.equal(one, other)


def test_an_unknown_head_is_refused_with_the_list() -> None:
    with pytest.raises(ModelError, match="no head normals; choose from disparity, segments, steer"):
        MultiTaskNet(["steer", "normals"])


@pytest.mark.parametrize(("heads", "width"), [(("disparity", "steer"), 0.5), (tuple(CHANNELS), 1.0)])
def test_a_checkpoint_brings_its_heads_and_width(
    tmp_path: Path, heads: tuple[str, ...], width: float
) -> None:
    torch.manual_seed(1)
    network = _seen(MultiTaskNet(heads, width))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    loaded, task, shape = load_zoo("multitask", tmp_path / "net.pth")
    assert task == multitask_task(heads)
    image = torch.rand(shape)
    for found, expected in zip(loaded(image), network(image), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.zeros(4)}, tmp_path / "net.pth")
    with pytest.raises(ModelError, match=r"lacks MultiTaskNet's parameter"):
        load_zoo("multitask", tmp_path / "net.pth")


def test_firmware_gives_the_outputs_of_the_exported_network(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    torch.manual_seed(2)
    network = _seen(MultiTaskNet(width=0.5))
    image = torch.rand(INPUT_SHAPE)
    expected = [output.detach().numpy() for output in network(image)]
    model = tmp_path / "net.onnx"
    export_onnx(folded(network), multitask_task(tuple(CHANNELS)), INPUT_SHAPE, model)
    assert find_task(model) == multitask_task(tuple(CHANNELS))

    loaded = load_network(model)
    reference = open_reference(model, sourced_tensors(loaded.graph))
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(model))
    for found, output in zip(runtime.run(None, {"image": image.numpy()}), expected, strict=True):
        np.testing.assert_allclose(found, output, rtol=1e-3, atol=1e-4)

    plan = make_plan(loaded.graph, quick_board("native"))
    with open_board(plan, tmp_path / "firmware") as device:
        result = verify(loaded, plan, device, reference, random_samples(plan.graph, 2, seed=1))
    assert result.equal
    assert len(result.layers) > 15


def test_the_shipped_weights_see_rooms_that_they_were_not_trained_on() -> None:
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(SHIPPED))
    task = multitask_task(tuple(CHANNELS))
    assert find_task(SHIPPED) == task
    test = pool(Frames.of([frame for seed in range(5) for frame in render("room", seed, 35)[::7]]), task, 48)
    images = test.images.transpose(0, 3, 1, 2)[:, None].astype(np.float32) / 255
    found = [runtime.run(None, {"image": image}) for image in images]
    disparity, segments, steer = (np.concatenate(outputs) for outputs in zip(*found, strict=True))
    spec = task.outputs[0]
    depth = depth_metrics(to_depth(disparity, spec), to_depth(test.labels["disparity"], spec))
    assert depth.delta1 > 0.85
    assert (segments.argmax(1)[:, None] == test.labels["segments"]).mean() > 0.85
    assert (steer.argmax(1) == test.labels["steer"].ravel()).mean() > 0.6


def test_classifiers_are_those_of_mlperf_tiny() -> None:
    # The parameters of its Keras models, batch normalizations' statistics included.
    keyword_spotting = DsCnn(12, inputs=1)
    state = sum(v.numel() for k, v in keyword_spotting.state_dict().items() if not k.endswith("tracked"))
    assert state == 24_908
    assert keyword_spotting(torch.rand(2, 1, 49, 10)).shape == (2, 12)
    image_classification = ResNet8(10)
    state = sum(v.numel() for k, v in image_classification.state_dict().items() if not k.endswith("tracked"))
    assert state == 78_666
    assert image_classification(torch.rand(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(("name", "make"), [("ds-cnn", DsCnn), ("resnet8", ResNet8)])
def test_classifiers_come_back_from_a_checkpoint(tmp_path: Path, name: str, make: type[nn.Module]) -> None:
    torch.manual_seed(3)
    network = _seen(make(4, 0.5))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    loaded, task, shape = load_zoo(name, tmp_path / "net.pth")
    image = torch.rand(shape)
    torch.testing.assert_close(loaded(image), network(image), rtol=1e-4, atol=1e-5)
    export_onnx(loaded, task, shape, tmp_path / "net.onnx")
    assert load_network(tmp_path / "net.onnx").graph.outputs == ("class",)


def test_an_unknown_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="zoo:multitask"):
        load_zoo("multi", tmp_path / "x.pth")

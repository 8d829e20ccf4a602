"""An int8 classifier of inverted residuals learns as much as PyTorch does in float32 from the same layers."""

import copy
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import textures
import torch
import torch.nn.functional as F
from fleet import Fleet, lanes_here
from textures import CLASSES, SIDE, Samples

from boards import load_board
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from quantize.float_network import read_network
from quantize.pipeline import Options, quantize_network
from zoo.export import CLASS_TASK, export_onnx
from zoo.frames import Frame, Frames
from zoo.networks.folding import folded
from zoo.networks.mcunet import Block, McuNet

BLOCKS = (
    Block(8, 8, 3),
    Block(24, 12, 3, 2),
    Block(36, 12, 5),
    Block(48, 16, 7, 2),
    Block(64, 16, 3),
    Block(96, 32, 5),
)
UPDATE = "classifier,blocks.[2-5].depthwise.bias,blocks.[2-5].project.bias,blocks.[2-5].expand:1/2"
RATE, STEPS, PRETRAINING, BATCH = 0.01, 1500, 256, 32
SEEDS = (3, 4, 5)


def _tensors(samples: Samples) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(samples.images).permute(0, 3, 1, 2) / 255, torch.from_numpy(samples.classes)


def _rate(step: int) -> float:
    return RATE * (1 - step / STEPS)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Batches of one are too small for more, which would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pretrained() -> McuNet:
    """A classifier that has learned from the first camera."""
    torch.manual_seed(0)
    network = McuNet(CLASSES, BLOCKS, stem=8).train()
    images, classes = _tensors(textures.draw(2048, 0, second_camera=False))
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for step in range(PRETRAINING):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / PRETRAINING)
        batch = torch.randint(0, len(images), (BATCH,))
        optimizer.zero_grad()
        F.cross_entropy(network(images[batch]), classes[batch]).backward()
        optimizer.step()
    return folded(network)


@pytest.fixture(scope="module")
def plan(pretrained: McuNet, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The int8 network with the update, calibrated on images of the first camera."""
    folder = tmp_path_factory.mktemp("classifier")
    export_onnx(pretrained, CLASS_TASK, (1, 3, SIDE, SIDE), folder / "float.onnx")
    images = textures.draw(64, 6, second_camera=False).images
    frames = Frames.of([Frame(image, None, None, None, str(number)) for number, image in enumerate(images)])
    result = quantize_network(read_network(folder / "float.onnx", None), frames, Options("onnxruntime"))
    (folder / "int8.onnx").write_bytes(result.model)
    return plan_network(load_network(folder / "int8.onnx"), load_board("native"), parse_update(UPDATE))


def _with_torch(pretrained: McuNet, plan: Plan, seed: int, test: Samples) -> float:
    """Return the accuracy after fine-tuning in float32 what learns in `plan`."""
    network = copy.deepcopy(pretrained)
    parameters = dict(network.named_parameters())
    masks: dict[str, torch.Tensor] = {}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in plan.graph.trained)
        if name in plan.graph.trained and (slab := plan.graph.constants[name].slab):
            masks[name] = torch.zeros_like(parameter)
            masks[name][slab.first : slab.end] = 1  # output channels: the last axis of the kernels' order
    optimizer = torch.optim.SGD([parameters[name] for name in plan.graph.trained], RATE)
    images, classes = _tensors(textures.draw(STEPS, seed, second_camera=True))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = _rate(step)
        optimizer.zero_grad()
        F.cross_entropy(network(images[step : step + 1]), classes[step : step + 1]).backward()
        for name, mask in masks.items():
            grad = parameters[name].grad
            assert grad is not None
            grad.mul_(mask)
        optimizer.step()
    return _accuracy(network, test)


def _accuracy(network: McuNet, test: Samples) -> float:
    images, classes = _tensors(test)
    with torch.no_grad():
        return float((network(images).argmax(1) == classes).double().mean())


def _with_firmware(plan: Plan, seeds: tuple[int, ...], test: Samples, folder: Path) -> list[float]:
    """Return the accuracy after fine-tuning the firmware from the images of each seed."""
    fleet = Fleet([plan])
    asked: list[list[int]] = []
    for seed in seeds:
        fleet.reset(0)
        train = textures.draw(STEPS, seed, second_camera=True)
        for step, (image, kind) in enumerate(zip(train.images, train.classes, strict=True)):
            fleet.write(0, "image", image)
            fleet.write(0, "class.label", np.array([kind]))
            fleet.write(0, "class.mask", np.ones(1))
            fleet.step(0, lr=_rate(step))
        asked.append([])
        for image in test.images:
            fleet.write(0, "image", image)
            fleet.infer(0)
            asked[-1].append(fleet.read(0, "class"))
    answers = fleet.run(fleet.build(folder, lanes_here()[-1], specialise=True, sanitize=False))
    found = [np.array([answers[number].argmax() for number in numbers]) for numbers in asked]
    return [float((classes == test.classes).mean()) for classes in found]


@pytest.mark.long
def test_fine_tuning_comes_within_a_point_of_float32(pretrained: McuNet, plan: Plan, tmp_path: Path) -> None:
    learning = plan.graph.constants["blocks.5.expand.weight"]
    assert learning.slab is not None
    assert Fraction(learning.slab.end - learning.slab.first, BLOCKS[5].inner) == Fraction(1, 2)
    test = textures.draw(2000, 2, second_camera=True)
    before = _accuracy(pretrained, test)
    truth = np.mean([_with_torch(pretrained, plan, seed, test) for seed in SEEDS])
    found = _with_firmware(plan, SEEDS, test, tmp_path)
    print(f"before {before:.4f}, float32 {truth:.4f}, firmware {found}")
    assert truth > before + 0.3
    assert np.mean(found) > truth - 0.01

"""Training steps of µPyD-Net on the native board against float64 autograd, along PyTorch's own run."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from boards import load_board
from firmware_gen.graph import Graph
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from firmware_gen.weights import from_source, to_source
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

torch = pytest.importorskip("torch")

UPDATE = "decoder0*,ups0*"
STEPS = range(0, 250, 10)
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Moment:
    """PyTorch's weights before a step, and the step's sample."""

    step: int
    weights: dict[str, np.ndarray]
    image: np.ndarray  # uint8 (48, 48, 3)
    label: np.ndarray  # float32 (48, 48, 1), -1 = unknown


@pytest.fixture(scope="module")
def moments(reference: ModuleType, room_npz: Path) -> list[Moment]:
    """The reference's run (float32, its own frames), stopped before every tenth step."""
    torch.set_num_threads(1)
    images, _, labels = reference.frames(room_npz)
    net = reference.load(room_npz.with_name("upydnet_tartanair.pth"))
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = []
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            weights = {
                name: p.detach().numpy().copy() for name, p in net.named_parameters() if p.requires_grad
            }
            label = labels[step].permute(1, 2, 0).numpy()
            found.append(Moment(step, weights, pixels[step], label))
        reference.tune(net, net, images[step : step + 1], labels[step : step + 1], 0.05)
    return found


@pytest.fixture(scope="module")
def board(upydnet_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Device, Graph]]:
    """µPyD-Net on the native board with a plan that keeps the gradients, so that they can be read."""
    network = load_network(upydnet_onnx)
    plan = plan_network(network, load_board("native"), parse_update(UPDATE, keep_gradients=True))
    with open_board(plan, tmp_path_factory.mktemp("parity") / "project") as device:
        device.set_hyper(Hyper(lr=0.0))
        yield device, plan.graph


def test_loss_and_gradients_equal_float64_autograd_along_the_reference_run(
    moments: list[Moment], board: tuple[Device, Graph], reference: ModuleType, room_npz: Path
) -> None:
    device, graph = board
    net = reference.load(room_npz.with_name("upydnet_tartanair.pth")).double()
    scale = np.float32(0.00392156862745098)
    for moment in moments:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.tensor(moment.weights[name]))
        image = torch.tensor(moment.image.astype(np.float32) * scale).double().permute(2, 0, 1)[None]
        label = torch.tensor(moment.label).double().permute(2, 0, 1)[None]
        net.zero_grad()
        loss = reference.berhu(net(image), label)
        loss.backward()

        losses, gradients = _step_on_board(device, graph, moment)

        assert losses == pytest.approx(loss.item(), rel=TOLERANCE)
        for name, parameter in net.named_parameters():
            if parameter.requires_grad:
                truth = parameter.grad.numpy()
                error = np.linalg.norm(gradients[name] - truth) / np.linalg.norm(truth)
                assert error < TOLERANCE, f"step {moment.step}, {name}: relative error {error:.2e}"


def _step_on_board(device: Device, graph: Graph, moment: Moment) -> tuple[float, dict[str, Any]]:
    """Return loss and gradients by the reference's names and in its layout."""
    names = {name: name.replace(".tconv", "") for name in graph.trained}
    device.reset_weights()
    device.write_tensors(
        {
            name: from_source(graph.constants[name], moment.weights[theirs]).reshape(
                device.tensors[name].array_shape
            )
            for name, theirs in names.items()
        }
    )
    mask = (moment.label != -1).astype(np.uint8)
    label = np.where(mask, moment.label, 0).astype(np.float32)
    device.put_sample({"image": moment.image, "disparity.label": label, "disparity.mask": mask})
    result = device.step(0)
    read = device.read_role("gradient")
    gradients = {
        theirs: to_source(graph.constants[name], read[f"gradient.{name}"]) for name, theirs in names.items()
    }
    return result.losses[0], gradients

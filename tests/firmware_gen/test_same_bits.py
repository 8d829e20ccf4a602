"""Twenty training steps and twenty inferences of a real session give the same bits on every board."""

from pathlib import Path

import numpy as np
import pytest

from boards import load_board
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.device import Device, Hyper
from ondevice.training_data import TrainingSamples, inputs
from ondevice.workbench import open_board
from zoo.frames import open_frames

COUNT = 20
FIRST_TEST_FRAME = 250


@pytest.mark.parametrize(
    "name",
    ["mps2_an386", "mps2_an500", "qemu_riscv32", pytest.param("mps3_an547", marks=pytest.mark.long)],
)
def test_twenty_steps_and_inferences_give_the_bits_of_native(
    name: str, upydnet_onnx: Path, room_npz: Path, tmp_path: Path
) -> None:
    native = _session("native", upydnet_onnx, room_npz, tmp_path)
    emulated = _session(name, upydnet_onnx, room_npz, tmp_path)
    assert native.keys() == emulated.keys()
    for key, value in native.items():
        assert np.array_equal(value.view(np.uint32), emulated[key].view(np.uint32)), (
            f"{key} differs on {name}"
        )


def _session(name: str, model: Path, data: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return losses, weights and outputs of one board."""
    network = load_network(model)
    plan = plan_network(network, load_board(name), parse_update("decoder0*,ups0*"))
    frames = open_frames(data)
    held_out = frames[FIRST_TEST_FRAME : FIRST_TEST_FRAME + COUNT]
    task = network.needed_task()
    samples = TrainingSamples(frames[:FIRST_TEST_FRAME], task, plan.graph)
    with open_board(plan, folder / name) as device:
        losses = _train(device, samples)
        outputs = [device.infer(inputs(frame, task, plan.graph))["disparity"] for frame in held_out]
        weights = device.read_role("weight")
        assert device.memory().arena_intact
    return {**weights, "losses": np.array(losses, np.float32), "outputs": np.stack(outputs)}


def _train(device: Device, samples: TrainingSamples) -> list[float]:
    device.set_hyper(Hyper(lr=0.05))
    losses = []
    for step, (_, sample) in zip(range(COUNT), samples, strict=False):
        device.put_sample(sample)
        losses += device.step(step).losses
    return losses

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from fake_board import PLAN_HASH, build_fake
from fake_training import HYPER, learned, losses, sample, train

from boards import load_board, start
from fieldtune.errors import BoardError, LinkError, UserError
from firmware_gen import protocol
from ondevice.device import Device, Hyper
from ondevice.link import RefusedError
from ondevice.port import Port
from ondevice.timing import Timing


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake(tmp_path_factory.mktemp("fake") / "project", load_board("native")).elf


@pytest.fixture
def url(firmware: Path) -> Iterator[str]:
    with start(firmware, load_board("native")) as board:
        yield board.url


@pytest.fixture
def device(url: str) -> Iterator[Device]:
    with Device.open(url) as device:
        yield device


def test_the_board_says_what_it_is(device: Device) -> None:
    hello = device.hello
    assert (hello.model, hello.model_hash, hello.plan_hash) == ("fake", 0x12345678, PLAN_HASH)
    assert (hello.step, hello.loss_count, hello.trainable, hello.ticks_hz) == (0, 2, True, 10**9)
    assert device.names("label", "mask") == ["depth", "known"]
    assert device.tensors["image"].array_shape == (48, 48, 3)
    assert device.tensors["active"].array_shape == (288,)


def test_every_kind_of_tensor_comes_back_as_written(device: Device) -> None:
    rng = np.random.default_rng(5)
    arrays = {
        name: rng.integers(0, 256, info.bytes, dtype=np.uint8)
        .view(info.array_dtype)
        .reshape(info.array_shape)
        for name, info in device.tensors.items()
        if info.role not in ("output", "gradient")
    }
    device.write_tensors(arrays)
    for name, array in device.read_tensors(list(arrays)).items():
        assert array.dtype == arrays[name].dtype
        assert array.tobytes() == arrays[name].tobytes()
        array[...] = 0  # the caller's own


def test_infer_is_the_model_s_arithmetic(device: Device) -> None:
    inputs = {name: sample(3)[name] for name in ("image", "tilt")}
    offset = np.array([[[10, 20, 30, 40]]], np.int32)
    outputs = device.infer({**inputs, "offset": offset})
    weight = device.read_tensor("weight").ravel()
    level = inputs["image"].astype(np.float32) @ np.array([1, 0.5, 0.25], np.float32)
    expected = np.float32(0.01) * level.ravel() * np.resize(weight, 48 * 48)
    expected += np.resize(offset.ravel(), 48 * 48).astype(np.float32) + inputs["tilt"].ravel()
    np.testing.assert_allclose(outputs["prediction"].ravel(), expected, rtol=1e-6)
    active = np.unpackbits(outputs["active"], bitorder="little")
    assert np.array_equal(active, outputs["prediction"].ravel() > 0)


def test_an_inference_runs_in_pieces_and_the_arena_is_read_between_them(device: Device) -> None:
    image = sample(3)["image"]
    before = device.infer({"image": image})["prediction"]
    device.write_tensor("image", image // 2)
    device.run_inference(0, 1)
    assert device.read_arena(0, device.arena.bytes) == (image // 2).tobytes()[:2000]
    assert device.read_arena(1000, 3) == (image // 2).tobytes()[1000:1003]
    assert np.array_equal(device.read_tensor("prediction"), before)
    device.run_inference(1, 2)
    assert not np.array_equal(device.read_tensor("prediction"), before)
    after = device.read_tensor("prediction")
    device.run_inference(2)
    assert np.array_equal(device.read_tensor("prediction"), after)
    with pytest.raises(RefusedError, match="only 2000 bytes"):
        device.read_arena(1999, 2)


def test_training_state_written_back_continues_to_the_same_bits(device: Device) -> None:
    device.set_hyper(HYPER)
    first = losses(train(device, range(5)))
    kept = device.read_role("weight", "state")
    rest, end = losses(train(device, range(5, 9))), learned(device)
    device.reset_weights()
    device.write_tensors(kept)
    device.set_step(5)
    assert losses(train(device, range(5, 9))) == rest
    assert all(np.array_equal(array, end[name]) for name, array in learned(device).items())
    device.reset_weights()
    assert losses(train(device, range(5))) == first


def test_a_step_asked_for_again_is_not_run_again(device: Device) -> None:
    device.set_hyper(HYPER)
    results = train(device, range(3))
    before = learned(device)
    assert device.step(2) == results[2]
    assert all(np.array_equal(array, before[name]) for name, array in learned(device).items())
    with pytest.raises(RefusedError, match="done 3 steps") as error:
        device.step(1)
    assert error.value.refusal is protocol.WRONG_STEP


def test_a_reboot_loses_what_was_learned_and_nothing_else(device: Device) -> None:
    device.set_hyper(HYPER)
    initial = device.read_tensor("weight")
    train(device, range(2))
    assert device.reboot().step == 0
    assert np.array_equal(device.read_tensor("weight"), initial)


def test_another_process_takes_the_board_over(url: str) -> None:
    with Device.open(url) as first:
        first.set_hyper(HYPER)
        train(first, range(2))
    with Device.open(url) as second:
        assert second.hello.step == 2
        assert second.memory().bad_frames == 0


def test_memory_is_told(device: Device) -> None:
    memory = device.memory()
    assert 0 < memory.stack_used < memory.stack_bytes
    assert memory.arena_intact
    assert (memory.rx_overruns, memory.bad_frames) == (0, 0)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("image", np.zeros((48, 48, 3), np.float32), "image takes uint8 of shape"),
        ("image", np.zeros((3, 48, 48), np.uint8), r"not uint8 of shape \(3, 48, 48\)"),
        ("imag", np.zeros(1, np.uint8), "no tensor imag; it has image"),
    ],
)
def test_what_does_not_fit_a_tensor_is_refused(
    name: str, array: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", message: str, device: Device
) -> None:
    with pytest.raises(UserError, match=message):
        device.write_tensor(name, array)


def test_a_sample_holds_no_weights_and_outputs_are_not_written(device: Device) -> None:
    with pytest.raises(UserError, match="weight is no part of a sample"):
        device.put_sample({"weight": device.read_tensor("weight")})
    with pytest.raises(RefusedError, match="cannot be written"):
        device.write_tensor("gradient", device.read_tensor("gradient"))
    device.put_sample(sample(0))


@pytest.mark.parametrize("hyper", [Hyper(lr=-1), Hyper(lr=float("nan")), Hyper(lr=0.1, accumulate=0)])
def test_senseless_hyperparameters_are_refused(hyper: Hyper, device: Device) -> None:
    with pytest.raises(UserError, match="cannot be"):
        device.set_hyper(hyper)


def test_the_firmware_of_another_plan_is_refused(url: str) -> None:
    with pytest.raises(BoardError, match="build and flash the firmware of this plan"):
        Device.open(url, plan_hash=1)
    Device.open(url, plan_hash=PLAN_HASH).close()


def test_a_port_that_is_not_there_is_refused() -> None:
    with pytest.raises(LinkError, match="there is no port /dev/ttyNONE"):
        Device.open("/dev/ttyNONE")
    with pytest.raises(LinkError, match="--port"):
        Device.open("no-such-scheme://x")


def test_a_busy_port_is_refused(url: str, device: Device) -> None:
    with pytest.raises(LinkError, match="in use by another program"):
        Device.open(url)


def test_something_that_does_not_answer_is_refused() -> None:
    with pytest.raises(LinkError, match="no answer to hello"):
        Device.open("loop://", timing=Timing(first=0.02, longest=0.05, silence=0.3))


def test_a_closed_device_says_so(device: Device) -> None:
    device.close()
    with pytest.raises(LinkError, match="closed"):
        device.memory()
    assert device.reconnect().model == "fake"


def test_a_port_without_a_descriptor_is_read_too() -> None:
    port = Port("loop://", 115200)
    with pytest.raises(OSError, match="fileno"):
        serial.serial_for_url("loop://").fileno()
    port.write(b"x" * 3000)
    received = b""
    while len(received) < 3000:
        received += port.read(1.0)
    assert received == b"x" * 3000
    assert port.read(0.0) == b""


@pytest.mark.parametrize("name", ["mps2_an386", "qemu_riscv32"])
def test_an_emulated_board_learns_the_same_bits(name: str, device: Device, tmp_path: Path) -> None:
    board = load_board(name)
    elf = build_fake(tmp_path / "project", board, max_payload=500).elf
    device.set_hyper(HYPER)
    expected = losses(train(device, range(4)))
    with start(elf, board) as running, Device.open(running.url) as emulated:
        emulated.set_hyper(HYPER)
        assert emulated.hello.max_payload == 500
        assert losses(train(emulated, range(4))) == expected
        for tensor, array in learned(emulated).items():
            assert np.array_equal(array, device.read_tensor(tensor)), tensor
        memory = emulated.memory()
        assert memory.stack_used < memory.stack_bytes == board.stack_bytes
        assert (memory.arena_intact, memory.rx_overruns, memory.bad_frames) == (True, 0, 0)

"""What the link promises: whatever the line does to frames, the board ends with the same bits."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fake_board import build_fake
from fake_training import HYPER, IMPATIENT, Arrays, learned, losses, train
from lossy_line import lossy_line

from boards import load_board, start
from fieldtune.errors import DeviceResetError, LinkError
from firmware_gen import protocol
from ondevice.device import Device, Hyper
from ondevice.link import Request

STEPS = range(40)


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake(tmp_path_factory.mktemp("fake") / "project", load_board("native"), sanitize=True).elf


@pytest.fixture(scope="module")
def undisturbed(firmware: Path) -> tuple[list[tuple[float, ...]], Arrays]:
    with start(firmware, load_board("native")) as board, Device.open(board.url) as device:
        device.set_hyper(HYPER)
        results = train(device, STEPS)
        return losses(results), learned(device)


@pytest.fixture
def board_url(firmware: Path) -> Iterator[str]:
    with start(firmware, load_board("native")) as board:
        yield board.url
        assert board.alive(), board.last_words()


def assert_same(arrays: Arrays, expected: Arrays) -> None:
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert np.array_equal(array.view(np.uint8), expected[name].view(np.uint8)), name


@pytest.mark.parametrize(("rate", "seed"), [(0.02, 1), (0.02, 2), (0.2, 3)])
def test_a_lossy_line_changes_no_bit(
    rate: float, seed: int, board_url: str, undisturbed: tuple[list[tuple[float, ...]], Arrays]
) -> None:
    expected_losses, expected = undisturbed
    with (
        lossy_line(board_url, rate, seed) as (url, faults),
        Device.open(url, timing=IMPATIENT) as device,
    ):
        device.set_hyper(HYPER)
        results = train(device, STEPS)
        assert_same(learned(device), expected)
        assert losses(results) == expected_losses
        assert device.link.resent_frames > 0
        assert set(faults) == {"lost", "damaged", "duplicated", "delayed"}
        assert device.memory().arena_intact


def test_a_board_that_starts_anew_is_noticed_and_training_can_begin_again(
    board_url: str, undisturbed: tuple[list[tuple[float, ...]], Arrays]
) -> None:
    expected_losses, expected = undisturbed
    with lossy_line(board_url, 0.05, 7) as (url, _), Device.open(url, timing=IMPATIENT) as device:
        device.set_hyper(HYPER)
        train(device, STEPS[:7])
        with contextlib.suppress(DeviceResetError):  # when the reply to the first request was lost
            device.link.command(protocol.REBOOT)
        with pytest.raises(DeviceResetError, match="started anew"):
            train(device, STEPS[7:])
        assert device.reconnect().step == 0
        device.set_hyper(HYPER)
        assert losses(train(device, STEPS)) == expected_losses
        assert_same(learned(device), expected)


def test_training_goes_on_after_the_cable_was_pulled(
    board_url: str, undisturbed: tuple[list[tuple[float, ...]], Arrays]
) -> None:
    expected_losses, expected = undisturbed
    with lossy_line(board_url, 0.05, 8) as (url, _), Device.open(url, timing=IMPATIENT) as device:
        device.set_hyper(HYPER)
        results = train(device, STEPS[:13])
        assert device.reconnect().step == 13
        # Whether the last step was done before the cable was pulled is unknown to the host: it asks again.
        assert train(device, STEPS[12:13]) == results[12:]
        results += train(device, STEPS[13:])
        assert losses(results) == expected_losses
        assert_same(learned(device), expected)


def test_a_tensor_written_twice_keeps_the_second_value(board_url: str) -> None:
    with lossy_line(board_url, 0.2, 11) as (url, _), Device.open(url, timing=IMPATIENT) as device:
        for value in range(25):
            device.write_tensor("offset", np.full((1, 1, 4), value, np.int32))
            assert device.read_tensor("offset").ravel().tolist() == [value] * 4


def test_a_command_whose_answer_comes_late_runs_once(board_url: str) -> None:
    """The host asks several times while the board computes."""
    with Device.open(board_url, timing=IMPATIENT) as device:
        device.set_hyper(Hyper(lr=0.01, accumulate=1_000_000_000))
        assert device.step(0).step == 0
        assert device.link.resent_frames > 0
        assert device.reconnect().step == 1


def test_sixteen_bits_of_sequence_numbers_wrap(board_url: str) -> None:
    with Device.open(board_url) as device:
        request = Request(protocol.TENSOR, {"index": 0}, 32)
        epoch = device.link.epoch
        for _ in range(5):
            replies = device.link.exchange([request] * 15_000)
            assert all(reply["name"] == "image" for reply in replies)
        assert device.link.epoch > epoch
        assert device.link.bad_frames == 0


def test_a_board_that_dies_is_an_error_at_once(firmware: Path) -> None:
    with start(firmware, load_board("native")) as board, Device.open(board.url) as device:
        board.kill()
        with pytest.raises(LinkError, match="check cable and power"):
            device.memory()

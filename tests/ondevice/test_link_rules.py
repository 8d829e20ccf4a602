"""The rules of docs/protocol.md, one by one, spoken frame by frame to the real firmware library."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fake_board import build_fake

from boards import load_board, start
from firmware_gen import protocol
from firmware_gen.protocol import Message
from ondevice.device import Hyper
from ondevice.frames import Deframer, Frame, encode_frame
from ondevice.port import Port

PATIENCE_S = 20.0
OFFSET = 1  # index of the tensor `offset` in fake_model.c: 16 bytes, an input
KNOWN = 4  # the mask
PREDICTION = 5  # an output
WEIGHT = 7
ARENA = 10
TENSORS = 11
ALL = {"first": 0, "end": protocol.ALL_STEPS}
PARTS = 3  # of its training step
SESSION = 100


class Talk:
    """Single frames to and from a board."""

    def __init__(self, url: str) -> None:
        self.port = Port(url, 115200)
        self.deframer = Deframer(lambda line: None)
        self.waiting: list[Frame] = []

    def send(self, message: Message, seq: int, **values: Any) -> None:
        payload = message.request.pack(**values)
        self.port.write(encode_frame(Frame(message.code, seq & 0xFFFF, payload)))

    def next(self) -> Frame:
        while not self.waiting:
            data = self.port.read(PATIENCE_S)
            assert data, "the board says nothing"
            self.waiting += self.deframer.feed(data)
        return self.waiting.pop(0)

    def ask(self, message: Message, seq: int, **values: Any) -> dict[str, Any]:
        """Send and return the reply, or the ERROR."""
        self.send(message, seq, **values)
        frame = self.next()
        while frame.type == protocol.BUSY.code:
            assert frame.seq == seq & 0xFFFF
            frame = self.next()
        assert frame.seq == seq & 0xFFFF
        if frame.type == protocol.ERROR.code:
            return protocol.ERROR.reply.unpack(frame.payload)
        assert frame.type == message.reply_code
        return message.reply.unpack(frame.payload)

    def write(self, seq: int, data: bytes) -> None:
        assert self.ask(protocol.WRITE, seq, tensor=OFFSET, offset=0, data=data) == {}

    def offset(self, seq: int) -> bytes:
        data = self.ask(protocol.READ, seq, tensor=OFFSET, offset=0, count=16)["data"]
        assert isinstance(data, bytes)
        return data

    def is_dropped(self, message: Message, seq: int, sync: int, **values: Any) -> bool:
        """Whether the board answers nothing to a frame: the next answer belongs to the next question."""
        self.send(message, seq, **values)
        return self.ask(protocol.SYNC, sync) == {}


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake(tmp_path_factory.mktemp("fake") / "project", load_board("native"), sanitize=True).elf


@pytest.fixture
def fresh(firmware: Path) -> Iterator[Talk]:
    """A board that has just started."""
    with start(firmware, load_board("native")) as board:
        talk = Talk(board.url)
        yield talk
        talk.port.close()
        assert board.alive(), board.last_words()


@pytest.fixture
def talk(fresh: Talk) -> Talk:
    """A session whose HELLO had sequence number 10."""
    fresh.ask(protocol.HELLO, 10, protocol=protocol.PROTOCOL_VERSION, session=SESSION)
    return fresh


def refusal(reply: dict[str, Any]) -> tuple[int, int]:
    return reply["code"], reply["detail"]


def test_without_a_session_everything_is_refused(fresh: Talk) -> None:
    for message, values in (
        (protocol.SYNC, {}),
        (protocol.STEP, {"step": 0, **ALL}),
        (protocol.READ, {"tensor": 0, "offset": 0, "count": 1}),
        (protocol.WRITE, {"tensor": 0, "offset": 0, "data": b"x"}),
    ):
        assert refusal(fresh.ask(message, 7, **values)) == (protocol.NO_SESSION.code, 0)


def test_an_older_session_is_refused_with_the_number_of_the_present_one(talk: Talk) -> None:
    reply = talk.ask(protocol.HELLO, 11, protocol=protocol.PROTOCOL_VERSION, session=SESSION - 1)
    assert refusal(reply) == (protocol.OLD_SESSION.code, SESSION)
    reply = talk.ask(protocol.HELLO, 12, protocol=protocol.PROTOCOL_VERSION, session=SESSION + 1)
    assert reply["model"] == "fake"


def test_another_protocol_is_refused(fresh: Talk) -> None:
    reply = fresh.ask(protocol.HELLO, 1, protocol=protocol.PROTOCOL_VERSION + 1, session=1)
    assert refusal(reply) == (protocol.BAD_PROTOCOL.code, protocol.PROTOCOL_VERSION)


def test_a_repeated_hello_changes_nothing(talk: Talk) -> None:
    talk.ask(protocol.SYNC, 20)
    reply = talk.ask(protocol.HELLO, 10, protocol=protocol.PROTOCOL_VERSION, session=SESSION)
    assert reply["model"] == "fake"
    assert talk.is_dropped(protocol.WRITE, 19, sync=21, tensor=OFFSET, offset=0, data=b"x")


def test_a_delayed_write_of_an_old_sample_has_no_effect(talk: Talk) -> None:
    talk.write(11, b"A" * 16)
    talk.ask(protocol.INFER, 12, **ALL)
    talk.write(13, b"B" * 16)
    assert talk.is_dropped(protocol.WRITE, 11, sync=14, tensor=OFFSET, offset=0, data=b"A" * 16)
    assert talk.offset(15) == b"B" * 16


def test_a_repeated_command_is_answered_again_but_not_run_again(talk: Talk) -> None:
    first = talk.ask(protocol.INFER, 11, **ALL)
    assert first["ticks"] > 0
    assert [talk.ask(protocol.INFER, 11, **ALL) for _ in range(5)] == [first] * 5


def test_a_delayed_command_has_no_effect(talk: Talk) -> None:
    talk.ask(protocol.SET_STEP, 11, step=5)
    talk.ask(protocol.SET_STEP, 12, step=6)
    assert talk.is_dropped(protocol.SET_STEP, 11, sync=13, step=5)
    assert talk.ask(protocol.HELLO, 14, protocol=protocol.PROTOCOL_VERSION, session=SESSION)["step"] == 6


def test_a_step_runs_only_at_its_number_and_only_once(talk: Talk) -> None:
    assert refusal(talk.ask(protocol.STEP, 11, step=1, **ALL)) == (protocol.WRONG_STEP.code, 0)
    first = talk.ask(protocol.STEP, 12, step=0, **ALL)
    assert (first["step"], len(first["losses"])) == (0, 2)
    talk.ask(protocol.HELLO, 13, protocol=protocol.PROTOCOL_VERSION, session=SESSION + 1)
    assert talk.ask(protocol.STEP, 14, step=0, **ALL) == first
    assert refusal(talk.ask(protocol.STEP, 15, step=2, **ALL)) == (protocol.WRONG_STEP.code, 1)
    talk.ask(protocol.SET_STEP, 16, step=1)
    assert refusal(talk.ask(protocol.STEP, 17, step=0, **ALL)) == (protocol.WRONG_STEP.code, 1)


def test_a_step_is_done_when_its_last_piece_has_run(talk: Talk) -> None:
    seq = count(11)
    whole = talk.ask(protocol.STEP, next(seq), step=0, **ALL)
    talk.ask(protocol.RESET_WEIGHTS, next(seq))
    for first, end in [(0, 0), (0, 1), (1, 2), (PARTS, PARTS + 1), (2, 1)]:
        assert talk.ask(protocol.STEP, next(seq), step=0, first=first, end=end)["step"] == 0
        assert refusal(talk.ask(protocol.STEP, next(seq), step=1, **ALL)) == (protocol.WRONG_STEP.code, 0)
    last = talk.ask(protocol.STEP, next(seq), step=0, first=2, end=PARTS)
    assert last["losses"] == whole["losses"]
    assert talk.ask(protocol.STEP, next(seq), step=0, **ALL) == last
    assert talk.ask(protocol.STEP, next(seq), step=1, **ALL)["step"] == 1


def test_a_step_that_was_left_in_the_middle_forgets_the_one_before(talk: Talk) -> None:
    talk.ask(protocol.STEP, 11, step=0, **ALL)
    talk.ask(protocol.STEP, 12, step=1, first=0, end=1)
    assert refusal(talk.ask(protocol.STEP, 13, step=0, **ALL)) == (protocol.WRONG_STEP.code, 1)
    assert talk.ask(protocol.STEP, 14, step=1, **ALL)["step"] == 1


def test_a_repeated_piece_is_not_run_again(talk: Talk) -> None:
    talk.ask(protocol.HYPER, 11, **vars(Hyper(lr=0.5)))
    talk.ask(protocol.WRITE, 12, tensor=KNOWN, offset=0, data=bytes([1] * 100))
    talk.ask(protocol.STEP, 13, step=0, first=0, end=2)
    update = {"step": 0, "first": 2, "end": PARTS}
    replies = [talk.ask(protocol.STEP, 14, **update) for _ in range(3)]
    once = talk.ask(protocol.READ, 15, tensor=WEIGHT, offset=0, count=256)
    talk.ask(protocol.RESET_WEIGHTS, 16)
    talk.ask(protocol.STEP, 17, step=0, **ALL)
    assert replies == replies[:1] * 3
    assert talk.ask(protocol.READ, 18, tensor=WEIGHT, offset=0, count=256) == once


def test_sequence_numbers_wrap(talk: Talk) -> None:
    for seq in (30_000, 60_000, 65_535, 65_536, 80_000):
        assert talk.ask(protocol.SYNC, seq) == {}
    assert talk.is_dropped(protocol.WRITE, 65_535, sync=80_001, tensor=OFFSET, offset=0, data=b"x")


@pytest.mark.parametrize(
    ("message", "values", "code", "detail"),
    [
        (protocol.WRITE, {"tensor": OFFSET, "offset": 16, "data": b"x"}, protocol.OUT_OF_RANGE, 16),
        (protocol.WRITE, {"tensor": OFFSET, "offset": 12, "data": b"12345"}, protocol.OUT_OF_RANGE, 16),
        (protocol.WRITE, {"tensor": OFFSET, "offset": 2**32 - 1, "data": b"xx"}, protocol.OUT_OF_RANGE, 16),
        (protocol.WRITE, {"tensor": PREDICTION, "offset": 0, "data": b"x"}, protocol.READ_ONLY, 0),
        (protocol.WRITE, {"tensor": ARENA, "offset": 0, "data": b"x"}, protocol.READ_ONLY, 0),
        (protocol.WRITE, {"tensor": TENSORS, "offset": 0, "data": b"x"}, protocol.NO_TENSOR, TENSORS),
        (protocol.READ, {"tensor": OFFSET, "offset": 8, "count": 9}, protocol.OUT_OF_RANGE, 16),
        (protocol.READ, {"tensor": PREDICTION, "offset": 0, "count": 1025}, protocol.BAD_VALUE, 0),
        (protocol.READ, {"tensor": 65_535, "offset": 0, "count": 1}, protocol.NO_TENSOR, TENSORS),
        (protocol.READ, {"tensor": ARENA, "offset": 1999, "count": 2}, protocol.OUT_OF_RANGE, 2000),
        (protocol.TENSOR, {"index": TENSORS}, protocol.NO_TENSOR, TENSORS),
    ],
)
def test_what_lies_outside_a_tensor_is_refused(
    message: Message, values: dict[str, Any], code: protocol.Refusal, detail: int, talk: Talk
) -> None:
    reply = talk.ask(message, 11, **values)
    assert reply["request"] == message.code
    assert refusal(reply) == (code.code, detail)


def test_the_whole_of_a_tensor_and_nothing_of_it_are_inside(talk: Talk) -> None:
    talk.write(11, b"C" * 16)
    assert talk.offset(12) == b"C" * 16
    assert talk.ask(protocol.READ, 13, tensor=OFFSET, offset=16, count=0) == {"data": b""}
    assert talk.ask(protocol.WRITE, 14, tensor=OFFSET, offset=16, data=b"") == {}


def test_an_unknown_request_and_a_wrong_length_are_refused(talk: Talk) -> None:
    talk.port.write(encode_frame(Frame(0x55, 11, b"")))
    assert refusal(protocol.ERROR.reply.unpack(talk.next().payload)) == (protocol.UNKNOWN_TYPE.code, 0)
    for seq, (message, right) in enumerate(
        [
            (protocol.STEP, 12),
            (protocol.INFER, 8),
            (protocol.HYPER, 32),
            (protocol.SYNC, 0),
            (protocol.TENSOR, 2),
        ],
        start=12,
    ):
        talk.port.write(encode_frame(Frame(message.code, seq, bytes(7))))
        error = protocol.ERROR.reply.unpack(talk.next().payload)
        assert (error["request"], *refusal(error)) == (message.code, protocol.BAD_LENGTH.code, right)


def test_zero_samples_an_update_are_refused(talk: Talk) -> None:
    values = vars(Hyper(lr=0.1, accumulate=0))
    assert refusal(talk.ask(protocol.HYPER, 11, **values)) == (protocol.BAD_VALUE.code, 0)


def test_damaged_frames_are_counted_and_not_answered(talk: Talk) -> None:
    frame = bytearray(encode_frame(Frame(protocol.SYNC.code, 11, b"")))
    frame[-3] ^= 4
    talk.port.write(bytes(frame) + b"rubbish\0" + bytes([1, 1, 1, 0]) + b"\xff" * 3000 + b"\0")
    assert talk.ask(protocol.MEMORY, 12)["bad_frames"] == 4


def test_the_echo_of_a_reply_is_not_answered(talk: Talk) -> None:
    talk.port.write(encode_frame(Frame(protocol.SYNC.reply_code, 11, b"")))
    assert talk.ask(protocol.SYNC, 12) == {}

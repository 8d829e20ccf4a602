import zlib

from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from ondevice.frames import Deframer, Frame, decode_frame, encode_frame, encoded_size

FRAMES = st.builds(Frame, st.integers(0, 255), st.integers(0, 0xFFFF), st.binary(max_size=600))


def deframe(data: bytes, piece: int = 1 << 20) -> tuple[list[Frame], list[str], int]:
    lines: list[str] = []
    deframer = Deframer(lines.append)
    frames = []
    for start in range(0, len(data), piece):
        frames += list(deframer.feed(data[start : start + piece]))
    return frames, lines, deframer.bad_frames


def test_a_frame_on_the_line_is_what_the_document_says() -> None:
    body = b"\x10\x34\x12payload"
    crc = zlib.crc32(body).to_bytes(4, "little")
    assert encode_frame(Frame(0x10, 0x1234, b"payload")) == cobs.encode(body + crc) + b"\0"


@given(st.lists(FRAMES, max_size=6), st.integers(1, 50))
def test_frames_survive_any_splitting(frames: list[Frame], piece: int) -> None:
    data = b"".join(map(encode_frame, frames))
    assert deframe(data, piece) == (frames, [], 0)


@given(FRAMES)
def test_a_frame_is_never_longer_than_computed(frame: Frame) -> None:
    data = encode_frame(frame)
    assert len(data) <= encoded_size(len(frame.payload))
    assert b"\0" not in data[:-1]


@given(FRAMES, st.data())
def test_a_flipped_bit_is_noticed(frame: Frame, data: st.DataObject) -> None:
    damaged = bytearray(encode_frame(frame)[:-1])
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    assert all(decode_frame(chunk) is None for chunk in bytes(damaged).split(b"\0"))


def test_text_between_frames_reaches_the_log_and_costs_no_frame() -> None:
    frame = Frame(0x81, 10, b"\n\n text \n")  # its bytes hold line ends too
    data = b"boot 1.0\r\nready\n" + encode_frame(frame) + b"fault at 0x1234\n\0" + encode_frame(frame)
    assert deframe(data) == ([frame, frame], ["boot 1.0", "ready", "fault at 0x1234"], 0)


def test_rubbish_is_counted() -> None:
    frame = Frame(1, 2, b"")
    rubbish = b"\xff\xfe\xfd"
    assert deframe(rubbish + b"\0" + encode_frame(frame)) == ([frame], [], 1)
    assert deframe(b"\x80" * 70_000) == ([], [], 1)

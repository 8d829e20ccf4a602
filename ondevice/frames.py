"""Frames on a byte stream: COBS(type u8, seq u16, payload, crc32 u32), then a 0x00 (docs/protocol.md)."""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cobs import cobs

from firmware_gen.protocol import FRAME_OVERHEAD

_DELIMITER = b"\0"
_HEADER = struct.Struct("<BH")
_CRC = struct.Struct("<I")
_LONGEST_RUBBISH = 1 << 16
"""Bytes without a delimiter after which there is no point in waiting for one."""


@dataclass(frozen=True)
class Frame:
    """One frame. `seq` is modulo 2^16."""

    type: int
    seq: int
    payload: bytes


def encode_frame(frame: Frame) -> bytes:
    """Bytes of a frame on the line, delimiter included."""
    body = _HEADER.pack(frame.type, frame.seq) + frame.payload
    return bytes(cobs.encode(body + _CRC.pack(zlib.crc32(body)))) + _DELIMITER


def encoded_size(payload_bytes: int) -> int:
    """The most bytes that a frame with such a payload takes on the line."""
    decoded = payload_bytes + FRAME_OVERHEAD
    return decoded + decoded // 254 + 2


def decode_frame(chunk: bytes) -> Frame | None:
    """The frame that stood between two delimiters; None when it is none or is damaged."""
    try:
        decoded = cobs.decode(chunk)
    except cobs.DecodeError:
        return None
    if len(decoded) < FRAME_OVERHEAD:
        return None
    body = decoded[: -_CRC.size]
    if _CRC.unpack(decoded[-_CRC.size :])[0] != zlib.crc32(body):
        return None
    kind, seq = _HEADER.unpack_from(body)
    return Frame(kind, seq, body[_HEADER.size :])


class Deframer:
    """Finds the frames in a stream of bytes; lines of text between them (boot messages) go to `on_text`."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self.bad_frames = 0
        self._on_text = on_text
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that these bytes complete."""
        *chunks, self._rest = (self._rest + data).split(_DELIMITER)
        for chunk in filter(None, chunks):
            frame = self._decode(chunk)
            if frame is not None:
                yield frame
        if len(self._rest) > _LONGEST_RUBBISH:
            self.flush()

    def flush(self) -> None:
        """Give up waiting for the delimiter of what has arrived."""
        rest, self._rest = self._rest, b""
        if rest:
            self._reject(rest)

    def _decode(self, chunk: bytes) -> Frame | None:
        frame = decode_frame(chunk)
        if frame is None:
            # A board prints text without a delimiter: a frame may follow the text's last line.
            for end in _line_ends(chunk):
                frame = decode_frame(chunk[end:])
                if frame is not None:
                    self._print(chunk[:end])
                    return frame
            self._reject(chunk)
        return frame

    def _reject(self, chunk: bytes) -> None:
        if _printable_bytes(chunk) == len(chunk):
            self._print(chunk)
        else:
            self.bad_frames += 1

    def _print(self, chunk: bytes) -> None:
        for line in chunk.decode("ascii").splitlines():
            if line.strip():
                self._on_text(line)


def _printable_bytes(chunk: bytes) -> int:
    """Length of the printable ASCII text at the beginning."""
    for position, byte in enumerate(chunk):
        if not (0x20 <= byte < 0x7F or byte in b"\t\r\n"):
            return position
    return len(chunk)


def _line_ends(chunk: bytes) -> Iterator[int]:
    """Positions behind the line ends in the text at the beginning, the last one first."""
    end = chunk.rfind(b"\n", 0, _printable_bytes(chunk))
    while end >= 0:
        yield end + 1
        end = chunk.rfind(b"\n", 0, end)

"""What a frame carries: values in an order, packed without gaps; the host's side of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from fieldtune.errors import LinkError

_SCALARS = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "f32": "f"}
_TAILS = {"bytes": 1, "text": 1, "f32[]": 4}


@dataclass(frozen=True)
class Field:
    """One value in a payload.

    `type` is u8, u16, u32, u64, f32, or an array of fixed length such as ``u16[3]``; the last field of a
    payload may be what is left of it: bytes, text (UTF-8), f32[].
    """

    name: str
    type: str
    meaning: str

    @property
    def is_tail(self) -> bool:
        """Whether the field takes what is left of the payload."""
        return self.type in _TAILS

    @property
    def format(self) -> str:
        """Format for `struct`, without byte order."""
        base, _, length = self.type.partition("[")
        return length.rstrip("]") + _SCALARS[base]

    @property
    def size(self) -> int:
        """Size in bytes; 0 for a tail."""
        return 0 if self.is_tail else struct.calcsize("<" + self.format)


@dataclass(frozen=True)
class Payload:
    """The fields of one direction of a message, packed without gaps, little endian."""

    fields: tuple[Field, ...] = ()

    @property
    def fixed_size(self) -> int:
        """Bytes of all fields but the tail."""
        return sum(field.size for field in self.fields)

    @property
    def has_tail(self) -> bool:
        """Whether the payload's length varies."""
        return bool(self.fields) and self.fields[-1].is_tail

    def offsets(self) -> Iterator[tuple[Field, int]]:
        """Every field with its offset in the payload."""
        offset = 0
        for field in self.fields:
            yield field, offset
            offset += field.size

    def pack(self, **values: Any) -> bytes:
        """Payload with these values, one a field.

        Raises `struct.error` or `KeyError` when a value is missing or out of range: the caller's defect.
        """
        return b"".join(_pack_field(field, values[field.name]) for field in self.fields)

    def unpack(self, payload: bytes) -> dict[str, Any]:
        """Values by field name; an array becomes a tuple, text a str.

        Raises LinkError when the length is impossible.
        """
        tail = len(payload) - self.fixed_size
        unit = _TAILS[self.fields[-1].type] if self.has_tail else 0
        if tail < 0 or (tail % unit if unit else tail):
            raise LinkError(
                f"The board sent a payload of {len(payload)} bytes where {self.fixed_size} were due; "
                "build and flash its firmware anew with this version of Fieldtune."
            )
        return {field.name: _unpack_field(field, payload, offset) for field, offset in self.offsets()}


NOTHING: Final = Payload()


def _pack_field(field: Field, value: Any) -> bytes:
    if field.type == "bytes":
        return bytes(value)
    if field.type == "text":
        return str(value).encode()
    if field.type == "f32[]":
        return struct.pack(f"<{len(value)}f", *value)
    return struct.pack("<" + field.format, *(value if "[" in field.type else (value,)))


def _unpack_field(field: Field, payload: bytes, offset: int) -> Any:
    if field.type == "bytes":
        return payload[offset:]
    if field.type == "text":
        text = payload[offset:].decode(errors="replace")
        # It may end on a terminal: no control characters.
        return "".join(character if character.isprintable() else "\ufffd" for character in text)
    if field.type == "f32[]":
        return struct.unpack(f"<{(len(payload) - offset) // 4}f", payload[offset:])
    values = struct.unpack_from("<" + field.format, payload, offset)
    return values if "[" in field.type else values[0]

"""The format of a stored set, written once more after `runtime/link/store.h`: the C is held against it."""

import struct
import zlib

MAGIC = int.from_bytes(b"FTW1", "little")
HEADER_BYTES = 40


def zeros(data: bytes) -> int:
    return sum(8 - byte.bit_count() for byte in data)


def header(
    payload: bytes, model_hash: int, plan_hash: int, sequence: int = 1, step: int = 0, missing_zeros: int = 0
) -> bytes:
    """Return a header for `payload`; `missing_zeros` makes its count of 0 bits wrong, and its CRC right."""
    facts = (MAGIC, sequence, model_hash, plan_hash, step, len(payload), zlib.crc32(payload), zeros(payload))
    start = struct.pack("<8I", *facts)
    counted = start + struct.pack("<I", zeros(start) + missing_zeros)
    return counted + struct.pack("<I", zlib.crc32(counted))


def slot(head: bytes, payload: bytes, unit: int, size: int) -> bytes:
    """Return the bytes of a whole slot."""
    padded = head.ljust(-(-len(head) // unit) * unit, b"\xff")
    return (padded + payload).ljust(size, b"\xff")

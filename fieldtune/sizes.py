"""Byte sizes, where K means 1024, and times as users write and read them."""

import re

from fieldtune.errors import UserError

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def parse_size(text: str) -> int:
    """Return the number of bytes in ``256K``, ``1.5M``, ``131072`` or ``256KiB``.

    Raises:
        UserError: `text` is not a size.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if match is None:
        raise UserError(f"'{text}' is not a size; write bytes or a number with K, M or G, such as 256K")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def format_size(count: int) -> str:
    """Return `count` bytes as a person reads it: ``131,072 B (128.0 K)``."""
    if count < 1024:
        return f"{count} B"
    unit = "K" if count < 1024**2 else "M"
    return f"{count:,} B ({count / _UNITS[unit]:.1f} {unit})"

"""Durations as users write and read them."""

import math
import re

from fieldtune.errors import UserError

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def parse_duration(text: str) -> float:
    """Return the seconds in ``400ms``, ``0.4s`` or ``250us``.

    Raises:
        UserError: `text` is not a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|ms|us)\s*", text)
    if match is None:
        raise UserError(f"'{text}' is not a duration; write a number with s, ms or us, such as 400ms")
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """Return `seconds` rounded up, so that it is long enough, as `parse_duration` reads it: ``400ms``."""
    if seconds < 1e-3:
        return f"{math.ceil(seconds * 1e6)}us"
    return f"{math.ceil(seconds * 1e3)}ms"

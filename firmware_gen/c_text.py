"""Literals and layout of the generated C."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

C_TYPES = {
    "f32": "float",
    "u8": "uint8_t",
    "i8": "int8_t",
    "i32": "int32_t",
    "bits": "uint8_t",
    "bf16": "uint16_t",
    "i16": "int16_t",
}


def c_float(value: float) -> str:
    """Return the single-precision literal that reads back as exactly these bits."""
    single = np.float32(value)
    if not np.isfinite(single):
        return "-__builtin_inff()" if single < 0 else "__builtin_inff()"
    short = f"{single!s}"
    return f"{short if '.' in short or 'e' in short else short + '.0'}f"


def c_name(name: str) -> str:
    """Return `name` as the part of a C identifier that follows a prefix."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")


def c_string(text: str) -> str:
    """Return the string literal of `text` in UTF-8, whatever is in it."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{plain}"'


class Names:
    """C identifiers for names of the model, one for each: a.b and a_b must not become the same array."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        """Return the identifier of `name`; the same one every time."""
        if name not in self._known:
            base = identifier = c_name(name)
            count = 1
            while identifier in self._known.values():
                count += 1
                identifier = f"{base}_{count}"
            self._known[name] = identifier
        return self._known[name]


def c_initializers(values: np.ndarray) -> Iterator[str]:
    """Yield lines of an initializer list of floats or integers."""
    flat = values.ravel()
    a_line = 8 if values.dtype == np.float32 else 16
    for start in range(0, flat.size, a_line):
        yield "    " + " ".join(f"{_literal(value)}," for value in flat[start : start + a_line]) + "\n"


def _literal(value: np.generic) -> str:
    if isinstance(value, np.floating):
        return c_float(float(value))
    # C has no literal for the lowest int32: -2147483648 is a negated long.
    return "(-2147483647 - 1)" if value == -(1 << 31) else str(value)

"""A table of a TOML file, read strictly: a slip is found, and named with file and key."""

import difflib
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from fieldtune.errors import BoardError

T = TypeVar("T")


class StrictTable:
    """One table of a description; what is not taken from it by the time of `finish` is unknown.

    What reads a key raises a BoardError where it is missing or its value is of another kind.
    """

    def __init__(self, content: dict[str, Any], file: str, prefix: str) -> None:
        """Read `content` of `file`; `prefix` is what messages put before its keys, such as ``store.``."""
        self._content = dict(content)
        self._known: list[str] = []
        self._file = file
        self._prefix = prefix

    def error(self, key: str, problem: str) -> BoardError:
        """Return the error of a key."""
        return BoardError(f"{self._file}: '{self._prefix}{key}' {problem}")

    def _take(self, key: str, required: bool) -> Any:
        self._known.append(key)
        if required and key not in self._content:
            raise self.error(key, "is missing")
        return self._content.pop(key, None)

    def text(self, key: str) -> str:
        """Take a string."""
        value = self._take(key, required=True)
        if not isinstance(value, str):
            raise self.error(key, f"must be a string, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of strings."""
        value = self._take(key, required=True)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, f"must be a list of strings, not {value!r}")
        return tuple(value)

    def number(self, key: str, least: int = 0, most: int | None = None) -> int:
        """Take a whole number within limits."""
        value = self._take(key, required=True)
        if type(value) is not int or value < least or (most is not None and value > most):
            limits = f"{least} or more" if most is None else f"{least} to {most}"
            raise self.error(key, f"must be a whole number, {limits}, not {value!r}")
        return value

    def positive(self, key: str) -> float:
        """Take a number above 0."""
        value = self._take(key, required=True)
        if type(value) not in (int, float) or value <= 0:
            raise self.error(key, f"must be a number above 0, not {value!r}")
        return float(value)

    def flag(self, key: str) -> bool:
        """Take true or false; false where the key is missing."""
        value = self._take(key, required=False)
        if not isinstance(value, bool | None):
            raise self.error(key, f"must be true or false, not {value!r}")
        return bool(value)

    def choice(self, key: str, kind: Any) -> Any:
        """Take a string that the Literal `kind` allows."""
        return self._checked_choice(key, self._take(key, required=True), kind)

    def choices(self, key: str, kind: Any) -> tuple[Any, ...]:
        """Take a list of strings that the Literal `kind` allows."""
        return tuple(self._checked_choice(key, value, kind) for value in self.texts(key))

    def _checked_choice(self, key: str, value: Any, kind: Any) -> Any:
        allowed = get_args(kind)
        if value not in allowed:
            raise self.error(key, f"must be {_either(allowed)}, not {value!r}")
        return value

    def optional(self, key: str, read: Callable[[str], T]) -> T | None:
        """Return what `read` makes of a key, None where it is missing."""
        self._known.append(key)
        return read(key) if key in self._content else None

    def table(self, key: str) -> "StrictTable":
        """Take a table."""
        value = self._take(key, required=True)
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table ([{self._prefix}{key}]), not {value!r}")
        return StrictTable(value, self._file, f"{self._prefix}{key}.")

    def entries(self) -> list[str]:
        """Return the keys that nobody has taken yet."""
        return list(self._content)

    def finish(self) -> None:
        """Refuse what nobody has taken."""
        for key in self._content:
            hint = closest(key, self._known)
            raise self.error(
                key, f"is not a key of a board description{hint}; allowed: {', '.join(self._known)}"
            )


def closest(word: str, known: list[str]) -> str:
    """Return a hint at the known words that are most like `word`; empty where none is."""
    close = difflib.get_close_matches(word, known, n=2)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def _either(allowed: tuple[str, ...]) -> str:
    quoted = [f'"{value}"' for value in allowed]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"

"""What a person sees: log lines and progress bars on stderr. Data goes to stdout and is not handled here."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

_verbosity = 0


def set_verbosity(level: int) -> None:
    """Set how much is said: -1 errors only, 0 results and steps, 1 and more details."""
    global _verbosity
    _verbosity = level


def say(text: str) -> None:
    """Print one line of log unless the user asked for quiet."""
    if _verbosity >= 0:
        print(text, file=sys.stderr, flush=True)


def detail(text: str) -> None:
    """Print one line that only ``-v`` shows."""
    if _verbosity >= 1:
        print(text, file=sys.stderr, flush=True)


def progress(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and show a bar named `what` on a terminal (nothing elsewhere, nothing when quiet)."""
    if _verbosity < 0 or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description=what, total=total, console=Console(stderr=True), transient=True)

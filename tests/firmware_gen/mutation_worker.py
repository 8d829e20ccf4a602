"""Imports and plans the model files that are named on stdin, within limits, and says what came of each.

A line a file: "fine", "refused: ..." (the user is told in one sentence), or what must not happen: the name of
an exception and where it came from.
"""

import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import FrameType

import onnx.checker  # noqa: F401  what importers load when they run belongs to the baseline
import tflite  # noqa: F401

from boards import load_board
from fieldtune.errors import UserError
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import UpdatePlan

SECONDS = 5
EXTRA_BYTES = 1 << 30


class Hang(BaseException):
    """Takes too long."""


def main() -> None:
    warnings.simplefilter("ignore")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, _too_long)
    board = load_board("native")
    for line in sys.stdin:
        signal.alarm(SECONDS)
        try:
            plan_network(load_network(Path(line.rstrip("\n"))), board, UpdatePlan(()))
            answer = "fine"
        except UserError as error:
            answer = f"refused: {error}"
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            answer = f"{type(error).__name__} ({error}) at {Path(where.filename).name}:{where.lineno}"
        signal.alarm(0)
        print(answer.replace("\n", "\\n"), flush=True)


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"more than {SECONDS} s")


if __name__ == "__main__":
    main()

"""Learning rates that change from update to update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Self

from fieldtune.errors import UserError

Shape = Literal["constant", "linear", "cosine", "step"]


@dataclass(frozen=True)
class Schedule:
    """What the learning rate is multiplied with; it depends on nothing but the number of the update.

    After `warmup` updates, in which it rises in equal steps, it stays (constant), falls to 0 along a line or
    half a cosine, or is multiplied by `factor` after every `every` updates (step).
    """

    shape: Shape = "constant"
    warmup: int = 0  # updates
    every: int = 1  # updates
    factor: float = 1.0

    @classmethod
    def parse(cls, text: str, warmup: int = 0) -> Self:
        """Return the schedule that `text` names: constant, linear, cosine, or step:EVERY:FACTOR.

        Raises:
            UserError: it names none.
        """
        match text.split(":"):
            case ["constant" | "linear" | "cosine" as shape]:
                return cls(shape, warmup)
            case ["step", every, factor]:
                try:
                    found = cls("step", warmup, int(every), float(factor))
                except ValueError:
                    pass
                else:
                    if found.every > 0 and 0 < found.factor <= 1:
                        return found
        raise UserError(
            f"--schedule is '{text}'; give constant, linear, cosine, or step:EVERY:FACTOR with a whole "
            "number of updates and a factor up to 1, such as step:100:0.5"
        )

    def __str__(self) -> str:
        """Return what :meth:`parse` reads."""
        return f"step:{self.every}:{self.factor}" if self.shape == "step" else self.shape

    def scale(self, update: int, updates: int) -> float:
        """Return the factor of update number `update`, counted from 0, of `updates`."""
        if update < self.warmup:
            return (update + 1) / self.warmup
        done = update - self.warmup
        share = done / (updates - self.warmup)
        match self.shape:
            case "constant":
                return 1.0
            case "linear":
                return 1 - share
            case "cosine":
                return (1 + math.cos(math.pi * share)) / 2
            case "step":
                return self.factor ** (done // self.every)

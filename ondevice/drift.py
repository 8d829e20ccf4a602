"""How far what the camera sees is from what was learned from: the board's measure (runtime/field/drift.h)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = 4
SMOOTHING = np.float32(0.125)


class Drift:
    """The same bits as the board's.

    Attributes:
        drift: of the pictures seen last, smoothed; about 1 where they are of the kind that was learned from.
    """

    def __init__(self) -> None:
        """Nothing was learned from yet."""
        self._mean = np.zeros(GRID * GRID * 3, np.float32)
        self._squares = np.zeros(GRID * GRID * 3, np.float32)
        self._count = 0
        self.drift = np.float32(0)

    def see(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Update the drift by a picture (height, width, 3) of the network's size; return its description."""
        features = describe(picture)
        if self._count:
            differences = features - self._mean
            terms = differences * differences / (self._squares / np.float32(self._count) + np.float32(1))
            distance = np.add.accumulate(terms)[-1] / np.float32(terms.size)  # one after another, as in C
            self.drift = np.float32(self.drift + SMOOTHING * (distance - self.drift))
        return features

    def learn(self, features: NDArray[np.float32]) -> None:
        """Add a picture, as described by :meth:`see`, to those that are learned from."""
        self._count += 1
        before = features - self._mean
        self._mean = self._mean + before / np.float32(self._count)
        self._squares = self._squares + before * (features - self._mean)


def describe(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the means of a grid of cells, (48,): row by row, column by column, channel by channel."""
    rows = [picture.shape[0] * k // GRID for k in range(GRID + 1)]
    columns = [picture.shape[1] * k // GRID for k in range(GRID + 1)]
    cells = [
        picture[rows[y] : rows[y + 1], columns[x] : columns[x + 1]] for y in range(GRID) for x in range(GRID)
    ]
    means = [cell.sum((0, 1), np.uint32).astype(np.float32) / np.float32(cell.size // 3) for cell in cells]
    return np.concatenate(means)

"""An estimate: a value with bounds, which never goes without the word and without its source."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Estimate:
    """`value` with `low` <= value <= `high`, in `unit`; `source` is what it was worked out from."""

    value: float
    low: float
    high: float
    unit: str
    source: str

    def __str__(self) -> str:
        return (
            f"{_short(self.value)} {self.unit} ({_short(self.low)} – {_short(self.high)}; "
            f"estimate: {self.source})"
        )

    def __add__(self, other: Estimate) -> Estimate:
        """Return the sum, whose bounds are the sums of bounds: errors of one model do not cancel.

        Raises:
            ValueError: the units differ.
        """
        if other.unit != self.unit:
            raise ValueError(f"{self.unit} and {other.unit} cannot be added")
        sources = self.source if other.source in self.source else f"{self.source}; {other.source}"
        return Estimate(
            self.value + other.value, self.low + other.low, self.high + other.high, self.unit, sources
        )

    def scaled(self, factor: float, unit: str) -> Estimate:
        """Return the estimate in another unit."""
        return replace(
            self, value=self.value * factor, low=self.low * factor, high=self.high * factor, unit=unit
        )


def _short(value: float) -> str:
    """Return the number with four digits, in millions where it is as large."""
    return f"{value / 1e6:.4g} M" if abs(value) >= 1e6 else f"{value:.4g}"

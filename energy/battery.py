"""How long a battery lasts with a board that infers all the time and tunes once a day."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldtune.errors import UserError

DAY = 86_400.0
MONTH = 365.25 / 12 * DAY


@dataclass(frozen=True)
class Sensor:
    """Something beside the board: its power, and the share of the time in which it is on."""

    name: str
    mw: float
    share: float


@dataclass(frozen=True)
class Duty:
    """What happens in a day. Energies are gross: the board's idle power while it works is in them.

    `infer_s` and `step_s` are durations of one inference and one training step; the board sleeps in the rest
    of the time.
    """

    infer_hz: float
    infer_uj: float
    infer_s: float
    steps_a_day: float
    step_uj: float
    step_s: float
    sleep_ua: float
    sensors: Sequence[Sensor] = ()


@dataclass(frozen=True)
class Battery:
    """A battery: rated charge, mean voltage, the share of it that can be used, and its own loss."""

    mah: float
    volts: float
    usable: float
    self_discharge_percent_a_month: float

    @property
    def joules(self) -> float:
        """All that it is rated for."""
        return self.mah * 3.6 * self.volts


@dataclass(frozen=True)
class Life:
    """How long it lasts, and the joules a day of each consumer."""

    days: float
    usable_joules: float
    joules_a_day: Mapping[str, float]

    def describe(self) -> dict[str, Any]:
        """Return what ``battery --json`` prints; the keys are stable."""
        whole = sum(self.joules_a_day.values())
        return {
            "days": self.days,
            "usable_j": self.usable_joules,
            "j_a_day": whole,
            "shares": [
                {"what": name, "j_a_day": joules, "share": joules / whole}
                for name, joules in self.joules_a_day.items()
            ],
        }


def battery_life(duty: Duty, battery: Battery) -> Life:
    """Return how long `battery` lasts:

        days      = usable / (inference + training + sleep + sensors + self-discharge)
        usable    = mAh * 3.6 * volts * usable share
        inference = infer_hz * 86,400 s * infer_uj * 1e-6
        training  = steps a day * step_uj * 1e-6
        sleep     = sleep_ua * 1e-6 * volts * (86,400 s - time of inference and training)
        sensor    = mW * 1e-3 * share of the time * 86,400 s
        self-discharge = mAh * 3.6 * volts * percent a month / 100 / days of a month (30.44)

    all in joules a day. The current that sleeps flows at the battery's voltage, as behind a linear regulator.

    Raises:
        UserError: the day is too short for the work, or nothing is consumed.
    """
    infer_s = duty.infer_hz * DAY * duty.infer_s
    step_s = duty.steps_a_day * duty.step_s
    if infer_s + step_s > DAY:
        raise UserError(
            f"inference and training would take {(infer_s + step_s) / 3600:.1f} hours a day; infer or tune "
            "less often"
        )
    joules = {
        "inference": duty.infer_hz * DAY * duty.infer_uj * 1e-6,
        "training": duty.steps_a_day * duty.step_uj * 1e-6,
        "sleep": duty.sleep_ua * 1e-6 * battery.volts * (DAY - infer_s - step_s),
        **{sensor.name: sensor.mw * 1e-3 * sensor.share * DAY for sensor in duty.sensors},
        "self-discharge": battery.joules * battery.self_discharge_percent_a_month / 100 * DAY / MONTH,
    }
    usable, whole = battery.joules * battery.usable, sum(joules.values())
    if not whole > 0 or not math.isfinite(whole):
        raise UserError("nothing draws from the battery; give at least one energy, current or sensor")
    return Life(usable / whole, usable, joules)

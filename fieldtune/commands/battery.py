"""``fieldtune battery``: how long one lasts for a duty cycle."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.commands import options
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from energy.battery import Sensor

NAME = "battery"
HELP = "tell how long a battery lasts for a duty cycle"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune battery``."""
    parser.add_argument("--mah", type=options.above_zero, required=True, help="rated charge of the battery")
    parser.add_argument("--volts", type=options.above_zero, required=True, help="mean voltage of the battery")
    parser.add_argument(
        "--usable", type=_share, default=1.0, help="share of the charge that can be used (default 1: all)"
    )
    parser.add_argument(
        "--self-discharge",
        type=options.not_negative,
        default=0.0,
        metavar="PERCENT",
        help="of the rated charge a month (default 0)",
    )
    work = parser.add_argument_group(
        "the work (µJ, or the file that 'energy --json' or 'profile --json' printed)"
    )
    work.add_argument("--infer-hz", type=options.not_negative, default=0.0, help="inferences a second")
    work.add_argument("--infer", metavar="µJ|FILE", default="0", help="of one inference")
    work.add_argument("--steps-a-day", type=options.not_negative, default=0.0, help="training steps a day")
    work.add_argument("--step", metavar="µJ|FILE", default="0", help="of one training step")
    work.add_argument("--sleep-ua", type=options.not_negative, default=0.0, help="current while nothing runs")
    work.add_argument(
        "--sensor",
        action="append",
        default=[],
        metavar="NAME=MW[:SHARE]",
        help="power while on, and the share of the time in which it is (default 1); may be repeated",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compute and print."""
    from energy.battery import Battery, Duty, battery_life

    infer, step = _work(args.infer), _work(args.step)
    duty = Duty(
        args.infer_hz,
        infer["energy_uj"],
        infer["seconds"],
        args.steps_a_day,
        step["energy_uj"],
        step["seconds"],
        args.sleep_ua,
        [_sensor(text) for text in args.sensor],
    )
    life = battery_life(duty, Battery(args.mah, args.volts, args.usable, args.self_discharge))
    sources = {name: work["source"] for name, work in (("inference", infer), ("training", step))}
    if args.json:
        print(json.dumps(life.describe() | {"sources": sources}, indent=1))
        return 0
    described = life.describe()
    print(f"{life.days:,.1f} days from {life.usable_joules:,.0f} J, {described['j_a_day']:,.3f} J a day:")
    for part in described["shares"]:
        source = f"  ({sources[part['what']]})" if part["what"] in sources and part["j_a_day"] else ""
        print(f"  {part['what']:<16} {part['j_a_day']:>14,.3f} J  {part['share']:6.1%}{source}")
    return 0


def _work(text: str) -> dict[str, Any]:
    """Return energy, duration (0 where not known) and source of one inference or step."""
    try:
        value = options.not_negative(text)
    except ValueError:
        pass
    except argparse.ArgumentTypeError as error:
        raise UserError(f"an energy of {text} µJ cannot be; give a number from 0 up") from error
    else:
        return {"energy_uj": value, "seconds": 0.0, "source": "as given"}
    try:
        read = json.loads(Path(text).read_text())
        return {
            "energy_uj": float(read["energy_uj"]),
            "seconds": float(read.get("seconds", 0.0)),
            "source": str(read["energy_source"]),
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{text} tells no energy; give microjoules, or a file that 'fieldtune energy --json' printed"
        ) from error


def _sensor(text: str) -> Sensor:
    from energy.battery import Sensor

    match = re.fullmatch(r"([^=]+)=(\d+(?:\.\d+)?)(?::(\d+(?:\.\d+)?))?", text)
    if match is None or float(match[3] or 1) > 1:
        raise UserError(
            f"--sensor cannot read '{text}'; write NAME=MW or NAME=MW:SHARE, such as tof=313:0.05"
        )
    return Sensor(match[1], float(match[2]), float(match[3] or 1))


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share above 0 and up to 1")
    return value

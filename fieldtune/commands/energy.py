"""``fieldtune energy TRACE...``: what a repetition took, by an instrument's trace."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldtune.commands import options
from fieldtune.durations import parse_duration
from fieldtune.errors import UserError

if TYPE_CHECKING:
    from energy.gates import Run
    from energy.measure import Measured
    from energy.provenance import Provenance

NAME = "energy"
HELP = "measure energy by the trace of an instrument"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune energy``."""
    parser.add_argument(
        "traces",
        type=Path,
        nargs="+",
        metavar="TRACE",
        help=".ppk2 or .jls file, log of an LPM01A, or a table (CSV) with a header",
    )
    parser.add_argument("--volts", type=options.above_zero, help="supply, where the trace has none")
    parser.add_argument(
        "--columns", metavar="KIND=NAME:UNIT,...", help="of a table, as in time=t:ms,current=i:uA"
    )
    gate = parser.add_argument_group("when the work ran")
    gate.add_argument("--gpio", metavar="CHANNEL", help="digital channel that marks it, such as D0")
    gate.add_argument(
        "--mark",
        choices=("low", "pulses"),
        default="low",
        help="low (default): it ran while the channel was low; pulses: from one fall to the next",
    )
    gate.add_argument(
        "--debounce", metavar="DURATION", default="50us", help="shorter levels are noise (default 50us)"
    )
    gate.add_argument("--stamps", type=Path, metavar="FILE.csv", help="start,stop,repetitions in seconds")
    gate.add_argument(
        "--repetitions", type=options.positive, default=1, help="of the work in a run (default 1)"
    )
    gate.add_argument(
        "--phase",
        action="append",
        default=[],
        metavar="NAME=CHANNEL",
        help="a channel that is low during a phase; may be repeated",
    )
    parser.add_argument("--idle-mw", type=options.not_negative, help="idle power (default: beside the runs)")
    parser.add_argument(
        "--profile",
        type=Path,
        metavar="FILE.json",
        help="what 'profile --json' printed: shares the energy among layers, as an estimate",
    )
    options.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Read, gate, integrate, print."""
    from energy.measure import measure
    from energy.provenance import joined
    from energy.share import shared_by_counts

    debounce = parse_duration(args.debounce)
    phases = dict(_phase(text) for text in args.phase)
    found = measure(_runs(args, debounce), phases=phases, debounce=debounce, idle_mw=args.idle_mw)
    described = found.describe()
    if args.profile is not None:
        shared = shared_by_counts(found.energy_uj, args.profile)
        # What has a channel of its own was measured.
        described = shared | described | {"phases": described.get("phases", shared["phases"])}
    firmware = joined(args.profile, args.stamps)
    described["firmware"] = None if firmware is None else firmware.describe()
    if args.json:
        print(json.dumps(described, indent=1))
    else:
        _print(found, described, firmware)
    return 0


def _runs(args: argparse.Namespace, debounce: float) -> list[Run]:
    from energy.gates import gated, stamped
    from energy.trace import open_trace

    if args.stamps is not None and (args.gpio or args.mark != "low" or args.repetitions != 1):
        raise UserError(
            "--stamps tells when the work ran and how often; leave out --gpio, --mark, --repetitions"
        )
    runs = []
    for path in args.traces:
        trace = open_trace(path, args.volts, args.columns)
        if args.stamps is not None:
            runs += stamped(trace, args.stamps)
        else:
            runs += gated(trace, args.gpio, args.mark == "pulses", debounce, args.repetitions)
    return runs


def _phase(text: str) -> tuple[str, str]:
    name, _, channel = text.partition("=")
    if not name or not channel:
        raise UserError(f"--phase cannot read '{text}'; write NAME=CHANNEL, such as backward=D1")
    return name, channel


def _print(found: Measured, described: dict[str, Any], firmware: Provenance | None) -> None:
    print(f"one of {described['n']} repetitions, {described['energy_source']}")
    of, made_with = ("unknown", "unknown") if firmware is None else firmware.lines
    lines = [
        ("firmware", of),
        ("made with", made_with),
        ("energy", f"{_uj(found.energy_uj)}, median of {len(found.windows)} windows"),
        (
            "net of idle",
            "unknown: the traces hold no second without work" if found.net_uj is None else _uj(found.net_uj),
        ),
        ("idle", "unknown" if found.idle_mw is None else f"{found.idle_mw:.3f} mW"),
        ("time", f"{found.seconds * 1e3:.3f} ms"),
        ("supply", f"{found.volts:.3f} V"),
        ("current", f"{found.mean_ma:.3f} mA (median {found.p50_ma:.3f}, 95 % below {found.p95_ma:.3f})"),
        ("sampled at", f"{', '.join(f'{rate:,.0f}' for rate in described['sample_rate_hz'])} Hz"),
        ("dropped", f"{found.dropped_percent:.3f} % of the samples"),
    ]
    for name, says in lines:
        print(f"  {name:<12} {says}")
    print(f"  {'window':<12} {'seconds':>8} {'repetitions':>12} {'µJ':>14} {'dropped':>9}")
    for number, window in enumerate(described["windows"], 1):
        print(
            f"  {number:<12} {window['seconds']:>8.2f} {window['repetitions']:>12} "
            f"{window['energy_uj']:>14.3f} {window['dropped_percent']:>7.3f} %"
        )
    for phase in described.get("phases", []):
        print(f"  {phase['phase']:<12} {_uj(phase['energy_uj'])}{_how(phase)}")
    for layer in described.get("layers", []):
        print(f"  {layer['name']:<24} {layer['phase']:<9} {_uj(layer['energy_uj'])}{_how(layer)}")


def _uj(value: float) -> str:
    return f"{value:,.3f} µJ"


def _how(part: dict[str, Any]) -> str:
    return " (estimate, by counts)" if part["estimated"] else ""

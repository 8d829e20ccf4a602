"""``fieldtune report SESSION_DIR``: a session's files become one HTML page."""

import argparse
from pathlib import Path

from fieldtune.console import say

NAME = "report"
HELP = "draw the HTML report of a tuning session"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``fieldtune report``."""
    parser.add_argument(
        "session", type=Path, metavar="SESSION_DIR", help="the folder that 'fieldtune tune -o' wrote"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="where to write (default: SESSION_DIR/report.html)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report and say where it is."""
    from ondevice.report import write_report

    say(f"wrote {write_report(args.session, args.out)}")
    return 0

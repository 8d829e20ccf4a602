"""The command ``fieldtune``: one file a subcommand in fieldtune/commands/."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from typing import NoReturn

from fieldtune import __version__
from fieldtune.console import set_verbosity
from fieldtune.errors import FieldtuneError

COMMANDS = (
    "boards",
    "export",
    "prune",
    "search",
    "quantize",
    "inspect",
    "plan",
    "build",
    "flash",
    "verify",
    "profile",
    "energy",
    "battery",
    "tune",
    "merge",
    "weights",
    "collect",
    "alone",
    "report",
    "demo",
    "doctor",
)


def main(arguments: list[str] | None = None) -> int:
    """Run one subcommand; return the exit code: 0 done, 2 the user's mistake, 1 ours."""
    args = _parser().parse_args(arguments)
    set_verbosity(-1 if args.quiet else args.verbose)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader of our output has seen enough; what is left must not fail when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if args.debug:
            traceback.print_exc()
        message, code = _explain(error)
        print(f"fieldtune: {message}", file=sys.stderr)
        return code


def _explain(error: BaseException) -> tuple[str, int]:
    """Return the sentence for the user and the exit code."""
    if isinstance(error, FieldtuneError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped by Ctrl-C", 2
    if isinstance(error, OSError) and error.strerror:
        return f"cannot use {error.filename or 'a file'}: {error.strerror}", 2
    what = f"{type(error).__name__}: {error}"
    return f"a defect of fieldtune ({what}); run again with --debug and report it", 1


class _Parser(argparse.ArgumentParser):
    """Answers a wrong option with one sentence, as every other mistake."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; {self.prog} --help tells what there is\n")


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    shared.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    shared.add_argument("-q", "--quiet", action="store_true", help="say only what is wrong")
    shared.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser(
        prog="fieldtune",
        description="Tiny networks that go on learning on the microcontroller.",
        epilog="fieldtune COMMAND --help tells the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"fieldtune {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"fieldtune.commands.{name}")
        command = commands.add_parser(
            module.NAME,
            help=module.HELP,
            description=module.HELP[0].upper() + module.HELP[1:] + ".",
            parents=[shared],
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())

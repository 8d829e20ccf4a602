"""Is everything there that a board needs? Programs, what is connected, and the right to use it."""

import grp
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from boards.board import Board
from boards.flashing import Runner
from boards.usb import (
    UsbDevice,
    devices_of,
    group_command,
    has_rule,
    is_accessible,
    port_problem,
    rule_command,
)

ANSWER_SECONDS = 20.0  # a Python tool that starts for the first time compiles itself

Group = Literal["python", "compiler", "emulator", "flash tool", "connected", "udev rule", "group"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was `found`, and what mends it if it is not `ok`.

    `needed` by the chosen board (by everyone, if none was chosen); `boards` are those that it is for.
    """

    group: Group
    name: str
    ok: bool
    needed: bool
    found: str
    mend: str | None = None
    boards: tuple[str, ...] = ()


def program_checks(boards: Iterable[Board], chosen: Board | None) -> list[Check]:
    """Look for compilers, emulators and flash tools of `boards`."""
    boards = list(boards)
    compilers = {
        (f"{board.compiler.prefix}gcc", board.compiler.package): _ids(
            other for other in boards if other.compiler.prefix == board.compiler.prefix
        )
        for board in boards
    }
    emulators = {
        (board.emulator.program, board.emulator.package): _ids(
            other for other in boards if other.emulator and other.emulator.program == board.emulator.program
        )
        for board in boards
        if board.emulator
    }
    # A board without a port gets our C as a component: the vendor's kit brings a compiler.
    built = chosen is not None and bool(chosen.port)
    played = chosen is not None and bool(chosen.emulator) and bool(chosen.runs_in)
    checks = [_program("compiler", *program, ids, built) for program, ids in compilers.items()]
    checks += [_program("emulator", *program, ids, played) for program, ids in emulators.items()]
    return checks + _flash_tools(boards, chosen)


def _ids(boards: Iterable[Board]) -> tuple[str, ...]:
    return tuple(board.id for board in boards)


def _program(group: Group, program: str, package: str | None, boards: tuple[str, ...], needed: bool) -> Check:
    # GCC's --version begins with the number of the package.
    version = _version(program, ("-dumpfullversion",) if group == "compiler" else ("--version",))
    if version is None:
        own = "install the vendor's kit" if group == "compiler" else "build it from its sources"
        mend = f"apt-get install {package}" if package else own
        return Check(group, program, False, needed, "not installed", mend, boards)
    return Check(group, program, True, needed, version, None, boards)


def _flash_tools(boards: list[Board], chosen: Board | None) -> list[Check]:
    """Look for the runners' programs; a chosen board needs one of its own, whichever."""
    runners = {runner.name: runner for board in boards for runner in board.flash_runners}
    checks = []
    for runner in runners.values():
        ids = _ids(board for board in boards if any(one.name == runner.name for one in board.flash_runners))
        checks.append(_flash_tool(runner, ids))
    if chosen is None or chosen.runs_in or any(check.ok for check in checks) or not checks:
        return checks
    first, *others = checks
    needed = Check(first.group, first.name, False, True, first.found, first.mend, first.boards)
    return [needed, *others]


def _flash_tool(runner: Runner, boards: tuple[str, ...]) -> Check:
    version = _version(runner.program, runner.version)
    if version is None:
        return Check("flash tool", runner.name, False, False, "not installed", runner.install, boards)
    if runner.least and _numbers(version) < _numbers(runner.least):
        found = f"{version}, but {runner.least} or later is needed"
        return Check("flash tool", runner.name, False, False, found, runner.install, boards)
    return Check("flash tool", runner.name, True, False, version, None, boards)


def _version(program: str, words: tuple[str, ...]) -> str | None:
    """Return the version that `program` prints, "installed" if it prints none, None if it is not there."""
    path = shutil.which(program)
    if path is None:
        return None
    if not words:
        return "installed"
    try:
        done = subprocess.run(
            [path, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "installed, but it does not start"
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "installed"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def connection_checks(boards: Iterable[Board], chosen: Board | None, devices: list[UsbDevice]) -> list[Check]:
    """Look at the `devices` that may be one of `boards`, at the right to use them, and at their ports."""
    boards = list(boards)
    needed = chosen is not None and not chosen.runs_in
    checks = []
    for device in devices:
        maybe = _ids(board for board in boards if devices_of(board, [device]))
        if maybe or (device.ports and chosen is None):
            checks += [_device(device, maybe, needed), *_ports(device, maybe, needed)]
    if not checks and chosen is not None and chosen.usb is not None and needed:
        mend = f"plug {chosen.name} in (USB id {' or '.join(chosen.usb.ids)})"
        checks.append(Check("connected", chosen.id, False, True, "not connected", mend, (chosen.id,)))
    return [*checks, *_rules(boards), *_groups(needed, checks)]


def _device(device: UsbDevice, boards: tuple[str, ...], needed: bool) -> Check:
    if is_accessible(device):
        return Check("connected", str(device), True, needed, "", None, boards)
    mend = f"{rule_command(device.id)}; then plug it in again"
    return Check("connected", str(device), False, needed, "no permission to use it", mend, boards)


def _ports(device: UsbDevice, boards: tuple[str, ...], needed: bool) -> list[Check]:
    checks = []
    for port in device.ports:
        problem = port_problem(port)
        found, _, mend = (problem or "free").partition("; ")
        checks.append(Check("connected", port, problem is None, needed, found, mend or None, boards))
    return checks


def _rules(boards: list[Board]) -> list[Check]:
    """Look for udev rules of devices that tools open themselves; a serial port needs none."""
    using: dict[tuple[str, ...], list[str]] = {}
    for board in boards:
        overs = {runner.over for runner in board.flash_runners}
        if board.usb is not None and overs & {"probe", "usb"}:
            ids = board.usb.all_ids if "probe" in overs else board.usb.bootloader_ids
            using.setdefault(ids, []).append(board.id)
    checks = []
    for ids, names in using.items():
        without = [usb_id for usb_id in ids if not has_rule(usb_id)]
        found = "there"
        if without:
            found = "none" if len(without) == len(ids) else f"none for {', '.join(without)}"
        mend = rule_command(*without) if without else None
        checks.append(Check("udev rule", ", ".join(ids), not without, False, found, mend, tuple(names)))
    return checks


def _groups(needed: bool, checks: list[Check]) -> list[Check]:
    """Tell whether the user may open serial ports, if no port that is connected shows it already."""
    if any(check.ok and check.name.startswith("/dev/") for check in checks):
        needed = False
    found = []
    for name in ("dialout", "plugdev"):
        try:
            entry = grp.getgrnam(name)
        except KeyError:
            continue
        member = os.geteuid() == 0 or entry.gr_gid in (os.getegid(), *os.getgroups())
        mend = None if member else f"{group_command(name)}, then log in again"
        what = "a member" if member else "not a member"
        found.append(Check("group", name, member, needed and name == "dialout", what, mend))
    return found

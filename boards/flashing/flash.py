"""Flash a board, and wait until it is there again."""

from boards.board import Board
from boards.flashing.runner import Job, Runner
from boards.usb import connected_devices, devices_of, wait_for_port
from fieldtune.console import say
from fieldtune.errors import BoardError


def runner_of(board: Board, name: str | None) -> Runner:
    """Return the board's runner of that name, the first of its description without one.

    Raises:
        BoardError: the board has none, or not this one.
    """
    names = [runner.name for runner in board.flash_runners]
    if not names:
        how = "add a table [flash.RUNNER]"
        if board.runs_in:
            how = "it runs on this computer and needs no flashing"
        elif board.kit:
            how = f"the vendor's kit, {board.kit}, flashes it, as the project's README.md says"
        raise BoardError(f"the description of {board.id} names no flash tool: {how}")
    if name is None:
        return board.flash_runners[0]
    if name not in names:
        raise BoardError(f"{board.id} is not flashed with '{name}'; take one of {', '.join(names)} with -r")
    return board.flash_runners[names.index(name)]


def flash(runner: Runner, job: Job) -> str | None:
    """Flash; return the serial port of a board that was gone from the bus meanwhile.

    Raises:
        BoardError: something is missing, connected wrongly or not allowed, or the board does not come back.
    """
    usb = job.board.usb
    if not job.shell.dry:
        say(f"flashing {job.board.id} with {runner.name}")
    before = [] if job.shell.dry else devices_of(job.board, connected_devices())
    try:
        runner.flash(job)
    except KeyboardInterrupt as error:
        raise BoardError(
            f"stopped by Ctrl-C: {job.board.id} may hold half a firmware; run the same command again"
        ) from error
    if usb is None or not usb.reenumerates or job.shell.dry:
        return None
    # The device's name changes; its serial number does not, unless a boot loader has one of its own.
    serials = [
        device.serial for device in before if device.id in usb.ids and job.dev_id in (None, device.serial)
    ]
    try:
        return wait_for_port(usb.ids, serials[0] if len(serials) == 1 else None)
    except BoardError as error:
        raise BoardError(f"{job.board.id} is flashed, but {error}") from error

"""Sentences for what goes wrong with flash tools: what is wrong, and the command that mends it."""

from typing import TYPE_CHECKING

from boards.usb import UsbDevice, connected_devices, devices_of, is_accessible, rule_command

if TYPE_CHECKING:
    from boards.flashing.runner import Job, Runner


def candidates(job: "Job") -> list[UsbDevice]:
    """Return the connected devices that may be the board or its probe."""
    return devices_of(job.board, connected_devices())


def no_probe(runner: "Runner", job: "Job") -> str:
    """No probe was found, or the user may not use the one that is connected."""
    if any(not is_accessible(device) for device in candidates(job)):
        return no_permission(runner, job)
    wanted = f" with serial number {job.dev_id}" if job.dev_id else ""
    return (
        f"{runner.name} finds no probe{wanted} for {job.board.id}; connect the board's USB socket for "
        f"debugging, then look at: fieldtune doctor"
    )


def several(runner: "Runner", job: "Job") -> str:
    """More than one probe may be meant."""
    listed = "; ".join(str(device) for device in candidates(job))
    how = "choose one with -i SERIAL_NUMBER" if runner.can.dev_id else "leave only one connected"
    return f"more than one device may be {job.board.id}; {how}{f': {listed}' if listed else ''}"


def no_permission(runner: "Runner", job: "Job") -> str:
    """The system does not let the user open the probe."""
    usb = job.board.usb
    closed = [device.id for device in candidates(job) if not is_accessible(device)]
    if not closed and usb is None:
        return f"no permission to use the probe of {job.board.id}; install udev rules for it"
    usb_id = closed[0] if closed else usb.ids[0] if usb else ""
    return (
        f"no permission to use the USB device {usb_id} of {job.board.id}; run: {rule_command(usb_id)}; "
        "then plug it in again"
    )


def no_target(runner: "Runner", job: "Job") -> str:
    """The probe works; the chip behind it does not answer."""
    return (
        f"the probe is there, but the chip of {job.board.id} does not answer {runner.name}; check its power "
        "and jumpers, and try again while you hold its reset button"
    )


def wrong_chip(runner: "Runner", job: "Job") -> str:
    """Another chip answers than the board has."""
    return (
        f"the chip that is connected is no {job.board.mcu}: this is not {job.board.id}; connect the right "
        "board, or build for the one that is connected"
    )


def probe_busy(runner: "Runner", job: "Job") -> str:
    """Another program has the probe."""
    return (
        f"the probe of {job.board.id} is in use by another program; close debuggers and IDEs "
        "(to find them: pgrep -a 'openocd|pyocd|st-util|JLink|STM32')"
    )


def port_fault(runner: "Runner", job: "Job") -> str:
    """The serial port cannot be opened any more: it could a moment ago."""
    return f"{runner.name} cannot open the serial port of {job.board.id}; look at: fieldtune doctor"

"""What is connected over USB, read without opening anything: devices, serial ports, who may use them."""

import grp
import os
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from boards.board import Board
from fieldtune.console import say
from fieldtune.errors import BoardError

SYSFS = Path("/sys/bus/usb/devices")
NODES = Path("/dev/bus/usb")
PROCESSES = Path("/proc")
RULES = tuple(Path(root, "udev/rules.d") for root in ("/etc", "/run", "/usr/lib", "/lib"))
BACK_SECONDS = 15.0  # a board that enumerates anew takes 1 to 3 s; a hub or a virtual machine takes longer
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class UsbDevice:
    """One USB device: `id` is "vendor:product" in lower-case hex, `node` what a debug probe's tool opens."""

    id: str
    serial: str | None
    product: str
    node: Path | None
    ports: tuple[str, ...]

    def __str__(self) -> str:
        where = f" at {', '.join(self.ports)}" if self.ports else ""
        return f"{self.product} ({self.id}, serial number {self.serial or 'unknown'}){where}"


def connected_devices() -> list[UsbDevice]:
    """Return all USB devices but hubs, those with the same id side by side."""
    from serial.tools import list_ports

    ports: dict[str, list[str]] = {}
    found: dict[str, UsbDevice] = {}
    for port in list_ports.comports():
        if port.vid is None:
            continue
        place = (port.location or port.device).split(":")[0]
        ports.setdefault(place, []).append(port.device)
        usb_id = f"{port.vid:04x}:{port.pid:04x}"
        found[place] = UsbDevice(usb_id, port.serial_number, port.product or "USB device", None, ())
    found |= {folder.name: device for folder in _folders() if (device := _read_device(folder))}
    devices = [
        UsbDevice(device.id, device.serial, device.product, device.node, tuple(sorted(ports.get(place, ()))))
        for place, device in found.items()
    ]
    return sorted(devices, key=lambda device: (device.id, device.serial or ""))


def _folders() -> list[Path]:
    return sorted(SYSFS.iterdir()) if SYSFS.is_dir() else []


def _read_device(folder: Path) -> UsbDevice | None:
    vendor, product = _attribute(folder, "idVendor"), _attribute(folder, "idProduct")
    if vendor is None or product is None or _attribute(folder, "bDeviceClass") == "09":
        return None
    bus, number = _attribute(folder, "busnum"), _attribute(folder, "devnum")
    node = NODES / f"{int(bus):03}" / f"{int(number):03}" if bus and number else None
    name = _attribute(folder, "product") or "USB device"
    return UsbDevice(f"{vendor}:{product}", _attribute(folder, "serial"), name, node, ())


def _attribute(folder: Path, name: str) -> str | None:
    try:
        return (folder / name).read_text(errors="replace").strip() or None
    except OSError:  # an interface, or a device that was unplugged meanwhile
        return None


def devices_of(board: Board, devices: Iterable[UsbDevice]) -> list[UsbDevice]:
    """Return those of `devices` that may be `board` or its probe, going by their USB ids."""
    ids = board.usb.all_ids if board.usb else ()
    return [device for device in devices if device.id in ids]


def find_port(board: Board, *, in_bootloader: bool = False) -> str:
    """Return the serial port of the one device that may be `board`, and say which; nothing is opened.

    With `in_bootloader` it is looked for by the ids that it has in its boot loader.

    Raises:
        BoardError: none or several are connected; the sentence lists them.
    """
    if board.usb is None:
        raise BoardError(
            f"the description of {board.id} has no USB ids by which to find its port; give it with --port"
        )
    ids = board.usb.bootloader_ids if in_bootloader else board.usb.ids
    devices = [device for device in connected_devices() if device.id in ids]
    ports = [(port, device) for device in devices for port in device.ports]
    if not ports:
        raise BoardError(
            f"{board.id} is not connected (no serial port with USB id {' or '.join(ids)}); plug it "
            f"in, or give its port with --port; to see what is there: fieldtune doctor"
        )
    if len(ports) > 1:
        listed = "; ".join(f"{port}: {device.product}, {device.serial}" for port, device in ports)
        raise BoardError(f"several ports may be {board.id}'s; choose one with --port: {listed}")
    port, device = ports[0]
    say(f"{board.id} is at {port}: {device.product}, serial number {device.serial or 'unknown'}")
    return port


def wait_for_port(ids: tuple[str, ...], serial: str | None) -> str:
    """Wait until a device with one of `ids` (and that serial number, if any) has a serial port; return it.

    Raises:
        BoardError: none appears in time.
    """
    deadline = time.monotonic() + BACK_SECONDS
    while True:
        for device in connected_devices():
            if device.id in ids and device.ports and serial in (None, device.serial):
                return device.ports[0]
        if time.monotonic() > deadline:
            raise BoardError(
                f"no serial port of USB id {' or '.join(ids)} has come back within {BACK_SECONDS:.0f} s; "
                "unplug the board, plug it in again and look for it with: fieldtune doctor"
            )
        time.sleep(POLL_SECONDS)


def port_problem(port: str) -> str | None:
    """Return why `port`, a device or a URL of pyserial, cannot be used and what mends that, or None."""
    if "://" in port:
        return None
    if not Path(port).exists():
        return f"there is no port {port}; plug the board in and look for its port with: fieldtune doctor"
    if not os.access(port, os.R_OK | os.W_OK):
        return f"no permission to open {port}; run: {group_command(_group(port))}, then log in again"
    users = _users(port)
    if users:
        return f"{port} is in use by {', '.join(users)}; end that program (to see it: fuser -v {port})"
    return None


def _group(port: str) -> str:
    """Return the group that may use serial ports: Arch calls it uucp; root's is never to be joined."""
    try:
        name = grp.getgrgid(Path(port).stat().st_gid).gr_name
    except (OSError, KeyError):
        return "dialout"
    return name if name == "uucp" else "dialout"


def group_command(group: str) -> str:
    """Return the command that makes the user a member of `group`."""
    return f"sudo usermod -aG {group} $USER"


def _users(port: str) -> list[str]:
    """Return the other processes that hold `port` open, as far as the system lets us see."""
    device = Path(port).resolve()
    users = []
    for process in PROCESSES.glob("[0-9]*"):
        try:
            holds = any(handle.resolve() == device for handle in (process / "fd").iterdir())
            name = (process / "comm").read_text().strip()
        except OSError:  # another user's, or gone
            continue
        if holds and process.name != str(os.getpid()):
            users.append(f"{name} (process {process.name})")
    return users


def is_accessible(device: UsbDevice) -> bool:
    """Tell whether the user may open `device` as a debug probe; True where the system does not say."""
    return device.node is None or not device.node.exists() or os.access(device.node, os.R_OK | os.W_OK)


def has_rule(usb_id: str) -> bool:
    """Tell whether a udev rule names the vendor of `usb_id`, and its product if it names products."""
    vendor, product = usb_id.split(":")
    for folder in RULES:
        for path in sorted(folder.glob("*.rules")):
            try:
                text = path.read_text(errors="replace").lower().replace("\\\n", " ")
            except OSError:
                continue
            for line in text.splitlines():
                named = f'idvendor}}=="{vendor}"' in line and not line.lstrip().startswith("#")
                if named and ("idproduct" not in line or product in line):
                    return True
    return False


def rule_command(*usb_ids: str) -> str:
    """Return the command that lets the members of plugdev, and whoever sits here, use `usb_ids`."""
    rules = []
    for usb_id in usb_ids:
        vendor, product = usb_id.split(":")
        rules.append(
            f'SUBSYSTEM=="usb", ATTR{{idVendor}}=="{vendor}", ATTR{{idProduct}}=="{product}", '
            'MODE="0660", GROUP="plugdev", TAG+="uaccess"'
        )
    # 60: a tag "uaccess" counts only in rules that come before 73-seat-late.rules.
    return (
        f"printf '%s\\n' {shlex.join(rules)} | sudo tee -a /etc/udev/rules.d/60-fieldtune.rules && "
        "sudo udevadm control --reload-rules && sudo udevadm trigger"
    )

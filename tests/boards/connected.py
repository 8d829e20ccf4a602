"""Devices that are not there: a tree as the kernel shows USB devices in, and their serial ports."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from serial.tools import list_ports
from serial.tools.list_ports_common import ListPortInfo

from boards import usb


@dataclass
class Bus:
    """The computer's USB devices, as boards.usb sees them."""

    folder: Path
    ports: list[ListPortInfo] = field(default_factory=list)

    def plug(
        self,
        usb_id: str,
        serial: str,
        product: str = "STLINK-V3",
        ports: tuple[str, ...] = (),
        kind: str = "ef",
    ) -> Path:
        """Connect a device; return the file that tools would open."""
        number = len(list((self.folder / "sysfs").iterdir())) + 1
        place = f"1-{number}"
        vendor, product_id = usb_id.split(":")
        values = {"idVendor": vendor, "idProduct": product_id, "bDeviceClass": kind, "serial": serial}
        values |= {"product": product, "busnum": "1", "devnum": str(number)}
        folder = self.folder / "sysfs" / place
        folder.mkdir()
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n")
        for name in ports:
            port = ListPortInfo(name)
            port.vid, port.pid, port.serial_number = int(vendor, 16), int(product_id, 16), serial
            port.product, port.location = product, f"{place}:1.2"
            self.ports.append(port)
        node = self.folder / "nodes" / "001" / f"{number:03}"
        node.parent.mkdir(parents=True, exist_ok=True)
        node.touch()
        return node


def empty_bus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    """Take this computer's own devices, ports and udev rules out of sight."""
    for name in ("sysfs", "nodes", "rules"):
        (folder / name).mkdir(parents=True)
    bus = Bus(folder)
    monkeypatch.setattr(usb, "SYSFS", folder / "sysfs")
    monkeypatch.setattr(usb, "NODES", folder / "nodes")
    monkeypatch.setattr(usb, "RULES", (folder / "rules",))
    monkeypatch.setattr(list_ports, "comports", lambda: list(bus.ports))
    return bus


def forbid(monkeypatch: pytest.MonkeyPatch, *paths: str | Path) -> None:
    """Take the right to open `paths`, which root always has."""
    closed = {str(path) for path in paths}
    monkeypatch.setattr(usb.os, "access", lambda path, mode: str(path) not in closed)

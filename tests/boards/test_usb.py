"""What is connected is found by its USB ids, and who may use it is told, without opening anything."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from connected import Bus, empty_bus, forbid

from boards import Board, find_port, load_board, usb
from fieldtune.errors import BoardError

ST_LINK = "0483:374e"


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bus:
    return empty_bus(tmp_path / "bus", monkeypatch)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    path = tmp_path / "mine.toml"
    path.write_text(
        'extends = "netduinoplus2"\nid = "mine"\nruns_in = []\n'
        f'[usb]\nids = ["{ST_LINK}"]\nbootloader_ids = ["2341:005a"]\nsource = "a test"\n'
    )
    return load_board(path)


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    ours, theirs = os.openpty()
    yield theirs, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


def test_devices_come_with_their_ports_and_without_hubs(bus: Bus) -> None:
    bus.plug("1d6b:0002", "0000:00:14.0", "hub", kind="09")
    node = bus.plug(ST_LINK, "003A", ports=("/dev/ttyACM1", "/dev/ttyACM0"))
    bus.plug("0483:3748", "57FF", "ST-LINK/V2")
    first, second = usb.connected_devices()
    assert (first.id, first.ports) == ("0483:3748", ())
    assert (second.id, second.serial, second.ports) == (ST_LINK, "003A", ("/dev/ttyACM0", "/dev/ttyACM1"))
    assert second.node == node


def test_ports_are_found_where_the_system_shows_no_tree(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.plug(ST_LINK, "003A", ports=("/dev/cu.usbmodem1",))
    monkeypatch.setattr(usb, "SYSFS", bus.folder / "absent")
    (device,) = usb.connected_devices()
    assert (device.id, device.serial, device.ports) == (ST_LINK, "003A", ("/dev/cu.usbmodem1",))


def test_the_only_port_that_fits_is_taken_and_said(
    bus: Bus, board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.plug("1366:1015", "000683", ports=("/dev/ttyACM0",))
    bus.plug(ST_LINK, "003A", ports=("/dev/ttyACM1",))
    assert find_port(board) == "/dev/ttyACM1"
    assert "mine is at /dev/ttyACM1: STLINK-V3, serial number 003A" in capsys.readouterr().err


def test_several_ports_are_listed_and_none_is_taken(bus: Bus, board: Board) -> None:
    bus.plug(ST_LINK, "003A", ports=("/dev/ttyACM0",))
    bus.plug(ST_LINK, "003B", ports=("/dev/ttyACM1",))
    with pytest.raises(BoardError, match=r"with --port: /dev/ttyACM0: STLINK-V3, 003A; /dev/ttyACM1.*003B"):
        find_port(board)


def test_a_board_that_is_not_connected_is_told_by_its_id(bus: Bus, board: Board) -> None:
    bus.plug(ST_LINK, "003A")  # a probe without a port
    with pytest.raises(BoardError, match=r"mine is not connected .*0483:374e.*--port"):
        find_port(board)


def test_without_usb_ids_the_port_must_be_given(bus: Bus) -> None:
    with pytest.raises(BoardError, match=r"no USB ids by which to find its port; give it with --port"):
        find_port(load_board("netduinoplus2"))


def test_a_board_is_waited_for_by_its_serial_number(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.plug(ST_LINK, "003B", ports=("/dev/ttyACM0",))
    looks = []

    def plug_at_the_third_look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            bus.plug(ST_LINK, "003A", ports=("/dev/ttyACM7",))

    monkeypatch.setattr(usb.time, "sleep", plug_at_the_third_look)
    assert usb.wait_for_port((ST_LINK,), "003A") == "/dev/ttyACM7"
    assert len(looks) == 3


def test_a_board_that_does_not_come_back_ends_the_wait(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usb, "BACK_SECONDS", 0.0)
    with pytest.raises(BoardError, match=r"no serial port of USB id 0483:374e has come back"):
        usb.wait_for_port((ST_LINK,), None)


def test_a_port_in_use_names_the_program(terminal: tuple[int, str]) -> None:
    descriptor, port = terminal
    assert usb.port_problem(port) is None
    with subprocess.Popen(["sleep", "30"], stdin=descriptor) as other:
        problem = usb.port_problem(port)
        other.kill()
    assert problem is not None
    assert f"{port} is in use by sleep (process {other.pid})" in problem
    assert f"fuser -v {port}" in problem


def test_a_forbidden_port_names_the_group_of_ports(
    terminal: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid(monkeypatch, terminal[1])
    problem = usb.port_problem(terminal[1])
    assert problem is not None
    assert "no permission" in problem
    assert "sudo usermod -aG dialout $USER" in problem


def test_a_port_that_is_not_there_is_told() -> None:
    assert "there is no port /dev/ttyACM99" in str(usb.port_problem("/dev/ttyACM99"))


@pytest.mark.parametrize(
    ("rule", "there"),
    [
        ('ATTRS{idVendor}=="0483", ATTRS{idProduct}=="374e", MODE="660"', True),
        ('SUBSYSTEMS=="usb", ATTRS{idVendor}=="0483", \\\n  ATTRS{idProduct}=="374E", MODE:="0666"', True),
        ('SUBSYSTEM=="usb", ATTR{idVendor}=="0483", MODE="0660"', True),
        ('ATTRS{idVendor}=="0483", ATTRS{idProduct}=="3748", MODE="660"', False),
        ('# ATTRS{idVendor}=="0483", MODE="660"', False),
        ('ATTRS{idVendor}=="1366", MODE="660"', False),
    ],
)
def test_rules_of_a_device_are_recognised(bus: Bus, rule: str, there: bool) -> None:
    (bus.folder / "rules" / "60-x.rules").write_text(rule)
    assert usb.has_rule(ST_LINK) is there


def test_the_command_for_a_rule_makes_one_that_is_recognised(bus: Bus) -> None:
    assert not usb.has_rule(ST_LINK)
    command = usb.rule_command(ST_LINK, "1366:1015").split(" | ")[0]
    made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    (bus.folder / "rules" / "60-fieldtune.rules").write_text(made)
    assert usb.has_rule(ST_LINK)
    assert usb.has_rule("1366:1015")
    assert not usb.has_rule("1366:1051")

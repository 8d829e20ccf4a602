"""Every port keeps the contract of port.h, on the board itself."""

import contextlib
import ctypes
import dataclasses
import os
import random
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import serial
from elftools.elf.elffile import ELFFile

from boards import Firmware, Running, board_names, load_board, start

STARTED = [name for name in board_names() if load_board(name).runs_in]
EMULATED = [name for name in STARTED if "qemu" in load_board(name).runs_in]
PROGRAM_COUNTER = {"arm": 15, "riscv": 32}  # GDB's number of the register
MOST_STEPS = 1000  # of which a port's set-up and the way to the first wait take some dozens
NOTICED_S = 2.5  # QEMU looks once a second whether somebody has opened its pseudo-terminal
ECHO_STATIC_BYTES = 12  # echo.c: three words
# mps2 and mps3 share the code of their UART: two of five stand for all of them.
EVERY_UART = [
    pytest.param(name, marks=pytest.mark.long if name in ("mps2_an385", "mps2_an386", "mps2_an505") else ())
    for name in EMULATED
]
EVERY_BOARD = pytest.mark.parametrize("name", STARTED)


@pytest.fixture(autouse=True)
def with_gvsoc(request: pytest.FixtureRequest) -> None:
    """Let what GVSOC plays start here, too."""
    if "[pulp_open" in request.node.name:
        request.getfixturevalue("pulp_open")


class Debugger:
    """GDB's side of its protocol with the emulator, which connects to `path`."""

    def __init__(self, path: Path) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.settimeout(30)
        self._server.bind(str(path))
        self._server.listen()

    def accept(self) -> None:
        self._socket, _ = self._server.accept()
        self._socket.settimeout(30)

    def ask(self, command: str) -> str:
        data = command.encode()
        self._socket.sendall(b"+$%s#%02x" % (data, sum(data) % 256))
        answer = b""
        while not re.search(rb"#..$", answer):
            answer += self._socket.recv(4096)
        return answer.split(b"$")[1].split(b"#")[0].decode()

    def run_to(self, address: int) -> None:
        assert self.ask(f"Z1,{address:x},2") == "OK"
        assert self.ask("c").startswith("T05")
        assert self.ask(f"z1,{address:x},2") == "OK"

    def step_to(self, addresses: dict[int, str], program_counter: int, before: Callable[[], object]) -> str:
        """Step on, `before` each of which something is done, and return which address is reached first."""
        assert self.ask("Qqemu.sstep=5") == "OK"  # interrupts go on, timers stand still
        for _ in range(MOST_STEPS):
            before()
            self.ask("s")
            registers = bytes.fromhex(self.ask("g"))
            here = int.from_bytes(registers[4 * program_counter :][:4], "little")
            if here in addresses:
                return addresses[here]
        pytest.fail(f"none of {list(addresses.values())} is ever reached")

    def let_go(self) -> None:
        assert self.ask("D") == "OK"
        self._socket.close()
        self._server.close()


class Echo:
    """The host's side of echo.c."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.port = serial.Serial(running.url)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        """Ask until the firmware answers: what arrives before its UART is set up is lost, as on any board."""
        self.port.timeout = 0.02
        for _ in range(1500):
            self.port.write(b"?")
            if self.port.read(1):
                break
        self.port.timeout = 30
        self.port.write(b".")
        self.until(b".")

    def read(self, count: int) -> bytes:
        data = self.port.read(count)
        assert len(data) == count, f"only {len(data)} of {count} bytes came: {data[:80]!r}"
        return data

    def word(self) -> int:
        return int.from_bytes(self.read(4), "little")

    def send(self, command: str, *words: int) -> None:
        self.port.write(command.encode() + b"".join(word.to_bytes(4, "little") for word in words))

    def ask(self, command: str, *words: int, answers: int = 1) -> list[int]:
        self.send(command, *words)
        return [self.word() for _ in range(answers)]

    def echo(self, data: bytes) -> bytes:
        self.send("e", len(data))
        sender = threading.Thread(target=self.port.write, args=(data,))
        sender.start()
        answer = self.read(len(data))
        sender.join()
        return answer

    def until(self, end: bytes) -> bytes:
        data = self.port.read_until(end)
        assert data.endswith(end), f"{end!r} never came, only {data[:80]!r}"
        return data


def address_of(symbol: str, elf: Path) -> int:
    with elf.open("rb") as file:
        (found,) = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(symbol)
        return int(found["st_value"]) & ~1


@pytest.fixture
def talk(echo_firmware: Callable[[str], Firmware]) -> Iterator[Callable[..., Echo]]:
    with contextlib.ExitStack() as running:

        def begin(name: str, icount: int | None = None) -> Echo:
            firmware = echo_firmware(name)
            return Echo(running.enter_context(start(firmware.elf, load_board(name), icount=icount)))

        yield begin


@EVERY_BOARD
def test_echoes_every_byte(talk: Callable[..., Echo], name: str) -> None:
    data = random.Random(1).randbytes(20_000)
    assert talk(name).echo(data) == data


@pytest.mark.parametrize("name", EVERY_UART)
def test_a_byte_that_comes_while_the_port_is_set_up_interrupts_at_once(
    echo_firmware: Callable[[str], Firmware], tmp_path: Path, name: str
) -> None:
    board, firmware, debugger = load_board(name), echo_firmware(name), Debugger(tmp_path / "gdb")
    assert board.emulator is not None
    stopped = (*board.emulator.arguments, "-S", "-gdb", f"unix:{tmp_path / 'gdb'}")
    board = dataclasses.replace(board, emulator=dataclasses.replace(board.emulator, arguments=stopped))
    places = {address_of(symbol, firmware.elf): symbol for symbol in ("ft_hw_receive", "ft_cpu_wait")}
    with start(firmware.elf, board, icount=0) as running, serial.Serial(running.url) as port:
        debugger.accept()
        debugger.run_to(address_of("ft_hw_init", firmware.elf))
        time.sleep(NOTICED_S)  # else all steps may be over before a byte gets through
        reached = debugger.step_to(places, PROGRAM_COUNTER[board.arch], before=lambda: port.write(b"?"))
        debugger.let_go()
    assert reached == "ft_hw_receive"


@EVERY_BOARD
def test_loses_no_byte_while_the_firmware_is_busy(talk: Callable[..., Echo], name: str) -> None:
    board = talk(name)
    data = random.Random(2).randbytes(3 * load_board(name).rx_ring_bytes)
    board.send("b", 20_000_000)  # the echo below arrives while it spins
    board.send("e", len(data))
    sender = threading.Thread(target=board.port.write, args=(data,))
    sender.start()
    board.word()
    assert board.word() == 0
    assert board.read(len(data)) == data
    sender.join()
    assert board.ask("b", 1, answers=2)[1] == 0


@pytest.mark.parametrize("name", [name for name in STARTED if name != "pulp_open"])  # which a reset ends
def test_reset_restores_the_initial_memory_and_keeps_the_port(talk: Callable[..., Echo], name: str) -> None:
    board = talk(name)
    assert board.ask("d", answers=2) == [0x12345678, 0]
    assert board.ask("d", answers=2) == [0x12345679, 1]
    board.send("r")
    board.wait_until_up()
    assert board.ask("d", answers=2) == [0x12345678, 0]


@EVERY_BOARD
def test_stack_is_painted_and_keeps_the_mark_of_its_deepest_use(talk: Callable[..., Echo], name: str) -> None:
    board = talk(name)
    words, before = board.ask("s", answers=2)
    board.send("u", 3000)  # at least so many bytes deep
    assert words * 4 == load_board(name).stack_bytes
    deeper = board.ask("s", answers=2)[1]
    assert 0 < before < words
    assert 0 < deeper <= words - 3000 // 4


@EVERY_BOARD
def test_ticks_advance(talk: Callable[..., Echo], name: str) -> None:
    board = talk(name)
    low, high, rate = board.ask("t", answers=3)
    later_low, later_high, later_rate = board.ask("t", answers=3)
    assert (later_high << 32 | later_low) > (high << 32 | low)
    assert rate == later_rate > 0


@pytest.mark.parametrize("name", EMULATED)
def test_counted_instructions_are_repeatable_and_in_proportion(talk: Callable[..., Echo], name: str) -> None:
    rounds, shift = 40_000, 6
    counts = []
    for boot in (talk(name, icount=shift), talk(name, icount=shift)):
        rate = boot.ask("t", answers=3)[2]
        ticks = [boot.ask("b", n * rounds, answers=2)[0] for n in (1, 2)]
        counts.append([tick * 1e9 / (rate * 2**shift) for tick in ticks])
    tolerance = 1e9 / (rate * 2**shift) + 40  # a tick, and the interrupts that happen to fall in
    assert counts[0] == pytest.approx(counts[1], abs=tolerance)
    per_round = (counts[0][1] - counts[0][0]) / rounds
    assert per_round == pytest.approx(round(per_round), abs=0.01)
    assert 2 <= per_round <= 8


@EVERY_BOARD
def test_floats_have_the_bits_of_the_host_s_c_library(talk: Callable[..., Echo], name: str) -> None:
    libm = ctypes.CDLL("libm.so.6")
    for function, arity in ((libm.fmaf, 3), (libm.sqrtf, 1)):
        function.argtypes, function.restype = [ctypes.c_float] * arity, ctypes.c_float
    total = 0.1
    for i in range(1, 1001):
        total = libm.fmaf(total, 0.999, ctypes.c_float(1 / i).value)
    expected = [
        int.from_bytes(bytes(ctypes.c_float(value)), "little") for value in (total, libm.sqrtf(total))
    ]
    assert talk(name).ask("f", answers=2) == expected


@EVERY_BOARD
def test_memory_functions_do_what_the_standard_says(talk: Callable[..., Echo], name: str) -> None:
    board, generator = talk(name), random.Random(3)
    for _ in range(60):
        source, target = generator.randrange(16), generator.randrange(16)
        count = generator.randrange(17)
        area = bytearray(range(40))
        area[target : target + count] = area[source : source + count]
        area[source : source + target % 8] = b"\xee" * (target % 8)
        area[36 : 36 + count % 5] = area[: count % 5]
        board.send("m", source, target, count)
        assert board.read(40) == area, (source, target, count)
        order = int.from_bytes(board.read(4), "little", signed=True)
        assert (order > 0) - (order < 0) == (area[:8] > area[1:9]) - (area[:8] < area[1:9])


@pytest.mark.parametrize("name", EMULATED)
@pytest.mark.parametrize(("command", "text"), [("i", b"fault: "), ("o", b"fault: stack overflow at ")])
def test_fault_is_reported_and_the_board_starts_anew(
    talk: Callable[..., Echo], name: str, command: str, text: bytes
) -> None:
    board = talk(name)
    board.ask("d", answers=2)
    board.send(command)
    assert board.until(b"\n\0").startswith(b"\0" + text)
    board.wait_until_up()
    assert board.ask("d", answers=2) == [0x12345678, 0]


@EVERY_BOARD
def test_host_may_close_and_open_the_port(talk: Callable[..., Echo], name: str) -> None:
    board = talk(name)
    board.ask("d", answers=2)
    board.port.close()
    again = Echo(board.running)
    assert again.ask("d", answers=2) == [0x12345679, 1]


@EVERY_BOARD
def test_killed_firmware_is_gone(talk: Callable[..., Echo], name: str) -> None:
    running = talk(name).running
    assert running.alive()
    running.kill()
    assert not running.alive()


def test_nothing_survives_the_block(echo_firmware: Callable[[str], Firmware]) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        start(echo_firmware("native").elf, load_board("native")) as running,
    ):
        raise KeyboardInterrupt
    assert not running.alive()


@pytest.mark.parametrize("name", ["native", "mps2_an500"])
def test_firmware_dies_with_a_killed_host(echo_firmware: Callable[[str], Firmware], name: str) -> None:
    script = (
        "import sys; from pathlib import Path; from boards import load_board, start\n"
        "with start(Path(sys.argv[1]), load_board(sys.argv[2])) as running:\n"
        "    print(running.process.pid, flush=True); sys.stdin.read()\n"
    )
    root = Path(__file__).parents[2]
    elf = str(echo_firmware(name).elf)
    with subprocess.Popen(
        [sys.executable, "-c", script, elf, name], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as host:
        assert host.stdout is not None
        firmware = os.pidfd_open(int(host.stdout.readline()))
        host.kill()
        ended, _, _ = select.select([firmware], [], [], 30)
        os.close(firmware)
    assert ended


@EVERY_BOARD
def test_description_counts_the_port_s_static_ram(
    echo_firmware: Callable[[str], Firmware], name: str
) -> None:
    of_port = echo_firmware(name).ram_bytes - ECHO_STATIC_BYTES
    described = load_board(name).port_ram_bytes
    if name not in EMULATED:  # part of it is the C library's, which differs from system to system
        assert 0 < of_port <= described
    else:
        assert of_port == described

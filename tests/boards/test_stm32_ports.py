"""Ports of STM32 boards that nobody has here: what they write to the registers, judged by the manuals.

The port's C runs as a process against simulated registers (stm32_registers/registers.c), and from what it
leaves there the clocks, the baud rate and the pins are computed anew, as the manuals define the fields.
"""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from boards import load_board, port_files

SIMULATION = Path(__file__).parent / "stm32_registers"
RUNTIME = Path(__file__).parents[2] / "firmware_gen" / "runtime"
OF_THE_CORE = {"core.c", "start.c", "faults.c", "serial.c", "memory.c"}
OF_THE_CORE |= {"systick.c", "caches.c", "bus_faults.c"}
OF_THE_FLASH = {"stm32_flash.c", "flash_part.c", "flash_nmi.c", "nrf_flash.c"}  # store/test_flash_drivers.py
LEFT_OUT = OF_THE_CORE | OF_THE_FLASH | {"nrf51_timer.c", "string.h"}
REGISTERS = list[tuple[int, int]]
Read = Callable[[int], int]


@dataclass(frozen=True)
class Clocks:
    """What the registers say, in Hz: core, UART's clock, the phase-locked loop's input and oscillator."""

    core: float
    uart: float
    input: float
    oscillator: float


def field(value: int, low: int, bits: int) -> int:
    return value >> low & (1 << bits) - 1


def ahb_divider(code: int) -> int:
    return 1 if code < 8 else {8: 2, 9: 4, 10: 8, 11: 16, 12: 64, 13: 128, 14: 256, 15: 512}[code]


def apb_divider(code: int) -> int:
    return 1 if code < 4 else 1 << code - 3


def h7(read: Read) -> Clocks:
    """RM0433 and RM0455, RCC: HSI of 64 MHz, PLL1's output P, USART3 on APB1."""
    select, divide, config = read(0x58024428), read(0x58024430), read(0x5802442C)
    d1, d2 = read(0x58024418), read(0x5802441C)
    assert (field(select, 0, 2), field(read(0x58024410), 3, 3)) == (0, 3)
    assert field(config, 2, 2) == 3, "the input's range, 8 to 16 MHz"
    assert (field(config, 0, 2), field(config, 16, 1)) == (0, 1), "no fraction, wide, output P"
    source = 64e6 / field(select, 4, 6)
    oscillator = source * (field(divide, 0, 9) + 1)
    core = oscillator / (field(divide, 9, 7) + 1) / ahb_divider(field(d1, 8, 4))
    bus = core / ahb_divider(field(d1, 0, 4))
    assert field(read(0x58024454), 0, 3) == 0, "USART3's clock is that of APB1"
    return Clocks(core, bus / apb_divider(field(d2, 4, 3)), source, oscillator)


def f7(read: Read) -> Clocks:
    """RM0385, RCC: HSI of 16 MHz, the PLL's output P, USART1 on APB2."""
    pll, config = read(0x40023804), read(0x40023808)
    assert (field(pll, 22, 1), field(config, 2, 2)) == (0, 2)
    source = 16e6 / field(pll, 0, 6)
    oscillator = source * field(pll, 6, 9)
    assert oscillator / field(pll, 24, 4) == 48e6
    core = oscillator / (2 * field(pll, 16, 2) + 2) / ahb_divider(field(config, 4, 4))
    assert core / apb_divider(field(config, 10, 3)) <= 54e6, "APB1"
    return Clocks(core, core / apb_divider(field(config, 13, 3)), source, oscillator)


def l4(read: Read) -> Clocks:
    """RM0432, RCC: HSI16, the PLL's output R, LPUART1 on APB1, which counts in 256ths."""
    pll, config = read(0x4002100C), read(0x40021008)
    assert (field(pll, 0, 2), field(pll, 24, 1), field(config, 2, 2)) == (2, 1, 3)
    source = 16e6 / (field(pll, 4, 4) + 1)
    oscillator = source * field(pll, 8, 7)
    core = oscillator / (2 * field(pll, 25, 2) + 2) / ahb_divider(field(config, 4, 4))
    return Clocks(core, 256 * core / apb_divider(field(config, 8, 3)), source, oscillator)


def u5(read: Read) -> Clocks:
    """RM0456, RCC: HSI16, PLL1's output R, USART1 on APB2."""
    pll, divide = read(0x46020C28), read(0x46020C34)
    assert (field(pll, 0, 2), field(pll, 18, 1), field(read(0x46020C1C), 2, 2)) == (2, 1, 3)
    assert field(pll, 2, 2) == 3, "the input's range, 8 to 16 MHz"
    source = 16e6 / (field(pll, 8, 4) + 1)
    oscillator = source * (field(divide, 0, 9) + 1)
    core = oscillator / (field(divide, 24, 7) + 1)
    booster = 16e6 / {0: 1, 1: 2, 2: 4}[field(pll, 12, 4)]
    assert 4e6 <= booster <= 16e6
    return Clocks(core, core, source, oscillator)


@dataclass(frozen=True, kw_only=True)
class Registers:
    """How a part's registers start and answer, where its UART is."""

    uart: int
    reset: REGISTERS
    ready: Sequence[tuple[int, int, int, int]]
    follow: Sequence[tuple[int, int, int, int]] = ()
    outputs: Sequence[tuple[int, int, int, int, int]] = ()  # address, shift, bits, first pin, level


@dataclass(frozen=True, kw_only=True)
class Part(Registers):
    """A board's part: what must hold at the end, too."""

    clocks: Callable[[Read], Clocks]
    uart_enable: tuple[int, int]
    pins: Sequence[tuple[int, int, int]]  # of a port's address: number, alternate function
    gpio_enable: tuple[int, int]
    at_the_end: Sequence[tuple[int, int, int]]  # address, mask, value
    input: tuple[float, float]
    oscillator: tuple[float, float]


def h7_part(supply: int, oscillator: float, waits: int, memories: int, one_read: int) -> Part:
    return Part(
        clocks=h7,
        uart=0x40004800,
        uart_enable=(0x580244E8, 18),
        pins=[(0x58020C00, 8, 7), (0x58020C00, 9, 7)],
        gpio_enable=(0x580244E0, 3),
        reset=[(0x5802480C, 0x46), (0x58024400, 1), (0x58024428, 0x02020200), (0x5802442C, 0x01FF0000)]
        + [(0x58024430, 0x01010280), (0x52002000, 0x37), (0x58024818, 0x4000), (0x58020C00, 0xFFFFFFFF)],
        ready=[(0x5802480C, supply, 0x58024804, 1 << 13), (0x58024818, 3 << 14, 0x58024818, 1 << 13)]
        + [(0x58024400, 1 << 24, 0x58024400, 1 << 25)],
        follow=[(0x58024410, 0, 3, 7)],
        at_the_end=[(0x51008108, 1, one_read)]
        + [(0x5802480C, 7, supply), (0x52002000, 15, waits), (0x580244DC, 7 << 29, memories << 29)]
        + [(0x58024818, 3 << 14, 3 << 14)],
        input=(8e6, 16e6),
        oscillator=(192e6, oscillator),
    )


PARTS = {
    "nucleo_h743zi2": h7_part(supply=6, oscillator=836e6, waits=4, memories=7, one_read=1),
    "nucleo_h7a3zi_q": h7_part(supply=4, oscillator=560e6, waits=7, memories=3, one_read=0),
    "stm32f746g_disco": Part(
        clocks=f7,
        uart=0x40011000,
        uart_enable=(0x40023844, 4),
        pins=[(0x40020000, 9, 7), (0x40020400, 7, 7)],
        gpio_enable=(0x40023830, 0),
        reset=[(0x40023800, 0x83), (0x40023804, 0x24003010), (0x40007000, 0xC000)],
        ready=[(0x40023800, 1 << 24, 0x40023800, 1 << 25), (0x40007000, 1 << 16, 0x40007004, 1 << 16)]
        + [(0x40007000, 3 << 16, 0x40007004, 1 << 17)],
        follow=[(0x40023808, 0, 2, 3)],
        at_the_end=[(0x40023C00, 15, 7), (0x40007000, 0xF << 14, 0xF << 14), (0x40023840, 1 << 28, 1 << 28)],
        input=(1e6, 2e6),
        oscillator=(100e6, 432e6),
    ),
    "nucleo_l4r5zi": Part(
        clocks=l4,
        uart=0x40008000,
        uart_enable=(0x4002105C, 0),
        pins=[(0x48001800, 7, 8), (0x48001800, 8, 8)],
        gpio_enable=(0x4002104C, 6),
        reset=[(0x40021000, 0x63), (0x4002100C, 0x1000), (0x40007080, 0x100), (0x40022000, 0x600)]
        + [(0x48001800, 0xFFFFFFFF)],
        ready=[(0x40021000, 1 << 8, 0x40021000, 1 << 10), (0x40021000, 1 << 24, 0x40021000, 1 << 25)],
        follow=[(0x40021008, 0, 2, 3)],
        at_the_end=[(0x40022000, 15, 5), (0x40007080, 1 << 8, 0), (0x40007004, 1 << 9, 1 << 9)],
        input=(2.66e6, 8e6),
        oscillator=(64e6, 344e6),
    ),
    "nucleo_u575zi_q": Part(
        clocks=u5,
        uart=0x40013800,
        uart_enable=(0x46020CA4, 14),
        pins=[(0x42020000, 9, 7), (0x42020000, 10, 7)],
        gpio_enable=(0x46020C8C, 0),
        reset=[(0x46020C00, 0x35), (0x46020C34, 0x01010280), (0x40022000, 1), (0x42020000, 0xABFFFFFF)],
        ready=[(0x4602080C, 3 << 16, 0x4602080C, 1 << 15), (0x4602080C, 1 << 18, 0x4602080C, 1 << 14)]
        + [(0x46020C00, 1 << 8, 0x46020C00, 1 << 10), (0x46020C00, 1 << 24, 0x46020C00, 1 << 25)],
        follow=[(0x46020C1C, 0, 2, 3)],
        at_the_end=[(0x40022000, 15, 4), (0x40030400, 1, 1), (0x46020C94, 4, 4)],
        input=(4e6, 16e6),
        oscillator=(128e6, 544e6),
    ),
}


class Simulated:
    """A board's port with simulated registers; with a `project`, its network too."""

    def __init__(self, name: str, folder: Path, part: Registers, project: Path | None = None) -> None:
        self.board, self._part = load_board(name), part
        for file, text in port_files(self.board).items():
            if file not in LEFT_OUT:
                (folder / file).write_text(text)
        (folder / "cortex_m.h").write_text((SIMULATION / "cortex_m.h").read_text())
        (folder / "caches.h").write_text("void ft_caches_on(void);\n")
        self._program = folder / "simulated"
        sources = [*sorted(folder.glob("*.c")), SIMULATION / "registers.c"]
        flags = ["-std=gnu99", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
        if project is not None:
            sources.append(project / "model.c")
            flags += ["-O0", "-Dalways_inline=unused", f"-I{RUNTIME / 'kernels'}"]
        flags += [f"-I{RUNTIME}", f"-I{RUNTIME / 'link'}"]
        subprocess.run(["gcc", *flags, *map(str, sources), "-o", str(self._program), "-lm"], check=True)

    def run(self, *commands: str) -> list[str]:
        part = self._part
        lines = [f"set {address:x} {value:x}" for address, value in part.reset]
        if isinstance(part, Part):  # alternate functions that a boot loader has left
            lines += [f"set {port + 0x20 + 4 * (number // 8):x} ffffffff" for port, number, _ in part.pins]
        lines += ["ready {:x} {:x} {:x} {:x}".format(*rule) for rule in part.ready]
        lines += ["follow {:x} {:x} {:x} {:x}".format(*rule) for rule in part.follow]
        lines += ["pins {:x} {:x} {:x} {:x} {:x}".format(*rule) for rule in part.outputs]
        lines += [f"uart {part.uart:x}", "start", *commands]
        text = "".join(f"{line}\n" for line in lines)
        done = subprocess.run([str(self._program)], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def read(self, address: int) -> int:
        return int(self.run(f"get {address:x}")[0].split()[1], 16)


@pytest.fixture(params=PARTS)
def simulated(request: pytest.FixtureRequest, tmp_path: Path) -> Simulated:
    return Simulated(request.param, tmp_path, PARTS[request.param])


def test_set_up_leaves_the_clocks_baud_rate_and_pins_that_the_description_promises(
    simulated: Simulated,
) -> None:
    board, part = simulated.board, PARTS[simulated.board.id]
    clocks = part.clocks(simulated.read)
    assert clocks.core == board.clock_hz
    assert part.input[0] <= clocks.input <= part.input[1]
    assert part.oscillator[0] <= clocks.oscillator <= part.oscillator[1]
    assert board.serial is not None
    assert clocks.uart / simulated.read(part.uart + 0x0C) == pytest.approx(board.serial.baud, rel=2e-3)
    assert simulated.read(part.uart) & 0x2D == 0x2D, "on, sends, receives, interrupts"
    for address, bit in (part.uart_enable, part.gpio_enable):
        assert simulated.read(address) >> bit & 1
    for port, number, function in part.pins:
        assert field(simulated.read(port), 2 * number, 2) == 2
        assert field(simulated.read(port + 0x20 + 4 * (number // 8)), 4 * (number % 8), 4) == function
    for address, mask, value in part.at_the_end:
        assert simulated.read(address) & mask == value, f"{address:#x}"


def test_uart_driver_sends_receives_and_counts_what_is_lost(tmp_path: Path) -> None:
    board = Simulated("nucleo_h743zi2", tmp_path, PARTS["nucleo_h743zi2"])
    seen = board.run("receive 41", "receive 42", "send 43", "send 0", "seen")
    assert seen == ["ring 4142", "sent 4300", "lost 0"]
    # A full ring: the first byte waits in the UART, the next is lost; with room again nothing more is.
    seen = board.run("full 1", "receive 1", "receive 2", "seen", "full 0", "receive 3", "seen")
    assert seen == ["ring ", "sent ", "lost 0", "ring 0103", "sent ", "lost 1"]

"""What a board is: the facts that code generation, build and start need."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from boards.flashing.runner import Runner

Arch = Literal["host", "arm", "riscv", "xtensa"]
# "unified" memory is both: code, constants, data and stack share its bytes.
RegionKind = Literal["ram", "flash", "unified"]
FpuKind = Literal["single", "double"]
HostKind = Literal["process", "qemu", "gvsoc"]
Isa = Literal["c", "dsp", "mve", "xpulp"]
KitName = Literal["gap-sdk", "gap8-sdk"]
CycleModel = Literal["gap9", "none"]


@dataclass(frozen=True)
class MemoryRegion:
    """Addresses [start, start + bytes) of one memory; `source` says where the numbers come from."""

    name: str
    kind: RegionKind
    start: int
    bytes: int
    source: str


@dataclass(frozen=True)
class Compiler:
    """A GNU compiler: ``prefix + "gcc"``, the apt package that brings it (None: it comes with the vendor's
    development kit), and the flags of this core.
    """

    prefix: str
    package: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class L3:
    """RAM outside the chip, which no core can address: what lies there comes to the main RAM to be used.

    `bytes_per_cycle` is what a read gives in a cycle of the board's clock; None where nobody knows.
    """

    bytes: int
    bytes_per_cycle: float | None
    source: str


@dataclass(frozen=True)
class Cluster:
    """Cores beside the main one, with a memory of their own, L1, that a DMA fills.

    `cores` are those that a team can have. The master hands out the work: one core more, or, where
    `master_works`, core 0, which works too. All stacks lie in L1. `l3` takes constants for which the main RAM
    has no room. `cycle_model` says whose cycles and energy are known: of a cluster of which nothing is, no
    time is told.
    """

    cores: int
    l1_bytes: int
    master_stack_bytes: int
    slave_stack_bytes: int
    l3: L3 | None
    master_works: bool
    cycle_model: CycleModel
    source: str

    @property
    def l1_data_bytes(self) -> int:
        """What the stacks leave of L1."""
        slaves = self.cores - self.master_works
        return self.l1_bytes - self.master_stack_bytes - slaves * self.slave_stack_bytes


@dataclass(frozen=True)
class Emulator:
    """The program that plays the board, the apt package that brings it (None: no such), its arguments."""

    program: str
    package: str | None
    arguments: tuple[str, ...]

    @property
    def install(self) -> str:
        """How to come by it, as half a sentence."""
        if self.package is None:
            return "build it from its sources and put it on the PATH"
        return f"install it, for example with: apt-get install {self.package}"


@dataclass(frozen=True)
class Serial:
    """The serial port as the host sees it."""

    baud: int


@dataclass(frozen=True)
class Usb:
    """How the board, or the probe on it, shows itself: ids are "vendor:product" in lower-case hex.

    `bootloader_ids` are those that it has in its boot loader. A board that `reenumerates` is gone from
    the bus for a moment when it has been flashed.
    """

    ids: tuple[str, ...]
    bootloader_ids: tuple[str, ...]
    reenumerates: bool
    source: str

    @property
    def all_ids(self) -> tuple[str, ...]:
        """All ids that it may have."""
        return (*self.ids, *self.bootloader_ids)


@dataclass(frozen=True)
class Power:
    """Power while the core computes, under `condition`; for estimates, which are printed as such."""

    active_mw: float
    condition: str
    source: str

    def estimate_uj(self, seconds: float) -> float:
        """Return the microjoules of that much computing."""
        return self.active_mw * seconds * 1e3

    @property
    def estimate_source(self) -> str:
        """What is printed beside an estimate."""
        return f"estimate: {self.active_mw:g} mW {self.condition} ({self.source})"


@dataclass(frozen=True)
class Store:
    """Flash pages that keep what is learned: two slots of whole sectors.

    `sector_bytes` is what an erase clears, `unit_bytes` what is programmed at once.
    """

    start: int
    bytes: int
    sector_bytes: int
    unit_bytes: int
    source: str

    @property
    def slot_bytes(self) -> int:
        """What one of the two slots takes."""
        return self.bytes // 2


@dataclass(frozen=True)
class Marks:
    """Pins that the port keeps low while the board works, and in one phase alone; for an instrument.

    A pin is named as the vendor does: ``PG14`` (STM32) or ``P1.03`` (nRF).
    """

    work: str
    forward: str
    backward: str
    update: str
    source: str


def pin_number(pin: str) -> int:
    """Return the number of a pin through all GPIO ports, which have 16 pins (STM32) or 32 (nRF).

    Raises:
        ValueError: it is no such pin.
    """
    if match := re.fullmatch(r"P([A-K])(\d|1[0-5])", pin):
        return 16 * (ord(match[1]) - ord("A")) + int(match[2])
    if match := re.fullmatch(r"P(\d)\.([0-2]\d|3[01])", pin):
        return 32 * int(match[1]) + int(match[2])
    raise ValueError(pin)


@dataclass(frozen=True)
class Sensors:
    """The port brings a camera and a depth sensor (runtime/link/sensors.h).

    Where they show recorded frames, `recording` is the address at which the emulator loads these, or 0 for a
    process, which reads a file.
    """

    recording: int | None


@dataclass(frozen=True)
class Board:
    """One board. Sizes are bytes; what is not known is None.

    `port` names the folders whose files make up the port; it is empty where start-up and clocks are left to
    the vendor's kit, to which our C is added as a component. `port_ram_bytes` is all static RAM of the port
    (receive ring, counters), or what is known of the kit's. The first RAM region holds data and stack.
    `kit` names the vendor's kit where it compiles and links the firmware, from a project that we write.
    `runs_in` says how this computer can play the board; `flash_runners` are the tools that bring firmware to
    a real one, the best first.
    """

    id: str
    name: str
    vendor: str
    mcu: str
    core: str
    arch: Arch
    clock_hz: int | None
    fpu: FpuKind | None
    dsp: bool
    mve: bool
    xpulp: bool
    regions: tuple[MemoryRegion, ...]
    stack_bytes: int
    rx_ring_bytes: int
    port_ram_bytes: int
    compiler: Compiler
    port: tuple[Path, ...]
    kit: KitName | None
    runs_in: tuple[HostKind, ...]
    cluster: Cluster | None
    emulator: Emulator | None
    serial: Serial | None
    usb: Usb | None
    flash_runners: "tuple[Runner, ...]"
    power: Power | None
    store: Store | None
    marks: Marks | None
    sensors: Sensors | None
    sources: Mapping[str, str]

    @property
    def isa(self) -> Isa:
        """What kernels may use: "mve" (Helium), "dsp" (Cortex-M's SIMD), "xpulp" (PULP's), or plain "c"."""
        if self.xpulp:
            return "xpulp"
        return "mve" if self.mve else ("dsp" if self.dsp else "c")

    @property
    def l3(self) -> L3 | None:
        """RAM outside the chip for constants, if the cluster has some."""
        return None if self.cluster is None else self.cluster.l3

    @property
    def unified(self) -> bool:
        """Whether code and constants take of the same bytes as data and stack."""
        return self.main_ram == self.flash

    @property
    def main_ram(self) -> MemoryRegion:
        """The region that holds initialised data, zeroed data and the stack."""
        return self._regions("ram")[0]

    @property
    def flash(self) -> MemoryRegion:
        """The region that holds code and constants."""
        return self._regions("flash")[0]

    @property
    def ram_bytes(self) -> int:
        """All RAM that the board has, stack included; code and constants too where it is unified."""
        return sum(region.bytes for region in self._regions("ram"))

    @property
    def flash_bytes(self) -> int:
        """All flash that the board has; data and stack included where it is unified."""
        return sum(region.bytes for region in self._regions("flash"))

    def _regions(self, kind: RegionKind) -> list[MemoryRegion]:
        """Return what can be used as `kind`."""
        return [region for region in self.regions if region.kind in (kind, "unified")]

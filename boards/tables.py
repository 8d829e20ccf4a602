"""The tables of a board description: each becomes a dataclass of `boards.board`."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from boards.board import (
    L3,
    Cluster,
    Compiler,
    CycleModel,
    Emulator,
    Marks,
    MemoryRegion,
    Power,
    RegionKind,
    Sensors,
    Serial,
    Store,
    Usb,
    pin_number,
)
from boards.flashing import RUNNERS, Runner
from boards.strict_table import StrictTable, closest

STORE_UNITS = (1, 2, 4, 8, 16, 32)
MOST_CORES = 8  # of a cluster; a core beside them orchestrates


def sources(table: StrictTable) -> dict[str, str]:
    """Read [sources]: where numbers outside tables come from, by key."""
    return {key: table.text(key) for key in table.entries()}


def regions(table: StrictTable) -> tuple[MemoryRegion, ...]:
    """Read the tables [regions.NAME], in their order."""
    return tuple(_region(name, table.table(name)) for name in table.entries())


def _region(name: str, table: StrictTable) -> MemoryRegion:
    region = MemoryRegion(
        name=name,
        kind=table.choice("kind", RegionKind),
        start=table.number("start"),
        bytes=table.number("bytes", least=1),
        source=table.text("source"),
    )
    table.finish()
    if not name.isidentifier():
        raise table.error("", "must be a C identifier: it becomes a section's name")
    return region


def compiler(table: StrictTable) -> Compiler:
    """Read [compiler]."""
    compiler = Compiler(
        prefix=table.text("prefix"),
        package=table.optional("package", table.text),
        flags=table.texts("flags"),
    )
    table.finish()
    return compiler


def cluster(table: StrictTable) -> Cluster:
    """Read [cluster]."""
    cluster = Cluster(
        cores=table.number("cores", least=1, most=MOST_CORES),
        l1_bytes=table.number("l1_bytes", least=1),
        master_stack_bytes=table.number("master_stack_bytes", least=512),
        slave_stack_bytes=table.number("slave_stack_bytes", least=512),
        l3=table.optional("l3", lambda key: _l3(table.table(key))),
        master_works=table.flag("master_works"),
        cycle_model=table.optional("cycle_model", lambda key: table.choice(key, CycleModel)) or "gap9",
        source=table.text("source"),
    )
    table.finish()
    for key in ("master_stack_bytes", "slave_stack_bytes"):
        if getattr(cluster, key) % 8:
            raise table.error(key, f"must be a multiple of 8, not {getattr(cluster, key)}")
    if cluster.l1_data_bytes <= 0:
        stacks = cluster.l1_bytes - cluster.l1_data_bytes
        raise table.error("l1_bytes", f"leaves nothing for data: the stacks alone take {stacks}")
    return cluster


def _l3(table: StrictTable) -> L3:
    """Read [cluster.l3]."""
    l3 = L3(
        bytes=table.number("bytes", least=1),
        bytes_per_cycle=table.optional("bytes_per_cycle", table.positive),
        source=table.text("source"),
    )
    table.finish()
    return l3


def emulator(table: StrictTable) -> Emulator:
    """Read [emulator]."""
    emulator = Emulator(
        program=table.text("program"),
        package=table.optional("package", table.text),
        arguments=table.texts("arguments"),
    )
    table.finish()
    return emulator


def serial(table: StrictTable) -> Serial:
    """Read [serial]."""
    serial = Serial(baud=table.number("baud", least=1))
    table.finish()
    return serial


def sensors(table: StrictTable) -> Sensors:
    """Read [sensors]."""
    sensors = Sensors(recording=table.optional("recording", table.number))
    table.finish()
    return sensors


def usb(table: StrictTable) -> Usb:
    """Read [usb]."""
    usb = Usb(
        ids=_usb_ids(table, "ids"),
        bootloader_ids=table.optional("bootloader_ids", lambda key: _usb_ids(table, key)) or (),
        reenumerates=table.flag("reenumerates"),
        source=table.text("source"),
    )
    table.finish()
    return usb


def _usb_ids(table: StrictTable, key: str) -> tuple[str, ...]:
    ids = table.texts(key)
    for usb_id in ids:
        if not re.fullmatch("[0-9a-f]{4}:[0-9a-f]{4}", usb_id):
            raise table.error(key, f'must hold "vendor:product" in lower-case hex, not {usb_id!r}')
    return ids


def flash_runners(table: StrictTable) -> tuple[Runner, ...]:
    """Read the tables [flash.NAME]; their order is that of preference."""
    runners: list[Runner] = []
    for name in table.entries():
        if name not in RUNNERS:
            hint = closest(name, list(RUNNERS))
            raise table.error(name, f"is no flash tool{hint}; there are {', '.join(RUNNERS)}")
        runners.append(_flash_runner(RUNNERS[name], table.table(name)))
    return tuple(runners)


def _flash_runner(runner: type[Runner], table: StrictTable) -> Runner:
    """Fill a runner's fields: strings (which may be absent), whole numbers, lists of strings."""
    read: dict[Any, Callable[[str], Any]] = {
        str: table.text,
        int: table.number,
        tuple[str, ...]: table.texts,
        str | None: lambda key: table.optional(key, table.text),
    }
    values = {field.name: read[field.type](field.name) for field in dataclasses.fields(runner)}
    table.finish()
    return runner(**values)


def power(table: StrictTable) -> Power:
    """Read [power]."""
    power = Power(
        active_mw=table.positive("active_mw"),
        condition=table.text("condition"),
        source=table.text("source"),
    )
    table.finish()
    return power


def store(table: StrictTable) -> Store:
    """Read [store]."""
    store = Store(
        start=table.number("start"),
        bytes=table.number("bytes", least=1),
        sector_bytes=table.number("sector_bytes", least=1),
        unit_bytes=table.number("unit_bytes", least=1),
        source=table.text("source"),
    )
    table.finish()
    if store.unit_bytes not in STORE_UNITS:
        raise table.error("unit_bytes", f"must be one of {', '.join(map(str, STORE_UNITS))}")
    if store.sector_bytes % store.unit_bytes:
        raise table.error("sector_bytes", f"must be a multiple of unit_bytes, {store.unit_bytes}")
    if store.bytes % (2 * store.sector_bytes):
        raise table.error("bytes", "must be an even number of sectors: two slots of whole sectors")
    if store.start % store.sector_bytes:
        raise table.error("start", f"must be a multiple of sector_bytes, {store.sector_bytes}")
    return store


def marks(table: StrictTable) -> Marks:
    """Read [marks]."""
    marks = Marks(
        work=_pin(table, "work"),
        forward=_pin(table, "forward"),
        backward=_pin(table, "backward"),
        update=_pin(table, "update"),
        source=table.text("source"),
    )
    table.finish()
    if len({marks.work, marks.forward, marks.backward, marks.update}) < 4:
        raise table.error("", "names a pin twice")
    return marks


def _pin(table: StrictTable, key: str) -> str:
    pin = table.text(key)
    try:
        pin_number(pin)
    except ValueError as error:
        raise table.error(key, f'must be a pin such as "PG14" or "P1.03", not {pin!r}') from error
    return pin

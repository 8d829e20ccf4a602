"""What a vendor's kit wants beside the C of a project that it builds: a folder for each kit."""

from __future__ import annotations

from pathlib import Path

from boards.building import CODE, INCLUDE_FOLDERS, L3_FILE, OPTIMIZATION
from firmware_gen.c_text import c_name
from firmware_gen.plan import Plan
from firmware_gen.templates import listed, write_templates

KITS = Path(__file__).parent
# What constants in L3 want of GreenWaves' kit: drivers of flash, its read-only files, RAM outside the chip.
_MEMORIES = (
    "CONFIG_DRIVER_TYPE_FLASH",
    "CONFIG_DRIVER_TYPE_RAM",
    "CONFIG_DRIVER_MRAM",
    "CONFIG_DRIVER_READFS",
    "CONFIG_READFS_FLASH_TYPE_OSPI",
    "CONFIG_DRIVER_APS256XXN",
    "CONFIG_DRIVER_RAM_API",
)
_FILES = f"""
* L2 does not hold all constants. The rest is in `{L3_FILE}`: the firmware finds a file of that name in the
  flash's read-only file system and copies it to the RAM outside the chip when it starts. `fieldtune flash`
  writes both. What `-t run` needs:
  `export runner_args="--flash-property=$PWD/{L3_FILE}@flash:readfs_flash:files"`
  The firmware ends itself (`pmsis_exit`) with -3 if there is no flash, -4 no file system, -5 no file or one
  of another size, -6 no RAM or too little, -7 if what it reads back from there is not what belongs to it."""


def write_kit_files(plan: Plan, project: Path) -> None:
    """Write the build files for the kit of the plan's board beside the C files that `project` holds."""
    board = plan.board
    assert board.kit is not None
    assert board.cluster is not None
    assert board.serial is not None
    sources = sorted(path.relative_to(project).as_posix() for path in project.rglob("*.c"))
    words = {
        "MODEL": c_name(plan.graph.name),
        "BOARD": board.id,
        "SOURCES": listed(sources),
        "INCLUDES": listed(INCLUDE_FOLDERS),
        # The kit's templates choose how far to optimize.
        "FLAGS": listed(flag for flag in CODE if flag != OPTIMIZATION),
        "MASTER": str(board.cluster.master_stack_bytes),
        "SLAVE": str(board.cluster.slave_stack_bytes),
        "MAIN": str(board.stack_bytes),
        "BAUD": f"{board.serial.baud:,}",
        "STACK": f"{board.stack_bytes:,}",
        "MEMORIES": "".join(f"\n{key}=y" for key in _MEMORIES) if plan.l3 is not None else "",
        "FILES": _FILES if plan.l3 is not None else "",
    }
    write_templates(KITS / board.kit, project, words)

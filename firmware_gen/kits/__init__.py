"""What a vendor's kit wants beside the C of a project that it builds: a folder for each kit."""

from __future__ import annotations

from pathlib import Path

from boards.building import CODE, INCLUDE_FOLDERS, OPTIMIZATION
from firmware_gen.c_text import c_name
from firmware_gen.plan import Plan
from firmware_gen.templates import listed, write_templates

KITS = Path(__file__).parent


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
    }
    write_templates(KITS / board.kit, project, words)

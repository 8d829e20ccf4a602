"""A network as a part of the user's own firmware: our C, a header of a few calls, a build system's files.

A layout is a folder of ``layouts/``: its files are copied, and ``@WORDS@`` in them replaced.
"""

from __future__ import annotations

from pathlib import Path

from boards.building import CODE, FLOATS
from boards.description import PORTS
from fieldtune.errors import UserError
from firmware_gen.c_text import c_name
from firmware_gen.component_header import CORE, component_header, needs_soft_float
from firmware_gen.emit.model import model_c
from firmware_gen.plan import Plan
from firmware_gen.project import replace_project, write_plan, write_runtime
from firmware_gen.templates import listed, write_templates
from zoo.task import Task

LAYOUT_FILES = Path(__file__).parent / "layouts"
LAYOUTS = tuple(sorted(path.name for path in LAYOUT_FILES.iterdir()))
HEADER = "fieldtune.h"

_SOFT_FLOAT = "soft_float"
_SOFT_FLOAT_H = """\
/* Floating-point functions that round correctly, under names of our own: a C library has others. */
#ifndef FT_SOFT_FLOAT_H
#define FT_SOFT_FLOAT_H

float fmaf(float x, float y, float z) __asm__("ft_fmaf");
float sqrtf(float x) __asm__("ft_sqrtf");

#endif
"""
# An Arduino library cannot choose how it is compiled; see CODE in boards/building.py.
_OWN_OPTIONS = '#pragma GCC optimize("O2", "fp-contract=off", "no-strict-aliasing")\n'


def write_component(plan: Plan, task: Task | None, layout: str, out: Path) -> None:
    """Write a component for `plan` to the folder `out`; an older one there is replaced as a whole.

    Raises:
        UserError: there is no such layout or none for the board, or `out` is something else than a project or
            cannot be written.
    """
    if plan.board.cluster is not None:
        raise UserError(
            f"there is no component for {plan.board.id}: its layers run on a cluster, through calls of the "
            "vendor's kit; leave out --layout, and take from the project what your firmware needs"
        )
    if layout not in LAYOUTS:
        raise UserError(f"there is no layout '{layout}'; the layouts are {', '.join(LAYOUTS)}")
    replace_project(out, lambda folder: _write(plan, task, layout, folder))


def _write(plan: Plan, task: Task | None, layout: str, folder: Path) -> None:
    core = folder / "src" / CORE
    write_runtime(plan, core)
    head = _OWN_OPTIONS if layout == "arduino" else ""
    if needs_soft_float(plan):
        source = (PORTS / _SOFT_FLOAT / f"{_SOFT_FLOAT}.c").read_text()
        head += f'#include "{_SOFT_FLOAT}.h"\n'
        (core / f"{_SOFT_FLOAT}.h").write_text(_SOFT_FLOAT_H)
        (core / f"{_SOFT_FLOAT}.c").write_text(f'#include "{_SOFT_FLOAT}.h"\n{source}')
    (core / "model.c").write_text(head + model_c(plan))
    (folder / "src" / HEADER).write_text(component_header(plan, task))
    write_plan(plan, folder)
    sources = sorted(path.relative_to(folder).as_posix() for path in core.rglob("*.c"))
    words = {
        "MODEL": c_name(plan.graph.name),
        "SOURCES": listed(sources),
        "FLAGS": listed(_flags(plan)),
        "STACK": str(plan.board.stack_bytes),
    }
    write_templates(LAYOUT_FILES / layout, folder, words)


def _flags(plan: Plan) -> tuple[str, ...]:
    floats = FLOATS if plan.board.fpu and plan.board.arch != "host" else ()
    return (*CODE, *floats)

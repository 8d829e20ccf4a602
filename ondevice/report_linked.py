"""The page of a memory profile: sections, symbols, layers, stack, and the plan's tensors over time."""

from html import escape

from boards.memory_map import Section
from fieldtune.sizes import format_size
from firmware_gen.plan import Plan
from ondevice.memory_profile import MemoryProfile
from ondevice.report_html import NBSP, page, percent, section, table, tiles
from ondevice.report_memory import memory_section

_MOST_SYMBOLS = 30
_MOST_FRAMES = 12
_KINDS = {
    "text": "code and constants, in flash",
    "data": "initial values in flash, and RAM",
    "bss": "RAM, zeros at the start",
    "stack": "RAM, reserved",
}


def linked_page(plan: Plan, found: MemoryProfile) -> str:
    """Return the page for `found`, which was linked from `plan`."""
    described = plan.describe() | {"flash_bytes": found.flash_bytes}
    sections = (
        _sections_section(found),
        _symbols_section(found),
        _layers_section(found),
        _stack_section(found),
        memory_section(described),
    )
    title = f"{plan.graph.name} on {found.board.name}"
    return page(title, "Fieldtune memory", _tiles(found), sections, "the linked firmware and its plan")


def _tiles(found: MemoryProfile) -> str:
    used = "unknown" if found.stack_used is None else f"{found.stack_used:,}{NBSP}B"
    return tiles(
        [
            ("Flash", f"{found.flash_bytes / 1024:,.1f}{NBSP}K", f"{found.flash_bytes:,} bytes, linked"),
            ("Static RAM", f"{found.ram_bytes / 1024:,.1f}{NBSP}K", f"{found.ram_bytes:,} bytes, linked"),
            ("Deepest stack", used, f"of {format_size(found.board.stack_bytes)} reserved"),
        ]
    )


def _sections_section(found: MemoryProfile) -> str:
    taken = [part for part in found.placed.sections if part.bytes]
    rows = [_section_row(found, part) for part in taken]
    intro = "<p>As the linker placed them. What no symbol covers: vectors, strings, alignment.</p>"
    head = ("Section", "Address", "Bytes", "No symbol")
    numbers = f'<div class="dense">{table(head, rows)}</div>'
    return section("Sections", intro, numbers)


def _section_row(found: MemoryProfile, part: Section) -> tuple[str, ...]:
    name = f'{escape(part.name)}<span class="detail">{_KINDS[part.kind]}</span>'
    return name, f"{part.address:#010x}", f"{part.bytes:,}", f"{found.placed.unnamed_bytes(part):,}"


def _symbols_section(found: MemoryProfile) -> str:
    shown = found.placed.symbols[:_MOST_SYMBOLS]
    whole = max(sum(part.bytes for part in found.placed.sections), 1)
    rows = [
        (
            f'{escape(symbol.name)}<span class="detail">{symbol.kind} in {escape(symbol.section)}</span>',
            f"{symbol.bytes:,}",
            percent(symbol.bytes / whole),
        )
        for symbol in shown
    ]
    intro = f"<p>The largest {len(shown)} of {len(found.placed.symbols)}; --json lists all of them.</p>"
    return section("Symbols", intro, table(("Symbol", "Bytes", "Of all sections"), rows))


def _layers_section(found: MemoryProfile) -> str:
    rows = [
        (
            f'{escape(layer.name)}<span class="detail">{escape(layer.op)}, {layer.phase}</span>',
            f"{layer.code_bytes:,}",
            "–" if layer.frame_bytes is None else f"{layer.frame_bytes:,}",
            f"{layer.alive_bytes:,}",
        )
        for layer in found.layers
    ]
    caption = "Bytes. In use: tensors of the arena that are needed while the layer runs."
    numbers = table(("Layer", "Code", "Stack frame", "In use"), rows, caption)
    return section("Layers", f'<div class="dense">{numbers}</div>')


def _stack_section(found: MemoryProfile) -> str:
    if found.stack_used is None:
        says = "Nothing was run, so how deep the stack goes is not known; --port measures it on the board."
    else:
        says = (
            f"The deepest mark in the painted stack: {found.stack_used:,} bytes of "
            f"{found.board.stack_bytes:,}, after one run and all that the link needed."
        )
    frames = sorted(found.stack_frames.items(), key=lambda item: (-item[1], item[0]))[:_MOST_FRAMES]
    rows = [(escape(name), f"{size:,}") for name, size in frames]
    caption = (
        "The largest frames as the compiler states them. Calls within calls add up; no sum is made here."
    )
    return section("Stack", f"<p>{says}</p>", table(("Function", "Frame"), rows, caption))

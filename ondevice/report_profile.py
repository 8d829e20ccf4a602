"""The report of a profile: one HTML page that stands alone, with a bar for every layer."""

from collections.abc import Sequence
from html import escape

from fieldtune.sizes import format_size
from firmware_gen.plan import Plan
from ondevice.profile import PHASES, Layer, Profile
from ondevice.report_figures import composition, key
from ondevice.report_html import NBSP, page, pairs, percent, section, table, tiles, words
from ondevice.report_memory import memory_section

_WHAT_IS_COUNTED = {
    "instructions": (
        "Instructions as the emulator counts them, not cycles: it knows no pipeline, cache or wait state."
    ),
    "cycles": "Cycles of the board’s own counter.",
    "ns": "Nanoseconds of the board’s own clock.",
}
_COLUMN = {"instructions": "Instructions", "cycles": "Cycles", "ns": "ns"}


def profile_page(plan: Plan, found: Profile) -> str:
    """Return the page for `found`, which was counted on the firmware of `plan`."""
    described = plan.describe() | {"flash_bytes": found.flash_bytes}
    sections = (
        _layers_section(found),
        _phases_section(found) if found.trains else "",
        _flash_section(found),
        memory_section(described),
        _board_section(plan, found),
    )
    title = f"{plan.graph.name} on {found.board.name}"
    head = f"{_lead(found)}\n{_tiles(found)}"
    return page(title, "Fieldtune profile", head, sections, "what was counted on the board")


def _lead(found: Profile) -> str:
    macs = sum(layer.macs for layer in found.layers)
    says = f"One {found.what} takes <strong>{found.total:,} {found.unit}</strong>"
    if macs:
        says += f" for {macs:,} multiply-accumulates: <strong>{found.total / macs:.2f}</strong> for each"
    return f'<p class="lead">{says}.</p>'


def _tiles(found: Profile) -> str:
    numbers = [
        ("All in one go", f"{found.total:,}", found.unit),
        ("Static RAM", _kibibytes(found.ram_bytes), f"{found.ram_bytes:,} bytes"),
        ("Flash", _kibibytes(found.flash_bytes), f"{found.flash_bytes:,} bytes, linked"),
        (
            "Deepest stack",
            f"{found.stack_bytes:,}{NBSP}B",
            f"of {format_size(found.board.stack_bytes)} reserved",
        ),
    ]
    if found.energy_uj is not None:
        numbers.append(("Energy", f"{found.energy_uj:,.1f}{NBSP}µJ", "an estimate"))
    return tiles(numbers)


def _kibibytes(count: int) -> str:
    return f"{count / 1024:,.1f}{NBSP}K"


# --- the layers


def _layers_section(found: Profile) -> str:
    intro = (
        "<p>Each layer is counted alone, in the order in which they run. "
        f"{escape(_WHAT_IS_COUNTED[found.unit])}</p>"
    )
    signs = key(*((phase, phase) for phase in PHASES)) if found.trains else ""
    counted = sum(layer.count for layer in found.layers)
    most = max(layer.count for layer in found.layers)
    bars = "".join(_bar(layer, counted, most) for layer in found.layers)
    rows = [_row(layer, counted) for layer in found.layers]
    unit = _COLUMN[found.unit]
    head = ("Layer", "MACs", unit, f"{unit} a MAC", "Share")
    caption = "MACs: multiply-accumulates, taps in the padding included."
    numbers = f'<div class="dense">{table(head, rows, caption)}</div>'
    return section("Layers", intro, signs, f'<ol class="bars">{bars}</ol>', numbers)


def _bar(layer: Layer, counted: int, most: int) -> str:
    """Return a layer's name, share, and bar; the longest bar is as wide as there is room."""
    width = f"{100 * layer.count / max(most, 1):.2f}%"
    name = f'{escape(layer.name)} <span class="bar-op">{escape(layer.op)}</span>'
    return (
        f'<li><span class="bar-name">{name}</span>'
        f'<span class="bar-share">{_share(layer.count, counted)}</span>'
        f'<span class="bar-track"><i class="{layer.phase}" style="width:{width}"></i></span></li>'
    )


def _row(layer: Layer, counted: int) -> tuple[str, ...]:
    return (
        f'{escape(layer.name)}<span class="detail">{escape(layer.op)}, {layer.phase}</span>',
        f"{layer.macs:,}" if layer.macs else "–",
        f"{layer.count:,}",
        f"{layer.count / layer.macs:.3f}" if layer.macs else "–",
        _share(layer.count, counted),
    )


def _share(count: int, counted: int) -> str:
    return percent(count / max(counted, 1))


def _phases_section(found: Profile) -> str:
    counts = [(phase, found.phase_count(phase)) for phase in PHASES]
    return section("Phases", composition("Phase", _COLUMN[found.unit], counts, _total(counts)))


def _total(parts: Sequence[tuple[str, int]]) -> int:
    return max(sum(size for _, size in parts), 1)


# --- memory and board


def _flash_section(found: Profile) -> str:
    parts = [(words(name), size) for name, size in found.flash.items()]
    intro = f"<p>The linked image takes {format_size(found.flash_bytes)} of flash.</p>"
    return section("Flash", intro, composition("What flash holds", "Bytes", parts, _total(parts)))


def _board_section(plan: Plan, found: Profile) -> str:
    board = found.board
    rows = [
        ("Board", f"{board.name} ({board.id})"),
        ("Core", board.core),
        ("Clock", "–" if board.clock_hz is None else f"{board.clock_hz / 1e6:g}{NBSP}MHz"),
        ("Kernels", board.isa),
        ("Prefers", plan.prefer),
        ("Counting nothing gives", f"{found.call:,} {found.unit}, a part of every layer’s count"),
    ]
    if found.energy_source is not None:
        rows.append(("Energy", found.energy_source))
    return section("Board", pairs(rows))

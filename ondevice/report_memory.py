"""The report's section on memory: what RAM holds, and the plan's tensors over the steps of the schedule."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from fieldtune.sizes import format_size
from ondevice.report_figures import SPAN, Axis, composition, key, plot, step_axis
from ondevice.report_html import absent, number, pairs, percent, section, table, text, words

_MOST_TENSORS = 8
_RAM_PARTS = {
    "arena": "Arena",
    "weights": "Learning weights",
    "link": "Link buffers",
    "state": "Runtime state",
}
_BESIDES = {
    "stack_bytes": "Stack",
    "flash_bytes": "Flash",
    "macs_forward": "Multiply-accumulates forward",
    "macs_backward": "Multiply-accumulates backward",
}


@dataclass(frozen=True)
class Placed:
    """A tensor with its place: bytes from `offset`, in use from step `first` to step `last`."""

    name: str
    region: str
    bytes: int
    offset: int
    first: int
    last: int


def memory_section(plan: Mapping[str, Any]) -> str:
    """Return the section for a `plan.json`, of which any part may be missing."""
    if not plan:
        return section("Memory", absent("memory plan", "plan.json is not in the session"))
    tensors = placed_tensors(plan)
    labels = [str(label) for label in plan.get("steps") or []]
    regions = dict.fromkeys(tensor.region for tensor in tensors)
    maps = [_region(region, [t for t in tensors if t.region == region], labels) for region in regions]
    if not maps:
        maps = [absent("memory map", "plan.json lists no tensors with a place")]
    return section("Memory", _composition(plan), _besides(plan), *maps, _largest(tensors))


def placed_tensors(plan: Mapping[str, Any]) -> list[Placed]:
    """Return the tensors of a plan that say where and when they live."""
    keys = ("bytes", "offset", "first", "last")
    return [
        Placed(
            str(tensor.get("name", "")),
            str(tensor.get("region", "arena")),
            *(int(tensor[key]) for key in keys),
        )
        for tensor in plan.get("tensors") or []
        if all(isinstance(tensor.get(key), int) for key in keys) and 0 <= tensor["first"] <= tensor["last"]
    ]


def peak(tensors: Sequence[Placed]) -> tuple[int, int]:
    """Return the first step at which the most bytes are in use, and how many."""
    live = np.zeros(max(tensor.last for tensor in tensors) + 1, np.int64)
    for tensor in tensors:
        live[tensor.first : tensor.last + 1] += tensor.bytes
    return int(live.argmax()), int(live.max())


# --- what RAM holds


def _composition(plan: Mapping[str, Any]) -> str:
    ram = plan.get("ram") or {}
    sizes = {words(name) if name not in _RAM_PARTS else _RAM_PARTS[name]: number(ram, name) for name in ram}
    parts = [(name, int(size)) for name, size in sizes.items() if size is not None]
    total = int(number(plan, "ram_bytes") or sum(size for _, size in parts))
    intro = (
        f"<p>Placed before the firmware is built: {format_size(total)} of static RAM.</p>" if total else ""
    )
    if not parts or not total:
        return intro + absent("parts of the RAM", "plan.json does not name them")
    return intro + composition("What RAM holds", "Bytes", parts, total)


def _besides(plan: Mapping[str, Any]) -> str:
    rows = []
    for name, label in _BESIDES.items():
        value = number(plan, name)
        if value is not None:
            rows.append((label, format_size(int(value)) if name.endswith("bytes") else f"{value:,.0f}"))
    if plan.get("trained"):
        rows.append(("What learns", text(plan["trained"])))
    return f"<h3>Besides</h3>{pairs(rows)}" if rows else ""


# --- memory over time


def _region(region: str, tensors: Sequence[Placed], labels: Sequence[str]) -> str:
    at, live = peak(tensors)
    size = max(tensor.offset + tensor.bytes for tensor in tensors)
    says = (
        f"It is fullest in step {_step(at, labels)}, where {format_size(live)}, "
        f"{percent(live / max(size, 1), 0)} of it, hold values that are still needed."
    )
    title = f"<h3>Over time: {escape(region)}, {format_size(size)}</h3>"
    return f"{title}<p>{escape(says)}</p>{memory_map(tensors, labels)}"


def memory_map(tensors: Sequence[Placed], labels: Sequence[str]) -> str:
    """Return the tensors of one region as rectangles: steps to the right, addresses upwards.

    Args:
        tensors: at least one.
        labels: what each step does; may be shorter than the schedule.
    """
    steps = max(max(tensor.last for tensor in tensors) + 1, len(labels))
    size = max(max(tensor.offset + tensor.bytes for tensor in tensors), 1)
    at, live = peak(tensors)
    line = f"{SPAN * (at + 0.5) / steps:.2f}"
    drawing = "".join(_rectangle(tensor, steps, size, at, labels) for tensor in tensors)
    drawing += (
        f'<line class="peak-line" vector-effect="non-scaling-stroke" x1="{line}" x2="{line}" y1="0" '
        f'y2="{SPAN:g}"/>'
    )
    alt = f"{len(tensors)} tensors over {steps} steps; the most, {format_size(live)}, is in use in step {at}."
    signs = key(
        ("tensor-sign peak", "in use at the peak"),
        ("tensor-sign", "in use at other steps"),
        ("line peak-line", f"peak, step {at}"),
    )
    names = "".join(_name(tensor, steps, size) for tensor in tensors)
    x, y = step_axis("step of the schedule", steps), _byte_axis(size)
    return f"<figure>{signs}{plot('map-height', drawing, alt, x, y, names)}</figure>"


def _rectangle(tensor: Placed, steps: int, size: int, at: int, labels: Sequence[str]) -> str:
    kind = "tensor peak" if tensor.first <= at <= tensor.last else "tensor"
    x, width = SPAN * tensor.first / steps, SPAN * (tensor.last + 1 - tensor.first) / steps
    y, height = SPAN * (1 - (tensor.offset + tensor.bytes) / size), SPAN * tensor.bytes / size
    life = f"steps {_step(tensor.first, labels)} to {_step(tensor.last, labels)}"
    title = f"{tensor.name}: {format_size(tensor.bytes)} at {tensor.offset:,}, {life}"
    return (
        f'<rect class="{kind}" vector-effect="non-scaling-stroke" x="{x:.2f}" y="{y:.2f}" '
        f'width="{width:.2f}" height="{height:.2f}"><title>{escape(title)}</title></rect>'
    )


def _name(tensor: Placed, steps: int, size: int) -> str:
    """Return the tensor's name over its rectangle if there is room for it."""
    width, height = 100 * (tensor.last + 1 - tensor.first) / steps, 100 * tensor.bytes / size
    if width < 14 or height < 7.5:
        return ""
    place = f"left:{100 * tensor.first / steps:.2f}%;bottom:{100 * tensor.offset / size:.2f}%"
    return (
        f'<span class="tensor-name" style="{place};width:{width:.2f}%;height:{height:.2f}%">'
        f"{escape(tensor.name)}</span>"
    )


def _byte_axis(size: int) -> Axis:
    """Return an axis from 0 to `size` with ticks at multiples of a power of two."""
    step = 2 ** max(math.ceil(math.log2(size / 6)), 0)
    return Axis("address", 0, size, tuple(range(0, size + 1, step)), text=_kibibytes)


def _kibibytes(count: float) -> str:
    return f"{count / 1024:g} K" if count else "0"


def _step(step: int, labels: Sequence[str]) -> str:
    return f"{step} ({labels[step]})" if step < len(labels) else str(step)


def _largest(tensors: Sequence[Placed]) -> str:
    if not tensors:
        return ""
    largest = sorted(tensors, key=lambda t: (-t.bytes, t.region, t.offset, t.first))[:_MOST_TENSORS]
    rows = [(escape(t.name), f"{t.bytes:,}", f"{t.offset:,}", f"{t.first}–{t.last}") for t in largest]
    title = f"<h3>The largest of {len(tensors)} tensors</h3>"
    return title + table(("Tensor", "Bytes", "Offset", "Steps"), rows)

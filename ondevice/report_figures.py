"""Images, colour bars and charts of a session's report, as HTML.

A chart is an SVG that stretches to any width, with its text beside it as HTML: so lines keep their width and
letters their size on a laptop and on a phone. Colours of charts come from `templates/report.css`.
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ondevice.report_html import NBSP, absent, percent, table

UNKNOWN_RGB = (201, 201, 201)  # --unknown in the style sheet; neither colour map passes near it
DEPTH_COLOURS, ERROR_COLOURS = "viridis", "magma"  # perceptually uniform, safe for colour-blind readers
CLASS_COLOURS = "Paired"  # without grey, which is unknown
SPAN = 1000.0  # side of the stretched drawing
_PARTS = 4  # --part-1 to --part-4 in the style sheet


# --- images


def image(rgb: NDArray[np.uint8], alt: str) -> str:
    """Return rgb (h, w, 3) as an inline `<img>`."""
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(data, "PNG")
    source = base64.b64encode(data.getvalue()).decode()
    height, width = rgb.shape[:2]
    return f'<img src="data:image/png;base64,{source}" width="{width}" height="{height}" alt="{escape(alt)}">'


def coloured(
    values: NDArray[np.floating], known: NDArray[np.bool_], low: float, high: float, colours: str
) -> NDArray[np.uint8]:
    """Return values (h, w) in colours from `low` to `high`, beyond them the end's, unknown and NaN grey."""
    share = (np.nan_to_num(values, nan=low) - low) / (high - low)
    rgb = matplotlib.colormaps[colours](np.clip(share, 0, 1), bytes=True)[..., :3]
    grey = np.array(UNKNOWN_RGB, np.uint8)
    return np.where((known & ~np.isnan(values))[..., None], rgb, grey)


def class_colour(index: int) -> str:
    """Return a class's colour for the style sheet; classes beyond the colour map share colours."""
    red, green, blue = _class_rgb()[index % len(_class_rgb())]
    return f"#{red:02x}{green:02x}{blue:02x}"


def classes(indices: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return class indices (h, w) in their colours, unknown grey."""
    rgb = _class_rgb()[indices % len(_class_rgb())]
    return np.where(known[..., None], rgb, np.array(UNKNOWN_RGB, np.uint8))


@cache
def _class_rgb() -> NDArray[np.uint8]:
    colours = matplotlib.colormaps[CLASS_COLOURS]
    rgb: NDArray[np.uint8] = colours(np.arange(colours.N), bytes=True)[:, :3]
    return rgb


def colour_bar(title: str, low: float, high: float, colours: str) -> str:
    """Return a bar with its ends and its middle in metres."""
    stops = matplotlib.colormaps[colours](np.linspace(0, 1, 17), bytes=True)[:, :3]
    gradient = ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in stops)
    ends = "".join(f"<span>{value:.2f}{NBSP}m</span>" for value in (low, (low + high) / 2, high))
    bar = f'<div class="bar" style="background:linear-gradient(to right, {gradient})"></div>'
    return f'<div class="scale">{escape(title)}{bar}<div class="ends">{ends}</div></div>'


# --- axes


@dataclass(frozen=True)
class Axis:
    """Maps values from `low` to `high` to 0..1, linearly or by their logarithm."""

    name: str
    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False
    text: Callable[[float], str] = "{:g}".format

    def share(self, value: float) -> float:
        """Return where `value` lies between the ends."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def round_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Return about `count` round numbers from `low` to the first one at or above `high`."""
    span = max(high - low, 1e-12)
    decade = 10.0 ** math.floor(math.log10(span / count))
    step = next(decade * factor for factor in (1, 2, 5, 10) if decade * factor * count >= span * 0.999)
    return tuple(step * k for k in range(math.ceil(low / step), math.ceil(high / step - 1e-9) + 1))


def step_axis(name: str, last: int) -> Axis:
    """Return an axis from 0 to step `last`."""
    return Axis(name, 0, last, tuple(tick for tick in round_ticks(0, last) if tick <= last))


def linear_axis(name: str, low: float, high: float) -> Axis:
    """Return an axis that begins at `low` and ends with a tick at or above `high`."""
    ticks = round_ticks(low, high)
    return Axis(name, low, ticks[-1], ticks)


def log_axis(name: str, low: float, high: float) -> Axis:
    """Return a logarithmic axis with ticks at 1, 2, 5 of each decade that encloses `low` and `high`."""
    decades = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    values = [factor * 10.0**decade for decade in decades for factor in (1, 2, 5)]
    first = max(value for value in values if value <= low)
    last = min(value for value in values if value >= high)
    ticks = [value for value in values if first <= value <= last]
    if len(ticks) > 7:
        ticks = [value for value in ticks if f"{value:e}".startswith("1.0")]
    return Axis(name, first, last, tuple(ticks), logarithmic=True)


def plot(height: str, drawing: str, alt: str, x: Axis, y: Axis, over: str = "") -> str:
    """Return a drawing with its ticks.

    Args:
        height: class that gives the drawing its height.
        drawing: SVG in a square of side `SPAN`, y downwards.
        alt: what a reader who does not see the drawing should know.
        x: axis below the drawing.
        y: axis at its left.
        over: HTML laid over the drawing.
    """
    rows = "".join(
        f'<span class="y" style="bottom:{100 * y.share(tick):.2f}%">{escape(y.text(tick))}</span>'
        for tick in y.ticks
    )
    columns = "".join(
        f'<span class="x" style="left:{100 * x.share(tick):.2f}%">{escape(x.text(tick))}</span>'
        for tick in x.ticks
    )
    svg = (
        f'<svg class="{height}" viewBox="0 0 {SPAN:g} {SPAN:g}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(alt)}">{drawing}</svg>'
    )
    return f'<div class="plot">{svg}{over}{rows}{columns}<span class="axis">{escape(x.name)}</span></div>'


def key(*entries: tuple[str, str]) -> str:
    """Return a chart's key: pairs of a class, which draws the sign, and what the sign means."""
    signs = "".join(f'<span><i class="{sign}"></i>{escape(meaning)}</span>' for sign, meaning in entries)
    return f'<p class="key">{signs}</p>'


# --- shares of a whole


def composition(what: str, unit: str, parts: Sequence[tuple[str, int]], total: int) -> str:
    """Return a bar of parts that stand side by side, and their table.

    Args:
        what: heads the column of names.
        unit: of the sizes.
        parts: name and size of each.
        total: the size, above 0, of the whole bar.
    """
    pieces = "".join(
        f'<i style="width:{100 * size / total:.2f}%;background:{part_colour(k)}"></i>'
        for k, (_, size) in enumerate(parts)
    )
    alt = ", ".join(f"{name} {percent(size / total)}" for name, size in parts)
    rows = [
        (f"{swatch(part_colour(k))}{escape(name)}", f"{size:,}", percent(size / total))
        for k, (name, size) in enumerate(parts)
    ]
    bar = f'<div class="stack" role="img" aria-label="{escape(alt)}">{pieces}</div>'
    return bar + table((what, unit, "Share"), rows)


def part_colour(part: int) -> str:
    """Return the colour of the `part`-th part of a whole."""
    return f"var(--part-{part % _PARTS + 1})"


def swatch(colour: str) -> str:
    """Return a small square of a colour, to stand before its name."""
    return f'<span class="swatch" style="background:{colour}"></span>'


# --- the loss


def median_window(steps: int) -> int:
    """Return the odd window for a curve of `steps` steps: about a fifteenth of it, at least 5."""
    return max(steps // 15 // 2 * 2 + 1, 5)


def running_median(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the median of the `window` (odd) values around each, of fewer at the ends; NaN is left out."""
    half = window // 2
    parts = (values[max(k - half, 0) : k + half + 1] for k in range(len(values)))
    finite = (part[np.isfinite(part)] for part in parts)
    return np.array([np.median(part) if part.size else np.nan for part in finite])


def loss_curve(name: str, step: NDArray[np.int64], loss: NDArray[np.float64]) -> str:
    """Return one loss over the steps: each value, and the running median.

    Args:
        name: the loss's name.
        step: (n,), rising, n >= 1.
        loss: (n,); NaN where there was no label. What is not finite is left out.
    """
    last, steps = int(step[-1]), len(step)
    step, loss = step[~np.isnan(loss)], loss[~np.isnan(loss)]
    if loss.size == 0:
        return absent(f"curve of {name}", "no frame had a label for it")
    finite = loss[np.isfinite(loss)]
    if finite.size == 0:
        return absent(f"curve of {name}", "none of its values is finite, the network has diverged")
    low, high = float(finite.min()), float(finite.max())
    y = log_axis(name, low, high) if low > 0 and high / low > 20 else linear_axis(name, min(low, 0.0), high)
    x = step_axis("training step", last)
    window = median_window(len(step))
    median = running_median(loss, window)
    drawing = _grid(y) + _lines("raw", x, y, step, loss) + _lines("median", x, y, step, median)
    seen = median[np.isfinite(median)]
    alt = f"{name} over {len(step)} steps; its running median goes from {seen[0]:.3g} to {seen[-1]:.3g}."
    signs = key(("line raw", f"{name}, every step"), ("line median", f"running median over {window} steps"))
    notes = ["Logarithmic scale."] if y.logarithmic else []
    if loss.size < steps:
        notes.append(f"{steps - loss.size} of {steps} steps had no label for it.")
    if finite.size < loss.size:
        notes.append(f"{loss.size - finite.size} of {loss.size} values are not finite and not drawn.")
    caption = f"<figcaption>{' '.join(notes)}</figcaption>" if notes else ""
    return f"<figure>{signs}{plot('curve-height', drawing, alt, x, y)}{caption}</figure>"


def _grid(y: Axis) -> str:
    rows = (f"{SPAN * (1 - y.share(tick)):.1f}" for tick in y.ticks)
    return "".join(
        f'<line class="grid" vector-effect="non-scaling-stroke" x1="0" x2="{SPAN:g}" y1="{row}" y2="{row}"/>'
        for row in rows
    )


def _lines(kind: str, x: Axis, y: Axis, step: NDArray[np.int64], values: NDArray[np.float64]) -> str:
    """Return a polyline for every run of finite values."""
    gaps = np.flatnonzero(~np.isfinite(values))
    lines = []
    for run in np.split(np.arange(len(values)), gaps):
        # Every run but the first begins with the gap that it was split at.
        inside = run[np.isfinite(values[run])]
        points = " ".join(
            f"{SPAN * x.share(step[k]):.1f},{SPAN * (1 - y.share(values[k])):.1f}" for k in inside
        )
        if points:
            lines.append(f'<polyline class="{kind}" vector-effect="non-scaling-stroke" points="{points}"/>')
    return "".join(lines)

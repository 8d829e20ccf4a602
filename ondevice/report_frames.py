"""Held-out frames in a session's report: what the camera saw, what is true, what the network says."""

from html import escape

import numpy as np
from numpy.typing import NDArray

from ondevice import report_figures as figures
from ondevice.report_html import absent, metres, percent, section
from ondevice.session import Predictions, Segmentation
from zoo.frames import UNKNOWN_CLASS
from zoo.metrics import depth_metrics

_MOST_FRAMES = 5


def depth_frames(predictions: Predictions | None) -> str:
    """Return the section that shows the first depth output."""
    title = "Held-out frames"
    if predictions is None:
        return section(title, absent("images", "predictions.npz is not in the session"))
    usable = [k for k in range(len(predictions.truth)) if (predictions.truth[k] > 0).any()]
    if not usable:
        return section(title, absent("images", "no frame in predictions.npz has known depth"))
    known = predictions.truth > 0
    truths = predictions.truth[known]
    errors = np.abs(predictions.after[known] - truths)
    depths = _round_range(float(np.percentile(truths, 1)), float(np.percentile(truths, 99)))
    # Errors up to what all but the worst of the tuned network's are; the untuned network's may be far beyond.
    finite = errors[np.isfinite(errors)]
    worst = _round_range(0.0, float(np.percentile(finite, 98)) if finite.size else 1.0)[1]
    frames = "".join(
        _frame(predictions, usable[k], depths, worst) for k in _spread(len(usable), _MOST_FRAMES)
    )
    scales = (
        figures.colour_bar("Depth", *depths, figures.DEPTH_COLOURS),
        figures.colour_bar("Absolute error", 0.0, worst, figures.ERROR_COLOURS),
        '<div class="unknown">Unknown<div class="bar"></div></div>',
    )
    intro = (
        "<p>The network never trained on these. All images share the two scales; what lies beyond a scale "
        "has the colour of its end.</p>"
    )
    return section(
        title, intro, f'<div class="scales">{"".join(scales)}</div><div class="frames">{frames}</div>'
    )


def _frame(predictions: Predictions, k: int, depths: tuple[float, float], worst: float) -> str:
    truth = predictions.truth[k]
    known = truth > 0
    cells = [
        ("Camera", "what the camera saw", predictions.rgb[k]),
        ("True depth", "true depth", _depth_image(truth, known, depths)),
    ]
    errors = []
    for name, depth in (("Untuned", predictions.before[k]), ("Tuned", predictions.after[k])):
        rmse = metres(depth_metrics(depth, truth).rmse)
        errors.append(f"{rmse} {name.lower()}")
        beyond = np.mean((depth < depths[0]) | (depth > depths[1]))
        caption = f"{name}, off the scale" if beyond > 0.5 else name
        error = figures.coloured(np.abs(depth - truth), known, 0.0, worst, figures.ERROR_COLOURS)
        cells.append((caption, f"{name.lower()} network’s depth", _depth_image(depth, depth > 0, depths)))
        cells.append((f"{name}: error", f"{name.lower()} network’s error, RMSE {rmse}", error))
    items = "".join(
        f"<li>{figures.image(rgb, f'Frame {k + 1}: {alt}')}{escape(caption)}</li>"
        for caption, alt, rgb in cells
    )
    return (
        f'<article class="frame"><h3>Frame {k + 1}: RMSE {", ".join(errors)}</h3><ul>{items}</ul></article>'
    )


def segmented_frames(name: str, maps: Segmentation) -> str:
    """Return the section that shows the segmentation `name`."""
    truths = maps.truth[maps.truth != UNKNOWN_CLASS]
    classes = sorted({*np.unique(truths).tolist(), *np.unique(maps.before), *np.unique(maps.after)})
    signs = "".join(
        f"<span>{figures.swatch(figures.class_colour(index))}class {index}</span>" for index in classes
    )
    frames = "".join(
        _segmented_frame(maps, k) for k in _spread(len(maps.truth), _MOST_FRAMES) if len(maps.truth)
    )
    intro = "<p>The network never trained on these. A colour is a class; grey is unknown.</p>"
    return section(
        f"Held-out frames: {name}", intro, f'<p class="key">{signs}</p><div class="frames">{frames}</div>'
    )


def _segmented_frame(maps: Segmentation, k: int) -> str:
    truth = maps.truth[k]
    known = truth != UNKNOWN_CLASS
    everywhere = np.ones_like(known)
    cells = [
        ("Camera", "what the camera saw", maps.rgb[k]),
        ("True classes", "true classes", figures.classes(truth, known)),
    ]
    right = []
    for label, found in (("Untuned", maps.before[k]), ("Tuned", maps.after[k])):
        if known.any():
            right.append(f"{percent(float(np.mean(found[known] == truth[known])))} {label.lower()}")
        cells.append((label, f"{label.lower()} network’s classes", figures.classes(found, everywhere)))
    items = "".join(
        f"<li>{figures.image(rgb, f'Frame {k + 1}: {alt}')}{escape(caption)}</li>"
        for caption, alt, rgb in cells
    )
    says = f": pixels right, {', '.join(right)}" if right else ""
    return f'<article class="frame"><h3>Frame {k + 1}{says}</h3><ul>{items}</ul></article>'


def _depth_image(
    depth: NDArray[np.float32], known: NDArray[np.bool_], depths: tuple[float, float]
) -> NDArray[np.uint8]:
    return figures.coloured(depth, known, *depths, figures.DEPTH_COLOURS)


def _round_range(low: float, high: float) -> tuple[float, float]:
    """Return round ends that include `low` and `high`."""
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-3))) / 2
    first = np.floor(low / step)
    return float(first * step), float(max(np.ceil(high / step), first + 1) * step)


def _spread(count: int, most: int) -> list[int]:
    """Return up to `most` numbers below `count`, evenly spread."""
    return sorted({round(k) for k in np.linspace(0, count - 1, min(most, count))})

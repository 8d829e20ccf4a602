"""The report of pruning: what was removed, what it saves and what it costs, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ondevice.report_figures import SPAN, Axis, key, linear_axis, plot
from ondevice.report_html import NBSP, page, percent, section, table, tiles, words

_METRICS = ("instructions", "ram", "flash", "backward_ram")
_NAMES = {"ram": "RAM", "backward_ram": "RAM, learning"}
_TOP = 3.0  # times the loss as given: what is worse is drawn at the upper edge


def pruning_page(described: Mapping[str, Any]) -> str:
    """Return the page for what `fieldtune prune --json` prints."""
    sections = (
        section("Costs", _costs(described)),
        section("Outputs", _outputs(described)),
        section("Cost against loss", *(_pareto(described, metric) for metric in _known(described))),
        section("Layers", _layers(described)),
    )
    title = f"{described['model']} pruned for {described['board']}"
    return page(title, "Fieldtune prune", _head(described), sections, "what pruning came to")


def _head(described: Mapping[str, Any]) -> str:
    missed = described["missed"]
    says = "All goals and drops are kept." if not missed else f"Missed: {', '.join(missed)}."
    numbers = [
        (_name(metric), percent(_share(described["costs"]["after"], described, metric)), "of what it took")
        for metric in _known(described)
    ]
    numbers += [
        (name, f"{output['lost']:+.2f}{NBSP}{_unit(described, name)}", "worse (below 0: better)")
        for name, output in described["outputs"].items()
    ]
    return f'<p class="lead">{escape(says)}</p>\n{tiles(numbers)}'


def _known(described: Mapping[str, Any]) -> list[str]:
    return [metric for metric in _METRICS if described["costs"]["before"][metric]]


def _share(costs: Mapping[str, Any], described: Mapping[str, Any], metric: str) -> float:
    return float(costs[metric]) / float(described["costs"]["before"][metric])


def _name(metric: str) -> str:
    return _NAMES.get(metric, words(metric))


def _unit(described: Mapping[str, Any], output: str) -> str:
    return "points" if described["drops"][output]["points"] else "%"


def _costs(described: Mapping[str, Any]) -> str:
    before, after, goals = described["costs"]["before"], described["costs"]["after"], described["goals"]
    learns = before["backward_ram"] is not None
    rows = []
    for metric in _known(described):
        of_goal = {"ram": None if learns else "ram", "backward_ram": "ram"}.get(metric, metric)
        limit = None if of_goal is None else goals.get(of_goal)
        rows.append(
            (
                _name(metric),
                f"{before[metric]:,.0f}",
                f"{after[metric]:,.0f}",
                "–" if limit is None else f"{limit:,.0f}",
            )
        )
    caption = "Of the network in int8; instructions and the code in flash are estimates. RAM, flash: bytes."
    return table(("What", "Before", "After", "Goal"), rows, caption)


def _outputs(described: Mapping[str, Any]) -> str:
    rows = []
    for name, output in described["outputs"].items():
        scores = [output[when][kind] for kind in ("loss", "points") for when in ("before", "after")]
        cells = ["–" if value is None else f"{value:.4g}" for value in scores]
        allowed = f"{described['drops'][name]['value']:g}{NBSP}{_unit(described, name)}"
        rows.append((escape(name), *cells, f"{output['lost']:+.2f}", allowed))
    head = ("Output", "Loss before", "after", "Right before, %", "after", "Worse by", "Allowed")
    return table(head, rows, "Right: mIoU of a segmentation, accuracy of a class.")


def _pareto(described: Mapping[str, Any], metric: str) -> str:
    """Return a chart of all rounds: a cost, and the loss of the output that lost most, as shares."""
    rounds = described["rounds"]
    points = [
        (_share(each["costs"], described, metric), _worst(each["scores"], rounds[0]["scores"]))
        for each in rounds
    ]
    kept, steps = [each["accepted"] for each in rounds], [each["step"] for each in rounds]
    x = linear_axis(
        f"{_name(metric)}, share of what the network as given takes", 0.0, max(p[0] for p in points)
    )
    y = linear_axis(
        "worst loss", min(0.9, *(p[1] for p in points)), min(_TOP, max(1.1, *(p[1] for p in points)))
    )
    line = " ".join(_place(x, y, point) for point, accepted in zip(points, kept, strict=True) if accepted)
    front = f'<polyline class="median" vector-effect="non-scaling-stroke" points="{line}"/>'
    over = "".join(
        f'<span class="dot{"" if accepted else " undone"}" style="left:{100 * x.share(cost):.1f}%;'
        f'bottom:{100 * y.share(min(loss, y.high)):.1f}%" title="{step}"></span>'
        for step, (cost, loss), accepted in zip(steps, points, kept, strict=True)
    )
    alt = "; ".join(
        f"{step}: {cost:.2f} of the cost, {loss:.2f} times the loss"
        for step, (cost, loss) in zip(steps, points, strict=True)
    )
    signs = key(("line median", "accepted rounds, on the held-out frames"))
    caption = (
        "<figcaption>Upwards: loss, as a multiple of the network's as given, of the output for which it is "
        "largest. Rings: rounds that were undone.</figcaption>"
    )
    chart = plot("curve-height", front, alt, x, y, over)
    return f"<h3>{escape(_name(metric))}</h3><figure>{signs}{chart}{caption}</figure>"


def _worst(scores: Mapping[str, Any], first: Mapping[str, Any]) -> float:
    return max(
        float(score["loss"]) / max(float(first[name]["loss"]), 1e-12) for name, score in scores.items()
    )


def _place(x: Axis, y: Axis, point: tuple[float, float]) -> str:
    return f"{SPAN * x.share(point[0]):.1f},{SPAN * (1 - y.share(min(point[1], y.high))):.1f}"


def _layers(described: Mapping[str, Any]) -> str:
    rows: Sequence[tuple[str, ...]] = [
        (escape(name), str(before), str(after), percent(after / before, 0))
        for name, (before, after) in described["layers"].items()
    ]
    return table(("Layer", "Channels before", "after", "Left"), rows)

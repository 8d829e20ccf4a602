"""The report of a search: what no other network betters, and all that was tried, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ondevice.report_figures import SPAN, Axis, key, linear_axis, plot
from ondevice.report_html import page, pairs, percent, section, table, tiles, words

_METRICS = ("instructions", "ram", "flash", "backward_ram")
_NAMES = {"ram": "RAM", "backward_ram": "RAM, learning"}
_TOP = 3.0  # times the loss as given: what is worse is drawn at the upper edge


def search_page(described: Mapping[str, Any]) -> str:
    """Return the page for what `fieldtune search --json` prints."""
    sections = (
        section("Networks", _points(described), _losses(described)),
        section("Cost against loss", *(_chart(described, metric) for metric in _known(described))),
        section("Channels that stay", _widths(described)),
        section("Layers in float", _floats(described)),
    )
    title = f"{described['model']} searched for {described['board']}"
    return page(title, "Fieldtune search", _head(described), sections, "what a search came to")


def _head(described: Mapping[str, Any]) -> str:
    trials, points = described["trials"], described["points"]
    goals = ", ".join(f"{_name(metric)} {limit:,.0f}" for metric, limit in described["goals"].items())
    says = f"Limits: {goals}."
    correlation = described["rank_correlation"]
    numbers = [
        ("Networks", str(len(points)), "that no other betters"),
        ("Evaluated", str(len(trials)), f"{described['predicted']} of them predicted to be good"),
        ("Prediction", "–" if correlation is None else f"{correlation:.2f}", "rank correlation with losses"),
    ]
    return f'<p class="lead">{escape(says)}</p>\n{tiles(numbers)}'


def _known(described: Mapping[str, Any]) -> list[str]:
    return [metric for metric in _METRICS if described["trials"][0]["costs"][metric]]


def _name(metric: str) -> str:
    return _NAMES.get(metric, words(metric))


def _label(point: Mapping[str, Any]) -> str:
    return str(point["file"]).removesuffix(".onnx")


def _points(described: Mapping[str, Any]) -> str:
    metrics = _known(described)
    named = [(f"as given, {kind}", each) for kind, each in described["references"].items()]
    named += [(_label(point), point) for point in described["points"]]
    rows = [
        (escape(name), percent(each["worst"]), *(f"{each['costs'][metric]:,.0f}" for metric in metrics))
        for name, each in named
    ]
    caption = (
        "Loss: of the output that loses most, on the held-out frames, as a share of the network's as given, "
        "in float. Instructions and the code in flash are estimates. RAM, flash: bytes."
    )
    return table(("Network", "Loss", *map(_name, metrics)), rows, caption)


def _losses(described: Mapping[str, Any]) -> str:
    named = [("as given", described["given"])]
    named += [(_label(point), point["scores"]) for point in described["points"]]
    outputs = list(described["given"])
    rows = [
        (
            escape(name),
            *(
                "–" if scores[output][what] is None else f"{scores[output][what]:.4g}"
                for output in outputs
                for what in ("loss", "points")
            ),
        )
        for name, scores in named
    ]
    head = [cell for output in outputs for cell in (f"{output}: loss", "right, %")]
    caption = (
        "On the test frames, else on the held-out frames. Right: mIoU of a segmentation, accuracy of a class."
    )
    return table(("Network", *head), rows, caption)


def _chart(described: Mapping[str, Any], metric: str) -> str:
    """Return a chart of all that was evaluated: a cost, and the worst loss."""
    trials = described["trials"]
    whole = max(float(trial["costs"][metric]) for trial in trials)
    places = [(float(trial["costs"][metric]) / whole, float(trial["worst"])) for trial in trials]
    x = linear_axis(f"{_name(metric)}, share of the most that was tried", 0.0, 1.0)
    losses = [loss for _, loss in places]
    y = linear_axis("loss", min(0.9, *losses, _TOP), min(_TOP, max(1.1, *losses, 0.0)))
    chosen = [trial["point"] for trial in trials]
    over = "".join(
        f'<span class="dot{"" if is_point else " undone"}" style="left:{100 * x.share(cost):.1f}%;'
        f'bottom:{100 * y.share(min(loss, y.high)):.1f}%" title="network {number}"></span>'
        for number, ((cost, loss), is_point) in enumerate(zip(places, chosen, strict=True), 1)
    )
    line = " ".join(_place(x, y, place) for place in _front(places, chosen))
    front = f'<polyline class="median" vector-effect="non-scaling-stroke" points="{line}"/>'
    alt = "; ".join(f"{cost:.2f} of the cost, {loss:.2f} times the loss" for cost, loss in places)
    signs = key(("line median", "the least loss at this cost"))
    caption = (
        "<figcaption>Upwards: loss, as a multiple of the network's as given, of the output for which it is "
        "largest. Rings: networks that others better, or that keep no limit.</figcaption>"
    )
    chart = plot("curve-height", front, alt, x, y, over)
    return f"<h3>{escape(_name(metric))}</h3><figure>{signs}{chart}{caption}</figure>"


def _front(places: Sequence[tuple[float, float]], chosen: Sequence[bool]) -> list[tuple[float, float]]:
    """Return the chosen places that lose less than all that cost less."""
    front: list[tuple[float, float]] = []
    for place in sorted(place for place, is_point in zip(places, chosen, strict=True) if is_point):
        if not front or place[1] < front[-1][1]:
            front.append(place)
    return front


def _place(x: Axis, y: Axis, place: tuple[float, float]) -> str:
    return f"{SPAN * x.share(place[0]):.1f},{SPAN * (1 - y.share(min(place[1], y.high))):.1f}"


def _widths(described: Mapping[str, Any]) -> str:
    """Return what of each network is narrower than in the network as given."""
    rows = []
    for point in described["points"]:
        narrowed = [
            f"{group} {count} of {described['widths'][group][0]}"
            for group, count in point["channels"].items()
            if count < described["widths"][group][0]
        ]
        rows.append((_label(point), ", ".join(narrowed) or "all channels"))
    return pairs(rows)


def _floats(described: Mapping[str, Any]) -> str:
    return pairs(
        [(_label(point), ", ".join(point["float_layers"]) or "none") for point in described["points"]]
    )

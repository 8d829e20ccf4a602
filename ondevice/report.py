"""The report of a session: one HTML page that stands alone.

It is drawn from the session's files only. What a file does not say is left out, and a line says so. The same
files give the same bytes.
"""

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.files import write_text
from ondevice import report_figures as figures
from ondevice.report_frames import depth_frames, segmented_frames
from ondevice.report_html import (
    NBSP,
    absent,
    duration,
    metres,
    number,
    page,
    pairs,
    percent,
    section,
    table,
    text,
    tiles,
    words,
)
from ondevice.report_memory import memory_section
from ondevice.session import Curve, Session

_METRICS = (("rmse", "RMSE [m]", min), ("abs_rel", "abs. rel. error", min), ("delta1", "δ1", max))
_ALL_METRICS = (
    *_METRICS,
    ("sq_rel", "sq. rel. error [m]", min),
    ("rmse_log", "RMSE of ln", min),
    ("delta2", "δ2", max),
    ("delta3", "δ3", max),
)
_AVERAGES = {"pooled": "all known pixels", "per_image": "mean over frames"}
_CLASS_METRICS = (("accuracy", "Accuracy", max), ("miou", "Mean IoU", max))
_STATES = {"before": "Untuned network", "after": "Tuned on the board"}
_BASELINES = {"mean_map": "Mean depth map", "scale_only": "Untuned, scale corrected"}


def write_report(session_dir: Path, out: Path | None = None) -> Path:
    """Write the report of the session in `session_dir`, finished or not.

    Args:
        session_dir: the session's folder.
        out: the HTML file; `report.html` in the folder when None.

    Returns:
        The file that was written.

    Raises:
        UserError: there is no session, one of its files is damaged, or the report cannot be written.
    """
    target = out or session_dir / "report.html"
    write_text(target, _page(Session.open(session_dir)))
    return target


def _page(session: Session) -> str:
    config, curve = session.config, session.curve()
    results, plan = session.results() or {}, session.plan() or {}
    title = f"{_model_name(config)} on {text(config.get('board') or 'a board')}"
    head = f"{_lead(config, results)}\n{_tiles(results, plan, curve)}"
    sections = (
        _metrics_section(results),
        _outputs_section(results),
        _forgetting_section(results),
        depth_frames(session.predictions()),
        *(segmented_frames(name, maps) for name, maps in session.segmentations().items()),
        _loss_section(curve),
        memory_section(plan),
        _link_section(curve, results),
        _configuration_section(config),
    )
    return page(title, "Fieldtune session", head, sections, "the session’s own files")


# --- the head


def _model_name(config: Mapping[str, Any]) -> str:
    return text(config.get("model") or "a network").removesuffix(".onnx").rsplit("/", 1)[-1]


def _lead(config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Return the headline: what changed by how much, beside the baseline that looks at no image."""
    update = text(config["update"]) if config.get("update") else ""
    learning = f" Learning layers: <code>{escape(update)}</code>." if update else ""
    before, after = number(results, "before", "rmse"), number(results, "after", "rmse")
    steps, mean = number(results, "steps"), number(results, "baselines", "mean_map", "rmse")
    right, now = number(results, "before", "accuracy"), number(results, "after", "accuracy")
    if right is not None and now is not None:
        says = f"On held-out frames <strong>{percent(now)}</strong> is right, before {percent(right)}."
        return f'<p class="lead">{says}{learning}</p>'
    if before is None or after is None:
        says = "There are no results yet: it still runs, or was stopped."
        if steps is not None:
            says = f"It learned for {steps:,.0f} training steps on the board."
        return f'<p class="lead">{says}{learning}</p>'
    says = (
        f"On held-out frames the depth error {_verb(before, after)} from <strong>{metres(before)}</strong> "
    )
    says += f"to <strong>{metres(after)}</strong> RMSE"
    says += f" in {steps:,.0f} training steps on the board." if steps is not None else "."
    if mean:
        side = "below" if after < mean else "above"
        change = percent(abs(1 - after / mean))
        says += f" That is <strong>{change} {side}</strong> the mean depth map’s {metres(mean)}."
    knew, knows = (number(results, "source", state, "rmse") for state in _STATES)
    if knew is not None and knows is not None:
        says += f" On the source domain it {_verb(knew, knows)} from {metres(knew)} to {metres(knows)}."
    return f'<p class="lead">{says}{learning}</p>'


def _verb(before: float, after: float) -> str:
    return "fell" if after < before else "rose" if after > before else "stayed, going"


def _tiles(results: Mapping[str, Any], plan: Mapping[str, Any], curve: Curve) -> str:
    """Return the numbers that matter, those that are known."""
    found = []
    for name, key, say in (
        ("RMSE", "rmse", metres),
        (f"Within 25{NBSP}% of the truth, δ1", "delta1", percent),
    ):
        before, after = number(results, "before", key), number(results, "after", key)
        if after is not None:
            found.append((name, say(after), "" if before is None else f"from {say(before)}"))
    ram, seconds = number(plan, "ram_bytes"), _seconds(curve, results)
    if ram is not None:
        found.append(("RAM to train", f"{ram / 1024:,.1f}{NBSP}K", f"{ram:,.0f} bytes, static"))
    if seconds is not None:
        found.append(("Training time", duration(seconds), _rate(curve)))
    return tiles(found)


# --- the sections


def _metrics_section(results: Mapping[str, Any]) -> str:
    baselines = results.get("baselines") or {}
    metrics = {label: results[key] for key, label in _STATES.items() if results.get(key)}
    tuned = list(metrics).index(_STATES["after"]) if _STATES["after"] in metrics else -1
    metrics |= {_BASELINES.get(name, words(name)): values for name, values in baselines.items()}
    if not metrics:
        return section("Accuracy", absent("metrics", "results.json is not there or holds none"))
    caption = (
        "Over all known pixels of the held-out frames. RMSE and relative error: lower is better. "
        f"δ1, the share of pixels within 25{NBSP}% of the truth: higher is better. "
        "The best of each column is bold."
    )
    if not any("abs_rel" in values for values in metrics.values()):
        name = text(results.get("output") or "Network")
        return section("Accuracy", _output_table(name, metrics, "Over what is known of the held-out frames."))
    headline = _metric_table("Depth from", metrics, _METRICS, caption, tuned)
    return section("Accuracy", headline, *_all_metrics(results.get("outputs") or {}))


def _all_metrics(outputs: Mapping[str, Any]) -> list[str]:
    """Return tables of all metrics of each output that is depth, a table for each way to average them."""
    tables = []
    for name, found in outputs.items():
        for key, average in _AVERAGES.items():
            metrics = found.get(key) or {}
            if metrics:
                columns = [words({"before": "untuned", "after": "tuned"}.get(who, who)) for who in metrics]
                rows = [
                    (label, *_metric_column([number(m, metric) for m in metrics.values()], best))
                    for metric, label, best in _ALL_METRICS
                ]
                caption = "All metrics. The best of each row is bold."
                tables.append(table((f"{name}: {average}", *columns), rows, caption))
    return tables


def _outputs_section(results: Mapping[str, Any]) -> str:
    """Return what became of the outputs beside the one that the page is about, "" where there are none."""
    tables = []
    for name, found in (results.get("outputs") or {}).items():
        metrics = {label: found[key] for key, label in _STATES.items() if found.get(key)}
        if name == results.get("output") or not metrics:
            continue
        same = found.get("unchanged")
        says = "All predictions have the same bits before and after." if same else _changes(found)
        tables.append(_output_table(name, metrics, f"Over what is known of the held-out frames. {says}"))
    return section("Other outputs", *tables) if tables else ""


def _output_table(name: str, metrics: Mapping[str, Mapping[str, Any]], caption: str) -> str:
    known = [
        column
        for column in _METRICS + _CLASS_METRICS
        if any(column[0] in values for values in metrics.values())
    ]
    return _metric_table(name, metrics, known, caption)


def _changes(found: Mapping[str, Any]) -> str:
    """Return by how many points the shares of an output have changed; "" where it has none."""
    changes = []
    for key, label, _ in _CLASS_METRICS:
        before, after = number(found, "before", key), number(found, "after", key)
        if before is not None and after is not None:
            changes.append(f"{label}: {100 * (after - before):+.1f}{NBSP}points.")
    return " ".join(changes)


def _forgetting_section(results: Mapping[str, Any]) -> str:
    """Return what the network lost of the domain that it was trained on; nothing where nobody looked."""
    source = results.get("source") or {}
    # Sessions of earlier versions say nothing of single outputs.
    outputs = source.get("outputs") or ({"Source domain": source} if source else {})
    if not any(found.get(key) for found in outputs.values() for key in _STATES):
        return ""
    frames, replayed = (
        number(found, key) or 0 for found, key in ((source, "frames"), (results, "replayed_steps"))
    )
    caption = f"Over {frames:,.0f} frames of the domain that the network was trained on. "
    if replayed:
        steps = number(results, "steps") or 0
        caption += (
            f"{replayed:,.0f} of {steps:,.0f} steps trained on other frames of that domain; "
            "the loss curve has these steps, too."
        )
        caption += _latents_sentence(results.get("latents") or {})
    else:
        caption += "No step trained on that domain (--replay)."
    tables = []
    for name, found in outputs.items():
        metrics = {label: found[key] for key, label in _STATES.items() if found.get(key)}
        tables.append(_output_table(name, metrics, " ".join((caption, _changes(found))).strip()))
        caption = ""  # once is enough
    return section("Forgetting", *tables)


def _latents_sentence(latents: Mapping[str, Any]) -> str:
    """Return how source frames were kept and what that saved; nothing where whole frames were."""
    kept, frame, macs, frame_macs = (
        number(latents, key) for key in ("kept_bytes", "frame_bytes", "macs", "frame_macs")
    )
    if kept is None or frame is None or macs is None or not frame_macs:
        return ""
    return (
        f" Of each frame ({frame:,.0f}{NBSP}B) the host kept the activations at {latents.get('layer')} "
        f"({kept:,.0f}{NBSP}B); a step from these has {100 * macs / frame_macs:.0f}{NBSP}% of a whole one's "
        "multiply-accumulates."
    )


def _metric_table(
    title: str,
    metrics: Mapping[str, Mapping[str, Any]],
    columns: Sequence[tuple[str, str, Any]],
    caption: str,
    marked: int = -1,
) -> str:
    """Return a table of metrics, a row for each name; a column is (key, label, which is best: min or max)."""
    cells = [_metric_column([number(m, key) for m in metrics.values()], best) for key, _, best in columns]
    rows = [(escape(name), *(column[k] for column in cells)) for k, name in enumerate(metrics)]
    return table((title, *(label for _, label, _ in columns)), rows, caption, marked)


def _metric_column(values: list[float | None], best: Any) -> list[str]:
    """Return a column's cells, `best` (min or max) of them bold."""
    top = best((value for value in values if value is not None), default=None)
    cells = ["–" if value is None else f"{value:.3f}" for value in values]
    return [
        f"<strong>{cell}</strong>" if value is not None and value == top else cell
        for cell, value in zip(cells, values, strict=True)
    ]


def _loss_section(curve: Curve) -> str:
    if not curve.step.size:
        return section("Loss", absent("loss curve", "curve.csv is not there or holds no steps"))
    columns = zip(curve.loss_names, curve.losses.T, strict=True)
    return section("Loss", *(figures.loss_curve(name, curve.step, loss) for name, loss in columns))


def _link_section(curve: Curve, results: Mapping[str, Any]) -> str:
    rows = []
    seconds, resent = _seconds(curve, results), number(results, "resent_frames")
    if seconds is not None:
        rows.append(("Training time", duration(seconds)))
    if curve.step.size:
        rows.append(("Speed", _rate(curve)))
        rows.append(("Median step", f"{1000 * statistics.median(curve.seconds):,.1f}{NBSP}ms"))
        rows.append(("Slowest step", f"{1000 * curve.seconds.max():,.1f}{NBSP}ms"))
    if resent is not None or curve.step.size:
        rows.append(("Frames sent again", f"{curve.resent.sum() if resent is None else resent:,.0f}"))
    if curve.step.size:
        rows.append(
            ("Steps with a frame sent again", f"{np.count_nonzero(curve.resent):,} of {curve.step.size:,}")
        )
    return section("Link", pairs(rows) if rows else absent("link statistics", "nothing was sent yet"))


def _configuration_section(config: Mapping[str, Any]) -> str:
    options = [(_option(key), text(value)) for key, value in config.items() if not isinstance(value, Mapping)]
    groups = {"Options": options} | {
        words(key): [(_option(name), text(item)) for name, item in value.items()]
        for key, value in config.items()
        if isinstance(value, Mapping)
    }
    columns = [f"<div><h3>{escape(name)}</h3>{pairs(rows)}</div>" for name, rows in groups.items() if rows]
    if "versions" not in config:
        columns.append(absent("versions of machine and tools", "session.json does not say them"))
    return section("Configuration", f'<div class="columns">{"".join(columns)}</div>')


def _option(key: str) -> str:
    return key.replace("_", " ")


# --- numbers


def _seconds(curve: Curve, results: Mapping[str, Any]) -> float | None:
    """Return the training time: what the results say, or the sum of the steps so far."""
    seconds = number(results, "seconds")
    return float(curve.seconds.sum()) if seconds is None and curve.step.size else seconds


def _rate(curve: Curve) -> str:
    seconds = float(curve.seconds.sum())
    return f"{curve.step.size / seconds:.3g} steps a second" if seconds > 0 else ""

"""The HTML that all reports share; parameters named `html` are markup, all else gets escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

NBSP = "\u00a0"  # between a number and its unit
# No script, no request: what a page needs is in it.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, eyebrow: str, head_html: str, sections_html: Iterable[str], source: str) -> str:
    """Return a page that stands alone.

    Args:
        title: of the page; a long name in it may break after an underscore.
        eyebrow: the line above the title, which says what kind of page this is.
        head_html: what comes before the first section.
        sections_html: the sections.
        source: what the page is drawn from.
    """
    style = resources.files("ondevice").joinpath("templates/report.css").read_text()
    heading = escape(title).replace("_", "_<wbr>")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)} · Fieldtune</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">{escape(eyebrow)}</p>
<h1>{heading}</h1>
{head_html}
</header>
{"".join(sections_html)}
<footer>Drawn by Fieldtune from {escape(source)}; nothing is loaded from elsewhere.</footer>
</main>
</body>
</html>
"""


def tiles(numbers: Sequence[tuple[str, str, str]]) -> str:
    """Return the numbers that matter: what each is, its value, and what more there is to say."""
    cells = "".join(
        f'<div><dt>{escape(name)}</dt><dd class="value">{escape(value)}</dd><dd>{escape(more)}</dd></div>'
        for name, value, more in numbers
    )
    return f'<dl class="tiles">{cells}</dl>' if numbers else ""


def section(title: str, *html: str) -> str:
    """Return a section of the page."""
    return f"<section><h2>{escape(title)}</h2>{''.join(html)}</section>\n"


def absent(what: str, why: str) -> str:
    """Return the line that stands where a part is left out."""
    return f'<p class="note">This report has no {escape(what)}: {escape(why)}.</p>'


def table(head: Sequence[str], rows: Sequence[tuple[str, ...]], caption: str = "", marked: int = -1) -> str:
    """Return a table of numbers.

    Args:
        head: name of every column.
        rows: cells as html, the first of each row names it.
        caption: what the table shows.
        marked: row that stands out.
    """
    names = "".join(
        f'<th scope="col"{_number_class(column)}>{escape(name)}</th>' for column, name in enumerate(head)
    )
    body = []
    for k, (name, *cells) in enumerate(rows):
        values = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        kind = ' class="marked"' if k == marked else ""
        body.append(f'<tr{kind}><th scope="row">{name}</th>{values}</tr>')
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{names}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _number_class(column: int) -> str:
    return ' class="number"' if column else ""


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows
    )
    return f'<table class="pairs"><tbody>{body}</tbody></table>'


def number(value: Any, *path: str) -> float | None:
    """Return the finite number at a path of keys, or None."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def words(key: str) -> str:
    """Return a key of a file as a reader's words."""
    return key.replace("_", " ").capitalize()


def text(value: Any) -> str:
    """Return a value from a JSON file as a reader's text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return "–" if value is None else "yes" if value is True else "no" if value is False else str(value)


def metres(value: float) -> str:
    """Return a length with its unit."""
    return f"{value:.3f}{NBSP}m"


def percent(share: float, digits: int = 1) -> str:
    """Return a share in per cent."""
    return f"{100 * share:.{digits}f}{NBSP}%"


def duration(seconds: float) -> str:
    """Return seconds as a person says them."""
    if seconds < 90:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    long, short = (
        (f"{hours}{NBSP}h", f"{minutes}{NBSP}min") if hours else (f"{minutes}{NBSP}min", f"{rest}{NBSP}s")
    )
    return f"{long} {short}"

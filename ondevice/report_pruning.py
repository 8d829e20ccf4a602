"""The report of pruning: what was removed, what it saves and what it costs, as one HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ondevice.report_html import page, section


def pruning_page(described: Mapping[str, Any]) -> str:
    """Return the page for what `fieldtune prune --json` prints."""
    sections = (section("Costs", _costs(described)),)
    title = f"{described['model']} pruned for {described['board']}"
    return page(title, "Fieldtune prune", "", sections, "what pruning printed as JSON")

"""A measured energy shared among layers by a profile's counts: an estimate, and called one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fieldtune.errors import UserError

HOW = "estimate: the measured energy in the proportions of the profile's counts"


def shared_by_counts(energy_uj: float, profile: Path) -> dict[str, Any]:
    """Return ``layers`` and ``phases`` with their microjoules, for what ``profile --json`` printed.

    A layer's share is its count of the sum of all: as if every instruction or cycle took the same energy.

    Raises:
        UserError: the file is not what ``profile --json`` prints.
    """
    try:
        layers = json.loads(profile.read_text())["layers"]
        counted = sum(int(layer["count"]) for layer in layers)
        if counted <= 0:
            raise ValueError("nothing was counted")
        shared = [
            {
                "name": str(layer["name"]),
                "op": str(layer["op"]),
                "phase": str(layer["phase"]),
                "energy_uj": energy_uj * int(layer["count"]) / counted,
                "estimated": True,
            }
            for layer in layers
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{profile} is not what 'fieldtune profile --json' prints; write that to a file and give it"
        ) from error
    phases: dict[str, float] = {}
    for layer in layers:
        share = energy_uj * int(layer["count"]) / counted
        phases[str(layer["phase"])] = phases.get(str(layer["phase"]), 0.0) + share
    return {
        "layers": shared,
        "layers_source": HOW,
        "phases": [
            {"phase": name, "energy_uj": uj, "estimated": True, "source": HOW} for name, uj in phases.items()
        ],
    }

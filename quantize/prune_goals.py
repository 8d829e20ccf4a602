"""What pruning is asked for: how much may be taken, and how much worse each output may get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fieldtune.errors import UserError
from fieldtune.sizes import parse_size
from quantize.prune_costs import METRICS, Costs
from quantize.task_scores import Score
from zoo.task import Task

_DROP = re.compile(r"\s*(?:(?P<name>[^=]+?)\s*=)?\s*(?P<value>\d+(?:\.\d+)?)(?P<unit>%|pt)\s*")


@dataclass(frozen=True)
class Drop:
    """How much worse an output may get.

    Args:
        value: per cent of its loss, or percentage points of what is right.
        points: which of both.
    """

    value: float
    points: bool = False

    def of(self, before: Score, after: Score) -> float:
        """Return how much worse `after` is, in the same unit; below 0: better."""
        if self.points:
            return (before.points or 0.0) - (after.points or 0.0)
        return 100 * (after.loss / max(before.loss, 1e-12) - 1)

    def share(self, before: Score) -> float:
        """Return it as a share of what there is before, at most 1."""
        whole = before.points if self.points and before.points is not None else 100.0
        return min(self.value / max(whole, 1e-6), 1.0)

    def text(self, value: float) -> str:
        """Return a drop as a reader's words."""
        return f"{value:+.2f} points" if self.points else f"{value:+.1f} %"


@dataclass(frozen=True)
class Goals:
    """The most that a network may take, by metric."""

    limits: Mapping[str, float]

    def excess(self, costs: Costs) -> dict[str, float]:
        """Return by which share each metric is above its limit; 0 where it keeps it."""
        return {name: max(0.0, costs.of(name) / limit - 1) for name, limit in self.limits.items()}

    def hold(self, costs: Costs) -> bool:
        """Tell whether all limits are kept."""
        return not any(self.excess(costs).values())

    def on_the_way(self, planned: Costs, whole: Costs, share: float) -> Goals:
        """Return goals that are a `share` of the way from where a network is to these, by factors.

        They are for costs of whole layers: what the planner makes of them is taken to shrink as they do. A
        metric whose limit is kept is in none.
        """
        steps = {}
        for name, limit in self.limits.items():
            if planned.of(name) > limit:
                steps[name] = whole.of(name) * (limit / planned.of(name)) ** share
        return Goals(steps)


def parse_drops(text: str, task: Task) -> dict[str, Drop]:
    """Read ``disparity=2%,segments=1pt``; ``3%`` alone is for all outputs that are not named.

    Raises:
        UserError: it is no such list, names no output, leaves one out, or asks for points of an output that
            has none.
    """
    specs = {spec.name: spec for spec in task.learned}
    found: dict[str, Drop] = {}
    others: dict[str, Drop] = {}
    for part in text.split(","):
        match = _DROP.fullmatch(part)
        if match is None:
            raise UserError(
                f"'{part}' is no drop for --max-drop; give OUTPUT=2% (of its loss) or OUTPUT=1pt (of mIoU or "
                "accuracy), or 3% for all outputs that are not named"
            )
        name, drop = match["name"], Drop(float(match["value"]), match["unit"] == "pt")
        if name is not None and name not in specs:
            raise UserError(f"--max-drop names '{name}', but the outputs are {', '.join(specs)}")
        if name is None:
            others = dict.fromkeys(specs, drop)
        else:
            found[name] = drop
    drops = {**others, **found}
    for name, spec in specs.items():
        if name not in drops:
            raise UserError(
                f"--max-drop says nothing of '{name}'; name it, or add a drop without a name for the outputs "
                "that are not named, such as 3%"
            )
        if drops[name].points and spec.kind not in ("segmentation", "class"):
            raise UserError(
                f"--max-drop in points is for mIoU and accuracy, but '{name}' is of kind {spec.kind}; give a "
                f"share of its loss, such as {name}=2%"
            )
    return {name: drops[name] for name in specs}


def parse_goals(keep: Mapping[str, str], costs: Costs) -> Goals:
    """Read what may be taken, as bytes or instructions, or as a share of `costs`.

    Raises:
        UserError: it is neither, there is none, or instructions are not known on the board.
    """
    limits = {}
    for name in METRICS:
        if name not in keep:
            continue
        text, now = keep[name], costs.of(name)
        if not now:
            raise UserError(
                "instructions are estimated for microcontrollers only; leave out --keep-instructions"
            )
        share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
        limits[name] = now * float(share[1]) / 100 if share else float(_number(name, text))
        if limits[name] <= 0:
            raise UserError(f"--keep-{name} {text} leaves nothing; give more than 0")
    if not limits:
        raise UserError("there is nothing to prune for; give --keep-ram, --keep-flash or --keep-instructions")
    return Goals(limits)


def _number(metric: str, text: str) -> float:
    if metric != "instructions":
        return parse_size(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(M?)\s*", text)
    if match is None:
        raise UserError(
            f"'{text}' is no number of instructions; give a share such as 40%, or millions such as 33M"
        )
    return float(match[1]) * (1e6 if match[2] else 1)

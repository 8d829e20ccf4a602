"""What the link of a project can do besides inferring: ``runtime/link/parts.h`` tells it to the C code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from firmware_gen.plan import Plan

_SOURCES = {
    "store": ("link/store.c", "link/stored_weights.c"),
    "field": ("link/field_commands.c", "field/drift.c", "field/field.c", "field/sample.c"),
}
"""C files of the runtime that only firmware with this part has."""


@dataclass(frozen=True)
class LinkParts:
    """The parts of a link, by which requests that need others are refused.

    Args:
        steps: something learns.
        store: what is learned can be kept in the board's flash.
        field: there is a sample buffer, so that the board may learn without a host.
        initial: the weights that it began with are kept beside those that have learned.
    """

    steps: bool = True
    store: bool = True
    field: bool = True
    initial: bool = True

    @classmethod
    def of(cls, plan: Plan) -> LinkParts:
        """Return the parts that firmware for `plan` has; MLPerf Tiny's link has none."""
        steps = plan.mlperf is None and bool(plan.graph.trained)
        return cls(steps, steps and plan.board.store is not None, plan.field is not None, plan.keeps_initial)

    def has(self, source: PurePath) -> bool:
        """Tell whether a C file, given from the runtime's folder, belongs to no part or to one of these."""
        missing = [part for part in _SOURCES if not getattr(self, part)]
        return all(source.as_posix() not in _SOURCES[part] for part in missing)

    def header(self) -> str:
        """Return the text of ``parts.h``."""
        return (
            "/* What this project's link can do, told by the generator: do not edit. */\n"
            "#ifndef FT_PARTS_H\n#define FT_PARTS_H\n\n"
            f"#define FT_HAS_STEPS {int(self.steps)} /* 0: STEP is refused */\n"
            f"#define FT_HAS_STORE {int(self.store)} /* 0: SLOT, SAVE, LOAD, ERASE and KEEP are refused */\n"
            f"#define FT_HAS_FIELD {int(self.field)} /* 0: what is about a sample buffer is refused */\n"
            f"#define FT_HAS_INITIAL {int(self.initial)} /* 0: RESET_WEIGHTS is refused */\n\n"
            "#endif\n"
        )

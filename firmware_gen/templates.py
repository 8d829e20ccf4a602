"""Files of other build systems: copied, with ``@WORDS@`` in them replaced."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path


def write_templates(source: Path, out: Path, words: Mapping[str, str]) -> None:
    """Write each file below `source` to the same place below `out`; ``@WORD@`` becomes ``words["WORD"]``."""
    for template in sorted(path for path in source.rglob("*") if path.is_file()):
        target = out / template.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(re.sub(r"@([A-Z]+)@", lambda match: words[match[1]], template.read_text()))


def listed(entries: Iterable[object]) -> str:
    """Return entries as lines of a list in CMake."""
    return "\n".join(f"    {entry}" for entry in entries)

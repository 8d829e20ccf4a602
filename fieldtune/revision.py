"""Which state of Fieldtune's source runs, where it runs from a git checkout."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def revision() -> str | None:
    """Return the commit, followed by ``-dirty`` if files have changed since; None where that is not known."""
    git = shutil.which("git")
    # Only a checkout of its own: an installation may lie within somebody else's.
    if git is None or not (ROOT / ".git").exists():
        return None
    command = [git, "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None

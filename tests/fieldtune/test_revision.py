"""The revision of Fieldtune is its own checkout's, or not known."""

import subprocess
from pathlib import Path

import pytest

from fieldtune import revision


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_revision_is_the_checkout_s_and_says_when_files_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    file = tmp_path / "installed" / "file"
    file.parent.mkdir()
    file.write_text("a")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setattr(revision, "ROOT", tmp_path)
    assert revision.revision() == commit
    git(tmp_path, "tag", "v1")
    assert revision.revision() == commit
    file.write_text("b")
    assert revision.revision() == f"{commit}-dirty"
    monkeypatch.setattr(revision, "ROOT", file.parent)
    assert revision.revision() is None

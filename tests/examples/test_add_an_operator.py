"""docs/add_an_operator.md: who follows it has an operator that passes the project's own tests."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
RECIPE = PROJECT / "docs" / "add_an_operator.md"
TESTS = ("tests/firmware_gen", "tests/conftest.py", "tests/quick_board.py")
COPIED = ("boards", "fieldtune", "firmware_gen", "zoo", *TESTS, "setup.cfg")
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def follow(recipe: str, project: Path) -> str:
    """Apply every block to the file that the recipe names last before it; return the shell commands."""
    commands = ""
    for block in BLOCK.finditer(recipe):
        language, text = block[1], textwrap.dedent(block[2])
        if language == "sh":
            commands += text
            continue
        path = project / re.findall(r"`([\w/]+\.(?:py|h))`", recipe[: block.start()])[-1]
        if language == "diff":
            path.write_text(changed(path.read_text(), text.splitlines(keepends=True), path.name))
        else:
            assert not path.exists(), f"{path.name} is there already"
            path.write_text(text)
    return commands


def changed(text: str, diff: list[str], name: str) -> str:
    """Return `text` with a diff of one hunk applied, whose context stands there once."""
    before = "".join(line[1:] for line in diff if line[0] in " -")
    after = "".join(line[1:] for line in diff if line[0] in " +")
    assert text.count(before) == 1, f"{name} does not hold what the recipe shows: {before}"
    return text.replace(before, after)


def test_the_recipe_leads_to_an_operator_that_passes_the_operator_tests(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name in COPIED:
        source = PROJECT / name
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
        else:
            shutil.copy(source, tmp_path / name)
    command = follow(RECIPE.read_text(), tmp_path).strip()
    assert command.startswith("python -m pytest ")
    done = subprocess.run(
        f"{sys.executable} {command.removeprefix('python ')} -p no:cacheprovider",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout

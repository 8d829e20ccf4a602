"""docs/your_model.md: its blocks run one after another in an empty folder, and its tables are the code's."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from boards import load_board
from firmware_gen.importers.onnx_operators import CONVERTERS
from firmware_gen.importers.tflite.file import CONVERTERS as TFLITE_CONVERTERS
from zoo.task import LOSSES, LOSSES_OF_KIND

PAGE = (Path(__file__).parents[2] / "docs" / "your_model.md").read_text()
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shape(text: str) -> str:
    """Return `text` without numbers: they may change a little without making the page wrong."""
    return re.sub(r"[\d,.]*\d|[ \t]+", lambda found: "#" if found[0].strip() else " ", text).strip()


def test_every_block_runs_and_prints_what_the_page_shows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    if shutil.which(f"{load_board('mps2_an500').compiler.prefix}gcc") is None:
        pytest.skip("needs the compiler of mps2_an500")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for block in BLOCK.finditer(PAGE):
        language, text = block.groups()
        command, _, shown = text.partition("\n")
        if language == "python":
            subprocess.run([sys.executable, "-c", text], cwd=tmp_path, check=True)
            continue
        done = subprocess.run(
            command.removeprefix("$ "),
            shell=True,
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert shape(done.stdout) == shape(shown), command
        assert done.returncode == (2 if shown.startswith("fieldtune: ") else 0)


def operators(title: str) -> list[str]:
    """Return the names in the first column of the table below this title."""
    section = PAGE.split(f"\n### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]
    rows: list[str] = re.findall(r"^\| ((?:\w+, )*\w+) \|", section, re.MULTILINE)
    return [name for row in rows for name in row.split(", ")]


def test_the_tables_list_exactly_the_operators_that_are_read() -> None:
    assert operators("ONNX") == sorted(CONVERTERS)
    assert sorted(operators("TFLite")) == sorted(TFLITE_CONVERTERS)


def test_the_page_names_every_kind_and_loss() -> None:
    section = PAGE.split("\n## The task file\n")[1].split("\n## ")[0]
    for name in (*LOSSES_OF_KIND, *LOSSES):
        assert f"`{name}`" in section

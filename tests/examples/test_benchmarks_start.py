"""Benchmarks are run by hand, and seldom: what they import must be there all the same."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_block_combinations_imported_a_name_that_was_gone() -> None:
    """All of them, as one that imports from another breaks with it."""
    for package in ("torch", "torch_pruning", "nncf", "optuna"):
        pytest.importorskip(package)
    names = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert "block_combinations" in names
    script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", script, *names], cwd=BENCHMARKS, check=True)

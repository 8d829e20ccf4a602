"""A model and frames for the commands."""

from pathlib import Path

import pytest
from tiny import tiny_frames, write_tiny

from zoo.loaders.npz import write_npz


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx and frames.npz."""
    folder = tmp_path_factory.mktemp("given")
    write_tiny(folder / "tiny.onnx")
    write_npz(folder / "frames.npz", tiny_frames())
    return folder

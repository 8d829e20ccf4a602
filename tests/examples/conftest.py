"""A model and frames for everything that the documentation and the examples run."""

import shutil
from pathlib import Path

import pytest

from zoo.loaders.npz import write_npz
from zoo.scenes import render

PROJECT = Path(__file__).parents[2]
FRAMES = 12


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with upydnet.onnx and my_frames.npz."""
    folder = tmp_path_factory.mktemp("workplace")
    shutil.copy(PROJECT / "zoo" / "weights" / "upydnet_rendered.onnx", folder / "upydnet.onnx")
    frames = render("room", 3, FRAMES, size=64)
    write_npz(folder / "my_frames.npz", frames, frames.geometry)
    return folder

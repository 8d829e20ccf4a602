"""The PyTorch reference script and its data, which lie beside the project, not in it."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _beside(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"needs ../shared/{path.relative_to(SHARED)}")
    return path


@pytest.fixture(scope="session")
def room_npz() -> Path:
    """350 real frames of one room."""
    return _beside(SHARED / "data" / "room_rgbd.npz")


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The reference script as a module."""
    pytest.importorskip("torch")
    script = _beside(SHARED / "reference" / "upydnet_room.py")
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def upydnet_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """µPyD-Net with its published weights, exported to ONNX with its task."""
    pytest.importorskip("torch")
    from zoo.export import export_onnx, load_zoo

    checkpoint = _beside(SHARED / "data" / "upydnet_tartanair.pth")
    module, task, input_shape = load_zoo("upydnet", checkpoint)
    path = tmp_path_factory.mktemp("upydnet") / "upydnet_tartanair.onnx"
    export_onnx(module, task, input_shape, path)
    return path

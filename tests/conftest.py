"""What all tests share: compiled files, and the PyTorch reference script and its data beside the project."""

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stand_in import PulpOpen

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
COMPILERS = ("gcc", "arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")

# Tests run side by side, one a core. numpy and torch read this when they are imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def pytest_configure() -> None:
    """Let ccache, where it is installed, compile the runtime once instead of for every test."""
    ccache, folder = shutil.which("ccache"), ROOT / "build" / "ccache"
    if ccache is None or "CCACHE_NOHASHDIR" in os.environ:  # inherited, as by xdist's workers
        return
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in COMPILERS:
        program, compiler = programs / name, shutil.which(name)
        if compiler and not program.exists():  # another run may be using it
            # By its path: some tests leave nothing else on PATH.
            program.write_text(f'#!/bin/sh\nexec {ccache} {compiler} "$@"\n')
            program.chmod(0o755)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    os.environ["CCACHE_DIR"] = str(folder)
    os.environ["CCACHE_NOHASHDIR"] = "1"  # projects lie in a folder of their own in each test


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


@pytest.fixture(scope="session")
def gvsoc(tmp_path_factory: pytest.TempPathFactory) -> "tuple[Path, PulpOpen]":
    from stand_in import make_gvsoc

    folder = tmp_path_factory.mktemp("gvsoc")
    return folder, make_gvsoc(folder)


@pytest.fixture
def pulp_open(gvsoc: "tuple[Path, PulpOpen]", monkeypatch: pytest.MonkeyPatch) -> "PulpOpen":
    """Board pulp_open, which starts here."""
    folder, found = gvsoc
    if shutil.which(f"{found.board.compiler.prefix}gcc") is None:
        pytest.skip(f"{found.board.compiler.prefix}gcc is not installed")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return found

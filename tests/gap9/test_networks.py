"""The networks that GAP9 is for, on its cluster as this computer plays it: the bits of `native`."""

from pathlib import Path

import pytest
from cluster_boards import Found, assert_same, cluster_board, worked
from quick_board import quick_board
from stand_in import PulpOpen

from boards import load_board
from boards.building import Sanitizer, Sign
from fieldtune.__main__ import main
from firmware_gen.graph import Graph
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import UpdatePlan, parse_update

MULTITASK = Path(__file__).resolve().parents[2] / "zoo" / "weights" / "multitask_rendered.onnx"
CORES = (1, 2, 4, 8)
MIXED = parse_update("decoder0*,ups0*", weights="bf16", momentum=True)
RAM = 320 * 1024  # of the training program; code and constants lie in L2 as well


def _quantized(model: Path, frames: Path, folder: Path, *options: str) -> Path:
    path = folder / "int8.onnx"
    command = ["quantize", model, "--data", frames, "--test", 100, "--samples", 8, "-o", path, "-q", *options]
    assert main([*map(str, command)]) == 0
    return path


@pytest.fixture(scope="module")
def int8(upydnet_onnx: Path, room_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """µPyD-Net in int8."""
    pytest.importorskip("nncf")
    path = _quantized(upydnet_onnx, room_npz, tmp_path_factory.mktemp("int8"))
    return plan_network(load_network(path), load_board("native"), UpdatePlan(())).graph


@pytest.fixture(scope="module")
def mixed(upydnet_onnx: Path, room_npz: Path, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """µPyD-Net of which decoder0 and ups0 learn as floats, the rest in int8."""
    pytest.importorskip("nncf")
    folder = tmp_path_factory.mktemp("mixed")
    path = _quantized(upydnet_onnx, room_npz, folder, "--keep-float", "decoder0*,ups0*")
    return plan_network(load_network(path), load_board("native"), MIXED).graph


@pytest.fixture(scope="module")
def multitask() -> Graph:
    """The zoo's network with three heads, of which depth's learns."""
    update = parse_update("heads.disparity*")
    return plan_network(load_network(MULTITASK), load_board("native"), update).graph


@pytest.fixture(scope="module")
def inferred(int8: Graph, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return worked(int8, quick_board("native"), tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def trained(mixed: Graph, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return worked(mixed, quick_board("native"), tmp_path_factory.mktemp("native"))


@pytest.mark.parametrize(
    "cores", [pytest.param(cores, marks=() if cores in (1, 8) else pytest.mark.long) for cores in CORES]
)
def test_int8_inference(cores: int, int8: Graph, inferred: Found, tmp_path: Path) -> None:
    assert_same(inferred, worked(int8, cluster_board(cores), tmp_path))


@pytest.mark.parametrize(
    "cores", [pytest.param(cores, marks=() if cores == 8 else pytest.mark.long) for cores in CORES]
)
def test_mixed_training(cores: int, mixed: Graph, trained: Found, tmp_path: Path) -> None:
    assert_same(trained, worked(mixed, cluster_board(cores), tmp_path, ram_limit=RAM))


@pytest.mark.parametrize(
    "cores", [pytest.param(cores, marks=() if cores == 8 else pytest.mark.long) for cores in CORES]
)
def test_one_of_three_heads_learns(cores: int, multitask: Graph, tmp_path: Path) -> None:
    expected = worked(multitask, quick_board("native"), tmp_path)
    assert_same(expected, worked(multitask, cluster_board(cores), tmp_path))


def test_int8_inference_by_the_program_for_riscv(
    pulp_open: PulpOpen, int8: Graph, inferred: Found, tmp_path: Path
) -> None:
    assert_same(inferred, worked(int8, pulp_open.board, tmp_path))


@pytest.mark.long
def test_training_by_the_program_for_riscv(
    pulp_open: PulpOpen, mixed: Graph, trained: Found, multitask: Graph, tmp_path: Path
) -> None:
    assert_same(trained, worked(mixed, pulp_open.board, tmp_path / "mixed"))
    expected = worked(multitask, quick_board("native"), tmp_path)
    assert_same(expected, worked(multitask, pulp_open.board, tmp_path / "multitask"))


@pytest.mark.long
@pytest.mark.parametrize("cores", CORES)
@pytest.mark.parametrize(("sanitizer", "char"), [("thread", None), ("address", None), ("address", "signed")])
def test_no_report_of_a_sanitizer(
    cores: int,
    sanitizer: Sanitizer,
    char: Sign | None,
    int8: Graph,
    inferred: Found,
    mixed: Graph,
    trained: Found,
    tmp_path: Path,
) -> None:
    board = cluster_board(cores, quick=False)
    for name, graph, expected in (("int8", int8, inferred), ("mixed", mixed, trained)):
        assert_same(expected, worked(graph, board, tmp_path / name, sanitizer, char=char))

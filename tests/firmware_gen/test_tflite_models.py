"""Three int8 reference models of MLPerf Tiny give LiteRT's bits on every board."""

from pathlib import Path

import numpy as np
import pytest
from int8_proof import Case, prove
from tflite_writer import Array, Reference

from boards import load_board
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import UpdatePlan
from ondevice.workbench import open_board

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SAMPLES = 200  # of each kind
EMULATED_SAMPLES = 5
ARENA_BYTES = {"kws_ref_model": 16_000, "pretrainedResnet_quant": 49_152, "ad01_int8": 768}


@pytest.fixture(params=sorted(ARENA_BYTES))
def model(request: pytest.FixtureRequest) -> Path:
    path = DATA / f"{request.param}.tflite"
    if not path.is_file():
        pytest.skip(f"needs ../shared/data/{path.name}")
    return path


def _plan(model: Path, board: str) -> Plan:
    return plan_network(load_network(model), load_board(board), UpdatePlan(()))


def _smooth(reference: Reference, random: np.random.Generator) -> list[Array]:
    """Return what sensors give: neighbours are alike, and the range is not used up."""

    def one(shape: tuple[int, ...]) -> Array:
        value = random.standard_normal(shape)
        for axis, size in enumerate(shape):
            if size > 8:
                value = np.cumsum(value, axis) / 3
        return np.clip(value * 12 + random.normal(0, 30), -128, 127).astype(np.int8)

    return [one(tuple(detail["shape"])) for detail in reference.inputs]


def test_random_and_smooth_inputs_give_litert_s_bits(model: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    reference = Reference(model.read_bytes())
    samples = [reference.draw(random) for _ in range(SAMPLES)]
    samples += [_smooth(reference, random) for _ in range(SAMPLES)]
    prove([Case(model.read_bytes(), samples)], tmp_path, firmware=True)


def test_the_sanitizers_find_nothing(model: Path, tmp_path: Path) -> None:
    prove([Case(model.read_bytes())], tmp_path)


@pytest.mark.parametrize("board", ["mps2_an386", "mps3_an547", "qemu_riscv32"])
def test_emulated_boards_give_litert_s_bits(model: Path, board: str, tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    reference = Reference(model.read_bytes())
    plan = _plan(model, board)
    with open_board(plan, tmp_path / board) as device:
        for _ in range(EMULATED_SAMPLES):
            inputs = reference.draw(random)
            shaped = [
                value.reshape(plan.graph.shape(name))
                for name, value in zip(plan.graph.inputs, inputs, strict=True)
            ]
            found = device.infer(dict(zip(plan.graph.inputs, shaped, strict=True)))
            for name, expected in zip(plan.graph.outputs, reference(inputs), strict=True):
                assert np.array_equal(found[name].ravel(), expected.ravel())
        assert device.memory().arena_intact


def test_the_arena_holds_no_more_than_the_widest_layer_s_inputs_and_output(model: Path) -> None:
    assert _plan(model, "native").arena_bytes <= ARENA_BYTES[model.stem]

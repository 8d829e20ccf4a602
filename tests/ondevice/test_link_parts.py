"""Firmware has the parts of the link that its plan needs, and refuses what the others would do."""

from pathlib import Path

import pytest
from tiny import write_tiny

from boards import build, has_compiler, load_board
from firmware_gen import protocol
from firmware_gen.field import Buffer
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan
from ondevice.link import RefusedError, Request
from ondevice.workbench import open_board

CODE = {
    "steps": ("step", "run_step"),
    "store": ("ft_store_", "ft_stored_", "ft_command_stored", "ft_answer_slot", "ft_flash_"),
    "field": ("ft_field_", "ft_command_field", "ft_drift_"),
}


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return load_network(write_tiny(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize(
    ("name", "buffer", "parts"),
    [
        ("mps2_an386", None, set()),  # only infers, although the board has flash pages
        ("mps2_an386", None, {"steps", "store"}),
        ("mps3_an547", Buffer(4), {"steps", "field"}),  # a board without flash pages
    ],
)
def test_no_code_is_linked_that_no_request_can_reach(
    name: str, buffer: Buffer | None, parts: set[str], network: Network, tmp_path: Path
) -> None:
    board = load_board(name)
    if not has_compiler(board):
        pytest.skip(f"no compiler for {name}")
    plan = plan_network(network, board, UpdatePlan(("dec",) if parts else ()), buffer=buffer)
    write_project(plan, tmp_path / "project")
    symbols = build(tmp_path / "project", board).symbols
    assert {part for part, heads in CODE.items() if any(name.startswith(heads) for name in symbols)} == parts


def test_firmware_that_only_infers_refuses_what_it_has_no_part_for(network: Network, tmp_path: Path) -> None:
    plan = plan_network(network, load_board("native"), UpdatePlan())
    beyond = {
        protocol.NOT_TRAINABLE: (protocol.STEP,),
        protocol.NO_STORE: (protocol.SLOT, protocol.SAVE, protocol.LOAD, protocol.ERASE, protocol.KEEP),
        protocol.NO_BUFFER: (
            protocol.TAKE,
            protocol.SET_SAMPLES,
            protocol.WORK,
            protocol.REST,
            protocol.FIELD,
        ),
    }
    with open_board(plan, tmp_path / "native") as device:
        assert (device.hello.trainable, device.hello.store_room) == (False, 0)
        for refusal, messages in beyond.items():
            for message in messages:
                request = Request(message, {field.name: 0 for field in message.request.fields})
                with pytest.raises(RefusedError) as refused:
                    device.link.exchange([request])
                assert refused.value.refusal is refusal

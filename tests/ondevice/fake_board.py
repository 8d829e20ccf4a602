"""A C project with the real firmware library around `fake_model.c`, built and started by `boards`."""

import shutil
from pathlib import Path

from boards import Board, Firmware, build, port_files
from firmware_gen.link_parts import LinkParts
from firmware_gen.protocol import MAX_LOSSES, MAX_PAYLOAD
from firmware_gen.protocol_header import protocol_header

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "firmware_gen" / "runtime"
PLAN_HASH = 0x9ABCDEF0


def write_runtime(folder: Path, max_payload: int = MAX_PAYLOAD, max_losses: int = MAX_LOSSES) -> None:
    """The runtime as a project has it, but without kernels."""
    folder.mkdir(parents=True)
    for name in ("model_api.h", "main.c"):
        shutil.copy(RUNTIME / name, folder / name)
    for name in ("field", "link"):
        shutil.copytree(RUNTIME / name, folder / name)
    (folder / "link" / "protocol.h").write_text(protocol_header(max_payload, max_losses))
    (folder / "link" / "parts.h").write_text(LinkParts().header())


def write_project(folder: Path, board: Board, max_payload: int = MAX_PAYLOAD) -> Path:
    write_runtime(folder / "runtime", max_payload)
    shutil.copy(HERE / "fake_model.c", folder / "model.c")
    (folder / "port").mkdir()
    for name, text in port_files(board).items():
        (folder / "port" / name).write_text(text)
    return folder


def build_fake(
    folder: Path, board: Board, *, sanitize: bool = False, max_payload: int = MAX_PAYLOAD
) -> Firmware:
    return build(write_project(folder, board, max_payload), board, sanitize=sanitize)

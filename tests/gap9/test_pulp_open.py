"""Board pulp_open: the program for RISC-V on ten cores. Our own machine stands in for GVSOC."""

import dataclasses
import itertools
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cluster_boards import assert_same, worked
from quick_board import quick_board
from stand_in import PulpOpen
from tiny import write_tiny
from xpulp_programs import simulator

import boards
from boards import load_board
from boards.memory_map import read_memory_map
from fieldtune.__main__ import main
from fieldtune.errors import LinkError
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan, make_plan
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import parse_update
from ondevice.device import Device


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """A small network of float and int8 layers, all of which learn."""
    path = write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx", ("depth", "segments", "kind"))
    update = parse_update("*", momentum=True, weights="bf16")
    return plan_network(load_network(path), load_board("native"), update).graph


def test_training_gives_the_bits_of_native(pulp_open: PulpOpen, learning: Graph, tmp_path: Path) -> None:
    expected = worked(learning, quick_board("native"), tmp_path)
    assert_same(expected, worked(learning, pulp_open.board, tmp_path))


def test_every_core_works_and_no_stack_is_used_up(
    pulp_open: PulpOpen, learning: Graph, tmp_path: Path
) -> None:
    worked(learning, pulp_open.board, tmp_path)
    cluster, l2 = pulp_open.board.cluster, pulp_open.board.main_ram
    assert cluster is not None
    *workers, master, controller = simulator.read_counts(pulp_open.counts)
    end = 0x10000000 + cluster.l1_bytes
    assert 0 < end - master.lowest_stack <= cluster.master_stack_bytes
    for k, core in enumerate(workers):
        top = end - cluster.master_stack_bytes - k * cluster.slave_stack_bytes
        assert 0 < top - core.lowest_stack <= cluster.slave_stack_bytes
    assert l2.start <= controller.lowest_stack < l2.start + pulp_open.board.stack_bytes
    assert all(core.instructions > 100_000 for core in (*workers, master, controller))


def built(plan: Plan, project: Path) -> boards.Firmware:
    write_project(plan, project)
    return boards.build(project, plan.board)


def mutated(port: Path, folder: Path, name: str, before: str, after: str) -> Path:
    """Return a copy of a port's folder in which a piece of a file is another one."""
    folder.mkdir()
    for path in port.iterdir():
        text = path.read_text()
        if path.name == name:
            assert before in text
            text = text.replace(before, after)
        (folder / path.name).write_text(text)
    return folder


def test_a_missing_wait_for_the_dma_is_an_error(pulp_open: PulpOpen, learning: Graph, tmp_path: Path) -> None:
    *others, port = pulp_open.board.port
    waiting = "while (STATUS & counter) {"
    broken = mutated(port, tmp_path / "port", "dma.c", waiting, "while (0) {")
    board = dataclasses.replace(pulp_open.board, port=(*others, broken))
    firmware = built(make_plan(learning, board), tmp_path / "project")
    with boards.start(firmware.elf, board) as running, Device.open(running.url) as device:
        sample = {name: np.zeros(learning.shape(name), np.uint8) for name in learning.inputs}
        with pytest.raises(LinkError):
            device.infer(sample)
        assert "a counter of the DMA is freed while it counts" in running.last_words()


def test_code_and_data_lie_in_one_memory_above_the_stack(
    pulp_open: PulpOpen, learning: Graph, tmp_path: Path
) -> None:
    plan = make_plan(learning, pulp_open.board)
    firmware = built(plan, tmp_path / "project")
    placed = read_memory_map(firmware.elf).sections
    start, end = pulp_open.board.main_ram.start, pulp_open.board.main_ram.start + pulp_open.board.ram_bytes
    assert [section.name for section in placed] == [".stack", ".vectors", ".text", ".data", ".bss"]
    assert placed[0].address == start
    for below, above in itertools.pairwise(placed):
        assert below.address + below.bytes <= above.address
    assert placed[-1].address + placed[-1].bytes <= end


def test_the_ports_own_memory_is_what_the_description_says(
    pulp_open: PulpOpen, learning: Graph, tmp_path: Path
) -> None:
    plan = make_plan(learning, pulp_open.board)
    firmware = built(plan, tmp_path / "project")
    assert 0 <= plan.ram_bytes - firmware.ram_bytes <= 64


def test_floats_are_instructions_and_not_a_librarys(
    pulp_open: PulpOpen, learning: Graph, tmp_path: Path
) -> None:
    """A slip would cost a factor, and show in no result."""
    plan = make_plan(learning, pulp_open.board)
    firmware = built(plan, tmp_path / "project")
    sizes = {
        name: size for name, size in firmware.symbols.items() if re.fullmatch(r"__\w+sf[23i]\w*|fmaf", name)
    }
    assert {"__addsf3", "__mulsf3", "fmaf"} <= sizes.keys()
    assert max(sizes.values()) <= 32


def test_without_gvsoc_one_sentence_says_what_to_do(
    pulp_open: PulpOpen,
    upydnet_onnx: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert main(["profile", str(upydnet_onnx), "--board", "pulp_open"]) == 2
    assert "gvsoc for board pulp_open is not installed; build it from its sources" in capsys.readouterr().err


def test_what_gvsoc_says_is_told_when_it_does_not_start(
    pulp_open: PulpOpen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gvsoc").write_text("#!/bin/sh\necho 'no target pulp-open'\nexit 1\n")
    (tmp_path / "gvsoc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    model = write_tiny(tmp_path / "tiny.onnx")
    assert main(["profile", str(model), "--board", "pulp_open"]) == 2
    assert "no target pulp-open" in capsys.readouterr().err


def test_nothing_is_left_of_a_simulator_that_a_script_starts(
    pulp_open: PulpOpen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gvsoc").write_text("#!/bin/sh\nsleep 4321 &\necho $! > $0.child\nprintf x >&0\nwait\n")
    (tmp_path / "gvsoc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "firmware.elf").write_bytes(b"")
    with boards.start(tmp_path / "firmware.elf", pulp_open.board):
        pass
    child = (tmp_path / "gvsoc.child").read_text().strip()
    state = subprocess.run(["ps", "-o", "stat=", "-p", child], capture_output=True, text=True)
    assert state.stdout.strip() in ("", "Z")


def test_one_host_after_another_may_talk_to_it(pulp_open: PulpOpen, learning: Graph, tmp_path: Path) -> None:
    plan = make_plan(learning, pulp_open.board)
    firmware = built(plan, tmp_path / "project")
    with boards.start(firmware.elf, pulp_open.board) as running:
        for _ in range(2):
            with Device.open(running.url) as device:
                assert device.memory().arena_intact
        assert running.alive()

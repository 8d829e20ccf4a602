"""The memory profile says what was linked, planned and measured, in JSON, as a table and as a page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page
from recorded import AWKWARD

from fieldtune.__main__ import main
from fieldtune.commands.profile import print_memory
from fieldtune.errors import BoardError
from firmware_gen.plan import Plan
from ondevice.memory_profile import MemoryProfile, memory_profile
from ondevice.profile import Profile
from ondevice.report_linked import linked_page


def test_the_command_prints_and_draws_the_same_sizes(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "memory.html"
    words = ["profile", str(tiny_model), "--board", "native", "--memory", "--train", "--update", "dec,depth"]
    assert main([*words, "--json", "--report", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    text = Page(page.read_text()).text
    kinds = {
        kind: sum(s["bytes"] for s in found["sections"] if s["kind"] == kind)
        for kind in ("text", "data", "bss")
    }
    assert found["flash_bytes"] == kinds["text"] + kinds["data"]
    assert found["ram_bytes"] == kinds["data"] + kinds["bss"]
    assert 0 < found["stack"]["used_bytes"] < found["stack"]["reserved_bytes"]
    for section in found["sections"]:
        assert f"{section['bytes']:,}" in text
        named = sum(s["bytes"] for s in found["symbols"] if s["section"] == section["name"])
        assert section["unnamed_bytes"] + named >= section["bytes"]
    for symbol in found["symbols"][:10]:
        assert f"{symbol['name']}{symbol['kind']} in {symbol['section']}{symbol['bytes']:,}" in text
    assert f"{found['stack']['used_bytes']:,} bytes of 262,144" in text
    assert "Over time" in text


def test_the_table_tells_the_largest(placed: MemoryProfile, capsys: pytest.CaptureFixture[str]) -> None:
    print_memory("tiny", placed)
    printed = capsys.readouterr().out
    assert f"flash          {placed.flash_bytes:,} B" in printed
    assert re.search(r"arena +\.bss", printed)
    for layer in placed.layers:
        assert f"{layer.alive_bytes:,}" in printed


def test_layers_have_the_plan_s_tensors_and_their_own_code(
    counted: tuple[Plan, Profile], placed: MemoryProfile
) -> None:
    (plan, profiled), found = counted, placed
    assert max(layer.alive_bytes for layer in found.layers) <= plan.arena_bytes
    tensors = plan.describe()["tensors"]
    for index, (step, layer) in enumerate(zip(plan.steps, found.layers, strict=True)):
        assert (layer.name, layer.op) == (step.op.name, step.op.kind)
        alive = sum(t["bytes"] for t in tensors if t["first"] <= index <= t["last"])
        assert layer.alive_bytes == alive
        assert (layer.code_bytes == 0) == (layer.frame_bytes is None)
    assert found.flash_bytes == profiled.flash_bytes
    assert found.stack_used == pytest.approx(profiled.stack_bytes, abs=2000)


def test_a_board_that_is_not_here_has_no_measured_stack(counted: tuple[Plan, Profile]) -> None:
    plan, _ = counted
    away = replace(plan, board=replace(plan.board, runs_in=()))
    found = memory_profile(away)
    assert found.stack_used is None
    assert found.describe()["stack"]["used_bytes"] is None
    assert "how deep the stack goes is not known" in Page(linked_page(away, found)).text


def test_a_port_is_for_a_board_that_is_connected(counted: tuple[Plan, Profile]) -> None:
    with pytest.raises(BoardError, match="leave out --port"):
        memory_profile(counted[0], "/dev/null")


def test_names_are_text_and_nothing_is_loaded(linked: str, awkward_linked: str) -> None:
    for page in (linked, awkward_linked):
        read = Page(page)
        assert "script" not in {tag for tag, _ in read.elements}
        read.assert_stands_alone()
    assert AWKWARD in Page(awkward_linked).text

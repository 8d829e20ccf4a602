"""The page of a profile says what was counted, and nothing else."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page
from recorded import AWKWARD

from boards.board import Power
from fieldtune.__main__ import main
from firmware_gen.plan import Plan
from ondevice.profile import Profile
from ondevice.report_profile import profile_page

Counted = tuple[Plan, Profile]


def test_every_number_is_on_the_page(counted: Counted) -> None:
    plan, found = counted
    text = Page(profile_page(plan, found)).text
    assert "tiny on This computer" in text
    assert f"One training step takes {found.total:,} ns for" in text
    whole = sum(layer.count for layer in found.layers)
    for layer in found.layers:
        each = f"{layer.count / layer.macs:.3f}" if layer.macs else "–"
        macs = f"{layer.macs:,}" if layer.macs else "–"
        share = f"{100 * layer.count / whole:.1f} %"
        assert f"{layer.name}{layer.op}, {layer.phase}{macs}{layer.count:,}{each}{share}" in text
    for phase in ("forward", "backward", "update"):
        assert f"{phase}{sum(x.count for x in found.layers if x.phase == phase):,}" in text
    for size in (found.ram_bytes, found.flash_bytes, found.stack_bytes, *found.flash.values(), found.call):
        assert f"{size:,}" in text
    for name, size in plan.ram.items():
        assert f"{size:,}" in text, name


def test_a_bar_is_as_long_as_its_layer_s_count_and_coloured_by_phase(counted: Counted) -> None:
    plan, found = counted
    bars = re.findall(r'<i class="(\w+)" style="width:([\d.]+)%">', profile_page(plan, found))
    assert [phase for phase, _ in bars] == [layer.phase for layer in found.layers]
    most = max(layer.count for layer in found.layers)
    widths = [float(width) for _, width in bars]
    assert widths == pytest.approx([100 * layer.count / most for layer in found.layers], abs=0.006)


def test_an_inference_has_no_phases_and_no_key_to_colours(counted: Counted) -> None:
    plan, found = counted
    forward = tuple(layer for layer in found.layers if layer.phase == "forward")
    text = Page(profile_page(plan, replace(found, layers=forward))).text
    assert "One inference takes" in text
    assert "Phases" not in text
    assert "backward" not in text.split("Memory")[0]


def test_energy_is_shown_as_the_estimate_that_it_is(counted: Counted) -> None:
    plan, found = counted
    assert "Energy" not in Page(profile_page(plan, found)).text
    power = Power(50.0, "at 3.3 V", "data sheet")
    powered = replace(found, board=replace(found.board, power=power))
    text = Page(profile_page(plan, powered)).text
    assert f"{found.total * 50e-6:,.1f} µJan estimate" in text
    assert "estimate: 50 mW at 3.3 V (data sheet)" in text


def test_names_are_text_never_markup_and_nothing_is_loaded(awkward_count: Counted) -> None:
    read = Page(profile_page(*awkward_count))
    assert "script" not in {tag for tag, _ in read.elements}
    assert read.text.count(AWKWARD) == 2 * len(awkward_count[1].layers)
    read.assert_stands_alone()


def test_counts_of_nothing_are_a_page_too(counted: Counted) -> None:
    plan, found = counted
    layers = tuple(replace(layer, count=0, macs=0) for layer in found.layers)
    nothing = replace(found, total=0, layers=layers, flash=dict.fromkeys(found.flash, 0))
    assert "0.0 %" in Page(profile_page(plan, nothing)).text


# --- the command


def test_the_command_writes_the_page_beside_what_it_prints(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "sub" / "page.html"
    assert main(["profile", str(tiny_model), "--board", "native", "--json", "--report", str(target)]) == 0
    found = json.loads(capsys.readouterr().out)
    text = Page(target.read_text()).text
    assert f"One inference takes {found['total']:,} ns" in text
    assert all(f"{layer['count']:,}" in text for layer in found["layers"])
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_built(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file" / "page.html"):
        assert main(["profile", str(tiny_model), "--board", "native", "--report", str(target)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith(f"fieldtune: cannot write {target}: ")
        assert printed.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_profile_that_fails_leaves_the_old_page(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "page.html"
    target.write_text("old")
    words = ["profile", str(tiny_model), "--board", "native", "--port", "/dev/null", "--report", str(target)]
    assert main(words) == 2
    assert "leave out --port" in capsys.readouterr().err
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]

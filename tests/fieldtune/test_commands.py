"""The command itself: help, streams, and the JSON that scripts rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import write_tiny

from fieldtune import __version__
from fieldtune.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "onnx", "torch", "matplotlib", "serial", "elftools", "cobs", "rich", "PIL", "optuna")
UPDATE = ["--update", "dec*,depth"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


def json_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Run a command and return what it printed, which must be strict JSON and nothing else."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=refuse)
    return found


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys; from fieldtune.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"print(*sorted(sys.modules.keys() & {set(HEAVY)!r}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == ""
    assert done.stdout.startswith("usage: fieldtune")


def test_help_names_every_command_and_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name in COMMANDS:
        assert any(line[:1] == [name] and len(line) > 3 for line in lines), name


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fieldtune {__version__}\n"


def test_plan_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = json_of(capsys, "plan", str(model), "--board", "netduinoplus2", *UPDATE)
    numbers = ("ram_bytes", "arena_bytes", "stack_bytes", "flash_bytes", "macs_forward", "macs_backward")
    assert all(type(plan[key]) is int and plan[key] > 0 for key in numbers)
    assert plan["trained"] == ["dec.weight", "dec.bias", "depth.weight", "depth.bias"]
    for tensor in plan["tensors"]:
        assert set(tensor) == {"name", "region", "bytes", "offset", "first", "last"}
        assert 0 <= tensor["offset"] <= plan["arena_bytes"] - tensor["bytes"]
        # -1: the host has written it before the first step.
        assert -1 <= tensor["first"] <= tensor["last"]
    inference = json_of(capsys, "plan", str(model), "--board", "netduinoplus2")
    assert inference["trained"] == []
    assert inference["macs_backward"] == 0
    assert inference["macs_forward"] == plan["macs_forward"]
    assert inference["ram_bytes"] < plan["ram_bytes"]


def test_plan_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(model), "--board", "netduinoplus2", *UPDATE]) == 0
    out = capsys.readouterr().out
    assert "Netduino" in out
    assert "dec.weight" in out


def test_inspect_json_counts_as_by_hand(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, "inspect", str(model))
    dec = next(layer for layer in found["layers"] if layer["name"] == "dec")
    assert dec["shape"] == [16, 16, 12]
    assert dec["parameters"] == 12 * 12 * 9 + 12
    assert dec["macs"] == 16 * 16 * 12 * 12 * 9
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"])
    assert main(["inspect", str(model)]) == 0
    assert f"{found['parameters']:,} parameters, {found['macs']:,} MAC" in capsys.readouterr().out


def test_build_json_is_what_plan_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(model), "--board", "mps2_an386", *UPDATE]
    plan = json_of(capsys, "plan", *words)
    built = json_of(capsys, "build", *words, "-o", str(tmp_path / "project"))
    assert built["ram_bytes"] == plan["ram_bytes"]
    assert Path(built["elf"]).is_file()
    assert Path(built["map"]).is_file()
    kept = json.loads((tmp_path / "project" / "plan.json").read_text())
    assert built["flash_bytes"] == plan["flash_bytes"]
    assert plan["flash_source"] == "linked image"
    for linked in ("flash_bytes", "flash_source"):
        kept.pop(linked, None)
        plan.pop(linked)
    assert kept == plan


def test_a_reader_that_stops_reading_is_no_error(model: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "fieldtune", "inspect", str(model)],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_defect_of_ours_exits_with_1_and_shows_its_traceback_on_demand(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object) -> None:
        raise IndexError("boom")

    monkeypatch.setattr("firmware_gen.project.load_network", defect)
    assert main(["inspect", str(model)]) == 1
    err = capsys.readouterr().err
    assert "a defect of fieldtune (IndexError: boom)" in err
    assert "Traceback" not in err
    assert main(["inspect", str(model), "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err

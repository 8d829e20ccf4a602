"""``fieldtune search`` as a user meets it."""

import json
from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from tiny import tiny_frames, write_tiny

pytest.importorskip("torch_pruning", reason="torch-pruning is not installed; pip install 'fieldtune[search]'")
pytest.importorskip("optuna", reason="Optuna is not installed; pip install 'fieldtune[search]'")

from fieldtune.__main__ import main
from quantize import search_generations
from quantize.float_network import read_network
from zoo.loaders.npz import write_npz

MISTAKES = (
    (["missing.onnx"], "there is no model at"),
    (["--data", "missing.npz"], "there is no data set at"),
    (["--board", "nothing"], "nothing"),
    (["--board", "native", "--keep-instructions", "50%"], "estimated for microcontrollers only"),
    (["--keep-ram", "lots"], "'lots' is not a size"),
    (["--max-drop", "depth=1pt"], "depth"),
    (["--max-drop", "segments=1pt,50%"], "give --max-drop of 'segments' in %"),
    (["--types", "int4"], "no kernel for weights of fewer bits"),
    (["--narrowest", "2"], "--narrowest 2 is no share"),
    (["--narrowest", "0%"], "--narrowest 0% is no share"),
    (["--narrowest", "100%", "--types", "int8"], "there is nothing to choose"),
    (["--update", "nothing*"], "nothing*"),
    (["--keep-float", "nothing*"], "no layer or weight of heads is called 'nothing*'"),
    (["--test", "-1"], "--test -1"),
    (["--test", "17"], "the search needs 8 others"),
    (["--lr", "1e30"], "training diverges"),
    (["--storage", "broken.journal"], "--storage broken.journal cannot be used"),
    (["--storage", "nosuch://me:secret@host/base"], "--storage nosuch://host/base cannot be used"),
    (["-o", "a_file"], "cannot write"),
    (["--keep-flash", "1K"], "none of the 2 networks keeps the limits"),
)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    write_tiny(folder / "heads.onnx", ("depth", "segments"))
    write_npz(folder / "frames.npz", tiny_frames(24))
    (folder / "a_file").write_text("")
    (folder / "broken.journal").write_text("no journal\n")
    return folder


@pytest.fixture(autouse=True)
def _few_generations(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_generations, "GENERATIONS", 2)
    monkeypatch.setattr(search_generations, "POPULATION", 12)
    monkeypatch.chdir(given)


def _search(*words: str) -> int:
    model = words[:1] if words and words[0].endswith(".onnx") else ("heads.onnx",)
    rest = words[1:] if words and words[0].endswith(".onnx") else words
    defaults = ["--data", "frames.npz", "--board", "mps2_an386", "--trials", "2", "--first", "2"]
    return main(["search", *model, *defaults, "--samples", "8", "-o", "out", *rest, "-q"])


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_mistakes_are_answered_with_one_sentence(
    words: Sequence[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _search(*words) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "secret" not in error


def test_costs_are_what_plan_tells_of_the_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("--trials", "8", "--first", "6", "--update", "depth", "--max-drop", "500%", "--test", "4")
    assert _search(*words, "--json", "-o", str(tmp_path / "out")) == 0
    found = json.loads(capfd.readouterr().out)
    assert json.loads((tmp_path / "out" / "search.json").read_text()) == found
    assert len(found["trials"]) == 8
    assert any(point["float_layers"] for point in found["points"])
    for point in found["points"]:
        file = tmp_path / "out" / point["file"]
        plan = _plan(file, capfd)
        learning = _plan(file, capfd, "--update", "depth")
        assert point["costs"] == {
            "ram": plan["ram_bytes"],
            "flash": sum(plan["flash"].values()),
            "instructions": pytest.approx(plan["instructions_estimate"], abs=0.5),
            "backward_ram": learning["ram_bytes"],
            "memory": None,
        }
        weights = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer}
        for layer in ("enc0", "enc1", "up", "dec", "depth", "segments"):
            is_float = weights[f"{layer}.weight"].data_type == onnx.TensorProto.FLOAT
            assert is_float == (layer in point["float_layers"])
        tuned = read_network(tmp_path / "out" / point["float_file"]).graph
        made = {op.name: tuned.shape(op.outputs[0])[2] for op in tuned.ops}
        for layer, count in point["channels"].items():
            assert count == made[layer]
            assert count in weights[f"{layer}.weight"].dims[:2]


def test_a_limit_of_ram_is_what_the_planner_keeps_in_bands_of_rows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("--keep-ram", "85%", "--types", "int8", "--max-drop", "900%", "--json", "-o", str(tmp_path))
    assert _search(*words) == 0
    found = json.loads(capfd.readouterr().out)
    limit = int(found["goals"]["ram"])
    for point in found["points"]:
        plan = _plan(tmp_path / point["file"], capfd, "--ram", str(limit))
        assert point["costs"]["ram"] == plan["ram_bytes"] <= limit


def _plan(file: Path, capfd: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main(["plan", str(file), "--board", "mps2_an386", *words, "--json"]) == 0
    return dict(json.loads(capfd.readouterr().out))


def test_table_and_page_show_what_was_found(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _search("-o", str(tmp_path)) == 0
    lines = capfd.readouterr().out.splitlines()
    found = json.loads((tmp_path / "search.json").read_text())
    files = [point["file"] for point in found["points"]]
    assert [line.split()[0] for line in lines[3:]] == files
    assert lines[1].startswith("as given, int8")
    page = (tmp_path / "search.html").read_text()
    assert page.count('class="dot') == 3 * len(found["trials"])
    assert all(file.removesuffix(".onnx") in page for file in files)


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert _search() == 2
    assert "pip install 'fieldtune[search]'" in capfd.readouterr().err

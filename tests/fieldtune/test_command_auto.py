"""``--update auto`` on the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from quick_board import quick_board

from fieldtune.__main__ import main
from ondevice.session import Session

SMALL = "40000"  # bytes of static RAM on an M4: some of the network learns, not all


@pytest.fixture(scope="module", autouse=True)
def quick_builds() -> Iterator[None]:
    """Build quickly what a search measures on."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("search_bench", "search_finals"):
            patch.setattr(f"ondevice.{module}.load_board", quick_board)
        yield


def words(given: Path, command: str, *more: str) -> list[str]:
    return [command, str(given / "tiny.onnx"), "--update", "auto", *more]


def test_plan_prints_an_update_that_can_be_given_to_it(
    given: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--board", "mps2_an386", "--ram", SMALL, "--json")
    data = ("--data", str(given / "frames.npz"), "--test", "4")
    assert main(words(given, "plan", *data, *where)) == 0
    found = json.loads(capsys.readouterr().out)
    search = found["search"]
    assert search["ram_bytes"] == found["ram_bytes"] <= int(SMALL)
    assert [row["layer"] for row in search["layers"]] == ["enc0", "enc1", "up", "dec", "depth"]
    assert all(row["why"] for row in search["layers"])
    assert main(["plan", str(given / "tiny.onnx"), "--update", search["update"], *where]) == 0
    assert json.loads(capsys.readouterr().out)["plan_hash"] == found["plan_hash"]


def test_a_session_records_what_was_found_and_resumes_with_it(
    given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--board", "native", "--data", str(given / "frames.npz"), "--test", "4", "--steps", "8"]
    command = words(given, "tune", *options, "--ram", "36000", "-o", str(tmp_path / "session"))
    assert main(command) == 0
    assert "--update '" in capsys.readouterr().err
    session = Session.open(tmp_path / "session")
    assert session.config["searched"]
    assert (tmp_path / "session" / "tuned.onnx").exists()
    assert main([*command, "--resume"]) == 0
    assert "measuring" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("build", "--board", "native", "-o", "unused"), "--update auto needs frames to measure on"),
        (("plan", "--board", "native"), "--update auto needs frames to measure on"),
        (
            ("plan", "--board", "native", "--data", "FRAMES", "--test", "4", "--time", "400ms"),
            "--time needs a board",
        ),
        (
            ("plan", "--board", "native", "--data", "FRAMES", "--test", "4", "--time", "fast"),
            "'fast' is not a duration",
        ),
        (("plan", "--board", "native", "--data", "FRAMES", "--test", "20"), "leaves none of the 20 frames"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_sentence(
    given: Path, command: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = (str(given / "frames.npz") if word == "FRAMES" else word for word in command)
    assert main(words(given, name, *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error

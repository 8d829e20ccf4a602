"""How long a battery lasts, compared with sums done by hand."""

import json
from pathlib import Path

import pytest

from fieldtune.__main__ import main

CELL = ("--mah", "1000", "--volts", "3.6")


def life(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["battery", *CELL, *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["battery", *CELL, *words]) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    return printed.err


def test_each_consumer_has_its_share(capsys: pytest.CaptureFixture[str]) -> None:
    words = "--usable 0.8 --infer-hz 2 --infer 5000 --steps-a-day 100 --step 1e6 --sleep-ua 10"
    sensors = "--sensor camera=80:0.05 --sensor tof=313:0.001 --self-discharge 2"
    found = life(capsys, *words.split(), *sensors.split())
    joules = {
        "inference": 2 * 86400 * 5e-3,
        "training": 100.0,
        "sleep": 10e-6 * 3.6 * 86400,
        "camera": 0.080 * 0.05 * 86400,
        "tof": 0.313 * 0.001 * 86400,
        "self-discharge": 12_960 * 0.02 * 12 / 365.25,
    }
    assert isinstance(found["shares"], list)
    assert {part["what"]: part["j_a_day"] for part in found["shares"]} == pytest.approx(joules)
    assert sum(part["share"] for part in found["shares"]) == pytest.approx(1)
    assert found["days"] == pytest.approx(12_960 * 0.8 / sum(joules.values()))


def test_a_board_that_works_does_not_sleep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = tmp_path / "energy.json"
    measured.write_text(
        json.dumps({"energy_uj": 1000.0, "energy_source": "measured with X", "seconds": 0.25})
    )
    found = life(capsys, "--infer-hz", "2", "--infer", str(measured), "--sleep-ua", "100")
    assert isinstance(found["shares"], list)
    assert {p["what"]: p["j_a_day"] for p in found["shares"]}["sleep"] == pytest.approx(100e-6 * 3.6 * 43200)
    assert found["sources"] == {"inference": "measured with X", "training": "as given"}
    assert "more" not in refused(capsys, "--infer-hz", "5", "--infer", str(measured))


def test_what_cannot_be_is_answered_with_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    assert "nothing draws" in refused(capsys)
    assert "tells no energy" in refused(capsys, "--infer-hz", "1", "--infer", str(wrong))
    assert "none.json" in refused(capsys, "--infer-hz", "1", "--infer", str(tmp_path / "none.json"))
    assert "cannot read 'tof'" in refused(capsys, "--sensor", "tof")
    assert "cannot read 'tof=1:2'" in refused(capsys, "--sensor", "tof=1:2")
    assert "-5" in refused(capsys, "--infer=-5")


def test_the_table_tells_days_and_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["battery", *CELL, "--sleep-ua", "10"]) == 0
    printed = capsys.readouterr().out
    assert "4,166.7 days from 12,960 J" in printed
    assert "100.0%" in printed

"""The report says what the session's files say, and nothing else."""

import argparse
import base64
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page
from PIL import Image
from recorded import CONFIG, RESULTS, plan

from fieldtune.commands import report as command
from fieldtune.errors import UserError
from ondevice import report_figures as figures
from ondevice.report import write_report
from ondevice.session import Session


def page(session: Path, out: Path) -> Page:
    return Page(write_report(session, out).read_text())


# --- content


def test_the_headline_compares_before_after_and_the_mean_map(finished: Path, tmp_path: Path) -> None:
    text = page(finished, tmp_path / "r.html").text
    assert "upydnet_source on mps2_an500" in text
    assert "the depth error fell from 8.486 m to 0.355 m RMSE in 120 training steps" in text
    assert "4.8 % below the mean depth map’s 0.373 m" in text
    assert "Learning layers: decoder0*, ups0*" in text


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [(0.5, 0.6, "rose from 0.500 m to 0.600 m"), (0.5, 0.5, "stayed, going from 0.500 m to 0.500 m")],
)
def test_the_headline_does_not_hide_a_failure(tmp_path: Path, before: float, after: float, says: str) -> None:
    with Session.create(tmp_path / "s", CONFIG) as session:
        baselines = {"mean_map": {"rmse": 0.4}}
        session.finish({"before": {"rmse": before}, "after": {"rmse": after}, "baselines": baselines})
    text = page(tmp_path / "s", tmp_path / "r.html").text
    assert says in text
    assert f"{100 * (after / 0.4 - 1):.1f} % above the mean depth map’s" in text


def test_every_metric_is_in_the_table_and_the_best_is_bold(finished: Path, tmp_path: Path) -> None:
    html = write_report(finished, tmp_path / "r.html").read_text()
    for metrics in (RESULTS["before"], RESULTS["after"], *RESULTS["baselines"].values()):
        for value in metrics.values():
            assert f">{value:.3f}</" in html
    bold = re.findall(r'<td class="number"><strong>([\d.]+)</strong>', html)
    assert bold == ["0.355", "0.165", "0.735"]


def test_all_metrics_of_depth_are_there_pooled_and_per_image(tmp_path: Path) -> None:
    names = ("rmse", "abs_rel", "delta1", "sq_rel", "rmse_log", "delta2", "delta3")
    numbers = iter(range(1, 99))

    def averaged() -> dict[str, dict[str, float]]:
        return {who: {name: next(numbers) / 100 for name in names} for who in ("before", "after", "mean_map")}

    depth, pooled, images = {key: RESULTS[key] for key in ("before", "after")}, averaged(), averaged()
    outputs = {"near<1>": {**depth, "pooled": pooled, "per_image": images}, "rooms": {"before": {}}}
    with Session.create(tmp_path / "s", CONFIG) as session:
        session.finish({**RESULTS, "outputs": outputs})
    html = write_report(tmp_path / "s").read_text()
    for title in ("near<1>: all known pixels", "near<1>: mean over frames"):
        assert f"{title}UntunedTunedMean map" in Page(html).text
    for metrics in (*pooled.values(), *images.values()):
        for value in metrics.values():
            assert f">{value:.3f}</" in html
    # Of errors the first column is best, of shares the last.
    assert '<td class="number"><strong>0.010</strong>' in html
    assert '<td class="number"><strong>0.210</strong>' in html
    assert "rooms" not in Page(html).text


LATENTS = {"layer": "enc<5>", "kept_bytes": 4096, "frame_bytes": 49152, "macs": 300, "frame_macs": 400}


@pytest.mark.parametrize(
    ("replayed", "says"),
    [
        ({"replayed_steps": 30}, "30 of 120 steps trained on other frames of that domain"),
        ({"replayed_steps": 0}, "No step trained on that domain"),
        (
            {"replayed_steps": 30, "latents": LATENTS},
            "Of each frame (49,152 B) the host kept the activations at enc<5> (4,096 B); "
            "a step from these has 75 % of a whole one's",
        ),
    ],
)
def test_what_is_forgotten_of_the_source_is_said(tmp_path: Path, replayed: dict[str, Any], says: str) -> None:
    source = {
        "frames": 50,
        "before": {"rmse": 1.234, "abs_rel": 0.321, "delta1": 0.876},
        "after": {"rmse": 2.345, "abs_rel": 0.432, "delta1": 0.765},
    }
    with Session.create(tmp_path / "s", CONFIG) as session:
        session.finish({**RESULTS, "source": source, **replayed})
    html = write_report(tmp_path / "s").read_text()
    text = Page(html).text
    assert "Forgetting" in text
    assert "On the source domain it rose from 1.234 m to 2.345 m" in text
    assert "Over 50 frames of the domain that the network was trained on" in text
    assert says in text
    for value in ("1.234", "0.321", "0.876", "2.345", "0.432", "0.765"):
        assert f">{value}</" in html


def test_a_classifier_forgets_in_its_own_metrics(tmp_path: Path) -> None:
    metrics = {"before": {"accuracy": 0.91, "miou": 0.83}, "after": {"accuracy": 0.62, "miou": 0.41}}
    with Session.create(tmp_path / "s", CONFIG) as session:
        session.finish({"source": {"frames": 9, **metrics}})
    text = page(tmp_path / "s", tmp_path / "r.html").text
    assert "Source domainAccuracyMean IoU" in text
    for value in ("0.910", "0.830", "0.620", "0.410"):
        assert value in text


def test_a_session_without_source_frames_says_nothing_of_forgetting(finished: Path, tmp_path: Path) -> None:
    assert "Forgetting" not in page(finished, tmp_path / "r.html").text


def test_memory_link_and_configuration_are_said(finished: Path, tmp_path: Path) -> None:
    text = page(finished, tmp_path / "r.html").text
    memory = plan()
    for size in (
        memory["ram_bytes"],
        memory["arena_bytes"],
        2048,
        489_120,
        79_760_000,
        127_000,
        8_000,
        2_000,
    ):
        assert f"{size:,}" in text
    assert "Frames sent again7" in text
    assert "Steps with a frame sent again3 of 120" in text
    assert "2 min 28 s" in text
    for value in ("0x8c1d23aa", "qemu-system-arm", "8.2.2", "decoder0.conv0.weight, ups0.bias"):
        assert value in text


def test_the_loss_that_is_drawn_is_the_loss_that_was_recorded(finished: Path, tmp_path: Path) -> None:
    html = write_report(finished, tmp_path / "r.html").read_text()
    curve = Session.open(finished).curve()
    points = re.search(r'class="raw"[^>]*points="([^"]*)"', html)
    assert points is not None
    drawn = np.array([[float(cell) for cell in point.split(",")] for point in points[1].split()])
    assert drawn.shape == (120, 2)
    np.testing.assert_allclose(drawn[:, 0], curve.step / 120 * 1000, atol=0.06)
    # On a linear axis from 0, height is loss times one factor.
    factor = (1000 - drawn[:, 1]) / curve.losses[:, 0]
    np.testing.assert_allclose(factor, factor[0], rtol=2e-3)


def test_images_are_decoded_to_what_the_session_holds(finished: Path, tmp_path: Path) -> None:
    elements = page(finished, tmp_path / "r.html").elements
    images = [attributes for tag, attributes in elements if tag == "img"]
    assert len(images) == 5 * 6
    assert all(image["alt"] for image in images)
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(i["src"].split(",")[1])))) for i in images]
    predictions = Session.open(finished).predictions()
    assert predictions is not None
    np.testing.assert_array_equal(decoded[0], predictions.rgb[0])
    np.testing.assert_array_equal(decoded[-6], predictions.rgb[6])
    unknown = predictions.truth[0] == 0
    grey = (decoded[1] == figures.UNKNOWN_RGB).all(-1)
    np.testing.assert_array_equal(grey, unknown)
    np.testing.assert_array_equal((decoded[5] == figures.UNKNOWN_RGB).all(-1), unknown)


def test_the_same_session_gives_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    first = write_report(finished, tmp_path / "first.html")
    copy = shutil.copytree(finished, tmp_path / "elsewhere")
    assert write_report(copy) == copy / "report.html"
    assert (copy / "report.html").read_bytes() == first.read_bytes()


def test_what_a_session_says_is_text_never_markup(awkward: Path, tmp_path: Path) -> None:
    read = page(awkward, tmp_path / "r.html")
    assert "script" not in {tag for tag, _ in read.elements}
    assert read.text.count("<script>alert('&')</script>") >= 6


def test_nothing_is_loaded_from_elsewhere(finished: Path, tmp_path: Path) -> None:
    page(finished, tmp_path / "r.html").assert_stands_alone()


# --- what is missing or damaged


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("results.json", "This report has no metrics"),
        ("predictions.npz", "This report has no images"),
        ("curve.csv", "This report has no loss curve"),
        ("plan.json", "This report has no memory plan"),
    ],
)
def test_a_part_without_its_file_is_left_out_and_named(
    finished: Path, tmp_path: Path, missing: str, says: str
) -> None:
    copy = shutil.copytree(finished, tmp_path / "session")
    (copy / missing).unlink()
    text = page(copy, tmp_path / "r.html").text
    assert text.count("This report has no ") == 1
    assert says in text


def test_a_session_that_has_only_begun_has_a_report(begun: Path, tmp_path: Path) -> None:
    text = page(begun, tmp_path / "r.html").text
    assert "net on a board" in text
    assert "There are no results yet" in text
    assert text.count("This report has no ") == 6


@pytest.mark.parametrize(
    "memory",
    [
        {"ram_bytes": 10},
        {"ram": {}, "tensors": [], "steps": []},
        {"ram": {"arena": 0}, "tensors": [{"name": "a", "bytes": 0, "offset": 0, "first": 0, "last": 0}]},
        {"ram": {"other": 5}, "tensors": [{"name": "a"}], "trained": []},
    ],
)
def test_a_plan_may_lack_anything(tmp_path: Path, memory: dict[str, Any]) -> None:
    with Session.create(tmp_path / "s", CONFIG) as session:
        session.save_plan(memory)
    assert "Memory" in page(tmp_path / "s", tmp_path / "r.html").text


def test_a_network_that_diverged_is_reported(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    with Session.create(tmp_path / "s", CONFIG) as session:
        for step in range(1, 11):
            session.record_step(step, {"depth": 1.0 if step < 4 else inf, "class": inf}, 0.1, 0)
        depth = np.ones((1, 4, 4))
        session.save_predictions(np.zeros((1, 4, 4, 3)), depth, depth, depth * nan)
        session.finish({"before": {"rmse": 1.0}, "after": {"rmse": nan}, "steps": 10})
    text = page(tmp_path / "s", tmp_path / "r.html").text
    assert "7 of 10 values are not finite" in text
    assert "none of its values is finite" in text
    assert "nan m tuned" in text


def test_a_damaged_file_is_an_error_that_names_it_and_leaves_no_report(
    finished: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(finished, tmp_path / "session")
    (copy / "predictions.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"predictions\.npz is damaged"):
        write_report(copy)
    assert not (copy / "report.html").exists()


def test_the_command_writes_where_it_is_told(finished: Path, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args([str(finished), "-o", str(tmp_path / "sub" / "page.html")])) == 0
    assert (tmp_path / "sub" / "page.html").read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(UserError, match="holds no session"):
        command.run(parser.parse_args([str(tmp_path)]))

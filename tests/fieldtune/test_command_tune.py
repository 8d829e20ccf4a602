"""``fieldtune tune`` as its users and their scripts see it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import boards
from boards import load_board
from fieldtune.__main__ import main
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import parse_update
from ondevice.session import Session
from zoo.loaders.npz import write_npz
from zoo.scenes import render

ROOT = Path(__file__).parents[2]
UPDATE = "dec*,depth"


def built(model: Path, update: str, project: Path) -> Path:
    """The firmware of a model for board `native`."""
    plan = plan_network(load_network(model), load_board("native"), parse_update(update))
    write_project(plan, project)
    return boards.build(project, plan.board).elf


@pytest.fixture(scope="module")
def elf(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(given / "tiny.onnx", UPDATE, tmp_path_factory.mktemp("firmware") / "project")


@pytest.fixture
def port(elf: Path) -> Iterator[str]:
    with boards.start(elf, load_board("native")) as board:
        yield board.url


@pytest.fixture
def words(given: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """The words of the command, for a session in `tmp_path`."""

    def make(*more: str, out: str = "session") -> list[str]:
        model, data = str(given / "tiny.onnx"), str(given / "frames.npz")
        chosen = [
            "--update",
            UPDATE,
            "--lr",
            "0.02",
            "--steps",
            "30",
            "--test",
            "4",
            "-o",
            str(tmp_path / out),
        ]
        return ["tune", model, "--board", "native", "--data", data, *chosen, *more]

    return make


def weights(folder: Path) -> dict[str, Any]:
    return {name: value.tolist() for name, value in Session.open(folder).weights("after").items()}


def test_json_on_stdout_log_on_stderr(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("--json")) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)
    assert results["steps"] == 30
    for metrics in (results["before"], results["after"], *results["baselines"].values()):
        assert set(metrics) == {"rmse", "abs_rel", "delta1"}
    assert set(results["baselines"]) == {"mean_map", "scale_only"}
    (output,) = results["outputs"].values()
    more = {"rmse", "abs_rel", "delta1", "sq_rel", "rmse_log", "delta2", "delta3"}
    for averaged in (output["pooled"], output["per_image"]):
        assert set(averaged) == {"before", "after", "mean_map", "scale_only"}
        assert all(set(metrics) == more for metrics in averaged.values())
    assert results["seconds"] > 0
    assert results["resent_frames"] == 0
    assert results["report"] == str(tmp_path / "session" / "report.html")
    assert Path(results["report"]).is_file()
    assert json.loads((tmp_path / "session" / "results.json").read_text()) == results
    assert f"session {tmp_path}" in err
    assert "passed over 1 frames without a valid label" in err


def test_for_people_and_quiet(
    words: Callable[..., list[str]], port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("--port", port, "-q")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for row in ("untuned", "tuned", "mean map", "scale only"):
        assert re.search(rf"^ *{row} +rmse \d+\.\d\d\d  abs_rel \d", out, re.MULTILINE)
    assert "30 steps in" in out


def test_the_session_is_in_a_folder_of_its_own_where_none_is_named(
    words: Callable[..., list[str]], port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = words("--port", port)
    place = named.index("-o")
    assert main(named[:place] + named[place + 2 :]) == 0
    (folder,) = (tmp_path / "sessions").iterdir()
    assert folder.name.startswith("tiny-native-")


def test_a_seed_repeats_a_shuffled_session(
    words: Callable[..., list[str]], port: str, tmp_path: Path
) -> None:
    for out, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main(words("--port", port, "--shuffle", "--seed", seed, out=out)) == 0
    assert weights(tmp_path / "a") == weights(tmp_path / "b") != weights(tmp_path / "c")


def test_a_session_is_not_overwritten_and_resumes_only_as_it_was_made(
    words: Callable[..., list[str]], port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("--port", port)) == 0
    ended = (tmp_path / "session" / "results.json").read_bytes()
    assert main(words("--port", port)) == 2
    assert "holds a session already; continue it with --resume" in capsys.readouterr().err
    for change, says in (
        (("--lr", "0.03"), "was made with lr = 0.02, not 0.03; give what it was made with"),
        (("--update", "depth"), "was made with update = "),
        (("--board", "mps2_an386"), "was made with board = 'native', not 'mps2_an386'"),
        (("--shuffle",), "was made with shuffle_seed = None, not 0"),
    ):
        assert main(words("--port", port, "--resume", *change)) == 2
        assert says in capsys.readouterr().err
    assert (tmp_path / "session" / "results.json").read_bytes() == ended


def test_optimizer_and_schedule_are_recorded_and_kept_on_resume(
    words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words("--optimizer", "adam", "--state", "bf16", "--schedule", "step:9:0.5", "--warmup", "3")
    del given[given.index("--lr") : given.index("--lr") + 2]
    assert main(given) == 0
    config = Session.open(tmp_path / "session").config
    recorded = {"optimizer": "adam", "state": ["bf16", "f32"], "schedule": "step:9:0.5", "warmup": 3}
    recorded |= {"lr": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
    assert {name: config[name] for name in recorded} == recorded
    capsys.readouterr()
    for change, says in (
        (("--optimizer", "adamw"), "was made with optimizer = 'adam', not 'adamw'"),
        (("--state", "f32"), "was made with state = ['bf16', 'f32'], not ['f32']"),
        (("--schedule", "linear"), "was made with schedule = 'step:9:0.5', not 'linear'"),
        (("--warmup", "2"), "was made with warmup = 3, not 2"),
        (("--beta2", "0.99"), "was made with beta2 = 0.999, not 0.99"),
    ):
        assert main([*given, "--resume", *change]) == 2
        assert says in capsys.readouterr().err


def test_what_failed_before_it_began_can_be_given_again(
    words: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without_tools:
        without_tools.setenv("PATH", "/nowhere")
        assert main(words()) == 2
    assert not (tmp_path / "session").exists()
    assert main(words()) == 0


def test_files_that_lie_in_the_folder_already_stay(words: Callable[..., list[str]], tmp_path: Path) -> None:
    (tmp_path / "session").mkdir()
    (tmp_path / "session" / "notes.txt").write_text("mine")
    assert main(words("--port", "/dev/none")) == 2
    assert (tmp_path / "session" / "notes.txt").read_text() == "mine"


def test_messages_of_a_compiler_that_failed_stay(
    words: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "gcc").write_text("#!/bin/sh\necho 'gcc: error: out of sorts' >&2\nexit 1\n")
    (tmp_path / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert main(words()) == 2
    found = re.search(r"out of sorts; all messages are in (.*)", capsys.readouterr().err)
    assert found
    assert "out of sorts" in Path(found[1]).read_text()


# --- what is forgotten


def test_replay_forgets_less_of_the_rendered_source_domain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ROOT / "zoo" / "weights" / "upydnet_rendered.onnx"
    rooms, lofts = render("room", 0, 32), render("loft", 1000, 32)
    write_npz(tmp_path / "rooms.npz", rooms, rooms.geometry)
    write_npz(tmp_path / "lofts.npz", lofts, lofts.geometry)
    chosen = {
        "--board": "native",
        "--data": str(tmp_path / "rooms.npz"),
        "--source": str(tmp_path / "lofts.npz"),
        "--update": "decoder0*,ups0*",
        "--lr": "0.05",
        "--steps": "24",
        "--test": "8",
    }
    words = ["tune", str(model), "--json", *(word for pair in chosen.items() for word in pair)]
    found = {}
    with boards.start(built(model, chosen["--update"], tmp_path / "project"), load_board("native")) as board:
        for name, replay in (("without", ()), ("with", ("--replay", "1/3"))):
            assert main([*words, *replay, "--port", board.url, "-o", str(tmp_path / name)]) == 0
            found[name] = json.loads(capsys.readouterr().out)
    for name in found:
        assert found[name]["after"]["rmse"] < found[name]["before"]["rmse"]
        assert found[name]["source"]["frames"] == 8
        page = (tmp_path / name / "report.html").read_text()
        for when in ("before", "after"):
            assert set(found[name]["source"][when]) == {"rmse", "abs_rel", "delta1"}
            assert f">{found[name]['source'][when]['rmse']:.3f}</" in page
    assert (found["without"]["replayed_steps"], found["with"]["replayed_steps"]) == (0, 8)
    before, forgotten = (found["without"]["source"][when]["rmse"] for when in ("before", "after"))
    assert found["with"]["source"]["before"]["rmse"] == before
    assert before < found["with"]["source"]["after"]["rmse"] < forgotten


def test_people_read_what_became_of_the_source(
    words: Callable[..., list[str]], given: Path, port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--port", port, "--source", str(given / "frames.npz"), "--replay", "0.2")
    assert main(words(*more)) == 0
    own, source = capsys.readouterr().out.split("depth on the source domain:")
    assert len(re.findall(r"^ *(?:un)?tuned +rmse \d+\.\d\d\d", own, re.MULTILINE)) == 2
    assert len(re.findall(r"^ *(?:un)?tuned +rmse \d+\.\d\d\d", source, re.MULTILINE)) == 2
    assert main(words("--port", port, "--resume")) == 2
    assert "was made with replay = '1/5 of the steps, seed 0', not None" in capsys.readouterr().err


def test_latents_are_kept_where_the_session_began_with_them(
    words: Callable[..., list[str]], given: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ("--source", str(given / "frames.npz"), "--replay", "1/4")
    assert main(["plan", *words()[1:4], "--update", UPDATE, "--latents", "up"]) == 0
    assert re.search(r"from latents \d\.\d\d MMAC a step\n +latents +12,288 B", capsys.readouterr().out)
    assert main(words(*source, "--latents", "up", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["latents"]["kept_bytes"] == 3072 + 12 * 8
    assert "activations at up (" in (tmp_path / "session" / "report.html").read_text()
    assert main(words(*source, "--resume")) == 2
    assert "was made with latents = 'up', not None" in capsys.readouterr().err


# --- what ends the process

INTERRUPTED = """
import os, signal, sys
from fieldtune.__main__ import main
from ondevice import session
original, moment = session.Session.record_step, int(sys.argv[1])

def record_step(self, step, *arguments):
    original(self, step, *arguments)
    if step == moment:
        os.kill(*eval(sys.argv[2]))

session.Session.record_step = record_step
sys.exit(main(sys.argv[3:]))
"""


def interrupted(
    words: list[str], step: int = 17, what: str = "0, signal.SIGINT", **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run a command that is hit by a signal after a step; by default a terminal's Ctrl-C, which hits all."""
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(step), what, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        **options,
    )


@pytest.mark.parametrize("board", ["native", pytest.param("mps2_an500", marks=pytest.mark.long)])
def test_ctrl_c_and_resume_change_nothing(
    board: str, words: Callable[..., list[str]], port: str, tmp_path: Path
) -> None:
    assert main(words("--port", port, out="undisturbed")) == 0
    done = interrupted(words("--board", board))
    assert (done.returncode, done.stdout) == (2, "")
    session = tmp_path / "session"
    how = f"continue with the same command, -o {session} and --resume"
    assert done.stderr.splitlines()[-1] == f"fieldtune: stopped by Ctrl-C; {how}"
    assert "Traceback" not in done.stderr
    assert [path for path in session.rglob(".*") if path.is_file()] == []
    assert main(words("--board", board, "--resume")) == 0
    assert weights(session) == weights(tmp_path / "undisturbed")


def test_ctrl_c_before_the_first_step_leaves_nothing(words: Callable[..., list[str]], tmp_path: Path) -> None:
    code = """
import os, signal, sys
from firmware_gen import project
import ondevice.workbench
def write_project(plan, out):
    project.write_project(plan, out)
    os.kill(0, signal.SIGINT)
ondevice.workbench.write_project = write_project
from fieldtune.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *words()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "fieldtune: stopped by Ctrl-C; start it again"
    assert not (tmp_path / "session").exists()


def test_a_killed_host_takes_its_emulator_along_and_resumes(
    words: Callable[..., list[str]], port: str, tmp_path: Path
) -> None:
    assert main(words("--port", port, out="undisturbed")) == 0
    done = interrupted(words("--board", "mps2_an386"), 28, "os.getpid(), signal.SIGKILL")
    assert done.returncode == -signal.SIGKILL
    elf = str(tmp_path / "session" / "firmware" / "build" / "firmware.elf").encode()
    deadline = time.monotonic() + 20  # the system takes a moment to end it, longer where there is much to do
    while any(elf in _read(path) for path in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < deadline, "the emulator lives on"
        time.sleep(0.05)
    assert main(words("--board", "mps2_an386", "--resume")) == 0
    assert weights(tmp_path / "session") == weights(tmp_path / "undisturbed")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def test_a_disk_that_fills_up_while_it_trains_is_a_sentence_and_it_resumes(
    words: Callable[..., list[str]], port: str, tmp_path: Path
) -> None:
    assert main(words("--port", port, out="undisturbed")) == 0
    # The checkpoint after 25 steps is the largest file until then.
    limit = (tmp_path / "undisturbed" / "checkpoint.npz").stat().st_size * 9 // 10
    assert (tmp_path / "undisturbed" / "plan.json").stat().st_size < limit
    done = interrupted(
        words("--port", port),
        0,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    session = tmp_path / "session"
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"fieldtune: cannot write {session}/checkpoint.npz: File too large"
    assert Session.open(session).curve().step.tolist() == list(range(1, 26))
    assert [path for path in session.rglob(".*") if path.is_file()] == []
    assert main(words("--port", port, "--resume")) == 0
    assert weights(session) == weights(tmp_path / "undisturbed")


def test_training_that_diverges_is_a_sentence(
    words: Callable[..., list[str]], port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words("--port", port, "--lr", "3e38")) == 2
    sentence = capsys.readouterr().err.splitlines()[-1]
    assert re.search(
        r"diverges: .* is not finite at step \d+; begin again with a smaller --lr than 3e\+38", sentence
    )
    if (tmp_path / "session").exists():
        checkpoint = Session.open(tmp_path / "session").load_checkpoint()
        assert checkpoint is None or all(np.isfinite(array).all() for array in checkpoint.arrays.values())

"""A session survives whatever ends the process that writes it: kill -9 at any moment, a full disk."""

import json
import random
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from ondevice.session import Session

WRITER = """
import os, sys
from pathlib import Path
import numpy as np
from ondevice.session import Session

def write(path, steps):
    fresh = not (path / "session.json").exists()
    session = Session.create(path, {"lr": 0.1}) if fresh else Session.resume(path, {"lr": 0.1})
    session.log("begin")
    checkpoint = session.load_checkpoint()
    for step in range(checkpoint.step + 1 if checkpoint else 1, steps + 1):
        session.record_sample(step, {"image": np.full((4, 4), step % 3, np.uint8)})
        session.record_step(step, {"l1": 1 / step}, 0.1, 0)
        if step % 2 == 0:
            session.save_checkpoint(step, {"w": np.full(50, step, np.float32)})
    session.save_weights("after", {"w": np.full(50, steps, np.float32)})
    session.finish({"steps": steps})
    session.close()
"""

KILLED_AT_A_LINE = """
import signal

def kill_at(count):
    seen = 0
    def trace(frame, event, argument):
        nonlocal seen
        # Only where files change: session.py, session_files.py, samples.py, fieldtune/files.py and rmtree.
        if not frame.f_code.co_filename.endswith(("session.py", "files.py", "samples.py", "shutil.py")):
            return None
        if event == "line":
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

# Every child is killed a little later than the one before, until one comes to its end.
count, status = 0, signal.SIGKILL
while status == signal.SIGKILL:
    count += 5
    child = os.fork()
    if child == 0:
        kill_at(count)
        write(Path(sys.argv[1]) / str(count), 5)
        os._exit(0)
    _, status = os.waitpid(child, 0)
raise SystemExit(status)
"""


def check_killed_session(folder: Path) -> None:
    """Open and resume what a kill left; nothing that was recorded before the checkpoint may be missing."""
    session = Session.open(folder)
    recorded, sampled = session.curve().step.tolist(), {step for step, _ in session.samples()}
    assert recorded == list(range(1, len(recorded) + 1))
    assert set(recorded) <= sampled
    if session.results() is not None:
        assert session.results() == {"steps": 5}
    with Session.resume(folder, {"lr": 0.1}) as session:
        checkpoint = session.load_checkpoint()
        last = checkpoint.step if checkpoint else 0
        assert last >= len(recorded) - 2
        assert session.curve().step.tolist() == list(range(1, last + 1))
        assert [step for step, _ in session.samples()] == list(range(1, last + 1))
        if checkpoint:
            np.testing.assert_array_equal(checkpoint.arrays["w"], np.full(50, last))
        hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
        assert hidden == []


def run_writer(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    return subprocess.run(
        [sys.executable, "-c", WRITER + code, *arguments],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_session_killed_at_any_line_of_our_code_opens_resumes_and_ends_the_same(tmp_path: Path) -> None:
    done = run_writer(KILLED_AT_A_LINE, str(tmp_path))
    assert done.returncode == 0, done.stderr
    killed = [folder.name for folder in tmp_path.iterdir()]
    begun = [name for name in killed if (tmp_path / name / "session.json").exists()]
    assert len(begun) > 40
    for name in begun:
        check_killed_session(tmp_path / name)
    finished = run_writer(
        "for name in sys.argv[2:]: write(Path(sys.argv[1]) / name, 5)", str(tmp_path), *killed
    )
    assert finished.returncode == 0, finished.stderr
    undisturbed = run_writer("write(Path(sys.argv[1]) / 'undisturbed', 5)", str(tmp_path))
    assert undisturbed.returncode == 0, undisturbed.stderr
    for name in ("curve.csv", "weights_after.npz", "samples.npz", "results.json", "checkpoint.npz"):
        expected = (tmp_path / "undisturbed" / name).read_bytes()
        assert {(tmp_path / folder / name).read_bytes() for folder in killed} == {expected}, name


def test_a_session_killed_from_outside_at_random_moments_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    code = WRITER + textwrap.dedent("""
        print("begun", flush=True)
        write(Path(sys.argv[1]), 1_000_000)
    """)
    root = Path(__file__).resolve().parents[2]
    moments, steps = random.Random(1), 0
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(0.1 + moments.random() / 5)
        writer.kill()
        _, errors = writer.communicate()
        assert writer.returncode == -signal.SIGKILL, errors.decode()
        if (folder / "session.json").exists():
            check_killed_session(folder)
            now = Session.open(folder).curve().step.max(initial=0)
            assert now >= steps
            steps = now


# --- full disk


@pytest.mark.parametrize(
    ("limit", "write"),
    [
        (60, "session.log('x' * 100)"),
        (60, "session.record_step(1, {'berhu' * 9: 1.0}, 0.1, 0)"),
        (900, "session.record_sample(1, {'image': np.random.default_rng(0).random((50, 50))})"),
        (900, "session.save_checkpoint(1, {'w': np.random.default_rng(0).random((50, 50))})"),
        (60, "session.finish({'a': 'x' * 100})"),
    ],
)
def test_a_file_that_cannot_grow_is_a_user_error_and_leaves_no_half_file(
    tmp_path: Path, limit: int, write: str
) -> None:
    folder = tmp_path / "session"
    # A limit on file sizes fails as a full disk does: in the middle of a write.
    code = textwrap.dedent(f"""
        import resource
        from fieldtune.errors import UserError
        session = Session.create(Path(sys.argv[1]), {{"lr": 0.1}})
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            {write}
        except UserError as error:
            print(error)
            raise SystemExit(2)
    """)
    done = run_writer(code, str(folder))
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith(f"cannot write {folder}")
    assert json.loads((folder / "session.json").read_text()) == {"lr": 0.1}
    Session.resume(folder, {"lr": 0.1}).close()
    left = {path.name for path in folder.rglob("*") if path.is_file()}
    assert left == {"session.json"}

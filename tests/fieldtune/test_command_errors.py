"""Whatever the user gets wrong: one clear sentence on stderr, exit code 2, nothing half-written."""

import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny import tiny_frames, write_tiny

import boards
from boards import load_board
from fieldtune.__main__ import main
from firmware_gen.project import load_network, plan_network, write_project
from firmware_gen.update import parse_update
from ondevice.device import Device
from zoo.loaders.npz import write_npz

ROOT = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with inputs, good and bad."""
    folder = tmp_path_factory.mktemp("given")
    model = write_tiny(folder / "tiny.onnx")
    write_tiny(folder / "tiny_softsign.onnx", operator="Softsign")
    proto = onnx.load(model)
    del proto.metadata_props[:]
    onnx.save(proto, folder / "no_task.onnx")
    (folder / "broken.onnx").write_bytes(model.read_bytes()[:700])
    (folder / "net.pth").write_bytes(b"")
    (folder / "bad.task.toml").write_text('[input.image]\nscale = 1.0\n[output.depth]\nkind = "depht"\n')
    dynamic = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, "h", "w"))
    proto = onnx.load(model)
    proto.graph.input[0].CopyFrom(dynamic)
    onnx.save(proto, folder / "dynamic.onnx")

    frames = tiny_frames(8)
    write_npz(folder / "frames.npz", frames)
    arrays = dict(np.load(folder / "frames.npz"))
    np.savez(folder / "blind.npz", **{**arrays, "tof_target_status": np.zeros((8, 8, 8), np.uint8)})
    np.savez(folder / "no_rgb.npz", depth_mm=arrays["depth_mm"])
    np.savez(folder / "float_rgb.npz", **{**arrays, "rgb": arrays["rgb"] / 255})
    np.savez(folder / "short.npz", **{**arrays, "tof_distance_mm": arrays["tof_distance_mm"][:5]})
    (folder / "broken.npz").write_bytes((folder / "frames.npz").read_bytes()[:900])
    (folder / "broken.toml").write_text("id = [")
    (folder / "incomplete.toml").write_text('id = "mine"\n')
    (folder / "a_file").write_text("")
    return folder


@pytest.fixture
def refused(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command that must fail in an empty folder and return its sentence."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        sentence = run_refused([word.replace("GIVEN", str(given)) for word in words], capsys)
        assert sorted(tmp_path.rglob("*")) == before
        return sentence

    return run


def run_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    return sentence_of(err)


def sentence_of(err: str) -> str:
    """The one sentence, after log lines of what was done until then."""
    *log, sentence = err.splitlines()
    assert all(line.startswith(("session ", "building firmware", "passed over ")) for line in log), err
    assert re.match(r"fieldtune( \w+)?: ", sentence)
    assert not re.search(r"\w(Error|Exception)\b|\[\(", sentence)
    assert "Traceback" not in err
    return sentence


def tune_words(changes: Sequence[str] = (), **replaced: str) -> list[str]:
    options = {
        "--board": "native",
        "--data": "GIVEN/frames.npz",
        "--update": "dec*,depth",
        "--steps": "5",
        "--test": "2",
        "-o": "out",
    }
    model = replaced.pop("model", "GIVEN/tiny.onnx")
    options |= {f"--{name}" if len(name) > 1 else f"-{name}": value for name, value in replaced.items()}
    return ["tune", model, *(word for pair in options.items() for word in pair), *changes]


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        # the model
        ({"model": "none.onnx"}, "there is no model at none.onnx"),
        ({"model": "GIVEN"}, "there is no model at "),
        ({"model": "GIVEN/net.pth"}, "net.pth is no .onnx, .tflite, .keras or .h5 file; export"),
        ({"model": "GIVEN/broken.onnx"}, "broken.onnx"),
        ({"model": "GIVEN/tiny_softsign.onnx"}, "Softsign.*enc0.act.*supported"),
        ({"model": "GIVEN/dynamic.onnx"}, "dynamic.onnx|image"),
        (
            {"model": "GIVEN/no_task.onnx"},
            "has no task: write one to no_task.task.toml beside it, or give --task",
        ),
        ({"task": "none.toml"}, "cannot read the task file none.toml: No such file"),
        ({"task": "GIVEN/bad.task.toml"}, "bad.task.toml: output.depth.kind is 'depht'; use one of depth, "),
        # the data
        ({"data": "none.npz"}, "there is no data set at none.npz"),
        ({"data": "."}, "is no data set that Fieldtune knows"),
        ({"data": "GIVEN/no_rgb.npz"}, "no_rgb.npz has no array 'rgb'"),
        ({"data": "GIVEN/float_rgb.npz"}, "rgb must be uint8"),
        ({"data": "GIVEN/short.npz"}, r"tof_distance_mm must be int16 \(8, 8, 8\)"),
        ({"data": "GIVEN/broken.npz"}, "broken.npz is no complete .npz file"),
        ({"data": "GIVEN/blind.npz"}, "none of the 6 training frames has a valid label"),
        # the board
        ({"board": "mps2_an501"}, "mps2_an501.*mps2_an500"),
        ({"board": "GIVEN/broken.toml"}, "broken.toml"),
        ({"board": "GIVEN/incomplete.toml"}, "incomplete.toml"),
        ({"port": "/dev/ttyACM77"}, "there is no port /dev/ttyACM77; plug the board in"),
        ({"port": "socket://127.0.0.1:9"}, "cannot open socket://127.0.0.1:9"),
        ({"port": "nonsense://"}, "cannot open nonsense://"),
        # the plan
        (
            {"update": "decoder*"},
            "no layer or weight of tiny is called 'decoder.'.*the layers are enc0, enc1, up",
        ),
        ({"update": ","}, "nothing would learn; name layers with --update"),
        ({"ram": "8K"}, r"tiny training needs .* B .*of RAM \(arena .*--ram allows 8,192 B"),
        ({"ram": "lots"}, "'lots' is not a size"),
        ({"time": "soon"}, "'soon' is not a duration; .* such as 400ms"),
        ({"time": "400ms"}, "how long a step takes on native cannot be estimated.*leave out --time"),
        # numbers
        ({"lr": "-0.1"}, "--lr: -0.1 is no number from 0 up"),
        ({"lr": "nan"}, "--lr: nan is no number"),
        ({"lr": "1e39"}, "--lr: 1e39 is no number"),
        ({"lr": "fast"}, "--lr: .*'fast'"),
        ({"momentum": "-1"}, "--momentum: -1 is no number"),
        ({"weight-decay": "inf"}, "--weight-decay: inf"),
        ({"optimizer": "rmsprop"}, "--optimizer: invalid choice: 'rmsprop'"),
        ({"state": "f16"}, "--state: invalid choice: 'f16'"),
        ({"state": "bf16"}, "--state is how a velocity is stored, or gradients that wait for --clip-norm"),
        ({"weights": "int4"}, "--weights: invalid choice: 'int4'"),
        (
            {"weights": "int8"},
            "--weights int8 is for int8 layers, but none that the update names is one in tiny",
        ),
        ({"rounding": "nearest"}, "--rounding is for weights in bf16 or int8; add --weights bf16 or int8"),
        ({"gradients": "int4"}, "--gradients: invalid choice: 'int4'"),
        ({"products": "bf16"}, "--products: invalid choice: 'bf16'"),
        (
            {"gradients": "f32", "weights": "int8"},
            "--gradients f32 is for layers that learn as floats; --weights int8 goes with int8 gradients",
        ),
        ({"update": "auto", "weights": "int8"}, "--update auto searches for layers that learn as floats"),
        ({"optimizer": "adam", "momentum": "0.9"}, "--momentum is for sgd; --optimizer adam has beta1"),
        ({"beta2": "0.99"}, "--beta2 is for adam and adamw; leave it out or give --optimizer adam"),
        ({"optimizer": "adam", "beta1": "1"}, "--beta1: 1 is no number from 0 to before 1"),
        ({"optimizer": "adam", "beta2": "0.99999999"}, "--beta2: 0.99999999 is no number from 0 to before 1"),
        ({"optimizer": "adamw", "eps": "0"}, "--eps: 0 is no number above 0"),
        ({"schedule": "cosinus"}, "--schedule is 'cosinus'; give constant, linear, cosine, or step:EVERY"),
        ({"schedule": "step:5:2"}, "--schedule is 'step:5:2'; give .* a factor up to 1"),
        ({"warmup": "0"}, "--warmup: 0 is no number from 1 up"),
        ({"warmup": "5"}, "--warmup is 5, but there are only 5 updates; give fewer, or more --steps"),
        ({"accumulate": "0"}, "--accumulate: 0 is no number from 1 up"),
        ({"steps": "5", "accumulate": "2"}, "--steps is 5, no multiple of --accumulate 2"),
        ({"steps": "0"}, "--steps: 0 is no number from 1 up"),
        ({"test": "8"}, "the data set has 8 frames and --test 8 holds out all of them"),
        ({"test": "-1"}, "--test is -1; give 0 or more"),
        # the source domain
        ({"source": "none.npz"}, "there is no data set at none.npz"),
        ({"latents": "enc0"}, "--latents is how source frames are kept for --replay; give --replay SHARE as"),
        ({"replay": "1/4"}, "--replay needs frames of the source domain; give them with --source"),
        ({"source": "GIVEN/frames.npz", "replay": "1"}, "--replay is '1'; give the share of steps"),
        ({"source": "GIVEN/frames.npz", "replay": "some"}, "--replay is 'some'; give the share of steps"),
        ({"source": "GIVEN/frames.npz", "replay": "1/11"}, "--replay 1/11 of --steps 5 is no step"),
        # the folder
        ({"o": "GIVEN/a_file"}, "cannot use .*a_file as a session's folder: File exists"),
        ({"o": "GIVEN/a_file/below"}, "cannot use .*below as a session's folder: Not a directory"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(" ".join, value.items())),
)
def test_tune_refuses(replaced: dict[str, str], says: str, refused: Callable[..., str]) -> None:
    assert re.search(says, refused(*tune_words(**replaced)))


def test_options_that_are_wrong_or_missing(refused: Callable[..., str]) -> None:
    assert "--data" in refused("tune", "GIVEN/tiny.onnx", "--board", "native")
    assert "unrecognized arguments: --speed" in refused(*tune_words(["--speed"]))
    assert "invalid choice: 'tuen'" in refused("tuen")
    assert "COMMAND" in refused()
    assert "--resume needs the session's folder" in refused(
        "tune", "GIVEN/tiny.onnx", "--board", "native", "--data", "GIVEN/frames.npz", "--resume"
    )
    assert "out holds no session" in refused(*tune_words(["--resume"]))


@pytest.mark.parametrize(
    "command", ["plan", "build -o out", "profile", "verify", "tune --data GIVEN/frames.npz"]
)
def test_a_preference_that_there_is_not(command: str, refused: Callable[..., str]) -> None:
    name, *words = command.split()
    sentence = refused(name, "GIVEN/tiny.onnx", "--board", "native", *words, "--prefer", "size")
    assert "--prefer: invalid choice: 'size'" in sentence


def test_a_training_that_does_not_fit_is_refused_with_the_numbers(refused: Callable[..., str]) -> None:
    words = ["GIVEN/tiny.onnx", "--board", "microbit", "--update", "*"]
    for command in (["plan", *words], ["build", *words, "-o", "out"]):
        sentence = refused(*command)
        assert re.search(r"needs [\d,]+ B .* of RAM .* has 16,384 B .* 4,096 B .* for the stack", sentence)
        assert "train fewer or smaller layers" in sentence


def test_without_a_compiler(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "the compiler gcc for board native is not installed; install it" in refused(*tune_words())
    sentence = refused(*tune_words(board="mps2_an386"))
    assert re.search("arm-none-eabi-gcc .* is not installed.* gcc-arm-none-eabi", sentence)


def test_without_an_emulator(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tools = tmp_path_factory.mktemp("tools")
    for name in ("arm-none-eabi-gcc", "as", "ld"):
        found = shutil.which(name)
        if found:
            (tools / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tools))
    sentence = refused(*tune_words(board="mps2_an386"))
    assert re.search("the emulator qemu-system-arm .* is not installed; install it", sentence)


@pytest.fixture(scope="module")
def port(given: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A native board that runs the firmware of another plan."""
    plan = plan_network(load_network(given / "tiny.onnx"), load_board("native"), parse_update("depth"))
    project = tmp_path_factory.mktemp("board") / "project"
    write_project(plan, project)
    with boards.start(boards.build(project, plan.board).elf, plan.board) as running:
        yield running.url


def test_a_port_that_another_program_uses(port: str, refused: Callable[..., str]) -> None:
    with Device.open(port):
        assert f"{port} is in use by another program" in refused(*tune_words(port=port))


def test_a_board_with_another_firmware(port: str, refused: Callable[..., str]) -> None:
    assert re.search(r"runs tiny with plan \w+, not \w+; build and flash", refused(*tune_words(port=port)))


def test_a_port_at_which_nothing_speaks_the_protocol(refused: Callable[..., str]) -> None:
    master, slave = pty.openpty()
    try:
        name = os.ttyname(slave)
        assert f"no answer to hello from {name}" in refused(*tune_words(port=name))
    finally:
        os.close(master)
        os.close(slave)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[], None]]:
    """Root may open everything: become another user until the test ends."""
    yield lambda: os.seteuid(NOBODY if os.getuid() == 0 else os.getuid())
    os.seteuid(os.getuid())


def test_a_port_and_a_folder_that_the_user_may_not_use(
    given: Path, as_nobody: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    port = os.ttyname(slave)
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = Path(shutil.copytree(given, Path(open_to_all) / "given"))
        (folder.parent / "locked").mkdir(mode=0o555)
        for path in (folder.parent, folder):
            path.chmod(0o777)

        def words(**replaced: str) -> list[str]:
            return [word.replace("GIVEN", str(folder)) for word in tune_words(**replaced)]

        # Another user may not even import: have all that is needed imported first.
        run_refused(words(port="/dev/none", o=f"{folder}/out"), capsys)
        os.chmod(port, 0)
        as_nobody()
        sentence = run_refused(words(port=port, o=f"{folder}/out"), capsys)
        assert f"no permission to open {port}; run: sudo usermod" in sentence
        assert not (folder / "out").exists()
        sentence = run_refused(words(o=f"{folder.parent}/locked/out"), capsys)
        assert "locked/out as a session's folder: Permission denied" in sentence
        os.seteuid(os.getuid())
    os.close(master)
    os.close(slave)


@pytest.mark.parametrize("limit", [300, 4_000, 40_000, 90_000])
def test_a_full_disk(limit: int, given: Path, tmp_path: Path) -> None:
    """A limit on file sizes fails as a full disk does: in the middle of a write."""
    words = [word.replace("GIVEN", str(given)) for word in tune_words()]
    done = subprocess.run(
        [sys.executable, "-m", "fieldtune", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CCACHE_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    sentence_of(done.stderr)
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []

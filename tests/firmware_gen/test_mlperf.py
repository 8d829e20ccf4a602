"""MLPerf Tiny's serial API: the dialogue of its runner, and what must do no harm."""

import contextlib
import os
import re
import select
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial
from quick_board import quick_board
from tflite_writer import Reference
from tiny import write_tiny

from boards import build, start
from boards.building import LANGUAGE, SANITIZERS
from fieldtune.__main__ import main
from firmware_gen.graph import Graph, Quantization, Tensor
from firmware_gen.mlperf import input_bytes, mlperf_header, mlperf_ram_bytes
from firmware_gen.project import RUNTIME, load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan

HERE = Path(__file__).parent
DATA = HERE.parents[1].parent / "shared" / "data"
KWS, IMAGES = DATA / "kws_ref_model.tflite", DATA / "pretrainedResnet_quant.tflite"
PIECE = 31  # bytes a command, as the runner sends
READY = "m-ready"


def graph() -> Graph:
    tensors = (
        Tensor("one", (1, 1, 20), "u8"),
        Tensor("other", (1, 1, 12), "i8"),
        Tensor("bits", (1, 2, 4)),
        Tensor("runs", (1, 1, 1), "i8", Quantization(0.5, -3)),
    )
    named = {tensor.name: tensor for tensor in tensors}
    return Graph("copy", (), named, {}, ("one", "other"), ("bits", "runs"))


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLPerf's link in a process of its own, under the sanitizers."""
    folder = tmp_path_factory.mktemp("driver")
    shutil.copytree(RUNTIME, folder / "runtime")
    (folder / "runtime" / "mlperf" / "config.h").write_text(mlperf_header(graph(), "copy01"))
    sources = [folder / "runtime" / "mlperf" / "mlperf.c", HERE / "mlperf_driver.c"]
    command = ["gcc", *LANGUAGE, *SANITIZERS, "-I", folder / "runtime", *sources, "-o", folder / "driver"]
    subprocess.run(command, check=True)
    return folder / "driver"


def answers(driver: Path, sent: str | bytes) -> list[list[str]]:
    """Return the lines that answer each command, without m-ready; first what is said at the start."""
    data = sent.encode() if isinstance(sent, str) else sent
    done = subprocess.run([driver], input=data, capture_output=True, check=True)
    assert done.stderr == b""
    *replies, rest = done.stdout.decode("ascii").split(READY + "\r\n")
    assert rest == ""
    assert all(reply.endswith("\r\n") or not reply for reply in replies)
    return [reply.split("\r\n")[:-1] for reply in replies]


def loaded(data: bytes) -> str:
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return f"db load {len(data)}%" + "".join(f"db {piece.hex()}%" for piece in pieces)


def test_every_command_is_answered(driver: Path) -> None:
    start, name, profile, first, second, helped, *_ = answers(
        driver, "name%profile%timestamp%timestamp%help%"
    )
    assert start == ["m-init-done"]
    assert name == ["m-name-dut-[fieldtune]"]
    assert profile == ["m-profile-[ULPMark for tinyML Firmware V0.0.1]", "m-model-[copy01]"]
    times = [int(line.removeprefix("m-lap-us-")) for line in (*first, *second)]
    assert times[0] == ((1 << 62) + 168) * 10**6 // 168_000_000  # no product of 64 bits overflows
    assert times[1] - times[0] == 1
    assert any(line.startswith("infer") for line in helped)


def test_what_was_loaded_is_inferred_each_time_anew(driver: Path) -> None:
    values = (0.0625, -2.5e-4, 1e6 + 1 / 16, -0.0, 12345.6785, 0.9995, 2.0**40, 1e-42)
    _, *loads, infer, again = answers(driver, loaded(struct.pack("<8f", *values)) + "infer 3 2%results%")
    assert loads == [["m-[Expecting 32 bytes]"], [], ["m-load-done"]]
    *lines, results = infer
    assert [re.sub(r"us-\d+", "us-T", line) for line in lines] == [
        "m-warmup-start-2",
        "m-warmup-done",
        "m-infer-start-3",
        "m-lap-us-T",
        "m-lap-us-T",
        "m-infer-done",
    ]
    expected = [f"{np.float32(value):.3f}" for value in values]
    assert results == f"m-results-[{','.join(expected)},{0.5 * (5 + 3):.3f}]"
    assert again == [results]


def test_results_are_rounded_as_printf_does(driver: Path) -> None:
    random = np.random.default_rng(3)
    wild = random.integers(0, 1 << 32, 600, np.uint32).view(np.float32)
    wild = wild[~(np.abs(wild) >= 2.0**53)]  # what lies above is shown as inf
    ties = (random.integers(-(1 << 22), 1 << 22, 600) / 16 / 2.0 ** random.integers(0, 12, 600)).astype("<f4")
    edges = np.array([np.inf, -np.inf, np.nan, 2.0**53 - 2.0**29, -(2.0**53), 2.0**60], "<f4")
    numbers = np.concatenate([wild, ties, edges]).astype("<f4")
    numbers = np.append(numbers, np.zeros(-len(numbers) % 8, "<f4"))
    sent = "".join(loaded(eight.tobytes()) + "infer 1 0%" for eight in numbers.reshape(-1, 8))
    found = [lines[-1] for lines in answers(driver, sent) if lines and lines[-1].startswith("m-results")]
    texts = [text for line in found for text in line[len("m-results-[") : -1].split(",")[:8]]
    shown = [np.copysign(np.inf, value) if abs(value) >= 2.0**53 else value for value in numbers]
    assert texts == ["nan" if np.isnan(value) else f"{value:.3f}" for value in shown]


def test_the_loaded_bytes_can_be_printed(driver: Path) -> None:
    whole, part, behind, wrong = answers(
        driver, "db load 10%db 000102030405060708090a0b%db print%db print 3 2%db print 9 10%db print x%"
    )[3:]
    assert whole == ["m-buffer-00-01-02-03-04-05-06-07", "m-buffer-08-09"]
    assert part == ["m-buffer-02-03-04"]
    assert behind == [""]
    assert wrong[0].startswith("e-[")


@pytest.mark.parametrize(
    "command",
    [
        "", "  ", "nothing", "name\x7f\x80", "NAME", "infer 0", "infer -1", "infer 1 -1", "infer x",
        "infer 1", "db", "db load", "db load 0", "db load -5", "db load 33", "db load 99999999999999999999",
        "db load 5x",        "db 00", "db print -1", "x" * 81, "name" + " " * 77, "db " + "0" * 500,
    ],
)  # fmt: skip
def test_an_error_is_said_and_the_next_command_is_obeyed(driver: Path, command: str) -> None:
    _, error, name = answers(driver, f"{command}%name%")
    assert len(error) == 1
    assert re.fullmatch(r"e-\[[ -~]*\]", error[0])
    assert name == ["m-name-dut-[fieldtune]"]


def test_hex_digits_are_taken_whole_or_not_at_all(driver: Path) -> None:
    bad = "db load 4%db 0a%db 0%db 0g%db 1 2%db 0B0c0D0e%db 11%db print%"
    *_, digits, digit, pair, rest, after, printed = answers(driver, bad)
    assert [digits[0][:3], digit[0][:3], pair[0][:3], after[0][:3]] == ["e-["] * 4
    assert rest == ["m-load-done"]
    assert printed == ["m-buffer-0a-0b-0c-0d"]


def test_80_characters_are_a_command_and_line_ends_are_none(driver: Path) -> None:
    _, long, typed = answers(driver, "name" + " " * 76 + "%\r\n\0na\nme%")
    assert long == typed == ["m-name-dut-[fieldtune]"]


def test_rubbish_does_no_harm(driver: Path) -> None:
    random = np.random.default_rng(8)
    words = [b"db", b"load", b"print", b"infer", b"name", b"32", b"4294967295", b"00" * 30, b"0g", b"1", b" "]
    pieces = []
    for _ in range(20_000):
        pieces.append(words[random.integers(len(words))] if random.random() < 0.7 else random.bytes(3))
        pieces.append([b" ", b"%", b""][random.integers(3)])
    sent = b"".join(pieces).replace(b"4294967295%", b"4294967295 %") + b"%name%"
    sent = re.sub(rb"infer[^%]*", b"infer 2 1", sent)  # no 2^31 inferences
    replies = answers(driver, sent)
    assert len(replies) == 1 + sent.count(b"%")
    assert replies[-1] == ["m-name-dut-[fieldtune]"]


class Runner:
    """What mlcommons' runner does: benchmark/runner/serial_device.py, device_under_test.py, script.py."""

    def __init__(self, url: str) -> None:
        self.port = serial.Serial(url, 115200, timeout=0.2)
        said = b""
        while not said.endswith(b"e-[Empty command]\r\nm-ready\r\n"):  # what was before is flushed
            self.port.write(b"%")
            said += self.port.read(1000)
        while self.port.read(1000):
            pass
        self.port.timeout = 20

    def send_command(self, command: str) -> list[str]:
        self.port.write(f"{command}%".encode())
        lines = []
        while not lines or READY not in lines[-1]:
            line = self.port.readline()
            assert line, f"no response to {command}"
            lines.append(line.decode().strip("\r\n\0"))
        return lines[:-1]

    def load(self, data: bytes) -> None:
        assert self.send_command(f"db load {len(data)}") == [f"m-[Expecting {len(data)} bytes]"]
        pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
        said = [self.send_command(f"db {piece.hex()}") for piece in pieces]
        assert said == [[]] * (len(pieces) - 1) + [["m-load-done"]]

    def infer(self, number: int, warmups: int) -> tuple[list[float], int]:
        """Return the results and the microseconds between the time stamps."""
        lines = self.send_command(f"infer {number} {warmups}")
        laps = [int(found[1]) for line in lines if (found := re.match(r"^m-lap-us-([0-9]+)$", line))]
        (values,) = (found[1] for line in lines if (found := re.match(r"^m-results-\[([^]]+)\]$", line)))
        assert len(laps) == 2
        return [float(value) for value in values.split(",")], laps[1] - laps[0]


@pytest.mark.parametrize("name", ["native", "mps2_an386"])
def test_the_runner_gets_litert_s_results(name: str, tmp_path: Path) -> None:
    if not KWS.is_file():
        pytest.skip(f"needs ../shared/data/{KWS.name}")
    board = quick_board(name)
    plan = plan_network(load_network(KWS), board, UpdatePlan(()), mlperf="kws01")
    write_project(plan, tmp_path / "project")
    firmware = build(tmp_path / "project", board)
    if name != "native":
        assert firmware.ram_bytes == plan.ram_bytes
    random = np.random.default_rng(4)
    reference = Reference(KWS.read_bytes())
    scale, zero_point = reference.outputs[0]["quantization"]
    with start(firmware.elf, board) as running:
        runner = Runner(running.url)
        assert runner.send_command("name")[-1] == "m-name-dut-[fieldtune]"
        assert "m-model-[kws01]" in runner.send_command("profile")
        before = int(runner.send_command("timestamp")[0].removeprefix("m-lap-us-"))
        for _ in range(3):
            inputs = reference.draw(random)
            runner.load(inputs[0].tobytes())
            values, micros = runner.infer(2, 1)
            (expected,) = reference(inputs)
            steps = np.round(np.array(values) / scale) + zero_point  # three decimals are enough for 1/256
            assert np.array_equal(steps, expected.ravel())
            assert micros > 0
        assert int(runner.send_command("timestamp")[0].removeprefix("m-lap-us-")) > before
        runner.port.close()


PIXELS = """
[input.input_1_int8]            # integers are pixel - 128: scale 1, zero point -128
scale = 1.0
[output.Identity_int8]
kind = "class"
"""


def test_pixels_are_what_the_runner_sends_for_image_classification(tmp_path: Path) -> None:
    if not IMAGES.is_file():
        pytest.skip(f"needs ../shared/data/{IMAGES.name}")
    board = quick_board("native")
    (tmp_path / "pixels.toml").write_text(PIXELS)
    network = load_network(IMAGES, tmp_path / "pixels.toml")
    write_project(plan_network(network, board, UpdatePlan(()), mlperf="ic01"), tmp_path / "project")
    reference = Reference(IMAGES.read_bytes())
    pixels = np.random.default_rng(5).integers(0, 256, reference.inputs[0]["shape"], np.uint8)
    (expected,) = reference([(pixels.astype(np.int16) - 128).astype(np.int8)])
    scale, zero_point = reference.outputs[0]["quantization"]
    with start(build(tmp_path / "project", board).elf, board) as running:
        runner = Runner(running.url)
        runner.load(pixels.tobytes())
        values, _ = runner.infer(1, 0)
        assert np.array_equal(np.round(np.array(values) / scale) + zero_point, expected.ravel())
        runner.port.close()


def test_the_start_is_announced(tmp_path: Path) -> None:
    if not KWS.is_file():
        pytest.skip(f"needs ../shared/data/{KWS.name}")
    board = quick_board("native")
    write_project(plan_network(load_network(KWS), board, UpdatePlan(()), mlperf="kws01"), tmp_path / "p")
    with _process(build(tmp_path / "p", board).elf) as terminal:
        said = b""
        while not said.endswith(b"m-ready\r\n"):
            assert select.select([terminal], [], [], 20)[0]
            said += os.read(terminal, 100)
        assert said == b"m-init-done\r\nm-ready\r\n"


@contextlib.contextmanager
def _process(elf: Path) -> Iterator[int]:
    """Start the firmware and open its terminal as nobody has before, so that nothing is flushed."""
    with subprocess.Popen([elf], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        terminal = os.open(process.stdout.readline().strip(), os.O_RDWR | os.O_NOCTTY)
        try:
            yield terminal
        finally:
            process.kill()
            os.close(terminal)


@pytest.mark.parametrize("inputs", [((1, 1, 20), (1, 1, 12)), ((1, 1, 3), (1, 2, 5)), ((40, 30, 3),)])
def test_ram_is_known_before_the_build(inputs: tuple[tuple[int, int, int], ...], tmp_path: Path) -> None:
    if shutil.which("arm-none-eabi-gcc") is None:
        pytest.skip("arm-none-eabi-gcc is not installed")
    tensors = {f"x{k}": Tensor(f"x{k}", shape, "u8") for k, shape in enumerate(inputs)}
    model = Graph("model", (), {**tensors, "y": Tensor("y", (1, 1, 2))}, {}, tuple(tensors), ("y",))
    shutil.copytree(RUNTIME, tmp_path / "runtime")
    (tmp_path / "runtime" / "mlperf" / "config.h").write_text(mlperf_header(model, "x"))
    command = ["arm-none-eabi-gcc", *LANGUAGE, "-mcpu=cortex-m0", "-c", "mlperf.c", "-o", "mlperf.o"]
    subprocess.run(command, cwd=tmp_path / "runtime" / "mlperf", check=True)
    sizes = (
        subprocess.run(
            ["arm-none-eabi-size", "mlperf.o"],
            cwd=tmp_path / "runtime" / "mlperf",
            capture_output=True,
            text=True,
            check=True,
        )
        .stdout.split("\n")[1]
        .split()
    )
    assert (int(sizes[1]), int(sizes[2])) == (0, mlperf_ram_bytes(model))
    assert input_bytes(model) == sum(int(np.prod(shape)) for shape in inputs)


def test_what_cannot_be_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_tiny(tmp_path / "tiny.onnx")
    command = ["build", str(model), "--board", "native", "-o", str(tmp_path / "out")]
    for words, said in (
        (["--mlperf", "kws01", "--update", "dec"], "only infers"),
        (["--mlperf", 'a"b'], "is no name of a model"),
        (["--mlperf", ""], "is no name of a model"),
    ):
        assert main([*command, *words]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""A component in somebody else's firmware: it builds there, computes our bits, and stays out of the way."""

import os
import pty
import re
import shutil
import subprocess
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import component_kits
import kconfiglib
import numpy as np
import pytest
import yaml
from quick_board import quick_board
from tiny import write_tiny

from boards import build, load_board, port_files, start
from boards.building import CODE
from boards.description import PORTS
from fieldtune.__main__ import main
from fieldtune.errors import UserError
from firmware_gen.component import LAYOUTS, write_component
from firmware_gen.component_header import component_ram_bytes
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network
from firmware_gen.update import UpdatePlan
from ondevice.device import Device, Hyper
from ondevice.workbench import open_board

HERE = Path(__file__).parent
LR = 0.0625
WARNINGS = ("-Wall", "-Wextra", "-Werror")
# What a component may ask of its surroundings: memory functions, the compiler's own library, two of libm.
NEEDED = re.compile(r"mem(cpy|move|set|cmp)|fmaf|sqrtf|__aeabi_\w+|__gnu_\w+|__\w+(sf|df|si|di)\w*\d?")

needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def planned(network: Network, board: str) -> Plan:
    return plan_network(network, quick_board(board), UpdatePlan(("dec", "depth")))


def component(network: Network, board: str, layout: str, folder: Path) -> Plan:
    plan = planned(network, board)
    write_component(plan, network.task, layout, folder)
    return plan


Sample = dict[str, np.ndarray[Any, Any]]


def samples(plan: Plan) -> list[Sample]:
    """Return three; their bytes one after the other are what component_alone.c reads."""
    random, shape = np.random.default_rng(3), plan.graph.shape
    return [
        {
            "image": random.integers(0, 256, shape("image"), np.uint8),
            "depth.label": random.uniform(1, 4, shape("depth.label")).astype(np.float32),
            "depth.mask": (random.random(shape("depth.mask")) < 0.8).astype(np.uint8),
        }
        for _ in range(3)
    ]


def talk(device: Device, given: Sequence[Sample]) -> bytes:
    """Train on all samples but the last, infer from that; return losses and output."""
    device.set_hyper(Hyper(lr=LR))
    said = b""
    for index, sample in enumerate(given[:-1]):
        device.put_sample(sample)
        said += np.array(device.step(index).losses, np.float32).tobytes()
    return said + device.infer({"image": given[-1]["image"]})["depth"].tobytes()


@pytest.fixture(scope="module")
def expected(network: Network, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What our own firmware answers."""
    plan = planned(network, "native")
    with open_board(plan, tmp_path_factory.mktemp("native") / "project") as device:
        return talk(device, samples(plan))


def cmake(source: Path, *options: str) -> None:
    """Configure and build as a user does."""
    folder = str(source / "made")
    command = ["cmake", "-S", str(source), "-B", folder, "-G", "Unix Makefiles", *options]
    for words in (command, ["cmake", "--build", folder]):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's CMake project with the component beside his own programs."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    folder = tmp_path_factory.mktemp("user")
    component(network, "native", "cmake", folder / "net")
    for name in ("component_host.c", "component_alone.c"):
        shutil.copy(HERE / name, folder)
    shutil.copy(HERE / "component_alone.c", folder / "component_alone.cpp")
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(user C CXX)\nadd_subdirectory(net)\n"
        "add_executable(host component_host.c)\nadd_executable(alone component_alone.c)\n"
        "add_executable(alone_cpp component_alone.cpp)\n"
        "foreach(program host alone alone_cpp)\n  target_link_libraries(${program} PRIVATE fieldtune m)\n"
        f"  target_compile_options(${{program}} PRIVATE {' '.join(WARNINGS)})\nendforeach()\n"
    )
    cmake(folder)
    return folder / "made"


@contextmanager
def driven(program: Path, plan: Plan) -> Iterator[Device]:
    """Start a program whose link is standard input and output, and drive it."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with subprocess.Popen([program], stdin=master, stdout=master) as process:
        with Device.open(os.ttyname(slave), plan_hash=plan.hash()) as device:
            yield device
        process.kill()
    os.close(master)
    os.close(slave)


def test_a_host_drives_somebody_s_own_firmware(built: Path, network: Network, expected: bytes) -> None:
    plan = planned(network, "native")
    with driven(built / "host", plan) as device:
        assert talk(device, samples(plan)) == expected
        memory = device.memory()
        assert (memory.stack_bytes, memory.rx_overruns, device.hello.ticks_hz) == (0, 0, 0)
        assert memory.arena_intact
        with pytest.raises(UserError, match="does not know such a request"):
            device.reboot()


@pytest.mark.parametrize("program", ["alone", "alone_cpp"])
def test_a_firmware_infers_and_trains_without_a_host(
    program: str, built: Path, network: Network, expected: bytes
) -> None:
    assert alone(built / program, network) == expected


def alone(program: Path, network: Network) -> bytes:
    given = b"".join(
        array.tobytes() for sample in samples(planned(network, "native")) for array in sample.values()
    )
    return subprocess.run([program], input=given, capture_output=True, check=True).stdout


CROSS = {
    "mps2_an386": "arm-none-eabi-",
    "rpi_pico": "arm-none-eabi-",
    "esp32c3": "riscv64-unknown-elf-",
}


@needs_cmake
@pytest.mark.parametrize("name", CROSS)
def test_a_static_library_shows_only_our_prefix_and_takes_the_ram_that_was_told(
    name: str, network: Network, tmp_path: Path
) -> None:
    prefix, board = CROSS[name], load_board(name)
    if shutil.which(f"{prefix}gcc") is None:
        pytest.skip(f"{prefix}gcc is not installed")
    plan = component(network, name, "cmake", tmp_path / "net")
    flags = [*board.compiler.flags, "-ffreestanding", *WARNINGS]
    if prefix.startswith("riscv"):  # it comes without a C library, and so without string.h
        flags.append(f"-I{PORTS / 'freestanding'}")
    cmake(
        tmp_path / "net",
        "-DCMAKE_SYSTEM_NAME=Generic",
        "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
        f"-DCMAKE_C_COMPILER={prefix}gcc",
        f"-DCMAKE_C_FLAGS={' '.join(flags)}",
    )
    library = tmp_path / "net" / "made" / "libfieldtune.a"
    shown, needed = _symbols(prefix, library)
    assert {"ft_model", "ft_link_open", "ft_link_feed", "ft_link_log"} <= shown
    assert {symbol for symbol in shown if not symbol.startswith("ft_")} == set()
    assert {symbol for symbol in needed if not NEEDED.fullmatch(symbol)} == set()
    if name == "mps2_an386":
        assert not {"fmaf", "sqrtf"} & needed  # its instructions
    assert _ram(prefix, library) == component_ram_bytes(plan)


def _symbols(prefix: str, library: Path) -> tuple[set[str], set[str]]:
    """Return the global symbols that the library defines, and those that it needs of others."""
    command = [f"{prefix}nm", "--extern-only", "--format=posix", library]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    symbols = [line.split()[:2] for line in lines if len(line.split()) > 1]
    shown = {name for name, kind in symbols if kind != "U"}
    return shown, {name for name, kind in symbols if kind == "U"} - shown


def _ram(prefix: str, library: Path) -> int:
    command = [f"{prefix}size", "--totals", library]
    totals = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]
    _, data, bss, *_ = totals.split()
    return int(data) + int(bss)


def test_a_firmware_without_floating_point_unit_gives_the_same_bits(
    network: Network, expected: bytes, tmp_path: Path
) -> None:
    """The port of an emulated Cortex-M3 plays the user's firmware, with an fmaf of its own beside ours."""
    plan = component(network, "mps2_an385", "cmake", tmp_path)
    (tmp_path / "port").mkdir()
    for name, text in port_files(plan.board).items():
        (tmp_path / "port" / name).write_text(text)
    shutil.copy(tmp_path / "src" / "fieldtune" / "link" / "port.h", tmp_path / "port")
    (tmp_path / "main.c").write_text(
        '#include "src/fieldtune.h"\n#include "port.h"\n'
        "static const ft_link_port_t port = {.write = ft_port_write, .window = FT_LINK_WINDOW};\n"
        "int main(void) {\n    uint8_t bytes[64];\n    ft_port_init();\n    ft_link_open(&ft_model, &port);\n"
        "    for (;;) {\n        ft_link_feed(bytes, ft_port_read(bytes, sizeof bytes));\n    }\n}\n"
    )
    firmware = build(tmp_path, plan.board)
    assert "ft_fmaf" in firmware.symbols
    with start(firmware.elf, plan.board) as running, Device.open(running.url) as device:
        assert talk(device, samples(plan)) == expected


def test_an_arduino_library_has_our_bits_although_it_cannot_choose_how_it_is_compiled(
    network: Network, expected: bytes, tmp_path: Path
) -> None:
    component(network, "native", "arduino", tmp_path / "net")
    source = tmp_path / "net" / "src"
    (tmp_path / "alone.cpp").write_text((HERE / "component_alone.c").read_text())
    code = tmp_path / "model.s"
    assert _compiled(source, code) == _compiled(source, code, "-ffp-contract=off", "-fno-strict-aliasing")
    sources = [path for path in sorted(source.rglob("*.c")) if path.name != "model.c"]
    common = ["-Os", *WARNINGS, "-I", source]
    program = tmp_path / "alone"
    objects = []
    for path in sources:
        objects.append(tmp_path / f"{path.stem}.o")
        subprocess.run(["gcc", "-std=gnu11", *common, "-c", path, "-o", objects[-1]], check=True)
    subprocess.run(["g++", *common, tmp_path / "alone.cpp", code, *objects, "-lm", "-o", program], check=True)
    assert alone(program, network) == expected


@pytest.mark.skipif(shutil.which("arduino-builder") is None, reason="arduino-builder is not installed")
def test_arduino_s_own_builder_finds_the_library_and_its_sketch_is_driven_by_the_host(
    network: Network, expected: bytes, tmp_path: Path
) -> None:
    plan = component(network, "native", "arduino", tmp_path / "libraries" / "Fieldtune")
    platform = tmp_path / "hardware" / "somebody" / "pc"
    shutil.copytree(HERE / "arduino_board", platform)
    for name, text in component_kits.ARDUINO.items():
        (platform / "cores" / "pc" / name).write_text(f"#pragma once\n{text}")
    for folder in ("tools", "made"):
        (tmp_path / folder).mkdir()
    folders = {"hardware": "hardware", "tools": "tools", "libraries": "libraries", "build-path": "made"}
    options = [word for option, folder in folders.items() for word in (f"-{option}", str(tmp_path / folder))]
    sketch = tmp_path / "libraries" / "Fieldtune" / "examples" / "Link" / "Link.ino"
    command = ["arduino-builder", "-compile", *options, "-fqbn", "somebody:pc:pc", str(sketch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with driven(tmp_path / "made" / "Link.ino", plan) as device:
        assert talk(device, samples(plan)) == expected


@pytest.mark.skipif(shutil.which("xtensa-lx106-elf-gcc") is None, reason="no GCC for Xtensa is installed")
def test_a_compiler_for_xtensa_takes_all_sources_of_a_component(network: Network, tmp_path: Path) -> None:
    """That of an older core, without the ESP32-S3's floating-point unit: none for that one can be had."""
    plan = component(network, "esp32s3", "esp-idf", tmp_path / "net")
    source = tmp_path / "net" / "src"
    includes = [
        "-I",
        source,
        "-I",
        PORTS / "freestanding",
    ]  # it comes without a C library, and so without string.h
    command = [
        "xtensa-lx106-elf-gcc",
        *plan.board.compiler.flags,
        *CODE,
        *WARNINGS,
        "-ffreestanding",
        *includes,
    ]
    for path in sorted(source.rglob("*.c")):
        subprocess.run([*command, "-c", path, "-o", tmp_path / "object.o"], check=True)


def _compiled(source: Path, code: Path, *options: str) -> str:
    """Compile the model as Arduino's cores do, contracting products and sums where the computer can."""
    command = ["gcc", "-std=gnu11", "-Os", *_fused(), *options, *WARNINGS, "-S", "-o", code]
    subprocess.run([*command, source / "fieldtune" / "model.c"], check=True)
    return code.read_text()


def _fused() -> list[str]:
    cpu = Path("/proc/cpuinfo")
    return ["-mfma"] if cpu.exists() and " fma " in cpu.read_text() else []


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mlperf", [None, "tiny01"])
def test_every_layout_names_all_its_sources_and_leaves_no_word_open(
    layout: str, mlperf: str | None, network: Network, tmp_path: Path
) -> None:
    plan = plan_network(network, quick_board("rpi_pico"), UpdatePlan(()), mlperf=mlperf)
    write_component(plan, network.task, layout, tmp_path / "net")
    folder = tmp_path / "net"
    sources = sorted(path.relative_to(folder).as_posix() for path in folder.glob("src/**/*.c"))
    assert ("src/fieldtune/mlperf/mlperf.c" in sources) == (mlperf is not None)
    assert ("src/fieldtune/link/firmware.c" in sources) == (mlperf is None)
    texts = {path: path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if re.search(r"@[A-Z]+@", text)]
    if layout != "arduino":  # which takes whatever lies in src/
        listed = (folder / "CMakeLists.txt").read_text()
        assert re.findall(r"^    (src/\S+\.c)\)?$", listed, re.MULTILINE) == sources
        assert set(CODE) <= set(re.findall(r"^    (-\S+?)\)?$", listed, re.MULTILINE))


KITS = {
    "arduino": (component_kits.ARDUINO, ["examples/Link/Link.ino"]),
    "esp-idf": (component_kits.ESP_IDF, ["examples/link/main/main.c"]),
    "pico-sdk": (component_kits.PICO_SDK, ["main.c"]),
    "zephyr": (component_kits.ZEPHYR, ["samples/link/src/main.c"]),
}


@pytest.mark.parametrize("layout", KITS)
def test_the_examples_use_the_kits_as_their_documents_say(
    layout: str, network: Network, tmp_path: Path
) -> None:
    component(network, "rpi_pico", layout, tmp_path / "net")
    declared, examples = KITS[layout]
    for name, text in declared.items():
        path = tmp_path / "kit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}")
    includes = ["-I", tmp_path / "net" / "src", "-I", tmp_path / "kit"]
    for example in examples:
        sketch = (
            ["g++", "-x", "c++", "-std=gnu++11", "-include", "Arduino.h"] if layout == "arduino" else ["gcc"]
        )
        command = [*sketch, *WARNINGS, "-fsyntax-only", *includes, tmp_path / "net" / example]
        subprocess.run(command, check=True)


def test_the_zephyr_module_is_one(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    component(network, "nrf52840dk", "zephyr", tmp_path / "net")
    module = yaml.safe_load((tmp_path / "net" / "zephyr" / "module.yml").read_text())
    assert set(module) <= {"name", "build"}
    assert (tmp_path / "net" / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    (tmp_path / "Kconfig").write_text(
        'config CPU_HAS_FPU\n\tdef_bool y\nconfig FPU\n\tbool "fpu" if CPU_HAS_FPU\n'
        f'source "net/{module["build"]["kconfig"]}"\n'
    )
    monkeypatch.chdir(tmp_path)
    options = kconfiglib.Kconfig("Kconfig", warn=True, warn_to_stderr=False)
    assert options.warnings == []
    assert options.syms["FIELDTUNE"].str_value == options.syms["FPU"].str_value == "n"
    options.syms["FIELDTUNE"].set_value("y")
    assert options.syms["FPU"].str_value == "y"
    wanted = (tmp_path / "net" / "samples" / "link" / "prj.conf").read_text()
    assert "CONFIG_FIELDTUNE=y" in wanted
    assert all(re.fullmatch(r"#.*|CONFIG_\w+=(y|n|\d+)", line) for line in wanted.splitlines())


def test_the_metadata_of_esp_idf_and_arduino_can_be_read(network: Network, tmp_path: Path) -> None:
    component(network, "esp32c3", "esp-idf", tmp_path / "idf")
    manifest = yaml.safe_load((tmp_path / "idf" / "idf_component.yml").read_text())
    assert re.fullmatch(r"\d+\.\d+\.\d+", manifest["version"])
    assert set(manifest) == {"version", "description", "dependencies"}
    assert manifest["dependencies"] == {"idf": ">=5.0"}
    component(network, "arduino_nano_33_ble", "arduino", tmp_path / "arduino")
    lines = (tmp_path / "arduino" / "library.properties").read_text().splitlines()
    properties = dict(line.split("=", 1) for line in lines)
    needed = "name version author maintainer sentence paragraph category url architectures includes"
    assert set(properties) == set(needed.split())
    assert (tmp_path / "arduino" / "src" / properties["includes"]).is_file()


@pytest.mark.parametrize("mlperf", [None, "tiny01"])
def test_all_c_is_c99(mlperf: str | None, network: Network, tmp_path: Path) -> None:
    plan = plan_network(network, quick_board("rpi_pico"), UpdatePlan(()), mlperf=mlperf)
    write_component(plan, network.task, "cmake", tmp_path / "net")
    sources = sorted((tmp_path / "net").rglob("*.c"))
    includes = ["-I", tmp_path / "net" / "src"]
    command = ["gcc", "-std=c99", "-O1", *WARNINGS, "-fsyntax-only", *includes, *sources]
    subprocess.run(command, check=True)


@pytest.fixture
def words(network: Network, tmp_path: Path) -> list[str]:
    return ["build", str(network.path), "--board", "esp32c3", "-o", str(tmp_path / "net")]


def test_a_component_is_written_anew_and_nothing_else_is_touched(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main([*words, "--layout", "esp-idf", "--json"]) == 0
    assert '"layout": "esp-idf"' in capsys.readouterr().out
    assert (tmp_path / "net" / "idf_component.yml").is_file()
    assert main([*words, "--layout", "cmake"]) == 0
    assert not (tmp_path / "net" / "idf_component.yml").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert main([*words[:-1], str(tmp_path / "mine"), "--layout", "cmake"]) == 2
    assert "is no C project" in capsys.readouterr().err
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layout", "keil"], "no layout 'keil'"),
        ([], "--layout"),
        (["--layout", "cmake", "--board", "gap9_evk"], "no component for gap9_evk"),
    ],
)
def test_what_cannot_be_written_is_one_sentence(
    more: list[str], said: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "net").exists()

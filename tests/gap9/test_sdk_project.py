"""The project for the vendor's kit, not to be had: what can be checked without it, or with one of ours."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from quick_board import quick_board
from tiny import write_tiny

import boards
from boards import load_board, port_files
from boards.building import CODE, INCLUDE_FOLDERS, L3_FILE
from boards.description import PORTS
from fieldtune.__main__ import main
from fieldtune.errors import BoardError
from firmware_gen.cluster.config import TEAM_RAM_BYTES
from firmware_gen.cluster.l3 import CODE_BYTES
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.update import UpdatePlan
from ondevice.device import Device

MULTITASK = Path(__file__).resolve().parents[2] / "zoo" / "weights" / "multitask_rendered.onnx"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
# A kit in the place of the vendor's: this computer's compiler, and our pmsis.
KIT = """\
function(setupos target)
    file(GLOB shim {shim}/*.c)
    target_sources(${{target}} PRIVATE ${{shim}})
    target_include_directories(${{target}} PRIVATE {shim})
    target_compile_options(${{target}} PRIVATE {flags})
    target_link_options(${{target}} PRIVATE {flags})
    set_property(GLOBAL PROPERTY KCONFIG $ENV{{KCONFIG_CONFIG}})
endfunction()
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def planned(network: Network, board: str = "gap9_evk") -> Plan:
    return plan_network(network, load_board(board), UpdatePlan(("dec", "depth")))


@pytest.fixture(scope="module")
def project(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "evk"
    write_project(planned(network), folder)
    return folder


def sources(project: Path) -> list[str]:
    return sorted(path.relative_to(project).as_posix() for path in project.rglob("*.c"))


def test_the_c_is_that_of_gap9_host_but_for_the_main_task(
    network: Network, project: Path, tmp_path: Path
) -> None:
    write_project(planned(network, "gap9_host"), tmp_path / "host")
    ours = {path: (project / path).read_text() for path in sources(project)}
    theirs = {path: (tmp_path / "host" / path).read_text() for path in sources(tmp_path / "host")}
    model, other = (text.pop("model.c").splitlines() for text in (ours, theirs))
    differing = [line for line, same in zip(model, other, strict=True) if line != same]
    assert all(line.startswith(("/* tiny: generated", "    .plan_hash")) for line in differing)
    assert {path for path in ours if ours[path] != theirs[path]} == {"port/task.c"}
    assert {path for path in theirs if path not in ours} == {
        f"port/{name}.c"
        for name in ("cluster", "dma", "events", "fault", "l3", "late", "memory", "stacks", "system", "uart")
    }


def test_cmake_is_told_every_source_folder_and_option(project: Path) -> None:
    text = (project / "CMakeLists.txt").read_text()
    assert re.findall(r"^    (\S+\.c)\)?$", text, re.MULTILINE) == sources(project)
    assert set(INCLUDE_FOLDERS) <= set(re.findall(r"^    (\S+?)\)?$", text, re.MULTILINE))
    options = re.findall(r"^    (-\S+?)\)?$", text, re.MULTILINE)
    assert options == [*(flag for flag in CODE if flag != "-O2"), "-Wno-unknown-pragmas", "-O3"]
    assert text.index("setup.cmake") < text.index("project(") < text.index("setupos(")


def test_stacks_are_those_of_the_board(project: Path) -> None:
    cluster = load_board("gap9_evk").cluster
    assert cluster is not None
    settings = dict(line.split("=") for line in (project / "sdk.config").read_text().splitlines())
    assert settings["CONFIG_CL_MASTER_CORE_STACK_SIZE"] == str(cluster.master_stack_bytes)
    assert settings["CONFIG_CL_SLAVE_CORE_STACK_SIZE"] == str(cluster.slave_stack_bytes)
    assert settings["CONFIG_DRIVER_CLUSTER_CONF_PROPERTY_ICACHE_CONF"] == "0x7FF"
    assert not re.search(r"@[A-Z]+@", "".join(p.read_text() for p in project.glob("*") if p.is_file()))


def compiled(project: Path, source: str, output: Path, *options: str) -> Path:
    """Compile one file for the chip's base instructions, against our pmsis.h and headers of devices."""
    if shutil.which("riscv64-unknown-elf-gcc") is None:
        pytest.skip("riscv64-unknown-elf-gcc is not installed")
    # It comes without a C library, and so without string.h.
    folders = [*INCLUDE_FOLDERS, PORTS / "pmsis", PORTS / "freestanding", output.parent]
    write_devices(output.parent)
    command = ["riscv64-unknown-elf-gcc", "-march=rv32imc", "-mabi=ilp32", "-std=gnu11", "-O3", *options]
    command += ["-ffreestanding", *WARNINGS, *(f"-I{folder}" for folder in folders), "-c"]
    subprocess.run([*command, source, "-o", output], cwd=project, check=True)
    return output


def printed(tool: str, *words: str | Path) -> str:
    command = [f"riscv64-unknown-elf-{tool}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("char", ["unsigned", "signed"])
def test_all_of_it_compiles_for_rv32_without_a_warning(project: Path, tmp_path: Path, char: str) -> None:
    needed = set[str]()
    for source in sources(project):
        made = compiled(project, source, tmp_path / "object.o", f"-f{char}-char")
        needed |= set(printed("nm", "-u", made).split())
    assert not [name for name in needed if name.startswith(("__atomic", "__sync"))]  # which the kit has not


def static_bytes(project: Path, source: str, folder: Path) -> int:
    sizes = printed("size", compiled(project, source, folder / "object.o"))
    _, data, bss, *_ = sizes.splitlines()[-1].split()
    return int(data) + int(bss)


def test_the_port_takes_the_ram_that_the_board_says(project: Path, tmp_path: Path) -> None:
    assert static_bytes(project, "port/board.c", tmp_path) == load_board("gap9_evk").port_ram_bytes


def test_what_runs_the_team_takes_the_ram_that_the_plan_counts(project: Path, tmp_path: Path) -> None:
    assert 0 <= TEAM_RAM_BYTES - static_bytes(project, "runtime/cluster/team.c", tmp_path) < 8


def write_devices(folder: Path) -> None:
    """Write the kit's headers of devices outside the chip: all of them ours."""
    for name in ("bsp", "flash", "fs", "fs/readfs", "ram"):
        path = folder / "bsp" / f"{name}.h"
        path.parent.mkdir(parents=True, exist_ok=True)
        ours = (PORTS / "gap9_host" / "l3_devices.h").read_text()
        path.write_text(ours.replace("FT_L3_DEVICES_H", "FT_STAND_IN_H"))


def built_by_our_kit(project: Path, home: Path) -> Path:
    """Build the project as its README says, with our kit in the folder `home`."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    host, shim = load_board("gap9_host"), home / "shim"
    shim.mkdir()
    write_devices(shim)
    for name, text in port_files(host).items():
        if name not in ("board.c", "chip.c", "task.c"):
            (shim / name).write_text(text)
    (home / "utils" / "cmake").mkdir(parents=True)
    flags = " ".join([*host.compiler.flags, *WARNINGS])
    (home / "utils" / "cmake" / "setup.cmake").write_text(KIT.format(shim=shim, flags=flags))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAP_SDK_HOME", str(home))
        patch.delenv("KCONFIG_CONFIG", raising=False)
        for words in (["-B", "build", "-G", "Unix Makefiles"], ["--build", "build"]):
            done = subprocess.run(["cmake", *words], cwd=project, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
    return project / "build" / "firmware.elf"


def test_the_project_is_built_by_its_own_cmake_file_and_infers_as_native_does(
    project: Path, network: Network, tmp_path: Path
) -> None:
    (tmp_path / "kit").mkdir()
    built = built_by_our_kit(project, tmp_path / "kit")
    image = np.random.default_rng(5).integers(0, 256, (16, 16, 3), np.uint8)
    found = []
    native = planned(network, "native")
    write_project(native, tmp_path / "native")
    elf = boards.build(tmp_path / "native", native.board).elf
    for firmware, board in ((elf, "native"), (built, "gap9_host")):
        with boards.start(firmware, load_board(board)) as running, Device.open(running.url) as device:
            found.append(device.infer({"image": image})["depth"].tobytes())
            assert device.memory().arena_intact
            known = board == "native"  # the kit does not tell where its stack is
            assert device.memory().stack_bytes == (native.board.stack_bytes if known else 0)
    assert found[0] == found[1]


def test_without_the_kit_cmake_says_what_is_missing(project: Path, tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    done = subprocess.run(
        ["cmake", "-S", project, "-B", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode != 0
    assert "GAP_SDK_HOME is not set" in done.stderr


def test_build_writes_it_and_flash_knows_it(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "project"
    assert main(["build", str(network.path), "--board", "gap9_evk", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kit": "gap-sdk", "readme": str(out / "README.md")}
    (out / "build").mkdir()
    (out / "build" / "firmware.elf").touch()
    assert main(["flash", str(out), "--dry-run"]) == 0
    assert f"--flash-property={out}/build/firmware.elf@mram:app:binary" in capsys.readouterr().out


def test_what_only_the_kit_builds_is_refused_here(project: Path) -> None:
    board = load_board("gap9_evk")
    assert not boards.has_compiler(board)
    with pytest.raises(BoardError, match=r"built by the vendor's kit, gap-sdk, not here; write its project"):
        boards.build(project, board)


# With constants in L3.


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """Return a plan for a board whose L2 is too small for the network, and its project."""
    board, network = load_board("gap9_evk"), load_network(MULTITASK)
    (l2,) = board.regions
    size = plan_network(network, board, UpdatePlan(())).sum_bytes - 150_000
    small = dataclasses.replace(board, regions=(dataclasses.replace(l2, bytes=size),))
    plan = plan_network(network, small, UpdatePlan(()))
    assert plan.l3 is not None
    folder = tmp_path_factory.mktemp("external") / "evk"
    write_project(plan, folder)
    return plan, folder


def test_a_project_without_l3_says_nothing_of_it(project: Path) -> None:
    assert not (project / L3_FILE).exists()
    for name in ("sdk.config", "README.md", "CMakeLists.txt", "model.c"):
        assert not re.search(r"l3|DRIVER_RAM|readfs", (project / name).read_text(), re.IGNORECASE), name


def test_drivers_of_flash_files_and_ram_are_asked_for(external: tuple[Plan, Path]) -> None:
    _, folder = external
    settings = dict(line.split("=") for line in (folder / "sdk.config").read_text().splitlines())
    drivers = ("APS256XXN", "RAM_API", "READFS", "TYPE_FLASH", "TYPE_RAM")
    assert all(settings[f"CONFIG_DRIVER_{name}"] == "y" for name in drivers)
    assert f"$PWD/{L3_FILE}@flash:readfs_flash:files" in (folder / "README.md").read_text()
    assert not re.search(r"@[A-Z]+@", (folder / "README.md").read_text())


def test_it_compiles_for_rv32_and_what_brings_constants_is_as_large_as_estimated(
    external: tuple[Plan, Path], tmp_path: Path
) -> None:
    _, folder = external
    compiled(folder, "model.c", tmp_path / "object.o")
    made = compiled(folder, "runtime/cluster/l3.c", tmp_path / "object.o", "-fsigned-char")
    text, *_ = printed("size", made).splitlines()[-1].split()
    assert CODE_BYTES / 2 <= int(text) <= CODE_BYTES


def test_our_kit_builds_it_and_it_infers_as_native_does(external: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, folder = external
    (tmp_path / "kit").mkdir()
    built = built_by_our_kit(folder, tmp_path / "kit")
    native = plan_network(load_network(MULTITASK), quick_board("native"), UpdatePlan(()))
    write_project(native, tmp_path / "native")
    elf = boards.build(tmp_path / "native", native.board).elf
    random, found = np.random.default_rng(5), []
    (name,) = plan.graph.inputs
    image = random.integers(0, 256, plan.graph.shape(name), np.uint8)
    for firmware, board in ((elf, "native"), (built, "gap9_host")):
        with boards.start(firmware, load_board(board)) as running, Device.open(running.url) as device:
            found.append(device.infer({name: image}))
    for output, value in found[0].items():
        assert np.array_equal(value, found[1][output]), output


def test_flash_writes_the_file_too(
    external: tuple[Plan, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder = external
    project = tmp_path / "project"
    (project / "build").mkdir(parents=True)
    for name in (L3_FILE, "plan.json"):
        shutil.copy(folder / name, project)
    (project / "build" / "firmware.elf").touch()
    assert main(["flash", str(project), "--dry-run"]) == 0
    assert f"--flash-property={project}/{L3_FILE}@flash:readfs_flash:files" in capsys.readouterr().out

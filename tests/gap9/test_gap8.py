"""GAP8: its cluster, whose master is core 0, on this computer; and the project for its kit."""

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cluster_boards import assert_same, cluster_board, worked
from quick_board import quick_board
from test_gap9_host import KEYWORDS
from test_sdk_project import WARNINGS, compiled, printed, sources
from test_shim import FAULT, RACE, Programs, expected
from tiny import write_tiny
from xpulp_programs import KERNELS, VENDOR

import boards
from boards import load_board, port_files
from boards.board import Cluster
from boards.building import CODE, INCLUDE_FOLDERS, Sanitizer
from fieldtune.__main__ import main
from fieldtune.errors import BoardError
from firmware_gen.graph import Graph
from firmware_gen.plan import Plan
from firmware_gen.project import Network, load_network, plan_network, write_project
from firmware_gen.step_time import instructions
from firmware_gen.update import UpdatePlan, parse_update
from ondevice.device import Device

# What the kit's own C library has of what ours is.
KIT_FUNCTIONS = {"memcmp", "memcpy", "memmove", "memset"}
# In the place of the kit: this computer's compiler, and our pmsis. Variables have the kit's names.
KIT = """\
CFLAGS = {flags}
INCLUDES = $(foreach folder, $(APP_INC), -I$(folder)) -I{shim}
SOURCES = $(APP_SRCS) $(wildcard {shim}/*.c)
BIN = $(CURDIR)/BUILD/$(APP)
all: $(patsubst %, $(CURDIR)/BUILD/%.o, $(SOURCES))
\tgcc $(CFLAGS) $^ -o $(BIN) -lm
\techo "$(PMSIS_OS) $(MAIN_STACK_SIZE) $(io)" > $(BIN).told
$(CURDIR)/BUILD/%.c.o: %.c
\t@mkdir -p $(dir $@)
\tgcc $(CFLAGS) $(APP_CFLAGS) $(INCLUDES) -c $< -o $@
"""


def cluster(name: str) -> Cluster:
    found = load_board(name).cluster
    assert found is not None
    return found


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return load_network(write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx"))


def planned(network: Network, board: str = "aideck") -> Plan:
    return plan_network(network, load_board(board), UpdatePlan(("dec", "depth")))


def test_aideck_and_gap8_host_describe_one_chip() -> None:
    deck, host = load_board("aideck"), load_board("gap8_host")
    for name in ("clock_hz", "fpu", "isa", "mcu", "stack_bytes", "rx_ring_bytes", "serial"):
        assert getattr(deck, name) == getattr(host, name)
    assert dataclasses.replace(cluster("gap8_host"), source=cluster("aideck").source) == cluster("aideck")
    assert [(r.kind, r.start, r.bytes) for r in deck.regions] == [
        (r.kind, r.start, r.bytes) for r in host.regions
    ]


def test_a_master_that_works_has_one_stack() -> None:
    found = cluster("aideck")
    assert found.l1_bytes - found.l1_data_bytes == found.master_stack_bytes + 7 * found.slave_stack_bytes


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return Programs(tmp_path_factory.mktemp("shim"), load_board("gap8_host"))


@pytest.mark.parametrize("cores", [1, 2, 8])
@pytest.mark.parametrize("sanitize", [None, "address", "thread"])
@pytest.mark.parametrize("case", ["right", "own_stacks"])
def test_core_0_works_and_orchestrates(
    programs: Programs, case: str, sanitize: Sanitizer | None, cores: int
) -> None:
    done = programs.run(case, sanitize, cores=cores)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", expected())


FAULTS = {
    "stuck": "the team is stuck: at a barrier core 1, core 3, core 5, core 7, "
    "which the master core, core 2, core 4, core 6 will never reach",
    "barrier_of_the_master": "the master core: pi_cl_team_barrier is for the cores of a team",
    "nine_cores": "a team of 9 cores is asked for, and there are 8",
    "deep_stack": r"the master core has used \d+ bytes of stack, and has 4096",
    "deep_master": r"the master core has used \d+ bytes of stack, and has 4096",
    "large_stacks": "the stacks do not fit into L1: 127488 bytes for them",
    "short_stacks": r"the stacks of a task take 29184 bytes at 0x\w+, which are not all allocated in L1",
}


@pytest.mark.parametrize(("case", "message"), FAULTS.items(), ids=FAULTS)
def test_a_mistake_is_named(programs: Programs, case: str, message: str) -> None:
    done = programs.run(case)
    assert done.returncode == FAULT
    assert re.search(message, done.stderr)


def test_a_fork_in_a_team_is_named(programs: Programs) -> None:
    assert "pi_cl_team_fork is called in a team" in programs.run("fork_on_a_core", cores=1).stderr


@pytest.mark.parametrize("cores", [2, 8])
def test_a_race_with_core_0_is_seen(programs: Programs, cores: int) -> None:
    assert programs.run("missing_barrier", "thread", cores=cores).returncode == RACE


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """Return a network with three heads, all of which learns."""
    folder = tmp_path_factory.mktemp("learned")
    path = write_tiny(folder / "tiny.onnx", ("depth", "segments", "kind"))
    update = parse_update("*", momentum=True)
    return plan_network(load_network(path), load_board("native"), update).graph


@pytest.mark.parametrize(
    ("cores", "sanitizer"), [(1, False), (3, False), (8, False), (8, "address"), (8, "thread")]
)
def test_a_network_learns_the_bits_of_native(
    learned: Graph, cores: int, sanitizer: Sanitizer | bool, tmp_path: Path
) -> None:
    truth = worked(learned, quick_board("native"), tmp_path)
    assert_same(truth, worked(learned, cluster_board(cores, chip="gap8_host"), tmp_path / "c", sanitizer))


def test_floats_take_more_instructions_than_on_gap9_and_int8_as_many(network: Network) -> None:
    assert planned(network).instructions > 10 * planned(network, "gap9_evk").instructions
    if KEYWORDS.is_file():
        int8, nothing = load_network(KEYWORDS), UpdatePlan(())
        plans = [plan_network(int8, load_board(name), nothing) for name in ("aideck", "gap9_evk")]
        weighted = [
            [instructions(step, plan.board) for step in plan.steps if step.op.kind == "conv2d_i8"]
            for plan in plans
        ]
        assert weighted[0] == weighted[1] != []


def test_no_time_is_told(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", str(network.path), "--board", "aideck"]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "  time a run   no estimate: nothing is known of the cycles of GAP8" in told
    assert "energy" not in told
    assert main([*command, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["time_estimate_ms"], plan["cluster"]["estimates"]) == (None, [])
    assert not any("cycles_estimate" in layer for layer in plan["cluster"]["layers"])
    assert main([*command, "--time", "1s"]) == 2
    assert "nothing is known of how many cycles a GAP8 takes" in capsys.readouterr().err


@pytest.mark.parametrize("board", ["aideck", "gap8_host"])
def test_products_in_binary16_are_refused(
    network: Network, board: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", str(network.path), "--board", board, "--update", "dec,depth", "--products", "f16"]
    assert main(command) == 2
    assert f"those of {board} have no floating-point unit" in capsys.readouterr().err


@pytest.fixture(scope="module")
def project(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project") / "deck"
    write_project(planned(network), folder)
    return folder


def test_the_c_is_that_of_gap8_host_but_for_what_the_kit_has(
    network: Network, project: Path, tmp_path: Path
) -> None:
    write_project(planned(network, "gap8_host"), tmp_path / "host")
    ours = {path: (project / path).read_text() for path in sources(project)}
    theirs = {path: (tmp_path / "host" / path).read_text() for path in sources(tmp_path / "host")}
    same = ours.keys() & theirs.keys() - {"model.c", "port/task.c"}
    assert ours.keys() - same == {"model.c", "port/soft_float.c", "port/start.c", "port/task.c"}
    assert all(ours[path] == theirs[path] for path in same)
    lines, others = (texts["model.c"].splitlines() for texts in (ours, theirs))
    differing = [line for line, other in zip(lines, others, strict=True) if line != other]
    assert all(line.startswith(("/* tiny: generated", "    .plan_hash")) for line in differing)


def test_make_is_told_every_source_folder_and_option(project: Path) -> None:
    text = (project / "Makefile").read_text()
    lists = dict(re.findall(r"^define (\w+)\n(.*?)\nendef", text, re.MULTILINE | re.DOTALL))
    assert lists["sources"].split() == sources(project)
    assert lists["includes"].split() == list(INCLUDE_FOLDERS)
    flags = [flag for flag in CODE if flag != "-O2"]
    assert lists["flags"].split() == [*flags, "-Wno-unknown-pragmas", "-O3"]
    assert not re.search(r"@[A-Z]+@", "".join(p.read_text() for p in project.glob("*") if p.is_file()))


def test_it_compiles_for_rv32_without_a_warning_and_needs_what_the_kit_has(
    project: Path, tmp_path: Path
) -> None:
    needed, there = set[str](), set[str]()
    for source in sources(project):
        made = compiled(project, source, tmp_path / "object.o")
        needed |= set(printed("nm", "-u", made).split()) - {"U"}
        there |= {line.split()[-1] for line in printed("nm", "--defined-only", made).splitlines()}
    missing = {name for name in needed - there if not re.match("pi_|pmsis_", name)}
    assert {name for name in missing if not name.startswith("__")} <= KIT_FUNCTIONS
    libgcc = printed("gcc", "-march=rv32imc", "-mabi=ilp32", "-print-libgcc-file-name").strip()
    assert {name for name in missing if name.startswith("__")} <= set(printed("nm", libgcc).split())


def test_the_port_takes_the_ram_that_the_board_says(project: Path, tmp_path: Path) -> None:
    sizes = printed("size", compiled(project, "port/board.c", tmp_path / "object.o"))
    _, data, bss, *_ = sizes.splitlines()[-1].split()
    assert int(data) + int(bss) == load_board("aideck").port_ram_bytes


def test_the_kit_s_compiler_is_known_by_its_name(tmp_path: Path) -> None:
    """With GAP8's name the instructions are the vendor's builtins."""
    source = tmp_path / "named.c"
    source.write_text(
        '#include "xpulp/xpulp.h"\n#if !defined(FT_XPULP_BUILTINS)\n#error "not known"\n#endif\n'
        "uint32_t dot(uint32_t a, uint32_t b);\n"
        "uint32_t dot(uint32_t a, uint32_t b) { return ft_sdotsp4_xpulp(a, b, 0); }\n"
    )
    options = ["-D__GAP8__" if option == "-D__gap9__" else option for option in VENDOR]
    command = ["gcc", *WARNINGS, *options, f"-I{KERNELS}", "-c", source, "-o", tmp_path / "named.o"]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def built(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the project as its README says, with our kit."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    rules, host = tmp_path_factory.mktemp("kit"), load_board("gap8_host")
    shim = rules / "shim"
    shim.mkdir()
    for name, text in port_files(host).items():
        if name not in ("board.c", "chip.c", "gap.h", "port_config.h", "task.c"):
            (shim / name).write_text(text)
    flags = " ".join([*host.compiler.flags, *WARNINGS, f"-I{project}/port"])
    (rules / "pmsis_rules.mk").write_text(KIT.format(flags=flags, shim=shim))
    done = subprocess.run(
        ["make", "all", f"RULES_DIR={rules}"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "BUILD" / "firmware"


def test_the_project_is_built_by_its_own_makefile_and_infers_as_native_does(
    built: Path, network: Network, tmp_path: Path
) -> None:
    """With fmaf and sqrtf of our own."""
    image = np.random.default_rng(5).integers(0, 256, (16, 16, 3), np.uint8)
    found = []
    native = planned(network, "native")
    write_project(native, tmp_path / "native")
    elf = boards.build(tmp_path / "native", native.board).elf
    for firmware, board in ((elf, "native"), (built, "gap8_host")):
        with boards.start(firmware, load_board(board)) as running, Device.open(running.url) as device:
            found.append(device.infer({"image": image})["depth"].tobytes())
    assert found[0] == found[1]
    assert built.with_suffix(".told").read_text() == "freertos 6144 disable\n"


def test_without_the_kit_make_says_what_is_missing(project: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-C", project], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode != 0
    assert "RULES_DIR is not set: source the GAP SDK's configuration" in done.stderr


def test_build_writes_it_and_only_the_kit_builds_it(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "project"
    assert main(["build", str(network.path), "--board", "aideck", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kit": "gap8-sdk", "readme": str(out / "README.md")}
    assert main(["flash", str(out), "--dry-run"]) == 2
    assert "the vendor's kit, gap8-sdk, flashes it" in capsys.readouterr().err
    assert not boards.has_compiler(load_board("aideck"))
    with pytest.raises(BoardError, match=r"built by the vendor's kit, gap8-sdk, not here; write its project"):
        boards.build(out, load_board("aideck"))

"""pmsis as this computer plays it: right programs run clean, and each mistake is found and named."""

import functools
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from boards import Board, build, load_board, port_files
from boards.building import Sanitizer, Sign
from boards.memory_map import read_memory_map

HERE = Path(__file__).parent
RUNTIME = HERE.parents[1] / "firmware_gen" / "runtime"
FAULT, RACE = 70, 66  # exit codes
WAYS: list[tuple[Sanitizer | None, Sign]] = [
    (None, "unsigned"),
    (None, "signed"),
    ("address", "unsigned"),
    ("address", "signed"),
    ("thread", "unsigned"),
    ("thread", "signed"),
]


@pytest.fixture(scope="module")
def board() -> Board:
    return load_board("gap9_host")


Run = subprocess.CompletedProcess[str]


class Programs:
    """shim_cases.c, built in every way that is asked for, once."""

    def __init__(self, folder: Path, board: Board) -> None:
        self._folder, self._board = folder, board
        self.built = functools.cache(self._build)

    def _build(self, sanitize: Sanitizer | None, char: Sign) -> Path:
        project = self._folder / f"{sanitize}-{char}"
        (project / "port").mkdir(parents=True)
        (project / "runtime" / "link").mkdir(parents=True)
        shutil.copy(RUNTIME / "link" / "port.h", project / "runtime" / "link")
        for name, text in port_files(self._board).items():
            (project / "port" / name).write_text(text)
        shutil.copy(HERE / "shim_cases.c", project)
        return build(project, self._board, sanitize=sanitize or False, char=char).elf

    def run(
        self, case: str, sanitize: Sanitizer | None = None, char: Sign = "unsigned", cores: int = 8
    ) -> Run:
        """Run one case; what takes longer than this is stuck."""
        command = [self.built(sanitize, char), case, str(cores)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, board: Board) -> Programs:
    return Programs(tmp_path_factory.mktemp("shim"), board)


def expected() -> str:
    """What `right` prints: the checksum of a map that was looked up, its first rows' ends inverted."""
    rows, columns, tile = 64, 48, 8
    out = [((i * i + i // 7) % 256 * 7 + 1) % 256 for i in range(rows * columns)]
    for row in range(tile):
        for column in range(columns - 3, columns):
            out[row * columns + column] ^= 0xFF
    return f"{functools.reduce(lambda total, value: (total * 31 + value) % 2**32, out, 0):08x}\n"


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize(("sanitize", "char"), WAYS)
def test_a_right_program_runs_clean_on_any_number_of_cores(
    programs: Programs, sanitize: Sanitizer | None, char: Sign, cores: int
) -> None:
    done = programs.run("right", sanitize, char, cores)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", expected())


@pytest.mark.parametrize(("char", "least"), [("unsigned", "0"), ("signed", "-128")])
def test_the_sign_of_char_is_the_caller_s_choice(programs: Programs, char: Sign, least: str) -> None:
    assert programs.run("least_char", char=char).stdout.splitlines()[0] == least


def test_l1_has_its_size_less_the_stacks_and_static_data_and_then_gives_null(
    programs: Programs, board: Board
) -> None:
    assert board.cluster is not None
    assert read_memory_map(programs.built(None, "unsigned")).bytes("l1") == 256
    done = programs.run("fill_l1")
    assert done.stdout.splitlines() == [str((board.cluster.l1_data_bytes - 256) // 1000), expected().strip()]


def test_l3_has_its_size_and_no_address_that_a_core_can_use(programs: Programs) -> None:
    assert programs.run("all_of_l3").stdout.splitlines() == ["-1 0", expected().strip()]
    assert programs.run("l3_as_a_pointer").returncode == -signal.SIGSEGV


# What is printed, after who does it.
FAULTS = {
    "early_write": "the target of a DMA command (L2 -> L1, 64 bytes) was written before it was waited for",
    "changed_source": "the source of a DMA command (L1 -> L2, 64 bytes) was changed before it was waited for",
    "too_long": "a DMA command copies 70000 bytes; 1 to 65535 are possible",
    "empty": "a DMA command copies 0 bytes; 1 to 65535 are possible",
    "odd_lines": "a DMA command of 64 bytes has lines of 24 bytes every 48",
    "forgotten_wait": "a DMA command (L2 -> L1, 64 bytes) was not waited for when the cluster's task ended",
    "second_wait": "a DMA command is waited for that is not open: waited for twice, or never given",
    "given_again": "a DMA command is given again that was not waited for",
    "shared_bytes": "a DMA command (L2 -> L1, 4 bytes) and one that was not waited for (L1 -> L2, 64 bytes) "
    "share bytes of L1",
    "loc_in_l2": "for its address in L1, which is not L1",
    "ext_in_l1": "for its address in L2, which is L1",
    "beyond_l1": "leaves what is allocated of L1",
    "beyond_l2": "and 64 bytes there are no static data that it may use, and are not allocated",
    "to_constants": "(L1 -> L2) has 0x",
    "overrun": "something was written behind an allocation of 61 bytes of L1",
    "wrong_free": "64 bytes of L1 are freed as 60",
    "stuck": "the team is stuck: at a barrier core 1, core 3, core 5, core 7, "
    "which core 0, core 2, core 4, core 6 will never reach",
    "fork_on_a_core": "pi_cl_team_fork is for the master core alone",
    "fork_on_the_fabric_controller": "the fabric controller: pi_cl_team_fork is for the master core alone",
    "nine_cores": "a team of 9 cores is asked for, and there are 8",
    "barrier_of_the_master": "the master core: pi_cl_team_barrier is for the cores of a team",
    "core_id_of_the_fabric_controller": "pi_core_id is for the cluster's cores",
    "closed": "L1 is used although the cluster is not open",
    "l3_early_write": "the target of a read from L3 (64 bytes) was written before it was waited for",
    "l3_forgotten_wait": "a read from L3 (64 bytes) was not waited for when the cluster's task ended",
    "l3_second_wait": "a read from L3 is waited for that is not open: waited for twice, or never given",
    "l3_given_again": "a read from L3 is given again that was not waited for",
    "l3_shared_bytes": "a read from L3 and one that was not waited for share bytes of L2",
    "l3_then_dma": "a DMA command (L2 -> L1, 64 bytes) has bytes of L2 to which a read from L3 was",
    "dma_then_l3": "a read from L3 has bytes of L2 for its target that a DMA command which",
    "l3_to_l1": "pi_cl_ram_read has 0x1",
    "l3_to_constants": "and 64 bytes there are no static data that it may use, and are not allocated",
    "l3_beyond": "for its address in L3, and 64 bytes there are not allocated",
    "l3_odd": "pi_cl_ram_read moves 62 bytes between",
    "l3_page": "pi_cl_ram_read begins 4 bytes before the end of a page of L3, and goes on beyond it",
    "l3_other_device": "pi_cl_ram_read is given a device that is no open RAM",
    "l3_written_by_the_master": "the master core: pi_ram_write is for the fabric controller alone",
    "l3_read_by_the_fabric_controller": "the fabric controller: pi_cl_ram_read is for the cluster's cores",
    "large_stacks": "the stacks do not fit into L1: 131072 bytes for them",
}
STACKS = {
    "deep_stack": r"core 0 has used (\d+) bytes of stack, and has 3584",
    "deep_master": r"the master core has used (\d+) bytes of stack, and has 3584",
}
# What only a sanitizer sees, or sees earlier: where.
READS_AND_WRITES = {
    "early_read": "early_read",
    "early_read_by_a_core": "read_it",
    "early_write": "early_write",
    "overrun": "overrun",
    "l3_early_read": "l3_early_read",
    "l3_early_write": "l3_early_write",
}
RACES = {
    "missing_barrier": "phases",
    "early_read": "early_read",
    "early_read_by_a_core": "read_it",
    "early_write": "early_write",
    "changed_source": "changed_source",
    "l3_early_read": "l3_early_read",
    "l3_early_write": "l3_early_write",
}


@pytest.mark.parametrize(("case", "message"), FAULTS.items(), ids=FAULTS)
def test_a_mistake_ends_the_program_with_one_line_that_names_it(
    programs: Programs, case: str, message: str
) -> None:
    done = programs.run(case)
    assert (done.returncode, done.stderr.count("\n")) == (FAULT, 1)
    assert done.stderr.startswith("pmsis: ")
    assert message in done.stderr


@pytest.mark.parametrize(("case", "message"), STACKS.items(), ids=STACKS)
def test_a_stack_that_is_too_small_is_told_with_what_was_used(
    programs: Programs, case: str, message: str
) -> None:
    done = programs.run(case)
    found = re.search(message, done.stderr)
    assert done.returncode == FAULT
    assert found is not None
    assert 3584 + 256 <= int(found[1]) <= 3584 + 512


@pytest.mark.parametrize(("case", "place"), READS_AND_WRITES.items(), ids=READS_AND_WRITES)
def test_the_address_sanitizer_stops_at_the_access(programs: Programs, case: str, place: str) -> None:
    done = programs.run(case, "address")
    assert done.returncode not in (0, FAULT)
    assert re.search(rf"SUMMARY: AddressSanitizer: use-after-poison \S+ in {place}\b", done.stderr)


@pytest.mark.parametrize("cores", [2, 8])
@pytest.mark.parametrize(("case", "place"), RACES.items(), ids=RACES)
def test_the_thread_sanitizer_sees_the_race(programs: Programs, case: str, place: str, cores: int) -> None:
    done = programs.run(case, "thread", cores=cores)
    assert done.returncode == RACE
    assert "WARNING: ThreadSanitizer: data race" in done.stderr
    assert f" {place} " in done.stderr


def test_a_plain_build_does_not_see_what_the_sanitizers_are_for(programs: Programs) -> None:
    for case in ("missing_barrier", "early_read"):
        assert programs.run(case).returncode == 0

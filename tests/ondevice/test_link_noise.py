"""What else may be on the line: another tool, a talkative boot, a board that resets when the port opens."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cable import Cable
from fake_board import RUNTIME, write_project
from fake_training import HYPER, IMPATIENT, Arrays, learned, losses, train

from boards import Running, build, load_board, start
from ondevice.device import Device
from ondevice.port import Port

BOARDS = ("native", "mps2_an386")
FEW = range(3)
MLPERF = b"name%profile%timestamp%db load 490%db 00ff00ff%infer 10 10%results%"
# As an Edge Impulse firmware talks at its start and while it runs: lines, unfinished lines, dots.
BOOT = (
    "\\r\\nEdge Impulse standalone inferencing (Arduino)\\r\\nInferencing settings:\\r\\n"
    "\\tInterval: 16.00 ms.\\r\\n\\tFrame size: 2304\\r\\nStarting inferencing in 2 seconds..."
)
RUNNING = (
    "Predictions (DSP: 3 ms., Classification: 7 ms., Anomaly: 0 ms.): \\r\\n    idle: 0.99609\\r\\n",
    ".",
    "Recording...\\r\\n",
    "> ",
)

Trained = tuple[list[tuple[float, ...]], Arrays]


def build_board(folder: Path, name: str, change: Callable[[str], str] = str) -> Path:
    """The fake model's firmware, with what `change` makes of main.c."""
    project = write_project(folder, load_board(name))
    (project / "runtime" / "main.c").write_text(change((RUNTIME / "main.c").read_text()))
    return build(project, load_board(name)).elf


@pytest.fixture(scope="module", params=BOARDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def firmware(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_board(tmp_path_factory.mktemp(name) / "project", name)


@pytest.fixture(scope="module")
def undisturbed(name: str, firmware: Path) -> Trained:
    with start(firmware, load_board(name)) as board, Device.open(board.url) as device:
        return trained(device)


def trained(device: Device) -> Trained:
    device.set_hyper(HYPER)
    return losses(train(device, FEW)), learned(device)


def assert_same(found: Trained, expected: Trained) -> None:
    assert found[0] == expected[0]
    assert all(np.array_equal(found[1][key], expected[1][key]) for key in expected[1])


def test_commands_of_mlperf_s_runner_change_nothing(name: str, firmware: Path, undisturbed: Trained) -> None:
    with start(firmware, load_board(name)) as board:
        port = Port(board.url, 115200)
        port.write(MLPERF)
        port.close()
        with Device.open(board.url) as device:
            assert_same(trained(device), undisturbed)
            intruder = os.open(board.url, os.O_WRONLY | os.O_NOCTTY)
            os.write(intruder, MLPERF)  # what follows on the line is the next frame: it is sent again
            os.close(intruder)
            assert_same((undisturbed[0], learned(device)), undisturbed)
            memory = device.memory()
            assert memory.bad_frames >= 1
            assert memory.arena_intact


def talkative(main: str) -> str:
    """A main that prints, at its start and whenever bytes have arrived."""
    texts = ", ".join(f'"{text}"' for text in RUNNING)
    talk = (
        "static void talk(const char *text) {\n    size_t count = 0;\n"
        "    while (count < 1000 && text[count] != 0) {\n        count++;\n    }\n"
        "    ft_port_write((const uint8_t *)text, count);\n}\n\n"
        f"static const char *const running[] = {{{texts}}};\n\n"
    )
    runs = "static void __attribute__((noreturn)) run(void) {\n"
    assert runs in main
    main = main.replace(runs, f"{talk}{runs}    uint32_t turn = 0;\n")
    main = main.replace("    ft_link_open(", f'    talk("{BOOT}");\n    ft_link_open(')
    fed = "        ft_link_feed(data, count);\n"
    assert fed in main
    again = f"if (count != 0 && ++turn % 9 == 0) {{ talk(running[turn / 9 % {len(RUNNING)}]); }}"
    return main.replace(fed, f"{fed}        {again}\n")


def test_a_talkative_board_is_understood(name: str, undisturbed: Trained, tmp_path: Path) -> None:
    said: list[str] = []
    with (
        start(build_board(tmp_path / "project", name, talkative), load_board(name)) as board,
        Device.open(board.url, log=said.append, timing=IMPATIENT) as device,
    ):
        assert_same(trained(device), undisturbed)
    assert any("Predictions (DSP: 3 ms." in line for line in said)


class ResettingCable(Cable):
    """The cable of a board whose reset hangs on the port's control lines: opening the port starts it anew."""

    def __init__(self, boot: Callable[[], Running]) -> None:
        self._boot = boot
        self.resets = 0
        super().__init__(boot().url)

    def _carry(self, host: socket.socket) -> bool:
        self.resets += 1
        self.switch(self._boot().url)
        return super()._carry(host)


@pytest.fixture
def boot(name: str, firmware: Path) -> Iterator[Callable[[], Running]]:
    """Start another board each time."""
    with contextlib.ExitStack() as started:
        yield lambda: started.enter_context(start(firmware, load_board(name)))


def test_a_board_that_resets_when_the_port_opens_is_waited_for(
    boot: Callable[[], Running], undisturbed: Trained
) -> None:
    with ResettingCable(boot) as cable, Device.open(cable.url) as device:
        assert_same(trained(device), undisturbed)
        assert device.reconnect().step == 0  # what it had learned is gone, and the host knows
        assert_same(trained(device), undisturbed)
    assert cable.resets == 2

"""Pins that say what the board does: which change, in what order, and what an instrument makes of them."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import pytest
from test_stm32_ports import PARTS, Registers, Simulated, field
from tiny import write_tiny

from boards import Board, board_names, build, load_board, start
from boards.board import pin_number
from fieldtune.__main__ import main
from firmware_gen import project
from firmware_gen.component import write_component
from firmware_gen.plan import Plan
from firmware_gen.step_parts import part_phase, step_parts
from firmware_gen.update import parse_update
from ondevice.device import Device, Hyper

DOCS = Path(__file__).parents[2] / "docs"
STM32_GPIO = {
    "nucleo_h743zi2": 0x58020000,
    "nucleo_h7a3zi_q": 0x58020000,
    "nucleo_l4r5zi": 0x48000000,
    "nucleo_u575zi_q": 0x42020000,
    "stm32f746g_disco": 0x40020000,
}
NRF_GPIO = (0x50000000, 0x50000300)
NRF = Registers(
    uart=0x40002000,
    reset=[],
    ready=[(0x40000000, 1, 0x40000100, 1)],
    outputs=[
        (base + offset, 0, 32, 32 * port, high)
        for port, base in enumerate(NRF_GPIO)
        for offset, high in ((0x508, 1), (0x50C, 0))
    ],
)
# What the test's instrument would see: samples a mark lasts, and mA by phase.
RATE, SAMPLES, VOLTS = 1000, 20, 3.0
MILLIAMPERES = {"rest": 1, "forward": 10, "backward": 20, "update": 40}
INSTRUMENT = f"""
#include <stdio.h>
#include <stdlib.h>
#include "port.h"

static FILE *trace;
static long sample;

static void last(ft_mark_t mark) {{
    static const int milliamperes[] = {{{", ".join(map(str, MILLIAMPERES.values()))}}};
    for (long end = sample + {SAMPLES}; sample < end; sample++) {{
        fprintf(trace, "%ld.%03ld,%d,%d,%d,%d,%d\\n", sample / {RATE}, sample % {RATE}, milliamperes[mark],
                mark == FT_MARK_REST, mark != FT_MARK_FORWARD, mark != FT_MARK_BACKWARD,
                mark != FT_MARK_UPDATE);
    }}
}}

void ft_port_mark(ft_mark_t mark) {{
    static ft_mark_t before;
    if (trace == NULL) {{
        trace = fopen(getenv("MARKS_TRACE"), "w");
        fprintf(trace, "time(s),current(mA),D0,D1,D2,D3\\n");
        last(FT_MARK_REST);
    }}
    if (before != FT_MARK_REST) {{
        last(before);
    }}
    if (mark == FT_MARK_REST) {{
        last(mark);
        fflush(trace);
    }}
    before = mark;
}}
"""


def registers(name: str) -> Registers:
    """Return the board's simulated registers, its GPIO ports among them."""
    if name not in STM32_GPIO:
        return NRF
    ports = [(STM32_GPIO[name] + 0x400 * port + 0x18, 16 * port) for port in range(11)]
    outputs = [(address, 16 * (1 - high), 16, first, high) for address, first in ports for high in (0, 1)]
    return dataclasses.replace(PARTS[name], outputs=outputs)


def pins_of(board: Board) -> dict[str, int]:
    assert board.marks is not None
    return {
        name: pin_number(getattr(board.marks, name)) for name in ("work", "forward", "backward", "update")
    }


def edges(line: str, pins: dict[str, int]) -> str:
    """Name the pins of a line of `edges`."""
    names = {str(number): name for name, number in pins.items()}
    return " ".join(f"{edge[0]}{names[edge[1:]]}" for edge in line.split()[1:])


def planned(folder: Path, board: Board) -> Plan:
    network = project.load_network(write_tiny(folder / "tiny.onnx"))
    return project.plan_network(network, board, parse_update("dec,depth"))


@pytest.mark.parametrize("name", [name for name in board_names() if load_board(name).marks])
def test_pins_are_high_outputs_that_are_low_while_their_phase_runs(name: str, tmp_path: Path) -> None:
    part = registers(name)
    simulated = Simulated(name, tmp_path, part)
    pins = pins_of(simulated.board)
    if part is NRF:
        for pin in pins.values():
            assert simulated.read(NRF_GPIO[pin // 32] + 0x700 + 4 * (pin % 32)) & 1, "an output"
        pins = {"uart": 6, **pins}  # which idles high
    else:
        for pin in pins.values():
            assert field(simulated.read(STM32_GPIO[name] + 0x400 * (pin // 16)), 2 * (pin % 16), 2) == 1
            assert simulated.read(PARTS[name].gpio_enable[0]) >> pin // 16 & 1
    seen = simulated.run("edges", "mark 1", "edges", "mark 1", "mark 2", "mark 3", "edges", "mark 0", "edges")
    at_first, forward, others, rest = (edges(line, pins) for line in seen)
    assert at_first == " ".join(f"+{pin}" for pin in pins)
    assert forward == "-work -forward"
    assert others == "+forward -backward +backward -update"
    assert rest == "+update +work"


def test_model_marks_inference_and_the_phases_of_a_training_step(tmp_path: Path) -> None:
    name = "nucleo_h743zi2"
    board = load_board(name)
    # The same marks without the instructions that this computer lacks.
    plan = planned(tmp_path, dataclasses.replace(board, dsp=False))
    project.write_project(plan, tmp_path / "project")
    (tmp_path / "port").mkdir()
    simulated = Simulated(name, tmp_path / "port", registers(name), tmp_path / "project")
    _, inferred, trained = simulated.run("edges", "infer", "edges", "step", "edges")
    pins = pins_of(board)
    assert edges(inferred, pins) == "-work -forward +forward +work"
    phases = [phase for phase, _ in itertools.groupby(part_phase(plan, part) for part in step_parts(plan))]
    assert phases[:4] == ["forward", "backward", "update", "backward"]
    changes = " ".join(f"-{phase} +{phase}" for phase in phases)
    assert edges(trained, pins) == f"-work {changes} +work"


def test_nothing_is_marked_where_nobody_could_see_it(tmp_path: Path) -> None:
    """On a board without pins, and in a firmware of the user's own, which has the pins."""
    project.write_project(planned(tmp_path, load_board("mps2_an500")), tmp_path / "project")
    assert "mark" not in (tmp_path / "project" / "model.c").read_text()
    assert "MARK" not in (tmp_path / "project" / "port" / "port_config.h").read_text()
    write_component(planned(tmp_path, load_board("nucleo_h743zi2")), None, "cmake", tmp_path / "component")
    assert "mark" not in (tmp_path / "component" / "src" / "fieldtune" / "model.c").read_text()


def test_energy_of_phases_comes_out_of_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process writes what an instrument would: each mark lasts as long, each phase has its current."""
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks" / "marks.c").write_text(INSTRUMENT)
    description = tmp_path / "marked.toml"
    description.write_text(
        'extends = "native"\nid = "marked"\nport = ["native", "emulated_flash", "recorded", "./marks"]\n'
        '[marks]\nwork = "PA0"\nforward = "PA1"\nbackward = "PA2"\nupdate = "PA3"\nsource = "this test"\n'
    )
    board = load_board(description)
    quick = (*board.compiler.flags, "-O0", "-Dalways_inline=unused")
    compiler = dataclasses.replace(board.compiler, flags=quick)
    plan = planned(tmp_path, dataclasses.replace(board, compiler=compiler))
    project.write_project(plan, tmp_path / "project")
    trace = tmp_path / "trace.csv"
    monkeypatch.setenv("MARKS_TRACE", str(trace))
    phases = [part_phase(plan, part) for part in step_parts(plan)]
    steps = 5 * (10 * RATE // (SAMPLES * len(phases)) + 1)
    with (
        start(build(tmp_path / "project", plan.board).elf, plan.board) as running,
        Device.open(running.url, plan_hash=plan.hash()) as device,
    ):
        device.set_hyper(Hyper(lr=1e-3))
        for step in range(steps):
            device.step(step)
    channels = [f"--phase={phase}=D{pin}" for pin, phase in enumerate(MILLIAMPERES) if pin]
    words = [str(trace), "--volts", str(VOLTS), "--gpio", "D0", "--debounce", "0us", *channels, "--json"]
    assert main(["energy", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    expected = {
        phase: phases.count(phase) * SAMPLES / RATE * milliamperes * VOLTS * 1e3
        for phase, milliamperes in MILLIAMPERES.items()
        if phase != "rest"
    }
    assert {phase["phase"]: phase["energy_uj"] for phase in found["phases"]} == pytest.approx(expected)
    assert found["energy_uj"] == pytest.approx(sum(expected.values()))
    assert found["idle_mw"] == pytest.approx(MILLIAMPERES["rest"] * VOLTS)


def test_docs_name_the_pins() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", (DOCS / "energy.md").read_text(), re.MULTILINE)
    told = {board: re.findall(r"\bP[\w.]+", cells) for board, cells in rows}
    shipped = {name: load_board(name).marks for name in board_names()}
    assert told == {
        name: [marks.work, marks.forward, marks.backward, marks.update]
        for name, marks in shipped.items()
        if marks is not None
    }

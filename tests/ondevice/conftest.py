"""Sessions and profiles that the tests of the reports share."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from quick_board import quick_board
from recorded import AWKWARD, CONFIG, record
from tiny import write_tiny

from boards import load_board
from firmware_gen.plan import Plan
from firmware_gen.project import load_network, plan_network
from firmware_gen.update import parse_update
from ondevice.memory_profile import MemoryProfile, memory_profile
from ondevice.profile import Profile, profile
from ondevice.report_linked import linked_page
from ondevice.session import Session


@pytest.fixture(scope="session", autouse=True)
def quick_twins() -> Iterator[None]:
    """Build quickly what stands in for an emulated board, and what a search measures on."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("workbench", "search_bench", "search_finals"):
            patch.setattr(f"ondevice.{module}.load_board", quick_board)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("finished") / "session", CONFIG)


@pytest.fixture(scope="session")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = CONFIG | {"model": AWKWARD, "board": AWKWARD, "update": AWKWARD, "versions": {AWKWARD: AWKWARD}}
    return record(tmp_path_factory.mktemp("awkward") / "session", config, AWKWARD, AWKWARD)


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("begun") / "session"
    Session.create(path, {"model": "net.onnx"}).close()
    return path


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("model") / "tiny.onnx")


@pytest.fixture(scope="session")
def counted(tiny_model: Path) -> tuple[Plan, Profile]:
    """A training step, counted on this computer."""
    plan = plan_network(load_network(tiny_model), load_board("native"), parse_update("dec,depth"))
    return plan, profile(plan)


@pytest.fixture(scope="session")
def placed(counted: tuple[Plan, Profile]) -> MemoryProfile:
    """Its memory."""
    return memory_profile(counted[0])


@pytest.fixture(scope="session")
def linked(counted: tuple[Plan, Profile], placed: MemoryProfile) -> str:
    """The page of its memory."""
    return linked_page(counted[0], placed)


@pytest.fixture(scope="session")
def awkward_linked(counted: tuple[Plan, Profile], placed: MemoryProfile) -> str:
    """The same with long names and large numbers."""
    plan, found = counted[0], placed
    symbols = tuple(replace(s, name=AWKWARD, bytes=98_765_432_109) for s in found.placed.symbols)
    layers = tuple(replace(layer, name=AWKWARD, alive_bytes=9_876_543_210) for layer in found.layers)
    where = replace(found.placed, symbols=symbols)
    frames = {f"{AWKWARD}{number}": 123_456_789 for number in range(20)}
    return linked_page(plan, replace(found, placed=where, layers=layers, stack_frames=frames))


@pytest.fixture(scope="session")
def awkward_count(counted: tuple[Plan, Profile]) -> tuple[Plan, Profile]:
    """The same with long names and large numbers."""
    plan, found = counted
    layers = tuple(
        replace(layer, name=AWKWARD, macs=9_876_543_210, count=98_765_432_109) for layer in found.layers
    )
    return plan, replace(found, unit="instructions", total=987_654_321_098, layers=layers)

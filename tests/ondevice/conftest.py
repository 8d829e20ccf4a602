"""Sessions that the tests of the report share."""

from pathlib import Path

import pytest
from recorded import AWKWARD, CONFIG, record

from ondevice.session import Session


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

"""What several tests of the code generator need."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """A new folder for every example that hypothesis draws."""

    def new(k: int) -> Path:
        folder = tmp_path / str(k)
        folder.mkdir()
        return folder

    return (new(k) for k in range(1 << 30))

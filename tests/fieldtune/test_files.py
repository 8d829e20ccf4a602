"""Files are whole or absent."""

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fieldtune.errors import UserError
from fieldtune.files import replacing, write_bytes, write_text

ROOT = Path(__file__).parents[2]


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "µ")
    assert path.read_bytes() == "µ".encode()


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def stopped() -> None:
        with replacing(path) as stream:
            stream.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_that_the_user_wants_for_new_files(mask: int, tmp_path: Path) -> None:
    old = os.umask(mask)
    try:
        write_bytes(tmp_path / "file", b"")
        assert os.umask(mask) == mask
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")
    code = "import sys; from pathlib import Path; from fieldtune.files import write_bytes; "
    code += "write_bytes(Path(sys.argv[1]), b'x' * 5000)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert f"UserError: cannot write {path}: File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["file/below", "folder"])
def test_a_place_that_takes_no_file_is_named(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file is no folder")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=f"cannot write {tmp_path / where}: "):
        write_text(tmp_path / where, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]

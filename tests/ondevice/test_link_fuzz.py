"""Nothing that a host sends makes the firmware write outside of the tensor that the request names."""

import subprocess
from pathlib import Path

import pytest
from fake_board import HERE, write_runtime

FRAMES = 200_000
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.parametrize(("max_payload", "seed"), [(1024, 1), (64, 2)])
def test_wild_frames_do_no_harm(max_payload: int, seed: int, tmp_path: Path) -> None:
    write_runtime(tmp_path / "runtime", max_payload)
    link = tmp_path / "runtime" / "link"
    sources = [HERE / "fuzz_firmware.c", HERE / "fake_model.c"]
    sources += [path for folder in (link, link.parent / "field") for path in sorted(folder.glob("*.c"))]
    flags = ["-std=gnu99", "-O1", "-g", "-Wall", "-Wextra", "-Wconversion", "-Werror", *SANITIZERS]
    program = tmp_path / "fuzz"
    includes = [f"-I{tmp_path / 'runtime'}", f"-I{link}"]
    subprocess.run(["gcc", *flags, *includes, *sources, "-o", program], check=True)
    result = subprocess.run([program, str(FRAMES), str(seed)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

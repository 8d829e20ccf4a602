"""The accuracy that kernels/ft_math.h claims, against float64."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from fleet import compile_program

SOURCE = Path(__file__).with_name("math_driver.c")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_program([SOURCE], tmp_path_factory.mktemp("math") / "math", "scalar", specialise=True)


def apply(program: Path, function: str, x: np.ndarray) -> np.ndarray:
    """Return function(x) as float64; `x` must be exact in float32."""
    done = subprocess.run(
        [program, function], input=x.astype("<f4").tobytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, "<f4").astype(np.float64)


def single(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float64)


def test_expf_is_accurate_over_its_range(program: Path) -> None:
    x = single(np.concatenate([np.linspace(-87, 88, 400_001), np.linspace(-1e-3, 1e-3, 10_001)]))
    relative = np.abs(apply(program, "expf", x) / np.exp(x) - 1)
    assert relative.max() < 2e-7


def test_expf_saturates(program: Path) -> None:
    found = apply(program, "expf", np.array([-87.5, -1e30, -np.inf, 88.0, 90.0, 1e30, np.inf]))
    assert (found[:3] == 0).all()
    assert (found[4:] == found[3]).all()


def test_logf_is_accurate_for_all_normal_numbers(program: Path) -> None:
    exponents = np.linspace(-126, 127.999, 400_001)
    x = single(np.concatenate([np.exp2(exponents), np.linspace(0.5, 2, 100_001)]))
    truth = np.log(x)
    absolute = np.abs(apply(program, "logf", x) - truth)
    assert (absolute / (1 + np.abs(truth))).max() < 2e-7


def test_logf_below_the_normal_numbers_is_finite(program: Path) -> None:
    x = np.array([0.0, -0.0, -1.0, 1e-40, np.nan])
    assert (apply(program, "logf", x) == -88).all()


def test_sigmoidf_is_accurate_and_saturates(program: Path) -> None:
    x = single(np.linspace(-86, 86, 400_001))
    found = apply(program, "sigmoidf", x)
    truth = 1 / (1 + np.exp(-x))
    assert np.abs(found / truth - 1).max() < 4e-7
    ends = apply(program, "sigmoidf", np.array([-1e30, -np.inf, 1e30, np.inf, 0.0]))
    assert ends.tolist() == [0, 0, 1, 1, 0.5]


def test_tanhf_is_accurate_and_saturates(program: Path) -> None:
    x = single(np.concatenate([np.linspace(-12, 12, 400_001), np.geomspace(1e-30, 1, 10_001)]))
    found, truth = apply(program, "tanhf", x), np.tanh(x)
    known = truth != 0
    assert np.abs(found[known] / truth[known] - 1).max() < 5e-7
    ends = apply(program, "tanhf", np.array([-1e30, -np.inf, 1e30, np.inf, 0.0]))
    assert ends.tolist() == [-1, -1, 1, 1, 0]

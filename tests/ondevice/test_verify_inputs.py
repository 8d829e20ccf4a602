"""What a user gives to verify a network with reaches the board as it was meant."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny import tiny_frames, write_tiny

from fieldtune.errors import DataError
from firmware_gen.graph import Graph, Quantization, Tensor
from firmware_gen.importers.onnx_file import import_onnx
from firmware_gen.passes import simplify
from firmware_gen.project import Network, load_network
from ondevice.references import LiteRt, Reference, open_reference
from ondevice.verify import sourced_tensors
from ondevice.verify_inputs import random_samples, read_samples
from zoo.loaders.npz import write_npz
from zoo.prepare import network_input

pytest.importorskip("onnxruntime")
SHARED = Path(__file__).resolve().parents[2].parent / "shared"
Opened = tuple[Network, Reference]


@pytest.fixture
def images(tmp_path: Path) -> Opened:
    """A network with a task: its input is pixels."""
    path = write_tiny(tmp_path / "tiny.onnx")
    network = load_network(path)
    return network, open_reference(path, sourced_tensors(network.graph))


@pytest.fixture
def raw(tmp_path: Path) -> Opened:
    """The same without a task: its input is float, channels first in the file."""
    path = write_tiny(tmp_path / "raw.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    network = Network(simplify(import_onnx(path)), None, path)
    return network, open_reference(path, sourced_tensors(network.graph))


def save(path: Path, array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]") -> Path:
    np.save(path, array)
    return path


def test_random_samples_are_the_same_for_the_same_seed(images: Opened) -> None:
    first, again, other = (random_samples(images[0].graph, 2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[1]["image"], again[1]["image"])
    assert not np.array_equal(first[0]["image"], first[1]["image"])
    assert not np.array_equal(first[0]["image"], other[0]["image"])


def test_random_integers_have_the_whole_range() -> None:
    tensors = {name: Tensor(name, (60, 60, 3), name) for name in ("i8", "u8", "f32")}  # type: ignore[arg-type]
    (sample,) = random_samples(Graph("net", (), tensors, {}, tuple(tensors), ()), 1, seed=0)
    assert (sample["i8"].dtype, sample["i8"].min(), sample["i8"].max()) == (np.int8, -128, 127)
    assert (sample["u8"].dtype, sample["u8"].min(), sample["u8"].max()) == (np.uint8, 0, 255)
    assert sample["f32"].dtype == np.float32
    assert sample["f32"].std() == pytest.approx(1, abs=0.05)


def test_frames_become_the_network_s_image(images: Opened, tmp_path: Path) -> None:
    frames = tiny_frames(4)
    write_npz(tmp_path / "frames.npz", frames)
    samples = read_samples(tmp_path / "frames.npz", *images, most=3)
    assert len(samples) == 3
    assert np.array_equal(samples[2]["image"], network_input(frames[2], 16, 16))


def test_arrays_come_by_name_with_or_without_the_sample_axis(images: Opened, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    np.savez(tmp_path / "x.npz", image=pixels, other=np.zeros(3))
    samples = read_samples(tmp_path / "x.npz", *images)
    assert np.array_equal([sample["image"] for sample in samples], pixels)
    assert len(read_samples(tmp_path / "x.npz", *images, most=2)) == 2
    (single,) = read_samples(save(tmp_path / "one.npy", pixels[0]), *images)
    assert np.array_equal(single["image"], pixels[0])


def test_raw_floats_have_the_file_s_layout(raw: Opened, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1, (2, 3, 16, 16))
    samples = read_samples(save(tmp_path / "x.npy", values), *raw)
    assert samples[1]["image"].dtype == np.float32
    assert np.array_equal(samples[1]["image"], values[1].transpose(1, 2, 0).astype(np.float32))


def test_raw_integers_are_taken_as_they_are(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    path = SHARED / "data" / "kws_ref_model.tflite"
    if not path.is_file():
        pytest.skip("needs ../shared/data/kws_ref_model.tflite")
    tensor = Tensor("sound", (49, 10, 1), "i8", Quantization(0.58, 83), source="0")
    network = Network(Graph("kws", (), {"sound": tensor}, {}, ("sound",), ()), None, path)
    values = np.random.default_rng(0).integers(-128, 128, (3, 49, 10, 1), np.int8)
    samples = read_samples(save(tmp_path / "x.npy", values), network, LiteRt(path, [tensor]))
    assert np.array_equal(samples[2]["sound"], values[2])
    with pytest.raises(DataError, match=re.escape("float32 (3, 49, 10, 1), but must be int8 (49, 10, 1)")):
        read_samples(save(tmp_path / "f.npy", values.astype(np.float32)), network, LiteRt(path, [tensor]))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 16, 16, 1), np.uint8), "must be uint8 (16, 16, 3) or (samples, 16, 16, 3)"),
        (np.zeros((5, 16, 16, 3), np.float32), "is float32 (5, 16, 16, 3), but must be uint8"),
        (np.zeros((0, 16, 16, 3), np.uint8), "at least one"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", message: str, images: Opened, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_samples(save(tmp_path / "x.npy", array), *images)


def test_values_that_are_not_finite_are_refused(raw: Opened, tmp_path: Path) -> None:
    values = np.zeros((3, 16, 16), np.float32)
    values[1, 2, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        read_samples(save(tmp_path / "x.npy", values), *raw)


def test_a_network_without_a_task_takes_no_frames(raw: Opened, tmp_path: Path) -> None:
    write_npz(tmp_path / "frames.npz", tiny_frames(2))
    with pytest.raises(DataError, match="no arrays named image, and without a task"):
        read_samples(tmp_path / "frames.npz", *raw)


@pytest.mark.parametrize(("name", "start"), [("x.npz", b"PK\x03\x04"), ("x.npy", b"\x93NUMPY\x01\x00")])
def test_a_broken_file_is_refused(name: str, start: bytes, images: Opened, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start + b"and no more")
    with pytest.raises(DataError, match="is no complete"):
        read_samples(tmp_path / name, *images)


def test_a_missing_file_is_refused(images: Opened, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no data set at"):
        read_samples(tmp_path / "nothing", *images)

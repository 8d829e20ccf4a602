"""Whole quantizations, judged by ONNX Runtime on the file that is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from float_networks import NETWORKS
from numpy.typing import NDArray
from onnx import numpy_helper
from tiny import tiny_frames, tiny_task, write_tiny

from fieldtune.errors import DataError, ModelError, UserError
from quantize.float_network import FloatNetwork, pixels, read_network, run
from quantize.pipeline import Options, Result, quantize_network
from quantize.training_set import labelled, split
from zoo.frames import Frames, open_frames
from zoo.task import METADATA_KEY, parse_task

Write = Callable[[Path], Path]
FRAMES = tiny_frames(24)


def _share(network: FloatNetwork, model: bytes, frames: Frames) -> float:
    """Return the RMS difference to float as a share of float's range, by its definition."""
    inputs = [pixels(frame, network) for frame in frames]
    exact, other = (
        np.stack([np.concatenate([y.ravel() for y in values.values()]) for values in run(each, inputs)])
        for each in (network.model, model)
    )
    return float(np.sqrt(np.square(exact - other).mean()) / (exact.max() - exact.min()))


class Written:
    """A quantized file's nodes and constants."""

    def __init__(self, model: bytes) -> None:
        self.proto = onnx.load_from_string(model)
        self.nodes = list(self.proto.graph.node)
        self.values: dict[str, NDArray[Any]] = {
            item.name: numpy_helper.to_array(item) for item in self.proto.graph.initializer
        }

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        return next((node for node in self.nodes if tensor in node.output), None)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if tensor in node.input]

    def convolutions(self) -> dict[str, onnx.NodeProto]:
        return {node.name: node for node in self.nodes if node.op_type in ("Conv", "ConvTranspose")}

    def quantize_behind(self, tensor: str) -> onnx.NodeProto:
        """Return the QuantizeLinear behind a layer's result and its activation."""
        (reader,) = self.readers(tensor)
        if reader.op_type in ("Relu", "LeakyRelu", "Clip"):
            (reader,) = self.readers(reader.output[0])
        assert reader.op_type == "QuantizeLinear"
        return reader

    def scales_of(self, real: str) -> tuple[float, int]:
        maker = self.maker(real)
        assert maker is not None
        assert maker.op_type == "DequantizeLinear"
        return float(self.values[maker.input[1]]), int(self.values[maker.input[2]])


def _check_int8_layer(written: Written, node: onnx.NodeProto) -> None:
    x, w, b = (written.maker(name) for name in node.input)
    assert x is not None
    assert w is not None
    assert b is not None
    assert {x.op_type, w.op_type, b.op_type} == {"DequantizeLinear"}
    weight, scales, zeros = (written.values[name] for name in w.input)
    assert weight.dtype == np.int8
    assert np.abs(weight.astype(int)).max() <= 127
    assert not zeros.any()
    axis = w.attribute[0].i
    assert axis == (1 if node.op_type == "ConvTranspose" else 0)
    assert scales.shape == (weight.shape[axis],)
    bias, bias_scales, _ = (written.values[name] for name in b.input)
    assert bias.dtype == np.int32
    expected = np.resize(scales, bias.size) * written.values[x.input[1]]
    np.testing.assert_allclose(bias_scales, expected, rtol=1e-6)
    written.quantize_behind(node.output[0])


@pytest.mark.parametrize("backend", ["nncf", "onnxruntime"])
@pytest.mark.parametrize("write", [*NETWORKS, write_tiny], ids=lambda write: write.__name__)
def test_all_layers_become_int8_and_compute_nearly_the_same(
    tmp_path: Path, write: Write, backend: Any
) -> None:
    network = read_network(write(tmp_path / "net.onnx"))
    result = quantize_network(network, FRAMES, Options(backend, test=6))
    assert result.calibration == 18
    assert result.rms_error_share < 0.08
    assert result.rms_error_share == pytest.approx(_share(network, result.model, FRAMES[18:]), rel=1e-4)
    written = Written(result.model)
    onnx.checker.check_model(written.proto)
    convolutions = written.convolutions()
    assert [layer.name for layer in result.layers] == list(convolutions)
    assert all(0 < layer.sensitivity < 0.08 for layer in result.layers)
    for node in convolutions.values():
        _check_int8_layer(written, node)
    for node in written.nodes:
        if node.op_type in ("Concat", "MaxPool"):
            behind = written.quantize_behind(node.output[0])
            scale, zero = (written.values[name] for name in behind.input[1:])
            assert {written.scales_of(name) for name in node.input} == {(float(scale), int(zero))}


def test_pixels_are_stored_exactly(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    written = Written(quantize_network(network, FRAMES, Options()).model)
    assert written.scales_of("image.dequantized") == (pytest.approx(1 / 255), -128)


@pytest.mark.parametrize("backend", ["nncf", "onnxruntime"])
def test_layers_that_stay_float_keep_their_weights_and_run(tmp_path: Path, backend: Any) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    result = quantize_network(network, FRAMES, Options(backend, keep_float="up*,enc1"))
    assert _share(network, result.model, FRAMES) < 0.02
    written = Written(result.model)
    assert [layer.name for layer in result.layers] == ["enc0", "dec", "depth"]
    given = onnx.load_from_string(network.model)
    for item in given.graph.initializer:
        if item.name.split(".")[0] in ("up", "enc1"):
            np.testing.assert_array_equal(written.values[item.name], numpy_helper.to_array(item))
    for name, node in written.convolutions().items():
        if name in ("up", "enc1"):
            assert node.input[1] in written.values
        else:
            _check_int8_layer(written, node)
    # At the borders values become int8 where an int8 layer reads or writes them, and nowhere else.
    quantized = {
        node.input[0].removesuffix(".real") for node in written.nodes if node.op_type == "QuantizeLinear"
    }
    assert quantized == {"image", "enc0", "up", "skip", "dec", "depth"}


def test_the_task_travels_in_the_file(tmp_path: Path) -> None:
    heads = ("depth", "segments", "kind", "amount")
    network = read_network(write_tiny(tmp_path / "net.onnx", heads))
    result = quantize_network(network, FRAMES, Options("onnxruntime"))
    (entry,) = onnx.load_from_string(result.model).metadata_props
    assert entry.key == METADATA_KEY
    assert parse_task(entry.value, "test") == tiny_task(heads)


def test_training_lowers_the_loss_of_every_head_together(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx", ("depth", "segments", "kind", "amount")))
    result = quantize_network(network, FRAMES, Options(epochs=3, rate=1e-2, test=4))
    assert result.loss is not None
    before, after = result.loss
    assert after < before
    written = Written(result.model)
    for node in written.convolutions().values():
        _check_int8_layer(written, node)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    options = Options(epochs=1, keep_float="up*")
    first, second = (quantize_network(network, FRAMES, options) for _ in range(2))
    assert first == second


def test_calibration_frames_are_the_others_thinned_evenly() -> None:
    frames = tiny_frames(50)
    parts = split(frames, test=15, samples=5)
    assert [frame.name for frame in parts.calibration] == [f"frame {k}" for k in range(0, 35, 7)]
    assert [frame.name for frame in parts.training] == [f"frame {k}" for k in range(35)]
    assert [frame.name for frame in parts.test] == [f"frame {k}" for k in range(35, 50)]


def test_training_passes_over_frames_without_labels(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    assert len(labelled(FRAMES, network)) == 23  # the sensor is blind in one of them
    with pytest.raises(DataError, match="none of the 1 frames has a valid label"):
        labelled(FRAMES[4:5], network)


def test_a_network_that_overflows_is_refused(tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "net.onnx")
    model = onnx.load(path)
    for item in model.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(1e30), item.name))
    onnx.save(model, path)
    with pytest.raises(ModelError, match="is not finite on the calibration frames"):
        quantize_network(read_network(path), FRAMES, Options("onnxruntime"))


def test_only_nncf_trains(tmp_path: Path) -> None:
    network = read_network(write_tiny(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match="needs --backend nncf"):
        quantize_network(network, FRAMES, Options("onnxruntime", epochs=1))


def _upydnet(model: Path, room: Path, **options: Any) -> tuple[FloatNetwork, Frames, Result]:
    network, frames = read_network(model), open_frames(room)
    return network, frames, quantize_network(network, frames, Options(test=100, samples=36, **options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"keep_float": "decoder0*,ups0*"}, marks=pytest.mark.long),
        {"backend": "onnxruntime"},
    ],
    ids=str,
)
def test_upydnet_stays_within_3_percent_of_float(
    upydnet_onnx: Path, room_npz: Path, options: dict[str, Any]
) -> None:
    network, frames, result = _upydnet(upydnet_onnx, room_npz, **options)
    assert result.calibration == 36
    assert _share(network, result.model, frames[250:]) < 0.015  # 3 % is what is asked for


@pytest.mark.long
def test_training_upydnet_on_the_sensors_labels_beats_calibration(upydnet_onnx: Path, room_npz: Path) -> None:
    _, _, result = _upydnet(upydnet_onnx, room_npz, epochs=2)
    assert result.loss is not None
    before, after = result.loss
    assert after < 0.6 * before

"""Keras files give the network that TensorFlow computes, under the names that it has in Keras."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_proof import run

from fieldtune.errors import ModelError
from firmware_gen.importers.keras_file import import_keras
from firmware_gen.passes import simplify

NO_TENSORFLOW = importlib.util.find_spec("tensorflow") is None


@pytest.fixture
def model() -> Any:
    if NO_TENSORFLOW:
        pytest.skip("TensorFlow is not installed; pip install 'fieldtune[tensorflow]'")
    import tensorflow as tf

    tf.keras.utils.set_random_seed(4)
    layers = tf.keras.layers
    image = tf.keras.Input((12, 16, 3), name="image")
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="stem")(image)
    x = layers.ReLU(name="act")(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="wide")(x)
    x = layers.Conv2D(8, 1, activation="relu6", name="mix")(x)
    y = layers.Conv2DTranspose(4, 2, strides=2, name="up")(x)
    y = layers.Conv2D(1, 3, padding="same", name="depth")(y)
    z = layers.Dense(5, name="logits")(layers.GlobalAveragePooling2D(name="mean")(x))
    z = layers.Softmax(name="kind")(z)
    v = layers.Dense(3, name="value")(layers.Flatten(name="flat")(layers.MaxPooling2D(2, name="pool")(x)))
    return tf.keras.Model(image, [y, z, v])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_model_computes_what_tensorflow_computes(model: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"net{suffix}"
    model.save(path)
    graph = simplify(import_keras(path))
    assert graph.inputs == ("image",)
    assert sorted(graph.outputs) == ["depth", "kind", "value"]
    assert {"stem", "wide", "mix", "up", "logits"} <= {op.name for op in graph.ops}
    image = np.random.default_rng(2).random((1, 12, 16, 3), np.float32)
    truth = dict(zip(("depth", "kind", "value"), model(image, training=False), strict=True))
    found = run([graph], [[[image]]], tmp_path / "build")[0][0]
    for name, value in zip(graph.outputs, found, strict=True):
        expected = truth[name].numpy()
        np.testing.assert_allclose(value.ravel(), expected.ravel(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(NO_TENSORFLOW, reason="TensorFlow is not installed; pip install 'fieldtune[tensorflow]'")
def test_what_is_no_keras_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    path.write_bytes(b"PK\3\4 nothing")
    with pytest.raises(ModelError, match="cannot be read as a Keras model"):
        import_keras(path)


@pytest.mark.skipif(not NO_TENSORFLOW, reason="TensorFlow is installed")
def test_without_tensorflow_the_message_says_what_to_install(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"fieldtune\[tensorflow\]"):
        import_keras(path)

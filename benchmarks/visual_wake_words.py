"""An int8 network of the shape of MLPerf Tiny's visual wake words, with random weights.

    python benchmarks/visual_wake_words.py -o vww_shape.tflite        (needs tensorflow)

MobileNetV1 of width 0.25 on 96x96 RGB with two classes. What it computes means nothing; its instructions,
memory and bits are those of a trained one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def main() -> None:
    """Make and convert the network."""
    parser = argparse.ArgumentParser(description="Write an int8 MobileNetV1 with random weights.")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()

    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    model = tf.keras.applications.MobileNet((96, 96, 3), alpha=0.25, weights=None, classes=2)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = _frames
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    args.out.write_bytes(converter.convert())


def _frames() -> Iterator[list[NDArray[np.float32]]]:
    random = np.random.default_rng(0)
    for _ in range(20):
        yield [random.uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)]


if __name__ == "__main__":
    main()

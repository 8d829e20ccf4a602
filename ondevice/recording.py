"""Recorded frames, which an emulated board's port shows in the place of a camera and a depth sensor."""

from __future__ import annotations

import struct
from pathlib import Path

from fieldtune.errors import DataError
from fieldtune.files import replacing
from zoo.frames import Frames
from zoo.task import METADATA_KEY, InputSpec, OutputSpec, Task, format_task

MAGIC = 0x43525446  # "FTRC"


def write_recording(path: Path, frames: Frames) -> None:
    """Write `frames` as boards/ports/recorded/recording.h says.

    Raises:
        DataError: there are no frames, or one has no reading of the depth sensor or another size.
        UserError: the file cannot be written.
    """
    if not frames:
        raise DataError("there are no frames to record for the emulated board")
    shape = frames[0].rgb.shape
    with replacing(path) as stream:
        stream.write(struct.pack("<5I", MAGIC, len(frames), *shape[:2], 0))
        for frame in frames:
            if frame.tof is None:
                raise DataError(f"{frame.name} has no ToF reading, which a board's own sensor would give")
            if frame.rgb.shape != shape:
                raise DataError(f"{frame.name} has the size {frame.rgb.shape}, the first frame {shape}")
            stream.write(frame.tof.distance_mm.astype("<i2").tobytes())
            stream.write(frame.tof.status.tobytes())
            stream.write(frame.rgb.tobytes())


def write_camera_model(path: Path, height: int, width: int) -> None:
    """Write the smallest network for which a firmware with a sample buffer can be made: one pixel-wise layer.

    Only its input's size matters, to firmware that is there to record frames.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    task = Task(
        (InputSpec("image", 1 / 255),), (OutputSpec("depth", "depth", "berhu", "tof", max_depth=4.0),)
    )
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, height, width))]
    outputs = [helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, 1, height, width))]
    weights = [numpy_helper.from_array(np.zeros((1, 3, 1, 1), np.float32), "depth.weight")]
    layer = helper.make_node("Conv", ["image", "depth.weight"], ["depth"], "depth")
    graph = helper.make_graph([layer], "camera", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: format_task(task)})
    save(model, path)

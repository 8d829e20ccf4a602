"""Shape rules and resizing tables, exhaustively over small sizes."""

from itertools import product

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from networks import Net
from references import resize_matrix

from firmware_gen.operators.resize import COORDINATES, ROUNDINGS, ResizeAttrs, positions
from firmware_gen.window import Window


@pytest.mark.parametrize("ceil", [False, True])
def test_pooled_sizes_are_torchs(ceil: bool) -> None:
    for kernel, stride, dilation, size in product(range(1, 5), range(1, 6), (1, 2), range(1, 9)):
        for pad in range(kernel // 2 + 1):
            if size + 2 * pad < dilation * (kernel - 1) + 1:
                continue
            window = Window((kernel, 1), (stride, 1), (pad, 0), (pad, 0), (dilation, 1))
            theirs = F.max_pool2d(
                torch.zeros(1, 1, size, 1), (kernel, 1), (stride, 1), (pad, 0), (dilation, 1), ceil_mode=ceil
            )
            assert window.output(size, 1, ceil=ceil) == tuple(theirs.shape[2:])


def test_convolved_sizes_are_torchs() -> None:
    for kernel, stride, dilation, size, pad in product(
        range(1, 4), range(1, 4), (1, 3), range(1, 7), range(3)
    ):
        x, w = torch.zeros(1, 1, size, 1), torch.zeros(1, 1, kernel, 1)
        window = Window((kernel, 1), (stride, 1), (pad, 0), (pad, 0), (dilation, 1))
        if size + 2 * pad >= dilation * (kernel - 1) + 1:
            theirs = F.conv2d(x, w, None, (stride, 1), (pad, 0), (dilation, 1))
            assert window.output(size, 1) == tuple(theirs.shape[2:])
        for extra in range(max(stride, dilation)):
            if (size - 1) * stride + dilation * (kernel - 1) + 1 + extra - 2 * pad < 1:
                continue
            larger = F.conv_transpose2d(x, w, None, (stride, 1), (pad, 0), (extra, 0), 1, (dilation, 1))
            assert window.transposed_output(size, 1, (extra, 0)) == tuple(larger.shape[2:])


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", *ROUNDINGS])
def test_resizing_tables_are_those_of_onnxruntime(mode: str, coordinates: str) -> None:
    """Ties of the nearest modes included: powers of two are exact in ONNX Runtime's single precision."""
    rounding = mode if mode != "linear" else "floor"
    kind = "linear" if mode == "linear" else "nearest"
    for size, count in product((1, 2, 3, 4, 6, 8), (1, 2, 4, 5, 8, 16)):
        attrs = ResizeAttrs(kind, coordinates, rounding, (count / size, 1.0))  # type: ignore[arg-type]
        table = np.zeros((count, size))
        for k, (low, high, weight) in enumerate(positions(attrs, 0, size, count)):
            table[k, low] += 1 - weight
            table[k, high] += weight
        expected = resize_matrix(size, count, count / size, kind, coordinates, rounding)
        np.testing.assert_allclose(table, expected, atol=1e-12)
        exact = {size, count} <= {1, 2, 4, 8, 16}
        if exact or kind == "linear":
            np.testing.assert_allclose(
                table, onnxruntime_matrix(size, count, kind, coordinates, rounding), atol=1e-5
            )


def onnxruntime_matrix(size: int, count: int, mode: str, coordinates: str, rounding: str) -> np.ndarray:
    """Return what ONNX Runtime makes of each unit vector, one a channel."""
    net = Net(seed=0)
    x = net.input(size, size, 1)
    net.output(net.resize(x, (count, 1), mode, coordinates, rounding))
    session = onnxruntime.InferenceSession(
        net.model().SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, {x: np.eye(size, dtype=np.float32)[None, :, :, None]})
    return result[0, :, :, 0].T

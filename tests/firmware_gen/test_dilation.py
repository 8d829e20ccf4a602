"""Dilated convolutions that a converter has written as three operators are one layer with the same bits."""

from pathlib import Path

import numpy as np
import pytest
from int8_proof import Case, prove, read
from tflite_writer import Operation, Value, tflite_bytes

from fieldtune.errors import ModelError

CHANNELS = 5


def dilated(random: np.random.Generator, *, depthwise: bool, same: bool, also_read: bool = False) -> bytes:
    """Return SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND as TensorFlow writes them."""
    rows, columns = (int(n) for n in random.integers(5, 12, 2))
    block = [int(n) for n in random.integers(1, 4, 2)]
    kernel = [int(n) for n in random.integers(1, 4, 2)]
    given = CHANNELS if depthwise else 6
    pads, crops, sizes, cut = [], [], [], []
    for size, step, taps in zip((rows, columns), block, kernel, strict=True):
        span = (taps - 1) * step
        before = span // 2 if same else 0
        after = span - before if same else 0
        rest = -(size + before + after) % step
        pads.append([before, after + rest])
        crops.append([0, rest])
        sizes.append(size + before + after - span)
        cut.append((size + before + after + rest) // step)
    if min(sizes) < 1:
        return dilated(random, depthwise=depthwise, same=same, also_read=also_read)
    batch, scale, zero = block[0] * block[1], 0.05, int(random.integers(-128, 128))
    shape = (1, *kernel, CHANNELS) if depthwise else (given, *kernel, CHANNELS)
    inside = [size - taps + 1 for size, taps in zip(cut, kernel, strict=True)]
    axis = 3 if depthwise else 0
    values = [
        Value("x", (1, rows, columns, CHANNELS), scale=scale, zero_point=zero),
        Value("block", dtype="i32", data=np.array(block)),
        Value("pads", dtype="i32", data=np.array(pads)),
        Value("crops", dtype="i32", data=np.array(crops)),
        Value("cut", (batch, *cut, CHANNELS), scale=scale, zero_point=zero),
        Value("w", scale=[0.01] * given, axis=axis, data=random.integers(-127, 128, shape)),
        Value("b", dtype="i32", scale=[scale * 0.01] * given, data=random.integers(-2000, 2000, given)),
        Value("inner", (batch, *inside, given), scale=0.06, zero_point=3),
        Value("y", (1, *sizes, given), scale=0.06, zero_point=3),
    ]
    kind = "DepthwiseConv2D" if depthwise else "Conv2D"
    options = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    operations = [
        Operation("SPACE_TO_BATCH_ND", ["x", "block", "pads"], ["cut"]),
        Operation(code, ["cut", "w", "b"], ["inner"], f"{kind}Options", options),
        Operation("BATCH_TO_SPACE_ND", ["inner", "block", "crops"], ["y"]),
    ]
    return tflite_bytes(values, operations, ["x"], ["y", "inner"] if also_read else ["y"])


def test_they_give_litert_s_bits(tmp_path: Path) -> None:
    random = np.random.default_rng(21)
    cases = [
        Case(dilated(random, depthwise=depthwise, same=same), note=f"{depthwise=} {same=}")
        for depthwise in (False, True)
        for same in (False, True)
        for _ in range(4)
    ]
    prove(cases, tmp_path)
    for k, case in enumerate(cases):
        assert [op.kind for op in read(case.model, tmp_path, f"again{k}").ops] == ["conv2d_i8"]


def test_what_others_read_too_is_not_joined(tmp_path: Path) -> None:
    model = dilated(np.random.default_rng(22), depthwise=False, same=True, also_read=True)
    with pytest.raises(ModelError, match=r"uses the operator SPACE_TO_BATCH_ND .* not supported"):
        read(model, tmp_path, "open")

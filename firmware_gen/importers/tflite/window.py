"""What convolutions and poolings have in common in the schema: windows, paddings, fused activations."""

from __future__ import annotations

from firmware_gen.importers.builder import MAX_AXIS
from firmware_gen.importers.tflite.node import Node
from firmware_gen.window import LINEAR, Activation, Pair, Window

# The schema's numbers.
SAME, VALID = 0, 1
ACTIVATIONS = {
    0: LINEAR,
    1: Activation("relu"),
    2: Activation("clip", -1.0, 1.0),
    3: Activation("clip", 0.0, 6.0),
}


def read_window(node: Node, kernel: Pair, size: tuple[int, ...], dilation: Pair = (1, 1)) -> Window:
    """Return the node's window over a map of `size` rows and columns.

    Raises:
        ModelError: strides, dilations or a padding that cannot be.
    """
    options = node.options
    if options is None:
        raise node.error("its options are missing")
    stride = (options.StrideH(), options.StrideW())
    steps = (*kernel, *stride, *dilation)
    if min(steps) < 1 or max(steps) > MAX_AXIS:
        raise node.error(f"kernel {kernel}, strides {stride}, dilations {dilation}")
    if options.Padding() not in (SAME, VALID):
        raise node.error(f"padding number {options.Padding()}")
    rows, columns = node.pads or (
        _padding(size[axis], kernel[axis], stride[axis], dilation[axis], options.Padding()) for axis in (0, 1)
    )
    return Window(kernel, stride, (rows[0], columns[0]), (rows[1], columns[1]), dilation)


def _padding(size: int, kernel: int, stride: int, dilation: int, padding: int) -> Pair:
    """Return the padding before and after; SAME makes ceil(size / stride) outputs, the odd one is after."""
    if padding == VALID:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def fused_activation(node: Node) -> Activation:
    """Return the activation that the operator applies to its result.

    Raises:
        ModelError: one that is not supported.
    """
    number = 0 if node.options is None else node.options.FusedActivationFunction()
    if number not in ACTIVATIONS:
        raise node.error(f"the fused activation number {number}; ReLU, ReLU6 and ReLU N1 to 1 are supported")
    return ACTIVATIONS[number]

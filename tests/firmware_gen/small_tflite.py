"""A small int8 network in a TFLite file."""

import numpy as np
from tflite_writer import Operation, Value, tflite_bytes


def small_tflite() -> bytes:
    """Return a network with every family of operators and a shape that is computed."""
    random = np.random.default_rng(3)

    def weight(name: str, *shape: int) -> Value:
        return Value(name, scale=0.02, data=random.integers(-127, 128, shape))

    def bias(name: str, count: int) -> Value:
        return Value(name, dtype="i32", scale=0.001, data=random.integers(-99, 99, count))

    def numbers(name: str, *values: int) -> Value:
        return Value(name, dtype="i32", data=np.array(values))

    def value(name: str, *shape: int) -> Value:
        return Value(name, shape, scale=0.05, zero_point=-3)

    window = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    sequence = {"beginMask": 0, "endMask": 0, "shrinkAxisMask": 1}
    return tflite_bytes(
        [
            value("x", 1, 6, 6, 3),
            weight("net/conv/Conv2D", 4, 3, 3, 3),
            bias("b0", 4),
            value("net/conv/Relu;net/conv/BiasAdd", 1, 6, 6, 4),
            weight("w1", 1, 3, 3, 4),
            bias("b1", 4),
            value("depthwise", 1, 6, 6, 4),
            value("sum", 1, 6, 6, 4),
            value("pooled", 1, 3, 3, 4),
            Value("shape", (4,), "i32"),
            numbers("zero", 0),
            numbers("one", 1),
            Value("batch", (), "i32"),
            Value("minus", dtype="i32", data=np.array(-1)),
            Value("target", (2,), "i32"),
            value("flat", 1, 36),
            weight("w2", 5, 36),
            value("dense", 1, 5),
            Value("y", (1, 5), scale=1 / 256, zero_point=-128),
        ],
        [
            Operation(
                "CONV_2D",
                ["x", "net/conv/Conv2D", "b0"],
                ["net/conv/Relu;net/conv/BiasAdd"],
                "Conv2DOptions",
                {**window, "fusedActivationFunction": 1},
            ),
            Operation(
                "DEPTHWISE_CONV_2D",
                ["net/conv/Relu;net/conv/BiasAdd", "w1", "b1"],
                ["depthwise"],
                "DepthwiseConv2DOptions",
                {**window, "depthMultiplier": 1},
            ),
            Operation("ADD", ["net/conv/Relu;net/conv/BiasAdd", "depthwise"], ["sum"], "AddOptions"),
            Operation(
                "MAX_POOL_2D",
                ["sum"],
                ["pooled"],
                "Pool2DOptions",
                {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2},
            ),
            Operation("SHAPE", ["pooled"], ["shape"], "ShapeOptions", {"outType": 2}),
            Operation(
                "STRIDED_SLICE", ["shape", "zero", "one", "one"], ["batch"], "StridedSliceOptions", sequence
            ),
            Operation("PACK", ["batch", "minus"], ["target"], "PackOptions", {"valuesCount": 2}),
            Operation("RESHAPE", ["pooled", "target"], ["flat"], "ReshapeOptions", {"newShape": [1, 36]}),
            Operation("FULLY_CONNECTED", ["flat", "w2", None], ["dense"], "FullyConnectedOptions"),
            Operation("SOFTMAX", ["dense"], ["y"], "SoftmaxOptions", {"beta": 1.0}),
        ],
        ["x"],
        ["y"],
    )

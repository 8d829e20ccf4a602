"""All operators, by kind. A new one: a class in a file here, a C header of the same name, an entry below."""

from firmware_gen.operators.activation import ActivationBits, ActivationGrad, ActivationOp
from firmware_gen.operators.base import Operator
from firmware_gen.operators.conv2d import BiasUpdate, Conv2d, ConvGradInput, ConvUpdate, RoundGradient
from firmware_gen.operators.conv2d_f16 import F16_OPERATORS
from firmware_gen.operators.conv2d_i8 import Conv2dI8
from firmware_gen.operators.elementwise import (
    Add,
    BroadcastSum,
    Maximum,
    Minimum,
    Mul,
    Negate,
    Prelu,
    PreluGrad,
    Sub,
)
from firmware_gen.operators.elementwise_i8 import AddI8, MaximumI8, MinimumI8, MulI8, PreluI8, SubI8
from firmware_gen.operators.layout import (
    ChannelsFirst,
    Concat,
    DepthToSpace,
    FromChannelsFirst,
    Gather,
    GatherGrad,
    MoveGrad,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Stack,
    StridedSlice,
    Transpose,
)
from firmware_gen.operators.learning_i8 import BiasUpdateI8, ConvUpdateI8, LearningConv2d, TurningConv2d
from firmware_gen.operators.lookup import Lookup
from firmware_gen.operators.loss import Loss
from firmware_gen.operators.moving import Conv2dI8F32, MovingConv2d
from firmware_gen.operators.moving_sums import MeanGradient, MovingAdd, MovingMean
from firmware_gen.operators.moving_values import ActivationBitsI8, MaskGradient, QuantizeGradient, Rescale
from firmware_gen.operators.pool import (
    AveragePool,
    AveragePoolGrad,
    MaxPool,
    MaxPoolGrad,
    Mean,
    ReduceMax,
    ReduceMin,
    Sum,
    SumGrad,
)
from firmware_gen.operators.pool_i8 import AveragePoolI8, MaxPoolI8, MeanI8, ReduceMaxI8, ReduceMinI8, SumI8
from firmware_gen.operators.quantize import Dequantize, Quantize
from firmware_gen.operators.resize import Resize, ResizeGrad
from firmware_gen.operators.resize_i8 import ResizeI8
from firmware_gen.operators.softmax import Softmax, SoftmaxGrad
from firmware_gen.operators.softmax_i8 import SoftmaxI8

OPERATORS: dict[str, Operator] = {
    operator.kind: operator
    for operator in (
        *F16_OPERATORS.values(),
        ActivationBits(),
        ActivationBitsI8(),
        ActivationGrad(),
        ActivationOp(),
        Add(),
        AddI8(),
        AveragePool(),
        AveragePoolGrad(),
        AveragePoolI8(),
        BiasUpdate(),
        BiasUpdateI8(),
        BroadcastSum(),
        ChannelsFirst(),
        Concat(),
        Conv2d(),
        Conv2dI8(),
        Conv2dI8F32(),
        ConvGradInput(),
        ConvUpdate(),
        ConvUpdateI8(),
        DepthToSpace(),
        Dequantize(),
        FromChannelsFirst(),
        Gather(),
        GatherGrad(),
        LearningConv2d(),
        Lookup(),
        Loss(),
        MaskGradient(),
        MaxPool(),
        MaxPoolGrad(),
        MaxPoolI8(),
        Maximum(),
        MaximumI8(),
        Mean(),
        MeanGradient(),
        MeanI8(),
        Minimum(),
        MinimumI8(),
        MoveGrad(),
        MovingAdd(),
        MovingConv2d(),
        MovingMean(),
        Mul(),
        MulI8(),
        Negate(),
        Pad(),
        Prelu(),
        PreluGrad(),
        PreluI8(),
        Quantize(),
        QuantizeGradient(),
        ReduceMax(),
        ReduceMaxI8(),
        ReduceMin(),
        ReduceMinI8(),
        Rescale(),
        Reshape(),
        Resize(),
        ResizeGrad(),
        ResizeI8(),
        RoundGradient(),
        Slice(),
        Softmax(),
        SoftmaxGrad(),
        SoftmaxI8(),
        SpaceToDepth(),
        Stack(),
        StridedSlice(),
        Sub(),
        SubI8(),
        Sum(),
        SumGrad(),
        SumI8(),
        Transpose(),
        TurningConv2d(),
    )
}

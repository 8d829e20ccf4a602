"""All operators, by kind. A new one: a class in a file here, a C header of the same name, an entry below."""

from firmware_gen.operators.activation import ActivationBits, ActivationGrad, ActivationOp
from firmware_gen.operators.base import Operator
from firmware_gen.operators.conv2d import BiasUpdate, Conv2d, ConvGradInput, ConvUpdate
from firmware_gen.operators.elementwise import (
    Add,
    ChannelsFirst,
    Concat,
    Dequantize,
    FromChannelsFirst,
    Slice,
)
from firmware_gen.operators.loss import Loss
from firmware_gen.operators.pool import AveragePool, AveragePoolGrad, MaxPool, MaxPoolGrad
from firmware_gen.operators.resize import Resize, ResizeGrad
from firmware_gen.operators.softmax import Softmax, SoftmaxGrad

OPERATORS: dict[str, Operator] = {
    operator.kind: operator
    for operator in (
        ActivationBits(),
        ActivationGrad(),
        ActivationOp(),
        Add(),
        AveragePool(),
        AveragePoolGrad(),
        BiasUpdate(),
        ChannelsFirst(),
        Concat(),
        Conv2d(),
        ConvGradInput(),
        ConvUpdate(),
        Dequantize(),
        FromChannelsFirst(),
        Loss(),
        MaxPool(),
        MaxPoolGrad(),
        Resize(),
        ResizeGrad(),
        Slice(),
        Softmax(),
        SoftmaxGrad(),
    )
}

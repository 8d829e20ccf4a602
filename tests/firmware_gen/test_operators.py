"""Every operator, forward and backward, against float64 autograd and ONNX Runtime over drawn shapes.

Each example of hypothesis is a list of networks that becomes one program.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from drawing import (
    ACTIVATIONS,
    LONG,
    SHORT,
    Draw,
    distinct,
    finish,
    maybe_activation,
    new_net,
    pads,
    pair,
    sizes,
    some_activation,
    span,
    stem,
)
from hypothesis import given
from hypothesis import strategies as st
from proof import Case, prove

from firmware_gen.operators.resize import COORDINATES, ROUNDINGS


@st.composite
def convolutions(draw: Draw) -> Case:
    net = new_net(draw, draw(st.sampled_from((4, 4, 4, 3))))
    groups = draw(st.sampled_from((1, 1, 1, 2, 3, 5)))
    inner, outer = draw(st.integers(1, 40 // groups)), draw(st.integers(1, 40 // groups))
    if draw(st.booleans()):  # depthwise, at times with a multiplier
        groups, inner, outer = draw(st.integers(2, 20)), 1, draw(st.integers(1, 2))
    kernel, dilation = pair(draw, 1, 5, net), pair(draw, 1, 3, net)
    stride, border = pair(draw, 1, 4, net), pads(draw, (5, 5), net)
    window = span(kernel, dilation)
    size = sizes(draw, (window[0] - border[0] - border[2], window[1] - border[1] - border[3]), net)
    x = stem(draw, net, groups * inner, size)
    x = net.conv(
        x, groups * outer, kernel, stride, border, dilation, groups, draw(st.booleans()), draw(st.booleans())
    )
    return finish(draw, net, maybe_activation(draw, net, x))


@st.composite
def transposed_convolutions(draw: Draw) -> Case:
    net = new_net(draw, draw(st.sampled_from((4, 4, 4, 3))))
    groups = draw(st.sampled_from((1, 1, 1, 2, 4)))
    inner, outer = draw(st.integers(1, 32 // groups)), draw(st.integers(1, 32 // groups))
    if draw(st.integers(0, 2)) == 0:
        groups, inner, outer = draw(st.integers(2, 20)), 1, 1
    kernel, dilation, stride = pair(draw, 1, 4, net), pair(draw, 1, 3, net), pair(draw, 1, 4, net)
    window, size = span(kernel, dilation), sizes(draw, (1, 1), net, 5)
    full = [(size[k] - 1) * stride[k] + window[k] for k in (0, 1)]
    limit = (min((full[0] - 1) // 2, window[0] - 1), min((full[1] - 1) // 2, window[1] - 1))
    border = pads(draw, limit, net)
    extra = (
        0 if net.rank == 3 else draw(st.integers(0, stride[0] - 1)),
        draw(st.integers(0, stride[1] - 1)),
    )
    x = stem(draw, net, groups * inner, size)
    bias, norm = draw(st.booleans()), draw(st.booleans())
    x = net.conv_transpose(x, groups * outer, kernel, stride, border, extra, dilation, groups, bias, norm)
    return finish(draw, net, maybe_activation(draw, net, x))


@st.composite
def fully_connected(draw: Draw) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 8)), sizes(draw, (1, 1), net, 4))
    _, channels, height, width = net.shape(x)
    vector = (1, channels * height * width)
    x = net.flatten(x) if draw(st.booleans()) else net.reshape(x, vector)
    for _ in range(draw(st.integers(1, 2))):
        form = draw(st.sampled_from(("gemm", "gemm_transposed", "matmul", "matmul_add")))
        alpha, beta = (
            draw(st.sampled_from(((1.0, 1.0), (0.5, 2.0)))) if form.startswith("gemm") else (1.0, 1.0)
        )
        x = net.linear(x, draw(st.integers(1, 40)), form, alpha, beta)
        x = maybe_activation(draw, net, x)
    return finish(draw, net, x)


@st.composite
def reshapings(draw: Draw) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 6)), sizes(draw, (1, 1), net, 4))
    _, channels, height, width = net.shape(x)
    vector = channels * height * width
    shapes = [(1, vector), (1, vector, 1, 1), (1, height, channels, width), (1, 1, channels, height * width)]
    x = net.reshape(x, draw(st.sampled_from(shapes)))
    x = maybe_activation(draw, net, x)
    if len(net.shape(x)) == 2:
        x = net.reshape(x, (1, width, channels, height))
    x = net.conv(x, draw(st.integers(1, 9)))
    x = net.reshape(x, (1, -1)) if draw(st.booleans()) else x
    return finish(draw, net, x)


@st.composite
def standing_alone(draw: Draw) -> Case:
    """Activations, normalizations and constant additions that no convolution before them can absorb."""
    net = new_net(draw, draw(st.sampled_from((4, 4, 3))))
    x = stem(draw, net, draw(st.integers(1, 20)), sizes(draw, (1, 1), net))
    branch = x
    for _ in range(draw(st.integers(1, 4))):
        what = draw(st.sampled_from((*ACTIVATIONS, "norm", "plus", "softmax")))
        if what in ACTIVATIONS:
            x = some_activation(draw, net, x, what)
        elif what == "softmax":
            x = net.softmax(x)
        else:
            x = net.activation(x, "LeakyRelu", high=0.5)
            form = draw(st.sampled_from(("scalar", "channels", "batch")))
            x = net.batch_norm(x) if what == "norm" else net.add_constant(x, form)
    if draw(st.booleans()):
        x = net.add(x, branch)
    return finish(draw, net, x)


@st.composite
def joined(draw: Draw) -> Case:
    """Additions and concatenations: the same tensor twice, nested, with parts from below all that learns."""
    net = new_net(draw)
    size = sizes(draw, (1, 1), net, 5)
    image = net.input(draw(st.integers(1, 3)), *size)
    frozen = net.conv(image, draw(st.integers(1, 9)), name="below")
    frozen = maybe_activation(draw, net, frozen)
    learned = net.conv(frozen, draw(st.integers(1, 9)), name="stem")
    maps = [image, frozen, maybe_activation(draw, net, learned)]
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("concat", "concat", "add", "conv")))
        some = st.sampled_from(maps)
        x = draw(some)
        if kind == "concat":
            x = net.concat(*(draw(some) for _ in range(draw(st.integers(2, 3)))))
        elif kind == "add":
            y = draw(st.sampled_from([m for m in maps if net.shape(m) == net.shape(x)]))
            x = net.add(x, y)
        else:
            x = net.conv(x, draw(st.integers(1, 9)), (3, 3), pads=(1, 1, 1, 1))
        maps.append(maybe_activation(draw, net, x))
    x = net.concat(*maps[2:], maps[-1])
    net.loss(net.conv(x, 2, name="head"), "mse")
    return Case(net, draw(st.sampled_from((("*",), ("stem",), ("stem", "head.bias")))))


@st.composite
def poolings(draw: Draw) -> Case:
    net = new_net(draw, draw(st.sampled_from((4, 4, 4, 3))))
    kind = draw(st.sampled_from(("max", "average", "global")))
    channels = draw(st.integers(1, 20))
    if kind == "global":
        x = net.global_average_pool(stem(draw, net, channels, sizes(draw, (1, 1), net)))
        return finish(draw, net, net.conv(x, 3))
    kernel, stride, dilation = pair(draw, 1, 4, net), pair(draw, 1, 5, net), pair(draw, 1, 2, net)
    window = span(kernel, dilation)
    # As torch demands: at most half a window of padding, so that every window meets the map.
    border = pads(draw, (window[0] // 2, window[1] // 2), net)
    size = sizes(draw, (max(window[0] - 1, 1), max(window[1] - 1, 1)), net, 6)
    size = (max(size[0], window[0] - border[0] - border[2]), max(size[1], window[1] - border[1] - border[3]))
    x = stem(draw, net, channels, size)
    ceil = draw(st.booleans())
    if kind == "max":
        x = net.max_pool(x, kernel, stride, border, dilation, ceil)
    else:
        x = net.average_pool(x, kernel, stride, border, dilation, ceil, draw(st.booleans()))
    return finish(draw, net, net.conv(x, 3))


@st.composite
def resizings(draw: Draw) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 12)), sizes(draw, (1, 1), net, 6))
    _, _, height, width = net.shape(x)
    by_scale = draw(st.booleans())
    if by_scale:
        size = height * draw(st.integers(1, 3)), width * draw(st.integers(1, 3))
    else:
        size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    mode, coordinates = draw(st.sampled_from(("nearest", "linear"))), draw(st.sampled_from(COORDINATES))
    x = net.resize(x, size, mode, coordinates, draw(st.sampled_from(ROUNDINGS)), by_scale)
    return finish(draw, net, net.conv(x, 3))


@st.composite
def anything(draw: Draw) -> Case:
    """Several operators on top of each other, with a skip connection."""
    net = new_net(draw)
    size = draw(st.integers(4, 9)), draw(st.integers(4, 9))
    x = skip = stem(draw, net, draw(st.integers(1, 12)), size)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(("conv", "depthwise", "up", "pool", "norm", "resize")))
        channels = net.shape(x)[1]
        if kind == "conv":
            x = net.conv(x, draw(st.integers(1, 20)), (3, 3), (2, 2), (1, 1, 1, 1), norm=draw(st.booleans()))
        elif kind == "depthwise":
            x = net.conv(x, channels, (3, 3), (1, 1), (1, 1, 1, 1), groups=channels)
        elif kind == "up":
            x = net.conv_transpose(x, draw(st.integers(1, 12)), (2, 2), (2, 2))
        elif kind == "pool":
            x = net.max_pool(x, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), ceil=True)
        elif kind == "norm":
            x = net.batch_norm(net.activation(x, "Relu"))
        else:
            x = net.resize(x, (5, 7), "linear", "half_pixel", "floor")
        x = maybe_activation(draw, net, x)
    skip = net.resize(skip, net.shape(x)[2:], "nearest", "asymmetric", "floor")  # type: ignore[arg-type]
    return finish(draw, net, net.conv(net.concat(x, skip), 2))


FAMILIES: dict[str, Callable[[], st.SearchStrategy[Case]]] = {
    strategy.__name__: strategy  # type: ignore[attr-defined]
    for strategy in (
        convolutions,
        transposed_convolutions,
        fully_connected,
        reshapings,
        standing_alone,
        joined,
        poolings,
        resizings,
        anything,
    )
}


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_gradients_equal_autograd(family: str, folders: Iterator[Path]) -> None:
    @SHORT
    @given(st.lists(FAMILIES[family](), min_size=12, max_size=12))
    def check(cases: list[Case]) -> None:
        prove(distinct(cases), next(folders))

    check()


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_gradients_equal_autograd_at_length(family: str, folders: Iterator[Path]) -> None:
    @LONG
    @given(st.lists(FAMILIES[family](), min_size=25, max_size=25))
    def check(cases: list[Case]) -> None:
        prove(distinct(cases), next(folders), specialise=True)

    check()

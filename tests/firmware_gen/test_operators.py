"""Every operator, forward and backward, against float64 autograd and ONNX Runtime over drawn shapes.

A family is a list of kinds of networks, each of which must occur; hypothesis draws the rest. Each list that
it draws becomes one program.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import (
    ACTIVATIONS,
    LONG,
    SHORT,
    Draw,
    finish,
    maybe_activation,
    new_net,
    pads,
    pair,
    sizes,
    some_activation,
    span,
    stem,
    worth_compiling,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Net
from proof import Case, prove

from firmware_gen.operators.resize import COORDINATES, ROUNDINGS

ALL, BELOW = ("*",), ("stem",)  # what learns: everything, or only the layer below the operator under test
Patterns = tuple[str, ...]


@st.composite
def convolutions(draw: Draw, kind: str, patterns: Patterns) -> Case:
    net = new_net(draw, 3 if kind == "line" else 4)
    groups = draw(st.integers(2, 5)) if kind == "grouped" else 1
    inner, outer = draw(st.integers(1, 40 // groups)), draw(st.integers(1, 40 // groups))
    if kind in ("depthwise", "multiplied"):
        groups, inner, outer = (
            draw(st.integers(2, 20)),
            1,
            1 if kind == "depthwise" else draw(st.integers(2, 3)),
        )
    kernel, dilation = pair(draw, 1, 5, net), pair(draw, 1, 3, net)
    stride, border = pair(draw, 1, 4, net), pads(draw, (5, 5), net)
    window = span(kernel, dilation)
    size = sizes(draw, (window[0] - border[0] - border[2], window[1] - border[1] - border[3]), net)
    x = stem(draw, net, groups * inner, size)
    bias, norm = draw(st.booleans()), draw(st.booleans())
    x = net.conv(x, groups * outer, kernel, stride, border, dilation, groups, bias, norm)
    return finish(net, maybe_activation(draw, net, x), patterns)


@st.composite
def transposed_convolutions(draw: Draw, kind: str, patterns: Patterns) -> Case:
    net = new_net(draw, 3 if kind == "line" else 4)
    groups = draw(st.integers(2, 4)) if kind == "grouped" else 1
    inner, outer = draw(st.integers(2, 32 // groups)), draw(st.integers(1, 32 // groups))
    if kind == "depthwise":
        groups, inner, outer = draw(st.integers(2, 20)), 1, 1
    kernel, dilation, stride = pair(draw, 1, 4, net), pair(draw, 1, 3, net), pair(draw, 1, 4, net)
    size = sizes(draw, (1, 1), net, 5)
    if kind == "gaps":  # outputs that no tap reaches lie between outputs that one reaches
        kernel, dilation, stride, size = (3, 3), (7, 7), (2, 2), (1, 2)
    window = span(kernel, dilation)
    full = [(size[k] - 1) * stride[k] + window[k] for k in (0, 1)]
    limit = (min((full[0] - 1) // 2, window[0] - 1), min((full[1] - 1) // 2, window[1] - 1))
    border = (0, 0, 0, 0) if kind == "gaps" else pads(draw, limit, net)
    rows = 0 if net.rank == 3 else draw(st.integers(0, stride[0] - 1))
    extra = (rows, draw(st.integers(0, stride[1] - 1)))
    x = stem(draw, net, groups * inner, size)
    bias, norm = draw(st.booleans()), kind == "grouped" or draw(st.booleans())
    x = net.conv_transpose(x, groups * outer, kernel, stride, border, extra, dilation, groups, bias, norm)
    return finish(net, maybe_activation(draw, net, x), patterns)


@st.composite
def fully_connected(draw: Draw, form: str, patterns: Patterns) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 8)), sizes(draw, (1, 1), net, 4))
    _, channels, height, width = net.shape(x)
    vector = (1, channels * height * width)
    x = net.flatten(x) if draw(st.booleans()) else net.reshape(x, vector)
    for _ in range(2):
        scaled = form.startswith("gemm") and draw(st.booleans())
        x = net.linear(x, draw(st.integers(1, 40)), form, *((0.5, 2.0) if scaled else (1.0, 1.0)))
        x = maybe_activation(draw, net, x)
    return finish(net, x, patterns)


@st.composite
def reshapings(draw: Draw, kind: str, patterns: Patterns) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(2, 6)), sizes(draw, (2, 2), net, 3))
    _, channels, height, width = net.shape(x)
    vector = channels * height * width
    x = net.reshape(
        x,
        {
            "vector": (1, vector),
            "pixel": (1, vector, 1, 1),
            "turned": (1, height, channels, width),
            "one channel": (1, 1, channels, height * width),
        }[kind],
    )
    x = maybe_activation(draw, net, x)
    if kind == "vector":
        x = net.reshape(x, (1, width, channels, height))
    x = net.conv(x, draw(st.integers(1, 9)))
    x = net.softmax(net.flatten(x), axis=-1) if draw(st.booleans()) else net.reshape(x, (1, -1))
    return finish(net, x, patterns)


@st.composite
def standing_alone(draw: Draw, kind: str, patterns: Patterns) -> Case:
    """Activations, normalizations and constant additions that no convolution before them can absorb."""
    net = new_net(draw, draw(st.sampled_from((4, 3))))
    branch = stem(draw, net, draw(st.integers(2, 20)), sizes(draw, (1, 1), net))
    if kind == "shared":  # what the convolution gives is used before and behind the normalization
        raw = net.conv(branch, 5)
        x = net.concat(net.batch_norm(raw), net.activation(raw, "Relu"), raw)
        return finish(net, net.conv(x, 2), patterns)
    x = net.activation(branch, "LeakyRelu", high=0.5)
    more = st.sampled_from((*ACTIVATIONS, "norm", "scalar", "channels", "batch", "softmax"))
    for what in (kind, *draw(st.lists(more, max_size=2))):
        if what in ACTIVATIONS:
            x = some_activation(draw, net, x, what)
        elif what == "softmax":
            x = net.softmax(x)
        elif what == "norm":
            x = net.batch_norm(net.activation(x, "LeakyRelu", high=0.5))
        else:
            x = net.add_constant(net.activation(x, "LeakyRelu", high=0.5), what)
    return finish(net, net.add(x, branch) if draw(st.booleans()) else x, patterns)


@st.composite
def joined(draw: Draw, kind: str, patterns: Patterns) -> Case:
    """Additions and concatenations, with parts from below all that learns."""
    net = new_net(draw)
    size, channels = sizes(draw, (1, 1), net, 5), draw(st.integers(1, 9))
    image = net.input(draw(st.integers(1, 3)), *size)
    frozen = maybe_activation(draw, net, net.conv(image, channels, name="below"))
    learned = maybe_activation(draw, net, net.conv(frozen, channels, name="stem"))
    x = {
        "skip": lambda: net.concat(frozen, image, learned),
        "twice": lambda: net.concat(learned, frozen, learned),
        "nested": lambda: net.concat(net.concat(frozen, learned), net.conv(learned, 3)),
        "sums": lambda: net.add(net.add(frozen, learned), frozen),
        "doubled": lambda: net.add(learned, learned),
        "random": lambda: _random_joints(draw, net, [image, frozen, learned]),
    }[kind]()
    x = net.conv(x, draw(st.integers(1, 9)), (3, 3), pads=(1, 1, 1, 1))
    return finish(net, net.conv(maybe_activation(draw, net, x), 2, name="head"), patterns)


def _random_joints(draw: Draw, net: Net, maps: list[str]) -> str:
    for _ in range(draw(st.integers(1, 4))):
        some = st.sampled_from(maps)
        x = draw(some)
        kind = draw(st.sampled_from(("concat", "concat", "add", "conv")))
        if kind == "concat":
            x = net.concat(*(draw(some) for _ in range(draw(st.integers(2, 3)))))
        elif kind == "add":
            x = net.add(x, draw(st.sampled_from([m for m in maps if net.shape(m) == net.shape(x)])))
        else:
            x = net.conv(x, draw(st.integers(1, 9)), (3, 3), pads=(1, 1, 1, 1))
        maps.append(maybe_activation(draw, net, x))
    return net.concat(*maps[2:], maps[-1])


@st.composite
def poolings(draw: Draw, kind: str, patterns: Patterns) -> Case:
    net = new_net(draw, draw(st.sampled_from((4, 4, 4, 3))))
    channels = draw(st.integers(1, 20))
    if kind == "global":
        x = net.global_average_pool(stem(draw, net, channels, sizes(draw, (1, 1), net)))
        return finish(net, net.conv(x, 3), patterns)
    if kind.startswith("Reduce"):
        x = stem(draw, net, channels, sizes(draw, (1, 1), net))
        spatial = (2, 3) if net.rank == 4 else (3,)
        axes = draw(st.lists(st.sampled_from((1, *spatial)), min_size=1, unique=True))
        return finish(net, net.conv(net.reduce(x, kind, axes), 3), patterns)
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
        x = net.average_pool(x, kernel, stride, border, dilation, ceil, kind == "average padded")
    return finish(net, net.conv(x, 3), patterns)


@st.composite
def resizings(draw: Draw, mode: str, coordinates: str, patterns: Patterns) -> Case:
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 12)), sizes(draw, (1, 1), net, 6))
    _, _, height, width = net.shape(x)
    by_scale = draw(st.booleans())
    if by_scale:
        size = height * draw(st.integers(1, 3)), width * draw(st.integers(1, 3))
    else:
        size = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    x = net.resize(x, size, mode, coordinates, draw(st.sampled_from(ROUNDINGS)), by_scale)
    return finish(net, net.conv(x, 3), patterns)


@st.composite
def moves(draw: Draw, kind: str, patterns: Patterns) -> Case:
    """Operators that only move values, between layers that learn."""
    net = new_net(draw, 4 if kind in ("transpose", "depth", "views") else draw(st.sampled_from((4, 4, 3))))
    channels = 4 * draw(st.integers(1, 3)) if kind == "depth" else draw(st.integers(2, 9))
    x = stem(draw, net, channels, sizes(draw, (2, 2), net, 4))
    axes = (1, 2, 3) if net.rank == 4 else (1, 3)
    if kind == "join":
        x = net.concat(x, net.activation(x, "Sigmoid"), x, axis=draw(st.sampled_from(axes)))
    elif kind == "split":
        axis = draw(st.sampled_from(axes))
        size = net.shape(x)[axis]
        first = draw(st.integers(1, size - 1))
        parts = net.split(x, (first, size - first), axis)
        x = net.concat(*(net.activation(part, "Sigmoid") for part in reversed(parts)), axis=axis)
    elif kind == "slice":
        x = net.slice(x, {axis: _range(draw, net.shape(x)[axis]) for axis in axes})
    elif kind in ("constant", "reflect", "edge"):
        deep = (draw(st.integers(0, 2)), draw(st.integers(0, 2))) if kind == "constant" else (0, 0)
        x = net.pad(x, pads(draw, (1, 1) if kind == "reflect" else (3, 3), net), kind, deep)
    elif kind == "transpose":
        x = net.transpose(x, (0, *draw(st.permutations((1, 2, 3)))))
    elif kind == "depth":
        x = net.depth_to_space(x, 2, draw(st.sampled_from(("DCR", "CRD"))))
    else:
        for _ in range(3):
            x = net.transpose(x, (0, *draw(st.permutations((1, 2, 3)))))
            _, channels, height, width = net.shape(x)
            x = net.pad(net.reshape(x, (1, height, channels, width)), (0, 0, 0, 0), "constant", (1, 0))
            head, tail = net.split(x, (1, height), 1)
            x = net.concat(net.activation(tail, "Sigmoid"), head)
    return finish(net, net.conv(maybe_activation(draw, net, x), 3), patterns)


def _range(draw: Draw, size: int) -> tuple[int, int, int]:
    """Draw first, step and count of positions of an axis."""
    first, step = draw(st.integers(0, size - 1)), draw(st.sampled_from((-2, -1, 1, 1, 2)))
    room = size - 1 - first if step > 0 else first
    return first, step, 1 + draw(st.integers(0, room // abs(step)))


@st.composite
def anything(draw: Draw, kind: str, patterns: Patterns) -> Case:
    """Several operators on top of each other, with a skip connection."""
    net = new_net(draw)
    size = draw(st.integers(4, 9)), draw(st.integers(4, 9))
    x = skip = stem(draw, net, draw(st.integers(1, 12)), size)
    for this in (kind, *draw(st.lists(st.sampled_from(LAYERS), max_size=3))):
        channels = net.shape(x)[1]
        if this == "conv":
            x = net.conv(x, draw(st.integers(1, 20)), (3, 3), (2, 2), (1, 1, 1, 1), norm=draw(st.booleans()))
        elif this == "depthwise":
            x = net.conv(x, channels, (3, 3), (1, 1), (1, 1, 1, 1), groups=channels)
        elif this == "up":
            x = net.conv_transpose(x, draw(st.integers(1, 12)), (2, 2), (2, 2))
        elif this == "pool":
            x = net.max_pool(x, (2, 2), (2, 2), (0, 0, 0, 0), (1, 1), ceil=True)
        elif this == "norm":
            x = net.batch_norm(net.activation(x, "Relu"))
        else:
            x = net.resize(x, (5, 7), "linear", "half_pixel", "floor")
        x = maybe_activation(draw, net, x)
    _, _, *now = net.shape(x)
    skip = net.resize(skip, (now[0], now[1]), "nearest", "asymmetric", "floor")
    return finish(net, net.conv(net.concat(x, skip), 2), patterns)


LAYERS = ("conv", "depthwise", "up", "pool", "norm", "resize")
ALONE = (*ACTIVATIONS, "norm", "scalar", "channels", "batch", "softmax", "shared")
BOTH = (ALL, BELOW)

FAMILIES: dict[str, list[st.SearchStrategy[Case]]] = {
    "convolutions": [
        convolutions(kind, patterns)
        for kind in ("plain", "plain", "grouped", "depthwise", "multiplied", "line")
        for patterns in BOTH
    ],
    "transposed convolutions": [
        transposed_convolutions(kind, patterns)
        for kind in ("plain", "plain", "grouped", "depthwise", "line", "gaps")
        for patterns in BOTH
    ],
    "fully connected": [
        fully_connected(form, patterns)
        for form in ("gemm", "gemm_transposed", "matmul", "matmul_add")
        for patterns in BOTH
    ],
    "reshapings": [
        reshapings(kind, patterns)
        for kind in ("vector", "pixel", "turned", "one channel")
        for patterns in BOTH
    ],
    "standing alone": [standing_alone(kind, ALL) for kind in ALONE],
    "joined": [
        joined(kind, patterns)
        for kind in ("skip", "twice", "nested", "sums", "doubled", "random", "random")
        for patterns in BOTH
    ],
    "moves": [
        moves(kind, patterns)
        for kind in ("join", "split", "slice", "constant", "reflect", "edge", "transpose", "depth", "views")
        for patterns in BOTH
    ],
    "poolings": [
        poolings(kind, patterns)
        for kind in ("max", "max", "average", "average padded", "global", "ReduceMean", "ReduceSum")
        for patterns in BOTH
    ],
    "resizings": [
        resizings(mode, coordinates, ALL) for mode in ("nearest", "linear") for coordinates in COORDINATES
    ],
    "anything": [anything(kind, patterns) for kind in LAYERS for patterns in BOTH],
}


def _prove_all(family: str, length: settings, folders: Iterator[Path], specialise: bool = False) -> None:
    @length
    @given(st.tuples(*FAMILIES[family]))
    def check(cases: tuple[Case, ...]) -> None:
        prove(worth_compiling(cases), next(folders), specialise)

    check()


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_gradients_equal_autograd(family: str, folders: Iterator[Path]) -> None:
    _prove_all(family, SHORT, folders)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_gradients_equal_autograd_at_length(family: str, folders: Iterator[Path]) -> None:
    _prove_all(family, LONG, folders)


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_code_specialised_as_in_firmware_equals_autograd(family: str, folders: Iterator[Path]) -> None:
    _prove_all(family, SHORT, folders, specialise=True)

"""Draws parts of networks with hypothesis."""

from collections.abc import Sequence

from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st
from networks import Net
from proof import Case
from twin_graph import Pads, Pair

Draw = st.DrawFn
ACTIVATIONS = ("Relu", "LeakyRelu", "Clip", "Sigmoid")

# One list of networks is one example. No shrinking: each try would be a compilation.
SHORT = settings(
    max_examples=1,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=25)


def new_net(draw: Draw, rank: int = 4) -> Net:
    """Draw the seed of a network's weights and samples."""
    return Net(draw(st.integers(0, 1 << 30)), rank)


def pair(draw: Draw, low: int, high: int, net: Net) -> Pair:
    """Draw (rows, columns); a map of rank 3 has one row, and nothing happens along it."""
    row = 1 if net.rank == 3 else draw(st.integers(low, high))
    return row, draw(st.integers(low, high))


def pads(draw: Draw, limit: Pair, net: Net) -> Pads:
    """Draw padding on each side, up to `limit`."""
    rows = (0, 0) if net.rank == 3 else (draw(st.integers(0, limit[0])), draw(st.integers(0, limit[0])))
    columns = draw(st.integers(0, limit[1])), draw(st.integers(0, limit[1]))
    return rows[0], columns[0], rows[1], columns[1]


def span(kernel: Pair, dilation: Pair) -> Pair:
    """Return the rows and columns that a window covers."""
    return (kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1


def sizes(draw: Draw, least: Pair, net: Net, more: int = 8) -> Pair:
    """Draw the size of a map: at least `least`, at most `more` beyond that."""
    row = 1 if net.rank == 3 else max(least[0], 1) + draw(st.integers(0, more))
    return row, max(least[1], 1) + draw(st.integers(0, more))


def stem(draw: Draw, net: Net, channels: int, size: Pair) -> str:
    """Add the layer through which the operator under test shows its input gradient."""
    x = net.input(draw(st.integers(1, 3)), *size)
    return maybe_activation(draw, net, net.conv(x, channels, bias=draw(st.booleans()), name="stem"))


def maybe_activation(draw: Draw, net: Net, x: str) -> str:
    """Add an activation or nothing."""
    kind = draw(st.sampled_from(("", *ACTIVATIONS)))
    return some_activation(draw, net, x, kind) if kind else x


def some_activation(draw: Draw, net: Net, x: str, kind: str) -> str:
    """Add an activation with drawn limits or slope."""
    if kind == "Clip":
        low = draw(st.sampled_from((-1.0, -0.3, 0.0)))
        return net.activation(x, kind, low, low + draw(st.sampled_from((0.7, 2.5, 6.0))))
    return net.activation(x, kind, high=draw(st.sampled_from((0.01, 0.2))))


def finish(net: Net, x: str, patterns: tuple[str, ...]) -> Case:
    """Add the loss."""
    net.loss(x, "mse")
    return Case(net, patterns)


def worth_compiling(cases: Sequence[Case]) -> list[Case]:
    """Return the cases without repetitions.

    The simplest example, which hypothesis tries first, is passed over: its networks are of one value each.
    """
    assume(any(case.net.seed for case in cases))
    return list({(case.net.model().SerializeToString(), case.patterns): case for case in cases}.values())

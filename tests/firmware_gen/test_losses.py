"""Losses with masks and weights, their values and gradients, against float64 autograd."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from drawing import LONG, SHORT, Draw, new_net, sizes, stem, worth_compiling
from hypothesis import given
from hypothesis import strategies as st
from networks import Net
from proof import Case, prove
from references import LOSSES

from firmware_gen.update import UpdatePlan

WEIGHTS = (1.0, 0.01, 7.5)
MASKED = (0.0, 0.3, 0.95, 1.0)  # shares of unknown positions; 1: no valid label at all


@st.composite
def losses(draw: Draw, kind: str) -> Case:
    """One loss, or two on two outputs; at times one of them depends on nothing that learns."""
    net = new_net(draw)
    x = stem(draw, net, draw(st.integers(1, 6)), sizes(draw, (1, 1), net))
    for k in range(draw(st.integers(1, 2))):
        this = kind if k == 0 else draw(st.sampled_from(sorted(LOSSES)))
        channels = draw(st.integers(2 if this == "cross_entropy" else 1, 6))
        head = net.conv(x, channels, (3, 3), pads=(1, 1, 1, 1), name=f"head{k}")
        if this == "cross_entropy" and draw(st.booleans()):
            head = net.softmax(head)
        net.loss(head, this, draw(st.sampled_from(MASKED)), draw(st.sampled_from(WEIGHTS)))
    return Case(net, draw(st.sampled_from((("*",), ("stem",), ("head0",)))))


def test_losses_and_gradients_equal_autograd(folders: Iterator[Path]) -> None:
    @SHORT
    @given(st.tuples(*(losses(kind) for kind in sorted(LOSSES) for _ in range(4))))
    def check(cases: tuple[Case, ...]) -> None:
        prove(worth_compiling(cases), next(folders))

    check()


def test_a_label_has_room_for_all_classes(tmp_path: Path) -> None:
    for classes, dtype in ((256, "u8"), (257, "i32")):
        net = Net(seed=4)
        net.loss(net.conv(net.input(2, 3, 3), classes, name="head"), "cross_entropy", masked=0.2)
        (label,) = net.labels
        assert net.plan(tmp_path, UpdatePlan(("*",))).graph.tensors[f"{label}.label"].dtype == dtype
    prove((Case(net),), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("kind", sorted(LOSSES))
def test_losses_and_gradients_equal_autograd_at_length(kind: str, folders: Iterator[Path]) -> None:
    @LONG
    @given(st.tuples(*[losses(kind)] * 12))
    def check(cases: tuple[Case, ...]) -> None:
        prove(worth_compiling(cases), next(folders))

    check()

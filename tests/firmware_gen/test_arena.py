"""The placement of buffers whose lifetimes are known."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_gen.arena import Buffer, extent, peak_bytes, place


@st.composite
def buffer_lists(draw: st.DrawFn) -> list[Buffer]:
    count = draw(st.integers(1, 25))
    spans = [sorted((draw(st.integers(-1, 20)), draw(st.integers(-1, 20)))) for _ in range(count)]
    return [
        Buffer(f"b{k}", 16 * draw(st.integers(1, 60)), first, last) for k, (first, last) in enumerate(spans)
    ]


STEADY = settings(max_examples=150, derandomize=True, deadline=None, database=None)


@STEADY
@given(buffer_lists())
def test_buffers_needed_at_the_same_step_never_overlap(buffers: list[Buffer]) -> None:
    offsets = place(buffers)
    for step in range(-1, 21):
        alive = sorted(
            (offsets[b.name], offsets[b.name] + b.bytes) for b in buffers if b.first <= step <= b.last
        )
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(alive))


@STEADY
@given(buffer_lists())
def test_the_peak_is_what_is_alive_and_no_placement_is_below_it(buffers: list[Buffer]) -> None:
    alive = [sum(b.bytes for b in buffers if b.first <= step <= b.last) for step in range(-1, 21)]
    assert peak_bytes(buffers) == max(alive)
    assert extent(buffers, place(buffers)) >= max(alive)


@STEADY
@given(buffer_lists())
def test_placement_is_deterministic(buffers: list[Buffer]) -> None:
    assert place(buffers) == place(list(buffers))


def test_buffers_that_never_meet_share_their_bytes() -> None:
    buffers = [Buffer("a", 64, 0, 1), Buffer("b", 32, 2, 3), Buffer("c", 64, 4, 5)]
    assert extent(buffers, place(buffers)) == 64


def test_the_search_finds_a_placement_that_greedy_orders_miss() -> None:
    """A stack of crossing lifetimes, for which first fit by size leaves a gap."""
    buffers = [
        Buffer("a", 16, 0, 2),
        Buffer("b", 32, 1, 4),
        Buffer("c", 48, 3, 6),
        Buffer("d", 16, 5, 8),
        Buffer("e", 32, 7, 9),
        Buffer("f", 16, 0, 9),
    ]
    assert extent(buffers, place(buffers)) == peak_bytes(buffers)

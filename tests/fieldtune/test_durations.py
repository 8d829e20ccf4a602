"""Durations, such as --time takes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.durations import format_duration, parse_duration
from fieldtune.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"), [("400ms", 0.4), ("0.4s", 0.4), ("2 s", 2.0), ("250us", 250e-6), ("1.5ms", 1.5e-3)]
)
def test_what_users_write(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "400", "ms", "-1ms", "1e3ms", "4 min", "400 MS"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a duration; .* such as 400ms"):
        parse_duration(text)


@given(st.floats(1e-6, 1e4))
def test_a_formatted_duration_is_long_enough_and_reads_back(seconds: float) -> None:
    again = parse_duration(format_duration(seconds))
    assert seconds <= again * (1 + 1e-12)
    assert again <= seconds + 1.001e-3

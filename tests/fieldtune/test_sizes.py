"""Byte sizes: K is 1024."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldtune.errors import UserError
from fieldtune.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("131072", 131072),
        ("256K", 262144),
        ("256k", 262144),
        (" 256 KiB ", 262144),
        ("256KB", 262144),
        ("1.5M", 1572864),
        ("2G", 2147483648),
        ("10B", 10),
    ],
)
def test_what_users_write(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "K", "-1K", "1e3", "1,5M", "256Q", "256 K K", "1.5.2M", "0x10"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"is not a size; .* such as 256K"):
        parse_size(text)


@given(st.integers(0, 1 << 40))
def test_a_formatted_size_begins_with_the_exact_count(count: int) -> None:
    exact, _, unit = format_size(count).partition(" ")
    assert unit.startswith("B")
    assert int(exact.replace(",", "")) == count


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1023, "1023 B"),
        (1024, "1,024 B (1.0 K)"),
        (131072, "131,072 B (128.0 K)"),
        (1 << 20, "1,048,576 B (1.0 M)"),
    ],
)
def test_how_sizes_read(count: int, text: str) -> None:
    assert format_size(count) == text

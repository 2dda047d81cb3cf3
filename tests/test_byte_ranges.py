"""Stretches of bytes against sets of bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stacpull.byte_ranges import ByteRange, ByteRanges, gaps_in, length, merged

TOTAL = 40
ANY = st.lists(st.builds(ByteRange, st.integers(0, TOTAL), st.integers(0, TOTAL)), max_size=8)


def bytes_of(spans: ByteRanges | list[ByteRange]) -> set[int]:
    return {place for start, end in spans for place in range(start, end)}


def is_in_order(spans: ByteRanges) -> bool:
    edges = [edge for span in spans for edge in span]
    return all(one < other for one, other in pairwise(edges))


@given(ANY)
def test_joined_spans_are_the_same_bytes_in_order(spans: list[ByteRange]) -> None:
    found = merged(spans)
    assert bytes_of(found) == bytes_of(spans)
    assert is_in_order(found)
    assert length(found) == len(bytes_of(spans))


@given(ANY, st.integers(0, TOTAL + 5))
def test_missing_spans_are_the_complement(spans: list[ByteRange], total: int) -> None:
    gaps = gaps_in(merged(spans), total)
    assert bytes_of(gaps) == set(range(total)) - bytes_of(spans)
    assert is_in_order(gaps)

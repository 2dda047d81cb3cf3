"""Periods as UTC days: each day exactly once."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.filters.item_checks import parse_interval
from stacpull_trace.request_plan import Days, days_between

DATES = st.dates(date(1990, 1, 1), date(2060, 12, 31))


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2023-11-01/2023-11-30", "2023-11-01", "2023-11-30"),
        ("2023-11-02", "2023-11-02", "2023-11-02"),
        ("2023-11-01T00:00:00Z/2023-12-01T00:00:00Z", "2023-11-01", "2023-11-30"),
        ("2023-11-01T00:00:00Z/2023-12-01T00:00:01Z", "2023-11-01", "2023-12-01"),
        ("2023-11-01T12:00:00Z/2023-11-01T13:00:00Z", "2023-11-01", "2023-11-01"),
        ("2023-11-02T01:00:00+02:00/2023-11-03", "2023-11-01", "2023-11-03"),
        ("2023-11-01T00:00:00Z/2023-11-01T00:00:00Z", "2023-11-01", "2023-11-01"),
    ],
)
def test_an_interval_includes_every_day_it_touches(text: str, first: str, last: str) -> None:
    assert days_between(*parse_interval(text)) == Days(date.fromisoformat(first), date.fromisoformat(last))


@given(DATES, st.integers(0, 4000))
def test_years_hold_each_day_exactly_once(first: date, length: int) -> None:
    days = Days(first, first + timedelta(days=length))
    chunks = list(days.years())
    assert [day for chunk in chunks for day in chunk] == list(days)
    assert all(chunk.first.year == chunk.last.year for chunk in chunks)
    assert len(days) == length + 1

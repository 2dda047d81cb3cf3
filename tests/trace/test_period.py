"""Periods as UTC days: each day exactly once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stacpull.errors import UsageError
from stacpull.filters.interval import parse_interval
from stacpull_trace.period import Days, days_between

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


@pytest.mark.parametrize("text", ["2023-11-01/..", "../2023-11-01"])
def test_open_intervals_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="both ends"):
        days_between(*parse_interval(text))


@pytest.mark.parametrize("text", ["9999-12-30/9999-12-31", "0001-01-01T00:00:00+05:00/2023-01-01"])
def test_the_ends_of_the_calendar_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="out of range"):
        days_between(*parse_interval(text))


@given(DATES, st.integers(0, 4000))
def test_years_hold_each_day_exactly_once(first: date, length: int) -> None:
    days = Days(first, first + timedelta(days=length))
    chunks = list(days.years())
    assert [day for chunk in chunks for day in chunk] == list(days)
    assert all(chunk.first.year == chunk.last.year for chunk in chunks)
    assert len(days) == length + 1


@given(DATES, st.integers(0, 400))
def test_requests_run_from_midnight_to_midnight(first: date, length: int) -> None:
    days = Days(first, first + timedelta(days=length))
    start, end = days.interval
    assert start == datetime(first.year, first.month, first.day, tzinfo=UTC)
    assert end - start == timedelta(days=len(days))
    assert days_between(start, end) == days

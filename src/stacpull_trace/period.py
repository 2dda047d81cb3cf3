"""The period of a trace in whole UTC days, and its division into years.

The service computes one figure per day, counted from the start of a request, and drops an incomplete last
day. Requests therefore begin and end at midnight UTC. Long periods are requested year by year.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from stacpull.errors import UsageError
from stacpull_trace.hub.replies import TimeRange

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Days:
    """A range of UTC days, both ends included."""

    first: date
    last: date

    def __iter__(self) -> Iterator[date]:
        for offset in range(len(self)):
            yield self.first + offset * _DAY

    def __len__(self) -> int:
        return (self.last - self.first).days + 1

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first}/{self.last}"

    @property
    def interval(self) -> TimeRange:
        """The range from midnight to midnight, without its end."""
        return TimeRange(midnight(self.first), midnight(self.last + _DAY))

    def years(self) -> Iterator[Days]:
        for year in range(self.first.year, self.last.year + 1):
            yield Days(max(self.first, date(year, 1, 1)), min(self.last, date(year, 12, 31)))


def midnight(day: date) -> datetime:
    """Return the instant at which a UTC day begins."""
    return datetime.combine(day, time.min, tzinfo=UTC)


def days_between(start: datetime | None, end: datetime | None) -> Days:
    """Return the UTC days that an interval touches. An end at midnight does not touch the day it begins."""
    if start is None or end is None:
        raise UsageError("--datetime needs both ends, for example 2024-06-01/2024-06-30.")
    try:
        first, instant = start.astimezone(UTC).date(), end.astimezone(UTC)
    except OverflowError:
        raise UsageError("--datetime is out of range.") from None
    last = instant.date()
    if instant.time() == time.min and last > first:
        last -= _DAY
    if last >= date.max:
        raise UsageError("--datetime is out of range.")
    return Days(first, last)

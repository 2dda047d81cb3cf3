"""The filter `--datetime`: time intervals as in STAC's item search.

An interval is an RFC 3339 instant, a day, month or year (`2017-06-13`, `2017-06`, `2017`), `a/b`, `../b` or
`a/..`. Its ends are inclusive, and a day, month or year is included completely. Times of items may have a
space instead of the `T`, and no time zone (UTC).
"""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import UTC, date, datetime, time
from typing import Any, Final, NamedTuple

from stacpull.clock import in_utc, parse_instant
from stacpull.errors import UsageError
from stacpull.filters.check import ItemCheck
from stacpull.models import Json
from stacpull.selection import Selection

_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)


class Interval(NamedTuple):
    """A closed time interval; None is an open end."""

    start: datetime | None
    end: datetime | None

    def overlaps(self, start: datetime | None, end: datetime | None) -> bool:
        """Return whether the interval from `start` to `end` (None: open) overlaps this one."""
        early = self.start is not None and end is not None and end < self.start
        late = self.end is not None and start is not None and start > self.end
        return not (early or late)


def parse_interval(text: str) -> Interval:
    """Parse the value of `--datetime`.

    Raises:
        UsageError: An end cannot be read, both are open, or they are in the wrong order.
    """
    first, slash, last = text.strip().partition("/")
    interval = Interval(
        _user_end(first, text, at_end=False), _user_end(last if slash else first, text, at_end=True)
    )
    if interval.start is None and interval.end is None:
        raise UsageError(f"--datetime {text!r} has no end: use an instant, a date, a/b, ../b or a/..")
    if interval.start is not None and interval.end is not None and interval.start > interval.end:
        raise UsageError(f"--datetime {text!r} ends before it starts: swap the two times.")
    return interval


def end_text(end: datetime | None) -> str:
    """Return an end of an interval as RFC 3339 text in UTC, without fractions of a second."""
    return ".." if end is None else in_utc(end).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


class DatetimeCheck(ItemCheck):
    """`--datetime`: keeps items whose instant or range overlaps an interval."""

    fields = ("datetime",)

    def __init__(self, text: str) -> None:
        """Parse the interval.

        Raises:
            UsageError: It is invalid.
        """
        self._interval = parse_interval(text)

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        """Return `datetime` for an item outside the interval or without a valid time."""
        value = properties.get("datetime")
        if value is not None:
            start = end = parse_instant(value)
        else:
            start = parse_instant(properties.get("start_datetime"))
            end = parse_instant(properties.get("end_datetime"))
        is_known = start is not None or end is not None
        return None if is_known and self._interval.overlaps(start, end) else "datetime"

    @classmethod
    def covers(cls, wide: Selection, narrow: Selection) -> bool:
        """Compare the intervals."""
        if wide.datetime is None or narrow.datetime is None:
            return wide.datetime is None
        outer, inner = parse_interval(wide.datetime), parse_interval(narrow.datetime)
        from_start = outer.start is None or (inner.start is not None and outer.start <= inner.start)
        return from_start and (outer.end is None or (inner.end is not None and inner.end <= outer.end))


def _user_end(text: str, whole: str, *, at_end: bool) -> datetime | None:
    """Parse one end of an interval. A day, month or year becomes its first or last instant."""
    text = text.strip()
    if text in ("", ".."):
        return None
    try:
        if (period := _DATE.fullmatch(text)) is not None:
            year, month, day = (None if part is None else int(part) for part in period.groups())
            return _bound_of(year or 0, month, day, at_end=at_end)
        instant = parse_instant(text) if _INSTANT.fullmatch(text) else None
    except ValueError:
        instant = None
    if instant is None:
        raise UsageError(
            f"--datetime {whole!r}: {text!r} is not a valid time; use 2017, 2017-06, 2017-06-13 or "
            "2017-06-13T10:10:31Z."
        )
    return instant


def _bound_of(year: int, month: int | None, day: int | None, *, at_end: bool) -> datetime:
    """Return the first or last instant of a year, month or day."""
    if month is None:
        month = 12 if at_end else 1
    if day is None:
        day = monthrange(year, month)[1] if at_end else 1
    return datetime.combine(date(year, month, day), time.max if at_end else time.min, tzinfo=UTC)

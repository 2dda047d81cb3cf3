"""The filter `--datetime`: time intervals as in STAC's item search.

Ends are inclusive, and a day, month or year counts completely. Times may have a space instead of the `T`, and
no zone.
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

_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d(:?\d\d)?)?", re.ASCII
)

TimeSpan = tuple[datetime, datetime]
"""A first and a last instant. JSON has no tuples, so it differs from every value of an item."""


class Interval(NamedTuple):
    start: datetime | None
    end: datetime | None


def parse_interval(text: str) -> Interval:
    first, slash, last = text.strip().partition("/")
    spans = []
    for end in (first, last if slash else first):
        span = None if end.strip() in ("", "..") else time_span(end)
        if span is None and end.strip() not in ("", ".."):
            raise UsageError(
                f"--datetime {text!r}: {end.strip()!r} is not a valid time; use 2017, 2017-06, 2017-06-13 or "
                "2017-06-13T10:10:31Z."
            )
        spans.append(span)
    start, stop = spans
    if start is None and stop is None:
        raise UsageError(f"--datetime {text!r} has no end: use an instant, a date, a/b, ../b or a/..")
    if start and stop and start[0] > stop[1]:
        raise UsageError(f"--datetime {text!r} ends before it starts: swap the two times.")
    return Interval(start and start[0], stop and stop[1])


def time_span(text: str) -> TimeSpan | None:
    text = text.strip()
    period = _DATE.fullmatch(text)
    if period is None:
        instant = parse_instant(text) if _INSTANT.fullmatch(text) else None
        return None if instant is None else (instant, instant)
    year, month, day = period.groups()
    try:
        first = date(int(year), int(month or 1), int(day or 1))
        last = first.replace(month=int(month or 12))
        last = last.replace(day=int(day or monthrange(last.year, last.month)[1]))
    except ValueError:
        return None
    return datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)


def end_text(end: datetime | None) -> str:
    return ".." if end is None else in_utc(end).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


class DatetimeCheck(ItemCheck):
    fields = ("datetime",)

    def __init__(self, text: str) -> None:
        self._start, self._end = parse_interval(text)

    def __call__(self, _item: Json, properties: dict[str, Any]) -> str | None:
        value = properties.get("datetime")
        if value is not None:
            start = end = parse_instant(value)
        else:
            start = parse_instant(properties.get("start_datetime"))
            end = parse_instant(properties.get("end_datetime"))
        if start is None and end is None:
            return "datetime"
        is_early = self._start is not None and end is not None and end < self._start
        is_late = self._end is not None and start is not None and start > self._end
        return "datetime" if is_early or is_late else None

"""Clocks, which tests replace with a virtual one; and times as text."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, Protocol

_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)
_LEAP_SECOND: Final = re.compile(r"(?<=:\d\d):60(?!\d)")
_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)
_INSTANT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d(:?\d\d)?)?", re.ASCII
)


class TimeSpan(NamedTuple):
    start: datetime
    end: datetime  # the last instant


class Clock(Protocol):
    def time(self) -> float: ...  # seconds since the epoch, which may jump

    def monotonic(self) -> float: ...  # seconds on a clock that never goes back

    async def sleep(self, seconds: float) -> None: ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None: ...


def rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def rfc3339_at(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(int(seconds), UTC))


def in_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC, or the nearest one in the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return _FIRST if moment.year == _FIRST.year else _LAST


def parse_instant(value: object) -> datetime | None:
    """Return a time (RFC 3339) as an aware datetime, by default in UTC; None if it is invalid."""
    if not isinstance(value, str):
        return None
    try:
        # `fromisoformat` accepts no zone in lower case and no leap second (RFC 3339, 5.6 and 5.7)
        instant = datetime.fromisoformat(_LEAP_SECOND.sub(":59", value.strip().upper()))
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def time_span(text: str) -> TimeSpan | None:
    """Return the span of an instant, a day, a month or a year; None if the text is none of these."""
    text = text.strip()
    if _INSTANT.fullmatch(text):
        instant = parse_instant(text)
        return None if instant is None else TimeSpan(instant, instant)
    period = _DATE.fullmatch(text)
    if period is None:
        return None
    from calendar import monthrange  # noqa: PLC0415 - few commands need it

    year, month, day = period.groups()
    try:
        first = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        last_month = int(month or 12)
        last_day = int(day or monthrange(first.year, last_month)[1])
        last = datetime(first.year, last_month, last_day, 23, 59, 59, 999_999, tzinfo=UTC)
    except ValueError:
        return None
    return TimeSpan(first, last)


def parse_interval(text: str) -> tuple[datetime | None, datetime | None]:
    """Return the ends of a time or an interval, None for an open end. Raises ValueError if it is invalid."""
    spans = []
    for end in map(str.strip, text.split("/", 1)):
        span = time_span(end)
        if span is None and end not in {"", ".."}:
            forms = "2017, 2017-06, 2017-06-13 or 2017-06-13T10:10:31Z, with / between two times"
            raise ValueError(f"{end!r} is not a valid time; use {forms}")
        spans.append(span or (None, None))
    start = spans[0][0]
    stop = spans[-1][1]
    if start is None and stop is None:
        raise ValueError(f"{text!r} is open at both ends: use an instant, a date, a/.., ../b or a/b")
    if start and stop and start > stop:
        raise ValueError(f"{text!r} ends before it starts: swap the two times")
    return start, stop


class SystemClock:
    monotonic = staticmethod(time.monotonic)  # no method, because it is called twice per request
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        import asyncio  # noqa: PLC0415 - 6 MB, which the store process has no use for

        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        import asyncio  # noqa: PLC0415 - see above

        asyncio.get_running_loop().call_later(seconds, callback)

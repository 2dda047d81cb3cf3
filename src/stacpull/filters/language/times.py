"""Times in CQL2: a span has a first and a last instant; an instant is a span of one, a date that whole day.

Comparisons of spans: `<` is wholly before, `>` wholly after, and `=` neither, that is, they meet. So a
timestamp is compared with a date by the day, whichever stands first, and `<=` is always the opposite of `>`.
The `t_` operators are those of OGC 21-065r2, table 9, after Allen (1983), on first and last instants.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any, Final, NamedTuple

from stacpull.filters.interval import parse_instant

__all__ = ["ALWAYS", "RELATIONS", "Span", "item_span", "span_of"]

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)
_FIRST: Final = datetime.min.replace(tzinfo=UTC)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


class Span(NamedTuple):
    """A closed interval of time; tuples compare, spans must not: use `before`."""

    start: datetime
    end: datetime

    def before(self, other: Span) -> bool:
        """Return True if all of this is earlier than all of the other."""
        return self.end < other.start


ALWAYS: Final = Span(_FIRST, _LAST)


def span_of(value: object) -> Span | None:
    """Return the span of a text that is an RFC 3339 instant or a date; None if it is neither."""
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _DATE.fullmatch(text):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return None
        return Span(datetime.combine(day, time.min, UTC), datetime.combine(day, time.max, UTC))
    instant = parse_instant(text) if _INSTANT.match(text) else None
    return None if instant is None else Span(instant, instant)


def item_span(properties: dict[str, Any]) -> Span | None:
    """Return when the item was: its `datetime`, or from `start_datetime` to `end_datetime` (STAC 1.0)."""
    value = properties.get("datetime")
    if value is not None:
        return span_of(value)
    start, end = span_of(properties.get("start_datetime")), span_of(properties.get("end_datetime"))
    if start is None and end is None:
        return None
    return Span(start.start if start else _FIRST, end.end if end else _LAST)


RELATIONS: Final[dict[str, Callable[[Span, Span], bool]]] = {
    "t_after": lambda a, b: a.start > b.end,
    "t_before": lambda a, b: a.end < b.start,
    "t_contains": lambda a, b: a.start < b.start and a.end > b.end,
    "t_disjoint": lambda a, b: a.end < b.start or a.start > b.end,
    "t_during": lambda a, b: a.start > b.start and a.end < b.end,
    "t_equals": lambda a, b: a.start == b.start and a.end == b.end,
    "t_finishedby": lambda a, b: a.start < b.start and a.end == b.end,
    "t_finishes": lambda a, b: a.start > b.start and a.end == b.end,
    "t_intersects": lambda a, b: a.start <= b.end and a.end >= b.start,
    "t_meets": lambda a, b: a.end == b.start,
    "t_metby": lambda a, b: a.start == b.end,
    "t_overlappedby": lambda a, b: b.start < a.start < b.end < a.end,
    "t_overlaps": lambda a, b: a.start < b.start < a.end < b.end,
    "t_startedby": lambda a, b: a.start == b.start and a.end > b.end,
    "t_starts": lambda a, b: a.start == b.start and a.end < b.end,
}
"""What each operator demands of two spans."""

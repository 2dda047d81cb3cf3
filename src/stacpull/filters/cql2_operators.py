"""The operators of CQL2: times, comparisons, patterns, arithmetic and arrays.

A time is a span with a first and a last instant. An instant is a span of itself, and a date is a whole day.
`<` means completely before, `>` completely after, and `=` means that the spans overlap. So a timestamp is
compared with a date by the day, in either order, and `<=` is always the opposite of `>`. The `t_` operators
are those of OGC 21-065r2, table 9, after Allen (1983), on first and last instants.
"""

from __future__ import annotations

import math
import operator
import re
import unicodedata
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time
from typing import Any, Final

import msgspec

from stacpull.clock import parse_instant

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", re.ASCII)


class TimeSpan(msgspec.Struct, frozen=True):
    """A closed time interval. Compare with `before`; the operators compare it as a tuple."""

    start: datetime
    end: datetime

    def before(self, other: TimeSpan) -> bool:
        """Return whether this span ends before the other one starts."""
        return self.end < other.start


ALWAYS: Final = TimeSpan(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def span_of(value: object) -> TimeSpan | None:
    """Return a span, or that of a string with an RFC 3339 instant or a date; None if it is none of these."""
    if isinstance(value, TimeSpan):
        return value
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _DATE.fullmatch(text):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return None
        return TimeSpan(datetime.combine(day, time.min, UTC), datetime.combine(day, time.max, UTC))
    instant = parse_instant(text) if _INSTANT.match(text) else None
    return None if instant is None else TimeSpan(instant, instant)


def item_span(properties: dict[str, Any]) -> TimeSpan | None:
    """Return the time of an item: `datetime`, or from `start_datetime` to `end_datetime` (STAC 1.0).

    If the start is after the end, the time is unknown, like one that cannot be read.
    """
    value = properties.get("datetime")
    if value is not None:
        return span_of(value)
    start, end = span_of(properties.get("start_datetime")), span_of(properties.get("end_datetime"))
    if start is None and end is None:
        return None
    return span_between(start or ALWAYS, end or ALWAYS)


def span_between(first: TimeSpan, last: TimeSpan) -> TimeSpan | None:
    """Return the span from the start of one to the end of another; None if it would end before it starts."""
    return TimeSpan(first.start, last.end) if first.start <= last.end else None


RELATIONS: Final[dict[str, Callable[[TimeSpan, TimeSpan], bool]]] = {
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
"""The temporal operators (table 9)."""


Truth = bool | None

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _comparison(sign: str) -> Callable[[Any, Any], Truth]:
    order = _ORDERS[sign]
    only_equality = sign in ("=", "<>")

    def compare(one: Any, other: Any) -> Truth:
        if one is None or other is None:
            return None
        if _is_number(one) and _is_number(other):
            return _by_number(order, one, other)
        if (first := span_of(one)) is not None and (second := span_of(other)) is not None:
            return order(second.before(first) - first.before(second), 0)
        if isinstance(one, str) and isinstance(other, str):
            return order(one, other)
        if only_equality and _comparable(one, other):
            return order(one, other)
        return None

    return compare


def _by_number(order: Callable[[Any, Any], bool], one: Any, other: Any) -> Truth:
    """Compare in double precision if one is a float, because CQL2 text has no other numbers."""
    if isinstance(one, float) or isinstance(other, float):
        try:
            one, other = float(one), float(other)
        except OverflowError:
            return order(one, other)
        if math.isnan(one) or math.isnan(other):
            return None
    return order(one, other)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _comparable(one: Any, other: Any) -> bool:
    """Return whether both are booleans or both are lists. They can be equal, but have no order."""
    return any(isinstance(one, kind) and isinstance(other, kind) for kind in (bool, list))


COMPARISONS: Final = {sign: _comparison(sign) for sign in _ORDERS}
"""The comparison operators (7.6)."""


def contained(value: Any, members: Iterable[Any]) -> Truth:
    """Return whether `value` equals any of `members` (7.9.4); None if none does and any is unknown."""
    equals, unknown = COMPARISONS["="], value is None
    for member in members:
        equal = equals(value, member)
        if equal:
            return True
        unknown = unknown or member is None
    return None if unknown else False


def like_pattern(pattern: str) -> re.Pattern[str]:
    r"""Compile a pattern of LIKE (7.9.2).

    Matching takes linear time: a `%` ends at the first match of the piece after it, and no other position is
    tried (an atomic group). This does not miss any match.

    Args:
        pattern: `%` matches any text, `_` one character, `\x` matches `x`.

    Returns:
        An expression for `fullmatch`.
    """
    pieces = [""]
    for token in re.finditer(r"\\(.)|(%)|(_)|(.)", pattern, re.DOTALL):
        escaped, many, one, plain = token.groups()
        if many:
            pieces.append("")
        else:
            pieces[-1] += "." if one else re.escape(escaped or plain)
    first, *between = pieces
    if not between:
        return re.compile(first, re.DOTALL)
    *middle, last = between
    expression = first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + f".*{last}"
    return re.compile(expression, re.DOTALL)


def casei(value: Any) -> Any:
    """Return a string, or the strings in a list, for comparison without regard to case (7.12.1)."""
    if isinstance(value, list):
        return [casei(member) for member in value]
    return value.casefold() if isinstance(value, str) else None


def unaccented(value: Any) -> Any:
    """Return a string, or the strings in a list, for comparison without regard to accents (7.12.2)."""
    if isinstance(value, list):
        return [unaccented(member) for member in value]
    if not isinstance(value, str):
        return None
    return "".join(c for c in unicodedata.normalize("NFKD", value) if not unicodedata.combining(c))


def _calculated(calculate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def calculation(one: Any, other: Any) -> Any:
        if not (_is_number(one) and _is_number(other)):
            return None
        try:
            found = calculate(float(one), float(other))
        except (ArithmeticError, ValueError):
            return None
        return found if isinstance(found, float) and math.isfinite(found) else None

    return calculation


ARITHMETIC: Final = {
    "+": _calculated(operator.add),
    "-": _calculated(operator.sub),
    "*": _calculated(operator.mul),
    "/": _calculated(operator.truediv),
    "^": _calculated(operator.pow),
    "%": _calculated(math.fmod),
    "div": _calculated(lambda a, b: float(math.trunc(a / b))),
}
"""The operators of 7.14 in double precision. `%` has the sign of the dividend, `div` rounds towards zero."""


def _includes(array: list[Any], member: Any) -> bool:
    return contained(member, array) is True


def _superset(one: list[Any], other: list[Any]) -> bool:
    return all(_includes(one, member) for member in other)


ARRAYS: Final[dict[str, Callable[[list[Any], list[Any]], bool]]] = {
    "a_contains": _superset,
    "a_containedby": lambda a, b: _superset(b, a),
    "a_equals": lambda a, b: _superset(a, b) and _superset(b, a),
    "a_overlaps": lambda a, b: any(_includes(a, member) for member in b),
}
"""The operators of 7.13. Arrays are sets: order and repetitions do not matter."""

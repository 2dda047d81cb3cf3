"""Time as requests write it: moments, ranges, ISO 8601 durations, and a range cut into intervals."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from stacpull_replicas.sentinelhub.refusals import Refusal, bad_payload

_DURATION = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?)?", re.ASCII
)
BEHAVIOURS = ("SKIP", "SHORTEN", "EXTEND")
_MOST = 10_000


@dataclass(frozen=True)
class Interval:
    """From a moment up to, not including, another."""

    start: datetime
    end: datetime

    def document(self) -> dict[str, str]:
        """As replies write it."""
        return {"from": written(self.start), "to": written(self.end)}


def written(moment: datetime) -> str:
    """A moment as `2023-11-02T00:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment_of(text: Any, parameter: str) -> datetime:
    """Read a moment or a date; without a zone it is UTC. Raises Refusal."""
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise bad_payload(f"Invalid date: {text}", parameter) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Step:
    """A duration: months, and what has a fixed length beside them."""

    months: int
    rest: timedelta

    @classmethod
    def read(cls, text: Any) -> Step:
        """Read an ISO 8601 duration of whole days or more. Raises Refusal."""
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        years, months, weeks, days, hours, minutes = (
            (int(part or 0) for part in match.groups()) if match else [0] * 6
        )
        step = cls(12 * years + months, timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes))
        if not step.months and step.rest < timedelta(days=1):
            raise _not_a_step(text)
        return step

    def after(self, start: datetime, times: int) -> datetime:
        """The moment so many steps after a start; a month's last day stays within the month."""
        month = start.month - 1 + self.months * times
        year, month = start.year + month // 12, month % 12 + 1
        day = min(start.day, calendar.monthrange(year, month)[1])
        return start.replace(year=year, month=month, day=day) + self.rest * times


def _not_a_step(text: Any) -> Refusal:
    return bad_payload(f"Invalid aggregation interval: {text}", "aggregation->aggregationInterval->of")


def cut_up(whole: Interval, step: Step, behaviour: str) -> Iterator[Interval]:
    """The intervals of a range; what becomes of a last one that is not whole is told by `behaviour`."""
    start = whole.start
    for number in range(1, _MOST):
        if start >= whole.end:
            return
        end = step.after(whole.start, number)
        if end > whole.end:
            if behaviour == "SHORTEN":
                yield Interval(start, whole.end)
            elif behaviour == "EXTEND":
                yield Interval(start, end)
            return
        yield Interval(start, end)
        start = end

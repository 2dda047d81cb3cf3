"""Statistics by day: each day is requested once and stored; requests that are too large are halved.

The key of a day depends on its area, its tile and the creation time of the tile, but not on the request. So a
longer period, or the next run after a stop or a failure, requests only the missing days.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Final, NamedTuple

import msgspec

from stacpull.models import FailureKind
from stacpull.net.transport import TransferError
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.hub.hub_client import Hub
from stacpull_trace.hub.replies import IntervalStatistics
from stacpull_trace.indices import DEFAULT, SCENES
from stacpull_trace.question import TraceQuestion
from stacpull_trace.request_plan import PlannedRequest


class Summary(msgspec.Struct, frozen=True, array_like=True):
    """Statistics of a band over its valid pixels; the figures are None if there are none."""

    pixels: int = 0
    min: float | None = None
    max: float | None = None
    mean: float | None = None
    st_dev: float | None = None


class Count(msgspec.Struct, frozen=True):
    samples: int = 0
    """Pixels requested."""
    no_data: int = 0
    """Masked pixels: cloud, no data, and, as the service counts them, outside of the requested geometry."""
    scenes: Mapping[int, int] = {}
    """Valid pixels by the value of the scene mask."""
    outside: int = 0
    """Valid pixels whose value is not an index."""
    value: Summary = Summary()
    median: float | None = None
    """The median of the scene mask as the service computes it, if requested."""
    error: str | None = None
    """The reason why there are no counts, as part of a sentence."""

    @property
    def valid(self) -> int:
        return self.samples - self.no_data

    @property
    def counted(self) -> int:
        return sum(self.scenes.values()) + self.outside

    @property
    def agrees(self) -> bool:
        """True if the histogram holds exactly the valid pixels."""
        return self.counted == self.valid

    def inside(self, pixels: int) -> Count:
        """Return the counts of a geometry of so many pixels, without the masked pixels outside of it."""
        outside = min(max(self.samples - pixels, 0), self.no_data)
        return msgspec.structs.replace(self, samples=self.samples - outside, no_data=self.no_data - outside)


EMPTY = Count()
"""The counts of a day without data."""


def count_of(interval: IntervalStatistics) -> Count:
    """Return the counts of an interval. It never raises; `error` says what is missing."""
    if interval.error is not None:
        more = f": {interval.error.message}" if interval.error.message else ""
        return Count(error=f"the service answers {interval.error.kind}{more}")
    value, scenes = (
        next(iter(interval.outputs.get(output, {}).values()), None) for output in (DEFAULT, SCENES)
    )
    if value is None or scenes is None:
        missing = DEFAULT if value is None else SCENES
        return Count(error=f"the reply has no output {missing}")
    histogram = scenes.histogram
    pixels = {round(b.low): b.count for b in histogram.bins if b.count} if histogram else {}
    outside = histogram.underflow + histogram.overflow if histogram else 0
    summary, valid = Summary(), value.sample_count - value.no_data_count
    if valid > 0 and value.mean is not None:
        summary = Summary(valid, value.min, value.max, value.mean, value.st_dev)
    median = next(iter((scenes.percentiles or {}).values()), None)
    return Count(scenes.sample_count, scenes.no_data_count, pixels, outside, summary, median)


def merged(counts: Iterable[Count]) -> Count:
    parts = list(counts)
    scenes: Counter[int] = Counter()
    for count in parts:
        scenes.update(count.scenes)
    errors = list(dict.fromkeys(count.error for count in parts if count.error is not None))
    return Count(
        sum(count.samples for count in parts),
        sum(count.no_data for count in parts),
        dict(scenes),
        sum(count.outside for count in parts),
        sum_of([count.value for count in parts]),
        parts[0].median if len(parts) == 1 else None,
        "; ".join(errors) or None,
    )


def sum_of(summaries: Sequence[Summary]) -> Summary:
    """Return the statistics over all pixels of these (Chan et al. 1983: parallel population variance)."""
    valid = [s for s in summaries if s.pixels and s.mean is not None]
    if len(valid) < 2:  # noqa: PLR2004 - the sum of one is exactly that one
        return valid[0] if valid else Summary()
    pixels = sum(s.pixels for s in valid)
    mean = math.fsum(s.pixels * (s.mean or 0.0) for s in valid) / pixels
    spread = math.fsum(s.pixels * ((s.st_dev or 0.0) ** 2 + ((s.mean or 0.0) - mean) ** 2) for s in valid)
    return Summary(
        pixels,
        min((s.min for s in valid if s.min is not None), default=None),
        max((s.max for s in valid if s.max is not None), default=None),
        mean,
        math.sqrt(spread / pixels),
    )


_TOO_MUCH: Final = frozenset({FailureKind.STALLED, FailureKind.SERVER, FailureKind.OVERLONG})
"""Failures that a shorter period may avoid."""
_MAX_FAILURES: Final = 16
"""Consecutive failed requests after which the service counts as unavailable. Halving a year down to its
first day takes nine; the next request then shows whether only that day fails.
"""


class _FailedRequest(NamedTuple):
    """The reason why a request failed; `divide` is True if its halves may succeed."""

    reason: str
    divide: bool


class DayCounts:
    def __init__(
        self,
        service: Hub,
        question: TraceQuestion,
        answers: AnswerStore,
        created: Mapping[str, str],
        stopped: Callable[[], bool],
    ) -> None:
        self._service = service
        self._question = question
        self._answers = answers
        self._created = created
        self._stopped = stopped

    async def of(self, request: PlannedRequest) -> dict[date, Count]:
        """Return the counts of the days with a tile or valid pixels; after a stop, only of some."""
        keys = request.keys(self._created)
        kept = await self._answers.get_all(keys.values())
        stored = {day: kept[key][0] for day, key in keys.items() if key in kept}
        before = {day: msgspec.convert(one, Count, str_keys=True) for day, one in stored.items()}
        counts = {day: count for day, count in before.items() if count.error is None}
        for part in request.missing(counts):
            counts |= await self._fetch(part, keys, again=before.keys() - counts.keys())
        return counts

    async def _fetch(
        self, request: PlannedRequest, keys: Mapping[date, str], again: set[date]
    ) -> dict[date, Count]:
        """Request all days of `request`. A single failed day is retried once, unless it is in `again`."""
        counts: dict[date, Count] = {}
        waiting, failures = [request], 0
        while waiting and not self._stopped():
            part = waiting.pop()
            result = await self._once(part)
            if not isinstance(result, _FailedRequest):
                failures = 0
                counts |= result
                await self._answers.put_all(
                    {
                        keys[day]: (msgspec.to_builtins(count, str_keys=True), count.error is None)
                        for day, count in result.items()
                        if day in keys
                    }
                )
                failed = {day for day in part.tiles if result[day].error is not None}
                repeated = set() if len(failed) == len(part.tiles) > 1 else failed - again
                again |= repeated
                waiting += [part.on([day]) for day in sorted(repeated, reverse=True)]
                continue
            failures += 1
            if failures == _MAX_FAILURES:
                return counts | _failed([part, *waiting], result.reason)
            if result.divide and len(part.tiles) > 1:
                waiting += reversed(part.halves())
            else:
                counts |= _failed([part], result.reason)
        return counts

    async def _once(self, request: PlannedRequest) -> dict[date, Count] | _FailedRequest:
        try:
            reply = await self._service.statistics(self._question.request(request))
        except TransferError as error:
            failure = error.failure
            return _FailedRequest(failure.message.rstrip("."), divide=failure.kind in _TOO_MUCH)
        if reply.error is not None:
            reason = f"the service answers {reply.error.kind} {reply.error.message}".strip()
            return _FailedRequest(reason, divide=True)
        received = {result.interval.start.date(): count_of(result) for result in reply.intervals}
        expected = {day: received.get(day, EMPTY) for day in request.tiles}
        return expected | {day: count for day, count in received.items() if count.counted}


def _failed(requests: Iterable[PlannedRequest], reason: str) -> dict[date, Count]:
    return {day: Count(error=reason) for request in requests for day in request.tiles}

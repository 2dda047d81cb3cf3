"""Statistics by day: each day is requested once and stored; requests that are too large are halved.

The key of a day depends on its area, its tile and the creation time of the tile, but not on the request. So a
longer period, or the next run after a stop or a failure, requests only the missing days.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Final, NamedTuple, Protocol

from stacpull.models import FailureKind
from stacpull.net.transport import TransferError
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.counts import EMPTY, Count, count_of
from stacpull_trace.hub.replies import StatisticsReply
from stacpull_trace.hub.statistics_request import StatisticsRequest
from stacpull_trace.question import TraceQuestion
from stacpull_trace.request_plan import PlannedRequest

_TOO_MUCH: Final = frozenset({FailureKind.STALLED, FailureKind.SERVER, FailureKind.OVERLONG})
"""Failures that a shorter period may avoid."""
_MOST_FAILURES: Final = 16
"""Consecutive failed requests after which the service counts as unavailable. Halving a year down to its
first day takes nine; the next request then shows whether only that day fails.
"""


class Counting(Protocol):
    """The part of the service that is used here."""

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        """Return the statistics of an area over a period."""
        ...


class _FailedRequest(NamedTuple):
    """The reason why a request failed; `divide` is True if its halves may succeed."""

    reason: str
    divide: bool


class DayCounts:
    """Returns the counts of requests by day, from the stored answers or from the service."""

    def __init__(
        self,
        service: Counting,
        question: TraceQuestion,
        answers: AnswerStore,
        created: Mapping[str, str],
        stopped: Callable[[], bool],
    ) -> None:
        self.requests = 0
        """Requests sent."""
        self._service = service
        self._question = question
        self._answers = answers
        self._created = created
        self._stopped = stopped

    async def of(self, request: PlannedRequest) -> dict[date, Count]:
        """Return the counts of the days with a tile or valid pixels; after a stop, only of some."""
        keys = request.keys(self._created)
        kept = await self._answers.get_all(keys.values())
        before = {day: Count.from_json(kept[key][0]) for day, key in keys.items() if key in kept}
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
            one = waiting.pop()
            result = await self._once(one)
            if not isinstance(result, _FailedRequest):
                failures = 0
                counts |= result
                await self._keep(result, keys)
                repeated = _failed_alone(one, result) - again
                again |= repeated
                waiting += [one.on([day]) for day in sorted(repeated, reverse=True)]
                continue
            failures += 1
            if failures == _MOST_FAILURES:
                return counts | _failed([one, *waiting], result.reason)
            if result.divide and len(one.tiles) > 1:
                waiting += reversed(one.halves())
            else:
                counts |= _failed([one], result.reason)
        return counts

    async def _once(self, request: PlannedRequest) -> dict[date, Count] | _FailedRequest:
        self.requests += 1
        try:
            reply = await self._service.statistics(self._question.request(request))
        except TransferError as error:
            failure = error.failure
            return _FailedRequest(failure.message.rstrip("."), divide=failure.kind in _TOO_MUCH)
        if reply.error is not None:
            reason = f"the service answers {reply.error.kind} {reply.error.message}".strip()
            return _FailedRequest(reason, divide=True)
        received = {found.interval.start.date(): count_of(found) for found in reply.intervals}
        expected = {day: received.get(day, EMPTY) for day in request.tiles}
        return expected | {day: count for day, count in received.items() if count.counted}

    async def _keep(self, counts: Mapping[date, Count], keys: Mapping[date, str]) -> None:
        await self._answers.put_all(
            {
                keys[day]: (count.to_json(), count.error is None)
                for day, count in counts.items()
                if day in keys
            }
        )


def _failed(some: Iterable[PlannedRequest], reason: str) -> dict[date, Count]:
    return {day: Count(error=reason) for request in some for day in request.tiles}


def _failed_alone(request: PlannedRequest, counts: Mapping[date, Count]) -> set[date]:
    failed = {day for day in request.tiles if counts[day].error is not None}
    return set() if len(failed) == len(request.tiles) > 1 else failed

"""What the service counts, day by day: asked for once, kept by the day, in halves where it is too much.

A day is kept under its place, tile and when the tile was made, whatever request brought it. So a longer
period asks only for the days that lack, and so does the next run after a stop or a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Final, NamedTuple, Protocol

from stacpull.models import FailureKind
from stacpull.net.transport import TransferError
from stacpull_trace.answer_store import AnswerStore
from stacpull_trace.asks import Ask
from stacpull_trace.counts import EMPTY, Count, count_of
from stacpull_trace.hub.replies import StatisticsReply
from stacpull_trace.hub.statistics_request import StatisticsRequest
from stacpull_trace.question import TraceQuestion

__all__ = ["Counting", "DayCounts"]

_TOO_MUCH: Final = frozenset({FailureKind.STALLED, FailureKind.SERVER, FailureKind.OVERLONG})
"""Failures that a shorter period may not have."""
_PATIENCE: Final = 16
"""Requests that fail one after the other before the service is taken to be away. Halving a year down to the
first of its days takes nine; the next one then shows whether it was that day.
"""


class Counting(Protocol):
    """What is asked of the service here."""

    async def statistics(self, request: StatisticsRequest) -> StatisticsReply:
        """Return the statistics of an area over a period."""
        ...


class _Refused(NamedTuple):
    """Why a request brought nothing; `divide` if its halves may bring something."""

    reason: str
    divide: bool


class DayCounts:
    """AnswerStore requests by the day, from what is kept or from the service.

    Args:
        service: Who counts.
        question: What is asked of each pixel.
        answers: Where days are kept.
        made: By tile id, a word that changes when the tile does.
        stopped: HubQuestion before each request; True: no more of them.
    """

    def __init__(
        self,
        service: Counting,
        question: TraceQuestion,
        answers: AnswerStore,
        made: Mapping[str, str],
        stopped: Callable[[], bool],
    ) -> None:
        self.asked = 0
        """Requests sent."""
        self._service = service
        self._question = question
        self._answers = answers
        self._made = made
        self._stopped = stopped

    async def of(self, ask: Ask) -> dict[date, Count]:
        """Return the counts of the days of `ask` that have a tile or any valid pixel; after a stop, of some.

        Raises:
            CredentialsError, SourceError, UsageError: as the service says.
            DestinationError: answers cannot be kept.
        """
        keys = ask.keys(self._made)
        kept = await self._answers.get_all(keys.values())
        before = {day: Count.from_json(kept[key][0]) for day, key in keys.items() if key in kept}
        counts = {day: count for day, count in before.items() if count.error is None}
        for part in ask.lacking(counts):
            counts |= await self._asked(part, keys, again=before.keys() - counts.keys())
        return counts

    async def _asked(self, ask: Ask, keys: Mapping[date, str], again: set[date]) -> dict[date, Count]:
        """Ask for all days of `ask`; each that fails by itself once more, unless it is in `again`."""
        counts: dict[date, Count] = {}
        waiting, failures = [ask], 0
        while waiting and not self._stopped():
            one = waiting.pop()
            said = await self._once(one)
            if not isinstance(said, _Refused):
                failures = 0
                counts |= said
                await self._keep(said, keys)
                repeated = _by_themselves(one, said) - again
                again |= repeated
                waiting += [one.on([day]) for day in sorted(repeated, reverse=True)]
                continue
            failures += 1
            if failures == _PATIENCE:
                return counts | _failed([one, *waiting], said.reason)
            if said.divide and len(one.tiles) > 1:
                waiting += reversed(one.halves())
            else:
                counts |= _failed([one], said.reason)
        return counts

    async def _once(self, ask: Ask) -> dict[date, Count] | _Refused:
        """Make one request; return what it says of each day that has a tile or any valid pixel."""
        self.asked += 1
        try:
            reply = await self._service.statistics(self._question.request(ask))
        except TransferError as error:
            failure = error.failure
            return _Refused(failure.message.rstrip("."), divide=failure.kind in _TOO_MUCH)
        if reply.error is not None:
            reason = f"the service answers {reply.error.kind} {reply.error.message}".strip()
            return _Refused(reason, divide=True)
        said = {found.interval.start.date(): count_of(found) for found in reply.intervals}
        expected = {day: said.get(day, EMPTY) for day in ask.tiles}
        return expected | {day: count for day, count in said.items() if count.counted}

    async def _keep(self, counts: Mapping[date, Count], keys: Mapping[date, str]) -> None:
        await self._answers.put_all(
            {
                keys[day]: (count.to_json(), count.error is None)
                for day, count in counts.items()
                if day in keys
            }
        )


def _failed(some: Iterable[Ask], reason: str) -> dict[date, Count]:
    return {day: Count(error=reason) for ask in some for day in ask.tiles}


def _by_themselves(ask: Ask, counts: Mapping[date, Count]) -> set[date]:
    """Return the days that failed while others did not; if all of several failed, it was the service."""
    failed = {day for day in ask.tiles if counts[day].error is not None}
    return set() if len(failed) == len(ask.tiles) > 1 else failed

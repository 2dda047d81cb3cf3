"""Limits on the requests at once per host, pauses for hosts that throttle or do not answer, and rates.

The limit starts at 16 and doubles after each round, then grows by an eighth, only while all permits are in
use. It falls by a quarter if first bytes come twice as late as in the best round: the host has a queue. It
falls by half if the host throttles or breaks connections.

    state       entered when                        effect                          left when
    throttled   the host throttles                  closed for 1, 2, 4 … 60 s, or   the pause ends; an answer
                                                    as it asked; half the limit     makes the next one short
    overloaded  3 failures more than successes      half the limit; these failures  as many successes as
                within 30 s of an answer            do not count                    failures
    silent      20 requests in a row unanswered     as throttled; these failures    an answer
                                                    do not count
    abandoned   silent for the whole patience;      closed, requests fail as DOWN;  an answer, no refusal, and
                50 assets in a row refused; or a    a try per minute                after the Retry-After
                Retry-After of over 15 minutes

Waiting can be cancelled at any point without losing a permit. No task may hold a permit while it waits for
another: with a limit of 4, four such workers would deadlock.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.errors import CredentialsError
from stacpull.events import HostProgress, Notice
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import RetryPolicy, asks_to_wait
from stacpull.net.transport import Purpose, TransferError

REFUSALS = frozenset({200, 401, 403})  # statuses; 200 is a web page, perhaps a login
MAX_REFUSALS = 50  # in a row: the host is abandoned
MAX_UNANSWERED = 20  # requests in a row: the host counts as silent

_FIRST_LIMIT, _SMALL_LIMIT = 16, 4
_ALL_IN_USE = 0.9
_OWN_DELAY_SECONDS = 0.025  # that this process may add to the time to the first byte
_CEILING_SECONDS, _CEILING_PAUSES = 60.0, 40.0
_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0
_BYTES_PER_ANSWER = 128 * 1024  # a long body counts as one more answer per this many bytes
_RECENT_SECONDS = 30.0  # after an answer, in which an unanswered request counts as overload
_OVERLOAD = 3  # unanswered minus answered requests from which the limit is lowered
_LONG_PAUSE = 30.0  # seconds of a pause from which a warning says that the run waits for a host
_MAX_RETRY_AFTER = RetryPolicy().max_wait


class WaitingRequest(Protocol):
    """An entry in the queue of a gate: a request of the fast path, or of a task (`_WaitingTask`)."""

    def is_cancelled(self) -> bool: ...

    def on_permit(self) -> None: ...

    def on_abandoned(self, error: TransferError) -> None:
        """Called instead of `on_permit` when the host is abandoned."""


class _WaitingTask(asyncio.Future[None]):
    def is_cancelled(self) -> bool:
        return self.done()

    def on_permit(self) -> None:
        self.set_result(None)

    def on_abandoned(self, error: TransferError) -> None:
        self.set_exception(error)


class GateSettings(NamedTuple):
    """What the gates of all hosts have in common. `notify` gets what the user should know."""

    clock: Clock
    maximum: int  # requests at once to a host
    is_fixed: bool = False
    """True if the user set the maximum: the limit starts there, and only failures of the host lower it."""
    patience: float = 120.0  # seconds without an answer after which a host is abandoned
    request_rate: float = 0.0  # requests that tasks send per second; 0 means no rate
    notify: Callable[[Notice], None] = lambda _: None


class Gate:
    """Limits the requests at once to one host, for one event loop."""

    def __init__(self, host: str, settings: GateSettings) -> None:
        self.host = host
        self._settings = settings
        self._clock, self.now = settings.clock, settings.clock.monotonic
        self._maximum = max(1, settings.maximum)
        self.limit = self._maximum if settings.is_fixed else min(_FIRST_LIMIT, self._maximum)
        self.in_use = 0
        self.closed_until = 0.0
        """The time, on the clock `now`, when a closed gate opens; 0 for an open gate (see `closed_for`)."""
        self._request_rate = Rate(settings.clock, settings.request_rate)
        self._queue: deque[WaitingRequest] = deque()
        self._bytes = 0
        self._refusals: dict[Purpose, int] = {"asset": 0, "document": 0}  # in a row
        self._is_long_wait_reported = False
        # Failures.
        self._pauses = self._unanswered = self._overload = 0
        self._silent_since = 0.0
        self._answered_at = self._lowered_at = -math.inf
        self._abandoned_for: Failure | None = None
        # The current round, and what is known from earlier ones.
        self._doubles = not settings.is_fixed
        self._quickest = math.inf
        self._ceiling, self._ceiling_until = 0, 0.0
        self._start_round(self.now())

    @property
    def is_needed(self) -> bool:
        """True if the gate is in use or closed, or the host has failed since its last answer."""
        is_used = self.in_use or self._queue or self._pauses or self._unanswered
        return bool(is_used or self.closed_for() or self._request_rate.free_at > self.now())

    def progress(self) -> HostProgress:
        wait = 0.0 if self._abandoned_for else self.closed_for()
        return HostProgress(self.host, self._bytes, self.in_use, self.limit, len(self._queue), wait)

    # Permits.

    def closed_for(self) -> float:
        if not self.closed_until:
            return 0.0
        now = self.now()
        if now < self.closed_until:
            return self.closed_until - now
        self.closed_until = 0.0
        self._start_round(now)
        return 0.0

    def is_full(self) -> bool:
        """Return True if a request has to wait: no permit is free, the gate is closed, or others wait."""
        return bool(self._queue) or self.in_use >= self.limit or self.closed_for() > 0

    def admit(self, request: WaitingRequest) -> None:
        """Give a request a permit now or when one is free, or tell it that the host is abandoned."""
        if self._abandoned_for is not None and self.closed_for():
            request.on_abandoned(TransferError(self._abandoned_for))
        else:
            self._queue.append(request)
            self._admit()

    async def acquire(self, purpose: Purpose = "asset") -> None:
        request = _WaitingTask()
        self.admit(request)
        try:
            await request
        except TransferError:
            if purpose == "asset" or self._refusals["asset"] < MAX_REFUSALS:
                raise
            self.in_use += 1  # only assets are refused
        except BaseException:
            if request in self._queue:
                self._queue.remove(request)
            elif not request.cancelled() and request.exception() is None:
                self.release()
            raise
        if self._request_rate.limit:
            try:
                await self._request_rate.spend()
            except BaseException:
                self.release()
                raise

    def release(self) -> None:
        self.in_use -= 1
        if self._queue:
            self._admit()

    def _admit(self) -> None:
        if self.closed_until and (seconds := self.closed_for()):
            if self._queue:
                self._clock.call_later(seconds, self._admit)
            return
        while self._queue and self.in_use < self.limit:
            request = self._queue.popleft()
            if not request.is_cancelled():
                self.in_use += 1
                request.on_permit()

    # Answers.

    def note_response(self, sent_at: float, size: int = 0) -> None:
        """Record a response to the request of `sent_at` with `size` bytes so far. Its body may still fail."""
        now = self.now()
        self._answered_at = now
        self._bytes += size
        if self._unanswered or self._pauses or self._overload or self._abandoned_for:
            self._pauses = self._unanswered = 0
            self._overload = max(0, self._overload - 1)
            if self._refusals["asset"] < MAX_REFUSALS and self.closed_for() <= _MAX_PAUSE:
                self._abandoned_for = None
        if sent_at >= self._round_began:  # an earlier request says nothing about the current limit
            self._answers += 1
            self._waited += now - sent_at
            self._count_in_round(now)

    def finish_request(self, sent_at: float, size: int, *, continues: bool = False) -> bool:
        """Record a complete response, and release its permit.

        If it is a redirect that `continues` to this host, perhaps to a login, it does not reset the number of
        refusals, and the next request may keep the permit: return True.
        """
        self.note_response(sent_at, size)
        if not continues:
            self.reset_refusals()
        elif not self.closed_until and self.in_use <= self.limit:
            return True
        self.release()
        return False

    def note_bytes(self, size: int) -> None:
        self._bytes += size
        if size >= _BYTES_PER_ANSWER:
            self._count_in_round(self.now())

    def reset_refusals(self, purpose: Purpose = "asset") -> None:
        self._refusals[purpose] = 0

    def note_refusal(self, failure: Failure, purpose: Purpose = "asset") -> Failure:
        """Count a refusal; return its failure, or DOWN if the host is abandoned because it refuses assets.

        Refused documents count apart, because access to an item says nothing about access to its assets. If
        too many are refused, the walk ends with a `CredentialsError`.
        """
        self._refusals[purpose] += 1
        if self._refusals[purpose] < MAX_REFUSALS:
            return failure
        is_page = failure.status not in {401, 403}
        how = "with a web page or an error instead, perhaps a login" if is_page else f"({failure.status})"
        text = f"{self.host} refused {MAX_REFUSALS} requests in a row {how}: check the credentials."
        if purpose == "document":
            raise CredentialsError(text)
        return self._abandon(replace(failure, message=text), _MAX_PAUSE)

    # The limit.

    def _start_round(self, now: float) -> None:
        self._round_began = now
        self._in_round = self._answers = 0
        self._waited = 0.0

    def _count_in_round(self, now: float) -> None:
        """Count an answer, or a piece of a long body. After as many as there are permits, the round ends."""
        self._in_round += 1
        if self._in_round < self.limit:
            return
        limit_before = self.limit
        mean_wait = self._waited / self._answers if self._answers else 0.0
        if self._answers:
            self._quickest = min(self._quickest, mean_wait)
        if self.in_use >= _ALL_IN_USE * self.limit:
            if mean_wait > 2 * self._quickest + _OWN_DELAY_SECONDS and not self._settings.is_fixed:
                self._doubles = False
                self._quickest *= 1.02  # the route may have become longer
                self.limit = max(min(self.limit, _SMALL_LIMIT), self.limit * 3 // 4)
            else:
                grown = self.limit * 2 if self._doubles else self.limit + max(1, self.limit // 8)
                highest = self._maximum if now >= self._ceiling_until else self._ceiling - 1
                self.limit = max(self.limit, min(grown, highest))
        self._start_round(now)
        if self.limit > limit_before:
            self._admit()

    def _lower(self, pause: float = 0.0) -> None:
        now = self.now()
        self._ceiling = max(2, self.limit)
        self._ceiling_until = now + max(_CEILING_SECONDS, _CEILING_PAUSES * pause)
        self._doubles = False
        self.limit = max(1, self.limit // 2)
        self._start_round(now)
        if pause > 0:
            self._abandoned_for, self.closed_until = None, max(self.closed_until, now + pause)

    # Failures.

    @property
    def _next_pause(self) -> float:
        return min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._pauses, 16))

    def note_throttling(self, failure: Failure, purpose: Purpose = "asset") -> Failure:
        """Close the gate after the host throttled, for as long as it asked or twice as long as before.

        Return the failure, or DOWN for an asset if the host asks to wait for too long.
        """
        retry_after = failure.retry_after
        if retry_after is not None and retry_after > _MAX_RETRY_AFTER:
            text = asks_to_wait(self.host, retry_after, self._clock)
            down = self._abandon(replace(failure, message=text), retry_after)
            return down if purpose == "asset" else failure
        if self.closed_for():  # the request was sent before the pause began
            self.closed_until = max(self.closed_until, self.now() + (retry_after or 0.0))
            return failure
        pause = self._next_pause if retry_after is None else retry_after
        self._pauses += 1
        self._lower(pause)
        text = f"{self.host} throttles: at most {self.limit} at once, after a pause of {pause:.0f} s."
        is_first_long = pause >= _LONG_PAUSE and not self._is_long_wait_reported
        self._is_long_wait_reported |= is_first_long
        self._settings.notify(Notice("warning" if is_first_long else "debug", text))
        return failure

    def note_no_answer(self, sent_at: float, failure: Failure) -> Failure:
        """Record that a request, which still holds its permit, got no answer.

        Return its failure: DOWN if the host is abandoned, THROTTLED if it caused the failure.
        """
        now = self.now()
        if not self._unanswered:
            self._silent_since = now
        self._unanswered += 1
        if self._unanswered >= MAX_UNANSWERED:
            return self._note_silence(now, failure)
        if now - self._answered_at > _RECENT_SECONDS:
            return failure
        if sent_at >= self._lowered_at:  # an earlier request says nothing against the lower limit
            if self.in_use <= 1:
                return failure
            self._overload += 1
            if self._overload >= _OVERLOAD:
                self._overload, self._lowered_at = 0, now
                self._lower()
            elif now - self._lowered_at > _RECENT_SECONDS:
                return failure
        return replace(failure, kind=FailureKind.THROTTLED)

    def _note_silence(self, now: float, failure: Failure) -> Failure:
        is_closed = self.closed_for() > 0
        patience_left = self._silent_since + self._settings.patience - now
        if patience_left > 0:
            if not is_closed:
                if not self._pauses:
                    how_long = f"retrying for {self._settings.patience:.0f} s"
                    text = f"{self.host} does not answer: {how_long}. {failure.message}"
                    self._settings.notify(Notice("warning", text))
                pause = min(self._next_pause, patience_left)
                self._pauses += 1
                self._lower(pause)
            return replace(failure, kind=FailureKind.THROTTLED, retry_after=0.0)
        text = f"{self.host} has not answered for {self._settings.patience:.0f} s. {failure.message}"
        return self._abandon(replace(failure, message=text), 0.0 if is_closed else _MAX_PAUSE)

    def _abandon(self, failure: Failure, pause: float) -> Failure:
        """Close the gate for `pause` seconds. Return the failure as DOWN; waiting requests get the same."""
        if self._abandoned_for is None:
            text = f"{failure.message} It is not asked again for now; other hosts continue."
            self._settings.notify(Notice("warning", text))
        self._abandoned_for = replace(failure, kind=FailureKind.DOWN, retryable=False, retry_after=None)
        self.closed_until = max(self.closed_until, self.now() + pause)
        waiting, self._queue = self._queue, deque()
        for request in waiting:
            if not request.is_cancelled():
                request.on_abandoned(TransferError(self._abandoned_for))
        return self._abandoned_for


class Rate:
    """At most `limit` bytes or requests per second; 0 for no limit. They wait for those before them.

    What was not used in the last `saved_seconds` may be used later, so that late wake-ups do not add up.
    """

    def __init__(self, clock: Clock, limit: float = 0.0, saved_seconds: float = 0.0) -> None:
        self.limit = limit
        self.free_at = 0.0
        self._clock = clock
        self._saved_seconds = saved_seconds

    async def spend(self, units: int = 1) -> None:
        now = self._clock.monotonic()
        start = max(self.free_at, now - self._saved_seconds)
        self.free_at = start + units / self.limit
        if start > now:
            await self._clock.sleep(start - now)

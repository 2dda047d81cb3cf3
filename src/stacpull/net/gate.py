"""Limits on concurrent requests per host, pauses for hosts that throttle or do not answer, and rates.

A cancelled wait loses no permit. No task may wait for one while it holds another: tasks could deadlock.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, quantity
from stacpull.events import HostProgress, Notice
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import MAX_WAIT, wait_message
from stacpull.net.status import NO_ANSWER
from stacpull.net.transport import Purpose, TransferError

MAX_REFUSALS = 50  # in a row: the host counts as down
MAX_UNANSWERED = 20  # requests in a row: the host counts as silent

FIRST_LIMIT = 16
_SMALL_LIMIT = 4  # a queue at the host does not lower the limit further
_MOSTLY_IN_USE = 0.9
_OWN_DELAY_SECONDS = 0.025  # that this process may add to the time to the first byte
_CEILING_SECONDS = 60.0
_CEILING_PAUSES = 40.0
_BYTES_PER_RESPONSE = 128 * 1024  # a long body counts as one more response per this many bytes
_FIRST_PAUSE = 1.0
_MAX_PAUSE = 60.0
_RECENT_SECONDS = 30.0  # after a response, in which an unanswered request counts as overload
_OVERLOAD = 3  # unanswered minus answered requests from which the limit is lowered
_LONG_PAUSE = 8.0  # seconds of a pause from which a warning says that the run waits for a host


class CongestionWindow:
    """The maximum of concurrent requests to a host (`limit`), adapted in rounds to its response times.

    It starts at 16 and doubles after each round, then grows by an eighth, only while nine tenths of the
    permits are in use. If first bytes take twice as long as in the best round, requests wait at the host, and
    the limit falls by a quarter. It is halved if the host throttles or is overloaded: a response came less
    than 30 s ago, but 3 more requests failed than succeeded. A host that then answers none may be down, so
    the limit stays until the next response. A user's limit is only halved (`is_fixed`).
    """

    def __init__(self, maximum: int, now: float, *, is_fixed: bool) -> None:
        self.limit = maximum if is_fixed else min(FIRST_LIMIT, maximum)
        self._maximum = maximum
        self._is_fixed = is_fixed
        self._doubles = not is_fixed
        self._best_wait = math.inf  # the lowest mean wait for the first byte of a round
        self._ceiling = 0
        self._ceiling_until = 0.0
        self._responded_at = -math.inf
        self._overload = 0
        self._overloaded_at = -math.inf
        self.start_round(now)

    def start_round(self, now: float) -> None:
        self._round_began = now
        self._responses = 0
        self._pieces = 0
        self._waited = 0.0

    def record_response(self, sent_at: float, now: float, in_use: int) -> bool:
        """Count a response, and return True if it made the limit grow."""
        self._responded_at = now
        if self._overload:
            self._overload -= 1
        if sent_at < self._round_began:  # an earlier request says nothing about the current limit
            return False
        self._responses += 1
        self._waited += now - sent_at
        is_round_over = self._responses + self._pieces >= self.limit
        return is_round_over and self._end_round(now, in_use)

    def record_piece(self, now: float, in_use: int) -> bool:
        """Count a piece of a long body, and return True if it made the limit grow."""
        self._pieces += 1
        is_round_over = self._responses + self._pieces >= self.limit
        return is_round_over and self._end_round(now, in_use)

    def record_no_response(self, sent_at: float, now: float, in_use: int) -> bool:
        """Return True if the host is probably overloaded. The first time, also halve the limit."""
        if now - self._responded_at > _RECENT_SECONDS:
            return False
        if min(sent_at, self._responded_at) < self._overloaded_at:  # it says nothing against the lower limit
            return True
        if in_use <= 1:
            return False
        self._overload += 1
        if self._overload >= _OVERLOAD:
            self._overload = 0
            self._overloaded_at = now
            self.halve(now)
        return now - self._overloaded_at <= _RECENT_SECONDS

    def _end_round(self, now: float, in_use: int) -> bool:
        limit_before = self.limit
        mean_wait = 0.0
        if self._responses:
            mean_wait = self._waited / self._responses
            self._best_wait = min(self._best_wait, mean_wait)
        if in_use >= _MOSTLY_IN_USE * limit_before:
            has_queue = mean_wait > 2 * self._best_wait + _OWN_DELAY_SECONDS  # at the host
            if has_queue and not self._is_fixed:
                self._doubles = False
                self._best_wait *= 1.02  # the route may have become longer
                self.limit = max(min(limit_before, _SMALL_LIMIT), limit_before * 3 // 4)
            else:
                growth = limit_before if self._doubles else max(1, limit_before // 8)
                highest = self._maximum if now >= self._ceiling_until else self._ceiling - 1
                self.limit = max(limit_before, min(limit_before + growth, highest))
        self.start_round(now)
        return self.limit > limit_before

    def halve(self, now: float, pause: float = 0.0) -> None:
        self._ceiling = max(2, self.limit)
        self._ceiling_until = now + max(_CEILING_SECONDS, _CEILING_PAUSES * pause)
        self._doubles = False
        self.limit = max(1, self.limit // 2)
        self.start_round(now)


class WaitingRequest(Protocol):
    """An entry in the queue of a gate: a request of the fast path, or of a task (`_WaitingTask`)."""

    purpose: Purpose

    def is_cancelled(self) -> bool: ...
    def on_permit(self) -> None: ...
    def on_down(self, failure: Failure) -> None: ...  # instead of `on_permit`, if the host is down


class _WaitingTask(asyncio.Future[None]):
    def __init__(self, purpose: Purpose) -> None:
        super().__init__()
        self.purpose = purpose

    def is_cancelled(self) -> bool:
        return self.done()

    def on_permit(self) -> None:
        self.set_result(None)

    def on_down(self, failure: Failure) -> None:
        self.set_exception(TransferError(failure))


class GateSettings(NamedTuple):
    clock: Clock
    maximum: int  # requests at once to a host, at least 1
    is_fixed: bool = False  # True if the number is always the maximum
    silence_limit: float = 120.0  # seconds without an answer after which a host is down
    request_rate: float = 0.0  # requests that tasks send per second; 0 means no rate
    on_notice: Callable[[Notice], None] = lambda _: None


class Gate:
    """Gives permits for requests to one host, for one event loop. Requests without one wait in a queue.

    throttles   The host asked for fewer requests. The gate is closed for the time that it stated, or else
                for 1 s, then 2 s, 4 s and so on, up to 60 s. A response ends this series.
    silent      It did not answer 20 requests in a row. The gate is closed as for a host that throttles, then
                passes one request at a time until a response.
    down        It was silent for too long (`silence_limit`), refused 50 assets in a row, or asked to wait
                for over 15 minutes. Requests fail as DOWN for a minute, or for the time that it asked for;
                then they are sent again, and the first failure closes the gate again.

    If a host throttles, is silent or overloaded, failures do not count as retries.
    """

    def __init__(self, host: str, settings: GateSettings) -> None:
        self.host = host
        self.now = settings.clock.monotonic
        self.window = CongestionWindow(settings.maximum, self.now(), is_fixed=settings.is_fixed)
        self.in_use = 0
        self._settings = settings
        self._closed_until = 0.0  # by `now`; 0 for a gate that was never closed
        self._why_down: Failure | None = None
        self._silent_since = 0.0
        self._unanswered = 0  # in a row
        self._pauses = 0  # in a row
        self._refusals: dict[Purpose, int] = {"asset": 0, "document": 0}  # in a row
        self._refused_until = 0.0  # after too many refusals: until then, only documents are requested
        self._request_limiter = RateLimiter(settings.clock, settings.request_rate)
        self._queue: deque[WaitingRequest] = deque()
        self._has_timer = False  # for the end of a pause, while requests wait
        self._bytes = 0
        self._is_long_wait_reported = False

    @property
    def is_needed(self) -> bool:
        """True if the gate is in use or closed, or the host has failed since its last response."""
        is_used = self.in_use or self._queue or self._pauses or self._unanswered
        free_at = max(self._request_limiter.free_at, self._refused_until)
        return bool(is_used or self.closed_for() or free_at > self.now())

    def progress(self) -> HostProgress:
        wait = 0.0 if self._why_down else self.closed_for()
        return HostProgress(self.host, self._bytes, self.in_use, self.window.limit, len(self._queue), wait)

    def closed_for(self) -> float:
        return max(0.0, self._closed_until - self.now()) if self._closed_until else 0.0

    def _limit(self) -> int:
        return self.window.limit if self._unanswered < MAX_UNANSWERED else 1

    def is_full(self) -> bool:
        """Return True if a request has to wait: no permit is free, the gate is closed, or others wait."""
        return bool(self._queue) or self.in_use >= self._limit() or self.closed_for() > 0

    def may_keep_permit(self) -> bool:  # for another request
        return self.in_use <= self._limit() and self._why_down is None and not self.closed_for()

    def enqueue(self, request: WaitingRequest) -> None:
        """Give a request a permit now or when one is free, or tell it that the host is down."""
        if self._why_down is not None and (
            self.closed_for() or (request.purpose == "asset" and self.now() < self._refused_until)
        ):
            request.on_down(self._why_down)
        else:
            self._queue.append(request)
            if self.in_use < self.window.limit:  # otherwise `release` continues
                self._drain_queue()

    async def acquire(self, purpose: Purpose) -> None:
        request = _WaitingTask(purpose)
        self.enqueue(request)
        try:
            await request
            await self._request_limiter.spend()
        except BaseException:
            if request in self._queue:
                self._queue.remove(request)
            elif not request.cancelled() and request.exception() is None:
                self.release()
            raise

    def release(self) -> None:
        self.in_use -= 1
        if self._queue:
            self._drain_queue()

    @contextmanager
    def lend_permit(self) -> Iterator[None]:
        self.release()
        try:
            yield
        finally:
            self.in_use += 1  # for a moment, it may be one too many: `release` follows

    def _drain_queue(self) -> None:
        if seconds := self.closed_for():
            if self._queue and not self._has_timer:
                self._has_timer = True
                self._settings.clock.call_later(seconds, self._on_timer)
            return
        limit = self._limit()
        while self._queue and self.in_use < limit:
            request = self._queue.popleft()
            if not request.is_cancelled():
                self.in_use += 1
                request.on_permit()

    def _on_timer(self) -> None:
        self._has_timer = False
        self._drain_queue()

    def record_response(self, sent_at: float, size: int = 0) -> None:
        """Record a response to the request of `sent_at` with `size` bytes so far. Its body may still fail."""
        now = self.now()
        self._bytes += size
        self._pauses = 0
        was_silent = self._unanswered >= MAX_UNANSWERED
        self._unanswered = 0
        if self._why_down and self._refusals["asset"] < MAX_REFUSALS and self.closed_for() <= _MAX_PAUSE:
            self._why_down = None
        if self.window.record_response(sent_at, now, self.in_use) or was_silent:
            self._drain_queue()

    def record_bytes(self, size: int) -> None:
        self._bytes += size
        if size >= _BYTES_PER_RESPONSE and self.window.record_piece(self.now(), self.in_use):
            self._drain_queue()

    def reset_refusals(self, purpose: Purpose = "asset") -> None:
        self._refusals[purpose] = 0

    def count_refusal(self, failure: Failure, purpose: Purpose) -> Failure:
        """Count a refusal. Return its failure, or DOWN if the host has refused too many assets."""
        # counted by purpose: access to an item says nothing about access to its assets
        self._refusals[purpose] += 1
        if self._refusals[purpose] < MAX_REFUSALS:
            return failure
        how = f"({failure.status})"
        if failure.status not in {401, 403}:
            how = "with an error or a web page, perhaps a login page"
        text = f"{self.host} refused {MAX_REFUSALS} requests in a row {how}: check the credentials."
        if purpose == "document":
            raise CredentialsError(text)
        self._refused_until = self.now() + _MAX_PAUSE
        return self._mark_down(replace(failure, message=text))

    def record_failure(self, sent_at: float, failure: Failure, purpose: Purpose) -> Failure:
        """Return the failure of a request: DOWN or THROTTLED if the host is the cause."""
        match failure.kind:
            case FailureKind.THROTTLED:
                return self.record_throttling(failure, purpose)
            case FailureKind.NETWORK | FailureKind.STALLED if failure.retryable:
                return self.record_silence(sent_at, failure)
            case FailureKind.SERVER if failure.status in NO_ANSWER:
                return self.record_silence(sent_at, failure)
        if failure.status is not None:
            self.record_response(-math.inf)  # the time of an error says nothing about the load of its host
        return failure

    def record_throttling(self, failure: Failure, purpose: Purpose) -> Failure:
        """Close the gate. Return the failure, or DOWN for an asset if the host asks to wait for too long."""
        retry_after = failure.retry_after
        if retry_after is not None and retry_after > MAX_WAIT:
            text = wait_message(self.host, retry_after, self._settings.clock)
            down = self._mark_down(replace(failure, message=text), retry_after)
            return down if purpose == "asset" else failure
        if self.closed_for():  # the request was sent before the pause began
            self._close(retry_after or 0.0)
            return failure
        pause = self._next_pause() if retry_after is None else retry_after
        self._why_down = None
        self.window.halve(self.now(), pause)
        self._close(pause)
        text = f"{self.host} is throttling: stacpull pauses for {pause:.0f} s, then sends up to "
        text += f"{quantity(self.window.limit, 'request')} at once."
        is_reported = pause >= _LONG_PAUSE and not self._is_long_wait_reported
        self._is_long_wait_reported |= is_reported
        self._settings.on_notice(Notice("warning" if is_reported else "debug", text))
        return failure

    def record_silence(self, sent_at: float, failure: Failure) -> Failure:
        now = self.now()
        if not self._unanswered:
            self._silent_since = now
        self._unanswered += 1
        if self._unanswered < MAX_UNANSWERED:
            is_overloaded = self.window.record_no_response(sent_at, now, self.in_use)
            return replace(failure, kind=FailureKind.THROTTLED) if is_overloaded else failure
        limit = self._settings.silence_limit
        seconds_left = self._silent_since + limit - now
        if seconds_left <= 0:
            text = f"{self.host} has not answered for {limit:.0f} s. {failure.message}"
            return self._mark_down(replace(failure, message=text), _MAX_PAUSE)
        if not self.closed_for():
            if not self._pauses:
                text = f"{self.host} does not answer: retrying for {limit:.0f} s. {failure.message}"
                self._settings.on_notice(Notice("warning", text))
            self._why_down = None
            self._close(min(self._next_pause(), seconds_left))
        return replace(failure, kind=FailureKind.THROTTLED, retry_after=0.0)

    def _next_pause(self) -> float:
        pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._pauses, 16))
        self._pauses += 1
        return pause

    def _close(self, seconds: float) -> None:
        self._closed_until = max(self._closed_until, self.now() + seconds)

    def _mark_down(self, failure: Failure, pause: float = 0.0) -> Failure:
        """Close the gate for `pause` seconds. Return the failure as DOWN; waiting requests get the same."""
        down = replace(failure, kind=FailureKind.DOWN, retry=False, retry_after=None)
        if self._why_down is None:
            text = f"{failure.message} Requests to it are suspended; other hosts continue."
            self._settings.on_notice(Notice("warning", text))
        self._why_down = down
        self._close(pause)
        waiting = list(self._queue)
        self._queue.clear()
        for request in waiting:
            if not request.is_cancelled():
                self.enqueue(request)
        return down


class RateLimiter(msgspec.Struct, eq=False):
    clock: Clock
    limit: float = 0.0  # bytes or requests per second; 0 for no limit
    saved_seconds: float = 0.0
    free_at: float = 0.0

    async def spend(self, units: int = 1) -> None:
        if not self.limit:
            return
        now = self.clock.monotonic()
        # what was not used recently may be used now, so that late wake-ups do not add up
        start = max(self.free_at, now - self.saved_seconds)
        self.free_at = start + units / self.limit
        if start > now:
            await self.clock.sleep(start - now)

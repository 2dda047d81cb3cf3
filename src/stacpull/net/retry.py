"""The retry policy for failed attempts.

An asset has a first attempt and `retries` more. After much progress, they are counted from 0 again. Attempts
that the host throttled are not counted, up to 20 of them or an hour. No attempt follows a Retry-After over 15
minutes. Waits are random, between 0 and `base * 2**n` ("full jitter"), so that workers that failed together
do not retry together (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from stacpull.clock import Clock
from stacpull.errors import SourceError
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import TransferError

T = TypeVar("T")
_PROGRESS = 1 << 20
"""The fewest bytes that count as progress, so that no server can prolong a transfer forever byte by byte."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """The limits of retries. Durations are in seconds."""

    retries: int = 5
    base: float = 0.5  # the longest first wait
    cap: float = 60.0  # the longest wait
    uncounted_throttles: int = 20
    uncounted_throttled_seconds: float = 3600.0
    max_wait: float = 900.0  # the longest Retry-After that is obeyed


class RetryState(msgspec.Struct):
    charged: int = 0
    throttles: int = 0
    throttled_seconds: float = 0.0
    resumable_bytes: int = 0  # the most bytes that an attempt has left for the next one


def next_wait(policy: RetryPolicy, state: RetryState, failure: Failure, draw: float) -> float | None:
    """Count `failure`; return the seconds to the next attempt, None for no more. `draw` is from 0 to 1."""
    requested = failure.retry_after
    if not failure.retryable or (requested or 0.0) > policy.max_wait:
        return None
    if failure.resumable_bytes - state.resumable_bytes >= _PROGRESS:
        state.charged = 0  # an object that changes makes no progress: each attempt starts again
    state.resumable_bytes = max(state.resumable_bytes, failure.resumable_bytes)
    is_within_time = state.throttled_seconds + (requested or 0.0) <= policy.uncounted_throttled_seconds
    is_uncounted = failure.uncounted and is_within_time and state.throttles < policy.uncounted_throttles
    repeats = state.throttles if is_uncounted else state.charged
    if not is_uncounted and state.charged >= policy.retries:
        return None
    wait = draw * min(policy.cap, policy.base * 2.0 ** min(repeats, 60)) if requested is None else requested
    state.charged += not is_uncounted
    if failure.kind is FailureKind.THROTTLED:
        state.throttles += 1
        state.throttled_seconds += wait
    return wait


class Retries(msgspec.Struct, frozen=True):
    """Repeats attempts by a policy. `on_retry` is called with each failure before it is retried."""

    policy: RetryPolicy
    clock: Clock
    on_retry: Callable[[Failure], None] = lambda _: None

    async def run(
        self, attempt: Callable[[], Awaitable[T]], warn: Callable[[Failure], None] = lambda _: None
    ) -> T:
        """Return the result of the first attempt that succeeds. `warn` is called like `on_retry`."""
        state, pause, clock = RetryState(), 0.0, self.clock

        def prepare_retry(error: BaseException) -> bool:
            nonlocal pause
            if not isinstance(error, TransferError):
                return False
            wait = next_wait(self.policy, state, error.failure, random.random())  # noqa: S311 - no cryptography
            if wait is None:
                return False
            pause = wait
            self.on_retry(error.failure)
            warn(error.failure)
            return True

        async def again() -> T:  # tenacity awaits only what an async function returns
            return await attempt()

        try:
            try:
                return await attempt()
            except TransferError as error:
                if not prepare_retry(error):
                    raise
            await clock.sleep(pause)
            from tenacity import AsyncRetrying, retry_if_exception  # noqa: PLC0415 -- most runs retry nothing

            retried = retry_if_exception(prepare_retry)
            return await AsyncRetrying(retry=retried, wait=lambda _call: pause, sleep=clock.sleep)(again)
        except TransferError as error:
            seconds = error.failure.retry_after or 0.0
            if not error.failure.retryable or seconds <= self.policy.max_wait:
                raise
            raise SourceError(asks_to_wait(error.failure.host, seconds, clock)) from error


def asks_to_wait(host: str, seconds: float, clock: Clock) -> str:
    when = datetime.fromtimestamp(clock.time() + seconds, UTC)
    wait = f"{host or 'The host'} asks to wait for {seconds / 60:.0f} minutes"
    return f"{wait}: run the command again after {when:%Y-%m-%d %H:%M} UTC."

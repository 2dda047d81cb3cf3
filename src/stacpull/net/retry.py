"""The retry policy for failed attempts.

An asset gets one attempt and `retries` more. After 1 MiB of progress, the count restarts. Up to 20 throttled
attempts, with up to an hour of waits, are not counted. If the host asks to wait for more than 15 minutes,
there is no further attempt. Waits are random, between 0 and `base * 2**n` ("full jitter"), so that workers do
not retry at once (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.errors import SourceError
from stacpull.models import Failure, FailureKind
from stacpull.net.transport import TransferError

T = TypeVar("T")
MAX_WAIT = 900.0
_MAX_UNCOUNTED_SECONDS = 3600.0  # of waits after throttled attempts
_PROGRESS_BYTES = 1 << 20  # fewer are no progress: a slow server cannot keep a transfer alive forever


class RetryPolicy(msgspec.Struct, frozen=True):
    retries: int = 5
    base: float = 0.5  # seconds of the longest first wait
    cap: float = 60.0  # seconds of the longest wait
    max_uncounted_throttles: int = 20
    max_wait: float = MAX_WAIT  # seconds of the longest Retry-After that is honoured


class RetryState(msgspec.Struct):
    counted: int = 0
    throttles: int = 0
    throttled_seconds: float = 0.0
    resumable_bytes: int = 0  # the most bytes that an attempt has left for the next one
    attempts: int = 0


def next_wait(policy: RetryPolicy, state: RetryState, failure: Failure, jitter: float) -> float | None:
    """Count `failure`; return the seconds to the next attempt, None for no more. `jitter` is from 0 to 1."""
    state.attempts += 1
    if not failure.retryable:
        return None
    if failure.resumable_bytes - state.resumable_bytes >= _PROGRESS_BYTES:
        state.counted = 0  # an object that changes makes no progress: each attempt starts again
    state.resumable_bytes = max(state.resumable_bytes, failure.resumable_bytes)
    requested = failure.retry_after
    is_throttled = failure.kind is FailureKind.THROTTLED
    is_within_time = state.throttled_seconds + (requested or 0.0) <= _MAX_UNCOUNTED_SECONDS
    if is_throttled and is_within_time and state.throttles < policy.max_uncounted_throttles:
        repeats = state.throttles
    elif state.counted < policy.retries:
        repeats = state.counted
        state.counted += 1
    else:
        return None
    wait = requested
    if wait is None:
        longest = policy.base * 2.0 ** min(repeats, 60)
        wait = jitter * min(policy.cap, longest)
    if is_throttled:
        state.throttles += 1
        state.throttled_seconds += wait
    return wait


class Retries(msgspec.Struct, frozen=True):
    policy: RetryPolicy
    clock: Clock
    on_retry: Callable[[Failure], None] = lambda _: None  # called before each retry
    counts_refusals: bool = True  # against their host, if no attempt follows; too many mark it as down

    async def run(self, attempt: Callable[[], Awaitable[T]]) -> T:
        state = RetryState()
        try:
            return await attempt()
        except TransferError as error:
            wait = self._wait_after(error, state)
        from tenacity import AsyncRetrying, retry_always  # noqa: PLC0415 -- slow

        await self.clock.sleep(wait)
        retries = AsyncRetrying(retry=retry_always, wait=lambda _: wait, sleep=self.clock.sleep)
        async for retry in retries:
            try:
                return await attempt()
            except TransferError as error:
                wait = self._wait_after(error, state)
            retry.retry_state.set_result(None)  # not the error: its traceback holds the frames of all callers
        raise AssertionError("tenacity always tries again")

    def _wait_after(self, error: TransferError, state: RetryState) -> float:
        """Return the seconds to the next attempt. Raises `error` if there is none."""
        failure = error.failure
        requested = failure.retry_after or 0.0
        if failure.retryable and requested > self.policy.max_wait:
            raise SourceError(wait_message(failure.host, requested, self.clock)) from error
        wait = next_wait(self.policy, state, failure, random.random())  # noqa: S311 - no cryptography
        if wait is None:
            error.failure = replace(failure, attempts=state.attempts)
            try:
                if self.counts_refusals and error.count_refusal is not None:
                    error.failure = error.count_refusal(error.failure)
                raise error
            finally:
                del error  # its traceback holds this frame
        self.on_retry(failure)
        return wait


def wait_message(host: str, seconds: float, clock: Clock) -> str:
    when = datetime.fromtimestamp(clock.time() + seconds, UTC)
    wait = f"{host} asks to wait for {seconds / 60:.0f} minutes"
    return f"{wait}: run the command again after {when:%Y-%m-%d %H:%M} UTC."

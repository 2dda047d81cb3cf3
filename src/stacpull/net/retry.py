"""The retry policy for failed attempts.

Failures of an asset (a reset connection, a short body, a 500) use up its attempts: it has a first one and
`retries` more. The count starts again after an attempt that received much of a long file. Throttling is a
condition of the host and does not count, up to 20 times or an hour; then it counts, too. A Retry-After of up
to 15 minutes is obeyed. A longer one ends the run with a message that states when to resume.

Waits grow exponentially with full jitter: uniform between 0 and `base * 2**n`, at most `cap` (M. Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog, 2015), so that workers that failed together do not
retry together.

`decide` is a pure function. `with_retries` applies it with tenacity, but only after a first failure, so that
transfers that succeed at once (nearly all) have no overhead.
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
_MINUTES_FROM = 120.0
_PROGRESS = 1 << 20
"""The fewest bytes that count as progress, so that no server can prolong a transfer forever byte by byte."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """The limits of retries. Durations are in seconds."""

    retries: int = 5
    """Retries after the first attempt that count."""
    base: float = 0.5
    cap: float = 60.0
    """The first wait is at most `base`, every wait at most `cap`."""
    free_throttles: int = 20
    free_throttled_seconds: float = 3600.0
    longest_wait: float = 900.0
    """The longest Retry-After that is obeyed."""


class RetryState(msgspec.Struct, frozen=True):
    """The counts of one asset so far."""

    charged: int = 0
    throttles: int = 0
    throttled_seconds: float = 0.0
    reached: int = 0
    """The most bytes of a partial download that an attempt left to resume from."""


class Wait(msgspec.Struct, frozen=True):
    """Retry after `seconds`; `charged` if that uses up an attempt."""

    seconds: float
    charged: bool


class StopRun(msgspec.Struct, frozen=True):
    """The host asked to wait for `seconds`, which is too long to wait for."""

    seconds: float
    host: str

    def message(self, now: float) -> str:
        """Return the message for the user; `now` is in seconds since the epoch."""
        when = datetime.fromtimestamp(now + self.seconds, UTC)
        long = self.seconds >= _MINUTES_FROM
        span = f"{self.seconds / 60:.0f} minutes" if long else f"{self.seconds:.0f} seconds"
        return f"{self.host or 'The host'} asks to wait for {span}: resume after {when:%Y-%m-%d %H:%M} UTC."


def decide(policy: RetryPolicy, state: RetryState, failure: Failure, draw: float) -> Wait | StopRun | None:
    """Return the decision after `failure`, or None if it is final.

    `draw` is a random number between 0 and 1 for the jitter.
    """
    if not failure.retryable:
        return None
    requested = failure.retry_after
    if requested is not None and requested > policy.longest_wait:
        return StopRun(requested, failure.host)
    if _is_free(policy, state, failure):
        wait = backoff(policy, state.throttles, draw)
        return Wait(wait if requested is None else requested, charged=False)
    charged = _charged(state, failure)
    if charged >= policy.retries:
        return None
    return Wait(backoff(policy, charged, draw) if requested is None else requested, charged=True)


def backoff(policy: RetryPolicy, earlier: int, draw: float) -> float:
    """Return the seconds to wait after `earlier` waits of the same kind, with full jitter."""
    return draw * min(policy.cap, policy.base * 2.0 ** min(earlier, 60))


def advance(state: RetryState, failure: Failure, wait: Wait) -> RetryState:
    """Return the state after `failure` and the decision to `wait`."""
    throttled = failure.kind is FailureKind.THROTTLED
    return RetryState(
        charged=_charged(state, failure) + wait.charged,
        throttles=state.throttles + throttled,
        throttled_seconds=state.throttled_seconds + (wait.seconds if throttled else 0.0),
        reached=max(state.reached, failure.reached),
    )


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    clock: Clock,
    on_retry: Callable[[Failure], None],
    *,
    jitter: random.Random | None = None,
) -> T:
    """Call `attempt` until it succeeds or `policy` gives up.

    Args:
        attempt: Makes one attempt.
        policy: The limits of retries.
        clock: Sleeps between attempts.
        on_retry: Called with each failure before it is retried.
        jitter: A seeded random generator for the waits, if they must be reproducible.

    Returns:
        The result of the successful attempt.

    Raises:
        TransferError: A final failure, or the last one when the attempts are used up.
        SourceError: The host asks for a wait longer than `policy.longest_wait`.
    """
    try:
        return await attempt()
    except TransferError as error:
        if not error.failure.retryable:
            raise
        first = [error]

    from tenacity import AsyncRetrying, retry_if_exception  # noqa: PLC0415 -- most runs retry nothing

    draw = (jitter or random.Random()).random  # noqa: S311 - jitter, no cryptography
    state, pause = RetryState(), 0.0
    decision: Wait | StopRun | None = None

    async def step() -> T:
        if first:
            raise first.pop()
        return await attempt()

    def is_retried(error: BaseException) -> bool:
        nonlocal state, pause, decision
        if not isinstance(error, TransferError):
            return False
        decision = decide(policy, state, error.failure, draw())
        if not isinstance(decision, Wait):
            return False
        state, pause = advance(state, error.failure, decision), decision.seconds
        on_retry(error.failure)
        return True

    machine = AsyncRetrying(retry=retry_if_exception(is_retried), wait=lambda _call: pause, sleep=clock.sleep)
    try:
        return await machine(step)
    except TransferError as error:
        if isinstance(decision, StopRun):
            raise SourceError(decision.message(clock.time())) from error
        raise


def _charged(state: RetryState, failure: Failure) -> int:
    """Return the attempts used up before `failure`, or 0 if it got further than all before.

    An object that changes all the time starts again each time. It does not get further, so it fails at last.
    """
    return 0 if failure.reached - state.reached >= _PROGRESS else state.charged


def _is_free(policy: RetryPolicy, state: RetryState, failure: Failure) -> bool:
    within = state.throttled_seconds + (failure.retry_after or 0.0) <= policy.free_throttled_seconds
    return failure.free and within and state.throttles < policy.free_throttles

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.virtual_clock import VirtualClock

from stacpull.errors import SourceError
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import (
    RetryPolicy,
    RetryState,
    StopRun,
    Wait,
    advance,
    backoff,
    decide,
    with_retries,
)
from stacpull.net.transport import TransferError

POLICY = RetryPolicy()


def reset() -> Failure:
    return Failure(FailureKind.NETWORK, "reset.", host="h", retryable=True)


def broke_off() -> Failure:
    """The failure of a long file after some progress."""
    return Failure(FailureKind.TRUNCATED, "half.", host="h", retryable=True, reached=5 << 20)


def throttle(retry_after: float | None = None) -> Failure:
    return Failure(
        FailureKind.THROTTLED, "slow down.", 429, "h", retry_after=retry_after, retryable=True, free=True
    )


def gone() -> Failure:
    return Failure(FailureKind.GONE, "gone.", 404, "h")


TABLE = [
    ("a final failure", RetryState(), gone(), None),
    ("the first reset", RetryState(), reset(), Wait(0.25, charged=True)),
    ("the third reset", RetryState(charged=2), reset(), Wait(1.0, charged=True)),
    ("the last retry", RetryState(charged=4), reset(), Wait(4.0, charged=True)),
    ("no retry left", RetryState(charged=5), reset(), None),
    ("after some progress", RetryState(charged=5), broke_off(), Wait(0.25, charged=True)),
    ("further than before", RetryState(charged=5, reached=4 << 20), broke_off(), Wait(0.25, charged=True)),
    ("but hardly", RetryState(charged=5, reached=(4 << 20) + 1), broke_off(), None),
    ("as far as before", RetryState(charged=5, reached=5 << 20), broke_off(), None),
    ("throttled, with a time", RetryState(charged=5), throttle(7), Wait(7, charged=False)),
    ("throttled, at once again", RetryState(), throttle(0), Wait(0, charged=False)),
    ("throttled, without a time", RetryState(throttles=2), throttle(), Wait(1.0, charged=False)),
    ("the 20th throttle", RetryState(throttles=19), throttle(7), Wait(7, charged=False)),
    ("the 21st throttle", RetryState(throttles=20), throttle(7), Wait(7, charged=True)),
    ("throttled out", RetryState(charged=5, throttles=20), throttle(7), None),
    ("after an hour of it", RetryState(throttled_seconds=3599), throttle(7), Wait(7, charged=True)),
    ("15 minutes are waited", RetryState(), throttle(900), Wait(900, charged=False)),
    ("16 minutes are not", RetryState(), throttle(960), StopRun(960, "h")),
    ("nor when all is used up", RetryState(charged=5, throttles=20), throttle(960), StopRun(960, "h")),
]


@pytest.mark.parametrize(
    ("state", "failure", "decision"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_failure_is_retried_or_final(state: RetryState, failure: Failure, decision: object) -> None:
    assert decide(POLICY, state, failure, draw=0.5) == decision


@given(st.integers(0, 2000), st.floats(0, 1))
def test_backoff_is_bounded(earlier: int, draw: float) -> None:
    assert 0 <= backoff(POLICY, earlier, draw) <= min(POLICY.cap, POLICY.base * 2 ** min(earlier, 30))


FAILURES = st.sampled_from([reset, throttle, lambda: throttle(30.0)])
REACHED = st.lists(st.integers(0, 10 << 20), min_size=80, max_size=80)


@given(REACHED)
def test_attempts_for_a_file_of_ten_mebibytes_are_limited(reached: list[int]) -> None:
    state, tries = RetryState(), 1
    for size in reached:
        failure = Failure(FailureKind.TRUNCATED, "broke off.", retryable=True, reached=size)
        decision = decide(POLICY, state, failure, 0.5)
        if not isinstance(decision, Wait):
            break
        state = advance(state, failure, decision)
        tries += 1
    assert tries <= (10 + 1) * (POLICY.retries + 1)


@given(st.lists(FAILURES, min_size=60, max_size=60), st.floats(0, 1))
def test_the_number_of_attempts_is_limited(makers: list[Callable[[], Failure]], draw: float) -> None:
    """At most one attempt, 5 retries and 20 throttled ones."""
    state, tries = RetryState(), 1
    for make in makers:
        failure = make()
        decision = decide(POLICY, state, failure, draw)
        if not isinstance(decision, Wait):
            break
        state = advance(state, failure, decision)
        tries += 1
    assert tries <= 1 + 5 + 20
    assert state.charged <= POLICY.retries


@dataclass
class Naive:
    """The rules of docs/meaning.md on retries, applied to the whole history instead of a state."""

    seen: list[tuple[Failure, object]] = field(default_factory=list)

    def expects(self, failure: Failure) -> str:
        """Return the kind of decision: final, stop, free or charged."""
        if not failure.retryable:
            return "final"
        if (failure.retry_after or 0) > 900:
            return "stop"
        if self._costs_nothing(failure):
            return "free"
        charged = 0 if self._got_further(failure, self.seen) else self._charged()
        return "charged" if charged < POLICY.retries else "final"

    def _costs_nothing(self, failure: Failure) -> bool:
        if failure.kind is not FailureKind.THROTTLED:
            return False
        waits = [wait.seconds for one, wait in self.seen if _slowed(one) and isinstance(wait, Wait)]
        return len(waits) < 20 and sum(waits) + (failure.retry_after or 0) <= 3600

    def _charged(self) -> int:
        """Attempts used up since the last one that got further than all before, including that one."""
        further = [n for n, (one, _) in enumerate(self.seen) if self._got_further(one, self.seen[:n])]
        return sum(
            isinstance(wait, Wait) and wait.charged for _, wait in self.seen[max(further, default=0) :]
        )

    @staticmethod
    def _got_further(failure: Failure, before: list[tuple[Failure, object]]) -> bool:
        return failure.reached - max((one.reached for one, _ in before), default=0) >= 1 << 20


def _slowed(failure: Failure) -> bool:
    return failure.kind is FailureKind.THROTTLED


def _kind(decision: object) -> str:
    if isinstance(decision, Wait):
        return "charged" if decision.charged else "free"
    return "stop" if isinstance(decision, StopRun) else "final"


HISTORIES = st.lists(
    st.integers(0, 6).map(lambda size: lambda: replace(broke_off(), reached=size << 20))
    | st.sampled_from([reset, broke_off, gone, throttle, lambda: throttle(901.0)])
    | st.integers(0, 900).map(lambda seconds: lambda: throttle(float(seconds))),
    max_size=60,
)


@given(HISTORIES, st.floats(0, 1))
def test_decisions_match_a_model_of_the_history(makers: list[Callable[[], Failure]], draw: float) -> None:
    naive, state = Naive(), RetryState()
    for make in makers:
        failure = make()
        decision = decide(POLICY, state, failure, draw)
        assert _kind(decision) == naive.expects(failure)
        if not isinstance(decision, Wait):
            break
        if failure.retry_after is not None:
            assert decision.seconds == failure.retry_after
        naive.seen.append((failure, decision))
        state = advance(state, failure, decision)


class Attempts:
    """An attempt that fails as listed, then succeeds. It records the times of calls."""

    def __init__(self, clock: VirtualClock, failures: list[Failure]) -> None:
        self.clock = clock
        self.failures = failures
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(self.clock.now)
        if self.failures:
            raise TransferError(self.failures.pop(0))
        return "bytes"


def go_on(
    first: Failure, failures: list[Failure], policy: RetryPolicy = POLICY
) -> tuple[str, list[float], int]:
    clock = VirtualClock()
    attempt = Attempts(clock, [first, *failures])
    noted: list[Failure] = []
    result = clock.run(with_retries(attempt, policy, clock, noted.append, jitter=random.Random(1)))
    return result, attempt.times[1:], len(noted)


@pytest.mark.parametrize(("failures", "tries"), [([], 1), ([reset()], 2), ([throttle(1), reset()], 3)])
def test_with_retries_retries_until_it_succeeds(failures: list[Failure], tries: int) -> None:
    clock, noted = VirtualClock(), list[Failure]()
    attempt = Attempts(clock, list(failures))
    assert clock.run(with_retries(attempt, POLICY, clock, noted.append)) == "bytes"
    assert (len(attempt.times), noted) == (tries, failures)


def test_a_final_first_failure_is_raised_unchanged() -> None:
    class OwnError(TransferError):
        """A type that a caller distinguishes."""

    tries = 0

    async def attempt() -> str:
        nonlocal tries
        tries += 1
        raise OwnError(gone())

    clock = VirtualClock()
    with pytest.raises(OwnError):
        clock.run(with_retries(attempt, POLICY, clock, lambda _: None))
    assert (tries, clock.sleeps) == (1, [])


def test_retries_until_it_succeeds() -> None:
    result, times, noted = go_on(reset(), [throttle(100), reset(), throttle(7)])
    assert result == "bytes"
    assert len(times) == noted == 4
    assert times[0] <= 0.5
    assert times[1] - times[0] == 100
    assert times[3] - times[2] == 7


def test_the_jitter_can_be_seeded() -> None:
    assert go_on(reset(), [reset()] * 4)[1] == go_on(reset(), [reset()] * 4)[1]


def test_the_last_failure_is_raised() -> None:
    last = Failure(FailureKind.SERVER, "500.", 500, "h", retryable=True)
    with pytest.raises(TransferError) as caught:
        go_on(reset(), [reset()] * 4 + [last, reset()])
    assert caught.value.failure is last


@pytest.mark.parametrize(
    ("policy", "tries"), [(POLICY, 5), (RetryPolicy(retries=0), 0), (RetryPolicy(retries=2), 2)]
)
def test_the_number_of_retries_is_configurable(policy: RetryPolicy, tries: int) -> None:
    clock = VirtualClock()
    attempt = Attempts(clock, [reset() for _ in range(50)])
    with pytest.raises(TransferError):
        clock.run(with_retries(attempt, policy, clock, lambda _: None))
    assert len(attempt.times) == 1 + tries


def test_a_final_failure_is_not_retried() -> None:
    with pytest.raises(TransferError) as caught:
        go_on(reset(), [gone(), reset()])
    assert caught.value.failure.kind is FailureKind.GONE


def test_a_long_wait_stops_the_run_and_states_the_time() -> None:
    with pytest.raises(
        SourceError, match=r"h asks .* 120 minutes: resume after 2023-11-15 00:13 UTC"
    ) as caught:
        go_on(throttle(7200), [])
    assert isinstance(caught.value.__cause__, TransferError)


def test_other_errors_pass() -> None:
    failures: list[Exception] = [TransferError(reset()), KeyError("a mistake of ours")]

    async def broken() -> str:
        raise failures.pop(0)

    clock = VirtualClock()
    with pytest.raises(KeyError):
        clock.run(with_retries(broken, POLICY, clock, lambda _: None))
    assert len(clock.sleeps) == 1

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.errors import SourceError
from stacpull.models import Failure, FailureKind
from stacpull.net.retry import Retries, RetryPolicy, RetryState, next_wait
from stacpull.net.transport import TransferError

POLICY = RetryPolicy()


def reset() -> Failure:
    return Failure(FailureKind.NETWORK, "reset.", host="h")


def broke_off(resumable: int = 5 << 20) -> Failure:
    return Failure(FailureKind.TRUNCATED, "half.", host="h", resumable_bytes=resumable)


def throttle(retry_after: float | None = None) -> Failure:
    return Failure(FailureKind.THROTTLED, "slow down.", 429, "h", retry_after=retry_after)


def gone() -> Failure:
    return Failure(FailureKind.GONE, "gone.", 404, "h")


TABLE = [  # the wait if the jitter is 0.5, and the attempts used up then
    ("a final failure", RetryState(), gone(), None, 0),
    ("the first reset", RetryState(), reset(), 0.25, 1),
    ("the third reset", RetryState(counted=2), reset(), 1.0, 3),
    ("the last retry", RetryState(counted=4), reset(), 4.0, 5),
    ("no retry left", RetryState(counted=5), reset(), None, 5),
    ("after some progress", RetryState(counted=5), broke_off(), 0.25, 1),
    ("further than before", RetryState(counted=5, resumable_bytes=4 << 20), broke_off(), 0.25, 1),
    ("but hardly", RetryState(counted=5, resumable_bytes=(4 << 20) + 1), broke_off(), None, 5),
    ("as far as before", RetryState(counted=5, resumable_bytes=5 << 20), broke_off(), None, 5),
    ("throttled, with a time", RetryState(counted=5), throttle(7), 7, 5),
    ("throttled, at once again", RetryState(), throttle(0), 0, 0),
    ("throttled, without a time", RetryState(throttles=2), throttle(), 1.0, 0),
    ("the longest wait", RetryState(throttles=12), throttle(), 30.0, 0),
    ("the 20th throttle", RetryState(throttles=19), throttle(7), 7, 0),
    ("the 21st throttle", RetryState(throttles=20), throttle(7), 7, 1),
    ("throttled out", RetryState(counted=5, throttles=20), throttle(7), None, 5),
    ("after an hour of it", RetryState(throttled_seconds=3599), throttle(7), 7, 1),
    ("15 minutes are waited", RetryState(), throttle(900), 900, 0),
]


@pytest.mark.parametrize(
    ("state", "failure", "wait", "counted"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_a_failure_is_retried_or_final(state, failure, wait, counted):
    assert next_wait(POLICY, state, failure, jitter=0.5) == wait
    assert state.counted == counted


class Attempts:
    """An attempt that fails as listed, then succeeds. It records the times of calls."""

    def __init__(self, failures: list[Exception | Failure]) -> None:
        self.clock = VirtualClock()
        self.failures = failures
        self.noted: list[Failure] = []
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(self.clock.now)
        if self.failures:
            failure = self.failures.pop(0)
            raise TransferError(failure) if isinstance(failure, Failure) else failure
        return "bytes"

    def run(self, policy: RetryPolicy = POLICY) -> str:
        retried = Retries(policy, self.clock, self.noted.append).run(self)
        return self.clock.run(retried)


def test_retries_until_it_succeeds() -> None:
    attempts = Attempts([reset(), throttle(100), reset(), throttle(7)])
    assert attempts.run() == "bytes"
    times = attempts.times
    assert len(times) - 1 == len(attempts.noted) == 4
    assert times[1] <= 0.5
    assert times[2] - times[1] == 100
    assert times[4] - times[3] == 7


@pytest.mark.parametrize("retries", [5, 0, 2])
def test_the_last_failure_is_raised(retries: int) -> None:
    last = Failure(FailureKind.SERVER, "500.", 500, "h")
    attempts = Attempts([*[reset()] * retries, last, reset()])
    with pytest.raises(TransferError) as caught:
        attempts.run(RetryPolicy(retries=retries))
    assert (caught.value.failure.kind, caught.value.failure.attempts) == (last.kind, retries + 1)


def test_a_long_wait_stops_the_run_and_states_the_time() -> None:
    message = r"h asks .* 16 minutes: run the command again after 2023-11-14 22:29 UTC"
    with pytest.raises(SourceError, match=message) as caught:
        Attempts([throttle(960)]).run()
    assert isinstance(caught.value.__cause__, TransferError)

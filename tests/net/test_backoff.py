"""What failures of a host mean: each row is a sequence of events and the decisions on them."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from stacpull.models import Failure, FailureKind
from stacpull.net.backoff import MAX_UNANSWERED, NO_FAILURES, Unanswered, answered, throttled, unanswered

_RESET = Failure(FailureKind.NETWORK, "reset", retryable=True)
_PATIENCE = 120.0


class Expected(NamedTuple):
    """What the gate does: the pause, whether it halves the limit, and the failure."""

    pause: float = 0.0
    halves: bool = False
    kind: FailureKind = FailureKind.NETWORK
    free: bool = False


_REPORTED = Expected()
_FREE = Expected(kind=FailureKind.THROTTLED, free=True)
_HALVED = _FREE._replace(halves=True)


@pytest.mark.parametrize(
    ("retry_after", "is_closed", "pause", "halves"),
    [(None, False, 1.0, True), (7.0, False, 7.0, True), (None, True, 0.0, False), (9.0, True, 9.0, False)],
)
def test_throttling(retry_after: float | None, is_closed: bool, pause: float, halves: bool) -> None:
    decision = throttled(NO_FAILURES, retry_after, is_closed=is_closed)
    assert (decision.pause, decision.halves_limit) == (pause, halves)
    assert decision.state.pauses == (0 if is_closed else 1)
    assert answered(decision.state) == NO_FAILURES


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        # (now, sent_at, permits in use)
        ([(1, 0, 2), (2, 0, 2)], [_REPORTED, _REPORTED]),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2)], [_REPORTED, _REPORTED, _HALVED]),
        ([(1, 0, 1), (2, 0, 1), (3, 0, 1)], [_REPORTED] * 3),
        ([(31, 30, 9), (32, 30, 9), (33, 30, 9)], [_REPORTED] * 3),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2), (9, 2, 1)], [_REPORTED, _REPORTED, _HALVED, _FREE]),
        ([(1, 0, 2), (2, 0, 2), (3, 0, 2), (9, 4, 2)], [_REPORTED, _REPORTED, _HALVED, _FREE]),
    ],
    ids=["two", "three halve the limit", "alone", "long after an answer", "sent before", "again"],
)  # fmt: skip
def test_unanswered_requests_of_a_host_that_answers_others(
    requests: list[tuple[float, float, int]], expected: list[Expected]
) -> None:
    state, found = NO_FAILURES, []
    for now, sent_at, in_use in requests:
        request = Unanswered("h", _RESET, 1000 + sent_at, 1000 + now, 1000.5, in_use, is_closed=False)
        decision = unanswered(state, request, _PATIENCE)
        state = decision.state
        failure = decision.failure or _RESET
        found.append(Expected(decision.pause, decision.halves_limit, failure.kind, failure.free))
    assert found == expected
    assert answered(state).unanswered == 0


def test_a_silent_host_pauses_longer_each_time_and_is_given_up() -> None:
    state, now, pauses = NO_FAILURES, 1000.0, []
    for _ in range(MAX_UNANSWERED - 1):
        state = unanswered(state, Unanswered("h", _RESET, now, now, 0.0, 4, is_closed=False), _PATIENCE).state
    while state.given_up is None:
        decision = unanswered(state, Unanswered("h", _RESET, now, now, 0.0, 4, is_closed=False), _PATIENCE)
        assert decision.failure is not None
        state, is_silent = decision.state, decision.state.given_up is None
        assert decision.failure.retryable == decision.failure.free == is_silent
        pauses.append((decision.pause, decision.halves_limit, decision.failure.kind, bool(decision.warning)))
        assert unanswered(
            state, Unanswered("h", _RESET, now, now, 0.0, 4, is_closed=True), _PATIENCE
        )._replace(failure=None)[2:] == (0.0, False, "")
        now += decision.pause
    halved = [
        (pause, True, FailureKind.THROTTLED, pause == 1.0) for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    ]
    last = (57.0, True, FailureKind.THROTTLED, False)
    assert pauses == [*halved, last, (60.0, False, FailureKind.DOWN, True)]
    assert state.given_up.message == "h has not answered for 120 s. reset"
    assert answered(state) == NO_FAILURES

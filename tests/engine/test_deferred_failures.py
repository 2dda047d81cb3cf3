"""Failures that may be due to their host are held back, until it is certain that they are the assets' own."""

from __future__ import annotations

import asyncio

import pytest

from stacpull.engine.pool import DeferredFailures
from stacpull.engine.run_control import FailureLimit
from stacpull.errors import StacpullError
from stacpull.models import Failure, FailureKind


def refusal(host: str = "h") -> Failure:
    return Failure(FailureKind.REFUSED, "No.", host=host)


@pytest.mark.parametrize(("held", "count", "handed_in"), [(0, 3, 3), (2, 2, 0), (2, 5, 3), (49, 49, 0)])
def test_the_latest_refusals_of_a_host_are_deferred(held: int, count: int, handed_in: int) -> None:
    seen: list[tuple[int, Failure, int]] = []
    refusals: DeferredFailures[int] = DeferredFailures(lambda *failed: seen.append(failed), held)
    for number in range(count):
        refusals.fail(number, refusal(), number)
    assert seen == [(number, refusal(), number) for number in range(handed_in)]
    refusals.report_all()
    refusals.report_all()
    assert seen == [(number, refusal(), number) for number in range(count)]


def test_refusals_are_deferred_per_host_and_other_failures_are_not() -> None:
    seen: list[int] = []
    refusals: DeferredFailures[int] = DeferredFailures(lambda number, *_: seen.append(number), 1)
    refusals.fail(1, refusal("a"), 1)
    refusals.fail(2, refusal("b"), 1)
    refusals.fail(3, Failure(FailureKind.GONE, "Gone.", host="a"), 1)
    refusals.fail(4, refusal("a"), 1)
    assert seen == [3, 1]


def test_assets_of_a_host_that_is_given_up_do_not_count_as_failures() -> None:
    stop, seen = asyncio.Event(), list[int]()
    limit = FailureLimit(3, stop)
    failures: DeferredFailures[int] = DeferredFailures(
        lambda number, *_: seen.append(number), 49, limit.count
    )
    for number in range(3):
        failures.fail(number, refusal("a"), 1)
    failures.fail(3, Failure(FailureKind.DOWN, "Down.", host="a"), 1)
    for number in range(4, 7):
        failures.fail(number, refusal("b"), 1)
    assert not stop.is_set()
    limit.check()
    failures.fail(7, refusal("b"), 1)
    assert stop.is_set()
    assert seen == [4, 5, 6, 7]
    with pytest.raises(StacpullError, match="after 4 failures"):
        limit.check()

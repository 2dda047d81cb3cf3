"""The pool: the course of one asset on a virtual clock, and workers that always come to an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from tests.virtual_clock import VirtualClock

from stacpull.engine.pool import JobQueue, OutcomeSink, Pool, TransferTools
from stacpull.engine.run_control import FailureLimit
from stacpull.errors import StacpullError
from stacpull.models import Arrival, Failure, FailureKind, Job, Json
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import TransferError
from stacpull.sources.item_reader import ItemReader

ITEM = "https://api.example/v1/collections/c/items/i"
BODY = Arrival(1, 1, 0, "c/i", "f.tif", 1, body=memoryview(b"x"))
SERVER = Failure(FailureKind.SERVER, "500.", status=500, retryable=True)
RESET = Failure(FailureKind.NETWORK, "Reset.", retryable=True)
THROTTLED = Failure(FailureKind.THROTTLED, "429.", status=429, retryable=True, free=True)
SLOW_DOWN = replace(THROTTLED, status=403)
SHORT = Failure(FailureKind.TRUNCATED, "Half.", retryable=True)


def forth(mebibytes: int) -> Failure:
    """A long file that came that far."""
    return replace(SHORT, reached=mebibytes << 20)


DAMAGED = Failure(FailureKind.CHECKSUM, "MD5 is 1, not 2.", retryable=True)
OTHERWISE = Failure(FailureKind.CHECKSUM, "MD5 is 3, not 2.", retryable=True)
FINAL = Failure(FailureKind.HTTP, "451.", status=451)


def refused(status: int) -> Failure:
    kind = FailureKind.GONE if status in {404, 410} else FailureKind.REFUSED
    return Failure(kind, f"{status}.", status=status)


def job(row: int = 1, key: str = "a", *, href: str | None = None, **changes: Any) -> Job:
    made = Job(row, 1, 0, key, href or f"https://blob.example/{key}?sig=0", ITEM, "c/i", f"{key}.tif")
    return replace(made, **changes)


Answer = Callable[[Job, int], Arrival | Failure]
"""The origin's answer to an href, and the number of earlier requests for that asset."""


@dataclass
class Origin:
    """An origin and an API in memory: how assets answer, and which signature the item's hrefs have now."""

    clock: VirtualClock
    answer: Answer
    signature: int = 1
    reads: int = 0
    keys: tuple[str, ...] = ("a",)
    read_fails: list[Failure] = field(default_factory=list)
    requests: list[tuple[str, bool]] = field(default_factory=list)
    seconds: float = 0.0

    async def fetch(self, wanted: Job, *, count_refusal: bool) -> Arrival:
        before = sum(href.startswith(wanted.href.partition("?")[0]) for href, _ in self.requests)
        self.requests.append((wanted.href, count_refusal))
        await self.clock.sleep(self.seconds)
        found = self.answer(wanted, before)
        if isinstance(found, Failure):
            raise TransferError(found)
        return found

    async def item(self, _href: str) -> Json:
        self.reads += 1
        await self.clock.sleep(0.1)
        if self.read_fails:
            raise TransferError(self.read_fails.pop(0))
        hrefs = {key: {"href": f"https://blob.example/{key}?sig={self.signature}"} for key in self.keys}
        return {"id": "i", "assets": hrefs}


class Outcomes(OutcomeSink[Job, Arrival]):
    def __init__(self, slots: int = 64) -> None:
        super().__init__(slots)
        self.received: dict[int, Job] = {}
        self.failed: dict[int, tuple[Failure, int]] = {}

    def put(self, job: Job, received: Arrival) -> None:
        assert received is BODY
        self.received[job.row] = job
        self.free_slots()

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        self.failed[job.row] = (failure, attempts)


@dataclass
class Course:
    outcomes: Outcomes
    origin: Origin
    retried: list[Failure]
    clock: VirtualClock


def run(
    *jobs: Job,
    answer: Answer,
    workers: int = 64,
    retries: int = 5,
    outcomes: Outcomes | None = None,
    prefer: tuple[str, ...] = (),
    **origin: Any,
) -> Course:
    clock = VirtualClock()
    course = Course(outcomes or Outcomes(workers), Origin(clock, answer, **origin), [], clock)

    async def work() -> None:
        await clock.sleep(1.0)  # the items were read before
        tools = TransferTools(
            course.origin,
            ItemReader(course.origin.item, clock),
            RetryPolicy(retries),
            clock,
            course.retried.append,
            prefer,
        )
        queue = JobQueue[Job](2 * workers)
        pool = Pool(queue, course.outcomes, tools)
        async with asyncio.timeout(1e6), asyncio.TaskGroup() as group:
            group.create_task(pool.run())
            await queue.put(jobs)
            pool.no_more()

    clock.run(work())
    return course


def failing(*failures: Failure) -> Answer:
    return lambda _job, before: failures[before] if before < len(failures) else BODY


def expired(status: int) -> Answer:
    """Refuse all hrefs but those with the second signature."""
    return lambda wanted, _: BODY if wanted.href.endswith("sig=1") else refused(status)


@pytest.mark.parametrize(
    ("answer", "attempts", "retried"),
    [
        pytest.param(failing(), None, 0, id="at once"),
        pytest.param(failing(RESET, SERVER), None, 2, id="after two that pass"),
        pytest.param(failing(*[RESET] * 5), None, 5, id="with the last try"),
        pytest.param(failing(*[RESET] * 6), 6, 5, id="not any more"),
        pytest.param(failing(*[THROTTLED] * 15), None, 15, id="throttling is the host's"),
        pytest.param(failing(*[THROTTLED] * 15, *[RESET] * 5), None, 20, id="and costs no attempt"),
        pytest.param(failing(SLOW_DOWN), None, 1, id="throttling by a 403 is no expiry"),
        pytest.param(failing(*[forth(n) for n in range(1, 31)]), None, 30, id="as long as it comes forward"),
        pytest.param(failing(*[SHORT] * 3, forth(1), *[forth(1)] * 9), 9, 8, id="and no longer"),
        pytest.param(failing(DAMAGED), None, 1, id="wrong content is fetched again"),
        pytest.param(failing(DAMAGED, DAMAGED), 2, 1, id="the same wrong content is what there is"),
        pytest.param(failing(DAMAGED, RESET, DAMAGED), 3, 2, id="also with something in between"),
        pytest.param(failing(*[DAMAGED, OTHERWISE] * 2), None, 4, id="other wrong content is the wire's"),
        pytest.param(failing(FINAL), 1, 0, id="what is final is final"),
        pytest.param(failing(RESET, FINAL), 2, 1, id="later, too"),
    ],
)
def test_attempts_and_retries_of_an_asset(answer: Answer, attempts: int | None, retried: int) -> None:
    course = run(job(), answer=answer)
    assert len(course.retried) == retried
    wrong = attempts is not None and course.outcomes.failed[1][0].kind is FailureKind.CHECKSUM
    assert course.origin.reads == wrong  # the item is read once more before the content fails
    if attempts is None:
        assert list(course.outcomes.received) == [1]
        assert course.outcomes.failed == {}
    else:
        assert course.outcomes.received == {}
        assert course.outcomes.failed[1][1] == attempts


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_an_expired_href_is_read_again_once_and_the_transfer_continues(status: int) -> None:
    course = run(job(), answer=expired(status))
    assert course.outcomes.received[1].href == "https://blob.example/a?sig=1"
    assert course.origin.reads == 1
    assert course.retried == []
    assert [counted for _, counted in course.origin.requests] == [False, True]


def test_a_stale_href_is_read_again_before_its_first_use() -> None:
    stale = job(href="https://blob.example/a", stale=True)
    course = run(stale, answer=expired(403))
    assert [href for href, _ in course.origin.requests] == ["https://blob.example/a?sig=1"]
    assert not course.outcomes.received[1].stale


def test_an_asset_that_its_item_does_not_list_any_more_is_gone() -> None:
    course = run(job(), answer=expired(403), keys=("b",))
    failure, _ = course.outcomes.failed[1]
    assert (failure.kind, "does not list it any more" in failure.message) == (FailureKind.GONE, True)


def bare_pool(
    workers: int,
    size: int,
    fetch: Callable[[Job], Awaitable[Arrival]],
    count: Callable[[int], bool] = lambda _: False,
) -> tuple[Pool[Job, Arrival], JobQueue[Job], Outcomes]:
    class Fetcher:
        async def fetch(self, wanted: Job, *, count_refusal: bool) -> Arrival:
            return await fetch(wanted)

    clock = VirtualClock()
    queue = JobQueue[Job](size)
    outcomes = Outcomes(workers)
    reader = ItemReader(lambda _href: _never(), clock)
    tools = TransferTools(Fetcher(), reader, RetryPolicy(), clock, lambda _failure: None)
    return Pool(queue, outcomes, tools, count_failures=count), queue, outcomes


async def _never() -> Any:
    raise AssertionError("no item is read here")


def refused_at(host: str) -> Failure:
    return Failure(FailureKind.REFUSED, "403.", status=403, host=host)


def test_refused_assets_stay_pending_after_a_stop() -> None:
    async def course() -> None:
        async def fetch(_job: Job) -> Arrival:
            pool.stop()
            raise TransferError(refused_at("h"))

        pool, queue, outcomes = bare_pool(2, 4, fetch)
        await queue.put([job(1, item_href=None)])
        async with asyncio.timeout(5):
            await pool.run()
        assert outcomes.failed == {}
        assert await outcomes.take_slots(2) == 2

    asyncio.run(course())


def test_assets_of_a_host_that_is_given_up_do_not_count_as_failures() -> None:
    stop = asyncio.Event()
    limit = FailureLimit(3, stop)
    pool, _, outcomes = bare_pool(1, 1, lambda _job: _never(), limit.count)
    for row in range(3):
        pool.fail(job(row), refused_at("a"), 1)
    pool.fail(job(3), Failure(FailureKind.DOWN, "Down.", host="a"), 1)
    for row in range(4, 7):
        pool.fail(job(row), refused_at("b"), 1)
    assert not stop.is_set()
    limit.check()
    pool.fail(job(7), refused_at("b"), 1)
    assert stop.is_set()
    assert list(outcomes.failed) == [4, 5, 6, 7]
    with pytest.raises(StacpullError, match="after 4 failures"):
        limit.check()

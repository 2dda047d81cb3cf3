"""The pool: the course of one asset on a virtual clock. If it is refused, its item is read again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace
from tests.engine.pools import BODY, Outcomes, bare_pool, job, unreachable
from tests.virtual_clock import VirtualClock

from stacpull.engine.pool import JobQueue, Pool
from stacpull.errors import StacpullError
from stacpull.models import AssetFile, Failure, FailureKind, Job
from stacpull.net.json_reader import Document
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.transport import TransferError
from stacpull.sources.item_reader import ItemReader

RESET = Failure(FailureKind.NETWORK, "Reset.")
THROTTLED = Failure(FailureKind.THROTTLED, "429.", status=429)
SLOW_DOWN = replace(THROTTLED, status=403)


DAMAGED = Failure(FailureKind.CHECKSUM, "MD5 is 1, not 2.")
OTHERWISE = Failure(FailureKind.CHECKSUM, "MD5 is 3, not 2.")
FINAL = Failure(FailureKind.HTTP, "451.", status=451)


def refused(status: int) -> Failure:
    kind = FailureKind.GONE if status in {404, 410} else FailureKind.REFUSED
    return Failure(kind, f"{status}.", status=status)


Answer = Callable[[Job, int], AssetFile | Failure]
"""The origin's answer to an href, and the number of earlier requests for that asset."""


@dataclass
class Origin:
    """An origin and an API in memory: how assets answer, and which signature the item's hrefs have now."""

    clock: VirtualClock
    answer: Answer
    reads: int = 0
    keys: tuple[str, ...] = ("a",)
    assets: dict[str, Any] | None = None
    """Those of the item, if its hrefs have no signature that changes."""
    read_fails: list[Failure] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)  # hrefs whose refusals count against their host

    async def fetch(self, wanted: Job) -> AssetFile:
        before = sum(href.startswith(wanted.href.partition("?")[0]) for href in self.requests)
        self.requests.append(wanted.href)
        await self.clock.sleep(0.0)
        found = self.answer(wanted, before)
        if isinstance(found, Failure):
            error = TransferError(found)

            def count_refusal(failure: Failure) -> Failure:
                self.counted.append(wanted.href)
                return failure

            error.count_refusal = count_refusal if found.kind is FailureKind.REFUSED else None
            raise error
        return found

    async def item(self, _href: str) -> Document:
        self.reads += 1
        await self.clock.sleep(0.1)
        if self.read_fails:
            raise TransferError(self.read_fails.pop(0))
        hrefs = {key: {"href": f"https://blob.example/{key}?sig=1"} for key in self.keys}
        return Document({"id": "i", "assets": self.assets or hrefs}, 0, "")


@dataclass
class Course:
    outcomes: Outcomes
    origin: Origin
    retried: list[Failure]


def run(
    *jobs: Job,
    answer: Answer,
    workers: int = 64,
    retries: int = 5,
    prefer: tuple[str, ...] = (),
    **origin: Any,
) -> Course:
    clock = VirtualClock()
    course = Course(Outcomes(workers), Origin(clock, answer, **origin), [])

    async def work() -> None:
        await clock.sleep(1.0)  # the items were read before
        queue = JobQueue[Job](2 * workers)
        pool = Pool(
            queue,
            course.outcomes,
            course.origin,
            ItemReader(course.origin.item, clock),
            Retries(RetryPolicy(retries), clock, course.retried.append),
            prefer,
        )
        async with asyncio.timeout(1e6), asyncio.TaskGroup() as group:
            group.create_task(pool.run())
            await queue.put(jobs)
            pool.end_queue()

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
        pytest.param(failing(*[RESET] * 6), 6, 5, id="not any more"),
        pytest.param(failing(SLOW_DOWN), None, 1, id="throttling by a 403 is not an expiry"),
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


def test_a_stale_href_is_read_again_before_its_first_use() -> None:
    stale = job(href="https://blob.example/a", stale=True)
    course = run(stale, answer=expired(403))
    assert course.origin.requests == ["https://blob.example/a?sig=1"]
    assert not course.outcomes.received[1].stale


def test_an_asset_that_its_item_does_not_list_any_more_is_gone() -> None:
    course = run(job(), answer=expired(403), keys=("b",))
    failure, _ = course.outcomes.failed[1]
    assert (failure.kind, "no longer lists it" in failure.message) == (FailureKind.GONE, True)


def refused_at(host: str) -> Failure:
    return Failure(FailureKind.REFUSED, "403.", status=403, host=host)


def test_assets_of_a_host_that_is_abandoned_do_not_count_as_failures() -> None:
    stop, down = asyncio.Event(), Failure(FailureKind.DOWN, "Down.", host="a")
    pool, _, outcomes = bare_pool(1, 1, lambda _job: unreachable(), max_failures=3, stop_run=stop.set)
    for rowid in range(3):
        pool.take_failure(job(rowid, has_failed=rowid == 0), refused_at("a"))
    pool.take_failure(job(3), down)
    pool.take_failure(job(8), refused_at("a"))  # of a worker process that did not know yet
    pool.take_failure(job(9), down)
    for rowid in (4, 5, 6):
        pool.take_failure(job(rowid), refused_at("b"))
    assert not stop.is_set()
    pool.raise_if_too_many_failed("Continue.")
    pool.take_failure(job(7), refused_at("b"))
    assert stop.is_set()
    assert list(outcomes.failed) == [4, 5, 6, 7]
    with pytest.raises(StacpullError, match=r"after 4 failures .* Continue"):
        pool.raise_if_too_many_failed("Continue.")


@pytest.mark.parametrize("processes", [1, 2])
async def test_failures_of_a_host_that_was_down_are_recorded(processes: int) -> None:
    """With worker processes, the last ones stay pending: in some of them, the host may be down now."""
    pool, _, outcomes = bare_pool(1, 1, lambda _job: unreachable(), processes=processes, max_failures=200)
    pool.take_failure(job(0), Failure(FailureKind.DOWN, "Down.", host="a"))
    for rowid in range(1, 121):
        pool.take_failure(job(rowid), refused_at("a"))
    pool.end_queue()
    await pool.run()
    assert list(outcomes.failed) == list(range(1, 121 if processes == 1 else 23))


# --- an item that is read again ---------------------------------------------------------------------------

PLAIN = {f"a{n}": f"https://plain.example/a{n}.tif" for n in range(1, 6)}
"""Hrefs that carry no signature: the item gives the same for ever."""


def plain_jobs() -> list[Job]:
    return [job(rowid, key, href=href) for rowid, (key, href) in enumerate(PLAIN.items(), 1)]


def run_plain(answer: Answer, *jobs: Job) -> Course:
    assets = {key: {"href": href} for key, href in PLAIN.items()}
    return run(*jobs, answer=answer, workers=1, assets=assets)


def never(status: int) -> Answer:
    return lambda _job, _before: refused(status)


def apart(jobs: list[Job]) -> list[Job]:
    """Give each job an item of its own, so that no document read for another serves it."""
    return [
        replace(one, item_rowid=one.rowid, item_href=f"https://api.example/items/{one.rowid}") for one in jobs
    ]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_hrefs_of_a_stable_host_are_read_again_only_once(status):
    course = run_plain(never(status), *apart(plain_jobs()))
    assert [failure for failure, _ in course.outcomes.failed.values()] == [refused(status)] * 5
    assert course.origin.reads == 1
    first, *others = PLAIN.values()
    again = [] if status == 404 else [first]  # the refusal may have been temporary
    assert course.origin.requests == [first, *again, *others]
    assert course.origin.counted == ([] if status == 404 else list(PLAIN.values()))


def test_stability_is_known_per_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLAIN, "b1", "https://another.example/b1.tif")
    jobs = apart(plain_jobs())
    course = run_plain(never(403), *jobs)
    assert course.origin.reads == 2
    assert course.origin.counted == [*PLAIN.values()]


def test_a_signed_href_is_read_again_even_where_others_are_stable() -> None:
    """A bucket may hold plain and signed objects: of a signed one a refusal may still be its age."""
    first, second, *_ = apart(plain_jobs())
    signed = job(9, "a3", href="https://plain.example/a3.tif?sig=0")

    def answer(wanted: Job, _before: int) -> AssetFile | Failure:
        return BODY if wanted.href.endswith("a3.tif") else refused(403)

    course = run_plain(answer, first, second, signed)
    assert sorted(course.outcomes.failed) == [1, 2]
    assert course.outcomes.received[9].href == "https://plain.example/a3.tif"
    assert course.origin.reads == 2


def test_hrefs_that_change_make_no_host_stable() -> None:
    keys = ("a", "b")
    course = run(job(1, "a"), job(2, "b"), answer=expired(403), workers=1, keys=keys)
    assert sorted(course.outcomes.received) == [1, 2]
    assert (course.origin.requests[2], course.origin.counted) == ("https://blob.example/b?sig=0", [])


UNREAD = Failure(FailureKind.GONE, "The item is gone.", status=404)


@pytest.mark.parametrize(("name", "why"), [("i", "item is gone"), ("j", "URL of j is another item's")])
def test_a_refusal_is_final_if_the_item_cannot_be_read_again(name: str, why: str) -> None:
    course = run(job(item_name=name), answer=expired(403), read_fails=[UNREAD] * (name == "i"))
    failure, attempts = course.outcomes.failed[1]
    assert (failure.kind, failure.status, attempts) == (FailureKind.REFUSED, 403, 1)
    assert failure.message == f"403. Its item could not be read again: The {why}."
    assert course.origin.requests == course.origin.counted == ["https://blob.example/a?sig=0"]


def test_reading_the_item_again_is_retried() -> None:
    later = Failure(FailureKind.SERVER, "503.", status=503)
    course = run(job(), answer=expired(403), read_fails=[later])
    assert course.outcomes.received[1].href == "https://blob.example/a?sig=1"
    assert course.retried == [later]


def test_a_stale_href_with_a_missing_item_is_an_item_failure() -> None:
    stale = job(href="https://blob.example/a", stale=True)
    course = run(stale, answer=expired(403), read_fails=[UNREAD])
    failure, _ = course.outcomes.failed[1]
    assert (failure.kind, failure.status) == (FailureKind.ITEM, 404)
    assert course.origin.requests == []


S3, HTTPS = "s3://bucket/a.tif", "https://h.example/a.tif"
GONE = Failure(FailureKind.GONE, "Not there.", status=404)
DOWN = Failure(FailureKind.DOWN, "Silent for long.")
BROKEN = Failure(FailureKind.SERVER, "Broken.", status=500)


def placed(**changes: object) -> Job:
    return job(href=S3, item_href=None, alternates=(HTTPS,), **changes)


def by_scheme(s3: AssetFile | Failure, https: AssetFile | Failure) -> Answer:
    return lambda wanted, _before: s3 if wanted.href.startswith("s3:") else https


def test_the_next_href_is_tried_only_after_all_retries() -> None:
    course = run(placed(), answer=by_scheme(BROKEN, BODY), retries=2)
    assert course.origin.requests == [S3, S3, S3, HTTPS]


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (GONE, GONE, FailureKind.GONE),
        (GONE, refused(403), FailureKind.REFUSED),
        (refused(403), GONE, FailureKind.REFUSED),
        (Failure(FailureKind.CHECKSUM, "Another.", retry=False), refused(403), FailureKind.CHECKSUM),
    ],
)
def test_an_asset_is_gone_only_if_all_its_hrefs_are_gone(first, second, kind):
    course = run(placed(), answer=by_scheme(first, second))
    failure, attempts = course.outcomes.failed[1]
    assert (failure.kind, attempts) == (kind, 2)
    assert failure.message == f"{first.message} Then: {second.message}"
    refusals = [href for href, found in ((S3, first), (HTTPS, second)) if found == refused(403)]
    assert list(dict.fromkeys(course.origin.counted)) == refusals


@pytest.mark.parametrize(("first", "second"), [(refused(403), DOWN), (DOWN, refused(403)), (GONE, DOWN)])
def test_an_asset_stays_pending_while_the_host_of_one_place_is_down(first: Failure, second: Failure) -> None:
    course = run(placed(), answer=by_scheme(first, second))
    assert (course.outcomes.failed, course.outcomes.received) == ({}, {})


def test_an_item_read_again_restores_all_its_hrefs() -> None:
    """The second place had expired: its new href is found where the item names it, not the first one's."""
    assets = {"a": {"href": f"{HTTPS}?sig=new", "alternate": {"s3": {"href": S3}}}}

    def answer(wanted: Job, _before: int) -> AssetFile | Failure:
        return BODY if wanted.href.endswith("sig=new") else refused(403)

    old = job(href=S3, alternates=(f"{HTTPS}?sig=old",))
    course = run(old, answer=answer, prefer=("s3", "https"), assets=assets)
    assert course.outcomes.received[1].href == f"{HTTPS}?sig=new"
    assert course.origin.counted == [S3]


def test_jobs_that_are_given_back_keep_their_order() -> None:
    queue = JobQueue[int]()
    asyncio.run(queue.put([3]))
    queue.give_back([1, 2])
    assert queue.take(3) == [1, 2, 3]

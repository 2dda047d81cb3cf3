"""An asset that is refused: its item is read again, and its new hrefs decide."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.engine.test_pool import BODY, Answer, Course, Origin, expired, job, refused, run

from stacpull.models import Arrival, Failure, FailureKind, Job, Json

PLAIN = {f"a{n}": f"https://plain.example/a{n}.tif" for n in range(1, 6)}
"""Hrefs that carry no signature: the item gives the same for ever."""


def plain_jobs() -> list[Job]:
    return [job(row, key, href=href) for row, (key, href) in enumerate(PLAIN.items(), 1)]


def run_plain(answer: Answer, monkeypatch: pytest.MonkeyPatch, *jobs: Job) -> Course:
    async def item(origin: Origin, _href: str) -> Json:
        origin.reads += 1
        await origin.clock.sleep(0.1)
        return {"id": "i", "assets": {key: {"href": href} for key, href in PLAIN.items()}}

    monkeypatch.setattr(Origin, "item", item)
    return run(*jobs, answer=answer, workers=1)


def never(status: int) -> Answer:
    return lambda _job, _before: refused(status)


def apart(jobs: list[Job]) -> list[Job]:
    """Give each job an item of its own, so that no document read for another serves it."""
    return [replace(one, item_row=one.row, item_href=f"https://api.example/items/{one.row}") for one in jobs]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_hrefs_of_a_stable_host_are_read_again_only_once(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = run_plain(never(status), monkeypatch, *apart(plain_jobs()))
    assert [failure for failure, _ in course.outcomes.failed.values()] == [refused(status)] * 5
    assert course.origin.reads == 1
    assert [counted for _, counted in course.origin.requests] == [False, True, True, True, True]


def test_stability_is_known_per_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLAIN, "b1", "https://another.example/b1.tif")
    jobs = apart(plain_jobs())
    course = run_plain(never(403), monkeypatch, *jobs)
    assert course.origin.reads == 2
    assert course.origin.requests[-1] == ("https://another.example/b1.tif", False)


def test_a_signed_href_is_read_again_even_where_others_are_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket may hold plain and signed objects: of a signed one a refusal may still be its age."""
    first, second, *_ = apart(plain_jobs())
    signed = job(9, "a3", href="https://plain.example/a3.tif?sig=0")

    def answer(wanted: Job, _before: int) -> Arrival | Failure:
        return BODY if wanted.href.endswith("a3.tif") else refused(403)

    course = run_plain(answer, monkeypatch, first, second, signed)
    assert sorted(course.outcomes.failed) == [1, 2]
    assert course.outcomes.received[9].href == "https://plain.example/a3.tif"
    assert course.origin.reads == 2


def test_hrefs_that_change_make_no_host_stable() -> None:
    keys = ("a", "b")
    course = run(job(1, "a"), job(2, "b"), answer=expired(403), workers=1, keys=keys)
    assert sorted(course.outcomes.received) == [1, 2]
    assert course.origin.requests[2] == ("https://blob.example/b?sig=0", False)


UNREAD = Failure(FailureKind.GONE, "The item is gone.", status=404)


@pytest.mark.parametrize("unread", [UNREAD, Failure(FailureKind.ITEM, "The item is gone.")])
def test_a_refusal_is_final_if_the_item_cannot_be_read_again(unread: Failure) -> None:
    course = run(job(), answer=expired(403), read_fails=[unread])
    failure, attempts = course.outcomes.failed[1]
    assert (failure.kind, failure.status, attempts) == (FailureKind.REFUSED, 403, 1)
    assert failure.message == "403. Its item could not be read again: The item is gone."
    assert len(course.origin.requests) == 1


def test_reading_the_item_again_is_retried() -> None:
    later = Failure(FailureKind.SERVER, "503.", status=503, retryable=True)
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
BROKEN = Failure(FailureKind.SERVER, "Broken.", status=500, retryable=True)


def placed(**changes: object) -> Job:
    return job(href=S3, item_href=None, alternates=(HTTPS,), **changes)


def by_scheme(s3: Arrival | Failure, https: Arrival | Failure) -> Answer:
    return lambda wanted, _before: s3 if wanted.href.startswith("s3:") else https


def test_the_next_href_is_tried_only_after_all_retries() -> None:
    course = run(placed(), answer=by_scheme(BROKEN, BODY), retries=2)
    assert [href for href, _ in course.origin.requests] == [S3, S3, S3, HTTPS]


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (GONE, GONE, FailureKind.GONE),
        (GONE, refused(403), FailureKind.REFUSED),
        (refused(403), GONE, FailureKind.REFUSED),
        (Failure(FailureKind.CHECKSUM, "Another."), refused(403), FailureKind.CHECKSUM),
    ],
)
def test_an_asset_is_gone_only_if_all_its_hrefs_are_gone(
    first: Failure, second: Failure, kind: FailureKind
) -> None:
    failure, attempts = run(placed(), answer=by_scheme(first, second)).outcomes.failed[1]
    assert (failure.kind, attempts) == (kind, 2)
    assert failure.message == f"{first.message} Then: {second.message}"


@pytest.mark.parametrize(("first", "second"), [(refused(403), DOWN), (DOWN, refused(403)), (GONE, DOWN)])
def test_an_asset_stays_pending_while_the_host_of_one_place_is_down(first: Failure, second: Failure) -> None:
    course = run(placed(), answer=by_scheme(first, second))
    assert (course.outcomes.failed, course.outcomes.received) == ({}, {})


def test_an_item_read_again_restores_all_its_hrefs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second place had expired: its new href is found where the item names it, not the first one's."""

    async def item(origin: Origin, _href: str) -> Json:
        origin.reads += 1
        await origin.clock.sleep(0.1)
        asset = {"href": f"{HTTPS}?sig=new", "alternate": {"s3": {"href": S3}}}
        return {"id": "i", "assets": {"a": asset}}

    def answer(wanted: Job, _before: int) -> Arrival | Failure:
        return BODY if wanted.href.endswith("sig=new") else refused(403)

    monkeypatch.setattr(Origin, "item", item)
    old = job(href=S3, alternates=(f"{HTTPS}?sig=old",))
    course = run(old, answer=answer, prefer=("s3", "https"))
    assert course.outcomes.received[1].href == f"{HTTPS}?sig=new"
    assert (S3, True) not in course.origin.requests

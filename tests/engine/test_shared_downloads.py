"""What a second asset with the same href gets: a link to the first one's file, its bytes, or a fetch."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from stacpull.engine.shared_downloads import SharedDownloads
from stacpull.models import Arrival, Checksum, Failure, FailureKind, Job
from stacpull.net.client import StartedExchange
from stacpull.net.transport import TransferError
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import Placement
from stacpull.transfer.arrival import arrival_of
from stacpull.transfer.attempt import Fetcher

BODY = b"body"
SHA = hashlib.sha256(BODY).digest()


class Fetching(Fetcher):
    """Gives the same body each time; the first `failing` times nothing."""

    def __init__(self, failing: int = 0) -> None:
        self.fetched: list[int] = []
        self._failing = failing

    async def fetch(
        self, job: Job, *, count_refusal: bool = True, started: StartedExchange | None = None
    ) -> Arrival:
        del count_refusal, started
        self.fetched.append(job.row)
        await asyncio.sleep(0)
        if len(self.fetched) <= self._failing:
            raise TransferError(Failure(FailureKind.NETWORK, "No.", retryable=True))
        return arrival_of(job, len(BODY), "a.pdf", '"e"', BODY)


def job(row: int, href: str = "https://h.example/a.pdf", **more: object) -> Job:
    return Job(row, row, 0, "a", href, None, f"c/{row}", "a.pdf", **more)


@pytest.fixture
def destination(tmp_path: Path) -> Iterator[LocalStore]:
    with closing(LocalStore(tmp_path)) as found:
        yield found


def placed(destination: LocalStore, content: bytes = BODY) -> int:
    """Put a file in the place of job 1; return its inode."""
    inode = destination.staged.write_part("one", content)
    assert destination.place([Placement("one", "c/1", "a.pdf", may_replace=True)])[0] is None
    return inode


def in_turn(destination: LocalStore, within: Fetching, *jobs: Job) -> list[Arrival]:
    async def work() -> list[Arrival]:
        sharing = SharedDownloads(within, destination, checksum="sha256")
        return [await sharing.fetch(one, count_refusal=True) for one in jobs]

    return asyncio.run(work())


def test_a_repeated_href_is_linked_to_the_first_file(destination: LocalStore) -> None:
    within = Fetching()
    inode = placed(destination)
    _, second, third = in_turn(destination, within, job(1), job(2), job(3))
    assert within.fetched == [1]
    for one in (second, third):
        part = destination.staged.parts / one.part
        assert (part.stat().st_ino, one.digest, one.body) == (inode, SHA, None)


def test_an_etag_of_another_url_than_the_planned_one_is_not_kept(destination: LocalStore) -> None:
    """The next run would send it to the planned URL."""
    placed(destination)
    alternate = job(2, "https://h.example/gone.pdf").at(("https://h.example/a.pdf",))
    first, second, third = in_turn(destination, Fetching(), job(1), alternate, job(3))
    assert (first.etag, second.etag, third.etag) == ('"e"', None, '"e"')


@pytest.mark.parametrize("there", [None, b"olde", b"longer than it"])
def test_the_bytes_are_copied_if_another_file_has_the_path(
    destination: LocalStore, there: bytes | None
) -> None:
    within = Fetching()
    if there is not None:
        placed(destination, there)
    assert in_turn(destination, within, job(1), job(2))[1].body == BODY
    assert within.fetched == [1]
    assert list(destination.staged.parts.iterdir()) == []


def test_bytes_in_memory_are_used_again_where_a_link_would_be_a_download(tmp_path: Path) -> None:
    """Of an object in a bucket."""
    within = Fetching()
    with closing(LocalStore(tmp_path)) as destination:
        placed(destination)
        destination.is_local = False
        assert in_turn(destination, within, job(1), job(2))[1].body == BODY
        assert destination.staged.list_parts() == []
    assert within.fetched == [1]


@pytest.mark.parametrize(
    "other",
    [
        job(2, "https://h.example/b.pdf"),
        job(2, size=5),
        job(2, checksum=Checksum("sha256", SHA)),
        job(2, sha256=SHA),
    ],
    ids=["another href", "another size", "a checksum of its own", "what was damaged"],
)
def test_an_asset_that_may_differ_is_fetched(destination: LocalStore, other: Job) -> None:
    within = Fetching()
    in_turn(destination, within, job(1), other)
    assert within.fetched == [1, 2]


def test_hrefs_with_a_query_are_not_shared(destination: LocalStore) -> None:
    within = Fetching()
    href = "https://h.example/a.pdf?sig=1"
    in_turn(destination, within, job(1, href), job(2, href))
    assert within.fetched == [1, 2]


def test_an_asset_waiting_for_a_failed_one_is_fetched(destination: LocalStore) -> None:
    within = Fetching(failing=1)

    async def work() -> list[Arrival | BaseException]:
        sharing = SharedDownloads(within, destination, checksum="sha256")
        fetching = (sharing.fetch(job(row), count_refusal=True) for row in (1, 2))
        return await asyncio.gather(*fetching, return_exceptions=True)

    failed, second = asyncio.run(work())
    assert isinstance(failed, TransferError)
    assert isinstance(second, Arrival)
    assert within.fetched == [1, 2]


def test_assets_waiting_for_a_failed_one_share_one_fetch(destination: LocalStore) -> None:
    within = Fetching(failing=1)

    async def work() -> list[Arrival | BaseException]:
        sharing = SharedDownloads(within, destination, checksum="sha256")
        fetching = (sharing.fetch(job(row), count_refusal=True) for row in range(1, 9))
        return await asyncio.gather(*fetching, return_exceptions=True)

    failed, *others = asyncio.run(work())
    assert isinstance(failed, TransferError)
    assert all(isinstance(one, Arrival) for one in others)
    assert within.fetched == [1, 2]


def test_a_repeated_job_is_fetched_again(destination: LocalStore) -> None:
    """The same job comes again after a failure of what is done with it."""
    within = Fetching()
    in_turn(destination, within, job(1), job(1))
    assert within.fetched == [1, 1]

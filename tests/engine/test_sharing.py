"""What a second asset with the same href gets: the first one's bytes, a link to its file, or a fetch."""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stacpull.engine.fetchers import SharedDownloads
from stacpull.models import AssetFile, Failure, FailureKind, Job
from stacpull.net.transport import TransferError
from stacpull.store.local_store import LocalStore
from stacpull.store.staging import complete_part_name
from stacpull.transfer.attempt import Downloader
from stacpull.transfer.received import received_file

BODY = b"body"
SHA = hashlib.sha256(BODY).digest()


class Fetching(Downloader):
    """Gives the same body each time; the first `failing` times nothing. Jobs with a size wait for others."""

    client: Any = None
    parts: Any = None
    file_in_dest: Any = None
    failing: int = 0
    body: bytes = BODY
    barrier: Any = None
    fetched: list[int] = msgspec.field(default_factory=list)

    async def fetch(self, job: Job, **_: Any) -> AssetFile:
        self.fetched.append(job.rowid)
        await (self.barrier.wait() if self.barrier and job.size else asyncio.sleep(0))
        if len(self.fetched) <= self.failing:
            raise TransferError(Failure(FailureKind.NETWORK, "No."))
        return received_file(job, len(self.body), "a.pdf", '"e"', body=self.body)


def job(rowid: int, href: str = "https://h.example/a.pdf", **more: object) -> Job:
    return Job("a", href, f"c/{rowid}", "a.pdf", rowid=rowid, item_rowid=rowid, generation=0, **more)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    with closing(LocalStore(tmp_path)) as found:
        yield found


class Long(Fetching):
    store: Any = None

    async def fetch(self, job: Job, **_: Any) -> AssetFile:
        await super().fetch(job)
        asset = received_file(job, len(BODY), "a.pdf", '"e"', digest=SHA)
        asset.part = complete_part_name(asset)
        asset.identity = await asyncio.to_thread(self.store.staged.write_part, asset.part, BODY)
        return asset


@pytest.mark.parametrize("now", ["a part", "another file"])
async def test_a_part_is_linked_unless_another_file_took_its_place(tmp_path, store, now):
    within = Long(store=store)

    def place() -> None:
        if now == "another file":  # the first asset failed: a file of the user has its name and size
            (tmp_path / "c/1").mkdir(parents=True)
            (tmp_path / "c/1/a.pdf").write_bytes(b"mine")  # it cannot get the inode of the part
            store.staged.remove_part(store.staged.list_parts()[0])

    sharing = SharedDownloads(within, store)
    first = await sharing.fetch(job(1))
    await asyncio.to_thread(place)
    second = await sharing.fetch(job(2))
    assert first is not None
    assert second is not None
    assert (second.part, second.digest) == (complete_part_name(second), SHA)
    with store.staged.open(second.part) as part:
        assert part.read() == BODY
    assert within.fetched == ([1, 2] if now == "another file" else [1])


@pytest.mark.parametrize(
    ("first", "other"),
    [
        pytest.param(job(1), job(2, "https://h.example/b.pdf"), id="another href"),
        pytest.param(job(1), job(2, size=5), id="another size"),
        pytest.param(*(job(n, "https://h.example/a.pdf?sig=1") for n in (1, 2)), id="a query"),
    ],
)
async def test_an_asset_that_may_differ_is_fetched(store: LocalStore, first: Job, other: Job) -> None:
    within = Fetching()
    sharing = SharedDownloads(within, store)
    for one in (first, other):
        await sharing.fetch(one)
    assert within.fetched == [1, 2]


async def test_assets_waiting_for_a_failed_one_share_one_fetch(store: LocalStore) -> None:
    within = Fetching(failing=1)
    sharing = SharedDownloads(within, store)
    fetching = (sharing.fetch(job(rowid)) for rowid in range(1, 9))
    failed, *others = await asyncio.gather(*fetching, return_exceptions=True)
    assert isinstance(failed, TransferError)
    assert all(isinstance(one, AssetFile) for one in others)
    assert within.fetched == [1, 2]


async def test_assets_that_cannot_use_the_first_are_fetched_at_once(store: LocalStore) -> None:
    within = Fetching(barrier=asyncio.Barrier(3))
    sharing = SharedDownloads(within, store)
    jobs = [job(1), *(job(rowid, size=5) for rowid in (2, 3, 4))]
    async with asyncio.timeout(9):
        await asyncio.gather(*(sharing.fetch(one) for one in jobs))
    assert sorted(within.fetched) == [1, 2, 3, 4]


async def test_the_bytes_that_are_kept_for_others_are_limited(store: LocalStore) -> None:
    within = Fetching(body=bytes(1 << 20))
    sharing = SharedDownloads(within, store)
    for rowid, name in enumerate("abcbab"):
        await sharing.fetch(job(rowid, f"https://h.example/{name}"))
    assert within.fetched == [0, 1, 2, 4]  # c has taken the place of a, then a that of c: b was used last

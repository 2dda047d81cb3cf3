"""Part files on disk, through the fetcher and by themselves: kept, continued, named, swept, refused."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.store.opened_parts import opened_parts
from tests.transfer.origin import Origin, Thing, client, origin

from stacpull.errors import DestinationError
from stacpull.models import Job, Validator
from stacpull.net.transport import TransferError
from stacpull.store.part_files import sweep
from stacpull.store.parts import FileParts
from stacpull.transfer.attempt import Fetcher

V1 = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")
DATA = random.Random(5).randbytes(100_000)


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def write_parked(directory: Path, row: int, data: bytes, validator: Validator = V1) -> None:
    async def write() -> None:
        part = await (await opened_parts(directory)).create(row, 1, validator, len(DATA))
        await part.put([(part.size, data)])
        await part.park()

    asyncio.run(write())


def test_old_bytes_are_removed_before_the_new_description_is_written(tmp_path: Path):
    write_parked(tmp_path, 1, DATA)
    (tmp_path / "1.1.about").unlink()
    (tmp_path / "1.1.about").mkdir()

    async def use() -> None:
        with pytest.raises(DestinationError):
            await (await opened_parts(tmp_path)).create(1, 1, Validator('"v2"'), None)

    asyncio.run(use())
    assert not (tmp_path / "1.1.part").exists()


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("no description", lambda d: (d / "1.1.about").unlink()),
    ("no part", lambda d: (d / "1.1.part").unlink()),
    ("an empty part", lambda d: (d / "1.1.part").write_bytes(b"")),
    ("a torn description", lambda d: (d / "1.1.about").write_bytes(b'{"etag":')),
    ("another description", lambda d: (d / "1.1.about").write_bytes(b"[]")),
    ("a weak one", lambda d: (d / "1.1.about").write_bytes(b'{"etag":"W/1","last_modified":null,"total":1}')),
]


@pytest.mark.parametrize("damage", [act for _, act in DAMAGE], ids=[name for name, _ in DAMAGE])
def test_parts_that_can_never_be_resumed_are_removed(tmp_path: Path, damage: Callable[[Path], object]):
    write_parked(tmp_path, 1, DATA)
    write_parked(tmp_path, 2, DATA)
    damage(tmp_path)
    (tmp_path / "4.1.5.whole").write_bytes(b"whole")
    store = FileParts(tmp_path)
    assert asyncio.run(store.point(1, 1)) is None
    removed = sweep(tmp_path, lambda _row, _generation: True)
    assert listed(tmp_path) == ["2.1.about", "2.1.part", "4.1.5.whole"]
    assert removed in {1, 2}
    assert asyncio.run(store.point(2, 1)) is not None


def test_unwanted_parts_are_removed(tmp_path: Path):
    for row in (1, 2, 3):
        write_parked(tmp_path, row, DATA)
    store = FileParts(tmp_path)
    assert sweep(tmp_path, lambda row, generation: (row, generation) == (2, 1)) == 4
    assert listed(tmp_path) == ["2.1.about", "2.1.part"]
    assert asyncio.run(store.point(1, 1)) is None


# Disks that fail.


def test_a_directory_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "parts").write_bytes(b"a file in its place")

    async def use() -> None:
        await (await opened_parts(tmp_path / "parts")).create(1, 1, V1, None)

    with pytest.raises(DestinationError):
        asyncio.run(use())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("act", ["write", "discard", "park"])
def test_a_part_on_a_full_disk_raises_and_can_be_removed(tmp_path: Path, act: str):
    """Writing to /dev/full fails with the real ENOSPC; the part can still be closed and removed."""

    async def use() -> None:
        part = await (await opened_parts(tmp_path)).create(1, 1, V1, None)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, part._sink.fileno())
        os.close(full)
        with pytest.raises(DestinationError, match="full"):
            await part.put([(part.size, DATA)])
        assert part.size == 0
        if act != "write":
            await getattr(part, act)()
        else:
            await part.discard()

    asyncio.run(use())
    assert listed(tmp_path) == (["1.1.about", "1.1.part"] if act == "park" else [])


# Through the fetcher.


Act = Callable[[Fetcher, FileParts, Origin, Job], Awaitable[None]]
LONG = DATA * 100


def fetching(act: Act, directory: Path) -> None:
    """Let `act` fetch `LONG` from a server that stalls in the middle of the first answer."""

    async def live() -> None:
        async with origin(Thing(LONG)) as served, client(stall_timeout=0.3) as opened:
            store = await opened_parts(directory)
            served.cut(5 << 20, "stall")
            job = Job(1, 1, 1, "k", served.url + "/k", None, "d", "k")
            await act(Fetcher(opened, store, small_limit=1000), store, served, job)

    asyncio.run(live())
    assert listed(directory) == [f"1.1.{len(LONG)};%22v1%22;k.whole"]


def test_a_stalled_transfer_resumes_from_disk(tmp_path: Path):
    async def act(fetcher: Fetcher, store: FileParts, served: Origin, job: Job) -> None:
        with pytest.raises(TransferError):
            await fetcher.fetch(job)
        point = await store.point(1, 1)
        assert point is not None
        assert point.size >= 4 << 20
        received = await fetcher.fetch(job)
        assert served.requests[-1].start == point.size
        assert received.part is not None
        assert await asyncio.to_thread((tmp_path / received.part).read_bytes) == LONG
        assert received.digest == hashlib.sha256(LONG).digest()

    fetching(act, tmp_path)


@pytest.mark.parametrize("delay", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
def test_a_part_cancelled_at_any_moment_is_a_correct_prefix(tmp_path: Path, delay: int):
    async def act(fetcher: Fetcher, store: FileParts, served: Origin, job: Job) -> None:
        task = asyncio.create_task(fetcher.fetch(job))
        for _ in range(delay):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        point = await store.point(1, 1)
        if point is not None:
            kept = await asyncio.to_thread((tmp_path / "1.1.part").read_bytes)
            assert len(kept) == point.size
            assert LONG.startswith(kept)
        served.answer = Thing(LONG)
        assert (await fetcher.fetch(job)).digest == hashlib.sha256(LONG).digest()

    fetching(act, tmp_path)


def test_a_part_that_cannot_be_synced_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async def use() -> bool:
        part = await (await asyncio.to_thread(FileParts, tmp_path, durable=True)).create(1, 1, V1, None)
        await part.put([(0, DATA)])
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(DestinationError):
            await part.finish()
        return part._sink.closed

    assert asyncio.run(use())

"""Long files over several connections: servers that cap, count, refuse, disconnect and send false ranges.

Whatever a server does, the file is whole and its checksum right, or the attempt has failed by name.
"""

import asyncio
import hashlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import pytest
from tests.cancelling import cancelled_before_its_thread
from tests.net.wire_server import ReceivedRequest
from tests.transfer.origin import Origin, Reply, Thing, client, origin
from tests.transfer.part_files import PART, PartFiles, no_file_in_dest, part_files

from stacpull.byte_ranges import ByteRange
from stacpull.models import AssetFile, FailureKind, Job, Validator
from stacpull.net.client import Client
from stacpull.net.transport import TransferError
from stacpull.redact import href_hash
from stacpull.store.partial_downloads import PartialDownload
from stacpull.store.staging import read_description
from stacpull.transfer import ranges
from stacpull.transfer.attempt import Downloader
from stacpull.transfer.ranges import CHUNK

MIB = 1 << 20
DATA = np.random.default_rng(3).bytes(24 * MIB)
SHA256 = hashlib.sha256(DATA).digest()
V1 = Validator('"v1"', "Mon, 01 Jan 2024 00:00:00 GMT")


@pytest.fixture(autouse=True)
def short_files_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "SPLIT_ABOVE", MIB)
    monkeypatch.setattr(ranges, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(ranges, "MAX_RANGE", 4 * MIB)


class Served(Thing):
    """An object that comes slowly over each connection, in ranges if requested, under If-Match."""

    def __call__(self, request: ReceivedRequest) -> Reply:
        wanted = request.headers.get("if-match")
        if wanted is not None and wanted != self.etag:
            return Reply(412)
        return replace(super().__call__(request), pace=0.003)


@pytest.fixture
def parts() -> Iterator[PartFiles]:
    with part_files() as opened:
        yield opened


@asynccontextmanager
async def fetching(parts: PartFiles) -> AsyncIterator[tuple[Downloader, Origin, Client]]:
    async with (
        origin(Served(DATA, headers={"Accept-Ranges": "bytes"})) as served,
        client(stall_timeout=20.0) as opened,
    ):
        parts.href_hash = href_hash(job(served).href)
        yield Downloader(opened, parts, no_file_in_dest), served, opened
        assert {gate.in_use for gate in opened.gates.values()} == {0}
        assert opened.counters.files_in_flight == pytest.approx(0)


def job(served: Origin) -> Job:
    return Job("k", f"{served.url}/k.tif?sig=x", "d", "k.tif", rowid=1, item_rowid=1, generation=1)


def is_whole(received: AssetFile, parts: PartFiles) -> bool:
    return received.digest == SHA256 and parts.content(received) == DATA


async def test_the_share_that_was_received_is_counted(parts: PartFiles) -> None:
    async with fetching(parts) as (downloader, served, opened):
        receiving = asyncio.create_task(downloader.fetch(job(served)))
        shares = []
        while not receiving.done():
            await asyncio.sleep(0.001)
            shares.append(opened.counters.files_in_flight)
        assert 0.5 < max(shares) < 1.001


async def test_a_false_size_does_not_fill_the_memory_with_ranges(parts: PartFiles) -> None:
    stated = {"ETag": '"v1"', "Accept-Ranges": "bytes", "Content-Length": str(1 << 44)}
    async with fetching(parts) as (fetcher, served, _):
        served.answer = lambda _: Reply(200, stated, DATA[: 2 * MIB])
        tracemalloc.start()
        try:
            with pytest.raises(TransferError) as caught:
                await fetcher.fetch(job(served))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert caught.value.failure.kind is FailureKind.TRUNCATED
    assert peak < 64 * MIB


async def test_a_connection_writes_in_order(parts, monkeypatch):
    """Else a kill between two writes leaves a gap, and all bytes after it are requested again."""
    monkeypatch.setattr(ranges, "FAST", 1.0)  # this transfer is faster, so it has one connection
    put, writing = PartialDownload.put, asyncio.Lock()

    async def put_alone(part: PartialDownload, pieces: Sequence[tuple[int, bytes]]) -> None:
        assert not writing.locked()
        async with writing:
            await put(part, pieces)

    monkeypatch.setattr(PartialDownload, "put", put_alone)
    async with fetching(parts) as (fetcher, served, _):
        assert is_whole(await fetcher.fetch(job(served)), parts)
        assert len(served.requests) == 1


async def test_a_part_is_closed_although_its_end_is_cancelled(parts: PartFiles) -> None:
    part = await parts.create(1, 1, V1, len(DATA), None)
    await cancelled_before_its_thread(part.keep())
    assert part._file.closed


# Parts with gaps.


@pytest.mark.parametrize("connections", [1, 4])
async def test_only_the_gaps_are_requested(connections, parts, monkeypatch):
    monkeypatch.setattr("stacpull.transfer.ranges.MAX_CONNECTIONS", connections)
    async with fetching(parts) as (fetcher, served, opened):
        have = (0, 3 * MIB), (8 * MIB, 10 * MIB), (10 * MIB + 5, 20 * MIB)
        await parts.park(*((at, DATA[at:end]) for at, end in have), validator=V1, total=len(DATA))
        assert is_whole(await fetcher.fetch(job(served)), parts)
        assert served.requests[0].headers["range"] == f"bytes={3 * MIB}-"
        if connections == 1:
            ranged = [ByteRange(a.start or 0, a.end or 0) for a in served.requests if a.end is not None]
            assert ranged == [ByteRange(10 * MIB, 10 * MIB + 5), ByteRange(20 * MIB, 24 * MIB)]
            # one chunk of the gap is written, and others arrive, before the first connection is closed
            assert opened.counters.bytes_fetched <= 9 * MIB + 5 + 4 * CHUNK


@pytest.mark.parametrize("delay", [0.01, 0.03, 0.06, 0.1, 0.15])
async def test_a_part_cancelled_at_any_moment_is_correct(delay: float, parts: PartFiles) -> None:
    async with fetching(parts) as (fetcher, served, _):
        try:
            async with asyncio.timeout(delay):
                await fetcher.fetch(job(served))
        except TimeoutError:
            pass
        if parts.is_parked:
            data = (parts.directory / PART).read_bytes()
            have = read_description(parts.directory / PART)[1]
            assert all(data[start:end] == DATA[start:end] for start, end in have)
        assert is_whole(await fetcher.fetch(job(served)), parts)

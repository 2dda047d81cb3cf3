"""The rows and the position that a headers job saves. The position is never ahead of the saved rows."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.raster.tiff.reads import parse_bytes

from stacpull.clock import SystemClock
from stacpull.errors import DestinationError
from stacpull.events import AssetFailed
from stacpull.models import Failure, FailureKind, ItemId
from stacpull.redact import Secret, Secrets
from stacpull_raster.header_book import HeaderBook, RowBatch
from stacpull_raster.header_rows import COLUMNS, HeaderJob, as_mapping, failed_row, header_row
from stacpull_raster.ranged import HeaderRead
from stacpull_raster.results import Result, Results
from stacpull_raster.tiff.header import Header

GONE = Failure(FailureKind.GONE, "It is gone.", status=404)
TINY = bytes.fromhex(
    "49492a0008000000"  # II, 42, the directory at 8
    "0500"
    "000103000100000002000000"  # width 2
    "010103000100000003000000"  # height 3
    "020103000100000008000000"  # 8 bits
    "030103000100000001000000"  # not compressed
    "060103000100000001000000"  # black is zero
    "00000000"
)


@pytest.fixture
def read() -> HeaderRead:
    header = parse_bytes(TINY)
    assert isinstance(header, Header)
    return HeaderRead(header, 74, 1, 74)


def job(place: int, batch: RowBatch, *, href: str = "http://h.test/a.tif", key: str = "a") -> HeaderJob:
    return HeaderJob(place, 0, 0, key, href, None, "", None, item=ItemId("c", f"i{place}"), batch=batch)


class Kept(Results):
    """Results that keep rows in a list instead of writing them."""

    def __init__(self, *, fails: bool = False) -> None:
        self.puts: list[tuple[list[Result], Any]] = []
        self.fails = fails

    def put(self, results: Any, *, position: Any = None) -> None:
        if self.fails:
            raise DestinationError("The disk is full.")
        self.puts.append((list(results), position))


def book_on(results: Results, events: list[AssetFailed] | None = None, *, slots: int = 4) -> HeaderBook:
    failures = [] if events is None else events
    return HeaderBook(
        results, Secrets(), slots=slots, clock=SystemClock(), counts=(0, 0), on_failed=failures.append
    )


@given(st.lists(st.integers(0, 4), max_size=8), st.randoms(use_true_random=False))
def test_the_position_never_runs_ahead_of_the_rows(sizes: list[int], draw: random.Random) -> None:
    header = parse_bytes(TINY)
    assert isinstance(header, Header)
    kept = Kept()

    async def work() -> None:
        book = book_on(kept)
        jobs: list[HeaderJob] = []
        for number, size in enumerate(sizes):
            batch = RowBatch(open=size, position={"batch": number})
            jobs += [job(len(jobs) + n, batch) for n in range(size)]
            book.begin(batch)
        draw.shuffle(jobs)
        async with asyncio.TaskGroup() as group:
            group.create_task(book.record())
            for one in jobs:
                await book.take_slots(1)
                if draw.random() < 0.3:
                    book.free_slots()
                    book.fail(one, GONE, 1)
                else:
                    book.put(one, HeaderRead(header, 74, 1, 74))
                if draw.random() < 0.2:
                    await asyncio.sleep(0.012)
            book.close()
        assert book.open_rows == 0

    asyncio.run(work())
    saved: set[int] = set()
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    for rows, position in kept.puts:
        saved |= {row.place for row in rows if row.place is not None}
        if position is not None:
            assert saved >= set(range(ends[position["batch"]]))
    assert saved == set(range(sum(sizes)))
    positions = [position["batch"] for _, position in kept.puts if position is not None]
    assert positions == sorted(positions)
    assert positions[-1:] == [len(sizes) - 1][: len(sizes)]


def test_a_slot_is_freed_when_its_row_is_saved(read: HeaderRead) -> None:
    kept = Kept()

    async def work() -> None:
        book, batch = book_on(kept, slots=1), RowBatch(open=2)
        book.begin(batch)
        await book.take_slots(1)
        book.put(job(0, batch), read)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await book.take_slots(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(book.record())
            await book.take_slots(1)
            assert [row.place for rows, _ in kept.puts for row in rows] == [0]
            book.close()

    asyncio.run(work())


@pytest.mark.parametrize("odd", [{"description": "half \ud800 a character"}, {"header_size": 1 << 64}])
def test_a_header_that_fits_no_row_is_a_failed_row(read: HeaderRead, odd: dict[str, Any]) -> None:
    kept, events = Kept(), list[AssetFailed]()
    unwritable = read._replace(header=replace(read.header, **odd))

    async def work() -> tuple[int, int]:
        book, batch = book_on(kept, events, slots=1), RowBatch(open=1)
        book.begin(batch)
        await book.take_slots(1)
        book.put(job(0, batch), unwritable)
        async with asyncio.TaskGroup() as group:
            group.create_task(book.record())
            await book.take_slots(1)
            book.close()
        return book.done, book.failed

    assert asyncio.run(work()) == (0, 1)
    ((rows, _),) = kept.puts
    row = as_mapping(rows[0].value)
    assert (rows[0].ok, row["failure"], row["width"]) == (False, "format", None)
    assert [event.message for event in events] == [row["error"]]


# Rows.


def test_a_row_has_the_values_of_the_header(read: HeaderRead) -> None:
    row = as_mapping(header_row(job(0, RowBatch()), read, Secrets()))
    assert list(row) == [column.name for column in COLUMNS]
    assert {name: row[name] for name in ("collection", "item", "asset", "href", "size")} == {
        "collection": "c",
        "item": "i0",
        "asset": "a",
        "href": "http://h.test/a.tif",
        "size": 74,
    }
    assert (row["width"], row["height"], row["bands"], row["dtype"]) == (2, 3, 1, "uint8")
    assert (row["transform"], row["left"], row["epsg"], row["overviews"]) == (None, None, None, [])
    assert (row["reads"], row["bytes_read"], row["failure"], row["error"]) == (1, 74, None, None)


@pytest.mark.parametrize("kind", ["header", "failure"])
def test_a_row_has_no_credentials(read: HeaderRead, kind: str) -> None:
    secrets = Secrets([Secret("planted")])
    odd = job(0, RowBatch(), href="http://u:planted@h.test/a.tif?key=planted&sig=x&path=planted")
    failed = Failure(FailureKind.HTTP, "It said planted.")
    row = header_row(odd, read, secrets) if kind == "header" else failed_row(odd, failed, secrets)
    assert b"planted" not in row
    assert b"sig=" not in row
    assert as_mapping(row)["href"] == "http://h.test/a.tif?path=***"

"""The rows that a headers job saves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.raster.tiff.reads import parse_bytes

from stacpull.clock import SystemClock
from stacpull.events import AssetFailed
from stacpull.models import Failure, FailureKind, ItemId
from stacpull.redact import Secret, Secrets
from stacpull_raster.header_rows import HeaderJob, as_mapping, failed_row, header_row
from stacpull_raster.header_run import HeaderBook
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


def job(place: int, *, href: str = "http://h.test/a.tif") -> HeaderJob:
    return HeaderJob(place, 0, 0, "a", href, None, "", None, item=ItemId("c", f"i{place}"))


class Kept(Results):
    """Results that keep rows in a list instead of writing them."""

    def __init__(self) -> None:
        self.puts: list[list[Result]] = []

    def put(self, results: Any, *, position: Any = None) -> None:
        self.puts.append(list(results))


def book_on(results: Results, events: list[AssetFailed] | None = None, *, slots: int = 4) -> HeaderBook:
    failures = [] if events is None else events
    return HeaderBook(
        results, Secrets(), slots=slots, clock=SystemClock(), counts=(0, 0), on_failed=failures.append
    )


@pytest.mark.parametrize("odd", [{"description": "half \ud800 a character"}, {"header_size": 1 << 64}])
def test_a_header_that_fits_no_row_is_a_failed_row(read: HeaderRead, odd: dict[str, Any]) -> None:
    kept, events = Kept(), list[AssetFailed]()
    unwritable = read._replace(header=replace(read.header, **odd))

    async def work() -> tuple[int, int]:
        book = book_on(kept, events, slots=1)
        await book.take_slots(1)
        book.put(job(0), unwritable)
        async with asyncio.TaskGroup() as group:
            group.create_task(book.record())
            await book.take_slots(1)
            book.close()
        return book.done, book.failed

    assert asyncio.run(work()) == (0, 1)
    (rows,) = kept.puts
    row = as_mapping(rows[0].value)
    assert (rows[0].ok, row["failure"], row["width"]) == (False, "format", None)
    assert [event.message for event in events] == [row["error"]]


# Rows.


@pytest.mark.parametrize("kind", ["header", "failure"])
def test_a_row_has_no_credentials(read: HeaderRead, kind: str) -> None:
    secrets = Secrets([Secret("planted")])
    odd = job(0, href="http://u:planted@h.test/a.tif?key=planted&sig=x&path=planted")
    failed = Failure(FailureKind.HTTP, "It said planted.")
    row = header_row(odd, read, secrets) if kind == "header" else failed_row(odd, failed, secrets)
    assert b"planted" not in row
    assert b"sig=" not in row
    assert as_mapping(row)["href"] == "http://h.test/a.tif?path=***"

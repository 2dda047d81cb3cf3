"""What a process sends of what it has received: how much is under way at once, and that nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stacpull.engine import part_sender
from stacpull.engine.part_sender import PartSender
from stacpull.models import IncomingPart, Job, Received
from stacpull.store.destination import Destination

LONGEST = 100


@dataclass
class Other:
    """The other end: it keeps what is sent."""

    sent: list[list[IncomingPart]] = field(default_factory=list)
    safe: int = 0
    errors: list[BaseException] = field(default_factory=list)

    def rows(self) -> list[int]:
        return [part.row for batch in self.sent for part in batch]

    def note_safe(self, count: int) -> None:
        self.safe += count


@asynccontextmanager
async def sender_to(other: Other, place: Path) -> AsyncIterator[PartSender]:
    destination = await asyncio.to_thread(Destination, place)
    sender = PartSender(
        destination,
        longest=LONGEST,
        checksum="sha256",
        send=other.sent.append,
        on_safe=other.note_safe,
        on_error=other.errors.append,
    )
    sender.start()
    try:
        yield sender
    finally:
        await sender.close()
        await asyncio.to_thread(destination.close)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each body is a batch, and three of them may be under way."""
    monkeypatch.setattr(part_sender, "_BATCH", 1)
    monkeypatch.setattr(part_sender, "MOST_UNDER_WAY", 3 * 10 + 9)


def put(sender: PartSender, row: int, size: int = 10) -> None:
    job = Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")
    sender.put(job, Received(size, None, "f", body=b"x" * size))


@pytest.mark.usefixtures("at_once")
def test_so_many_bytes_are_under_way_and_the_next_follow_in_order(tmp_path: Path) -> None:
    other = Other()

    async def course() -> None:
        async with sender_to(other, tmp_path) as sender:
            for row in range(8):
                put(sender, row)
            assert other.rows() == [0, 1, 2]
            assert other.safe == 0
            sender.confirmed(1)
            sender.confirmed(1)
            assert other.rows() == [0, 1, 2, 3, 4]
            assert other.safe == 2

    asyncio.run(course())
    assert other.rows() == list(range(8))  # at its end it sends the rest


@pytest.mark.usefixtures("at_once")
def test_a_body_that_is_larger_than_that_goes_alone(tmp_path: Path) -> None:
    other = Other()

    async def course() -> None:
        async with sender_to(other, tmp_path) as sender:
            put(sender, 1, LONGEST)
            put(sender, 2)
            assert other.rows() == [1]
            sender.confirmed(1)
            assert other.rows() == [1, 2]

    asyncio.run(course())


@pytest.mark.usefixtures("at_once")
def test_its_user_can_wait_until_nothing_waits(tmp_path: Path) -> None:
    other = Other()

    async def course() -> None:
        async with sender_to(other, tmp_path) as sender, asyncio.timeout(10):
            for row in range(5):
                put(sender, row)
            waiting = asyncio.ensure_future(sender.all_sent())
            for _ in range(2):
                await asyncio.sleep(0)
                assert not waiting.done()
                sender.confirmed(1)
            await waiting
            assert other.rows() == [0, 1, 2, 3, 4]
            await sender.all_sent()

    asyncio.run(course())


def test_bodies_are_gathered_and_longer_ones_written(tmp_path: Path) -> None:
    other = Other()

    async def course() -> None:
        async with sender_to(other, tmp_path) as sender:
            put(sender, 1)
            put(sender, 2, LONGEST + 1)
            put(sender, 3)
            assert other.sent == []

    asyncio.run(course())
    assert sorted([part.row for part in batch] for batch in other.sent) == [[1, 3], [2]]
    (written,) = next(batch for batch in other.sent if batch[0].row == 2)
    assert written.body is None
    assert [path.name for path in Destination(tmp_path).parts.iterdir()] == [written.part]
    assert other.safe == 1  # the bodies are not confirmed
    assert other.errors == []

"""What a process sends of what it has received: how much is under way at once, and that nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from stacpull.engine import store_client
from stacpull.engine.messages import Arrivals
from stacpull.engine.store_client import OutcomeSender
from stacpull.models import Job
from stacpull.planning.layout import arrival_of
from stacpull.redact import Secrets
from stacpull.store.local_store import LocalStore

LONGEST = 100


class Sent(list[msgspec.Struct]):
    """The messages of a sender."""

    def batches(self) -> list[list[int]]:
        """The rows of the assets in each message."""
        return [[one.row for one in message.arrivals] for message in self if isinstance(message, Arrivals)]

    def rows(self) -> list[int]:
        return [row for batch in self.batches() for row in batch]


def sender_to(
    sent: Sent, destination: LocalStore, on_broken: Callable[[BaseException], None]
) -> OutcomeSender:
    return OutcomeSender(
        destination,
        sent.append,
        Secrets(),
        longest=LONGEST,
        checksum="sha256",
        on_broken=on_broken,
        slots=64,
    )


@asynccontextmanager
async def sender_at(place: Path) -> AsyncIterator[tuple[OutcomeSender, Sent]]:
    destination = await asyncio.to_thread(LocalStore, place)
    sent, errors = Sent(), list[BaseException]()
    sender = sender_to(sent, destination, errors.append)
    try:
        yield sender, sent
    finally:
        await sender.flush()
        await asyncio.to_thread(destination.close)
        assert errors == []


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each body is a batch, and three of them may be under way."""
    monkeypatch.setattr(store_client, "_BATCH", 1)
    monkeypatch.setattr(store_client, "MOST_UNDER_WAY", 3 * 10 + 9)


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")


def put(sender: OutcomeSender, row: int, size: int = 10) -> None:
    sender.put(job(row), arrival_of(job(row), size, "f", None, b"x" * size))


async def free_slots(sender: OutcomeSender) -> int:
    """Return how many slots are free."""
    taken = await sender.take_slots(1000)
    sender.free_slots(taken)
    return taken


@pytest.mark.usefixtures("at_once")
def test_unconfirmed_bytes_are_limited_and_bodies_keep_their_order(tmp_path: Path) -> None:
    async def course() -> Sent:
        async with sender_at(tmp_path) as (sender, sent):
            assert await sender.take_slots(8) == 8
            for row in range(8):
                put(sender, row)
            assert sent.rows() == [0, 1, 2]
            assert await free_slots(sender) == 64 - 8
            sender.bodies_written(1)
            sender.bodies_written(1)
            assert sent.rows() == [0, 1, 2, 3, 4]
            assert await free_slots(sender) == 64 - 6
        return sent

    assert asyncio.run(course()).rows() == list(range(8))  # at its end it sends the rest

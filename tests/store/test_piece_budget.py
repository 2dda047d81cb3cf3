"""The pieces of uploads: their memory is bounded, no task waits for ever, and only whole ones are kept."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from stacpull.spans import Span
from stacpull.store.bucket import BucketStore
from stacpull.store.multipart import UploadedPiece, UploadNote
from stacpull.store.streamed_parts import PIECE, PieceBudget, _StreamedPart

MIB = 1 << 20


def test_held_memory_is_limited_and_every_task_proceeds() -> None:
    budget, held, most, done = PieceBudget(32 * MIB), 0, 0, 0

    async def transfer(size: int) -> None:
        nonlocal held, most, done
        for _ in range(5):
            units = await budget.acquire(size)
            held += units
            most = max(most, held)
            await asyncio.sleep(0)
            held -= units
            budget.release(units)
        done += 1

    async def scenario() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(transfer((1, 8, 16, 100)[number % 4] * MIB))

    asyncio.run(scenario())
    assert (held, done) == (0, 60)
    assert 8 < most <= 32


def test_a_task_cancelled_while_waiting_holds_nothing() -> None:
    async def scenario() -> None:
        budget = PieceBudget(8 * MIB)
        first = await budget.acquire(5 * MIB)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await budget.acquire(8 * MIB)
        budget.release(first)
        async with asyncio.timeout(1):
            assert await budget.acquire(8 * MIB) == 8

    asyncio.run(scenario())


def test_the_memory_of_a_piece_is_used_again() -> None:
    async def scenario() -> None:
        budget = PieceBudget(2 * PIECE)
        room = await budget.acquire(PIECE)
        memory = budget.memory(PIECE)
        budget.give_back(memory, room)
        await budget.acquire(PIECE)
        assert budget.memory(PIECE) is memory
        assert budget.memory(PIECE) is not memory

    asyncio.run(scenario())


def test_kept_memory_counts_as_held() -> None:
    async def scenario() -> None:
        budget = PieceBudget(2 * PIECE)
        rooms = [await budget.acquire(PIECE) for _ in range(2)]
        first, second = [budget.memory(PIECE) for _ in rooms]
        budget.give_back(first, rooms[0])
        budget.give_back(second, rooms[1])
        short = await budget.acquire(MIB)  # one of the two is dropped, because there is no room for both
        budget.give_back(budget.memory(MIB), short)
        room = await budget.acquire(PIECE)
        kept = budget.memory(PIECE)
        assert any(kept is one for one in (first, second))
        other = budget.memory(PIECE)
        assert not any(other is one for one in (first, second))
        budget.give_back(kept, room)
        await budget.acquire(2 * PIECE)  # so is the other one
        assert budget.memory(PIECE) is not kept

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("stored", "kept"),
    [
        ([(1, 8), (2, 8)], 16),
        ([(2, 8), (1, 8)], 16),
        ([(1, 8), (2, 8), (3, 4)], 20),
        ([(1, 8), (3, 4)], 8),
        ([(2, 8)], 0),
        ([(1, 8), (2, 5)], 8),
        ([(1, 8), (2, 8), (3, 3)], 16),
    ],
)
def test_pieces_count_up_to_the_first_gap(stored: list[tuple[int, int]], kept: int) -> None:
    """What comes after it is fetched and sent again. Only the last piece of the body may be shorter."""
    store = cast("BucketStore", SimpleNamespace(staged=None, uploads=None))
    note = UploadNote("1.1", "key", piece=8, total=20)
    part = _StreamedPart(store, PieceBudget(), "sha256", (1, 1), note, lambda *_: None, in_memory=False)
    part.keep_stored([UploadedPiece(number, "etag", size) for number, size in stored])
    assert (part.size, part.have) == (kept, (Span(0, kept),) if kept else ())

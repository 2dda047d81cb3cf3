"""The pieces of uploads: their memory is bounded, no task waits for ever, and only whole ones are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sized
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from stacpull.errors import DestinationError
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
    part = streamed()
    part.keep_stored([UploadedPiece(number, "etag", size) for number, size in stored])
    assert (part.size, part.have) == (kept, (Span(0, kept),) if kept else ())


class Uploads:
    """Stores all pieces except the one with the number `refused`."""

    def __init__(self, refused: int = 0) -> None:
        self.refused = refused

    def begin(self, note: UploadNote) -> UploadNote:
        return replace(note, upload="id")

    def send(self, _note: UploadNote, pieces: Mapping[int, tuple[Sized, bytes]]) -> list[UploadedPiece]:
        ((number, (body, _)),) = pieces.items()
        if number == self.refused:
            raise DestinationError("The bucket refuses it.")
        return [UploadedPiece(number, "etag", len(body))]


def streamed(refused: int = 0) -> _StreamedPart:
    """Return an empty part of 20 bytes in pieces of 8."""
    threads = ThreadPoolExecutor(4)
    store = SimpleNamespace(staged=None, uploads=Uploads(refused), threads=threads)
    note = UploadNote("1.1", "key", piece=8, total=20, etag='"v1"')
    budget, on_end = PieceBudget(), lambda *_, **__: None
    return _StreamedPart(cast("BucketStore", store), budget, None, (1, 1), note, on_end, in_memory=False)


def test_an_interrupted_part_only_has_what_was_stored_or_is_in_memory() -> None:
    async def scenario(refused: int) -> tuple[int, int]:
        part = streamed(refused)
        await part.put([(0, b"a" * 8 + b"b" * 8 + b"c" * 2)])
        await part.park()
        before = part.size
        part.drop_tail()
        return before, part.size

    assert asyncio.run(scenario(0)) == (18, 16)
    assert asyncio.run(scenario(2)) == (8, 8)


def test_pieces_are_hashed_in_order_whatever_thread_is_first() -> None:
    hashed: list[bytes] = []

    class SlowAtFirst:
        def update(self, data: bytes | bytearray | memoryview, /) -> None:
            if bytes(data[:1]) == b"a":
                time.sleep(0.02)
            hashed.append(bytes(data))

        def digest(self) -> bytes:
            return b""

    async def scenario() -> None:
        part = streamed()
        await part.hash_with({"slow": SlowAtFirst()})
        await part.put([(0, b"a" * 8 + b"b" * 8 + b"c" * 2)])
        await part.caught_up()

    asyncio.run(scenario())
    assert b"".join(hashed) == b"a" * 8 + b"b" * 8 + b"c" * 2

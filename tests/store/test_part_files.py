"""Parts that are kept, resumed and hashed: whatever breaks off an attempt, they resume only with proof."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.examples import examples
from tests.store.open_parts import on_loop, opened_parts

from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span
from stacpull.store.parts import FileParts

DATA = random.Random(6).randbytes(50_000)
STRONG = Validator('"v1"')
DATED = Validator(None, "Mon, 01 Jan 2024 00:00:00 GMT")
UNQUOTED = Validator("0x8D9", "Mon, 01 Jan 2024 00:00:00 GMT")
WEAK = Validator('W/"v1"')
NONE = Validator()

Reopen = Callable[[], Awaitable[FileParts]]


@pytest.fixture
def reopen(tmp_path: Path) -> Reopen:
    """Opens the same parts, as a next start does."""
    return lambda: opened_parts(tmp_path / "parts")


async def parked(
    parts: FileParts, data: bytes, validator: Validator = STRONG, *, row: int = 1, generation: int = 1
) -> None:
    """Leave a part as an attempt that broke off does."""
    part = await parts.create(row, generation, validator, len(DATA))
    await part.put([(part.size, data)])
    await part.park()


@on_loop
async def test_a_finished_part_is_complete_and_hashed(reopen: Reopen) -> None:
    parts = await reopen()
    part = await parts.create(1, 1, STRONG, len(DATA))
    hashers = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    await part.hash_with(hashers)
    for start in range(0, len(DATA), 7_000):
        await part.put([(part.size, DATA[start : start + 7_000])])
    assert part.size == len(DATA)
    name = await part.finish()
    assert isinstance(name, str)
    assert name.startswith(f"1.1.{len(DATA)}")
    assert hashers["sha256"].digest() == hashlib.sha256(DATA).digest()
    assert hashers["md5"].digest() == hashlib.md5(DATA, usedforsecurity=False).digest()
    assert await parts.point(1, 1) is None


@pytest.mark.parametrize("validator", [STRONG, DATED, UNQUOTED])
@pytest.mark.parametrize("total", [None, len(DATA)])
@on_loop
async def test_a_parked_part_has_its_position_validator_total_and_origin(reopen, validator, total):
    parts = await reopen()
    part = await parts.create(3, 2, validator, total, -77)
    await part.put([(part.size, DATA[:1000])])
    await part.park()
    expected = ResumePoint(1000, validator, total, -77)
    assert await parts.point(3, 2) == expected
    assert await (await reopen()).point(3, 2) == expected


@pytest.mark.parametrize("validator", [WEAK, NONE])
@on_loop
async def test_a_part_without_a_strong_validator_is_not_kept(reopen: Reopen, validator: Validator) -> None:
    parts = await reopen()
    await parked(parts, DATA, validator)
    assert await parts.point(1, 1) is None
    assert await (await reopen()).point(1, 1) is None


@on_loop
async def test_rows_and_generations_have_separate_parts(reopen: Reopen) -> None:
    parts = await reopen()
    await parked(parts, DATA[:10], row=1, generation=1)
    await parked(parts, DATA[:20], row=1, generation=2)
    await parked(parts, DATA[:30], row=11, generation=1)
    points = [await parts.point(*pair) for pair in ((1, 1), (1, 2), (11, 1), (11, 2), (2, 1))]
    assert [point and point.size for point in points] == [10, 20, 30, None, None]


@on_loop
async def test_creating_a_part_again_removes_the_old_one(reopen: Reopen) -> None:
    await parked(await reopen(), DATA)
    parts, other = await reopen(), Validator('"v2"')
    part = await parts.create(1, 1, other, None)
    assert part.size == 0
    await part.put([(part.size, b"new")])
    await part.park()
    assert await parts.point(1, 1) == ResumePoint(3, other, None)


@on_loop
async def test_a_discarded_part_cannot_be_resumed(reopen: Reopen) -> None:
    parts = await reopen()
    await parked(parts, DATA)
    await (await parts.resume(1, 1)).discard()
    assert await parts.point(1, 1) is None
    assert await (await reopen()).point(1, 1) is None


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=12),
    st.integers(),
    st.lists(st.booleans(), min_size=12),
)
def test_pieces_in_any_order_over_any_stops_give_the_whole(reopen, sizes, order, stops):
    """Pieces in any order, the first one first; parked in between; the bytes and the hash are right."""
    edges = [0, *accumulate(size * 500 for size in sizes)]
    spans = [Span(*pair) for pair in pairwise(edges)]
    whole = DATA[: edges[-1]]

    async def scenario() -> None:
        parts = await reopen()
        part = await parts.create(1, 1, STRONG, len(whole))
        hashers = await part.hash_with({"sha256": hashlib.sha256()})
        rest = spans[1:]
        random.Random(order).shuffle(rest)
        for span, stop in zip((spans[0], *rest), stops, strict=False):
            await part.put([(span.start, whole[span.start : span.end])])
            if stop:
                before = part.have
                await part.park()
                part = await (await reopen()).resume(1, 1)
                assert part.have == before
                hashers = await part.hash_with({"sha256": hashlib.sha256()})
        await part.finish()
        assert hashers["sha256"].digest() == hashlib.sha256(whole).digest()

    asyncio.run(scenario())


@on_loop
async def test_many_parts_at_once_do_not_mix(reopen: Reopen) -> None:
    parts = await reopen()

    async def one(row: int) -> bytes:
        part = await parts.create(row, 1, STRONG, None)
        hashers = await part.hash_with({"sha256": hashlib.sha256()})
        for start in range(0, 5000, 1000):
            await part.put([(part.size, DATA[row + start : row + start + 1000])])
        await part.finish()
        return hashers["sha256"].digest()

    digests = await asyncio.gather(*map(one, range(20)))
    assert digests == [hashlib.sha256(DATA[row : row + 5000]).digest() for row in range(20)]


@on_loop
async def test_bytes_written_before_a_kill_can_be_resumed(reopen: Reopen) -> None:
    """Nobody parks or closes anything: the next start goes by what is on disk."""
    part = await (await reopen()).create(1, 1, STRONG, len(DATA))
    await part.put([(part.size, DATA[:30_000])])
    assert await (await reopen()).point(1, 1) == ResumePoint(30_000, STRONG, len(DATA))
    await part.discard()

"""The memory for pieces of uploads: it is bounded, and no task waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from stacpull.store.streamed_parts import PieceBudget

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

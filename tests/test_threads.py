from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
from tests.cancelling import cancelled_between

from stacpull.errors import SourceError
from stacpull.threads import for_each, in_thread


@pytest.mark.parametrize("error", [None, LookupError("broke"), asyncio.CancelledError()])
def test_a_context_off_the_loop_receives_the_error_of_its_block(error: BaseException | None) -> None:
    received: list[BaseException | None] = []

    @contextmanager
    def context() -> Iterator[int]:
        try:
            yield 7
        except BaseException as caught:
            received.append(caught)
            raise
        received.append(None)

    async def run() -> None:
        async with in_thread(context()) as value:
            assert value == 7
            if error is not None:
                raise error

    with nullcontext() if error is None else pytest.raises(type(error)):
        asyncio.run(run())
    assert received == [error]


def test_a_cancellation_while_a_context_is_entered_exits_it() -> None:
    """The thread cannot be stopped: what it opens would never be closed."""
    entered, proceed, closed = threading.Event(), threading.Event(), threading.Event()

    @contextmanager
    def context() -> Iterator[None]:
        entered.set()
        proceed.wait()
        try:
            yield
        finally:
            closed.set()

    async def run() -> None:
        async with in_thread(context()):
            pytest.fail("the block is not entered")

    asyncio.run(cancelled_between(run(), entered, proceed))
    assert closed.is_set()


@pytest.mark.parametrize(("count", "most", "together"), [(0, 3, 0), (2, 3, 2), (9, 3, 3), (3, 1, 1)])
def test_values_are_begun_in_order_and_few_at_once(count: int, most: int, together: int) -> None:
    begun: list[int] = []
    ended: list[int] = []
    peak = 0

    async def work(value: int) -> None:
        nonlocal peak
        begun.append(value)
        peak = max(peak, len(begun) - len(ended))
        await asyncio.sleep(0)
        ended.append(value)

    asyncio.run(for_each(range(count), work, most))
    assert begun == list(range(count))
    assert sorted(ended) == begun
    assert peak == together


def test_an_error_ends_the_others_and_is_raised_without_a_group() -> None:
    cancelled: list[int] = []

    async def work(value: int) -> None:
        if value == 2:
            raise SourceError("It cannot be read.")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(value)

    with pytest.raises(SourceError):
        asyncio.run(for_each(range(9), work, 3))
    assert sorted(cancelled) == [0, 1]

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, nullcontext

import pytest
from tests.cancelling import cancelled_between, settle

from stacpull.errors import SourceError
from stacpull.threads import enter_in_thread, prefetch


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
        async with enter_in_thread(context()) as value:
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
        async with enter_in_thread(context()):
            pytest.fail("the block is not entered")

    asyncio.run(cancelled_between(run(), entered, proceed))
    assert closed.is_set()


class Tape:
    """An upstream of numbers that records how far it was read, and whether it was closed."""

    def __init__(self, length: int, error: Exception | None = None) -> None:
        self.length = length
        self.error = error
        self.read = 0
        self.closed = False

    async def run(self) -> AsyncGenerator[int]:
        try:
            for n in range(self.length):
                await asyncio.sleep(0)
                self.read = n + 1
                yield n
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def consumed(tape: Tape, seen: list[int], stop: int | None = None) -> None:
    async with prefetch(tape.run()) as ahead:
        await settle()
        assert tape.read == min(1, tape.length)
        async for n in ahead:
            seen.append(n)
            await settle()
            assert tape.read == min(n + 2, tape.length)
            if n == stop:
                break


@pytest.mark.parametrize(("length", "stop", "expected"), [(8, None, 8), (0, None, 0), (100, 4, 5)])
async def test_it_reads_one_element_ahead(length: int, stop: int | None, expected: int) -> None:
    tape, seen = Tape(length), list[int]()
    await consumed(tape, seen, stop)
    assert seen == list(range(expected))
    assert tape.closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_an_error_is_raised_in_place_of_its_element() -> None:
    tape, seen = Tape(3, SourceError("The page could not be read.")), list[int]()
    with pytest.raises(SourceError, match="could not be read"):
        asyncio.run(consumed(tape, seen))
    assert seen == [0, 1, 2]
    assert tape.closed


@pytest.mark.parametrize("steps", range(6))
async def test_cancellation_closes_the_upstream(steps: int) -> None:
    tape, stuck = Tape(100), asyncio.Event()

    async def consume() -> None:
        async with prefetch(tape.run()) as ahead:
            async for n in ahead:
                if n == 2:
                    await stuck.wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(consume())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert tape.closed or tape.read == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}

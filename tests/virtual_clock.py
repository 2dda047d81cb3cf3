"""A clock for tests of waiting: hours pass in no time, in the order in which they would have passed.

    clock = VirtualClock()
    clock.run(main(clock))

The event loop of `run` takes its time from the clock, and lets it jump to the next timer whenever nothing
else is ready; so every `asyncio` timeout is virtual too. Real sockets are polled but not waited for while a
timer is set: tests on real sockets run on the ordinary loop, where `sleep` only moves the clock.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

EPOCH = 1_700_000_000.0
"""The initial result of `time()`: 2023-11-14 22:13:20 UTC."""


class VirtualClock:
    """A `stacpull.clock.Clock` that only advances when a task waits. `sleeps` are the requested waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.sleeps: list[float] = []

    def time(self) -> float:
        return EPOCH + self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        loop = asyncio.get_running_loop()
        if isinstance(loop, _VirtualLoop) and loop.clock is self:
            await asyncio.sleep(seconds)
        else:
            self.now += seconds
            await asyncio.sleep(0)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, _VirtualLoop) and loop.clock is self:
            loop.call_later(seconds, callback)
        else:
            self.now += seconds
            loop.call_soon(callback)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(timeout if timeout is None else 0)
        if not ready and timeout:
            self._clock.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self.clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait for its threads without a limit: since Python 3.12, the limit would pass at once."""
        await super().shutdown_default_executor()

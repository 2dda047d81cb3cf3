"""A stop leaves work a few seconds; what needs more is cancelled."""

import asyncio

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.config.options import Options
from stacpull.engine.network import open_network, resolve_source
from stacpull.engine.run_control import GRACE, run_stoppable, walk_and_transfer
from stacpull.errors import DestinationError, InterruptedRunError, SourceError, cause


@pytest.mark.parametrize(
    ("needs", "stop_at", "result", "ends"),
    [(1, None, "done", 1), (1, 0.5, "done", 1), (5, 1, "done", 5), (60, 1, None, 6), (60, 0, None, 5)],
)
def test_work_is_cancelled_a_few_seconds_after_a_stop(needs, stop_at, result, ends):
    clock = VirtualClock()

    async def work() -> str:
        await asyncio.sleep(needs)
        return "done"

    async def main() -> tuple[str | None, float]:
        stop = asyncio.Event()
        if stop_at is not None:
            asyncio.get_running_loop().call_later(stop_at, stop.set)
        try:
            return await run_stoppable(work(), stop, GRACE), clock.monotonic()
        except InterruptedRunError:
            return None, clock.monotonic()

    found, now = clock.run(main())
    assert found == result
    assert now == pytest.approx(ends, abs=0.01)


class Pool:
    """A pool whose jobs take some seconds once the queue has ended."""

    def __init__(self, clock: VirtualClock, seconds: float) -> None:
        self.down_hosts: dict[str, str] = {}
        self.events: list[tuple[str, float]] = []
        self._clock, self._seconds, self._end = clock, seconds, asyncio.Event()

    def _note(self, event: str) -> None:
        self.events.append((event, round(self._clock.monotonic(), 2)))
        self._end.set()

    async def run(self) -> None:
        try:
            await self._end.wait()
            await asyncio.sleep(self._seconds)
        finally:
            self._note("ended")

    def end_queue(self) -> None:
        self._note("end queue")

    def stop(self) -> None:
        self._note("stop")


@pytest.mark.parametrize(
    ("walk", "seconds", "stop_at", "broken_at", "expected", "error"),
    [
        pytest.param(2.0, 3.0, None, None, [("end queue", 2), ("ended", 5)], None, id="to the end"),
        pytest.param(9.0, 3.0, 1.0, None, [("stop", 1), ("ended", 4)], None, id="a stop during the walk"),
        pytest.param(2.0, 9.0, 3.0, None, [("end queue", 2), ("stop", 3), ("ended", 8)], None, id="after it"),
        pytest.param(-2.0, 3.0, None, None, [("end queue", 2), ("ended", 5)], SourceError, id="unreadable"),
        pytest.param(2.0, 9.0, None, 4.0, [("end queue", 2), ("ended", 4)], DestinationError, id="broken"),
        pytest.param(9.0, 9.0, 1.0, 2.0, [("stop", 1), ("ended", 2)], DestinationError, id="both"),
    ],
)
def test_walk_and_pool_run_until_the_end_a_stop_or_an_error(
    walk, seconds, stop_at, broken_at, expected, error
):
    """A negative `walk` is one that fails then: what it has found is transferred."""
    clock = VirtualClock()

    async def walked() -> None:
        await asyncio.sleep(abs(walk))
        if walk < 0:
            raise SourceError("unreadable")

    async def tick() -> None:
        await asyncio.sleep(1e6)

    async def main() -> tuple[Pool, BaseException | None]:
        loop, stop, pool = asyncio.get_running_loop(), asyncio.Event(), Pool(clock, seconds)
        broken: asyncio.Future[BaseException] = loop.create_future()
        if stop_at is not None:
            loop.call_later(stop_at, stop.set)
        if broken_at is not None:
            loop.call_later(broken_at, broken.set_result, DestinationError("full"))
        try:
            await walk_and_transfer(walked, pool, [tick], stop=stop, fatal_error=broken)
        except (SourceError, BaseExceptionGroup) as caught:
            return pool, cause(caught)
        finally:
            assert not broken.cancelled()
        return pool, None

    pool, caught = clock.run(main())
    assert pool.events == expected
    assert type(caught) is (type(None) if error is None else error)


async def test_more_requests_to_a_host_than_usual_are_allowed() -> None:
    options, address = resolve_source("https://h.example/", Options(per_host=100))
    async with open_network(address, options) as network:
        assert (network.per_host, network.slots) == (100, 100)

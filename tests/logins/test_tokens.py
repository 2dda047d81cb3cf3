from __future__ import annotations

import asyncio
import math

import pytest
from tests.virtual_clock import VirtualClock

from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull_logins.tokens import PASSING, CachedToken, TimedToken


class SlowService:
    """Issues consecutive numbers and takes a second for each."""

    def __init__(self, clock: VirtualClock, seconds: float = math.inf) -> None:
        self.clock, self.seconds, self.requests = clock, seconds, 0
        self.error: StacpullError | None = None

    async def fetch(self) -> TimedToken[int]:
        self.requests += 1
        number = self.requests
        await self.clock.sleep(1)
        if self.error is not None:
            raise self.error
        return TimedToken(number, self.seconds)


@pytest.mark.parametrize(
    ("life", "used"), [(240, 120), (100, 50), (15, 10), (1e-6, 10), (0, 10), (-3600, 10), (math.inf, 1e6)]
)
async def test_a_token_is_used_until_shortly_before_it_expires(life: float, used: float) -> None:
    clock = VirtualClock()
    service = SlowService(clock, life)
    cached = CachedToken(service.fetch, clock)
    assert await cached.current() == 1
    clock.now = used - 0.5
    assert await cached.current() == 1
    if math.isfinite(life):
        clock.now = used + 0.5
        assert await cached.current() == 2


@pytest.mark.parametrize(
    ("error", "after", "requests"),
    [
        (CredentialsError("wrong"), 0, 1),
        (CredentialsError("wrong"), 1e6, 1),
        (SourceError("down"), 0, 1),
        (SourceError("down"), PASSING + 1, 2),
    ],
)
async def test_a_failure_is_raised_in_all_waiting_tasks_and_remembered(error, after, requests):
    clock = VirtualClock()
    service = SlowService(clock)
    service.error = error
    cached = CachedToken(service.fetch, clock)
    found = await asyncio.gather(*(cached.current() for _ in range(20)), return_exceptions=True)
    assert [(type(one), str(one)) for one in found] == [(type(error), str(error))] * 20
    clock.now += after
    with pytest.raises(type(error), match=str(error)):
        await cached.instead_of(7)
    assert service.requests == requests

"""Tokens of a service: kept until shortly before they expire, shared by all tasks.

Services that give tokens are limited themselves: a task that needs a token while another task asks for one
waits for that one. A token is renewed when 120 seconds are left of its life, or at half of its life if it
lives for less than 240 seconds: otherwise every request would renew it. A token that has already expired when
it arrives, or will within a second (services do send such), is used for 10 seconds all the same: the clocks
may differ, and the service must not be flooded.

A failure that stops the run is remembered for all waiting tasks, which are woken before the run has ended:
a refusal for good, since accounts get locked; what may pass, for a minute.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import orjson

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, StacpullError

T = TypeVar("T")

EARLY = 120.0
"""Seconds before its end at which a token is renewed."""
PASSING = 60.0
"""Seconds for which a service that could not be asked is not asked again."""
_EXPIRED_USE = 10.0
_SHORTEST_LIFE = 1.0


class TimedToken(NamedTuple, Generic[T]):
    """A token, and its life in seconds from the request on; `inf` if the service does not state it."""

    value: T
    seconds: float = math.inf


class RememberedError(NamedTuple):
    """Why a service gave nothing, and until when that holds (monotonic clock)."""

    error: StacpullError
    until: float

    @classmethod
    def of(cls, error: StacpullError, now: float) -> RememberedError:
        """Return what is remembered of `error`."""
        return cls(error, math.inf if isinstance(error, CredentialsError) else now + PASSING)

    def raise_if_current(self, now: float) -> None:
        """Raise the error again if it still holds."""
        if now < self.until:
            raise type(self.error)(*self.error.args) from self.error


class CachedToken(Generic[T]):
    """One token and its renewal.

    Args:
        ask: Asks the service; what it raises is passed on to the task that wanted the token.
        clock: Measures the age.
    """

    def __init__(self, ask: Callable[[], Awaitable[TimedToken[T]]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._held: TimedToken[T] | None = None
        self._asked_at = 0.0
        self._failed: RememberedError | None = None
        self._asking = asyncio.Lock()

    async def current(self) -> T:
        """Return a token that can be used for a while."""
        held = self._fresh()
        if held is None:
            async with self._asking:
                held = self._fresh() or await self._renewed()
        return held.value

    async def instead_of(self, refused: T) -> T:
        """Return a token other than `refused`: a new one, unless another task has renewed it meanwhile."""
        async with self._asking:
            if self._held is None or self._held.value == refused:
                return (await self._renewed()).value
            return self._held.value

    @property
    def held(self) -> T | None:
        """The current token, None without one."""
        return None if self._held is None else self._held.value

    def age(self) -> float:
        """Return for how many seconds the token has been held."""
        return self._clock.monotonic() - self._asked_at

    def _fresh(self) -> TimedToken[T] | None:
        held = self._held
        return held if held is not None and self.age() < _usable_for(held.seconds) else None

    async def _renewed(self) -> TimedToken[T]:
        if self._failed is not None:
            self._failed.raise_if_current(self._clock.monotonic())
        asked_at = self._clock.monotonic()
        try:
            held = self._held = await self._ask()
        except StacpullError as error:
            self._failed = RememberedError.of(error, self._clock.monotonic())
            raise
        self._asked_at = asked_at
        return held


def _usable_for(life: float) -> float:
    return max(life - EARLY, life / 2) if life >= _SHORTEST_LIFE else _EXPIRED_USE


class Reply(NamedTuple):
    """The answer of a token service."""

    status: int
    body: bytes
    reason: str
    """Why it refused, where it states that; without secrets."""
    date: float | None
    """Its own time in seconds since the epoch, if it states that."""

    @property
    def members(self) -> Mapping[str, Any]:
        """The members of the JSON object in it; none if there is no such object."""
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

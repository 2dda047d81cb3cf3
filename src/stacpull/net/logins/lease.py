"""A value that a service lends for a while: had once, shared by all tasks, renewed early.

The services that give tokens are limited themselves, so whoever needs a new one while somebody else is
asking waits for that one. It is renewed when 120 seconds are left to it; one that lives for less than 240 at
half its life, or else it would be renewed with every request. What has expired already when it is given, or
will within a second (that happens), is used for 10 seconds all the same: the clocks may be wrong, and the
service is not to be hammered.

What stops the run is remembered for all who wait: the next of them is woken before the run has ended. A
refusal is remembered for ever, for accounts get locked; what may pass, for a minute.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, StacpullError

__all__ = ["EARLY", "PASSING", "Failed", "Lease", "Lent"]

T = TypeVar("T")

EARLY = 120.0
"""Seconds before its end at which a value is renewed."""
PASSING = 60.0
"""Seconds for which a service that could not be asked is not asked again."""
_OF_AN_EXPIRED_ONE = 10.0
_LEAST = 1.0


class Lent(NamedTuple, Generic[T]):
    """What a service gave, and for how many seconds from the asking on; `inf` if it did not say."""

    value: T
    seconds: float = math.inf


class Failed(NamedTuple):
    """Why a service gave nothing, and until when that stands, by the monotonic clock."""

    error: StacpullError
    until: float

    @classmethod
    def of(cls, error: StacpullError, now: float) -> Failed:
        """Return what is remembered of `error`."""
        return cls(error, math.inf if isinstance(error, CredentialsError) else now + PASSING)

    def tell(self, now: float) -> None:
        """Raise the error anew, if it stands yet."""
        if now < self.until:
            raise type(self.error)(*self.error.args) from self.error


class Lease(Generic[T]):
    """One value and its renewal.

    Args:
        ask: Asks the service; what it raises goes to whoever wanted the value.
        clock: What tells the age.
    """

    def __init__(self, ask: Callable[[], Awaitable[Lent[T]]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._held: Lent[T] | None = None
        self._asked_at = 0.0
        self._failed: Failed | None = None
        self._asking = asyncio.Lock()

    async def current(self) -> T:
        """Return a value that is good for a while yet."""
        held = self._fresh()
        if held is None:
            async with self._asking:
                held = self._fresh() or await self._renewed()
        return held.value

    async def instead_of(self, refused: T) -> T:
        """Return a value other than `refused`: a new one, unless another task has had one meanwhile."""
        async with self._asking:
            if self._held is None or self._held.value == refused:
                await self._renewed()
            return (self._held or await self._renewed()).value

    @property
    def held(self) -> T | None:
        """The value there is, if there is one."""
        return None if self._held is None else self._held.value

    def age(self) -> float:
        """Return for how many seconds the value has been held."""
        return self._clock.monotonic() - self._asked_at

    def _fresh(self) -> Lent[T] | None:
        held = self._held
        return held if held is not None and self.age() < _used_for(held.seconds) else None

    async def _renewed(self) -> Lent[T]:
        if self._failed is not None:
            self._failed.tell(self._clock.monotonic())
        asked_at = self._clock.monotonic()
        try:
            held = self._held = await self._ask()
        except StacpullError as error:
            self._failed = Failed.of(error, self._clock.monotonic())
            raise
        self._asked_at = asked_at
        return held


def _used_for(life: float) -> float:
    return max(life - EARLY, life / 2) if life >= _LEAST else _OF_AN_EXPIRED_ONE

"""Tokens of a service, cached until shortly before they expire and shared by all tasks.

Token services have rate limits, so tasks share one request for a token. A token is renewed 120 seconds before
it expires, or after half of its lifetime if that is less than 240 seconds: otherwise every request would
renew it. Some services send tokens that have expired on arrival, or expire within a second. Such tokens are
used for 10 seconds anyway: the clocks may differ, and the service must not be flooded.

A failure that stops the run is remembered, because waiting tasks wake up before the run has ended: a refusal
permanently, since accounts get locked, and a temporary failure for a minute.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import msgspec
import orjson

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.hosts import host_of
from stacpull.net.status import REDIRECTS, moment_of, reason_in
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secret

if TYPE_CHECKING:
    from stacpull_logins.logins import Logins

T = TypeVar("T")

EARLY = 120.0
"""Seconds before its expiry at which a token is renewed."""
PASSING = 60.0
"""Seconds for which a temporary failure of a service is remembered."""
_EXPIRED_USE = 10.0
_SHORTEST_LIFE = 1.0
_LONGEST_REPLY = 64 * 1024


class TimedToken(NamedTuple, Generic[T]):
    value: T
    seconds: float = math.inf


class RememberedError(msgspec.Struct, frozen=True):
    """The error of a service, and until when it applies (monotonic clock)."""

    error: StacpullError
    until: float

    @classmethod
    def of(cls, error: StacpullError, now: float) -> RememberedError:
        return cls(error, math.inf if isinstance(error, CredentialsError) else now + PASSING)

    def raise_if_current(self, now: float) -> None:
        if now < self.until:
            raise type(self.error)(*self.error.args) from self.error


class CachedToken(Generic[T]):
    def __init__(self, ask: Callable[[], Awaitable[TimedToken[T]]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._held: TimedToken[T] | None = None
        self._requested_at = 0.0
        self._failed: RememberedError | None = None
        self._asking = asyncio.Lock()

    async def current(self) -> T:
        held = self._fresh()
        if held is None:
            async with self._asking:
                held = self._fresh() or await self._renewed()
        return held.value

    async def instead_of(self, refused: T) -> T:
        """Return a token other than `refused`, renewed unless another task has already done so."""
        async with self._asking:
            if self._held is None or self._held.value == refused:
                return (await self._renewed()).value
            return self._held.value

    @property
    def held(self) -> T | None:
        return None if self._held is None else self._held.value

    async def is_renewed(self, refused: T, settled: float) -> bool:
        """Renew a refused token; return False if the request would be refused again.

        A token of fewer than `settled` seconds is kept: it was refused for another reason.
        """
        if refused == self.held and self.age() < settled:
            return False
        return await self.instead_of(refused) != refused

    def age(self) -> float:
        return self._clock.monotonic() - self._requested_at

    def _fresh(self) -> TimedToken[T] | None:
        held = self._held
        if held is None:
            return None
        life = held.seconds
        usable = max(life - EARLY, life / 2) if life >= _SHORTEST_LIFE else _EXPIRED_USE
        return held if self.age() < usable else None

    async def _renewed(self) -> TimedToken[T]:
        if self._failed is not None:
            self._failed.raise_if_current(self._clock.monotonic())
        requested_at = self._clock.monotonic()
        try:
            held = self._held = await self._ask()
        except StacpullError as error:
            self._failed = RememberedError.of(error, self._clock.monotonic())
            raise
        self._requested_at = requested_at
        return held


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    reason: str
    """The reason for an error, without secrets, if it states one."""
    date: float | None
    """The service's time in seconds since the epoch, if it states it."""

    @property
    def members(self) -> Mapping[str, Any]:
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}


def printable(value: Any) -> Secret | None:
    usable = isinstance(value, str) and value and value.isascii() and value.isprintable()
    return Secret(value) if usable else None


async def ask(logins: Logins, request: Request, accept: frozenset[int]) -> Reply:
    """Return the response of a token service. A redirect of a request with a body is not followed."""
    final = accept if request.body is None else accept | REDIRECTS

    async def attempt() -> Reply:
        async with logins.client.open(request, accept=final, count_refusal=False) as response:
            body = await response.read(_LONGEST_REPLY)
            date = moment_of(response.headers.get("Date", ""))
            return Reply(response.status, body, reason_in(body, logins.secrets), date)

    host = host_of(request.url)
    try:
        reply = await logins.with_retries(attempt)
    except TransferError as error:
        raise SourceError(f"{host} sent no token: {error.failure.message} Try again later.") from error
    if reply.status not in accept:
        raise SourceError(f"{host} sent a redirect ({reply.status}) instead of a token: check token-url.")
    return reply

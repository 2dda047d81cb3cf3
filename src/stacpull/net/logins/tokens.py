"""Tokens of a service: asked for with retries, kept until shortly before they expire, shared by all tasks.

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
from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.hosts import host_of
from stacpull.models import Failure
from stacpull.net.client import Client, Counters
from stacpull.net.redirects import REDIRECTS
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.status import moment_of, reason_in
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secrets

T = TypeVar("T")

EARLY = 120.0
"""Seconds before its end at which a token is renewed."""
PASSING = 60.0
"""Seconds for which a service that could not be asked is not asked again."""
_EXPIRED_USE = 10.0
_SHORTEST_LIFE = 1.0
_NOTICE_EVERY = 60.0
_LONGEST_REPLY = 64 * 1024


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
        """The present token, None if there is none."""
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


class LoginRetries:
    """Repeats requests to services of logins that fail for now: once for all tasks that wait.

    Args:
        policy: How often, and how long to wait.
        clock: Waits.
        counters: Counts the retries.
        on_wait: Called with one sentence when a host is waited for.
    """

    def __init__(
        self, policy: RetryPolicy, clock: Clock, counters: Counters, on_wait: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._counters = counters
        self._on_wait = on_wait
        self._silent_until: dict[str, float] = {}
        self.clock = clock

    async def attempted(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call `attempt` as often as the policy allows.

        Raises:
            TransferError: As `net.retry.attempted`.
            SourceError: As `net.retry.attempted`.
        """
        return await attempted(attempt, self._policy, self.clock, self._note)

    def _note(self, failure: Failure) -> None:
        """Count a retry; report it once a minute per host, however many tokens the host is asked for."""
        self._counters.retries += 1
        now = self.clock.monotonic()
        if now >= self._silent_until.get(failure.host, now):
            self._silent_until[failure.host] = now + _NOTICE_EVERY + (failure.retry_after or 0.0)
            again = "" if failure.retry_after is None else f", again in {failure.retry_after:.0f} s"
            self._on_wait(f"Waiting for the login{again}: {failure.message}")


class Reply(NamedTuple):
    """The answer of a token service."""

    status: int
    members: Mapping[str, Any]
    """The JSON object in it, empty if there is none."""
    reason: str
    """Why it refused, where it states that; without secrets."""
    date: float | None
    """Its own time in seconds since the epoch, if it states that."""


class TokenService:
    """Sends requests to token services.

    Args:
        client: Sends the requests, without credentials of its own; its gates are not those of the transfers,
            whose permits are held meanwhile.
        retries: Repeats them.
        secrets: Learns each new token, so that none is ever written down.
    """

    def __init__(self, client: Client, retries: LoginRetries, secrets: Secrets) -> None:
        self._client = client
        self._retries = retries
        self.clock = retries.clock
        self.secrets = secrets

    async def ask(self, request: Request, accept: frozenset[int]) -> Reply:
        """Return the answer, if its status is one of `accept`. A request with a body is not redirected.

        Raises:
            SourceError: No such answer came after all retries; throttling is waited out (`net.retry`).
        """
        final = accept if request.body is None else accept | REDIRECTS

        async def attempt() -> Reply:
            async with self._client.open(request, accept=final, count_refusal=False) as response:
                body = await response.read(_LONGEST_REPLY)
                reason = reason_in(body, self.secrets)
                return Reply(
                    response.status, _members(body), reason, moment_of(response.headers.get("Date", ""))
                )

        host = host_of(request.url)
        try:
            reply = await self._retries.attempted(attempt)
        except TransferError as error:
            raise SourceError(f"{host} gave no token: {error.failure.message} Try again later.") from error
        if reply.status not in accept:
            raise SourceError(f"{host} gave no token but a redirect ({reply.status}): check token-url.")
        return reply


def _members(body: bytes) -> Mapping[str, Any]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return reply if isinstance(reply, dict) else {}

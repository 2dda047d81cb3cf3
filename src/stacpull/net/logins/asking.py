"""Asking a service for tokens: patiently, with nothing attached that is not for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import orjson

from stacpull.clock import Clock
from stacpull.errors import SourceError
from stacpull.hosts import host_of
from stacpull.models import Failure
from stacpull.net.client import Client, Counters
from stacpull.net.redirects import REDIRECTS
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.status import moment_of, reason_in
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secrets

__all__ = ["Asker", "Patience", "Reply"]

T = TypeVar("T")
_SAID_FOR = 60.0
_LONGEST_REPLY = 64 * 1024


class Reply(NamedTuple):
    """What a token service said."""

    status: int
    members: Mapping[str, Any]
    """The JSON object that came; empty if none did."""
    reason: str
    """Why it refused, where it says so; without secrets."""
    date: float | None
    """Its own time in seconds since the epoch, if it told it."""


class Patience:
    """How services of logins are asked again that cannot be asked now: once for all who wait.

    Args:
        policy: How patient to be.
        clock: What waits.
        counters: Counts what is asked again.
        say: Told that a host is waited for, in one sentence.
    """

    def __init__(
        self, policy: RetryPolicy, clock: Clock, counters: Counters, say: Callable[[str], None]
    ) -> None:
        self._policy = policy
        self._counters = counters
        self._say = say
        self._silent_until: dict[str, float] = {}
        self.clock = clock

    async def attempted(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call `attempt` as often as the policy says.

        Raises:
            TransferError: As `net.retry.attempted`.
            SourceError: As `net.retry.attempted`.
        """
        return await attempted(attempt, self._policy, self.clock, self._note)

    def _note(self, failure: Failure) -> None:
        """Count what is asked again; tell of it once a minute a host, however many tokens it is asked for."""
        self._counters.retries += 1
        now = self.clock.monotonic()
        if now >= self._silent_until.get(failure.host, now):
            self._silent_until[failure.host] = now + _SAID_FOR + (failure.retry_after or 0.0)
            self._say(_waiting(failure))


def _waiting(failure: Failure) -> str:
    """Say that the run waits for a service, and why."""
    again = "" if failure.retry_after is None else f", again in {failure.retry_after:.0f} s"
    return f"Waiting for the login{again}: {failure.message}"


class Asker:
    """Asks token services.

    Args:
        client: Sends the requests, without credentials of its own; its gates are not those of the transfers,
            whose permits are held meanwhile.
        patience: How patient to be.
        secrets: Told of each new token, so that none is ever written down.
    """

    def __init__(self, client: Client, patience: Patience, secrets: Secrets) -> None:
        self._client = client
        self._patience = patience
        self.clock = patience.clock
        self.secrets = secrets

    async def ask(self, request: Request, accept: frozenset[int]) -> Reply:
        """Return the answer, if its status is one of `accept`. What holds a password is not redirected.

        Raises:
            SourceError: It cannot be had, also after retries; throttling is waited out (`net.retry`).
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
            reply = await self._patience.attempted(attempt)
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

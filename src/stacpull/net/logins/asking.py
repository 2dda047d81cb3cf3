"""Asking a service for tokens: patiently, with nothing attached that is not for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from stacpull.clock import Clock
from stacpull.errors import SourceError
from stacpull.models import Failure
from stacpull.net.client import Client
from stacpull.net.redirects import REDIRECTS, host_of
from stacpull.net.retry import RetryPolicy, attempted
from stacpull.net.status import moment_of, reason_in
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secrets

__all__ = ["Asker", "Reply"]

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


class Asker:
    """Asks token services.

    Args:
        client: Sends the requests, without credentials of its own; its gates are not those of the transfers,
            whose permits are held meanwhile.
        policy: How patient to be.
        clock: What waits.
        secrets: Told of each new token, so that none is ever written down.
    """

    def __init__(self, client: Client, policy: RetryPolicy, clock: Clock, secrets: Secrets) -> None:
        self._client = client
        self._policy = policy
        self.clock = clock
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
            reply = await attempted(attempt, self._policy, self.clock, self._note_retry)
        except TransferError as error:
            raise SourceError(f"{host} gave no token: {error.failure.message} Try again later.") from error
        if reply.status not in accept:
            raise SourceError(f"{host} gave no token but a redirect ({reply.status}): check token-url.")
        return reply

    def _note_retry(self, _failure: Failure) -> None:
        self._client.counters.retries += 1


def _members(body: bytes) -> Mapping[str, Any]:
    try:
        reply = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return reply if isinstance(reply, dict) else {}

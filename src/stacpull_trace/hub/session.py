"""Requests with the token that all share: refused once, it is renewed and the request is sent again.

A `Session` opens requests as `net.client.Client` does, so whatever reads through a client (the ranged header
reader) can read through it. The token goes to the deployment's own host only: a redirect to another one loses
it, as any field that says who asks. What each reply cost is added up.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus

from stacpull.errors import CredentialsError
from stacpull.net.client import OK, Client, Counters, Exchange
from stacpull.net.credentials import same_site
from stacpull.net.redirects import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull_trace.hub.token import Tokens

__all__ = ["Session", "units_in"]

_SPENT = "x-processingunits-spent"


class Session:
    """A client with a token.

    Args:
        client: Sends the requests, without credentials of its own.
        tokens: Where tokens come from.
        base_url: The deployment: what else is asked goes without the token.
    """

    def __init__(self, client: Client, tokens: Tokens, base_url: str) -> None:
        self._client = client
        self._tokens = tokens
        self._base_url = base_url
        self.processing_units = 0.0
        """What the replies so far cost, as they said."""

    @property
    def counters(self) -> Counters:
        """What went over the network so far."""
        return self._client.counters

    @asynccontextmanager
    async def open(
        self, request: Request, *, accept: frozenset[int] = OK, count_refusal: bool = False
    ) -> AsyncIterator[Exchange]:
        """Send `request` with the token.

        Args:
            request: What to ask for.
            accept: The statuses that are a response and not a failure.
            count_refusal: As in `net.client.Client.open`.

        Raises:
            TransferError: As in `net.client.Client.open`.
            CredentialsError: A new token is refused too, or none is given.
            SourceError: The token service cannot be reached.
        """
        if not same_site(self._base_url, request.url):
            async with self._client.open(request, accept=accept, count_refusal=count_refusal) as response:
                yield response
            return
        accept |= {HTTPStatus.UNAUTHORIZED}
        async with AsyncExitStack() as stack:
            token = await self._tokens.current()
            exchange = self._client.open(_signed(request, token), accept=accept, count_refusal=count_refusal)
            response = await stack.enter_async_context(exchange)
            if response.status == HTTPStatus.UNAUTHORIZED:
                await stack.aclose()  # its permit goes back before the token's request asks for one
                token = await self._tokens.instead_of(token)
                exchange = self._client.open(
                    _signed(request, token), accept=accept, count_refusal=count_refusal
                )
                response = await stack.enter_async_context(exchange)
            if response.status == HTTPStatus.UNAUTHORIZED:
                raise CredentialsError(
                    f"{host_of(self._base_url)} does not take the token it gave: check that SH_CLIENT_ID and "
                    "SH_CLIENT_SECRET are for this deployment, and --base-url."
                )
            self.processing_units += units_in(response.headers)
            yield response


def units_in(headers: Mapping[str, str]) -> float:
    """Return the processing units that a reply cost; 0 if it does not say."""
    try:
        units = float(headers.get(_SPENT, "0"))
    except ValueError:
        return 0.0
    return units if math.isfinite(units) and units > 0 else 0.0


def _signed(request: Request, token: Secret) -> Request:
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    return request._replace(headers={**headers, "Authorization": f"Bearer {token.reveal()}"})

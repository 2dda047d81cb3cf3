"""Requests to Sentinel Hub with a shared token, which is renewed before it expires and when it is refused.

A `Session` opens requests as `net.client.Client` does, so the ranged header reader can use it. The token is
sent only to the deployment's own host; a redirect to another host removes it. The session adds up the cost of
all replies. `stacpull_logins.tokens` decides when a token is renewed and by which task. Client id and secret
are sent only in the body of a POST to the token URL (RFC 6749, 4.4.2), and not across a redirect.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from http import HTTPStatus

import attrs
from msgspec.structs import replace

from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.client import SUCCESSFUL, Client, Exchange, NetworkCounters
from stacpull.net.retry import Retries
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secret, Secrets
from stacpull.urls import same_site
from stacpull_logins.tokens import CachedToken, Reply, TimedToken, form_request, reply_to
from stacpull_trace.hub.hub_settings import OLD_TOKEN_PATH, TOKEN_PATH, HubSettings

_REFUSED = frozenset({400, 401, 403})
_ACCEPTED = _REFUSED | {200, 404}
_CHECK_URLS = "Check --base-url, SH_BASE_URL and SH_TOKEN_URL."


@attrs.define(eq=False)
class ClientGrant:
    """Requests tokens for the client id and secret, at the older path if the service has only that."""

    _settings: HubSettings
    _client: Client
    _retries: Retries
    _secrets: Secrets
    _url: str = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._url = self._settings.token_url

    async def request(self) -> TimedToken[Secret]:
        try:
            reply = await self._retried()
            if reply.status == HTTPStatus.NOT_FOUND and self._url.endswith(TOKEN_PATH):
                newer, self._url = self._url, self._url.removesuffix(TOKEN_PATH) + OLD_TOKEN_PATH
                reply = await self._retried()
                if reply.status == HTTPStatus.NOT_FOUND:
                    self._url = newer
        except TransferError as error:
            hint = "If this persists, check --base-url, SH_BASE_URL and SH_TOKEN_URL."
            raise SourceError(f"No token could be obtained: {error.failure.message} {hint}") from error
        if reply.status in _REFUSED:
            answer = f"{reply.status}: {reply.reason}" if reply.reason else str(reply.status)
            raise CredentialsError(
                f"{host_of(self._url)} refuses the client id and secret ({answer}): "
                "check SH_CLIENT_ID and SH_CLIENT_SECRET, or the profile that they come from."
            )
        if reply.status == HTTPStatus.NOT_FOUND:
            raise SourceError(f"{self._url} is not a token service. {_CHECK_URLS}")
        token = reply.access_token
        if token is None:
            raise SourceError(f"{self._url} answered without a token. {_CHECK_URLS}")
        self._secrets.add(token.value)
        return token

    async def _retried(self) -> Reply:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.reveal(),
        }
        asking = partial(reply_to, self._client, form_request(self._url, form), _ACCEPTED, self._secrets)
        return await self._retries.run(asking)


_SPENT = "x-processingunits-spent"


class Session:
    def __init__(self, client: Client, tokens: CachedToken[Secret], base_url: str) -> None:
        self._client = client
        self._tokens = tokens
        self._base_url = base_url
        self.processing_units = 0.0
        """The cost that the replies so far have stated."""

    @property
    def counters(self) -> NetworkCounters:
        return self._client.counters

    @asynccontextmanager
    async def stream(
        self, request: Request, *, accept: frozenset[int] = SUCCESSFUL
    ) -> AsyncIterator[Exchange]:
        if not same_site(self._base_url, request.url):
            async with self._client.stream(request, accept=accept) as response:
                yield response
            return
        accept |= {HTTPStatus.UNAUTHORIZED}
        async with AsyncExitStack() as stack:
            token = await self._tokens.current()
            exchange = self._client.stream(_signed(request, token), accept=accept)
            response = await stack.enter_async_context(exchange)
            if response.status == HTTPStatus.UNAUTHORIZED:
                await stack.aclose()  # its permit is released before the token request needs one
                token = await self._tokens.instead_of(token)
                exchange = self._client.stream(_signed(request, token), accept=accept)
                response = await stack.enter_async_context(exchange)
            if response.status == HTTPStatus.UNAUTHORIZED:
                raise CredentialsError(
                    f"{host_of(self._base_url)} rejects its own token: check that SH_CLIENT_ID and "
                    "SH_CLIENT_SECRET are for this deployment, and --base-url."
                )
            self.processing_units += units_in(response.headers)
            yield response


def units_in(headers: Mapping[str, str]) -> float:
    """Return the processing units that a reply cost; 0 if it does not state them."""
    try:
        units = float(headers.get(_SPENT, "0"))
    except ValueError:
        return 0.0
    return units if math.isfinite(units) and units > 0 else 0.0


def _signed(request: Request, token: Secret) -> Request:
    headers = {name: value for name, value in request.headers.items() if name.lower() != "authorization"}
    return replace(request, headers={**headers, "Authorization": f"Bearer {token.reveal()}"})

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
from http import HTTPStatus
from urllib.parse import urlencode

import orjson

from stacpull.clock import Clock
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.client import OK, Client, Exchange, NetworkCounters
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.status import reason_in
from stacpull.net.transport import Request, TransferError
from stacpull.redact import Secret, Secrets
from stacpull.urls import same_site
from stacpull_logins.tokens import CachedToken, TimedToken
from stacpull_trace.hub.hub_settings import OLD_TOKEN_PATH, TOKEN_PATH, HubSettings

_LONGEST_REPLY = 64 * 1024
_REFUSED = frozenset({400, 401, 403})
_ACCEPTED = _REFUSED | {200, 404}


class Tokens:
    def __init__(
        self, settings: HubSettings, client: Client, policy: RetryPolicy, clock: Clock, secrets: Secrets
    ) -> None:
        self._settings = settings
        self._client = client
        self._policy = policy
        self._clock = clock
        self._secrets = secrets
        self._url = settings.token_url
        self._cached = CachedToken(self._renew, clock)

    async def current(self) -> Secret:
        return await self._cached.current()

    async def instead_of(self, refused: Secret) -> Secret:
        """Return a token other than `refused`: a new one, unless another task has already renewed it."""
        return await self._cached.instead_of(refused)

    async def _renew(self) -> TimedToken[Secret]:
        try:
            status, body = await self._retried()
            if status == HTTPStatus.NOT_FOUND and self._url.endswith(TOKEN_PATH):
                newer, self._url = self._url, self._url.removesuffix(TOKEN_PATH) + OLD_TOKEN_PATH
                status, body = await self._retried()
                if status == HTTPStatus.NOT_FOUND:
                    self._url = newer
        except TransferError as error:
            raise SourceError(f"No token could be obtained: {error.failure.message}") from error
        if status in _REFUSED:
            reason = reason_in(body, self._secrets)
            answer = f"{status}: {reason}" if reason else str(status)
            raise CredentialsError(
                f"{host_of(self._url)} refuses the client id and secret ({answer}): "
                "check SH_CLIENT_ID and SH_CLIENT_SECRET, or the profile that they come from."
            )
        if status == HTTPStatus.NOT_FOUND:
            raise SourceError(f"{self._url} is not a token service. Check --base-url and sh_token_url.")
        return self._token_in(body)

    async def _retried(self) -> tuple[int, bytes]:
        return await with_retries(self._ask, self._policy, self._clock, self._client.counters.note_retry)

    async def _ask(self) -> tuple[int, bytes]:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.reveal(),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        request = Request(self._url, "POST", headers, urlencode(form).encode(), decode=True)
        async with self._client.open(request, accept=_ACCEPTED, count_refusal=False) as response:
            return response.status, await response.read(_LONGEST_REPLY)

    def _token_in(self, body: bytes) -> TimedToken[Secret]:
        try:
            reply = orjson.loads(body)
        except orjson.JSONDecodeError:
            reply = None
        value = reply.get("access_token") if isinstance(reply, dict) else None
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
            raise SourceError(f"{self._url} answered without a token. Check --base-url and sh_token_url.")
        secret = Secret(value)
        self._secrets.add(secret)
        life = reply.get("expires_in")
        is_stated = isinstance(life, int | float) and not isinstance(life, bool)
        return TimedToken(secret, float(life) if is_stated else math.inf)


_SPENT = "x-processingunits-spent"


class Session:
    def __init__(self, client: Client, tokens: Tokens, base_url: str) -> None:
        self._client = client
        self._tokens = tokens
        self._base_url = base_url
        self.processing_units = 0.0
        """The cost that the replies so far have stated."""

    @property
    def counters(self) -> NetworkCounters:
        return self._client.counters

    @asynccontextmanager
    async def open(
        self, request: Request, *, accept: frozenset[int] = OK, count_refusal: bool = False
    ) -> AsyncIterator[Exchange]:
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
                await stack.aclose()  # its permit is released before the token request needs one
                token = await self._tokens.instead_of(token)
                exchange = self._client.open(
                    _signed(request, token), accept=accept, count_refusal=count_refusal
                )
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
    return request._replace(headers={**headers, "Authorization": f"Bearer {token.reveal()}"})

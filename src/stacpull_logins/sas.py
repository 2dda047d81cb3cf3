"""Shared access signatures of Azure, issued by a signing service for each account and container.

Planetary Computer signs all of its own containers for about 45 minutes, without an account. It answers
frequent requests with 429 and "try again in N seconds"; a subscription key raises the limit. A container that
the signing service does not know (404) is read without a signature, because it may be public. Any other
status is a problem of the signing service and not of the blobs. Requests for private blobs get 404 without a
signature, and 403 with an expired one. Source: the service's OpenAPI document
(`/api/sas/v1/token/{account}/{container}`), Azure Storage REST, "Delegate access with a shared access
signature".
"""

from __future__ import annotations

import math
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus, urlsplit

import attrs

from stacpull.arguments import field_name, named
from stacpull.clock import parse_instant
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.transport import BufferedResponse, Request, Response
from stacpull.redact import Secret
from stacpull_logins.logins import Attached, Login, LoginKind, login_key, service_address
from stacpull_logins.tokens import CachedToken, Reply, TimedToken, ask, printable

if TYPE_CHECKING:
    from stacpull_logins.logins import Logins

_ACCEPTED = frozenset({200, 401, 404})
_UNKNOWN_FOR = 600.0
"""Seconds for which a container that the service does not know counts as unknown."""
_SETTLED = 60.0
"""A refused signature is renewed only if it is older: a newer one was refused for another reason."""
_MEMBERS = frozenset(
    {"sv", "ss", "srt", "sr", "se", "st", "sp", "spr", "sip", "sig", "si", "skoid", "sktid", "skt", "ske"}
    | {"sks", "skv", "saoid", "suoid", "scid", "sdd"}
)


@attrs.frozen(field_transformer=named)
class SasTokens(LoginKind):
    """`kind = "sas"`: a shared access signature for each account and container, issued at `token_url`.

    In the URL, `{account}` is the first label of the blob's host, and `{container}` the first segment of its
    path.
    """

    token_url: str = login_key(read=service_address("{account}", "{container}"))
    key_header: str | None = login_key(default=None, read=field_name)
    key: Secret | None = login_key(default=None, secret=True, spare=True)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return () if self.key is None else (self.key,)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.token_url,)

    def login(self, names: tuple[str, ...], logins: Logins) -> Login:
        return SasLogin(self, logins, names)


class SasLogin(Login):
    def __init__(self, tokens: SasTokens, logins: Logins, names: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._logins = logins
        self._names = names
        self._cached: dict[tuple[str, str], CachedToken[Secret | None]] = {}

    async def attach(self, request: Request) -> Attached:
        cached = self._cached_for(request.url)
        token = None if cached is None else await cached.current()
        if token is None:
            return Attached(request)
        return Attached(request._replace(url=signed_url(request.url, token.reveal())), token)

    def is_refusal(self, response: Response) -> bool:
        """Return True for 403 and 401: the signature may have expired or been revoked."""
        return response.status in {HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED}

    async def renewed(self, url: str, held: object, refusal: BufferedResponse) -> BufferedResponse | None:
        """Request another signature. A new one was refused for another reason, so it is kept."""
        cached = self._cached_for(url)
        if cached is None or not isinstance(held, Secret):
            return refusal
        return None if await cached.is_renewed(held, _SETTLED) else refusal

    def strip(self, url: str) -> str:
        return signed_url(url, "")

    def _cached_for(self, url: str) -> CachedToken[Secret | None] | None:
        parts = urlsplit(url)
        account = (parts.hostname or "").partition(".")[0]
        container = parts.path.lstrip("/").partition("/")[0]
        if not container:
            return None
        cached = self._cached.get((account, container))
        if cached is None:
            renew = partial(self._ask, account, container)
            cached = self._cached[account, container] = CachedToken(renew, self._logins.clock)
        return cached

    async def _ask(self, account: str, container: str) -> TimedToken[Secret | None]:
        tokens = self._tokens
        url = tokens.token_url.replace("{account}", quote(account, safe=""))
        url = url.replace("{container}", quote(container, safe="%"))
        headers = {"Accept": "application/json"}
        if tokens.key is not None and tokens.key_header is not None:
            headers[tokens.key_header] = tokens.key.reveal()
        reply = await ask(self._logins, Request(url, headers=headers, decode=True), _ACCEPTED)
        if reply.status == HTTPStatus.UNAUTHORIZED:
            keys = " and ".join(self._names) or "the key"
            raise CredentialsError(f"{host_of(url)} refuses to sign ({reply.reason or 401}): check {keys}.")
        if reply.status == HTTPStatus.NOT_FOUND:
            return TimedToken(None, _UNKNOWN_FOR)
        return self._token_in(reply, url)

    def _token_in(self, reply: Reply, url: str) -> TimedToken[Secret | None]:
        token = printable(reply.members.get("token"))
        if token is None or "sig=" not in token.reveal():
            raise SourceError(f"{host_of(url)} answered without a signature: check token-url.")
        self._logins.secrets.learn(*_signatures(token.reveal()))
        now = self._logins.clock.time() if reply.date is None else reply.date
        until = parse_instant(reply.members.get("msft:expiry"))
        return TimedToken(token, math.inf if until is None else until.timestamp() - now)


def signed_url(url: str, token: str) -> str:
    """Return `url` with the signature `token`, which replaces an older one. Other parameters are kept."""
    head, _, query = url.partition("#")[0].partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    names = {unquote_plus(pair.partition("=")[0]) for pair in pairs}
    if "sig" in names:
        pairs = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in _MEMBERS]
    whole = "&".join([*pairs, token] if token else pairs)
    return f"{head}?{whole}" if whole else head


def _signatures(token: str) -> list[Secret]:
    """Return the `sig` of a token, encoded and decoded. The other members are dates and names."""
    found = [pair.partition("=")[2] for pair in token.split("&") if pair.startswith("sig=")]
    return [Secret(text) for value in found for text in {value, unquote_plus(value)}]

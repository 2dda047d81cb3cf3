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
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import quote, unquote_plus, urlsplit

import attrs

from stacpull.arguments import field_name, named
from stacpull.clock import parse_instant
from stacpull.errors import SourceError
from stacpull.hosts import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull_logins.logins import login_key, service_address
from stacpull_logins.tokens import TimedToken, TokenKind, TokenLogin, printable

_ACCEPTED, _REFUSED = frozenset({200, 404}), frozenset({401})
_UNKNOWN_FOR = 600.0
"""Seconds for which a container that the service does not know counts as unknown."""
_MEMBERS = frozenset(
    {"sv", "ss", "srt", "sr", "se", "st", "sp", "spr", "sip", "sig", "si", "skoid", "sktid", "skt", "ske"}
    | {"sks", "skv", "saoid", "suoid", "scid", "sdd"}
)


@attrs.frozen(field_transformer=named)
class SasTokens(TokenKind):
    """`kind = "sas"`: a shared access signature for each account and container, issued at `token_url`.

    In the URL, `{account}` is the first label of the blob's host, and `{container}` the first segment of its
    path.
    """

    refusals: ClassVar[frozenset[int]] = frozenset({401, 403})  # it may have expired or been revoked
    settled: ClassVar[float] = 60.0
    token_url: str = login_key(read=service_address)
    key_header: str | None = login_key(default=None, read=field_name)
    key: Secret | None = login_key(default=None, secret=True, spare=True)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return () if self.key is None else (self.key,)

    def part_of(self, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        return (parts.hostname or "").partition(".")[0], parts.path.lstrip("/").partition("/")[0]

    def with_token(self, request: Request, token: str) -> Request:
        return request._replace(url=signed_url(request.url, token))

    def strip(self, url: str) -> str:
        return signed_url(url, "")

    async def request(self, login: TokenLogin, *part: str) -> TimedToken[Secret | None]:
        account, container = part
        if not container:
            return TimedToken(None)
        url = self.token_url.replace("{account}", quote(account, safe=""))
        url = url.replace("{container}", quote(container, safe="%"))
        headers = {"Accept": "application/json"}
        if self.key is not None and self.key_header is not None:
            headers[self.key_header] = self.key.reveal()
        reply = await login.ask(Request(url, headers=headers, decode=True), _ACCEPTED, _REFUSED)
        if reply.status == HTTPStatus.NOT_FOUND:
            return TimedToken(None, _UNKNOWN_FOR)
        token = printable(reply.members.get("token"))
        if token is None or "sig=" not in token.reveal():
            raise SourceError(f"{host_of(url)} answered without a signature: check token-url.")
        signatures = {pair[4:] for pair in token.reveal().split("&") if pair.startswith("sig=")}
        forms = signatures | set(map(unquote_plus, signatures))  # the other members are dates and names
        login.logins.secrets.learn(*map(Secret, forms))
        until = parse_instant(reply.members.get("msft:expiry"))
        return TimedToken(token, math.inf if until is None else until.timestamp() - login.logins.clock.time())


def signed_url(url: str, token: str) -> str:
    """Return `url` with the signature `token`, which replaces an older one. Other parameters are kept."""
    head, _, query = url.partition("#")[0].partition("?")
    pairs = [pair for pair in query.split("&") if pair]
    names = {unquote_plus(pair.partition("=")[0]) for pair in pairs}
    if "sig" in names:
        pairs = [pair for pair in pairs if unquote_plus(pair.partition("=")[0]) not in _MEMBERS]
    whole = "&".join([*pairs, token] if token else pairs)
    return f"{head}?{whole}" if whole else head

"""Bearer tokens of an OAuth service: had for a user or a client, refreshed, had again when refused.

Source: RFC 6749, 4.3 (password), 4.4 (client credentials), 6 (refresh); RFC 6750, 2.1 (bearer). Tokens of the
Copernicus Data Space live for 10 minutes and are refreshed for an hour; it counts sessions, so a refresh goes
before a new grant.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from stacpull.config.provider import TokenGrant
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.answers import KeptAnswer
from stacpull.net.logins.asking import Asker, Reply
from stacpull.net.logins.lease import Lease, Lent
from stacpull.net.logins.login import Attached, Login
from stacpull.net.transport import Request, Response
from stacpull.redact import Secret

__all__ = ["GrantLogin"]

_REFUSED = frozenset({400, 401, 403})
_SETTLED = 5.0
"""Seconds after which a token that is refused is had anew."""
_FIELDS = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


class GrantLogin(Login):
    """A token for all hosts of one login.

    Args:
        grant: Who asks, and where.
        asker: Asks.
        names: What the user is to check when it is refused.
    """

    def __init__(self, grant: TokenGrant, asker: Asker, names: tuple[str, ...]) -> None:
        self._grant = grant
        self._asker = asker
        self._names = names
        self._refresh: Secret | None = None
        self._lease = Lease(self._ask, asker.clock)

    async def attach(self, request: Request) -> Attached:
        """Return `request` with the token."""
        token = await self._lease.current()
        return Attached(with_field(request, "Authorization", f"Bearer {token.reveal()}"), token)

    def is_refusal(self, response: Response) -> bool:
        """Return True for 401: the token is not taken (any more)."""
        return response.status == HTTPStatus.UNAUTHORIZED

    async def renewed(self, url: str, held: object, refusal: KeptAnswer) -> KeptAnswer | None:  # noqa: ARG002
        """Have another token; one that is new is refused for another reason."""
        if not isinstance(held, Secret) or (held == self._lease.held and self._lease.age() < _SETTLED):
            return refusal
        await self._lease.instead_of(held)
        return None

    def strip(self, url: str) -> str:
        """Return `url`: the token is never in one."""
        return url

    async def _ask(self) -> Lent[Secret]:
        refresh, self._refresh = self._refresh, None
        if refresh is not None:
            reply = await self._sent({"grant_type": "refresh_token", "refresh_token": refresh.reveal()})
            if reply.status == HTTPStatus.OK:
                return self._token_in(reply)
        reply = await self._sent(self._first_form())
        if reply.status in _REFUSED:
            raise CredentialsError(self._refusal(reply))
        return self._token_in(reply)

    def _first_form(self) -> dict[str, str]:
        grant = self._grant
        if grant.user is None:
            return {"grant_type": "client_credentials"}
        password = grant.password.reveal() if grant.password else ""
        return {"grant_type": "password", "username": grant.user.reveal(), "password": password}

    async def _sent(self, form: dict[str, str]) -> Reply:
        form = {**form, "client_id": self._grant.client_id}
        if self._grant.client_secret is not None:
            form["client_secret"] = self._grant.client_secret.reveal()
        request = Request(self._grant.token_url, "POST", _FIELDS, urlencode(form).encode(), decode=True)
        return await self._asker.ask(request, _REFUSED | {HTTPStatus.OK})

    def _token_in(self, reply: Reply) -> Lent[Secret]:
        token = _printable(reply.members.get("access_token"))
        if token is None:
            raise SourceError(f"{host_of(self._grant.token_url)} answered without a token: check token-url.")
        self._refresh = _printable(reply.members.get("refresh_token"))
        self._asker.secrets.add(*(secret for secret in (token, self._refresh) if secret is not None))
        return Lent(token, _seconds(reply.members.get("expires_in")))

    def _refusal(self, reply: Reply) -> str:
        said = f"{reply.status}: {reply.reason}" if reply.reason else str(reply.status)
        return (
            f"{host_of(self._grant.token_url)} refuses the login ({said}): check {' and '.join(self._names)}."
        )


def with_field(request: Request, name: str, value: str) -> Request:
    """Return `request` with this header field, in the place of one of the same name."""
    kept = {other: text for other, text in request.headers.items() if other.lower() != name.lower()}
    return request._replace(headers={**kept, name: value})


def _printable(value: Any) -> Secret | None:
    usable = isinstance(value, str) and value and value.isascii() and value.isprintable()
    return Secret(value) if usable else None


def _seconds(value: Any) -> float:
    """Return the `expires_in` of a reply, a number or (against RFC 6749, 5.1) a text of one; else `inf`."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.inf
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return math.inf
    return math.inf if math.isnan(seconds) else seconds

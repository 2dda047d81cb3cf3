"""Bearer tokens of an OAuth service: requested for a user or a client, refreshed, renewed when refused.

Source: RFC 6749, 4.3 (password), 4.4 (client credentials), 6 (refresh); RFC 6750, 2.1 (bearer). Tokens of the
Copernicus Data Space expire after 10 minutes and can be refreshed for an hour. The service limits sessions,
so a refresh is tried before a new grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar

import attrs

from stacpull.arguments import named
from stacpull.errors import CredentialsError, SourceError
from stacpull.hosts import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull_logins.logins import Login, LoginKind, login_key, service_address
from stacpull_logins.tokens import Reply, TimedToken, TokenLogin, ask, form_request, printable

if TYPE_CHECKING:
    from stacpull_logins.logins import Logins

_REFUSED = frozenset({400, 401, 403})


@attrs.frozen(field_transformer=named)
class TokenGrant(LoginKind):
    """`kind = "token"`: a client or a user that gets tokens at `token_url`."""

    token_url: str = login_key(read=service_address())
    client_id: Secret = login_key()
    user: Secret | None = login_key(default=None)
    password: Secret | None = login_key(default=None, secret=True)
    client_secret: Secret | None = login_key(default=None, secret=True)

    @classmethod
    def problem(cls, written: Mapping[str, str]) -> str | None:
        if "user" in written or "client-secret" in written:
            return None
        return "a login of the kind token needs user and password, or client-secret"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        found = (self.client_secret, self.password or self.user)
        return tuple(secret for secret in found if secret is not None)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.token_url,)

    def login(self, url: str, names: tuple[str, ...], logins: Logins) -> Login:  # noqa: ARG002
        return logins.shared(self, lambda: GrantLogin(logins, names, self))

    @property
    def proof(self) -> str:
        return self.token_url


@attrs.define(eq=False)
class GrantLogin(TokenLogin):
    settled: ClassVar[float] = 5.0
    _grant: TokenGrant
    _refresh: Secret | None = attrs.field(default=None, init=False)

    def with_token(self, request: Request, token: str) -> Request:
        kept = {name: text for name, text in request.headers.items() if name.lower() != "authorization"}
        return request._replace(headers={**kept, "Authorization": f"Bearer {token}"})

    async def request(self, *_: str) -> TimedToken[Secret | None]:
        refresh, self._refresh = self._refresh, None
        if refresh is not None:
            reply = await self._sent({"grant_type": "refresh_token", "refresh_token": refresh.reveal()})
            if reply.status == HTTPStatus.OK:
                return self._token_in(reply)
        grant, form = self._grant, {"grant_type": "client_credentials"}
        if grant.user is not None:
            password = grant.password.reveal() if grant.password else ""
            form = {"grant_type": "password", "username": grant.user.reveal(), "password": password}
        reply = await self._sent(form)
        if reply.status in _REFUSED:
            status = f"{reply.status}: {reply.reason}" if reply.reason else str(reply.status)
            host = host_of(self._grant.token_url)
            raise CredentialsError(f"{host} refuses the login ({status}): check {' and '.join(self.names)}.")
        return self._token_in(reply)

    async def _sent(self, form: dict[str, str]) -> Reply:
        form = {**form, "client_id": self._grant.client_id.reveal()}
        if self._grant.client_secret is not None:
            form["client_secret"] = self._grant.client_secret.reveal()
        return await ask(self.logins, form_request(self._grant.token_url, form), _REFUSED | {HTTPStatus.OK})

    def _token_in(self, reply: Reply) -> TimedToken[Secret | None]:
        token = reply.access_token
        if token is None:
            raise SourceError(f"{host_of(self._grant.token_url)} answered without a token: check token-url.")
        self._refresh = printable(reply.members.get("refresh_token"))
        secrets = [secret for secret in (token.value, self._refresh) if secret is not None]
        self.logins.secrets.learn(*secrets, least=0)  # the user chose this service
        return TimedToken(token.value, token.seconds)

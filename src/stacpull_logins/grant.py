"""Bearer tokens of an OAuth service: requested for a user or a client, refreshed, renewed when refused.

Source: RFC 6749, 4.3 (password), 4.4 (client credentials), 6 (refresh); RFC 6750, 2.1 (bearer). Tokens of the
Copernicus Data Space expire after 10 minutes and can be refreshed for an hour. The service limits sessions,
so a refresh is tried before a new grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import ClassVar

import attrs

from stacpull.arguments import named
from stacpull.errors import SourceError
from stacpull.hosts import host_of
from stacpull.net.transport import Request
from stacpull.redact import Secret
from stacpull_logins.logins import login_key, service_address
from stacpull_logins.tokens import Reply, TimedToken, TokenKind, TokenLogin, form_request, printable

_OK, _REFUSED = frozenset({200}), frozenset({400, 401, 403})


@attrs.frozen(field_transformer=named)
class TokenGrant(TokenKind):
    """`kind = "token"`: a client or a user that gets tokens at `token_url`."""

    settled: ClassVar[float] = 5.0
    token_url: str = login_key(read=service_address)
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
    def proof(self) -> str:
        return self.token_url

    def with_token(self, request: Request, token: str) -> Request:
        kept = {name: text for name, text in request.headers.items() if name.lower() != "authorization"}
        return request._replace(headers={**kept, "Authorization": f"Bearer {token}"})

    async def request(self, login: TokenLogin, *_: str) -> TimedToken[Secret | None]:
        client = {"client_id": self.client_id.reveal()}
        if self.client_secret is not None:
            client["client_secret"] = self.client_secret.reveal()
        refresh, login.refresh = login.refresh, None
        if refresh is not None:
            form = {**client, "grant_type": "refresh_token", "refresh_token": refresh.reveal()}
            reply = await login.ask(form_request(self.token_url, form), _OK | _REFUSED, frozenset())
            if reply.status == HTTPStatus.OK:
                return self._token_in(reply, login)
        form = {**client, "grant_type": "client_credentials"}
        if self.user is not None:
            password = self.password.reveal() if self.password else ""
            form |= {"grant_type": "password", "username": self.user.reveal(), "password": password}
        return self._token_in(await login.ask(form_request(self.token_url, form), _OK, _REFUSED), login)

    def _token_in(self, reply: Reply, login: TokenLogin) -> TimedToken[Secret | None]:
        token = reply.access_token
        if token is None:
            raise SourceError(f"{host_of(self.token_url)} answered without a token: check token-url.")
        login.refresh = printable(reply.members.get("refresh_token"))
        secrets = [secret for secret in (token.value, login.refresh) if secret is not None]
        login.logins.secrets.learn(*secrets, least=0)  # the user chose this service
        return TimedToken(token.value, token.seconds)

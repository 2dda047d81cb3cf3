"""Tokens of a service, cached until shortly before they expire and shared by all tasks.

Token services have rate limits, so tasks share one request for a token. A token is renewed 120 seconds before
it expires, or after half of its lifetime if that is less than 240 seconds: otherwise every request would
renew it. Every token is used for 10 seconds: the clocks may differ, and the service must not be flooded.

A failure that stops the run is remembered, because waiting tasks wake up before the run has ended: a refusal
permanently, since accounts get locked, and a temporary failure for a minute.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, cast
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import attrs
import msgspec
from msgspec.structs import replace

from stacpull.arguments import finite_number, read_field_name
from stacpull.clock import Clock, parse_instant
from stacpull.errors import CredentialsError, SourceError, StacpullError
from stacpull.hosts import host_of
from stacpull.json_values import parsed_object
from stacpull.net.bodies import buffered
from stacpull.net.client import Client
from stacpull.net.status import reason_in
from stacpull.net.transport import Request, Response, TransferError
from stacpull.option_fields import with_readers
from stacpull.redact import Secret, Secrets, public_url
from stacpull_logins.logins import LoginKind, Logins, LoginTransport, login_key, service_address

T = TypeVar("T")

EARLY = 120.0
"""Seconds before its expiry at which a token is renewed."""
PASSING = 60.0
"""Seconds for which a temporary failure of a service is remembered."""
_LEAST_USE = 10.0
_UNKNOWN_FOR = 600.0
"""Seconds for which a container that the service does not know counts as unknown."""
_MAX_REPLY_SIZE = 64 * 1024
_SIGNED = re.compile("[?&]sig=")
_OK, _NOT_GRANTED = frozenset({200}), frozenset({400, 401, 403})


class TimedToken(NamedTuple, Generic[T]):
    value: T
    seconds: float = math.inf


@attrs.define(eq=False)
class FailureMemory:
    """The last error of a service, of the type `of`, raised again without another request."""

    _clock: Clock
    _of: type[Exception] = StacpullError
    _error: Exception | None = attrs.field(default=None, init=False)
    _until: float = attrs.field(default=0.0, init=False)

    @contextmanager
    def guard(self) -> Iterator[None]:
        if self._error is not None and self._clock.monotonic() < self._until:
            raise self._error.with_traceback(None)  # it would grow with each task
        try:
            yield
        except self._of as error:
            is_final = isinstance(error, CredentialsError)
            self._error, self._until = error, math.inf if is_final else self._clock.monotonic() + PASSING
            raise


class CachedToken(Generic[T]):
    def __init__(self, ask: Callable[[], Awaitable[TimedToken[T]]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._held: T | None = None
        self._requested_at = self._usable_until = -math.inf
        self._failures = FailureMemory(clock)
        self._asking = asyncio.Lock()

    async def current(self) -> T:
        """Return a usable token; all waiting tasks share one request for it."""
        if self._clock.monotonic() >= self._usable_until:
            async with self._asking:
                if (now := self._clock.monotonic()) >= self._usable_until:
                    with self._failures.guard():
                        token = await self._ask()
                    seconds = max(token.seconds - EARLY, token.seconds / 2, _LEAST_USE)
                    self._held, self._requested_at, self._usable_until = token.value, now, now + seconds
        return cast("T", self._held)

    async def instead_of(self, refused: T, min_age: float = 0.0) -> T:
        """Return a token other than `refused`, renewed unless another task has already done so.

        A token of fewer than `min_age` seconds is kept: it was refused for another reason.
        """
        if self._held == refused and self._clock.monotonic() >= self._requested_at + min_age:
            self._usable_until = -math.inf
        return await self.current()


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    reason: str
    """The reason for an error, without secrets, if it states one."""

    @property
    def members(self) -> Mapping[str, Any]:
        return parsed_object(self.body) or {}

    @property
    def access_token(self) -> TimedToken[Secret] | None:
        token = printable(self.members.get("access_token"))
        seconds = finite_number(self.members.get("expires_in"))  # a string, too, against RFC 6749, 5.1
        return None if token is None else TimedToken(token, math.inf if seconds is None else seconds)


def printable(value: Any) -> Secret | None:
    usable = isinstance(value, str) and value and value.isascii() and value.isprintable()
    return Secret(value) if usable else None


def form_request(url: str, form: Mapping[str, str]) -> Request:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return Request(url, "POST", headers, urlencode(form).encode(), purpose="document")


async def reply_to(client: Client, request: Request, accept: frozenset[int], secrets: Secrets) -> Reply:
    async with client.stream(request, accept=accept) as response:
        body = await response.read(_MAX_REPLY_SIZE)
        return Reply(response.status, body, reason_in(body, secrets))


# --- logins by tokens -------------------------------------------------------------------------------------


class TokenKind(LoginKind):
    """A kind of login by tokens of a service, each for its own part of the hosts, renewed when refused."""

    __slots__ = ()
    refusals: ClassVar[frozenset[int]] = frozenset({401})
    token_url: str

    @property
    def endpoints(self) -> tuple[str, ...]:
        return (self.token_url,)

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> TokenLogin:  # noqa: ARG002
        login: TokenLogin = logins.shared.setdefault(self, TokenLogin(logins, kind=self, names=names))
        return login

    def part_of(self, url: str) -> tuple[str, ...]:  # noqa: ARG002 - a default
        """Return what identifies the token for `url` among those of this login."""
        return ()

    async def request(self, login: TokenLogin, *part: str) -> TimedToken[Secret | None]:
        """Request a token; its value is None if requests are sent without one."""
        raise NotImplementedError

    def with_token(self, request: Request, token: str) -> Request:
        raise NotImplementedError

    def strip(self, url: str) -> str:
        """Return `url`, the target of a redirect, without a token."""
        return url


@attrs.define(eq=False, kw_only=True)
class TokenLogin(LoginTransport):
    _kind: TokenKind
    _names: tuple[str, ...]
    refresh: Secret | None = attrs.field(default=None, init=False)  # issued to renew the token
    _cached: dict[tuple[str, ...], CachedToken[Secret | None]] = attrs.field(factory=dict, init=False)

    async def send(self, request: Request) -> Response:
        tokens = self.tokens_for(request.url)
        token = await tokens.current()
        response = await self.logins.http.send(self._with(request, token))
        if token is not None and response.status in self._kind.refusals:
            response = refusal = await buffered(request.url, response)
            renewed = await tokens.instead_of(token, _LEAST_USE)
            if renewed != token:
                response = await self.resent(self._with(request, renewed), refusal)
        return self.answered(request, response)

    def _with(self, request: Request, token: Secret | None) -> Request:
        return request if token is None else self._kind.with_token(request, token.reveal())

    def strip(self, url: str) -> str:
        return self._kind.strip(url)

    def tokens_for(self, url: str) -> CachedToken[Secret | None]:
        part = self._kind.part_of(url)
        if part not in self._cached:
            request = partial(self._kind.request, self, *part)
            self._cached[part] = CachedToken(request, self.logins.clock)
        return self._cached[part]

    async def ask(self, request: Request, accept: frozenset[int], refused: frozenset[int]) -> Reply:
        """Return a response of the service whose status is in `accept`. Those in `refused` stop the run."""
        logins, host = self.logins, host_of(request.url)
        try:
            asking = partial(reply_to, logins.client, request, accept | refused, logins.secrets)
            reply = await logins.retries.run(asking)
        except TransferError as error:
            raise SourceError(f"{host} sent no token: {error.failure.message} Try again later.") from error
        if reply.status in refused:
            status = f"{reply.status}: {reply.reason}" if reply.reason else str(reply.status)
            names = " and ".join(self._names) or "the key"
            raise CredentialsError(f"{host} refuses the login ({status}): check {names}.")
        return reply


# --- the kinds --------------------------------------------------------------------------------------------


@attrs.frozen(field_transformer=with_readers)
class TokenGrant(TokenKind):
    """`kind = "token"`: a client or a user that gets bearer tokens of an OAuth service at `token_url`.

    Tokens of the Copernicus Data Space expire after 10 minutes and can be refreshed for an hour. The service
    limits sessions, so a refresh is tried before a new grant. Source: RFC 6749, 4.3 (password), 4.4 (client
    credentials), 6 (refresh); RFC 6750, 2.1 (bearer).
    """

    token_url: str = login_key(read=service_address)
    client_id: Secret = login_key()
    user: Secret | None = login_key(default=None)
    password: Secret | None = login_key(default=None, secret=True)
    client_secret: Secret | None = login_key(default=None, secret=True)

    async def log_in(self, names: tuple[str, ...], logins: Logins) -> str | None:
        await self.transport(self.token_url, names, logins).tokens_for(self.token_url).current()
        return host_of(self.token_url)

    def with_token(self, request: Request, token: str) -> Request:
        kept = {name: text for name, text in request.headers.items() if name.lower() != "authorization"}
        return replace(request, headers={**kept, "Authorization": f"Bearer {token}"})

    async def request(self, login: TokenLogin, *_: str) -> TimedToken[Secret | None]:
        client, form = {"client_id": self.client_id.reveal()}, {"grant_type": "client_credentials"}
        if self.client_secret is not None:
            client["client_secret"] = self.client_secret.reveal()
        if self.user is not None:
            password = self.password.reveal() if self.password else ""
            form = {"grant_type": "password", "username": self.user.reveal(), "password": password}
        reply, refresh, login.refresh = None, login.refresh, None
        if refresh is not None:
            again = {**client, "grant_type": "refresh_token", "refresh_token": refresh.reveal()}
            reply = await login.ask(form_request(self.token_url, again), _OK | _NOT_GRANTED, frozenset())
        if reply is None or reply.status != HTTPStatus.OK:
            reply = await login.ask(form_request(self.token_url, {**client, **form}), _OK, _NOT_GRANTED)
        token = reply.access_token
        if token is None:
            raise SourceError(f"{host_of(self.token_url)} answered without a token: check token-url.")
        login.refresh = printable(reply.members.get("refresh_token"))
        secrets = [secret for secret in (token.value, login.refresh) if secret is not None]
        login.logins.secrets.add_temporary(*secrets, least=0)  # the user chose this service
        return TimedToken(token.value, token.seconds)


@attrs.frozen(field_transformer=with_readers)
class SasTokens(TokenKind):
    """`kind = "sas"`: a shared access signature of Azure for each account and container.

    In `token_url`, `{account}` is the first label of the blob's host, and `{container}` the first segment of
    its path. Planetary Computer signs all of its own containers for about 45 minutes, without an account. It
    answers frequent requests with 429 and "try again in N seconds"; a subscription key raises the limit. A
    container that the service does not know (404) is read without a signature, because it may be public. Any
    other status is a problem of the service and not of the blobs. Requests for private blobs get 404 without
    a signature, and 403 with an expired one. Source: the service's OpenAPI document
    (`/api/sas/v1/token/{account}/{container}`), Azure Storage REST, "Delegate access with a shared access
    signature".
    """

    refusals: ClassVar[frozenset[int]] = frozenset({401, 403})  # it may have expired or been revoked
    token_url: str = login_key(read=service_address)
    key_header: str | None = login_key(default=None, read=read_field_name)
    key: Secret | None = login_key(default=None, secret=True)

    def part_of(self, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        return (parts.hostname or "").partition(".")[0], parts.path.lstrip("/").partition("/")[0]

    def with_token(self, request: Request, token: str) -> Request:
        return replace(request, url=signed_url(request.url, token))

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
        request = Request(url, headers=headers, purpose="document")
        reply = await login.ask(request, _OK | {404}, frozenset({401}))
        if reply.status == HTTPStatus.NOT_FOUND:
            return TimedToken(None, _UNKNOWN_FOR)
        token = printable(reply.members.get("token"))
        signatures = parse_qs("" if token is None else token.reveal()).get("sig")
        if token is None or signatures is None:
            raise SourceError(f"{host_of(url)} answered without a signature: check token-url.")
        login.logins.secrets.add_temporary(*map(Secret, signatures))  # the other members are dates and names
        until = parse_instant(reply.members.get("msft:expiry"))
        return TimedToken(token, math.inf if until is None else until.timestamp() - login.logins.clock.time())


def signed_url(url: str, token: str) -> str:
    """Return `url` with the signature `token`, in place of an older one and the credentials beside that."""
    plain = (public_url(url) if _SIGNED.search(url) else url).partition("#")[0]
    if "?" in plain:
        plain = plain.rstrip("?&")
    return f"{plain}{'&' if '?' in plain else '?'}{token}" if token else plain

"""The interface of a login, the transport that sends authenticated requests to a host, and the simple kinds.

    Client ─▶ LoginTransport ─▶ attach ─▶ transport ─▶ refused? ─▶ renew, resend

The client requests plain URLs, and this layer below it adds the secrets. So hrefs are stored unsigned, and a
redirect to another host starts without secrets. Hosts without a login have no overhead: the client looks up
the transport of a host once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple, Protocol, TypeVar

import attrs
from multidict import CIMultiDict

from stacpull.arguments import field_name, named
from stacpull.clock import Clock
from stacpull.entry_points import load
from stacpull.entry_points import names as names_of
from stacpull.hosts import host_of, origin_of, origin_text
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import Client, HostCredentials, NetworkCounters
from stacpull.net.gate import Gates
from stacpull.net.logins.profile import FilledProfile, HostPattern, LoginKind, Netrc, basic, login_key
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.status import REDIRECTS
from stacpull.net.transport import (
    BufferedResponse,
    RenamedResponse,
    Request,
    Response,
    TransferError,
    Transport,
)
from stacpull.redact import Secret, Secrets

T = TypeVar("T")
_GROUP = "stacpull.logins"
_AT_ONCE = 4
"""Requests at once to a token service."""
_NOTICE_EVERY = 60.0


class Attached(NamedTuple):
    """An authenticated request."""

    request: Request
    held: object = None
    """The attached token or the like, for `Login.renewed` if it is refused."""


class Login(Protocol):
    """A way to log in to hosts.

    Its methods raise CredentialsError if the login is refused, and TransferError or SourceError if the
    service of the login fails now.
    """

    async def attach(self, request: Request) -> Attached:
        """Return `request` with the credentials that the host requires."""
        ...

    def is_refusal(self, response: Response) -> bool:
        """Return whether a new login might change the response."""
        ...

    async def renewed(self, url: str, held: object, refusal: BufferedResponse) -> BufferedResponse | None:
        """Log in again. Return None if the request can be resent, else the final response."""
        ...

    def accepted(self, url: str, held: object) -> None:  # noqa: ARG002 - most logins do not use it
        """Record that the host of `url` accepted the attached credentials."""
        return

    def refused_again(self, url: str) -> BufferedResponse:
        """Return the final response if the host requires another login directly after one."""
        return refused(url, "it requires another login right after one")

    def strip(self, url: str) -> str:
        """Return `url`, the target of a redirect, without credentials that `attach` adds to URLs."""
        return url


def refused(url: str, reason: str) -> BufferedResponse:
    """Return a refusal (403) with its reason."""
    return BufferedResponse(url, int(HTTPStatus.FORBIDDEN), {"Content-Type": "text/plain"}, reason.encode())


class LoginTransport:
    """Sends authenticated requests to one host, and resends a refused one after a new login.

    `counters` count the requests and bytes that the client does not count itself.
    """

    def __init__(self, http: Transport, login: Login, counters: NetworkCounters) -> None:
        self._http = http
        self._login = login
        self._counters = counters

    async def send(self, request: Request) -> Response:
        """Send `request`.

        Raises:
            TransferError: As `Transport.send` and the login; HTTP if the URL contains a password and the
                login adds an `Authorization`.
            CredentialsError: The login is refused.
        """
        login, url = self._login, request.url
        attached = await login.attach(request)
        has_field = any(name.lower() == "authorization" for name in attached.request.headers)
        if has_field and "@" in origin_text(attached.request.url):  # only one of them can be sent
            host = host_of(url)
            message = (
                f"The href at {host} contains a user and password, and --credentials has a login for {host}, "
                "too: use only one of them."
            )
            raise TransferError(Failure(FailureKind.HTTP, message, host=host))
        response = await self._http.send(attached.request)
        if login.is_refusal(response):
            refusal = await buffered(url, response)
            answer = await login.renewed(url, attached.held, refusal)
            if answer is not None:
                return answer
            attached = await login.attach(request)
            self._counters.bytes_fetched += len(refusal.body)
            self._counters.requests += 1
            response = await self._http.send(attached.request)
            if response.status in REDIRECTS and login.is_refusal(response):
                await response.close()
                return login.refused_again(url)
        login.accepted(url, attached.held)
        return _shown(url, response, login)

    async def close(self) -> None:
        """Do nothing: the transport underneath is closed by its owner."""


def _shown(url: str, response: Response, login: Login) -> Response:
    """Return the response with the plain URL, and without the attached credentials in its Location."""
    location = response.headers.get("Location") if response.status in REDIRECTS else None
    if location is None or (clean := login.strip(location)) == location:
        return RenamedResponse(url, response)
    headers = CIMultiDict(response.headers)
    headers["Location"] = clean
    return RenamedResponse(url, response, headers)


class Logins:
    """The logins of one run, by a credential profile, and the client that they share.

    Token services are requested through a separate client without credentials. It has its own gates, because
    a transfer holds a permit while it waits for a token. `on_wait` is called with one sentence when a login
    has to wait.
    """

    def __init__(
        self,
        profile: FilledProfile,
        http: Transport,
        policy: RetryPolicy,
        clock: Clock,
        secrets: Secrets,
        counters: NetworkCounters,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.http = http
        self.clock = clock
        self.secrets = secrets
        self.counters = counters
        self._profile = profile
        self._policy = policy
        self._on_wait = on_wait
        gates = Gates(_AT_ONCE, _AT_ONCE, clock)
        self.client = Client({"http": http, "https": http}, gates, clock, secrets=secrets, counters=counters)
        self._shared: dict[int, tuple[LoginKind, Login]] = {}
        self._silent_until: dict[str, float] = {}
        secrets.add(*profile.secrets)

    def __repr__(self) -> str:
        return f"<Logins of {self._profile.name}>"

    def transport_for(self, url: str) -> Transport | None:
        """Return the transport that logs in to the host of `url`, or None if it has no login."""
        login = self._profile.login_for(*origin_of(url))
        return None if login is None else login.kind.transport(url, login.sources, self)

    async def prove(self) -> list[str]:
        """Request a token from every token service. Return their hosts.

        Raises:
            CredentialsError: A login is refused.
            SourceError: A service cannot issue a token now.
        """
        hosts = [await login.kind.prove(login.sources, self) for login in self._profile.logins]
        return [host for host in hosts if host is not None]

    # --- for the kinds of login ---------------------------------------------------------------------------

    def transport(self, login: Login) -> LoginTransport:
        return LoginTransport(self.http, login, self.counters)

    def shared(self, kind: LoginKind, make: Callable[[], Login]) -> Login:
        """Return the login of `kind`, created once, so that all its hosts share one token."""
        if id(kind) not in self._shared:
            self._shared[id(kind)] = (kind, make())
        return self._shared[id(kind)][1]

    async def with_retries(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call `attempt`, a request for a login, with retries (`net.retry.with_retries`)."""
        return await with_retries(attempt, self._policy, self.clock, self._note)

    def _note(self, failure: Failure) -> None:
        """Count a retry, and report it at most once per minute and host."""
        self.counters.note_retry(failure)
        now = self.clock.monotonic()
        if now >= self._silent_until.get(failure.host, now):
            self._silent_until[failure.host] = now + _NOTICE_EVERY + (failure.retry_after or 0.0)
            again = "" if failure.retry_after is None else f", again in {failure.retry_after:.0f} s"
            self._on_wait(f"Waiting for the login{again}: {failure.message}")


# --- kinds that send the same credentials with every request ----------------------------------------------


class Fixed(LoginKind):
    """A login that sends the same header fields and query parameters with every request."""

    __slots__ = ()

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {}

    @property
    def query(self) -> Mapping[str, Secret]:
        return {}

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (*self.headers.values(), *self.query.values())

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:  # noqa: ARG002
        """Return the transport for the host of `url`. Hosts share no login, because nothing is renewed."""
        return logins.transport(FixedLogin(HostCredentials(url, self.headers, self.query)))


class FixedLogin(Login):
    """Adds fixed fields and parameters to each request."""

    def __init__(self, credentials: HostCredentials) -> None:
        self._credentials = credentials

    async def attach(self, request: Request) -> Attached:
        return Attached(self._credentials.attach(request))

    def is_refusal(self, response: Response) -> bool:  # noqa: ARG002 - another login would be the same
        return False

    async def renewed(self, url: str, held: object, refusal: BufferedResponse) -> BufferedResponse:  # noqa: ARG002
        return refusal

    def strip(self, url: str) -> str:
        """Return `url` without a key that the host repeats in it."""
        return self._credentials.strip(url)


@attrs.frozen(field_transformer=named)
class HeaderField(Fixed):
    """`kind = "header"`: a header field."""

    name: str = login_key(read=field_name)
    value: Secret = login_key(labelled=True, secret=True)

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {self.name: self.value}


@attrs.frozen(field_transformer=named)
class QueryParameter(Fixed):
    """`kind = "query"`: a query parameter."""

    name: str = login_key()
    value: Secret = login_key(labelled=True, secret=True)

    @property
    def query(self) -> Mapping[str, Secret]:
        return {self.name: self.value}


@attrs.frozen(field_transformer=named)
class BearerToken(Fixed):
    """`kind = "bearer"`: a bearer token (RFC 6750, 2.1)."""

    token: Secret = login_key(secret=True)

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {"Authorization": Secret(f"Bearer {self.token.reveal()}")}


@attrs.frozen(field_transformer=named)
class UserPassword(Fixed):
    """`kind = "basic"`: user and password (RFC 7617)."""

    user: Secret = login_key()
    password: Secret = login_key(secret=True)

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {"Authorization": basic(self.user, self.password)}


@attrs.frozen(field_transformer=named)
class NetrcEntries(Fixed):
    """`kind = "netrc"`: the user and password of each host in the netrc file."""

    @classmethod
    def netrc_host(cls, written: Mapping[str, str], hosts: tuple[HostPattern, ...]) -> str:  # noqa: ARG003
        return hosts[0].host

    @classmethod
    def logins(
        cls,
        hosts: tuple[HostPattern, ...],
        texts: Mapping[str, str],  # noqa: ARG003 - it has no keys
        netrc: Netrc,
    ) -> Iterator[tuple[tuple[HostPattern, ...], LoginKind]]:
        for host, entry in netrc.below(hosts):
            yield (host,), UserPassword(*entry)


_KINDS: Mapping[str, type[LoginKind]] = {
    "header": HeaderField,
    "query": QueryParameter,
    "bearer": BearerToken,
    "basic": UserPassword,
    "netrc": NetrcEntries,
}


def kind_names() -> list[str]:
    """Return the names that `kind` may have in a profile, of our own packages."""
    return [*_KINDS, *names_of(_GROUP)]


def kind_class(name: str) -> type[LoginKind] | None:
    """Return the class of a kind of login, None if there is none, or its package is not installed."""
    return _KINDS.get(name) or load(_GROUP, name)

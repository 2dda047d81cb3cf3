"""The kinds of login, and the logins of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from stacpull.clock import Clock
from stacpull.entry_points import load, names
from stacpull.hosts import origin_of
from stacpull.models import Failure
from stacpull.net.client import Client, NetworkCounters
from stacpull.net.gate import Gates
from stacpull.net.logins.fixed import BearerToken, HeaderField, NetrcEntries, QueryParameter, UserPassword
from stacpull.net.logins.login import Login, LoginTransport
from stacpull.net.logins.profile import FilledProfile, LoginKind
from stacpull.net.retry import RetryPolicy, with_retries
from stacpull.net.transport import Transport
from stacpull.redact import Secrets

T = TypeVar("T")

_KINDS: Mapping[str, type[LoginKind]] = {
    "header": HeaderField,
    "query": QueryParameter,
    "bearer": BearerToken,
    "basic": UserPassword,
    "netrc": NetrcEntries,
}
_GROUP = "stacpull.logins"
_AT_ONCE = 4
"""Requests at once to a token service."""
_NOTICE_EVERY = 60.0


def kind_names() -> list[str]:
    """Return the names that `kind` may have in a profile, of our own packages."""
    return [*_KINDS, *names(_GROUP)]


def kind_class(name: str) -> type[LoginKind] | None:
    """Return the class of a kind of login, None if there is none, or its package is not installed."""
    return _KINDS.get(name) or load(_GROUP, name)


class Logins:
    """The logins of one run, and the client that they share.

    Token services are requested through a separate client without credentials. It has its own gates, because
    a transfer holds a permit while it waits for a token.

    Args:
        profile: The credential profile.
        http: Sends the requests of the run and those of the logins.
        policy: The retries of requests to token services.
        clock: Measures time and sleeps.
        secrets: Gets every secret, so that none is ever written anywhere.
        counters: The counters of the run.
        on_wait: Called with one sentence when a login has to wait.
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
        hosts = []
        for login in self._profile.logins:
            host = await login.kind.prove(login.sources, self)
            hosts += [] if host is None else [host]
        return hosts

    # --- for the kinds of login ---------------------------------------------------------------------------

    def transport(self, login: Login) -> LoginTransport:
        """Return a transport that sends authenticated requests."""
        return LoginTransport(self.http, login, self.counters)

    def shared(self, kind: LoginKind, make: Callable[[], Login]) -> Login:
        """Return the login of `kind`, created once, so that all its hosts share one token."""
        if id(kind) not in self._shared:
            self._shared[id(kind)] = (kind, make())
        return self._shared[id(kind)][1]

    async def with_retries(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Call `attempt`, a request for a login, with retries.

        Raises:
            TransferError: As `net.retry.with_retries`.
            SourceError: As `net.retry.with_retries`.
        """
        return await with_retries(attempt, self._policy, self.clock, self._note)

    def _note(self, failure: Failure) -> None:
        """Count a retry, and report it at most once per minute and host."""
        self.counters.note_retry(failure)
        now = self.clock.monotonic()
        if now >= self._silent_until.get(failure.host, now):
            self._silent_until[failure.host] = now + _NOTICE_EVERY + (failure.retry_after or 0.0)
            again = "" if failure.retry_after is None else f", again in {failure.retry_after:.0f} s"
            self._on_wait(f"Waiting for the login{again}: {failure.message}")

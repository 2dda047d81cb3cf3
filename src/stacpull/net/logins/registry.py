"""The kinds of login, and the logins of a run: which login a host has is looked up once per host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from stacpull.clock import Clock
from stacpull.hosts import origin_of
from stacpull.net.client import Client, Counters
from stacpull.net.gate import Gates
from stacpull.net.logins.login import Login, LoginTransport
from stacpull.net.logins.provider import LoginKind, Provider
from stacpull.net.logins.tokens import LoginRetries, TokenService
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Transport
from stacpull.redact import Secrets

KINDS: Mapping[str, str] = {
    "header": "fixed:HeaderField",
    "query": "fixed:QueryParameter",
    "bearer": "fixed:BearerToken",
    "basic": "fixed:UserPassword",
    "netrc": "fixed:NetrcEntries",
    "token": "grant:TokenGrant",
    "sas": "sas:SasTokens",
    "visit": "visit:Visit",
    "activation": "activation:Activation",
}
"""The class of each kind of login: `kind` in a profile -> module of this package and class."""

_AT_ONCE = 4
"""Simultaneous requests to a token service."""


def kind_class(name: str) -> type[LoginKind]:
    """Return the class of a kind of login."""
    module, _, attribute = KINDS[name].partition(":")
    found: type[LoginKind] = getattr(import_module(f"stacpull.net.logins.{module}"), attribute)
    return found


class LoginTools:
    """What logins need.

    Args:
        http: Sends the requests of the run and those of the logins.
        policy: How often token services are asked again.
        clock: Where time comes from.
        secrets: Learns every secret, so that none is ever written down.
        counters: Those of the run.
        on_wait: Called with one sentence when a login is waited for.
    """

    def __init__(
        self,
        http: Transport,
        policy: RetryPolicy,
        clock: Clock,
        secrets: Secrets,
        counters: Counters,
        on_wait: Callable[[str], None],
    ) -> None:
        self.http = http
        self.clock = clock
        self.secrets = secrets
        self.counters = counters
        gates = Gates(_AT_ONCE, _AT_ONCE, clock)
        client = Client({"http": http, "https": http}, gates, clock, secrets=secrets, counters=counters)
        self.retries = LoginRetries(policy, clock, counters, on_wait)
        self.tokens = TokenService(client, self.retries, secrets)
        self._shared: dict[int, tuple[LoginKind, Login]] = {}

    def transport(self, login: Login) -> LoginTransport:
        """Return a transport that sends requests logged in."""
        return LoginTransport(self.http, login, self.counters)

    def shared(self, kind: LoginKind, make: Callable[[], Login]) -> Login:
        """Return the login of `kind`, made once: one token is good for all of its hosts."""
        if id(kind) not in self._shared:
            self._shared[id(kind)] = (kind, make())
        return self._shared[id(kind)][1]


class Logins:
    """The logins of one run.

    Args:
        provider: The credential profile.
        http: Sends the requests of the run and those of the logins.
        policy: How often token services are asked again.
        clock: Where time comes from.
        secrets: Learns every secret, so that none is ever written down.
        counters: Those of the run.
        on_wait: Called with one sentence when a login is waited for.
    """

    def __init__(
        self,
        provider: Provider,
        http: Transport,
        policy: RetryPolicy,
        clock: Clock,
        secrets: Secrets,
        counters: Counters,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._provider = provider
        self._tools = LoginTools(http, policy, clock, secrets, counters, on_wait)
        secrets.add(*provider.secrets)

    def __repr__(self) -> str:
        return f"<Logins of {self._provider.name}>"

    def transport_for(self, url: str) -> Transport | None:
        """Return the transport that logs in to the host of `url`, None if it has no login."""
        login = self._provider.login_for(*origin_of(url))
        return None if login is None else login.means.transport(url, login.sources, self._tools)

    async def prove(self) -> list[str]:
        """Get a token from every service that gives one after a login; return their hosts.

        Raises:
            CredentialsError: A login is refused.
            SourceError: The service cannot give a token now.
        """
        hosts = []
        for login in self._provider.logins:
            host = await login.means.prove(login.sources, self._tools)
            hosts += [] if host is None else [host]
        return hosts

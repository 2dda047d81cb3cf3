"""Which login a host has: asked once for each host, when the client first comes there."""

from __future__ import annotations

from collections.abc import Callable

from stacpull.clock import Clock
from stacpull.config.provider import Activation, Fixed, Means, Provider, SasTokens, TokenGrant, Visit
from stacpull.config.provider import Login as LoginOf
from stacpull.hosts import host_of, origin_of
from stacpull.net.client import Client, Counters
from stacpull.net.credentials import HostCredentials
from stacpull.net.gate import Gates
from stacpull.net.logins.activation import ActivationTransport
from stacpull.net.logins.asking import Asker, Patience
from stacpull.net.logins.grant import GrantLogin
from stacpull.net.logins.login import FixedLogin, Login, LoginTransport
from stacpull.net.logins.sas import SasLogin
from stacpull.net.logins.visit import VisitLogin
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import Request, Transport
from stacpull.redact import Secrets

__all__ = ["Logins"]

_ASKERS = 4
"""Requests to a token service at once."""


class Logins:
    """The logins of one run.

    Args:
        provider: The credential profile.
        http: What sends the requests of the run.
        plain: What sends those of the logins; one that gives all header fields (aiohttp).
        policy: How patient to be with token services.
        clock: Where time comes from.
        secrets: Told of every secret, so that none is ever written down.
        counters: Those of the run.
    """

    def __init__(
        self,
        provider: Provider,
        http: Transport,
        plain: Transport,
        policy: RetryPolicy,
        clock: Clock,
        secrets: Secrets,
        counters: Counters,
    ) -> None:
        self._provider = provider
        self._http = http
        self._plain = plain
        self._clock = clock
        self._secrets = secrets
        self._counters = counters
        gates = Gates(_ASKERS, _ASKERS, clock)
        client = Client({"http": plain, "https": plain}, gates, clock, secrets=secrets, counters=counters)
        self.on_wait: Callable[[str], None] = lambda _: None
        """Hears, in one sentence, that a login is waited for."""
        self._patience = Patience(policy, clock, counters, self._say)
        self._asker = Asker(client, self._patience, secrets)
        self._shared: dict[str, Login] = {}
        secrets.add(*provider.secrets)

    def __repr__(self) -> str:
        return f"<Logins of {self._provider.name}>"

    def _say(self, sentence: str) -> None:
        self.on_wait(sentence)

    def transport_for(self, url: str) -> Transport | None:
        """Return the transport that logs in to the host of `url`, None if it has no login."""
        login = self._provider.login_for(*origin_of(url))
        if login is None:
            return None
        match login.means:
            case Activation() as activation:
                fixed = FixedLogin(HostCredentials(url, activation.headers, {}))
                inner = self._transport(fixed)
                return ActivationTransport(inner, activation, self._clock, self._counters)
            case Fixed(headers, query):
                return self._transport(FixedLogin(HostCredentials(url, headers, query)))
            case _:
                return self._transport(self._shared_by_hosts(login))

    def _transport(self, login: Login) -> LoginTransport:
        return LoginTransport(self._http, login, self._counters)

    async def prove(self) -> list[str]:
        """Have a token from every service that gives one to who logs in; return their hosts.

        Raises:
            CredentialsError: A login is refused.
            SourceError: A token cannot be had now.
        """
        hosts = []
        for login in self._provider.logins:
            if isinstance(login.means, TokenGrant):
                await self._shared_by_hosts(login).attach(Request(login.means.token_url))
                hosts.append(host_of(login.means.token_url))
        return hosts

    def _shared_by_hosts(self, login: LoginOf) -> Login:
        """Return what logs in for all hosts of a login: one token is good for all of them."""
        if login.name not in self._shared:
            self._shared[login.name] = self._made(login.means, login.sources)
        return self._shared[login.name]

    def _made(self, means: Means, names: tuple[str, ...]) -> Login:
        match means:
            case TokenGrant():
                return GrantLogin(means, self._asker, names)
            case SasTokens():
                return SasLogin(means, self._asker, names)
            case Visit():
                return VisitLogin(means, self._plain, self._patience, self._secrets, self._counters, names)
            case _:
                raise AssertionError(means)

"""Logins to hosts: the kinds of login, profiles with their secrets, and the transport that logs in.

    Client ─▶ LoginTransport: adds the secrets ─▶ transport ─▶ refused? ─▶ log in, resend

Secrets are added below the client: hrefs are stored unsigned, and a redirect to another host starts without.
A kind is an entry point (`stacpull.logins`); its fields are its TOML keys (`arguments`).
"""

from __future__ import annotations

import base64
import netrc
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, get_type_hints

import attrs
import msgspec
from multidict import CIMultiDict

from stacpull.arguments import ValueReader, read_field_name, read_text
from stacpull.clock import Clock
from stacpull.config.options import S3Options
from stacpull.hosts import host_of, origin_of, origin_text
from stacpull.models import Failure
from stacpull.net.client import Client, HostCredentials, NetworkCounters
from stacpull.net.gate import GateSettings
from stacpull.net.retry import Retries, RetryPolicy
from stacpull.net.status import REDIRECTS
from stacpull.net.transport import BufferedResponse, Request, Response, Transport
from stacpull.option_fields import with_readers
from stacpull.redact import Secret, Secrets
from stacpull.system import expand_user, expanded_or_none
from stacpull.urls import is_remote, is_web

_NAME = re.compile(r"(?:[\w-]+\.)*[\w-]+|\[[0-9a-f:.]+\]")
"""A host name as in URLs, or an IPv6 address in brackets."""
_AT_ONCE = 4  # requests to a token service


# --- hosts ------------------------------------------------------------------------------------------------


class HostPattern(msgspec.Struct, frozen=True):
    """The hosts of a login: one host, or with `any_below` all its subdomains; one scheme and port."""

    scheme: str
    host: str
    port: int
    any_below: bool = False

    @classmethod
    def read(cls, raw: object) -> HostPattern:
        """Read `data.example.org`, `*.example.org` or `http://host:port`; ValueError for `*.org`."""
        if isinstance(raw, HostPattern):
            return raw
        given = read_text(raw)
        url = given if "://" in given else f"https://{given}"
        scheme, name, port = origin_of(url)
        any_below, host = name.startswith("*."), name.removeprefix("*.")
        alone = host_of(url) == url.partition("://")[2].lower()
        narrow = not any_below or "." in host
        if not (_NAME.fullmatch(host) and is_web(f"{scheme}://") and port and alone and narrow):
            shown = given.rpartition("@")[2]  # the part before it may be a password
            raise ValueError(f"must be like data.example.org or *.example.org, not {shown!r}")
        return cls(scheme, host, port, any_below)

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith("." + self.host) if self.any_below else host == self.host

    @property
    def url(self) -> str | None:
        """A URL of the host, or None if the pattern covers several hosts."""
        return None if self.any_below else f"{self.scheme}://{self.host}:{self.port}"


HostPatterns = tuple[HostPattern, ...]


def is_address(url: str) -> bool:
    """Return whether `url` is complete, of a remote scheme, and without a user."""
    usable = is_remote(url) and bool(host_of(url)) and origin_of(url).port != 0
    return usable and "@" not in origin_text(url) and url.isprintable() and " " not in url


class Netrc:
    """The netrc file, read on first use; a missing or invalid one has no entries.

    The `default` entry is never used: it would send a password to any host.
    """

    problem = ""
    """What to set if the file is not valid, once `hosts` is known."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.path = expand_user(environ.get("NETRC") or "~/.netrc")

    def entries(self, hosts: HostPatterns) -> dict[HostPattern, dict[str, str]]:
        """Return the user and password of each of `hosts` that has an entry."""
        return {
            HostPattern(pattern.scheme, name, pattern.port): {"user": user, "password": password}
            for pattern in hosts
            for name, (user, _, password) in self.hosts.items()
            if password and pattern.covers(pattern.scheme, name, pattern.port)
        }

    @cached_property
    def hosts(self) -> Mapping[str, tuple[str, str, str]]:
        try:
            is_there = expanded_or_none(str(self.path)) is not None and self.path.exists()
            found = netrc.netrc(str(self.path)).hosts if is_there else {}
        except (netrc.NetrcParseError, OSError, UnicodeDecodeError):  # which may quote a password
            self.problem = f"a valid netrc file, which {self.path} is not"
            return {}
        return {host.lower(): entry for host, entry in found.items() if host != "default"}


# --- kinds of login ---------------------------------------------------------------------------------------


class Key(msgspec.Struct, frozen=True):
    read: ValueReader | None
    """None if the value may contain variables: the field is a `Secret`."""
    required: bool = False
    secret: bool = False
    """True if the value may consist only of variables."""
    labelled: bool = False
    """True if a label may precede the variables of a secret (`Token ${T}`)."""


def login_key(*, default: Any = attrs.NOTHING, read: ValueReader | None = None, **given: bool) -> Any:
    return attrs.field(default=default, converter=read, metadata={"key": given})


def keys_of(kind: Any) -> Mapping[str, Key]:
    hints = get_type_hints(kind)
    return {
        field.name.replace("_", "-"): Key(
            None if hints[field.name] in (Secret, Secret | None) else field.metadata["read"],
            field.default is attrs.NOTHING,
            **field.metadata["key"],
        )
        for field in attrs.fields(kind)
    }


def service_address(raw: object) -> str:
    url = read_text(raw)
    plain = url.replace("{account}", "x").replace("{container}", "x")
    if not (is_web(plain) and is_address(plain)) or "{" in plain or "}" in plain:
        raise ValueError("must be like https://host/path, with only {account} and {container} in braces")
    return url


@attrs.frozen
class LoginKind:
    """A frozen class of attrs, with fields by `login_key`. Without a password the user is the secret."""

    def netrc_hosts(self, hosts: HostPatterns) -> HostPatterns:  # noqa: ARG002 - a default
        """Return the hosts whose entries in the netrc file are used, because no user is given."""
        return ()

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {}

    @property
    def query(self) -> Mapping[str, Secret]:
        return {}

    @property
    def secrets(self) -> list[Secret]:
        """The secrets that no text may contain."""
        values = {key: getattr(self, key.replace("-", "_")) for key in keys_of(type(self))}
        hidden = {key for key, one in keys_of(type(self)).items() if one.secret}
        hidden |= {"user"} if values.get("password") is None else set()
        own = [value for key, value in values.items() if key in hidden and value is not None]
        return [*own, *self.headers.values(), *self.query.values()]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs requested to log in. The user chose them by choosing the profile."""
        return ()

    async def log_in(self, names: tuple[str, ...], logins: Logins) -> str | None:  # noqa: ARG002
        """Log in if no URL is needed for that, and return the host of the service."""
        return None

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> LoginTransport:  # noqa: ARG002
        """Return the transport for the host of `url`. `names` are for messages."""
        return LoginTransport(logins, HostCredentials(url, self.headers, self.query))


# --- kinds that send the same credentials with every request ----------------------------------------------


@attrs.frozen(field_transformer=with_readers)
class HeaderField(LoginKind):
    """`kind = "header"`: a header field."""

    name: str = login_key(read=read_field_name)
    value: Secret = login_key(secret=True, labelled=True)

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {self.name: self.value}


@attrs.frozen(field_transformer=with_readers)
class QueryParameter(LoginKind):
    """`kind = "query"`: a query parameter."""

    name: str = login_key()
    value: Secret = login_key(secret=True, labelled=True)

    @property
    def query(self) -> Mapping[str, Secret]:
        return {self.name: self.value}


@attrs.frozen(field_transformer=with_readers)
class BearerToken(LoginKind):
    """`kind = "bearer"`: a bearer token (RFC 6750, 2.1)."""

    token: Secret = login_key(secret=True)

    @property
    def headers(self) -> Mapping[str, Secret]:
        return {"Authorization": Secret(f"Bearer {self.token.reveal()}")}


@attrs.frozen(field_transformer=with_readers)
class UserPassword(LoginKind):
    """`kind = "basic"`: user and password (RFC 7617), by default those of each host in the netrc file."""

    user: Secret | None = login_key(default=None)
    password: Secret | None = login_key(default=None, secret=True)

    def netrc_hosts(self, hosts: HostPatterns) -> HostPatterns:
        return hosts if self.user is None else ()

    @property
    def headers(self) -> Mapping[str, Secret]:
        pair = ":".join(part.reveal() if part else "" for part in (self.user, self.password))
        return {"Authorization": Secret("Basic " + base64.b64encode(pair.encode()).decode())}


# --- profiles, and the logins of a run --------------------------------------------------------------------


class HostLogin(msgspec.Struct, frozen=True):
    hosts: HostPatterns
    kind: LoginKind
    sources: tuple[str, ...] = ()
    """The origins of its secrets, for messages: names of variables, a netrc file."""


class FilledProfile(msgspec.Struct, frozen=True):
    """The complete logins of a credential profile. The first one that covers a host is used."""

    name: str
    logins: tuple[HostLogin, ...] = ()
    check: tuple[str, ...] = ()
    """URLs that require a login, for `credentials check`."""
    s3: S3Options = S3Options()
    per_host: int | None = None
    """The most requests at once that its service accepts."""

    def login_for(self, scheme: str, host: str, port: int | None) -> HostLogin | None:
        covering = (login for login in self.logins if any(p.covers(scheme, host, port) for p in login.hosts))
        return next(covering, None)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs of the hosts that the user chose by choosing the profile, without wildcards."""
        hosts = [pattern.url for login in self.logins for pattern in login.hosts]
        return tuple(filter(None, (*hosts, *(url for login in self.logins for url in login.kind.endpoints))))

    def open(self, *network: Any) -> Logins:
        """Return the logins of one run; `network` are the other arguments of `Logins`."""
        return Logins(self, *network)


@attrs.define(eq=False, repr=False)
class Logins:
    """The logins of one run, and the client that they share, which has no credentials.

    It has its own gates, because a transfer holds a permit while it waits for a token.
    """

    _profile: FilledProfile
    http: Transport
    _policy: RetryPolicy
    clock: Clock
    secrets: Secrets
    counters: NetworkCounters
    _on_wait: Callable[[str], None] = lambda _: None
    client: Client = attrs.field(init=False)
    retries: Retries = attrs.field(init=False)
    shared: dict[LoginKind, Any] = attrs.field(factory=dict, init=False)
    """The transports of kinds whose hosts share one token."""
    _reported: set[str] = attrs.field(factory=set, init=False)
    """Hosts of logins for which a wait was reported to the user."""

    def __attrs_post_init__(self) -> None:
        self.retries = Retries(self._policy, self.clock, self._note_retry, counts_refusals=False)
        gate_settings = GateSettings(self.clock, _AT_ONCE, is_fixed=True)
        transports = {"http": self.http, "https": self.http}
        self.client = Client(transports, gate_settings, secrets=self.secrets, counters=self.counters)
        self.secrets.add(*(secret for login in self._profile.logins for secret in login.kind.secrets))

    def transport_for(self, url: str) -> Transport | None:
        found = self._profile.login_for(*origin_of(url))
        return None if found is None else found.kind.transport(url, found.sources, self)

    async def log_in(self) -> list[str]:
        """Log in to the services that issue one token for everything; return their hosts."""
        hosts = [await login.kind.log_in(login.sources, self) for login in self._profile.logins]
        return [host for host in hosts if host is not None]

    def _note_retry(self, failure: Failure) -> None:
        self.counters.count_retry(failure)
        if failure.host not in self._reported:
            self._reported.add(failure.host)
            again = "" if failure.retry_after is None else f", again in {failure.retry_after:.0f} s"
            self._on_wait(f"Waiting for the login{again}: {failure.message}")


@attrs.define(eq=False)
class LoginTransport:
    """Sends requests with credentials, by default the same with each one.

    Its subclasses log in, and resend a refused request once. They raise CredentialsError if the login is
    refused, TransferError or SourceError if its service fails.
    """

    logins: Logins
    _credentials: HostCredentials = attrs.field(factory=lambda: HostCredentials("", {}, {}))

    async def send(self, request: Request) -> Response:
        return self.answered(request, await self.logins.http.send(self._credentials.attach(request)))

    async def resent(self, request: Request, refusal: BufferedResponse) -> Response:
        """Send `request`, with other credentials, after a refusal, which counts as one more request."""
        self.logins.counters.bytes_fetched += len(refusal.body)
        self.logins.counters.requests += 1
        return await self.logins.http.send(request)

    def answered(self, request: Request, response: Response) -> Response:
        """Return the response as that to `request`, which had no credentials."""
        response.url = request.url
        if response.status in REDIRECTS and "Location" in response.headers:
            headers = CIMultiDict(response.headers)
            headers["Location"] = self.strip(headers["Location"])
            response.headers = headers
        return response

    def strip(self, url: str) -> str:
        """Return `url`, the target of a redirect, without credentials that are added to URLs."""
        return self._credentials.secrets.masked_url(url)

    async def close(self) -> None:
        """The owner of the transport underneath closes it."""

"""What a credential profile comes to: logins for hosts, with their secrets; plain values.

`config.profiles` reads them from TOML, `config.filling` puts the secrets in, `net.logins` logs in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from stacpull.hosts import host_of, origin_of
from stacpull.redact import Secret
from stacpull.urls import is_remote, is_web

__all__ = [
    "Activation",
    "Fixed",
    "HostPattern",
    "Login",
    "Means",
    "Provider",
    "SasTokens",
    "TokenGrant",
    "Visit",
    "is_address",
]

_LEAST_LABELS = 2
_NAME = re.compile(r"(?:[\w-]+\.)*[\w-]+|\[[0-9a-f:.]+\]")
"""A host's name, as URLs may have it, or an IPv6 address in brackets."""


class HostPattern(NamedTuple):
    """Hosts that a login is for: one host, or with `any_below` every host below it; one scheme and port.

    `host` is as in `net.credentials.Origin`: lower case, no dot at its end, an IPv6 address in brackets.
    """

    scheme: str
    host: str
    port: int
    any_below: bool = False

    @classmethod
    def read(cls, text: str) -> HostPattern:
        """Read `data.example.org`, `*.example.org` (https, its usual port) or `http://host:port`.

        Raises:
            ValueError: It is none of these, or so wide that strangers are among its hosts.
        """
        url = text if "://" in text else f"https://{text}"
        scheme, name, port = origin_of(url)
        any_below, host = name.startswith("*."), name.removeprefix("*.")
        alone = host_of(url) == url.partition("://")[2].lower()
        narrow = not any_below or len(host.split(".")) >= _LEAST_LABELS
        if not (_NAME.fullmatch(host) and is_web(f"{scheme}://") and port and alone and narrow):
            raise ValueError(_no_host(text))
        return cls(scheme, host, port, any_below)

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        """Return True if this origin is one of the hosts."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith("." + self.host) if self.any_below else host == self.host

    @property
    def url(self) -> str | None:
        """An URL of the host, None if it is many."""
        return None if self.any_below else f"{self.scheme}://{self.host}:{self.port}"


def is_address(url: str, *, web: bool = True) -> bool:
    """Return True if `url` is whole and without user and password, and http or https.

    With `web=False` other remote schemes are addresses, too.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket without its other half, characters that come to other ones
        return False
    usable = bool(host_of(url)) and origin_of(url).port != 0
    head = f"{parts.scheme}://"
    right = (is_web(head) if web else is_remote(head)) and "@" not in parts.netloc
    return usable and right and url.isprintable() and " " not in url


def _no_host(text: str) -> str:
    told = text.rpartition("@")[2]  # what is before may be a password
    return f"must be like data.example.org or *.example.org, not {told!r}"


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same fields and parameters in every request: header, query key, bearer, basic, netrc."""

    headers: Mapping[str, Secret] = field(default_factory=dict)
    query: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return (*self.headers.values(), *self.query.values())


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """A bearer token, had for client or user at `token_url` (RFC 6749, 4.3 and 4.4), refreshed with 6."""

    token_url: str
    client_id: str
    client_secret: Secret | None = None
    user: Secret | None = None
    password: Secret | None = None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return tuple(secret for secret in (self.client_secret, self.password) if secret is not None)


@dataclass(frozen=True, slots=True)
class SasTokens:
    """A shared access signature of Azure for each account and container, had at `token_url`.

    `{account}` and `{container}` in it are the first label of the blob's host and of its path.
    """

    token_url: str
    key_header: str | None = None
    key: Secret | None = None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return () if self.key is None else (self.key,)


@dataclass(frozen=True, slots=True)
class Visit:
    """A login at another host, where redirects lead who is not logged in; it comes back as a cookie."""

    login: HostPattern
    basic: Secret
    """The whole `Authorization` for the login host."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return (self.basic,)


@dataclass(frozen=True, slots=True)
class Activation:
    """Assets below `path` are descriptions of files that must be made available first."""

    path: str
    headers: Mapping[str, Secret]
    every: float
    """Seconds between two looks."""
    patience: float
    """Seconds after which it is given up."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return tuple(self.headers.values())


Means = Fixed | TokenGrant | SasTokens | Visit | Activation
"""Ways to log in."""


@dataclass(frozen=True, slots=True)
class Login:
    """A way to log in, and the hosts that it is for."""

    name: str
    hosts: tuple[HostPattern, ...]
    means: Means
    sources: tuple[str, ...] = ()
    """Where its secrets came from, for messages: names of variables, a netrc file."""


@dataclass(frozen=True, slots=True)
class Provider:
    """A credential profile with its secrets in place. The first login that covers a host is taken."""

    name: str
    logins: tuple[Login, ...] = ()
    check: tuple[str, ...] = ()
    """URLs that are answered to whoever is logged in."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must never be written down."""
        return tuple(secret for login in self.logins for secret in login.means.secrets)

    def login_for(self, scheme: str, host: str, port: int | None) -> Login | None:
        """Return the login for an origin, None if it has none."""
        return next(
            (one for one in self.logins if any(p.covers(scheme, host, port) for p in one.hosts)), None
        )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """URLs of the single hosts that the user chose by choosing the profile."""
        patterns = [pattern for login in self.logins for pattern in login.hosts]
        means = [login.means for login in self.logins]
        patterns += [one.login for one in means if isinstance(one, Visit)]
        tokens = [one.token_url for one in means if isinstance(one, TokenGrant | SasTokens)]
        return (*(pattern.url for pattern in patterns if pattern.url is not None), *tokens)

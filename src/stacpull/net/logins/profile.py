"""Credential profiles as values: hosts, kinds of login with their secrets, and the logins of a profile.

`stacpull_logins.profiles` reads a profile and fills in its secrets; `net.logins.registry` logs in. A kind of
login is a class of the core (`net.logins.fixed`), or an entry point of the group `stacpull.logins`. Its
fields are its TOML keys, declared and read like options (`arguments`). It states the URLs that it requests.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
import msgspec

from stacpull import arguments
from stacpull.arguments import ReadArgument, text
from stacpull.hosts import host_of, origin_of
from stacpull.redact import Secret
from stacpull.urls import is_remote, is_web

if TYPE_CHECKING:
    from stacpull.net.logins.login import Login
    from stacpull.net.logins.netrc import Netrc
    from stacpull.net.logins.registry import Logins
    from stacpull.net.transport import Transport

_LEAST_LABELS = 2
_NAME = re.compile(r"(?:[\w-]+\.)*[\w-]+|\[[0-9a-f:.]+\]")
"""A host name as in URLs, or an IPv6 address in brackets."""


class HostPattern(msgspec.Struct, frozen=True):
    """The hosts of a login: one host, or with `any_below` all its subdomains; one scheme and port.

    `host` is as in `hosts.Origin`: lower case, without a trailing dot, an IPv6 address in brackets.
    """

    scheme: str
    host: str
    port: int
    any_below: bool = False

    @classmethod
    def read(cls, text: str) -> HostPattern:
        """Read `data.example.org`, `*.example.org` (https, default port) or `http://host:port`.

        Raises:
            ValueError: The text has another form, or covers hosts of other owners, like `*.org`.
        """
        url = text if "://" in text else f"https://{text}"
        scheme, name, port = origin_of(url)
        any_below, host = name.startswith("*."), name.removeprefix("*.")
        alone = host_of(url) == url.partition("://")[2].lower()
        narrow = not any_below or len(host.split(".")) >= _LEAST_LABELS
        if not (_NAME.fullmatch(host) and is_web(f"{scheme}://") and port and alone and narrow):
            shown = text.rpartition("@")[2]  # the part before it may be a password
            raise ValueError(f"must be like data.example.org or *.example.org, not {shown!r}")
        return cls(scheme, host, port, any_below)

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether this origin is one of the hosts."""
        if (scheme, port) != (self.scheme, self.port):
            return False
        return host.endswith("." + self.host) if self.any_below else host == self.host

    @property
    def url(self) -> str | None:
        """A URL of the host, or None if the pattern covers several hosts."""
        return None if self.any_below else f"{self.scheme}://{self.host}:{self.port}"


def is_address(url: str, *, web: bool = True) -> bool:
    """Return whether `url` is a complete http or https URL without user and password.

    Args:
        url: The URL.
        web: False to accept other remote schemes, too.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # an unmatched bracket, or characters that normalise to special ones
        return False
    usable = bool(host_of(url)) and origin_of(url).port != 0
    head = f"{parts.scheme}://"
    right = (is_web(head) if web else is_remote(head)) and "@" not in parts.netloc
    return usable and right and url.isprintable() and " " not in url


# --- declarations of a kind of login ----------------------------------------------------------------------


class Key(msgspec.Struct, frozen=True):
    """A TOML key of a kind of login.

    Attributes:
        read: Reads the value.
        has_variables: True if the value may contain variables: the field is a `Secret`.
        required: False if the field has a default.
        secret: True if the value may consist only of variables.
        labelled: True if text may precede a variable to state the kind of a secret (`Token ${T}`).
        spare: True if the login works without the variable of this key.
    """

    read: ReadArgument
    has_variables: bool
    required: bool
    secret: bool = False
    labelled: bool = False
    spare: bool = False


def login_key(*, default: Any = attrs.NOTHING, read: ReadArgument | None = None, **given: bool) -> Any:
    """Return a field that is a TOML key of the same name.

    Args:
        default: The value if the key is omitted; without one it is required.
        read: Reads the value; None for the reader of the field's type. A `Secret` has the type's.
        given: `secret`, `labelled` and `spare` of `Key`.
    """
    return attrs.field(default=default, converter=read, metadata={"key": given})


def keys_of(kind: Any) -> Mapping[str, Key]:
    """Return the TOML keys of a kind of login, by name in kebab case."""
    hints, readers = arguments.hints(kind), arguments.readers(kind)
    return {
        field.name.replace("_", "-"): Key(
            readers[field.name],
            hints[field.name] in (Secret, Secret | None),
            field.default is attrs.NOTHING,
            **field.metadata["key"],
        )
        for field in attrs.fields(kind)
    }


def basic(user: Secret, password: Secret | None) -> Secret:
    """Return the `Authorization` of user and password (RFC 7617)."""
    pair = f"{user.reveal()}:{password.reveal() if password else ''}"
    return Secret("Basic " + base64.b64encode(pair.encode()).decode())


class LoginKind:
    """A kind of login, with its secrets: a frozen class of attrs, whose fields are made by `login_key`.

    Two rules hold for all kinds: `user` and `password` belong together, and without a password the user is
    the secret.
    """

    __slots__ = ()

    @classmethod
    def problem(cls, written: Mapping[str, str]) -> str | None:
        """Return what is wrong with the combination of keys, as a clause for a message, or None."""
        del written
        return None

    @classmethod
    def netrc_host(cls, written: Mapping[str, str], hosts: tuple[HostPattern, ...]) -> str | None:
        """Return a host whose user and password are read from the netrc file, or None if there is none."""
        del written, hosts
        return None

    @classmethod
    def logins(
        cls, hosts: tuple[HostPattern, ...], texts: Mapping[str, str], netrc: Netrc
    ) -> Iterator[tuple[tuple[HostPattern, ...], LoginKind]]:
        """Yield the logins of a `[login.NAME]` table, each with its hosts; none if netrc has no entry for it.

        Args:
            hosts: The hosts of the table.
            texts: Its other values, by key, with their variables replaced.
            netrc: The netrc file.
        """
        del netrc
        required = {name for name, key in keys_of(cls).items() if key.required}
        given = {name: text for name, text in texts.items() if text or name in required}
        yield hosts, cls(**{name.replace("-", "_"): text for name, text in given.items()})

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The values that must never be written anywhere."""
        return ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs requested to log in. The user chose them by choosing the profile."""
        return ()

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:
        """Return the transport for the host of `url`. All hosts share one login.

        Args:
            url: A URL of the host.
            names: The origins of the secrets, for messages.
            logins: The logins of the run.
        """
        del url
        return logins.transport(logins.shared(self, lambda: self.login(names, logins)))

    def login(self, names: tuple[str, ...], logins: Logins) -> Login:
        """Return the login shared by all hosts of a `[login.NAME]`."""
        raise NotImplementedError

    async def prove(self, names: tuple[str, ...], logins: Logins) -> str | None:
        """Request a token, if this kind uses tokens. Return the host that issued it."""
        del names, logins
        return None


def service_address(*places: str) -> Callable[[object], str]:
    """Return a reader for the URL of a service that may contain these placeholders."""

    def read(raw: object) -> str:
        plain = url = text(raw)
        for place in places:
            plain = plain.replace(place, "x")
        if not is_address(plain):
            raise ValueError("must be like https://host/path")
        if "{" in plain or "}" in plain:
            allowed = " and ".join(places)
            raise ValueError(f"can contain only {allowed} in braces" if places else "must not contain braces")
        return url

    return read


# --- profiles ---------------------------------------------------------------------------------------------


class HostLogin(msgspec.Struct, frozen=True):
    """A `[login.NAME]` of a profile: a kind of login and its hosts."""

    name: str
    hosts: tuple[HostPattern, ...]
    kind: LoginKind
    sources: tuple[str, ...] = ()
    """The origins of its secrets, for messages: names of variables, a netrc file."""


class FilledProfile(msgspec.Struct, frozen=True):
    """A credential profile with its secrets. The first login that covers a host is used."""

    name: str
    logins: tuple[HostLogin, ...] = ()
    check: tuple[str, ...] = ()
    """URLs that require a login, for `credentials check`."""

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The values that must never be written anywhere."""
        return tuple(secret for login in self.logins for secret in login.kind.secrets)

    def login_for(self, scheme: str, host: str, port: int | None) -> HostLogin | None:
        """Return the login for an origin, or None if there is none."""
        return next(
            (login for login in self.logins if any(p.covers(scheme, host, port) for p in login.hosts)), None
        )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs of the hosts that the user chose by choosing the profile, without wildcards."""
        urls = [pattern.url for login in self.logins for pattern in login.hosts]
        opened = [url for login in self.logins for url in login.kind.endpoints]
        return (*(url for url in urls if url is not None), *opened)

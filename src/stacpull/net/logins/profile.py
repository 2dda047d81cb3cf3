"""Credential profiles as values: hosts, kinds of login with their secrets, and the logins of a profile.

`stacpull_logins.profiles` reads a profile and fills in its secrets; `net.logins.login` logs in. A kind of
login is a class of the core (`net.logins.login`), or an entry point of the group `stacpull.logins`. Its
fields are its TOML keys, declared and read like options (`arguments`). It states the URLs that it requests.
"""

from __future__ import annotations

import base64
import netrc
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs
import msgspec

from stacpull import arguments
from stacpull.arguments import ReadArgument, text
from stacpull.hosts import host_of, origin_of
from stacpull.redact import Secret
from stacpull.system import expanded, usual_file
from stacpull.urls import is_remote, is_web

if TYPE_CHECKING:
    from stacpull.net.logins.login import Login, Logins
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
    """Return whether `url` is a complete URL of http or https (or, unless `web`, another remote scheme).

    It must not contain a user.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # an unmatched bracket, or characters that normalise to special ones
        return False
    head = f"{parts.scheme}://"
    usable = bool(host_of(url)) and origin_of(url).port != 0 and (is_web(head) if web else is_remote(head))
    return usable and "@" not in parts.netloc and url.isprintable() and " " not in url


# --- declarations of a kind of login ----------------------------------------------------------------------


class Key(msgspec.Struct, frozen=True):
    """A TOML key of a kind of login."""

    read: ReadArgument
    has_variables: bool
    """True if the value may contain variables: the field is a `Secret`."""
    required: bool
    """False if the field has a default."""
    secret: bool = False
    """True if the value may consist only of variables."""
    labelled: bool = False
    """True if text may precede a variable to state the kind of a secret (`Token ${T}`)."""
    spare: bool = False
    """True if the login works without the variable of this key."""


def login_key(*, default: Any = attrs.NOTHING, read: ReadArgument | None = None, **given: bool) -> Any:
    """Return a field that is a TOML key of the same name, with these properties (`given`) of `Key`.

    Without a `default` it is required. `read` reads the value; a `Secret` has the reader of its type.
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
    def problem(cls, written: Mapping[str, str]) -> str | None:  # noqa: ARG003 - a default
        """Return what is wrong with the combination of keys, as a clause for a message, or None."""
        return None

    @classmethod
    def netrc_host(cls, written: Mapping[str, str], hosts: tuple[HostPattern, ...]) -> str | None:  # noqa: ARG003
        """Return a host whose user and password are read from the netrc file, or None if there is none."""
        return None

    @classmethod
    def logins(
        cls,
        hosts: tuple[HostPattern, ...],
        texts: Mapping[str, str],
        netrc: Netrc,  # noqa: ARG003 - most kinds do not use it
    ) -> Iterator[tuple[tuple[HostPattern, ...], LoginKind]]:
        """Yield the logins of a `[login.NAME]` table, each with its hosts; none if netrc has no entry for it.

        `texts` are its other values, by key, with their variables replaced.
        """
        required = {name for name, key in keys_of(cls).items() if key.required}
        given = {name: text for name, text in texts.items() if text or name in required}
        yield hosts, cls(**{name.replace("-", "_"): text for name, text in given.items()})

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return ()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The URLs requested to log in. The user chose them by choosing the profile."""
        return ()

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:  # noqa: ARG002
        """Return the transport for the host of `url`. All hosts share one login.

        `names` are the origins of the secrets, for messages.
        """
        return logins.transport(logins.shared(self, lambda: self.login(names, logins)))

    def login(self, names: tuple[str, ...], logins: Logins) -> Login:
        """Return the login shared by all hosts of a `[login.NAME]`."""
        raise NotImplementedError

    async def prove(self, names: tuple[str, ...], logins: Logins) -> str | None:  # noqa: ARG002 - a default
        """Request a token, if this kind uses tokens. Return the host that issued it."""
        return None


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


class Netrc:
    """Users and passwords from the netrc file in `NETRC` or `~/.netrc`, read on first use.

    The `default` entry is never used: it would send a password to any host (GNU inetutils manual, "The .netrc
    file"). A missing file has no entries, nor has an invalid one: logins may not need it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._variable = environ.get("NETRC")

    @property
    def path(self) -> Path:
        return expanded(self._variable or "~/.netrc")

    def entry(self, host: str) -> tuple[Secret, Secret] | None:
        """Return user and password for a host, or None if it has no entry."""
        return self._read[0].get(host)

    def below(self, hosts: tuple[HostPattern, ...]) -> Iterator[tuple[HostPattern, tuple[Secret, Secret]]]:
        """Yield the hosts of the file that `hosts` cover, each with user and password."""
        for name, entry in self._read[0].items():
            for pattern in hosts:
                if pattern.covers(pattern.scheme, name, pattern.port):
                    yield HostPattern(pattern.scheme, name, pattern.port), entry

    @property
    def problem(self) -> str:
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[Mapping[str, tuple[Secret, Secret]], str]:
        path = self.path
        try:
            hosts = {} if usual_file(str(path)) is None else netrc.netrc(str(path)).hosts
        except FileNotFoundError:
            return {}, ""
        except netrc.NetrcParseError as problem:  # its message may quote the file, perhaps a password
            return {}, f"{path}, line {problem.lineno}: this is not a valid netrc file."
        except (OSError, UnicodeDecodeError):
            return {}, f"{path} cannot be read as a netrc file."
        return {
            host.lower(): (Secret(user), Secret(password))
            for host, (user, _, password) in hosts.items()
            if host != "default" and password
        }, ""

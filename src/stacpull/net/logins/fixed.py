"""Logins that send the same credentials with every request: `header`, `query`, `bearer`, `basic`, `netrc`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import attrs

from stacpull.arguments import field_name, named
from stacpull.net.host_credentials import HostCredentials
from stacpull.net.logins.login import Attached, Login
from stacpull.net.logins.profile import HostPattern, LoginKind, basic, login_key
from stacpull.net.transport import BufferedResponse, Request, Response, Transport
from stacpull.redact import Secret

if TYPE_CHECKING:
    from stacpull.net.logins.netrc import Netrc
    from stacpull.net.logins.registry import Logins


class Fixed(LoginKind):
    """A login that sends the same fields and parameters with every request."""

    __slots__ = ()

    @property
    def headers(self) -> Mapping[str, Secret]:
        """The header fields to send."""
        return {}

    @property
    def query(self) -> Mapping[str, Secret]:
        """The query parameters to send."""
        return {}

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (*self.headers.values(), *self.query.values())

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:
        """Return the transport for the host of `url`. Hosts share no login, because nothing is renewed."""
        del names
        return logins.transport(FixedLogin(HostCredentials(url, self.headers, self.query)))


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
    def netrc_host(cls, written: Mapping[str, str], hosts: tuple[HostPattern, ...]) -> str:
        """Return the first host."""
        del written
        return hosts[0].host

    @classmethod
    def logins(
        cls, hosts: tuple[HostPattern, ...], texts: Mapping[str, str], netrc: Netrc
    ) -> Iterator[tuple[tuple[HostPattern, ...], LoginKind]]:
        del texts
        for host, entry in netrc.below(hosts):
            yield (host,), UserPassword(*entry)


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

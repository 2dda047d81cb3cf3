"""Logins that send the same credentials with every request: `header`, `query`, `bearer`, `basic`, `netrc`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stacpull.arguments import field_name, text
from stacpull.net.host_credentials import HostCredentials
from stacpull.net.logins.login import Attached, Login
from stacpull.net.logins.profile import HostPattern, Key, LoginKind, Values
from stacpull.net.transport import BufferedResponse, Request, Response, Transport
from stacpull.redact import Secret

if TYPE_CHECKING:
    from stacpull.net.logins.registry import Logins


@dataclass(frozen=True, slots=True)
class Fixed(LoginKind):
    """The fields and parameters to send."""

    headers: Mapping[str, Secret] = field(default_factory=dict)
    query: Mapping[str, Secret] = field(default_factory=dict)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return (*self.headers.values(), *self.query.values())

    def transport(self, url: str, names: tuple[str, ...], logins: Logins) -> Transport:
        """Return the transport for the host of `url`. Hosts share no login, because nothing is renewed."""
        del names
        return logins.transport(FixedLogin(HostCredentials(url, self.headers, self.query)))


class HeaderField(Fixed):
    """`kind = "header"`: a header field."""

    keys = (Key("name", read=field_name), Key("value", labelled=True, secret=True))

    @classmethod
    def read(cls, values: Values) -> Fixed:
        return Fixed({values.text("name"): Secret(values.text("value"))})


class QueryParameter(Fixed):
    """`kind = "query"`: a query parameter."""

    keys = (Key("name", read=text), Key("value", labelled=True, secret=True))

    @classmethod
    def read(cls, values: Values) -> Fixed:
        return Fixed(query={values.text("name"): Secret(values.text("value"))})


class BearerToken(Fixed):
    """`kind = "bearer"`: a bearer token (RFC 6750, 2.1)."""

    keys = (Key("token", secret=True),)

    @classmethod
    def read(cls, values: Values) -> Fixed:
        return Fixed({"Authorization": Secret(f"Bearer {values.text('token')}")})


class UserPassword(Fixed):
    """`kind = "basic"`: user and password (RFC 7617)."""

    keys = (Key("user"), Key("password", secret=True))

    @classmethod
    def read(cls, values: Values) -> Fixed:
        return Fixed({"Authorization": values.basic()})


class NetrcEntries(Fixed):
    """`kind = "netrc"`: the user and password of each host in the netrc file."""

    @classmethod
    def netrc_host(cls, written: Mapping[str, str], hosts: tuple[HostPattern, ...]) -> str:
        """Return the first host."""
        del written
        return hosts[0].host

    @classmethod
    def logins(cls, values: Values) -> Iterator[tuple[tuple[HostPattern, ...], LoginKind]]:
        for host, authorization in values.netrc.below(values.hosts):
            yield (host,), Fixed({"Authorization": authorization})


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

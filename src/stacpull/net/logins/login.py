"""The interface of a login, and the transport that sends authenticated requests to a host.

    Client ─▶ LoginTransport ─▶ attach ─▶ transport ─▶ refused? ─▶ renew, resend

The client requests plain URLs, and this layer below it adds the secrets. So hrefs are stored unsigned, and a
redirect to another host starts without secrets. Hosts without a login have no overhead: the client looks up
the transport of a host once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Protocol

import msgspec

from stacpull.hosts import host_of, origin_text
from stacpull.models import Failure, FailureKind
from stacpull.net.bodies import buffered
from stacpull.net.client import NetworkCounters
from stacpull.net.redirects import REDIRECTS
from stacpull.net.transport import (
    BufferedResponse,
    RenamedResponse,
    Request,
    Response,
    TransferError,
    Transport,
)


class Attached(msgspec.Struct, frozen=True):
    """An authenticated request."""

    request: Request
    held: object = None
    """The attached token or the like, for `Login.renewed` if it is refused."""


class Login(Protocol):
    """A way to log in to hosts."""

    async def attach(self, request: Request) -> Attached:
        """Return `request` with the credentials that the host requires.

        Raises:
            CredentialsError: The login is refused.
            TransferError, SourceError: The service of the login fails now.
        """
        ...

    def is_refusal(self, response: Response) -> bool:
        """Return whether a new login might change the response."""
        ...

    async def renewed(self, url: str, held: object, refusal: BufferedResponse) -> BufferedResponse | None:
        """Log in again. Return None if the request can be resent, else the final response.

        Raises:
            CredentialsError: The login is refused.
            TransferError, SourceError: The service of the login fails now.
        """
        ...

    def accepted(self, url: str, held: object) -> None:  # noqa: ARG002 - most logins do not use it
        """Record that the host of `url` accepted the attached credentials."""
        return

    def refused_again(self, url: str) -> BufferedResponse:
        """Return the final response if the host requires another login directly after one.

        Raises:
            CredentialsError: Another login would not help.
        """
        return refused(url, "it requires another login right after one")

    def strip(self, url: str) -> str:
        """Return `url`, the target of a redirect, without credentials that `attach` adds to URLs."""
        return url


class LoginTransport:
    """Sends authenticated requests to one host, and resends a refused one after a new login.

    Args:
        http: Sends the requests; its owner closes it.
        login: The login.
        counters: Counts the requests and bytes that the client does not count itself.
    """

    def __init__(self, http: Transport, login: Login, counters: NetworkCounters) -> None:
        self._http = http
        self._login = login
        self._counters = counters

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Response]:
        """Send `request`.

        Raises:
            TransferError: As `Transport.open` and the login; HTTP if the URL contains a password and the
                login adds an `Authorization`.
            CredentialsError: The login is refused.
        """
        login = self._login
        attached = await login.attach(request)
        if _has_both_credentials(attached.request):
            raise TransferError(_conflict(request.url))
        async with self._http.open(attached.request) as response:
            if not login.is_refusal(response):
                login.accepted(request.url, attached.held)
                yield _shown(request.url, response, login)
                return
            refusal = await buffered(request.url, response)
        answer = await login.renewed(request.url, attached.held, refusal)
        if answer is not None:
            yield answer
            return
        attached = await login.attach(request)
        self._counters.bytes_fetched += len(refusal.body)
        self._counters.requests += 1
        async with self._http.open(attached.request) as response:
            if response.status in REDIRECTS and login.is_refusal(response):
                yield login.refused_again(request.url)
            else:
                login.accepted(request.url, attached.held)
                yield _shown(request.url, response, login)

    async def close(self) -> None:
        """Do nothing: the transport underneath is closed by its owner."""


def refused(url: str, reason: str) -> BufferedResponse:
    """Return a refusal (403) with its reason."""
    return BufferedResponse(url, int(HTTPStatus.FORBIDDEN), {"Content-Type": "text/plain"}, reason.encode())


def _has_both_credentials(request: Request) -> bool:
    """Return whether both the URL and the fields have credentials: only one of them can be sent."""
    if "@" not in origin_text(request.url):
        return False
    return any(name.lower() == "authorization" for name in request.headers)


def _conflict(url: str) -> Failure:
    host = host_of(url)
    message = (
        f"The href at {host} contains a user and password, and --credentials has a login for {host}, too: "
        "use only one of them."
    )
    return Failure(FailureKind.HTTP, message, host=host)


def _shown(url: str, response: Response, login: Login) -> Response:
    """Return the response with the plain URL, and without the attached credentials in its Location."""
    location = response.headers.get("Location") if response.status in REDIRECTS else None
    if location is None or (clean := login.strip(location)) == location:
        return RenamedResponse(url, response)
    from multidict import CIMultiDict  # noqa: PLC0415 -- few responses are redirects with a secret

    headers = CIMultiDict(response.headers)
    headers["Location"] = clean
    return RenamedResponse(url, response, headers)

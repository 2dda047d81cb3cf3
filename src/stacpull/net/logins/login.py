"""The interface of a login, and the transport that sends the requests of a host logged in.

    Client ─▶ LoginTransport ─▶ attach ─▶ transport ─▶ refused? ─▶ renewed, and once more

The client requests plain URLs; the secrets are added here, below it. So hrefs stay unsigned wherever they are
kept, a redirect to another host starts without secrets, and a host without a login costs nothing: the client
looks up the transport of a host once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple, Protocol

from stacpull.hosts import head_of, host_of
from stacpull.models import Failure, FailureKind
from stacpull.net.client import Counters
from stacpull.net.redirects import REDIRECTS
from stacpull.net.transport import (
    BufferedResponse,
    RenamedResponse,
    Request,
    Response,
    TransferError,
    Transport,
    buffered,
)


class Attached(NamedTuple):
    """A request as it is sent, and what was attached to it, for `Login.renewed` if that is refused."""

    request: Request
    held: object = None


class Login(Protocol):
    """How to log in to one host."""

    async def attach(self, request: Request) -> Attached:
        """Return `request` with what the host requires.

        Raises:
            CredentialsError: The login is refused.
            TransferError, SourceError: The service of the login fails now.
        """
        ...

    def is_refusal(self, response: Response) -> bool:
        """Return True if another login might change the answer."""
        ...

    async def renewed(self, url: str, held: object, refusal: BufferedResponse) -> BufferedResponse | None:
        """Log in again. Return None if the request can be sent once more, else the final answer.

        Raises:
            CredentialsError: The login is refused.
            TransferError, SourceError: The service of the login fails now.
        """
        ...

    def accepted(self, url: str, held: object) -> None:  # noqa: ARG002 - most need not know
        """Note that the host of `url` accepted what was attached."""
        return

    def refused_again(self, url: str) -> BufferedResponse:
        """Return the final answer where the host asks for another login right after one.

        Raises:
            CredentialsError: Another login would not help.
        """
        return refused(url, "it requires another login right after one")

    def strip(self, url: str) -> str:
        """Return `url`, the target of a redirect, without what `attach` puts into URLs: most put nothing."""
        return url


class LoginTransport:
    """Sends requests for one host, logged in, and once more after a new login. It follows no redirects.

    Args:
        http: Sends the requests; its owner closes it.
        login: How to log in.
        counters: Counts the requests and bytes that the client does not count itself.
    """

    def __init__(self, http: Transport, login: Login, counters: Counters) -> None:
        self._http = http
        self._login = login
        self._counters = counters

    @asynccontextmanager
    async def open(self, request: Request) -> AsyncIterator[Response]:
        """Send `request`.

        Raises:
            TransferError: As `Transport.open`, and what the login raises; HTTP for an URL with a password of
                its own where the login sends an `Authorization`.
            CredentialsError: The login is refused.
        """
        login = self._login
        attached = await login.attach(request)
        if _says_another(attached.request):
            raise TransferError(_at_odds(request.url))
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


def _says_another(request: Request) -> bool:
    """Return True if both the URL and the request have credentials: only one of them can be sent."""
    if "@" not in head_of(request.url):
        return False
    return any(name.lower() == "authorization" for name in request.headers)


def _at_odds(url: str) -> Failure:
    host = host_of(url)
    message = (
        f"The href at {host} holds user and password of its own beside the login of --credentials: "
        f"take one of them for {host}."
    )
    return Failure(FailureKind.HTTP, message, host=host)


def _shown(url: str, response: Response, login: Login) -> Response:
    """Return the response under the plain URL; a redirect does not pass on what was attached."""
    location = response.headers.get("Location") if response.status in REDIRECTS else None
    if location is None or (clean := login.strip(location)) == location:
        return RenamedResponse(url, response)
    from multidict import CIMultiDict  # noqa: PLC0415 -- few responses are redirects with a secret

    headers = CIMultiDict(response.headers)
    headers["Location"] = clean
    return RenamedResponse(url, response, headers)

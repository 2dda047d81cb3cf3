"""The seam everything that speaks to a server goes through: one request out, one response in.

A transport sends one request. It follows no redirect and knows no credentials: those are the work of
`net.client.Client`, which wraps transports. It retries nothing that a server may have acted on: only where a
kept-alive connection turns out to be closed is the request sent again, once, on a new connection. All
implementations (aiohttp, S3, the one in memory) pass the conformance suite in `tests/net/conformance.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from stacpull import __version__
from stacpull.hosts import host_of
from stacpull.models import Failure, FailureKind


class TransferError(Exception):
    """One attempt failed in an expected way. `failure` says how; it becomes an outcome, not a traceback."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Request(NamedTuple):
    """What to send. `url` is sent as it stands (already percent-encoded where it must be)."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = MappingProxyType({})
    body: bytes | None = None
    decode: bool = False
    """True to ask for and undo a content coding (API pages); assets are taken as they are."""
    redirected: bool = False
    """True if a redirect led here: the S3 transport then signs only for buckets configured for it."""
    query: str = ""
    """What an `s3://` URL is asked with, already percent-encoded: a `?` in one is a character of the key."""


class Response(Protocol):
    """What came back. Usable only inside the context of `Transport.open`."""

    @property
    def url(self) -> str:
        """The URL that answered (for S3 the `s3://` one)."""
        ...

    @property
    def status(self) -> int:
        """HTTP status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, looked up in any case."""
        ...

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK; or OVERLONG when it exceeds `limit` bytes.
        """
        ...

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about `size` bytes.

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        ...


class Transport(Protocol):
    """Sends one request and gives its response, without following, retrying or authenticating."""

    def open(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send `request`; the connection is returned or closed when the context ends.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS.
        """
        ...

    async def close(self) -> None:
        """Release all connections."""
        ...


class Rewritten(NamedTuple):
    """A GET as it goes over http in place of another one, and how to continue once it is sent."""

    url: str
    headers: Mapping[str, str]
    """Its fields but for `authorization`: the same object for as long as they are the same."""
    authorization: str
    """The value of its field `Authorization`; empty if it has none."""
    resume: Callable[[Request, AbstractAsyncContextManager[Response]], AbstractAsyncContextManager[Response]]
    """Takes the request that was asked for, and what gives the response to the one that was sent; returns
    what `Transport.open` would have given."""


@runtime_checkable
class Rewrites(Protocol):
    """A transport that sends other requests over http than it is given (S3: signed ones)."""

    def ready(self, url: str, *, redirected: bool) -> Rewritten | None:
        """Return what `open` would send for a plain GET; None if it would have to wait for something."""
        ...

    async def prepare(self, url: str) -> None:
        """Wait for that, so that `ready` knows it from now on.

        Raises:
            StacpullError: It cannot be obtained.
        """
        ...


def is_framed(headers: Mapping[str, str]) -> bool:
    """Tell if the end of the body shows on the wire: a length, or chunks (RFC 9112, 6.3)."""
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()


USER_AGENT = f"stacpull/{__version__} (+https://github.com/stacpull/stacpull)"
"""Name, version, and where to complain."""


_ERROR_LIMIT = 1 << 16


class RenamedResponse:
    """A response under the URL that was requested, where another one was sent."""

    __slots__ = ("_inner", "headers", "status", "url")

    def __init__(self, url: str, inner: Response, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._inner = inner
        self.status = inner.status
        self.headers = inner.headers if headers is None else headers

    async def read(self, limit: int) -> bytes:
        """Return the whole body."""
        return await self._inner.read(limit)

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        return self._inner.chunks(size)


class BufferedResponse(msgspec.Struct, frozen=True):
    """A response whose body was read, so that it can be examined and passed on."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            TransferError: OVERLONG when it exceeds `limit` bytes.
        """
        if len(self.body) > limit:
            host = host_of(self.url)
            message = f"{host} sent a refusal of more than {limit} bytes."
            raise TransferError(Failure(FailureKind.OVERLONG, message, self.status, host))
        return self.body

    async def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces."""
        for start in range(0, len(self.body), size):
            yield self.body[start : start + size]


async def buffered(url: str, response: Response) -> BufferedResponse:
    """Read a small response whole; a body that is broken or endless counts as empty."""
    try:
        body = await response.read(_ERROR_LIMIT)
    except TransferError:
        body = b""
    return BufferedResponse(url, response.status, response.headers, body)

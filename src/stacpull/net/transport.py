"""The transport interface: sends one request and returns one response.

A transport follows no redirects, adds no credentials (`net.client`), and does not retry, except once if the
server had closed an idle connection. All implementations pass `tests/net/conformance.py`.
"""

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import msgspec

from stacpull import __version__
from stacpull.errors import UsageError
from stacpull.models import Failure, Headers
from stacpull.net.addresses import AddressPolicy

Purpose = Literal["asset", "document"]
Chunk = bytes | memoryview  # of a body
KEEP_ALIVE = 15.0  # seconds that an idle connection is kept
USER_AGENT = f"stacpull/{__version__} (+https://github.com/stacpull/stacpull)"  # with a contact URL


class TransferError(Exception):
    """An expected failure of one attempt."""

    count_refusal: Callable[[Failure], Failure] | None = None
    """Set if a host refused the request: `net.retry.Retries` calls it if no attempt follows."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Request(msgspec.Struct, frozen=True):
    """A request. `url` is sent unchanged and must be percent-encoded already."""

    url: str
    method: str = "GET"
    headers: Headers = MappingProxyType({})
    body: bytes | None = None
    purpose: Purpose = "asset"  # only documents may come compressed; refusals are counted by purpose
    redirected_from: tuple[str, ...] = ()  # then S3 requests are signed only for configured buckets
    query: str = ""  # percent-encoded, for an `s3://` URL, in which a `?` is a character of the key


class HttpSettings(msgspec.Struct, frozen=True, dict=True):
    ip_policy: AddressPolicy
    stall_timeout: float = 30.0  # seconds without a byte after which an exchange fails; no total timeout
    min_rate: float = 0.0  # minimum bytes per second of a body, over `stall_timeout`; 0 for none
    connect_timeout: float = 30.0  # seconds for name lookup, connection and TLS together
    ca_bundle: Path | None = None  # certificates to trust instead of the system's (PEM)
    max_connections: int = 256  # with so many open, an idle one is closed before another is opened

    @cached_property  # takes 40 ms, so `http1` first uses it in a thread
    def tls_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_bundle)
        except OSError as error:
            raise UsageError(f"--ca-bundle {self.ca_bundle} cannot be read: {error.strerror}.") from error
        context.set_alpn_protocols(["http/1.1"])
        return context


class Response(Protocol):
    """A response whose head has arrived. Whoever gets it must close it."""

    url: str  # as requested (for S3 the `s3://` one)
    status: int
    headers: Headers  # case-insensitive

    def chunks(self, size: int) -> AsyncGenerator[Chunk]:
        """Yield the body in pieces of about `size` bytes, or as they arrive, or raise `TransferError`."""

    async def close(self) -> None:
        """Return the connection, or close it if the body was not read to its end."""


GetResponse = Callable[[], Awaitable[Response]]


class Transport(Protocol):
    """Sends a request and returns its response, without redirects or retries, or raises `TransferError`."""

    async def send(self, request: Request) -> Response: ...
    async def close(self) -> None: ...


def is_framed(headers: Headers) -> bool:
    """Return True if the framing marks the end of the body: a length, or chunks (RFC 9112, 6.3)."""
    return "Content-Length" in headers or "chunked" in headers.get("Transfer-Encoding", "").lower()


class BufferedResponse(msgspec.Struct):
    url: str
    status: int
    headers: Headers
    body: bytes

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:
        for start in range(0, len(self.body), size):
            yield self.body[start : start + size]

    async def close(self) -> None: ...  # it has no connection

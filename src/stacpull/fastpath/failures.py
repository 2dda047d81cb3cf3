"""What can go wrong on a connection of the fast path, as failures with the same messages as aiohttp's errors.

A test sends the same broken responses to both paths and compares.
"""

from __future__ import annotations

import ssl

from msgspec.structs import replace

from stacpull.models import Failure, FailureKind
from stacpull.net import connection_errors


def truncated(host: str) -> Failure:
    """The connection was closed before the end that the framing promised."""
    message = f"{host} closed the connection before the whole body had come."
    return Failure(FailureKind.TRUNCATED, message, host=host, retryable=True)


def overlong(host: str) -> Failure:
    """Bytes came past the end of the response."""
    message = f"{host} sent more bytes than its Content-Length says."
    return Failure(FailureKind.OVERLONG, message, host=host, retryable=True)


def too_large(host: str, status: int, limit: int) -> Failure:
    """The body is larger than the reader is willing to take."""
    return Failure(FailureKind.OVERLONG, f"{host} sent a body of more than {limit} bytes.", status, host)


def malformed(host: str) -> Failure:
    """What came is no HTTP."""
    return Failure(FailureKind.SERVER, f"{host} sent a malformed HTTP response.", host=host, retryable=True)


def endless_fields(host: str) -> Failure:
    """Header fields, trailers or chunk extensions go beyond all measure."""
    return Failure(FailureKind.SERVER, f"{host} sent header fields without end.", host=host, retryable=True)


def stalled(host: str) -> Failure:
    """Nothing came for the stall timeout."""
    return Failure(FailureKind.STALLED, f"{host} sent nothing for too long.", host=host, retryable=True)


def connecting_stalled(host: str) -> Failure:
    """Name lookup, connection and TLS took longer than the connect timeout."""
    message = f"{host} could not be connected to in time."
    return Failure(FailureKind.STALLED, message, host=host, retryable=True)


def unknown_name(host: str) -> Failure:
    """The name has no address."""
    message = f"The name {host} could not be looked up."
    return Failure(FailureKind.NETWORK, message, host=host, retryable=True)


def closed(host: str, error: Exception | None, *, free: bool) -> Failure:
    """The connection was lost before a response began; `free`: it may have been closed in the meantime."""
    if isinstance(error, ssl.SSLError):
        failure = connection_errors.no_connection(error, host)
        return replace(failure, free=free and failure.retryable)
    message = f"{host} closed the connection."
    return Failure(FailureKind.NETWORK, message, host=host, retryable=True, free=free)

"""Errors of sockets, TLS and the framing of HTTP as failures, whichever HTTP client meets them."""

from __future__ import annotations

import errno
import os
import ssl

from msgspec.structs import replace

from stacpull.hosts import refused_always
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressRefusedError

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""Reasons that OpenSSL gives when the first bytes of the other side are not TLS."""


def no_connection(error: BaseException | None, host: str) -> Failure:
    """Return the failure of a connection that was not made because of `error`."""
    if isinstance(error, AddressRefusedError):
        message = f"{host} is at {error.address}, which is {error.reason}; not connected."
        if refused_always(error.address) is None:
            message += " If it is meant to be there, give --allow-private-hosts."
        return Failure(FailureKind.ADDRESS, message, host=host)
    if isinstance(error, ssl.SSLCertVerificationError):
        return bad_certificate(error, host)
    if isinstance(error, ssl.SSLError):
        return tls_failed(error, host)
    if getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}:
        return network_failure(f"No connection to {host}: too many open files.", host)
    return network_failure(f"No connection to {host}: {reason_of(error)}.", host)


def reason_of(error: BaseException | None) -> str:
    """Return what the system says of a connection that could not be made."""
    number = getattr(error, "errno", None)
    if number is not None and number in errno.errorcode:
        return os.strerror(number)  # asyncio puts a text of its own, with the address, into `strerror`
    return getattr(error, "strerror", None) or type(error).__name__


def bad_certificate(error: object, host: str) -> Failure:
    """Return the failure of a certificate that is not trusted, which `error` says."""
    text = getattr(error, "verify_message", "") or "it is not the one that was expected"
    return network_failure(f"The TLS certificate of {host} is not trusted: {text}.", host, retryable=False)


def tls_failed(error: object, host: str) -> Failure:
    """Return the failure of a TLS connection that `error` ended."""
    if getattr(error, "reason", None) in _NOT_TLS:
        message = (
            f"{host} does not speak TLS: if it is a plain HTTP server, write http:// instead of https://."
        )
        return network_failure(message, host)
    return network_failure(f"The TLS connection to {host} failed.", host)


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
    """What came is not HTTP."""
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
    return network_failure(f"The name {host} could not be looked up.", host)


def closed(host: str, error: Exception | None, *, free: bool) -> Failure:
    """The connection was lost before a response began; `free`: it may have been closed in the meantime."""
    if isinstance(error, ssl.SSLError):
        failure = no_connection(error, host)
        return replace(failure, free=free and failure.retryable)
    return replace(network_failure(f"{host} closed the connection.", host), free=free)


def too_slow(host: str) -> Failure:
    """Return the failure of a body that comes below the least rate (`net.bodies`)."""
    message = f"{host} sent too few bytes a second (--min-rate)."
    return Failure(FailureKind.STALLED, message, host=host, retryable=True)


def network_failure(message: str, host: str, *, retryable: bool = True) -> Failure:
    """Return a failure of the network."""
    return Failure(FailureKind.NETWORK, message, host=host, retryable=retryable)

"""Failures for errors of sockets, TLS and HTTP framing, used by both HTTP clients."""

from __future__ import annotations

import errno
import os
import socket
import ssl

from stacpull.hosts import refused_always
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressRefusedError

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for a peer whose first bytes are not TLS."""


def no_connection(error: BaseException | None, host: str) -> Failure:
    """Return the failure of a connection that could not be made because of `error`."""
    if isinstance(error, AddressRefusedError):
        message = f"{host} is at {error.address}, which is {error.reason}; not connected."
        if refused_always(error.address) is None:
            message += " If that is intended, use --allow-private-hosts."
        return Failure(FailureKind.ADDRESS, message, host=host)
    if isinstance(error, socket.gaierror | UnicodeError):  # or a label that is too long for the encoding
        return unknown_name(host)
    if isinstance(error, TimeoutError | ConnectionAbortedError) and error.errno is None:  # asyncio's own
        return connecting_stalled(host)
    if isinstance(error, ssl.SSLCertVerificationError):
        return bad_certificate(error, host)
    if isinstance(error, ssl.SSLError):
        return tls_failed(error, host)
    is_full = getattr(error, "errno", None) in {errno.EMFILE, errno.ENFILE}
    reason = "too many open files" if is_full else reason_of(error)
    return network_failure(f"No connection to {host}: {reason}.", host)


def reason_of(error: BaseException | None) -> str:
    """Return the system's description of `error`."""
    number = getattr(error, "errno", None)
    if number is not None and number in errno.errorcode:
        return os.strerror(number)  # asyncio's own `strerror` contains the address
    return getattr(error, "strerror", None) or type(error).__name__


def bad_certificate(error: object, host: str) -> Failure:
    """Return the failure of a certificate that is not trusted."""
    text = getattr(error, "verify_message", "") or "it is not the one that was expected"
    return network_failure(f"The TLS certificate of {host} is not trusted: {text}.", host, retryable=False)


def tls_failed(error: object, host: str) -> Failure:
    """Return the failure of a TLS connection."""
    if getattr(error, "reason", None) in _NOT_TLS:
        message = f"{host} does not speak TLS: if it is a plain HTTP server, use http:// instead of https://."
        return network_failure(message, host)
    return network_failure(f"The TLS connection to {host} failed.", host)


def truncated(host: str) -> Failure:
    """Return the failure of a body that ends before its framing does."""
    return _passing(FailureKind.TRUNCATED, host, "closed the connection before the end of the body")


def overlong(host: str) -> Failure:
    """Return the failure of a response that is followed by more bytes."""
    return _passing(FailureKind.OVERLONG, host, "sent more bytes than its Content-Length states")


def malformed(host: str) -> Failure:
    """Return the failure of a response that is not HTTP."""
    return _passing(FailureKind.SERVER, host, "sent a malformed HTTP response")


def endless_fields(host: str) -> Failure:
    """Return the failure of header fields, trailers or chunk extensions that exceed their limit."""
    return _passing(FailureKind.SERVER, host, "sent too many header fields")


def stalled(host: str) -> Failure:
    """Return the failure of an exchange that received nothing for the stall timeout."""
    return _passing(FailureKind.STALLED, host, "sent nothing for too long")


def connecting_stalled(host: str) -> Failure:
    """Return the failure of a lookup, connection and TLS handshake that exceeded the connect timeout."""
    message = f"Connecting to {host} took too long."
    return Failure(FailureKind.STALLED, message, host=host, retryable=True)


def unknown_name(host: str) -> Failure:
    """Return the failure of a name that does not resolve."""
    return network_failure(f"The name {host} could not be looked up.", host)


def closed(host: str, error: Exception | None) -> Failure:
    """Return the failure of a connection that was lost before a response began."""
    if isinstance(error, ssl.SSLError):
        return no_connection(error, host)
    return network_failure(f"{host} closed the connection.", host)


def too_slow(host: str) -> Failure:
    """Return the failure of a body that is slower than the minimum rate (`net.bodies`)."""
    return _passing(FailureKind.STALLED, host, "sent too few bytes per second (--min-rate)")


def network_failure(message: str, host: str, *, retryable: bool = True) -> Failure:
    """Return a failure of kind NETWORK."""
    return Failure(FailureKind.NETWORK, message, host=host, retryable=retryable)


def _passing(kind: FailureKind, host: str, what: str) -> Failure:
    """Return a failure of `host` after which the request may be repeated."""
    return Failure(kind, f"{host} {what}.", host=host, retryable=True)

"""Failures for errors of sockets, TLS and HTTP framing, used by both HTTP clients."""

from __future__ import annotations

import enum
import errno
import os
import socket
import ssl

from stacpull.hosts import refused_always
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressRefusedError

_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""OpenSSL's reasons for a peer whose first bytes are not TLS."""


class BadResponse(enum.Enum):
    TRUNCATED = FailureKind.TRUNCATED, "closed the connection before the end of the body"
    OVERLONG = FailureKind.OVERLONG, "sent more bytes than its Content-Length states"
    MALFORMED = FailureKind.SERVER, "sent a malformed HTTP response"
    ENDLESS_FIELDS = FailureKind.SERVER, "sent too many header fields"
    STALLED = FailureKind.STALLED, "sent nothing for too long"
    TOO_SLOW = FailureKind.STALLED, "sent too few bytes per second (--min-rate)"

    def failure(self, host: str) -> Failure:
        kind, what = self.value
        return Failure(kind, f"{host} {what}.", host=host, retryable=True)


def no_connection(error: BaseException | None, host: str) -> Failure:
    if isinstance(error, AddressRefusedError):
        message = f"{host} is at {error.address}, which is {error.reason}; not connected."
        if refused_always(error.address) is None:
            message += " If that is intended, use --allow-private-hosts."
        return Failure(FailureKind.ADDRESS, message, host=host)
    if isinstance(error, socket.gaierror | UnicodeError):  # or a label that is too long for the encoding
        return network_failure(f"The name {host} could not be looked up.", host)
    if isinstance(error, TimeoutError | ConnectionAbortedError) and error.errno is None:  # asyncio's own
        return Failure(FailureKind.STALLED, f"Connecting to {host} took too long.", host=host, retryable=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        text = error.verify_message or "it is not the one that was expected"
        message = f"The TLS certificate of {host} is not trusted: {text}."
        return network_failure(message, host, retryable=False)
    if isinstance(error, ssl.SSLError):
        message = f"The TLS connection to {host} failed."
        if error.reason in _NOT_TLS:
            message = (
                f"{host} does not speak TLS: if it is a plain HTTP server, use http:// instead of https://."
            )
        return network_failure(message, host)
    return network_failure(f"No connection to {host}: {reason_of(error)}.", host)


def reason_of(error: BaseException | None) -> str:
    number = getattr(error, "errno", None)
    if number in {errno.EMFILE, errno.ENFILE}:
        return "too many open files"
    if number is not None and number in errno.errorcode:
        return os.strerror(number)  # asyncio's own `strerror` contains the address
    return getattr(error, "strerror", None) or type(error).__name__


def closed(host: str, error: Exception | None) -> Failure:
    if isinstance(error, ssl.SSLError):
        return no_connection(error, host)
    return network_failure(f"{host} closed the connection.", host)


def network_failure(message: str, host: str, *, retryable: bool = True) -> Failure:
    return Failure(FailureKind.NETWORK, message, host=host, retryable=retryable)

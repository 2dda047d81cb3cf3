"""Failures for errors of sockets, TLS and HTTP framing, used by both HTTP clients."""

import enum
import errno
import os
import socket
import ssl

from stacpull.hosts import never_allowed_reason
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressRefusedError


class ResponseFault(enum.Enum):
    TRUNCATED = FailureKind.TRUNCATED, "closed the connection before the end of the body"
    OVERLONG = FailureKind.OVERLONG, "sent more bytes than its Content-Length states"
    MALFORMED = FailureKind.SERVER, "sent a malformed HTTP response"
    ENDLESS_FIELDS = FailureKind.SERVER, "sent too many header fields"
    STALLED = FailureKind.STALLED, "sent no data for too long"
    NO_HEAD = FailureKind.STALLED, "sent no complete head of a response in time"
    TOO_SLOW = FailureKind.STALLED, "sent too few bytes per second (--min-rate)"

    def failure(self, host: str) -> Failure:
        kind, what = self.value
        return Failure(kind, f"{host} {what}.", host=host)


def connection_failure(error: BaseException | None, host: str) -> Failure:
    """Return the failure for an error, or for an open connection that the host has closed (None)."""
    if error is None:
        return Failure(FailureKind.NETWORK, f"{host} closed the connection.", host=host)
    if isinstance(error, AddressRefusedError):
        message = f"No connection to {host}: its address {error.address} is {error.reason}."
        if never_allowed_reason(error.address) is None:
            message += " If that is intended, use --allow-private-hosts."
        return Failure(FailureKind.ADDRESS, message, host=host)
    if isinstance(error, socket.gaierror | UnicodeError):  # or a label that is too long for the encoding
        message = f"The name {host} could not be looked up."
        if host.endswith(".amazonaws.com"):
            message += " Check --region; another S3 service needs --endpoint-url."
        return Failure(FailureKind.NETWORK, message, host=host)
    if isinstance(error, TimeoutError | ConnectionAbortedError) and error.errno is None:  # asyncio's own
        return Failure(FailureKind.STALLED, f"Connecting to {host} took too long.", host=host)
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.verify_message or "it is not the one that was expected").rstrip(".")
        text = f"The TLS certificate of {host} is not trusted: {reason}."
        if "mismatch" not in reason and "expired" not in reason:
            text += " A private authority needs --ca-bundle."
        return Failure(FailureKind.NETWORK, text, host=host, retry=False)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "no reason").lower().replace("_", " ")
        text = f"No TLS connection to {host} ({reason}). If the server has no TLS, use http://."
        return Failure(FailureKind.NETWORK, text, host=host)
    number = getattr(error, "errno", None) or 0
    # asyncio's own text contains the address
    reason = type(error).__name__
    if number in errno.errorcode:
        reason = os.strerror(number)
    return Failure(FailureKind.NETWORK, f"No connection to {host}: {reason}.", host=host)

"""Translates aiohttp's errors to failures.

The first entry of `_TABLE` that an exception is an instance of applies. A test proves that no exception class
of aiohttp's client is left out. aiohttp's texts are not passed on, since they contain whole URLs.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace

from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressRefusedError
from stacpull.net.connection_errors import (
    bad_certificate,
    closed,
    connecting_stalled,
    endless_fields,
    malformed,
    network_failure,
    no_connection,
    overlong,
    reason_of,
    stalled,
    tls_failed,
    truncated,
    unknown_name,
)
from stacpull.proxies import Proxy

TOO_MANY_FIELDS = "Too many headers"
"""The start of aiohttp's own message for this error."""

EXPECTED = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)
"""Expected exceptions of a request and of reading its response (ValueError: an invalid URL)."""

_FIRST_COLUMN = 4  # of the caret under aiohttp's excerpt `  b'…'`


def failure_of(
    error: BaseException, host: str, *, reused: bool = False, proxy: Proxy | None = None
) -> Failure:
    """Return the failure for an exception of aiohttp.

    Args:
        error: The exception.
        host: The host of the request.
        reused: True if the connection had been used before.
        proxy: The proxy of the request, if any.
    """
    if proxy is not None and (failure := _of_proxy(error, host, proxy)) is not None:
        return failure
    failure = next(translate(error, host) for kinds, translate in _TABLE if isinstance(error, kinds))
    if proxy is not None and failure.kind in {FailureKind.NETWORK, FailureKind.STALLED}:
        failure = replace(failure, message=f"{failure.message} The request went through the proxy {proxy}.")
    if reused and failure.kind is FailureKind.NETWORK and not _answer_began(error):
        return replace(failure, free=failure.retryable)
    return failure


def _address_or_connector(error: BaseException, host: str) -> Failure:
    return no_connection(error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error, host)


def _dns(error: BaseException, host: str) -> Failure:
    if isinstance(getattr(error, "os_error", None), AddressRefusedError):
        return _address_or_connector(error, host)
    return unknown_name(host)


def _of_proxy(error: BaseException, host: str, proxy: Proxy) -> Failure | None:
    """Return the failure of the proxy, or None if the proxy is not known to be the cause."""
    kind = FailureKind.NETWORK
    match error:
        case aiohttp.ClientHttpProxyError(status=HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
            return unknown_to_proxy(proxy, host)
        case aiohttp.ClientConnectorCertificateError():
            return None
        case aiohttp.ClientHttpProxyError(status=status):
            message = f"The proxy {proxy} answered {status} to the request for {host}."
        case aiohttp.ClientConnectorDNSError(os_error=AddressRefusedError() as refused):
            message = f"The proxy {proxy} is at {refused.address}, which is {refused.reason}; not connected."
        case aiohttp.ClientConnectorDNSError():
            message = f"Cannot connect to the proxy {proxy} for {host}: its name cannot be looked up."
        case aiohttp.ClientProxyConnectionError():
            message = f"Cannot connect to the proxy {proxy} for {host}: {reason_of(error.os_error)}."
        case aiohttp.ConnectionTimeoutError():
            message, kind = f"The proxy {proxy} did not connect to {host} in time.", FailureKind.STALLED
        case _:
            return None
    return Failure(kind, message, host=host, retryable=True)


def unknown_to_proxy(proxy: Proxy, host: str) -> Failure:
    """Return the failure of a request to a proxy that requires credentials (407)."""
    message = f"The proxy {proxy} requires credentials (407) for {host}: use http://user:password@host:port."
    return network_failure(message, host, retryable=False)


def _answer_began(error: BaseException) -> bool:
    """Return whether part of a response was received: then aiohttp's `message` is the parsed part."""
    return not isinstance(getattr(error, "message", ""), str)


def _malformed(error: BaseException, host: str) -> Failure:
    """Return the failure of a response that aiohttp rejects. The 400 in `error` is aiohttp's own."""
    text = getattr(error, "message", "")
    if _bytes_past_the_end(text if isinstance(text, str) else ""):
        return overlong(host)
    if TOO_MANY_FIELDS in text or "Got more than" in text:
        return endless_fields(host)
    return malformed(host)


def _bytes_past_the_end(text: str) -> bool:
    """Return whether the invalid bytes follow a complete body. Otherwise the first byte is wrong."""
    if text.startswith("Data after"):
        return True
    return text.startswith("Bad status line") and text.rpartition("\n")[2].find("^") > _FIRST_COLUMN


def _invalid_url(_error: BaseException, host: str) -> Failure:
    message = f"The URL with host {host or '(none)'} is not a valid http URL."
    return Failure(FailureKind.SCHEME, message, host=host)


_Translate = Callable[[Any, str], Failure]
_TABLE: tuple[tuple[tuple[type[BaseException], ...], _Translate], ...] = (
    (
        (aiohttp.ClientConnectorCertificateError, aiohttp.ServerFingerprintMismatch),
        lambda error, host: bad_certificate(getattr(error, "certificate_error", error), host),
    ),
    ((ssl.SSLCertVerificationError,), bad_certificate),
    (
        (aiohttp.ClientSSLError, ssl.SSLError),
        lambda error, host: tls_failed(getattr(error, "os_error", error), host),
    ),
    ((aiohttp.ClientConnectorDNSError,), _dns),
    (
        (aiohttp.TooManyRedirects, aiohttp.RedirectClientError),
        lambda _, host: Failure(
            FailureKind.REDIRECT, f"{host} redirects to a URL that cannot be followed.", host=host
        ),
    ),
    ((aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError), _invalid_url),
    ((aiohttp.ClientConnectorError, AddressRefusedError), _address_or_connector),
    ((aiohttp.ConnectionTimeoutError,), lambda _, host: connecting_stalled(host)),
    ((aiohttp.ServerTimeoutError, asyncio.TimeoutError), lambda _, host: stalled(host)),
    ((aiohttp.ClientPayloadError,), lambda _, host: truncated(host)),
    ((aiohttp.ClientResponseError, HttpProcessingError), _malformed),
    ((aiohttp.ClientError, OSError), lambda _, host: closed(host, None, free=False)),
    ((ValueError,), _invalid_url),
    (
        (BaseException,),
        lambda error, host: network_failure(
            f"The exchange with {host} failed ({type(error).__name__}).", host
        ),
    ),
)

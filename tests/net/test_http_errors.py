from __future__ import annotations

import asyncio
import errno
import inspect
import ssl
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import client_exceptions, http_exceptions

from stacpull.models import FailureKind
from stacpull.net.addresses import AddressRefusedError
from stacpull.net.http import EXPECTED, failure_of
from stacpull.proxies import Proxy

KEY: Any = SimpleNamespace(host="h", port=80, ssl=True, is_ssl=True)
INFO: Any = SimpleNamespace(real_url="http://h/?key=planted")
FINAL = False
AGAIN = True

N, S, H = FailureKind.NETWORK, FailureKind.STALLED, FailureKind.SERVER

EXPECTATIONS: dict[type[BaseException], tuple[BaseException, FailureKind, bool]] = {
    aiohttp.ClientError: (aiohttp.ClientError(), N, AGAIN),
    aiohttp.ClientResponseError: (aiohttp.ClientResponseError(INFO, (), status=400), H, AGAIN),
    aiohttp.ContentTypeError: (aiohttp.ContentTypeError(INFO, ()), H, AGAIN),
    aiohttp.WSServerHandshakeError: (aiohttp.WSServerHandshakeError(INFO, ()), H, AGAIN),
    aiohttp.ClientHttpProxyError: (aiohttp.ClientHttpProxyError(INFO, (), status=407), N, FINAL),
    aiohttp.TooManyRedirects: (aiohttp.TooManyRedirects(INFO, ()), FailureKind.REDIRECT, FINAL),
    aiohttp.ClientConnectionError: (aiohttp.ClientConnectionError(), N, AGAIN),
    aiohttp.ClientConnectionResetError: (aiohttp.ClientConnectionResetError(), N, AGAIN),
    aiohttp.ClientOSError: (aiohttp.ClientOSError(104, "reset"), N, AGAIN),
    aiohttp.ClientConnectorError: (aiohttp.ClientConnectorError(KEY, OSError(111, "refused")), N, AGAIN),
    aiohttp.ClientConnectorDNSError: (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "unknown")), N, AGAIN),
    aiohttp.ClientProxyConnectionError: (
        aiohttp.ClientProxyConnectionError(KEY, OSError(111, "refused")), N, AGAIN,
    ),
    client_exceptions.UnixClientConnectorError: (
        client_exceptions.UnixClientConnectorError("/p", KEY, OSError(2, "none")), N, AGAIN,
    ),
    aiohttp.ServerConnectionError: (aiohttp.ServerConnectionError(), N, AGAIN),
    aiohttp.ServerDisconnectedError: (aiohttp.ServerDisconnectedError(), N, AGAIN),
    aiohttp.ServerTimeoutError: (aiohttp.ServerTimeoutError(), S, AGAIN),
    aiohttp.ConnectionTimeoutError: (aiohttp.ConnectionTimeoutError(), S, AGAIN),
    aiohttp.SocketTimeoutError: (aiohttp.SocketTimeoutError(), S, AGAIN),
    aiohttp.ServerFingerprintMismatch: (aiohttp.ServerFingerprintMismatch(b"a", b"b", "h", 443), N, FINAL),
    aiohttp.ClientPayloadError: (aiohttp.ClientPayloadError(), FailureKind.TRUNCATED, AGAIN),
    aiohttp.InvalidURL: (aiohttp.InvalidURL("x"), FailureKind.SCHEME, FINAL),
    aiohttp.InvalidUrlClientError: (aiohttp.InvalidUrlClientError("x"), FailureKind.SCHEME, FINAL),
    aiohttp.RedirectClientError: (aiohttp.RedirectClientError(), FailureKind.REDIRECT, FINAL),
    aiohttp.NonHttpUrlClientError: (aiohttp.NonHttpUrlClientError("x"), FailureKind.SCHEME, FINAL),
    aiohttp.InvalidUrlRedirectClientError: (
        aiohttp.InvalidUrlRedirectClientError("x"), FailureKind.REDIRECT, FINAL,
    ),
    aiohttp.NonHttpUrlRedirectClientError: (
        aiohttp.NonHttpUrlRedirectClientError("x"), FailureKind.REDIRECT, FINAL,
    ),
    aiohttp.ClientSSLError: (aiohttp.ClientSSLError(KEY, ssl.SSLError(1, "tls")), N, AGAIN),
    aiohttp.ClientConnectorSSLError: (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "tls")), N, AGAIN),
    aiohttp.ClientConnectorCertificateError: (
        aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError(1, "no")), N, FINAL,
    ),
}  # fmt: skip

if new := getattr(aiohttp, "UploadAbortedError", None):  # since aiohttp 3.14.4
    EXPECTATIONS[new] = (new(), N, AGAIN)

OF_THE_WIRE = [
    (AddressRefusedError("169.254.169.254", "link-local"), FailureKind.ADDRESS, FINAL),
    (
        aiohttp.ClientConnectorError(KEY, AddressRefusedError("10.0.0.1", "private")),
        FailureKind.ADDRESS,
        FINAL,
    ),
    (aiohttp.ClientConnectorError(KEY, OSError(24, "too many")), N, AGAIN),
    (TimeoutError(), S, AGAIN),
    (ssl.SSLCertVerificationError(1, "no"), N, FINAL),
    (ssl.SSLError(1, "tls"), N, AGAIN),
    (OSError(104, "reset"), N, AGAIN),
    (ConnectionResetError(), N, AGAIN),
    (ValueError("broken"), FailureKind.SCHEME, FINAL),
    (RuntimeError("of uvloop"), N, AGAIN),
    (
        http_exceptions.HttpProcessingError(message="Data after `Connection: close`"),
        FailureKind.OVERLONG,
        AGAIN,
    ),
]


def test_every_class_of_aiohttp_has_an_expectation() -> None:
    exported = [*vars(aiohttp).values(), *vars(client_exceptions).values()]
    errors = {c for c in exported if inspect.isclass(c) and issubclass(c, aiohttp.ClientError)}
    assert errors == set(EXPECTATIONS)


@pytest.mark.parametrize("error", [aiohttp.ServerDisconnectedError(), aiohttp.SocketTimeoutError()])
def test_a_failure_behind_a_proxy_names_the_proxy(error: BaseException) -> None:
    """The proxy or the host may be the cause."""
    failure = failure_of(error, "example.org", proxy=Proxy("http://user:word@p:1", "http_proxy"))
    assert failure.message.startswith("example.org ")
    assert failure.message.endswith(". The request went through the proxy http://p:1 (from http_proxy).")
    assert "proxy" not in failure_of(error, "example.org").message


def test_a_refusing_proxy_is_described() -> None:
    reason = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
    failure = failure_of(
        aiohttp.ClientProxyConnectionError(KEY, reason),
        "example.org",
        proxy=Proxy("http://p:1", "http_proxy"),
    )
    assert failure.message.endswith("(from http_proxy) for example.org: Connection refused.")


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [*EXPECTATIONS.values(), *OF_THE_WIRE],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_of_aiohttp_become_failures(error: BaseException, kind: FailureKind, again: bool) -> None:
    of_proxy = isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError)
    proxy = Proxy("http://user:word@proxy.example:3128", "http_proxy") if of_proxy else None
    failure = failure_of(error, "example.org", proxy=proxy)
    assert ("http://proxy.example:3128 (from http_proxy)" in failure.message) is of_proxy
    assert (failure.kind, failure.retryable, failure.free) == (kind, again, False)
    assert failure.host == "example.org"
    assert failure.status is None
    assert failure.message.endswith(".")
    assert "planted" not in failure.message


@pytest.mark.parametrize(
    "error", [value[0] for value in EXPECTATIONS.values()], ids=lambda e: type(e).__name__
)
def test_every_class_of_aiohttp_is_expected(error: BaseException) -> None:
    assert isinstance(error, EXPECTED)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), KeyboardInterrupt(), TypeError()])
def test_exceptions_that_stop_the_program_are_not_expected(error: BaseException) -> None:
    assert not isinstance(error, EXPECTED)


def test_too_many_open_files_are_reported() -> None:
    failure = failure_of(aiohttp.ClientConnectorError(KEY, OSError(24, "x")), "h")
    assert "too many open files" in failure.message

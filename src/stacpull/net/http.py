"""The transport on aiohttp, for what `http1` does not send: POST and HEAD, proxies, and unusual hosts.

aiohttp's automatic features are off: it follows no redirects, keeps no cookies, does not re-quote URLs or
decode bodies (`net.bodies` does, in small pieces), and has no credentials in its sessions. Its texts are not
passed on, since they contain whole URLs.

- A response without Content-Length that is closed early looks complete. The caller can see from the headers
  that its length is unknown (no Content-Length and no `Transfer-Encoding: chunked`).
- An idle connection that received bytes is closed: they would be read as the next response.
- aiohttp's `trust_env` is not used: it reads files in threads for every request and takes credentials from
  .netrc. A proxy may have a private address. The proxy looks names up itself, so the address policy only
  judges literal addresses.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from stacpull.hosts import host_of, literal_address, origin_of
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressPolicy, AddressRefusedError
from stacpull.net.bodies import Pace, coding_to_undo, decoded_body, regrouped
from stacpull.net.connection_errors import (
    closed,
    endless_fields,
    malformed,
    network_failure,
    no_connection,
    overlong,
    reason_of,
    stalled,
    too_slow,
    truncated,
)
from stacpull.net.fields import FIELD_LIMIT, HeaderFields, joined_fields
from stacpull.net.transport import USER_AGENT, HttpSettings, Request, TransferError
from stacpull.proxies import Proxy, is_bypassed, proxies
from stacpull.urls import wire_url

_KEEP_ALIVE = 15.0
_READ_BUFFER = 256 * 1024
_FIRST_COLUMN = 4  # of the caret under aiohttp's excerpt `  b'…'`

EXPECTED = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)
"""Expected exceptions of a request and of reading its response (ValueError: an invalid URL)."""


class HttpTransport:
    """A `stacpull.net.transport.Transport` for http and https.

    Sessions are created by the first request and belong to its event loop until `close`.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self._proxies = proxies() if settings.trust_env else {}
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        """Sessions by whether their connections use a proxy, which may have a private address."""
        self._opening = asyncio.Lock()

    def open(self, request: Request) -> HttpExchange:
        """Send `request` when the context is entered."""
        return HttpExchange(self, request)

    async def close(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Send `request` and return aiohttp's response before its body. For `HttpExchange`."""
        proxy: Proxy | None = None
        host = host_of(request.url)
        try:
            url = URL(wire_url(request.url), encoded=True)
            if url.raw_user is not None and any(name.lower() == "authorization" for name in request.headers):
                url = url.with_user(None)  # only one of the two can be sent
            proxy = self._proxy_of(url)
            self._refuse_literal(url.raw_host or "", self.settings.policy)
            session = await self._session(is_proxied=proxy is not None)
            # single bytes of the head reset the stall timer
            async with asyncio.timeout(self.settings.connect_timeout + 2 * self.settings.stall_timeout):
                response = await session.request(
                    request.method,
                    url,
                    headers={**({"Accept-Encoding": "gzip"} if request.decode else {}), **request.headers},
                    data=request.body,
                    allow_redirects=False,
                    proxy=None if proxy is None else proxy.url,
                )
        except EXPECTED as error:
            raise TransferError(failure_of(error, host, proxy=proxy)) from error
        if proxy is not None and response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            response.close()
            raise TransferError(_unknown_to_proxy(proxy, host))
        return response

    def _proxy_of(self, url: URL) -> Proxy | None:
        """Return the proxy to use for `url`, or None for a direct connection."""
        host = url.raw_host or ""
        proxy = self._proxies.get(url.scheme)
        if proxy is None or is_bypassed(host, url.port or 0):
            return None
        if proxy.problem is not None:
            raise TransferError(Failure(FailureKind.NETWORK, proxy.problem, host=host))
        self._refuse_literal(origin_of(proxy.url).host, AddressPolicy(allow_private=True))
        return proxy

    @staticmethod
    def _refuse_literal(host: str, policy: AddressPolicy) -> None:
        """Judge a literal address, which aiohttp does not look up, and a proxy looks up itself."""
        address = literal_address(host)
        reason = None if address is None else policy.judge(host, [address])[address]
        if address is not None and reason is not None:
            raise AddressRefusedError(address, reason)

    async def _session(self, *, is_proxied: bool) -> aiohttp.ClientSession:
        """Return the session for connections with or without a proxy, created if there is none."""
        async with self._opening:
            if is_proxied not in self._sessions:
                settings = self.settings
                policy = AddressPolicy(allow_private=True) if is_proxied else settings.policy
                self._sessions[is_proxied] = aiohttp.ClientSession(
                    connector=_Connector(policy, await settings.tls_context()),
                    timeout=aiohttp.ClientTimeout(
                        total=None,
                        connect=settings.connect_timeout,
                        sock_connect=settings.connect_timeout,
                        sock_read=settings.stall_timeout,
                    ),
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                    cookie_jar=aiohttp.DummyCookieJar(),
                    requote_redirect_url=False,
                    auto_decompress=False,
                    max_field_size=FIELD_LIMIT,
                    read_bufsize=_READ_BUFFER,
                )
            return self._sessions[is_proxied]


class HttpExchange:
    """A context manager that sends one request, and is its response once entered."""

    _response: aiohttp.ClientResponse
    status: int
    headers: Mapping[str, str]
    """Header fields, case-insensitive; repeated ones are joined."""

    def __init__(self, transport: HttpTransport, request: Request) -> None:
        self._transport = transport
        self._request = request
        self.url = request.url

    def __repr__(self) -> str:
        return f"<HttpExchange {self._request.method} {host_of(self.url)}>"

    async def __aenter__(self) -> Self:
        self._response = await self._transport.send(self._request)
        self.status = self._response.status
        raw = [part for field in self._response.raw_headers for part in field]
        self.headers = HeaderFields(joined_fields(raw))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end of the body has already returned the connection to the pool. Otherwise this closes it.
        self._response.close()

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about `size` bytes, decoded if the request asks for that.

        The bytes before a failure are yielded before it is raised, so that a partial download can be resumed.
        (Up to 256 KiB in aiohttp's buffer are lost.)
        """
        coding = coding_to_undo(self.headers) if self._request.decode else None
        sent = self._sent()
        return regrouped(sent if coding is None else decoded_body(sent, coding, host_of(self.url)), size)

    async def _sent(self) -> AsyncGenerator[bytes]:
        """Yield the encoded body in pieces as they arrive."""
        settings, host = self._transport.settings, host_of(self.url)
        pace = Pace(settings.min_rate, settings.stall_timeout)
        while not self._response.content.at_eof():
            started = time.monotonic()
            try:
                piece = await self._response.content.readany()
            except EXPECTED as error:
                raise TransferError(failure_of(error, host)) from error
            if not piece:
                return
            if pace.is_too_slow(time.monotonic() - started, len(piece)):
                raise TransferError(too_slow(host))
            yield piece


class _Resolver(AbstractResolver):
    """Looks up names, without the addresses that the policy refuses."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._names.resolve(host, port, family)
        reasons = self._policy.judge(host, [address["host"] for address in found])
        allowed = [address for address in found if reasons[address["host"]] is None]
        if found and not allowed:
            raise AddressRefusedError(found[0]["host"], reasons[found[0]["host"]] or "")
        return allowed

    async def close(self) -> None:
        await self._names.close()


class _Connector(aiohttp.TCPConnector):
    """Opens connections to allowed addresses, and never uses one that received bytes while it was idle."""

    def __init__(self, policy: AddressPolicy, context: ssl.SSLContext) -> None:
        super().__init__(
            limit=0,
            ssl=context,
            resolver=_Resolver(policy),
            keepalive_timeout=_KEEP_ALIVE,
        )
        self._policy = policy

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Any], timeout: Any) -> Connection:  # noqa: ASYNC109 -- aiohttp's own signature
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol, transport = connection.protocol, connection.transport
            if protocol is not None and protocol.should_close:
                connection.close()
                continue
            peer = transport.get_extra_info("peername") if transport is not None else None
            if peer:
                self._policy.connected(req.url.raw_host or "", str(peer[0]))
            return connection


# --- failures for errors of aiohttp -----------------------------------------------------------------------


def failure_of(error: BaseException, host: str, *, proxy: Proxy | None = None) -> Failure:
    """Return the failure for an exception of aiohttp, of a request to `host`, perhaps through a proxy."""
    if proxy is not None and (failure := _of_proxy(error, host, proxy)) is not None:
        return failure
    failure = _direct_failure(error, host)
    if proxy is not None and failure.kind in {FailureKind.NETWORK, FailureKind.STALLED}:
        return replace(failure, message=f"{failure.message} The request went through the proxy {proxy}.")
    return failure


def _direct_failure(error: BaseException, host: str) -> Failure:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return no_connection(error.certificate_error, host)
        case aiohttp.ClientConnectorError():
            return no_connection(error.os_error, host)
        case AddressRefusedError() | ssl.SSLError():
            return no_connection(error, host)
        case aiohttp.ConnectionTimeoutError():
            return no_connection(TimeoutError(), host)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return stalled(host)
        case aiohttp.ClientPayloadError():
            return truncated(host)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return _malformed(str(getattr(error, "message", "")), host)
        case aiohttp.NonHttpUrlClientError() | ValueError():  # also aiohttp.InvalidURL
            message = f"The URL with host {host or '(none)'} is not a valid http URL."
            return Failure(FailureKind.SCHEME, message, host=host)
        case _:
            return closed(host, None)


def _of_proxy(error: BaseException, host: str, proxy: Proxy) -> Failure | None:
    """Return the failure of the proxy, or None if the proxy is not known to be the cause."""
    kind = FailureKind.NETWORK
    match error:
        case aiohttp.ClientHttpProxyError(status=HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
            return _unknown_to_proxy(proxy, host)
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


def _unknown_to_proxy(proxy: Proxy, host: str) -> Failure:
    """Return the failure of a request to a proxy that requires credentials (407)."""
    message = f"The proxy {proxy} requires credentials (407) for {host}: use http://user:password@host:port."
    return network_failure(message, host, retryable=False)


def _malformed(text: str, host: str) -> Failure:
    """Return the failure of a response that aiohttp rejects with `text`."""
    is_later = text.startswith("Bad status line") and text.rpartition("\n")[2].find("^") > _FIRST_COLUMN
    if text.startswith("Data after") or is_later:  # the invalid bytes follow a complete body
        return overlong(host)
    if "Too many headers" in text or "Got more than" in text:
        return endless_fields(host)
    return malformed(host)

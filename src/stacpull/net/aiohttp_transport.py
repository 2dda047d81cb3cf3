"""The transport on aiohttp, for what `http1` does not send: POST and HEAD, proxies, and unusual hosts.

aiohttp's automatic features are off: redirects, cookies, quoting, decoding, .netrc. Its messages contain
whole URLs, so they are not passed on. If an idle connection receives bytes, it is closed, because they would
be read as the next response. A proxy looks names up itself, so only literal addresses can be judged then.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from stacpull.hosts import host_of, literal_address, origin_of
from stacpull.models import Failure, FailureKind, Headers
from stacpull.net.addresses import AddressPolicy, AddressRefusedError
from stacpull.net.bodies import MinimumRate
from stacpull.net.connection_errors import ResponseFault, connection_failure
from stacpull.net.fields import HEADER_LIMIT, HeaderFields, add_field
from stacpull.net.transport import KEEP_ALIVE, USER_AGENT, HttpSettings, Request, Response, TransferError
from stacpull.proxies import Proxy, proxy_of
from stacpull.urls import wire_url

_READ_BUFFER = 256 * 1024

# ValueError: an invalid URL
_EXPECTED = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)


class AiohttpTransport:
    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # True: with a proxy, which may be private

    async def close(self) -> None:
        for session in self._sessions.values():
            await session.close()

    async def send(self, request: Request) -> Response:
        settings = self._settings
        host = host_of(request.url)
        proxy = proxy_of(request.url)
        try:
            url = URL(wire_url(request.url), encoded=True)
            has_authorization = any(name.lower() == "authorization" for name in request.headers)
            if url.raw_user is not None and has_authorization:
                url = url.with_user(None)  # only one of the two can be sent
            if proxy is not None:
                proxy_origin = origin_of(proxy.url)
                if not proxy_origin.host or proxy_origin.scheme not in {"http", "https"}:
                    message = f"{proxy.variable} is not a valid URL of an http proxy: write http://host:port."
                    raise TransferError(Failure(FailureKind.NETWORK, message, host=host, retry=False))
                _refuse_literal(proxy_origin.host, AddressPolicy(allow_private=True))
            _refuse_literal(url.raw_host or "", settings.ip_policy)
            session = self._session(is_proxied=proxy is not None)
            proxy_url = None if proxy is None else proxy.url
            coding = {"Accept-Encoding": "gzip"} if request.purpose == "document" else {}
            # headers that arrive byte by byte would reset the timer of `sock_read`
            async with asyncio.timeout(settings.connect_timeout + settings.stall_timeout):
                response = await session.request(
                    request.method,
                    url,
                    headers=coding | dict(request.headers),
                    data=request.body,
                    allow_redirects=False,
                    proxy=proxy_url,
                )
        except _EXPECTED as error:
            raise TransferError(_failure_of(error, host, proxy)) from error
        if proxy is not None and response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            response.close()
            raise TransferError(_refused_by_proxy(proxy, host, response.status))
        return _AiohttpResponse(response, request, settings)

    def _session(self, *, is_proxied: bool) -> aiohttp.ClientSession:
        if is_proxied not in self._sessions:
            settings = self._settings
            policy = AddressPolicy(allow_private=True) if is_proxied else settings.ip_policy
            self._sessions[is_proxied] = aiohttp.ClientSession(
                connector=_Connector(policy, settings.tls_context, settings.max_connections),
                timeout=aiohttp.ClientTimeout(
                    connect=settings.connect_timeout, sock_read=settings.stall_timeout
                ),
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                max_field_size=HEADER_LIMIT,
                read_bufsize=_READ_BUFFER,
            )
        return self._sessions[is_proxied]


class _AiohttpResponse:
    def __init__(self, response: aiohttp.ClientResponse, request: Request, settings: HttpSettings) -> None:
        self._response = response
        self._settings = settings
        self.url = request.url
        self.status = response.status
        fields: dict[bytes, bytes] = {}
        for name, value in response.raw_headers:
            add_field(fields, name, value)
        self.headers: Headers = HeaderFields(fields)

    async def close(self) -> None:
        # The end of the body has already returned the connection to the pool. Otherwise this closes it.
        self._response.close()

    async def chunks(self, size: int) -> AsyncGenerator[bytes]:  # noqa: ARG002 - as they arrive
        """Yield the body in pieces. Before a failure, all but the 256 KiB in aiohttp's buffer are yielded."""
        host = host_of(self.url)
        minimum_rate = MinimumRate(self._settings.min_rate, self._settings.stall_timeout)
        while not self._response.content.at_eof():
            started = time.monotonic()
            try:
                piece = await self._response.content.readany()
            except _EXPECTED as error:
                raise TransferError(_failure_of(error, host)) from error
            if not piece:
                return
            if minimum_rate.is_too_slow(time.monotonic() - started, len(piece)):
                raise TransferError(ResponseFault.TOO_SLOW.failure(host))
            yield piece


class _Resolver(aiohttp.ThreadedResolver):
    def __init__(self, policy: AddressPolicy) -> None:
        super().__init__()
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        results = await super().resolve(host, port, family)
        allowed = self._policy.allowed(host, [address["host"] for address in results])
        return [address for address in results if address["host"] in allowed]


class _Connector(aiohttp.TCPConnector):
    def __init__(self, policy: AddressPolicy, context: ssl.SSLContext, max_connections: int) -> None:
        super().__init__(limit=0, ssl=context, resolver=_Resolver(policy), keepalive_timeout=KEEP_ALIVE)
        self._policy = policy
        self._max_connections = max_connections

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Any], timeout: Any) -> Connection:  # noqa: ASYNC109 -- aiohttp's own signature
        idle = [connections for connections in self._conns.values() if connections]
        is_full = len(self._acquired) + sum(map(len, idle)) >= self._max_connections
        if is_full and idle and not self._conns.get(req.connection_key):
            longest_idle = min(idle, key=lambda connections: connections[0][1])
            longest_idle.popleft()[0].close()
        while True:
            connection = await super().connect(req, traces, timeout)
            transport = connection.transport
            if connection.protocol is not None and connection.protocol.should_close:
                connection.close()
                continue
            peer = transport and transport.get_extra_info("peername")
            if peer:
                self._policy.connected(req.url.raw_host or "", str(peer[0]))
            return connection


def _refuse_literal(host: str, policy: AddressPolicy) -> None:
    """Judge a host that is a literal address: aiohttp does not look it up, so nothing else judges it."""
    address = literal_address(host)
    if address is not None:
        policy.allowed(host, [address])


def _failure_of(error: BaseException, host: str, proxy: Proxy | None = None) -> Failure:
    if proxy is not None:
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return _refused_by_proxy(proxy, host, error.status)
        is_proxy = isinstance(error, aiohttp.ClientConnectorDNSError | aiohttp.ClientProxyConnectionError)
        failing_host = host_of(proxy.url) if is_proxy else host
        failure = _failure_of(error, failing_host)
        text = f"{failure.message} The request for {host} went through the proxy {proxy}."
        return replace(failure, host=host, message=text)
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return connection_failure(error.__cause__, host)
        case aiohttp.ConnectionTimeoutError() | AddressRefusedError() | ssl.SSLError():
            return connection_failure(error, host)
        case aiohttp.ServerTimeoutError() | TimeoutError():
            return ResponseFault.STALLED.failure(host)
        case aiohttp.ClientPayloadError():
            return ResponseFault.TRUNCATED.failure(host)
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return ResponseFault.MALFORMED.failure(host)
        case aiohttp.NonHttpUrlClientError() | ValueError():  # also aiohttp.InvalidURL
            message = f"The URL with host {host or '(none)'} is not a valid http URL."
            return Failure(FailureKind.SCHEME, message, host=host)
        case _:
            return connection_failure(None, host)


def _refused_by_proxy(proxy: Proxy, host: str, status: int) -> Failure:
    message = f"The proxy {proxy} answered {status} to the request for {host}."
    may_pass = status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
    return Failure(FailureKind.NETWORK, message, host=host, retry=may_pass)

"""The HTTP transport, on aiohttp.

aiohttp's automatic features are off: it follows no redirects, keeps no cookies, does not re-quote URLs or
decode bodies (`net.bodies` does, in small pieces), never resends a request, and has no credentials in its
sessions. Its errors become failures by the first entry of `_TABLE` that they are an instance of; a test
proves that no exception class of aiohttp's client is left out. aiohttp's texts are not passed on, since they
contain whole URLs.

- A response without Content-Length that is closed early looks complete. The caller can see from the headers
  that its length is unknown (no Content-Length and no `Transfer-Encoding: chunked`).
- Bytes after Content-Length that arrive together with the response are OVERLONG. Those that arrive later are
  never read; the connection is dropped.
- If a kept-alive connection turns out to be closed, aiohttp would resend the request on another idle
  connection, which may be closed, too. Here it is resent once, on a new connection.
- The proxy of each host is looked up once. aiohttp's `trust_env` is not used: it reads files in threads for
  every request and takes credentials from .netrc. A proxy may have a private address. The proxy looks names
  up itself, so the address policy only judges literal addresses.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from msgspec.structs import replace
from yarl import URL

from stacpull.hosts import forget_hosts, host_of, literal_address
from stacpull.models import Failure, FailureKind
from stacpull.net.addresses import AddressPolicy, AddressRefusedError, socket_factory
from stacpull.net.bodies import Pace, coding_to_undo, decoded_body, regrouped
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
    too_slow,
    truncated,
    unknown_name,
)
from stacpull.net.fields import (
    FIELD_COUNT_LIMIT,
    FIELD_LIMIT,
    OVERHEAD_LIMIT,
    HeaderFields,
    LengthFilter,
    joined_fields,
)
from stacpull.net.transport import USER_AGENT, ConnectionKey, HttpSettings, Request, TransferError
from stacpull.proxies import Proxy, is_bypassed, proxies
from stacpull.urls import wire_url

_KEEPALIVE = 30.0
_READ_BUFFER = 256 * 1024
_TOO_MANY_FIELDS = "Too many headers"
"""The start of aiohttp's own message for this error."""

EXPECTED = (aiohttp.ClientError, HttpProcessingError, asyncio.TimeoutError, OSError, ValueError)
"""Expected exceptions of a request and of reading its response (ValueError: an invalid URL)."""

_FIRST_COLUMN = 4  # of the caret under aiohttp's excerpt `  b'…'`


class HttpTransport:
    """A `stacpull.net.transport.Transport` for http and https.

    Sessions are created by the first request and belong to its event loop until `close`.

    Args:
        settings: The settings.
        before_connecting: Called before a connection is opened.
    """

    def __init__(
        self, settings: HttpSettings, before_connecting: Callable[[ConnectionKey], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._head_timeout = settings.connect_timeout + 2 * settings.stall_timeout
        self._timeout = aiohttp.ClientTimeout(
            total=None,
            connect=settings.connect_timeout,
            sock_connect=settings.connect_timeout,
            sock_read=settings.stall_timeout,
        )
        self._proxies = _Proxies(proxies() if settings.trust_env else {})
        self._before_connecting = before_connecting
        self._sessions: dict[tuple[bool, bool, bool], aiohttp.ClientSession] = {}
        """Sessions by whether their connections use a proxy, are used only once, and use TLS."""
        self._tls: ssl.SSLContext | None = None
        self._opening = asyncio.Lock()

    def open(self, request: Request) -> HttpExchange:
        """Send `request` when the context is entered.

        Raises:
            TransferError: NETWORK, STALLED, ADDRESS; SCHEME for an invalid URL; OVERLONG or SERVER for a
                response that is not valid HTTP.
        """
        return HttpExchange(self, request)

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def send(self, request: Request) -> aiohttp.ClientResponse:
        """Send `request` and return aiohttp's response before its body. For `HttpExchange`."""
        try:
            return await self._send(request, fresh=False)
        except _StaleConnectionError:  # the server had closed the idle connection
            return await self._send(request, fresh=True)

    async def _send(self, request: Request, *, fresh: bool) -> aiohttp.ClientResponse:
        """Send `request` once; with `fresh` always on a new connection."""
        proxy: Proxy | None = None
        try:
            url = URL(wire_url(request.url), encoded=True)
            if url.raw_user is not None and any(name.lower() == "authorization" for name in request.headers):
                url = url.with_user(None)  # only one of the two can be sent
            proxy = self._proxies.of(url) if self._proxies else None
            if proxy is not None:
                self._refuse_literal(url)
            key = (proxy is not None, fresh, url.scheme == "https")
            session = self._sessions.get(key) or await self._session(key)
            async with asyncio.timeout(self._head_timeout):  # single bytes of the head reset the stall timer
                response = await session.request(
                    request.method,
                    url,
                    headers=_fields(request),
                    data=request.body,
                    allow_redirects=False,
                    proxy=None if proxy is None else proxy.url,
                )
        except _SentOnceError as error:
            failure = failure_of(error.cause, host_of(request.url), reused=error.reused, proxy=proxy)
            if failure.free:
                raise _StaleConnectionError from error.cause
            raise TransferError(failure) from error.cause
        except EXPECTED as error:
            raise TransferError(failure_of(error, host_of(request.url), proxy=proxy)) from error
        if proxy is not None and response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            response.close()
            raise TransferError(_unknown_to_proxy(proxy, host_of(request.url)))
        return response

    def pace(self) -> Pace:
        """Return the rate check for one body. For `HttpExchange`."""
        return Pace(self._settings.min_rate, self._settings.stall_timeout)

    def _refuse_literal(self, url: URL) -> None:
        """Apply the policy to a host that is a literal address. The proxy looks up names.

        Raises:
            TransferError: ADDRESS.
        """
        host = url.raw_host or ""
        address = literal_address(host)
        reason = None if address is None else self._settings.policy.judge(host, [address])[address]
        if reason is not None:
            message = f"{host} is {reason}; not connected."
            raise TransferError(Failure(FailureKind.ADDRESS, message, host=host))

    async def _session(self, key: tuple[bool, bool, bool]) -> aiohttp.ClientSession:
        """Return the session for `key`, created if there is none."""
        is_proxied, fresh, is_tls = key
        async with self._opening:
            if key not in self._sessions:
                policy = AddressPolicy(allow_private=True) if is_proxied else self._settings.policy
                if is_tls or is_proxied:
                    self._tls = self._tls or await self._settings.tls_context()
                connector = _Connector(policy, self._tls or True, self._before_connecting, fresh=fresh)
                self._sessions[key] = aiohttp.ClientSession(
                    connector=connector,
                    timeout=self._timeout,
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                    cookie_jar=aiohttp.DummyCookieJar(),
                    middlewares=(connector.send_once,),
                    requote_redirect_url=False,
                    auto_decompress=False,
                    max_field_size=FIELD_LIMIT,
                    max_headers=FIELD_COUNT_LIMIT,
                    read_bufsize=_READ_BUFFER,
                )
            return self._sessions[key]

    def close_idle(self, key: ConnectionKey) -> None:
        """Close the idle connections with a key."""
        for session in self._sessions.values():
            cast("_Connector", session.connector).close_idle(key)


class HttpExchange:
    """A context manager that sends one request, and is its response once entered."""

    _response: aiohttp.ClientResponse
    headers: Mapping[str, str]
    """Header fields, case-insensitive; repeated ones are joined."""

    def __init__(self, transport: HttpTransport, request: Request) -> None:
        self._transport = transport
        self._request = request

    def __repr__(self) -> str:
        return f"<HttpExchange {self._request.method} {host_of(self._request.url)}>"

    async def __aenter__(self) -> Self:
        self._response = await self._transport.send(self._request)
        raw = [part for field in self._response.raw_headers for part in field]
        self.headers = HeaderFields(joined_fields(raw))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The end of the body has already returned the connection to the pool. Otherwise this closes it.
        self._response.close()

    @property
    def url(self) -> str:
        """The URL that answered."""
        return self._request.url

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self._response.status

    def chunks(self, size: int) -> AsyncIterator[bytes]:
        """Yield the body in pieces of about `size` bytes, decoded if the request asks for that.

        The bytes before a failure are yielded before it is raised, so that a partial download can be resumed.
        (Up to 256 KiB in aiohttp's buffer are lost.)

        Raises:
            TransferError: TRUNCATED, OVERLONG, STALLED, NETWORK.
        """
        coding = coding_to_undo(self.headers) if self._request.decode else None
        sent = self._sent()
        return regrouped(sent if coding is None else decoded_body(sent, coding, host_of(self.url)), size)

    async def _sent(self) -> AsyncGenerator[bytes]:
        """Yield the encoded body in pieces as they arrive."""
        pace = self._transport.pace()
        while piece := await self._piece(pace):
            yield piece
            if self._response.content.at_eof():
                return

    async def _piece(self, pace: Pace) -> bytes:
        """Return the next bytes of the body as soon as there are any; empty at its end."""
        started = time.monotonic()
        try:
            piece = await self._response.content.readany()
        except EXPECTED as error:
            raise TransferError(failure_of(error, host_of(self.url))) from error
        if piece and pace.is_too_slow(time.monotonic() - started, len(piece)):
            raise TransferError(too_slow(host_of(self.url)))
        return piece


class _SentOnceError(Exception):
    """Wraps a connection error so that aiohttp does not resend the request."""

    def __init__(self, cause: aiohttp.ClientError, *, reused: bool) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.reused = reused


class _StaleConnectionError(Exception):
    """A kept-alive connection turned out to be closed; the request can be resent on a new one."""


class _Protocol(ResponseHandler):
    """aiohttp's protocol, which here tolerates a repeated Content-Length and limits the size of heads."""

    _lengths: LengthFilter | None = None

    def set_response_params(self, **given: Any) -> None:
        """Called before the response to each request."""
        self._lengths = LengthFilter()
        super().set_response_params(**given)

    def data_received(self, data: bytes) -> None:
        lengths = self._lengths
        if lengths is not None and data:
            data = lengths.feed(data)
            if lengths.seen > OVERHEAD_LIMIT:
                self.set_exception(HttpProcessingError(message=_TOO_MANY_FIELDS))
                self.close()
                return
            if lengths.is_done:
                self._lengths = None
        super().data_received(data)
        if self._lengths is not None:  # aiohttp stops its timer at an interim response
            self.start_timeout()


class _Connector(aiohttp.TCPConnector):
    """A connector that applies the address policy and knows which requests used a kept-alive connection."""

    def __init__(
        self,
        policy: AddressPolicy,
        context: ssl.SSLContext | bool,
        before_connecting: Callable[[ConnectionKey], None],
        *,
        fresh: bool,
    ) -> None:
        keepalive = {"force_close": True} if fresh else {"keepalive_timeout": _KEEPALIVE}
        super().__init__(limit=0, ssl=context, socket_factory=socket_factory(policy), **keepalive)
        self._policy = policy
        self._before_connecting = before_connecting
        self._factory = cast("partial[ResponseHandler]", partial(_Protocol, loop=self._loop))
        self._used: weakref.WeakSet[ResponseHandler] = weakref.WeakSet()
        self._on_used: weakref.WeakSet[aiohttp.ClientRequest] = weakref.WeakSet()

    async def connect(self, req: aiohttp.ClientRequest, traces: list[Any], timeout: Any) -> Connection:  # noqa: ASYNC109 - aiohttp's own signature
        connection = await super().connect(req, traces, timeout)
        protocol = connection.protocol
        if protocol in self._used:
            self._on_used.add(req)
        elif protocol is not None:
            self._used.add(protocol)
            self._note_address(req, connection)
        return connection

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: Any,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> ResponseHandler:
        host, port, is_tls, *_ = req.connection_key
        self._before_connecting(("https" if is_tls else "http", host, port or (443 if is_tls else 80)))
        return await super()._create_connection(req, traces, timeout)

    def close_idle(self, key: ConnectionKey) -> None:
        for own in list(self._conns):
            if (("https" if own.is_ssl else "http"), own.host, own.port) == key:
                for protocol, _ in self._conns.pop(own):
                    protocol.close()

    async def _resolve_host(self, host: str, port: int, traces: Any = None) -> list[Any]:
        """Look up a host, without the addresses that the policy refuses."""
        found = await super()._resolve_host(host, port, traces=traces)
        reasons = self._policy.judge(host, [address["host"] for address in found])
        allowed = [address for address in found if reasons[address["host"]] is None]
        if found and not allowed:
            raise AddressRefusedError(found[0]["host"], reasons[found[0]["host"]] or "")
        return allowed

    def _note_address(self, req: aiohttp.ClientRequest, connection: Connection) -> None:
        transport = connection.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        if peer:
            self._policy.connected(req.url.raw_host or "", str(peer[0]))

    async def send_once(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Middleware that hides connection errors from aiohttp's own retry."""
        try:
            return await handler(request)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            raise _SentOnceError(error, reused=request in self._on_used) from error


class _Proxies:
    """The proxies of the environment, looked up once per host (`no_proxy`)."""

    def __init__(self, found: Mapping[str, Proxy]) -> None:
        self._proxies = dict(found)
        self._known: dict[tuple[str, str, int], Proxy | None] = {}

    def __bool__(self) -> bool:
        return bool(self._proxies)

    def of(self, url: URL) -> Proxy | None:
        """Return the proxy to use for `url`, or None for a direct connection."""
        key = (url.scheme, url.raw_host or "", url.port or 0)
        if key not in self._known:
            forget_hosts(self._known)
            bypass = is_bypassed(key[1], key[2])
            self._known[key] = None if bypass else self._proxies.get(key[0])
        proxy = self._known[key]
        if proxy is not None and proxy.problem is not None:
            raise TransferError(Failure(FailureKind.NETWORK, proxy.problem, host=key[1]))
        return proxy


def _fields(request: Request) -> Mapping[str, str]:
    return {"Accept-Encoding": "gzip", **request.headers} if request.decode else request.headers


# --- failures for errors of aiohttp -----------------------------------------------------------------------


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
            return _unknown_to_proxy(proxy, host)
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


def _unknown_to_proxy(proxy: Proxy, host: str) -> Failure:
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
    if _TOO_MANY_FIELDS in text or "Got more than" in text:
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

"""The transport for http and https: GET requests on connections that it shares with the fast path.

The addresses of a host are judged, and one of them is connected to, without another lookup. An address that
failed is tried last, and an address that does not answer gets only a share of the time. aiohttp, which is
imported only then, sends the other requests: those that are not a GET, that are for an unusual host (with
userinfo or zones), or whose fields have control characters, of which aiohttp refuses line breaks.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from stacpull.caches import BoundedCache
from stacpull.hosts import MAX_HOSTS, default_port, origin_of
from stacpull.http1.connection import Http1Connection, streamed
from stacpull.net.connection_errors import connection_failure
from stacpull.net.transport import USER_AGENT, GetResponse, HttpSettings, Request, Response, TransferError
from stacpull.proxies import proxy_of
from stacpull.urls import parts_of, wire_url

if TYPE_CHECKING:
    from stacpull.net.aiohttp_transport import AiohttpTransport
    from stacpull.net.transport import Purpose

_TICK = 1.0
_TICKS_A_TIMEOUT = 8
_ADDRESS_SECONDS = 5.0  # seconds for an address while there are others
_HANDSHAKE = 10.0  # seconds of TLS: a server of another protocol may wait for more bytes without an answer
_ORIGIN = re.compile(r"https?://([a-z0-9_]([a-z0-9._-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
_AFTER_SCHEME = len("https://")
_REMEMBERED = 10.0  # seconds after which the addresses of a host are looked up again
_FAILURE_REMEMBERED = 1.0  # the same after a failure


class PreparedRequest(msgspec.Struct, frozen=True):
    """A GET that can be sent on a connection to `host` without a task."""

    host: "Http1Host"
    request_bytes: bytes
    to_response: Callable[[Request, GetResponse], Awaitable[Response]] | None = None
    """If set, it receives the http response, and returns the one that `Transport.send` would return."""

    def __repr__(self) -> str:
        return f"<PreparedRequest for {self.host.name}>"  # the request may hold credentials


class CallbackTransport:
    """A transport whose GETs can be sent without a task. A base class: `isinstance` is slow for protocols."""

    def prepare(self, request: Request) -> PreparedRequest | None:
        """Return a GET, or None if only `send` can send it. Equal `headers` should be one object."""
        raise NotImplementedError


class Http1Transport(CallbackTransport):
    """Sends GETs, in one event loop. A stalled exchange fails at most a second after `stall_timeout`."""

    def __init__(self, settings: HttpSettings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        self._tick = min(_TICK, settings.stall_timeout / _TICKS_A_TIMEOUT)
        # by origin (`http://host:port`) in lower case; one with idle connections is kept
        self._hosts = BoundedCache[str, Http1Host](MAX_HOSTS, lambda host: host.idle)
        self.connections: set[Http1Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Event | None = None
        self._aiohttp: AiohttpTransport | None = None

    async def send(self, request: Request) -> Response:
        is_get = request.method == "GET" and request.body is None
        prepared = self.prepare(request) if is_get else None
        if prepared is None:
            if self._aiohttp is None:
                from stacpull.net.aiohttp_transport import AiohttpTransport  # noqa: PLC0415 -- heavy: aiohttp

                self._aiohttp = AiohttpTransport(self._settings)
            return await self._aiohttp.send(request)
        host = prepared.host
        for idle in (host.take_idle(), None):  # a new connection if none is idle, or the idle one was closed
            connection = idle or await self.connect(host)
            handler = _TaskHandler(host.name)
            connection.send(handler, prepared.request_bytes)
            try:
                if await handler:
                    break
            except asyncio.CancelledError:
                connection.close()
                raise
        return await streamed(connection, request.url)

    def prepare(self, request: Request, authorization: str = "") -> PreparedRequest | None:
        """Return the request, with the field `authorization` if it is not empty."""
        url = request.url
        headers = request.headers
        end = url.find("/", _AFTER_SCHEME)
        target = url[end:]
        host = self._hosts.get(url[:end]) if end > 0 else None
        if host is None or not (target.isascii() and target.isprintable()) or " " in target or "#" in target:
            origin, target = split_url(url)
            host = self.host(origin)
            if host is None:
                return None
        # equal fields are one object, so `is` is enough
        is_known = headers is host.headers and request.purpose == host.purpose
        if not is_known and not host.set_fields(headers, request.purpose):
            return None
        tail = host.tail
        if authorization:
            if not authorization.isprintable():
                return None
            tail = b"%bAuthorization: %b\r\n\r\n" % (tail[:-2], authorization.encode())
        return PreparedRequest(host, b"GET " + target.encode("ascii") + tail)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._emptied = asyncio.Event()
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            await self._emptied.wait()
        if self._aiohttp is not None:
            await self._aiohttp.close()

    def host(self, origin: str) -> "Http1Host | None":
        """Return the host, None if its name has an unusual form, or if a proxy is used for it."""
        origin = origin.lower()
        host = self._hosts.get(origin)
        if host is None:
            scheme, hostname, port = origin_of(origin)
            if not _ORIGIN.fullmatch(origin) or not port or proxy_of(origin) is not None:
                return None
            host = Http1Host(scheme, hostname.strip("[]"), port, origin.partition("://")[2])
            self._hosts[origin] = host
        return host

    async def connect(self, host: "Http1Host") -> Http1Connection:
        if len(self.connections) >= self._settings.max_connections:
            idle = (connection for connection in self.connections if connection in connection.idle)
            longest_idle = max(idle, key=lambda connection: connection.quiet_ticks, default=None)
            if longest_idle is not None:
                longest_idle.idle.remove(longest_idle)  # at once, so that the next caller takes another one
                longest_idle.close()
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                return await self._try_addresses(host)
        except (OSError, UnicodeError) as error:
            raise TransferError(connection_failure(error, host.name)) from error

    async def _try_addresses(self, host: "Http1Host") -> Http1Connection:
        """Connect to the first address that can be reached. An untrusted certificate ends the search.

        The loop gets the address, not a socket: uvloop takes over a socket only after `connection_made`, and
        would close the descriptor twice if the connection is closed by then.
        """
        settings = self._settings
        tls: dict[str, Any] = {}
        if host.is_tls:
            self._tls = self._tls or await asyncio.to_thread(lambda: settings.tls_context)
            seconds = min(_HANDSHAKE, settings.stall_timeout)
            tls = {"ssl": self._tls, "server_hostname": host.hostname, "ssl_handshake_timeout": seconds}
        allowed = settings.ip_policy.allowed(host.hostname, await host.addresses())
        seconds_per_address = min(_ADDRESS_SECONDS, settings.connect_timeout / max(len(allowed), 1))
        for address in allowed:
            connection = Http1Connection(self, host.name, host.idle)
            create_connection = asyncio.get_running_loop().create_connection
            timeout = None if address == allowed[-1] else seconds_per_address
            try:
                async with asyncio.timeout(timeout):
                    await create_connection(lambda: connection, address, host.port, **tls)  # noqa: B023 -- called now
            except BaseException as error:
                connection.abort()  # it may have been connected, and uvloop never reports the end
                self.discard(connection)
                if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
                    raise
                host.unreachable.add(address)
                if address == allowed[-1]:
                    raise  # here: the traceback of an error in a variable would hold the error
            else:
                host.unreachable.discard(address)
                settings.ip_policy.connected(host.hostname, address)
                return connection
        raise OSError(f"{host.name} has no address")

    def add(self, connection: Http1Connection) -> None:
        self.connections.add(connection)
        if self._emptied is not None:
            connection.abort()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)

    def discard(self, connection: Http1Connection) -> None:
        self.connections.discard(connection)
        if connection in connection.idle:
            connection.idle.remove(connection)
        if not self.connections and self._emptied is not None:
            self._emptied.set()

    def _on_tick(self) -> None:
        self._timer = None
        for connection in list(self.connections):
            connection.tick(self._tick, self._settings)
        if self.connections:
            self._timer = asyncio.get_running_loop().call_later(self._tick, self._on_tick)


class _TaskHandler(asyncio.Future[bool]):
    """Lets a task stream the response; its result is False if the server had closed the connection."""

    def __init__(self, name: str) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._name = name

    def on_response(self, *_response: object) -> bool:
        return False

    def on_streamed(self, connection: Http1Connection, /) -> None:
        if self.done():
            connection.abort()
        else:
            self.set_result(True)

    def send_on_new_connection(self) -> None:
        if not self.done():
            self.set_result(False)

    def on_close(self) -> None:
        self.on_error(TransferError(connection_failure(None, self._name)))

    def on_error(self, error: Exception, /) -> None:
        if not self.done():
            self.set_exception(error)


class Http1Host:
    """A host and its idle connections. `hostname` has no brackets (IPv6); `name` is as in the URL."""

    def __init__(self, scheme: str, hostname: str, port: int, name: str) -> None:
        self.is_tls = scheme == "https"
        self.hostname = hostname
        self.port = port
        self.name = name
        self.unreachable: set[str] = set()  # addresses at which the last attempt failed
        self._addresses: list[str] | OSError = []
        self._addresses_until = 0.0
        self._lookup = asyncio.Lock()
        self.idle: list[Http1Connection] = []  # the most recently used one is the last
        self.headers: Mapping[str, str] | None = None
        self.purpose: Purpose = "asset"
        self.tail = b""  # what follows the target in a request with `headers`
        self.default_fields = {
            "host": name.removesuffix(f":{default_port(scheme)}"),  # RFC 9110, 7.2
            "user-agent": USER_AGENT,
            "accept": "*/*",
            "accept-encoding": "identity",
        }

    async def addresses(self) -> list[str]:
        """Return the addresses in the order to try them, each time another one first."""
        loop = asyncio.get_running_loop()
        async with self._lookup:
            if loop.time() >= self._addresses_until:
                try:
                    infos = await loop.getaddrinfo(self.hostname, self.port, type=socket.SOCK_STREAM)
                    addresses = [str(info[4][0]) for info in infos]
                    self._addresses = list(dict.fromkeys(addresses))
                    self._addresses_until = loop.time() + _REMEMBERED
                except OSError as error:
                    self._addresses = error
                    self._addresses_until = loop.time() + _FAILURE_REMEMBERED
        if isinstance(self._addresses, OSError):
            raise type(self._addresses)(*self._addresses.args)
        in_order = sorted(self._addresses, key=self.unreachable.__contains__)  # those that work come first
        self._addresses = in_order[1:] + in_order[:1]
        return in_order

    def set_fields(self, headers: Mapping[str, str], purpose: "Purpose") -> bool:
        """Set the `tail` of requests with these fields. Return False if one has control characters."""
        if not "".join((*headers, *headers.values())).isprintable():
            return False
        fields = dict(self.default_fields)
        if purpose == "document":
            fields["accept-encoding"] = "gzip"
        for name in headers:
            fields.pop(name.lower(), None)
        all_fields = *fields.items(), *headers.items()
        lines = "".join(f"{name}: {value}\r\n" for name, value in all_fields)
        self.tail = f" HTTP/1.1\r\n{lines}\r\n".encode()
        self.headers = headers
        self.purpose = purpose
        return True

    def take_idle(self) -> Http1Connection | None:
        idle = self.idle
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if transport is not None and not transport.is_closing():
                return connection
        return None


def split_url(url: str) -> tuple[str, str]:
    """Split `url` into origin and request target. Only characters that are not valid are percent-encoded."""
    url = wire_url(url).partition("#")[0]
    parts = parts_of(url)
    server = f"{parts.scheme}://{parts.netloc}"
    target = url[len(server) :]
    if not target.startswith("/"):
        target = f"/{target}"
    return server, target

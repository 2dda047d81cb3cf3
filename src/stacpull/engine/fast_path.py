"""The fast path: it selects assets, sends their requests, and hands over unusual ones.

    begin ─▶ permit of the host ─▶ request ─▶ 200: done
                  ▲                    │ redirect
                  └────────────────────┘

An asset is one object here, from its first request to its last; a gate queues this same object. The fast path
uses the same functions as the general path for gates, redirects, credentials, address rules and checks.

Everything unusual is handed over, and the general path continues (`net.client.StartedExchange`): before a
request that was not sent (the host throttles, or the fast path cannot connect to it), or with the response to
a request that was sent (an error, a long body, wrong content). The same code decides from there on, so the
results are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from stacpull.caches import LONGEST_KEY
from stacpull.engine.shared_downloads import Download, SharedDownloads
from stacpull.hosts import forget_hosts, origin_text
from stacpull.http1.connection import FastConnection
from stacpull.http1.host import FastHost
from stacpull.http1.requests import is_plain, request_tail, split_url
from stacpull.http1.response import FailedResponse, StreamedResponse
from stacpull.http1.web_transport import WebTransport
from stacpull.models import Arrival, Failure, Job
from stacpull.net.client import DRAINED, LONGEST_URL, Client, PendingResponse, Route, StartedExchange
from stacpull.net.gate import Gate
from stacpull.net.redirects import next_hop
from stacpull.net.transport import Request, Rewrites, Rewritten, TransferError

if TYPE_CHECKING:
    from stacpull.engine.pool import Pool


class FastOrigin(msgspec.Struct, eq=False):
    """One origin of URLs, with its host and gate."""

    base: str
    """The start of its URLs."""
    sent_base: str
    """The beginning of the URLs as they are sent."""
    start: int
    """Where the request target begins in such a URL."""
    host: FastHost
    route: Route
    gate: Gate
    """That of the route."""
    tail: bytes
    """The part of a request after the target; with `rewrites`, only the fields that rarely change."""
    rewrites: Rewrites | None
    """The transport that rewrites requests, if any."""
    is_plain: bool
    """True if URLs are requested unchanged and without credentials."""
    headers: Mapping[str, str] | None = None
    """With `rewrites`: the fields from which `tail` was made."""

    def __repr__(self) -> str:
        return f"<FastOrigin {self.host}>"


class FastTransfer(msgspec.Struct, eq=False):
    """One asset on the fast path, with its current request. The queue of a gate contains this object."""

    path: FastPath
    job: Job
    download: Download
    origin: FastOrigin
    url: str
    since: float
    """The time when its first request was queued."""
    sent_at: float = 0.0
    """The time when the current request was sent."""
    hops: tuple[str, ...] = ()
    outgoing: Request | None = None
    """The request with credentials, if the host is SOURCE's own."""
    rewritten: Rewritten | None = None
    sent: bytes = b""
    started: StartedExchange | None = None
    """Where the general path continues, once it was handed over."""

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        """Complete the attempt on the general path (`transfer.attempt.AssetFetcher`)."""
        path = self.path
        fetching = path.fetcher.fetch(job, count_refusal=count_refusal, started=self.started)
        return await path.shared.finish(self.download, fetching)

    def ask(self) -> None:
        """Send the request as soon as its host has a permit."""
        if not self.origin.gate.admit(self):
            self.path.hand_over(self)

    # Called by a gate.

    def is_over(self) -> bool:
        """Return True once the run has ended: the gate then drops it from the queue."""
        return self.path.is_closed

    def admitted(self) -> None:
        """Send the request, which has its permit."""
        path, origin = self.path, self.origin
        target = self.url[origin.start :]
        is_plain = target.isascii() and target.isprintable() and " " not in target and "#" not in target
        if is_plain and origin.is_plain:
            request = b"GET " + target.encode("ascii") + origin.tail
        elif (made := path.unusual_request(self)) is not None:
            request = made
        else:
            origin.gate.release()
            path.hand_over(self)
            return
        self.sent = request
        path.counters.requests += 1
        self.sent_at = origin.gate.now()
        connection = origin.host.pop()
        if connection is None:
            path.pool.spawn(path.connect(self))
        else:
            connection.begin(self, request)

    def turned_away(self, _given_up: TransferError | None = None) -> None:
        """Hand over: the general path waits, or reports that the host is given up."""
        self.path.hand_over(self)

    # Called by a connection.

    def answered(
        self,
        connection: FastConnection,
        is_ok: bool,
        fields: Mapping[bytes, bytes],
        body: bytes,
        /,
    ) -> bool:
        """Take a complete response: 200 (`is_ok`) or a redirect. Return False if it is incorrect."""
        path, gate, size = self.path, self.origin.gate, len(body)
        if is_ok:
            arrival = path.fetcher.accept(self.job, self.url, fields, body)
            if arrival is None:
                return False
            path.shared.complete(self.download, arrival)
            path.counters.bytes_fetched += size
            connection.release()
            gate.finished(self.sent_at, size)
            path.sink.put(self.job, arrival)
            return True
        location = fields.get(b"location")
        if location is None or size > DRAINED or self.rewritten is not None:
            return False
        text = location.decode("utf-8", "surrogateescape")
        target = next_hop(self.url, text, self.hops, allow_downgrade=path.allow_downgrade)
        if isinstance(target, Failure):
            return False
        path.counters.bytes_fetched += size
        connection.release()
        self.hops += (self.url,)
        self.url = target
        self.outgoing = None
        origin = path.origin(target)
        if gate.finished(self.sent_at, 0, goes_on=origin is self.origin):
            self.admitted()
        elif origin is None:
            path.hand_over(self)
        else:
            self.origin = origin
            self.ask()
        return True

    def stream(self, connection: FastConnection, /) -> None:
        """Hand over with the response on `connection`, which has started or failed."""
        outgoing = self.outgoing or self.request()
        url = outgoing.url if self.rewritten is None else self.rewritten.url
        self.path.hand_over(self, StreamedResponse(connection, url, in_blocks=True))

    def send_again(self) -> None:
        """Send the request on a new connection: the server had closed the idle one."""
        self.path.pool.spawn(self.path.connect(self))

    def abandon(self) -> None:
        """Return the permit."""
        self.origin.gate.release()

    def fail_run(self, error: Exception, /) -> None:
        """End the run because of a bug."""
        self.path.pool.spawn(_raised(error))

    def request(self) -> Request:
        """Return the current request, without credentials."""
        return Request(self.url, redirected=bool(self.hops))


class FastPath:
    """Fetches assets; made and used in one event loop."""

    def __init__(
        self, client: Client, web: WebTransport, shared: SharedDownloads, pool: Pool[Job, Arrival | None]
    ) -> None:
        self._client = client
        self._web = web
        self.shared = shared
        self.fetcher = shared.fetcher
        self.pool = pool
        self.sink = pool.sink
        self.allow_downgrade = client.allow_downgrade
        self.counters = client.counters
        self._origins: dict[str, FastOrigin | None] = {}
        """Origins by the start of URLs (`http://host:port`); None for those of the general path."""
        self._last: FastOrigin | None = None
        """The last origin that was looked up, if its URLs need no further check."""
        self.is_closed = False

    async def close(self) -> None:
        """End all transfers."""
        self.is_closed = True
        for connection in list(self._web.connections):
            if isinstance(connection.exchange, FastTransfer):
                connection.close()
        self._origins.clear()
        self._last = None

    # The path of an asset.

    def begin(self, job: Job) -> bool:
        """Start to fetch an asset. Return False if the general path must do it."""
        href = self._client.at_source(job.href)
        if job.stale or job.version_in_dest is not None or job.sha256 is not None:
            return False
        origin = self.origin(href)
        download = None if origin is None else self.shared.start(job)
        if origin is None or download is None:
            return False
        FastTransfer(self, job, download, origin, href, origin.gate.now()).ask()
        return True

    async def connect(self, transfer: FastTransfer) -> None:
        """Open a connection for a request that must be sent, or sent again."""
        origin = transfer.origin
        try:
            connection = await self._web.connect(origin.host)
        except TransferError as error:
            self.hand_over(transfer, FailedResponse(error))
        except BaseException:
            origin.gate.release()
            raise
        else:
            connection.begin(transfer, transfer.sent)

    # Handing over.

    def hand_over(
        self, transfer: FastTransfer, response: StreamedResponse | FailedResponse | None = None
    ) -> None:
        """Hand over a transfer: with the response to its request, or before that request."""
        plain = transfer.request()
        sent = None
        if response is not None:
            rewritten = transfer.rewritten
            context = response if rewritten is None else rewritten.opened(plain, response)
            sent = PendingResponse(
                transfer.origin.gate, transfer.outgoing or plain, transfer.sent_at, context
            )
        transfer.started = StartedExchange(plain, transfer.hops, sent)
        self.pool.fetch(transfer.job, transfer, transfer.since)

    # Requests and origins.

    def unusual_request(self, transfer: FastTransfer) -> bytes | None:
        """Return the bytes of a request that is not plain, None if the general path must send it.

        Credentials are sent only to SOURCE's own host.
        """
        origin = transfer.origin
        if origin.rewrites is not None:
            return self._rewritten(transfer, origin.rewrites)
        url = transfer.url
        if origin.route.gets_credentials:
            transfer.outgoing = outgoing = self._client.prepare(transfer.request(), origin.route)
            url = outgoing.url
        return b"GET " + split_url(url)[1].encode("ascii") + origin.tail

    def _rewritten(self, transfer: FastTransfer, rewrites: Rewrites) -> bytes | None:
        origin = transfer.origin
        rewritten = rewrites.ready(transfer.url, redirected=bool(transfer.hops))
        if (
            rewritten is None
            or not rewritten.url.startswith(origin.sent_base)
            or not (rewritten.headers is origin.headers or self._renew_tail(origin, rewritten))
        ):
            # the bucket has moved, or credentials must be renewed
            self._origins = {server: one for server, one in self._origins.items() if one is not origin}
            self._last = None
            return None
        transfer.rewritten = rewritten
        target = rewritten.url[origin.start :].encode("ascii")
        authorization = rewritten.authorization
        if authorization:
            return b"GET %b%bAuthorization: %b\r\n\r\n" % (
                target,
                origin.tail,
                authorization.encode("utf-8", "surrogateescape"),
            )
        return b"GET %b%b\r\n" % (target, origin.tail)

    def _renew_tail(self, origin: FastOrigin, rewritten: Rewritten) -> bool:
        """Update the tail of requests after fields changed; return False if they cannot be sent here."""
        if not is_plain(_all_headers(rewritten)):
            return False
        origin.headers = rewritten.headers
        tail = request_tail(rewritten.headers, origin.host.default_fields)
        origin.tail = b" HTTP/1.1\r\n" + tail.removesuffix(b"\r\n")
        return True

    def origin(self, url: str) -> FastOrigin | None:
        """Return the origin of a URL, None if the general path must request it."""
        last = self._last
        if last is not None and url.startswith(last.base) and len(url) <= LONGEST_URL:
            return last  # nearly always
        end = url.find("/", url.find("://") + 3)
        if end < 0 or len(url) > LONGEST_URL:
            return None
        server, self._last = url[:end], None
        try:
            origin = self._origins[server]
        except KeyError:
            origin = self._new_origin(server, url)
        if origin is None or origin.route.gets_credentials or not self._client.has_credentials:
            self._last = origin
            return origin
        is_clean = self._client.prepare(Request(url), origin.route).url == url
        return origin if is_clean else None  # a server may have copied a secret into it

    def _new_origin(self, server: str, url: str) -> FastOrigin | None:
        if len(server) > LONGEST_KEY or "?" in server or "#" in server:
            return None
        try:
            route = self._client.route(url)
        except TransferError:
            return None
        transport = route.transport
        origin = None
        if isinstance(transport, Rewrites):
            ready = transport.ready(url, redirected=False)
            if ready is None:
                return None  # the general path prepares the transport first
            origin = self._made(server, Request(ready.url, headers=_all_headers(ready)), route, transport)
        elif transport is self._web:
            origin = self._made(server, Request(url), route, None)
        forget_hosts(self._origins, lambda one: one is not None and (one.host.idle or one.gate.in_use))
        self._origins[server] = origin
        return origin

    def _made(self, server: str, sent: Request, route: Route, rewrites: Rewrites | None) -> FastOrigin | None:
        """Return the origin of a request as it would be sent, None if the fast path cannot send it."""
        sent_server = origin_text(sent.url)
        host = self._web.host(sent_server)
        if host is None:
            return None
        headers = sent.headers if rewrites is not None else self._client.prepare(sent, route).headers
        if not is_plain(headers):
            return None
        tail = request_tail(headers, host.default_fields)
        return FastOrigin(
            f"{server}/",
            f"{sent_server}/",
            len(sent_server),
            host,
            route,
            route.gate,
            b" HTTP/1.1\r\n" + tail,
            rewrites,
            is_plain=rewrites is None and not route.gets_credentials,
        )


async def _raised(error: Exception) -> None:
    raise error


def _all_headers(rewritten: Rewritten) -> dict[str, str]:
    return {**rewritten.headers, "authorization": rewritten.authorization}

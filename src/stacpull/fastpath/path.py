"""The fast path: which assets it takes, the requests of one, and when it is handed over.

    begin ─▶ permit of the host ─▶ request ─▶ 200: taken
                  ▲                    │ redirect
                  └────────────────────┘

An asset is one object here, from its first request to its last; it is itself what waits in a gate's queue.
Policy is that of the general path, in the same functions: gates, redirects, credentials, address rules, the
checks of what came.

Whatever is unusual is handed over. The general path continues there (`net.client.StartedExchange`):
before a request that is not sent yet (a host that throttles, or one that the fast path cannot ask), or with
the response to one that is (an error, a long body, content that is not what it should be). What it makes of
that is what it would have made of its own, since from there on it is the same code.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from stacpull.caches import LONGEST_KEY
from stacpull.fastpath.connection import MAX_BODY_IN_MEMORY, FastConnection
from stacpull.fastpath.connections import FastHost
from stacpull.fastpath.requests import is_plain, request_tail, split_url
from stacpull.fastpath.response import FailedResponse, LentResponse
from stacpull.fastpath.web_transport import WebTransport
from stacpull.hosts import forget_hosts, head_of
from stacpull.models import Failure, Job, Received
from stacpull.net.client import LONGEST_URL, Client, PendingResponse, Route, StartedExchange
from stacpull.net.fields import HeaderFields
from stacpull.net.redirects import next_hop
from stacpull.net.transport import Request, Rewrites, Rewritten, TransferError

_DRAINED = 64 * 1024
"""Bytes of a redirect's body; the general path reads no longer ones."""


class SmallBodyFetcher(Protocol):
    """What knows assets (`engine.sharing.SharingFetcher`)."""

    async def open(self) -> None:
        """Get ready to be asked."""
        ...

    def claim(self, job: Job) -> Any | None:
        """Return what marks the asset as begun; None if the general path must fetch it."""
        ...

    def take(self, job: Job, claim: Any, url: str, headers: HeaderFields, body: bytes) -> Received | None:
        """Return what a small body of a 200 is; None if `resume` must say what is wrong with it."""
        ...

    async def resume(self, job: Job, claim: Any, begun: StartedExchange, *, count_refusal: bool) -> Received:
        """Continue the first attempt at an asset where the fast path has left it."""
        ...


class RestOfAttempt(Protocol):
    """A function that ends a first attempt."""

    async def __call__(self, job: Job, /, *, count_refusal: bool) -> Received:
        """Fetch `job`."""
        ...


class TransferSink(Protocol):
    """Where assets go (`engine.pool.Pool`)."""

    def received(self, job: Job, received: Received) -> None:
        """Take an asset that came in."""
        ...

    def handed_over(self, job: Job, attempt: RestOfAttempt, since: float) -> None:
        """Take an asset whose first attempt, begun at `since`, is to be ended by the general path."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task."""
        ...

    def broke(self, error: BaseException) -> None:
        """End the run: there is a defect."""
        ...


class FastOrigin:
    """One host as URLs name it, with its gate."""

    __slots__ = ("gate", "head", "host", "rewrites", "route", "tail")

    def __init__(
        self, head: str, host: FastHost, route: Route, tail: bytes, rewrites: Rewrites | None
    ) -> None:
        self.head = head
        """How requests that are sent begin: they go to `host`."""
        self.host = host
        self.rewrites = rewrites
        """What makes other requests of those that are asked for."""
        self.route = route
        self.gate = route.gate
        self.tail = tail
        """What follows the target in a request."""

    def __repr__(self) -> str:
        return f"<FastOrigin {self.host}>"


class FastTransfer:
    """One asset on the fast path, at one of its requests. It waits in the queue of a gate as it is."""

    __slots__ = (
        "_path", "asked", "claim", "hops", "job", "origin", "outgoing", "rewritten", "sent", "since",
        "url",
    )  # fmt: skip

    def __init__(self, path: FastPath, job: Job, claim: Any, origin: FastOrigin, since: float) -> None:
        self._path = path
        self.job = job
        self.claim = claim
        self.origin = origin
        self.url = job.href
        self.hops: list[str] = []
        self.since = self.asked = since
        self.outgoing: Request | None = None
        """The request with credentials, where the host is SOURCE's own."""
        self.rewritten: Rewritten | None = None
        self.sent = b""

    def done(self) -> bool:
        """Return True once nothing is asked any more: it leaves the queue."""
        return self._path.is_closed

    def set_result(self, admitted: bool) -> None:
        """Called when a permit is granted, or (False) when the gate is closed."""
        if admitted:
            self._path.send(self)
        else:
            self._path.hand_over_unsent(self)

    def set_exception(self, _error: BaseException) -> None:
        """Called when the host is given up: the general path finds out by itself."""
        self._path.hand_over_unsent(self)

    # What a connection calls.

    def answered(
        self, connection: FastConnection, is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        """Take a whole response: 200 (`is_ok`) or a redirect. Return False if something is wrong with it."""
        return self._path.answered(self, connection, is_ok, fields, body)

    def lend(self, connection: FastConnection, /) -> None:
        """Hand over with the response that has begun on `connection`, or has failed."""
        self._path.unusual(self, connection)

    def send_again(self) -> None:
        """Send the request on a new connection: the server had closed the idle one."""
        self._path.send_again(self)

    def abandon(self) -> None:
        """Give back the permit."""
        self.origin.gate.release()

    def fail_run(self, error: Exception, /) -> None:
        """End the run: there is a defect."""
        self._path.fail_run(error)


class FastPath:
    """Fetches assets; made and used in one event loop.

    Args:
        client: that of the run: its routes, gates, credentials and counters.
        web: has the connections. Hosts that another transport serves are left to the general path.
        assets: knows what is fetched.
        sink: where it goes.
    """

    def __init__(
        self, client: Client, web: WebTransport, assets: SmallBodyFetcher, sink: TransferSink
    ) -> None:
        self._client = client
        self._web = web
        self._connections = web.connections
        self._assets = assets
        self._sink = sink
        self._counters = client.counters
        self._origins: dict[str, FastOrigin | None] = {}
        """By the beginning of URLs (`http://host:port`); None for what is left to the general path."""
        self.is_closed = False

    async def open(self) -> None:
        """Get ready."""
        await self._assets.open()

    async def close(self) -> None:
        """End what is under way."""
        self.is_closed = True
        for connection in list(self._connections.open):
            if isinstance(connection.exchange, FastTransfer):
                connection.close()
        self._origins.clear()

    # The way of an asset.

    def begin(self, job: Job) -> bool:
        """Begin to fetch an asset. Return False if the general path must do it."""
        size = job.size
        if (
            job.stale
            or job.present is not None
            or job.sha256 is not None
            or (size is not None and size > MAX_BODY_IN_MEMORY)
        ):
            return False
        origin = self._origin(job.href)
        if origin is None or origin.gate.closed_for():
            return False
        claim = self._assets.claim(job)
        if claim is None:
            return False
        self._ask(FastTransfer(self, job, claim, origin, origin.gate.now()))
        return True

    def _ask(self, transfer: FastTransfer) -> None:
        """Send the request of a transfer as soon as its host has a permit."""
        gate = transfer.origin.gate
        if gate.try_acquire():
            self.send(transfer)
        elif gate.closed_for():
            self.hand_over_unsent(transfer)
        else:
            gate.enqueue(transfer)

    def send(self, transfer: FastTransfer) -> None:
        """Send a request whose permit is taken."""
        origin = transfer.origin
        request = self._request(transfer, origin)
        if request is None:
            origin.gate.release()
            self.hand_over_unsent(transfer)
            return
        self._counters.requests += 1
        transfer.asked = origin.gate.now()
        connection = origin.host.pop()
        if connection is None:
            self._sink.spawn(self._connect(transfer, request))
        else:
            connection.begin(transfer, request)

    def send_again(self, transfer: FastTransfer) -> None:
        """Send a request again, on a new connection: the server had closed the idle one."""
        self._sink.spawn(self._connect(transfer, transfer.sent))

    def answered(
        self,
        transfer: FastTransfer,
        connection: FastConnection,
        is_ok: bool,
        fields: Mapping[bytes, bytes],
        body: bytes,
    ) -> bool:
        """Take a whole response, as `FastTransfer.answered`."""
        gate, size = transfer.origin.gate, len(body)
        if is_ok:
            url = self._client.shown(transfer.url)
            received = self._assets.take(transfer.job, transfer.claim, url, HeaderFields(fields), body)
            if received is None:
                return False
            self._counters.bytes_fetched += size
            connection.rest()
            gate.answered(transfer.asked, size)
            self._sink.received(transfer.job, received)
            return True
        location = fields.get(b"location")
        if location is None or size > _DRAINED or transfer.rewritten is not None:
            return False
        url = transfer.url
        target = next_hop(
            url,
            location.decode("utf-8", "surrogateescape"),
            transfer.hops,
            allow_downgrade=self._client.allow_downgrade,
        )
        if isinstance(target, Failure):
            return False
        self._counters.bytes_fetched += size
        connection.rest()
        gate.answered(transfer.asked, 0)
        transfer.hops.append(url)
        transfer.url = target
        transfer.outgoing = None
        origin = self._origin(target)
        if origin is None:
            self.hand_over_unsent(transfer)
        else:
            transfer.origin = origin
            self._ask(transfer)
        return True

    # Handing over.

    def unusual(self, transfer: FastTransfer, connection: FastConnection) -> None:
        """Hand over a transfer with the response that has begun on `connection`, or has failed."""
        outgoing = transfer.outgoing or self._plain_request(transfer)
        rewritten = transfer.rewritten
        url = outgoing.url if rewritten is None else rewritten.request.url
        self._hand_over(transfer, LentResponse(connection, url))

    def hand_over_unsent(self, transfer: FastTransfer) -> None:
        """Hand over a transfer before the request that it is at."""
        self._hand_over(transfer, None)

    def _hand_over(self, transfer: FastTransfer, response: LentResponse | FailedResponse | None) -> None:
        claim = transfer.claim
        plain = self._plain_request(transfer)
        sent = None
        if response is not None:
            rewritten = transfer.rewritten
            context = response if rewritten is None else rewritten.resume(response)
            sent = PendingResponse(transfer.origin.gate, transfer.outgoing or plain, transfer.asked, context)
        begun = StartedExchange(plain, tuple(transfer.hops), sent)

        async def attempt(job: Job, /, *, count_refusal: bool) -> Received:
            return await self._assets.resume(job, claim, begun, count_refusal=count_refusal)

        self._sink.handed_over(transfer.job, attempt, transfer.since)

    # Requests, and where they go.

    def _plain_request(self, transfer: FastTransfer) -> Request:
        return Request(transfer.url, redirected=bool(transfer.hops))

    def _request(self, transfer: FastTransfer, origin: FastOrigin) -> bytes | None:
        """Return the bytes of a request, None if the general path must make it.

        Credentials go to SOURCE's own host, and to no other.
        """
        if origin.rewrites is not None:
            return self._rewritten(transfer, origin.rewrites)
        url = transfer.url
        if origin.route.own:
            transfer.outgoing = outgoing = self._client.prepare(self._plain_request(transfer), origin.route)
            url = outgoing.url
        if url.isascii() and url.isprintable() and " " not in url and "#" not in url:
            target = url[len(origin.head) :]
        else:
            target = split_url(url)[1]
        transfer.sent = request = b"GET %b HTTP/1.1\r\n%b" % (target.encode("ascii"), origin.tail)
        return request

    def _rewritten(self, transfer: FastTransfer, rewrites: Rewrites) -> bytes | None:
        origin = transfer.origin
        transfer.rewritten = rewritten = rewrites.ready(self._plain_request(transfer))
        if rewritten is None or not rewritten.request.url.startswith(origin.head + "/"):
            transfer.rewritten = None
            # the bucket is elsewhere now, or credentials must be renewed
            self._origins = {head: one for head, one in self._origins.items() if one is not origin}
            return None
        url, headers = rewritten.request.url, rewritten.request.headers
        tail = request_tail(headers, self._connections.fields(origin.host.place))
        transfer.sent = request = b"GET %b HTTP/1.1\r\n%b" % (url[len(origin.head) :].encode("ascii"), tail)
        return request

    def _origin(self, url: str) -> FastOrigin | None:
        """Return where a URL leads, None if the general path must ask for it."""
        end = url.find("/", url.find("://") + 3)
        if end < 0 or len(url) > LONGEST_URL:
            return None
        head = url[:end]
        try:
            origin = self._origins[head]
        except KeyError:
            origin = self._new_origin(head, url)
        if origin is None or origin.route.own or not self._client.has_credentials:
            return origin
        is_clean = self._client.prepare(Request(url), origin.route).url == url
        return origin if is_clean else None  # a server has echoed a secret into it

    def _new_origin(self, head: str, url: str) -> FastOrigin | None:
        if len(head) > LONGEST_KEY or "?" in head or "#" in head:
            return None
        try:
            route = self._client.route(url)
        except TransferError:
            return None
        transport = route.transport
        origin = None
        if isinstance(transport, Rewrites):
            ready = transport.ready(Request(url))
            if ready is None:
                return None  # the general path finds out first
            origin = self._made(ready.request, route, transport)
        elif transport is self._web:
            origin = self._made(Request(url), route, None)
        forget_hosts(self._origins, lambda one: one is not None and (one.host.idle or one.gate.in_use))
        self._origins[head] = origin
        return origin

    def _made(self, sent: Request, route: Route, rewrites: Rewrites | None) -> FastOrigin | None:
        """Return the origin of a request as it would be sent, None if it cannot be asked here."""
        head = head_of(sent.url)
        host = self._connections.host(head)
        if host is None:
            return None
        headers = sent.headers if rewrites is not None else self._client.prepare(sent, route).headers
        if not is_plain(headers):
            return None
        tail = request_tail(headers, self._connections.fields(host.place))
        return FastOrigin(head, host, route, tail, rewrites)

    async def _connect(self, transfer: FastTransfer, request: bytes) -> None:
        """Open a connection for a request."""
        origin = transfer.origin
        try:
            connection = await self._connections.connect(origin.host)
        except TransferError as error:
            self._hand_over(transfer, FailedResponse(error))
        except BaseException:
            origin.gate.release()
            raise
        else:
            connection.begin(transfer, request, is_new=True)

    def fail_run(self, error: BaseException) -> None:
        """End the run: there is a defect."""
        self._sink.broke(error)

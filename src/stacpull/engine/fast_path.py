"""The fast path: it sends requests and takes responses in callbacks, without a task for each asset.

It uses the gates, redirects, credentials, address rules and checks of the general path, and hands everything
unusual over to it: an asset whose request was not sent yet, or a response that has begun to arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import NoReturn

import msgspec

from stacpull.caches import LONGEST_KEY
from stacpull.engine.pool import Pool
from stacpull.engine.sharing import Download, SharedDownloads
from stacpull.hosts import forget_hosts, origin_text
from stacpull.http1.connection import WebConnection, streamed
from stacpull.http1.web_transport import WebHost, WebTransport, is_plain, request_tail, split_url
from stacpull.models import Arrival, Failure, Job
from stacpull.net.bodies import DRAINED
from stacpull.net.client import LONGEST_URL, Client, ClientHost, next_hop
from stacpull.net.transport import Receive, Request, Rewrites, Rewritten, TransferError
from stacpull.transfer.attempt import ACCEPT_OK


class FastOrigin(msgspec.Struct, eq=False):
    """A scheme, host and port of URLs (`base`), and where requests for them are sent."""

    base: str
    sent_base: str
    web_host: WebHost
    client_host: ClientHost
    rewrites: Rewrites | None
    is_plain: bool  # true if URLs are requested unchanged and without credentials
    headers: Mapping[str, str] | None = None
    tail: bytes = b""  # what follows the target in a request with `headers`

    def has_fields(self, headers: Mapping[str, str], authorization: str = "") -> bool:
        """Return False if requests with these fields cannot be sent here."""
        if headers is not self.headers:
            if not is_plain({**headers, "authorization": authorization}):
                return False
            self.headers = headers
            self.tail = b" HTTP/1.1\r\n" + request_tail(headers, self.web_host.default_fields)
        return True


class FastTransfer(msgspec.Struct, eq=False):
    """One asset on the fast path, with its current request. The queue of a gate contains this object."""

    path: WebFastPath
    pool: Pool[Job, Arrival | None]
    job: Job
    download: Download
    origin: FastOrigin
    url: str
    since: float  # when its first request was queued
    sent_at: float = 0.0
    hops: tuple[str, ...] = ()
    rewritten: Rewritten | None = None
    request_bytes: bytes = b""
    receive: Receive | None = None
    """Receives the response to the request, if it was sent before the asset was handed over."""

    # Called by a gate.

    def is_cancelled(self) -> bool:
        return self.path.is_closed

    def on_permit(self) -> None:
        path, origin = self.path, self.origin
        target = self.url[len(origin.sent_base) :] if origin.is_plain else ""
        if target.isascii() and target.isprintable() and target and " " not in target and "#" not in target:
            self.request_bytes = b"GET /" + target.encode("ascii") + origin.tail
        elif not self._make_unusual_request():
            path.forget(origin)  # the bucket has moved, or credentials must be renewed
            # not at once: the gate admits the next asset, which may come here too, and so on
            asyncio.get_running_loop().call_soon(origin.client_host.gate.release)
            self.hand_over()
            return
        path.client.counters.requests += 1
        self.sent_at = origin.client_host.gate.now()
        connection = origin.web_host.pop()
        if connection is None:
            self.send_again()
        else:
            connection.begin(self, self.request_bytes)

    def _make_unusual_request(self) -> bool:
        """Make a request with credentials, a signature or an odd URL; False if the general path must."""
        origin, url, client = self.origin, self.url, self.path.client
        if origin.rewrites is None:
            if origin.client_host.gets_credentials:
                url = client.with_credentials(self.request(), origin.client_host).url
            self.request_bytes = b"GET " + split_url(url)[1].encode("ascii") + origin.tail
            return True
        made = self.rewritten = origin.rewrites.ready(url, redirected=bool(self.hops))
        if made is None or not made.url.startswith(origin.sent_base):
            return False
        if not origin.has_fields(made.headers, made.authorization):
            return False
        tail = origin.tail
        if made.authorization:
            signed = made.authorization.encode("utf-8", "surrogateescape")
            tail = b"%bAuthorization: %b\r\n\r\n" % (tail[:-2], signed)
        self.request_bytes = b"GET /%b%b" % (made.url[len(origin.sent_base) :].encode("ascii"), tail)
        return True

    def on_given_up(self, _given_up: TransferError) -> None:
        """Hand over: the general path waits, or reports that the host is given up."""
        self.hand_over()

    # Called by a connection.

    def on_response(
        self, connection: WebConnection, is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        """Take a complete response: 200 (`is_ok`) or a redirect. Return False if it is incorrect."""
        path, gate, size = self.path, self.origin.client_host.gate, len(body)
        counters = path.client.counters
        if is_ok:
            arrival = path.shared.fetcher.accept(self.job, self.url, fields, body)
            if arrival is None:
                return False
            path.shared.complete(self.download, arrival)
            counters.bytes_fetched += size
            connection.release()
            gate.finish(self.sent_at, size)
            self.pool.sink.put(self.job, arrival)
            return True
        location = fields.get(b"location")
        if location is None or size > DRAINED or self.rewritten is not None:
            return False
        text = path.client.with_source_scheme(location.decode("utf-8", "surrogateescape"))
        target = next_hop(self.url, text, self.hops, allow_downgrade=path.client.allow_downgrade)
        if isinstance(target, Failure):
            return False
        counters.bytes_fetched += size
        connection.release()
        self.hops += (self.url,)
        self.url = target
        origin = path.origin(target)
        if gate.finish(self.sent_at, 0, continues=origin is self.origin):
            self.on_permit()
        elif origin is None:
            self.hand_over()
        else:
            self.origin = origin
            origin.client_host.gate.admit(self)
        return True

    def stream(self, connection: WebConnection, /) -> None:
        self.hand_over(partial(streamed, connection, self.url))

    def send_again(self) -> None:
        """Send the request on a new connection: the server had closed the idle one, or there is none."""
        self.pool.spawn(self._connect())

    def on_close(self) -> None:
        self.origin.client_host.gate.release()

    def on_error(self, error: Exception, /) -> None:
        self.pool.spawn(_fail(error))

    # The general path.

    def request(self) -> Request:
        return Request(self.url, redirected=bool(self.hops))

    def hand_over(self, receive: Receive | None = None) -> None:
        if receive is not None and self.rewritten is not None:
            receive = partial(self.rewritten.finish, self.request(), receive)
        self.receive = receive
        self.pool.fetch(self.job, self, self.since)

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        shared = self.path.shared
        sent = None if self.receive is None else (self.origin.client_host.gate, self.sent_at, self.receive)
        started = self.path.client.open(
            self.request(), accept=ACCEPT_OK, count_refusal=count_refusal, hops=self.hops, sent=sent
        )
        fetching = shared.fetcher.fetch(job, count_refusal=count_refusal, started=started)
        return await shared.finish(self.download, fetching)

    async def _connect(self) -> None:
        try:
            connection = await self.path.web.connect(self.origin.web_host)
        except TransferError as error:
            self.hand_over(partial(_fail, error))
        except BaseException:
            self.origin.client_host.gate.release()
            raise
        else:
            connection.begin(self, self.request_bytes)


async def _fail(error: Exception) -> NoReturn:
    raise error


class WebFastPath(msgspec.Struct, eq=False):
    client: Client
    web: WebTransport
    shared: SharedDownloads
    origins: dict[str, FastOrigin | None] = {}
    """Origins by the start of URLs (`http://host:port`); None for those of the general path."""
    last: FastOrigin | None = None  # the last origin that was looked up, if its URLs need no further check
    is_closed: bool = False

    def begin(self, job: Job, pool: Pool[Job, Arrival | None]) -> bool:
        if job.stale or job.version_in_dest is not None or job.sha256 is not None:
            return False
        href = self.client.with_source_scheme(job.href)
        if (origin := self.origin(href)) is None or (download := self.shared.start(job)) is None:
            return False
        transfer = FastTransfer(self, pool, job, download, origin, href, origin.client_host.gate.now())
        origin.client_host.gate.admit(transfer)
        return True

    def close(self) -> None:
        self.is_closed = True
        for connection in list(self.web.connections):
            if isinstance(connection.handler, FastTransfer):
                connection.close()

    def forget(self, origin: FastOrigin) -> None:
        self.origins = {server: one for server, one in self.origins.items() if one is not origin}
        self.last = None

    def origin(self, url: str) -> FastOrigin | None:
        last = self.last
        if last is not None and url.startswith(last.base) and len(url) <= LONGEST_URL:
            return last  # nearly always
        end = url.find("/", url.find("://") + 3)
        if end < 0 or len(url) > LONGEST_URL:
            return None
        server, self.last = url[:end], None
        try:
            origin = self.origins[server]
        except KeyError:
            origin = self._new_origin(server, url)
        if origin is None or origin.client_host.gets_credentials or not self.client.credentials:
            self.last = origin
            return origin
        is_clean = self.client.with_credentials(Request(url), origin.client_host).url == url
        return origin if is_clean else None  # a server may have copied a secret into it

    def _new_origin(self, server: str, url: str) -> FastOrigin | None:
        if len(server) > LONGEST_KEY or "?" in server or "#" in server:
            return None
        try:
            client_host = self.client.host(url)
        except TransferError:
            return None
        transport, origin, sent_url = client_host.transport, None, url
        rewrites = transport if isinstance(transport, Rewrites) else None
        if rewrites is not None:
            ready = rewrites.ready(url, redirected=False)
            if ready is None:
                return None  # the general path prepares the transport first
            sent_url = ready.url
        sent_server = origin_text(sent_url)
        host = self.web.host(sent_server) if rewrites is not None or transport is self.web else None
        if host is not None:
            is_plain = rewrites is None and not client_host.gets_credentials
            made = FastOrigin(f"{server}/", f"{sent_server}/", host, client_host, rewrites, is_plain)
            fields = self.client.with_credentials(Request(url), client_host).headers
            if rewrites is not None or made.has_fields(fields):
                origin = made
        forget_hosts(self.origins, lambda o: o is not None and (o.web_host.idle or o.client_host.gate.in_use))
        self.origins[server] = origin
        return origin

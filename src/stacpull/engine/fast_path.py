"""The fast path: it sends requests and takes responses in callbacks, without a task for each asset.

It uses the gates, redirects, credentials, address rules and checks of the general path, and hands everything
unusual over to it: an asset whose request was not sent yet, or a response that has begun to arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NoReturn

import msgspec

from stacpull.engine.pool import AssetTask, Pool
from stacpull.engine.sharing import Download, SharedDownloads
from stacpull.http1.connection import WebConnection, streamed
from stacpull.http1.web_transport import CallbackTransport, Prepared, WebTransport
from stacpull.models import Arrival, Job
from stacpull.net.bodies import DRAINED
from stacpull.net.client import Client, ClientHost, Exchange
from stacpull.net.transport import Receive, Request, TransferError
from stacpull.transfer.attempt import ACCEPT_OK


class FastAttempt(msgspec.Struct, eq=False):
    """The first attempt at an asset: the steps of `Exchange`, as callbacks. Gates queue it."""

    fast_path: WebFastPath
    pool: Pool[Job, Arrival | None]
    job: Job
    download: Download
    request: Request
    host: ClientHost
    began_at: float  # when its first request was queued
    hops: tuple[str, ...] = ()
    sent_at: float = 0.0
    prepared: Prepared | None = None
    receive: Receive | None = None  # set when a task takes over after the request was sent

    # Called by a gate.

    def is_cancelled(self) -> bool:
        return self.fast_path.is_closed

    def on_permit(self) -> None:
        client, host = self.fast_path.client, self.host
        transport, request = host.transport, client.outgoing(self.request, host)
        self.sent_at = host.gate.now()
        prepared = transport.prepared(request) if isinstance(transport, CallbackTransport) else None
        self.prepared = prepared
        if prepared is None:
            self.hand_over(partial(transport.send, request))
        elif (connection := prepared.host.pop()) is None:
            self.send_again()
        else:
            connection.begin(self, prepared.message)

    def on_given_up(self, _given_up: TransferError) -> None:
        """Hand over to the general path, which waits, or reports that the host is given up."""
        self.hand_over()

    # Called by a connection.

    def on_response(
        self, connection: WebConnection, is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        """Take a complete 200 (`is_ok`) or redirect. Return False if anything about it is unusual."""
        fast_path, host, size = self.fast_path, self.host, len(body)
        client, gate = fast_path.client, host.gate
        if is_ok:
            arrival = fast_path.shared.downloader.accept(self.job, self.request.url, fields, body)
            if arrival is None:
                return False
            fast_path.shared.complete(self.download, arrival)
            client.counters.bytes_fetched += size
            connection.release()
            gate.finish(self.sent_at, size)
            self.pool.sink.put(self.job, arrival)
            return True
        if size > DRAINED or self.prepared is None or self.prepared.translate is not None:
            return False
        try:
            location = fields.get(b"location", b"").decode("utf-8", "surrogateescape")
            request = client.following(self.request, connection.message.status, location, self.hops)
            following = client.host(request.url)
        except TransferError:
            return False
        client.counters.bytes_fetched += size
        connection.release()
        self.hops += (self.request.url,)
        self.request, self.host = request, following
        if gate.finish(self.sent_at, 0, continues=following is host):
            self.on_permit()
        else:
            following.gate.admit(self)
        return True

    def stream(self, connection: WebConnection, /) -> None:
        receive: Receive = partial(streamed, connection, self.request.url)
        if self.prepared is not None and self.prepared.translate is not None:
            receive = partial(self.prepared.translate, self.request, receive)
        self.hand_over(receive)

    def send_again(self) -> None:
        """Send the request on a new connection: there is no idle one, or the server has closed it."""
        if self.prepared is not None:
            self.pool.spawn(self._connect(self.prepared))

    def on_close(self) -> None:
        self.host.gate.release()

    def on_error(self, error: Exception, /) -> None:
        self.pool.spawn(_fail(error))

    # The general path.

    def hand_over(self, receive: Receive | None = None) -> None:
        """Continue in a task. If the request was sent, with a permit, `receive` returns its response."""
        self.receive = receive
        self.pool.spawn(AssetTask(self.job, self.pool, self, self.began_at).run())

    async def fetch(self, job: Job, *, count_refusal: bool) -> Arrival | None:
        client, shared = self.fast_path.client, self.fast_path.shared
        sent = self.hops, self.receive, self.host.gate, self.sent_at
        begun = Exchange(client, self.request, ACCEPT_OK, count_refusal, *sent)
        fetching = shared.downloader.fetch(job, count_refusal=count_refusal, begun=begun)
        return await shared.complete_after(self.download, fetching)

    async def _connect(self, prepared: Prepared) -> None:
        try:
            connection = await self.fast_path.web.connect(prepared.host)
        except TransferError as error:
            self.hand_over(partial(_fail, error))
        except BaseException:
            self.host.gate.release()
            raise
        else:
            connection.begin(self, prepared.message)


async def _fail(error: Exception) -> NoReturn:
    raise error


class WebFastPath(msgspec.Struct, eq=False):
    client: Client
    web: WebTransport
    shared: SharedDownloads
    is_closed: bool = False

    def begin(self, job: Job, pool: Pool[Job, Arrival | None]) -> bool:
        if job.stale or job.version_in_dest is not None or job.required_digest is not None:
            return False
        url = self.client.with_source_scheme(job.href)
        try:
            host = self.client.host(url)
        except TransferError:
            return False
        if (download := self.shared.start(job)) is None:
            return False
        gate = host.gate
        gate.admit(FastAttempt(self, pool, job, download, Request(url), host, gate.now()))
        return True

    def close(self) -> None:
        self.is_closed = True
        for connection in list(self.web.connections):
            if isinstance(connection.handler, FastAttempt):
                connection.close()

"""The fast path: it sends requests and takes responses in callbacks, without a task for each asset.

It uses the gates, redirects, credentials, address rules and checks of the general path, and hands unusual
assets over to it, either before their request is sent or with the open response.
"""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, NoReturn, cast

import msgspec

from stacpull.config.options import Options
from stacpull.engine.fetchers import AdoptingFetcher, Download, SharedDownloads, clip_fetching
from stacpull.engine.network import Network
from stacpull.engine.pool import AssetTask, Pool
from stacpull.http1.connection import Http1Connection, streamed
from stacpull.http1.http1_transport import CallbackTransport, Http1Transport, PreparedRequest
from stacpull.models import Failure, Job, digest_algorithm, path_in_dest
from stacpull.net.bodies import MAX_DRAINED
from stacpull.net.client import Client, Exchange, PermittedRequest, Route
from stacpull.net.transport import GetResponse, Purpose, Request, TransferError
from stacpull.store.inspection import FileState
from stacpull.store.partial_downloads import PartialDownloads
from stacpull.store.protocol import Store
from stacpull.transfer.attempt import ACCEPT_OK, Downloader, FetchResult, FileFetcher


class FastAttempt(msgspec.Struct, eq=False):
    """The first attempt at an asset: what `Exchange` does, in callbacks of a gate and a connection."""

    fast_path: "HttpFastPath"
    pool: Pool[Job, FetchResult]
    job: Job
    download: Download
    request: Request
    route: Route
    began_at: float  # when its first request was queued
    sent_at: float = 0.0
    prepared: PreparedRequest = cast("PreparedRequest", None)  # `on_permit` sets it before it is ever read
    purpose: Purpose = "asset"

    # `WaitingRequest`: called by a gate.
    def is_cancelled(self) -> bool:
        return self.fast_path.is_closed

    def on_permit(self) -> None:
        route = self.route
        transport = route.transport
        request = self.fast_path.client.count_and_authorize(self.request, route)
        self.sent_at = route.gate.now()
        prepared = transport.prepare(request) if isinstance(transport, CallbackTransport) else None
        if prepared is None:
            self._hand_over(partial(transport.send, request))
            return
        self.prepared = prepared
        connection = prepared.host.take_idle()
        if connection is None:
            self.send_on_new_connection()
        else:
            connection.send(self, prepared.request_bytes)

    def on_down(self, _failure: Failure) -> None:
        """Let the general path wait, or report that the host is down."""
        self._hand_over()

    # `ResponseHandler`: called by a connection.
    def on_response(
        self, connection: Http1Connection, is_ok: bool, fields: Mapping[bytes, bytes], body: bytes, /
    ) -> bool:
        fast_path = self.fast_path
        size = len(body)
        if not is_ok:
            return self._follow(connection, fields, size)
        file = fast_path.shared.downloader.checked_file(self.job, self.request.url, fields, body)
        if file is None:
            return False
        fast_path.shared.complete(self.download, file)
        fast_path.client.counters.bytes_fetched += size
        connection.release()
        gate = self.route.gate
        gate.record_response(self.sent_at, size)
        gate.reset_refusals()
        gate.release()
        self.pool.sink.put(self.job, file)
        return True

    def on_streamed(self, connection: Http1Connection, /) -> None:
        get_response: GetResponse = partial(streamed, connection, self.request.url)
        if self.prepared.to_response is not None:
            get_response = partial(self.prepared.to_response, self.request, get_response)
        self._hand_over(get_response)

    def send_on_new_connection(self) -> None:
        self.pool.spawn(self._connect())

    def on_close(self) -> None:
        self.route.gate.release()

    def on_error(self, error: Exception, /) -> None:
        self.pool.spawn(_raise(error))

    def _follow(self, connection: Http1Connection, fields: Mapping[bytes, bytes], size: int) -> bool:
        client = self.fast_path.client
        gate = self.route.gate
        if size > MAX_DRAINED or self.prepared.to_response is not None:
            return False
        try:
            location = fields.get(b"location", b"").decode("utf-8", "surrogateescape")
            request = client.redirected_request(self.request, connection.response.status, location)
            next_route = client.route(request.url)
        except TransferError:
            return False
        client.counters.bytes_fetched += size
        connection.release()
        self.request = request
        self.route = next_route
        gate.record_response(self.sent_at)
        if next_route.gate is not gate:
            gate.reset_refusals()
        elif gate.may_keep_permit():
            self.on_permit()
            return True
        gate.release()
        next_route.gate.enqueue(self)
        return True

    def _hand_over(self, get_response: GetResponse | None = None) -> None:
        """Continue in a task. If the request was sent, with a permit, `get_response` returns its response."""
        permit = None
        if get_response is not None:
            permit = PermittedRequest(self.route.gate, self.sent_at, get_response)
        exchange = Exchange(self.fast_path.client, self.request, ACCEPT_OK, permit)
        handed_over = HandedOver(self.fast_path.shared, self.download, exchange)
        task = AssetTask(self.job, self.pool, self.began_at, handed_over)
        self.pool.spawn(task.run())

    async def _connect(self) -> None:
        try:
            connection = await self.fast_path.http.connect(self.prepared.host)
        except TransferError as error:
            self._hand_over(partial(_raise, error))
        except BaseException:
            self.route.gate.release()
            raise
        else:
            connection.send(self, self.prepared.request_bytes)


class HandedOver(NamedTuple):
    """An attempt that a task completes: its `AssetFetcher` for the first time."""

    shared: SharedDownloads
    download: Download
    exchange: Exchange

    async def fetch(self, job: Job) -> FetchResult:
        fetching = self.shared.downloader.fetch(job, handed_over=self.exchange)
        return await self.shared.complete_after(self.download, fetching)


async def _raise(error: Exception) -> NoReturn:
    raise error


class HttpFastPath(msgspec.Struct, eq=False):
    client: Client
    http: Http1Transport
    shared: SharedDownloads
    is_closed: bool = False

    def start_transfer(self, job: Job, pool: Pool[Job, FetchResult]) -> bool:
        if job.stale:
            return False
        url = self.client.with_source_scheme(job.href)
        try:
            route = self.client.route(url)
        except TransferError:
            return False
        download = self.shared.start(job)
        if download is None:
            return False
        began_at = route.gate.now()
        attempt = FastAttempt(self, pool, job, download, Request(url), route, began_at)
        route.gate.enqueue(attempt)
        return True

    def close(self) -> None:
        self.is_closed = True
        for connection in list(self.http.connections):
            if isinstance(connection.handler, FastAttempt):
                connection.close()


def make_fetchers(
    network: Network, store: Store, parts: PartialDownloads, options: Options, clip: str | None
) -> tuple[FileFetcher, HttpFastPath | None]:
    """Return the first fetcher of the general path, and the fast path if it can take assets."""

    async def file_in_dest(job: Job, algorithm: str | None) -> FileState:
        path = path_in_dest(job.directory, job.name or "")
        return await asyncio.to_thread(store.state_of, path, algorithm=algorithm)

    algorithm = digest_algorithm(options.checksum)
    downloader = Downloader(network.client, parts, file_in_dest, digest_algorithm=algorithm)
    shared = SharedDownloads(downloader, store)
    fetcher: FileFetcher = shared
    if options.adopt:
        fetcher = AdoptingFetcher(shared, network.client, store, algorithm)
    clips = clip_fetching(clip)
    if clips is not None:
        fetcher = clips.fetcher(downloader, fetcher, network.warn)
    client = network.client
    http = client.transports["https"]
    must_wait = client.byte_limiter.limit or options.requests_per_second  # which callbacks cannot
    if fetcher is not shared or not isinstance(http, Http1Transport) or must_wait or client.log:
        return fetcher, None
    return fetcher, HttpFastPath(client, http, shared)

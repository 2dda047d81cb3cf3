"""The transfers of a worker process (`worker.py`)."""

from __future__ import annotations

import asyncio
import os
import pickle
import platform
import socket
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import cast

from stacpull.engine.channel import Channel, OnWritable, OutcomeSender
from stacpull.engine.fast_path import make_fetchers
from stacpull.engine.messages import EventMessage, Outcomes, ProcessEnded, error_report
from stacpull.engine.network import Network, open_network, resolve_source
from stacpull.engine.pool import JobQueue, Pool
from stacpull.errors import CredentialsError, SourceError, cause, translated_error
from stacpull.events import Event, Notice
from stacpull.models import AssetFile, Failure, FailureKind, Job, Placement, digest_algorithm
from stacpull.net.json_reader import Document
from stacpull.net.transport import TransferError
from stacpull.sources.documents import open_source
from stacpull.sources.item_reader import ItemReader
from stacpull.sources.source import Source
from stacpull.store.inspection import WaitHooks
from stacpull.store.local_store import open_store
from stacpull.store.partial_downloads import PartialDownloads
from stacpull.store.protocol import Store
from stacpull.store.staging import PARTS, UNFINISHED, StagedParts, is_worker
from stacpull.system import add_variables
from stacpull.threads import background_task, shielded_to_thread
from stacpull_dask import worker_messages as messages
from stacpull_dask.worker_messages import WholeEnvironment, WorkerSettings

Inbox = asyncio.Queue[messages.ToWorker | BaseException]  # what a worker has to do; an error ends it
_MAX_SENT_SIZE = 8 << 20  # the most bytes of a body that is sent to the coordinator
_LONG = 8 << 20  # bytes from which an asset is uploaded by itself, so that others need not wait
_TICK = 0.25  # seconds between two reports of the usage


async def work(sock: socket.socket) -> None:
    inbox: Inbox = asyncio.Queue()
    channel = Channel(lambda data: inbox.put_nowait(messages.decode_to_worker(data)), inbox.put_nowait)
    await channel.open(sock)
    try:
        os.environb.clear()
        os.environb.update(cast("WholeEnvironment", await inbox.get()).variables)
        pickled = cast("messages.Start", await inbox.get()).settings
        settings: WorkerSettings = pickle.loads(pickled)  # noqa: S301 -- from the process that started this one
        add_variables(settings.variables)
        await _transfer(with_own_credentials(settings), channel, inbox)
    except BaseException as error:  # noqa: BLE001 -- the coordinator raises it
        channel.send(ProcessEnded(error_report(cause(error))))
    await channel.close()


def with_own_credentials(settings: WorkerSettings) -> WorkerSettings:
    """Return settings with the credentials of this machine's environment and files, if they have none."""
    resolved, options = settings.resolved, settings.options
    if settings.wanted is None:
        return settings
    if settings.profile is not None:
        from stacpull import profile_options  # noqa: PLC0415 - another package, which may be absent

        options = profile_options(options, settings.profile)
    options, own = resolve_source(resolved.url, options, resolved.input_file, is_given=resolved.is_given)
    missing = [name for name in settings.wanted if name not in own.credential_names]
    if missing:
        raise CredentialsError(
            f"A worker on {platform.node()} lacks {' and '.join(missing)}. Credentials are sent to workers "
            "over TLS only: set the same variables in the environment of the Dask workers, or give the "
            "cluster TLS (docs/howto/dask.md)."
        )
    return settings._replace(options=options, resolved=own)


async def _transfer(settings: WorkerSettings, channel: Channel, inbox: Inbox) -> None:
    work, bucket, worker_parts = Path(settings.work), settings.bucket, settings.worker_parts
    loop = asyncio.get_running_loop()

    def report(event: Event) -> None:  # in any thread
        if isinstance(event, Notice) and event.level == "warning":
            loop.call_soon_threadsafe(channel.send, EventMessage(event))

    try:
        try:
            await asyncio.to_thread((work / PARTS / worker_parts).mkdir)
        except FileNotFoundError:  # this machine does not see DEST, or the work directory
            work, worker_parts = Path(mkdtemp()), ""  # in the directory of the relay, which removes it
        resolved, options = settings.resolved, settings.options
        async with open_network(resolved, options, ip_policy=settings.ip_policy, on_event=report) as network:
            hooks = WaitHooks(network.warn, has_answered=True)
            store = await asyncio.to_thread(open_store, work, bucket, hooks, worker_parts)
            try:
                await _Transfers(settings, channel, inbox, network, store).run()
            finally:
                if worker_parts:
                    suffixes = UNFINISHED if bucket is None else UNFINISHED | {".whole"}  # not uploaded
                    await asyncio.to_thread(_leave_parts, store.staged, suffixes)
                await shielded_to_thread(store.close)
    except OSError as error:
        if (failure := await asyncio.to_thread(translated_error, error, work)) is not error:
            raise failure from error
        raise


def _leave_parts(staged: StagedParts, suffixes: frozenset[str]) -> None:
    """Sync the parts in the directory of a worker, and move them to the directory above."""
    # a part is moved after its description
    for path in sorted(staged.path.iterdir(), key=lambda path: path.suffix == ".part"):
        if path.suffix in suffixes:
            with suppress(FileNotFoundError), staged.open(path.name) as file:
                os.fsync(file.fileno())
                path.rename(staged.path.parent / path.name)


class _Transfers:
    def __init__(
        self, settings: WorkerSettings, channel: Channel, inbox: Inbox, network: Network, store: Store
    ) -> None:
        self._send, self._inbox, self._network = channel.send, inbox, network
        self._place, staged = store.place, store.staged
        self._has_bucket = settings.bucket is not None
        self._opening = asyncio.Lock()
        self._source: Source | None = None
        self._outcomes = OutcomeSender(
            network.slots,
            staged,
            self._report,
            network.secrets,
            max_size=-1 if self._has_bucket else _MAX_SENT_SIZE,
            digest_algorithm=digest_algorithm(settings.options.checksum),
            on_error=inbox.put_nowait,
        )
        self._queue: JobQueue[Job] = JobQueue()
        self._uploads = set[int]()  # assets, by row, that were received and are not in the bucket yet
        self._uploaded = asyncio.Event()
        parts = PartialDownloads(
            staged.path,
            shared=staged.path.parent if is_worker(staged.path.name) else None,
            durable=not self._has_bucket,
        )
        fetcher, fast_path = make_fetchers(network, store, parts, settings.options, settings.clip)
        self._pool = Pool(
            self._queue,
            self._outcomes,
            fetcher,
            ItemReader(self._read_item, network.clock),
            network.retries,
            settings.prefer,
            is_worker=True,
            fast_path=fast_path,
        )

    async def run(self) -> None:
        try:
            async with (
                background_task(self._tick()),
                background_task(self._take_messages()),
                asyncio.TaskGroup() as group,
            ):
                self._working = group.create_task(self._work())
                self._send(messages.Ready(self._network.slots))
        finally:
            await self._outcomes.flush()
            self._report_spent()

    async def _work(self) -> None:
        await self._pool.run()
        await self._outcomes.flush()
        while self._uploads:
            self._uploaded.clear()
            await self._uploaded.wait()

    async def _take_messages(self) -> None:
        async with asyncio.TaskGroup() as uploading:
            while True:
                match await self._inbox.get():
                    case BaseException() as error:
                        raise error
                    case messages.Jobs(jobs):
                        await self._queue.put(jobs)
                    case messages.Upload(reserved, refused):
                        self._forget(refused)
                        batches = [[file] for file in reserved if file[0].size >= _LONG]
                        batches.append([file for file in reserved if file[0].size < _LONG])
                        for batch in batches:
                            uploading.create_task(self._upload(batch))
                    case messages.Stop(park):
                        self._pool.stop()
                        if park:
                            self._working.cancel()

    async def _upload(self, reserved: list[tuple[AssetFile, Placement]]) -> None:
        rowids = [file.rowid for file, _ in reserved]
        files = [placement for _, placement in reserved]
        for file in files:
            file.part = file.part.rpartition("/")[2]  # in this worker's directory
        failures = await asyncio.to_thread(self._place, files)
        self._send(messages.Uploaded(list(zip(rowids, failures, strict=True))))
        self._forget(rowids)

    def _report(self, outcomes: Outcomes, on_room: OnWritable) -> None:
        if self._has_bucket:
            self._uploads.update(file.rowid for file in outcomes.files)
        self._send(outcomes, on_room)

    def _forget(self, rowids: list[int]) -> None:
        self._uploads.difference_update(rowids)
        self._uploaded.set()

    async def _tick(self) -> None:
        while True:
            await self._network.clock.sleep(_TICK)
            self._report_spent()

    def _report_spent(self) -> None:
        counters = self._network.counters
        spent = counters.requests, counters.retries, counters.bytes_fetched
        if any(spent):
            self._send(messages.Spent(*spent))
            counters.requests = counters.retries = counters.bytes_fetched = 0

    async def _read_item(self, href: str) -> Document:
        """Read an item whose hrefs have expired. SOURCE is opened for the first of them."""
        try:
            async with self._opening:
                if self._source is None:
                    self._source = await open_source(self._network.resolved.url, self._network.reader)
            return await self._source.item(href)
        except SourceError as error:
            raise TransferError(Failure(FailureKind.ITEM, str(error))) from error

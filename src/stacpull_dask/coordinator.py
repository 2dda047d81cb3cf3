"""The coordinator: it runs the jobs of a queue in worker processes, as a `Pool` does in one.

The first free worker gets the next jobs. The bodies and names of parts that it sends go to the store process.
The jobs of a lost worker go to another one. Limits are divided equally among the workers that the cluster has
when the run starts; a worker that joins later takes the share of one that was lost.
"""

from __future__ import annotations

import asyncio
import pickle
import secrets
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from stacpull.config.options import Options
from stacpull.engine.channel import Channel
from stacpull.engine.messages import ErrorReport, EventMessage, Outcomes, ProcessEnded, error_of
from stacpull.errors import DestinationError, MissingExtraError, StacpullError, UsageError, WorkerError
from stacpull.events import Notice
from stacpull.models import AssetFile, Job
from stacpull.store.staging import PARTS
from stacpull_dask import worker_messages as messages
from stacpull_dask.cluster import DaskCluster
from stacpull_dask.relay import worker_process
from stacpull_dask.worker_messages import WorkerSettings

if TYPE_CHECKING:
    from stacpull.engine.network import WalkSetup
    from stacpull.engine.open_mirror import OpenMirror
    from stacpull.engine.pool import JobQueue, Pool
    from stacpull.engine.store_client import StoreClient

_MAX_LOST_IN_VAIN = 6  # workers lost in a row without an outcome in between, after which the run ends
_GRACE, _GRACE_WITHOUT_JOBS = 3.0, 10.0  # seconds that a worker has to park its transfers, or to end
_AHEAD = 16  # jobs that a worker gets beyond its slots, so that it never waits for a message
_MAX_JOBS_SENT = 64
_MAX_UPLOADS = 128  # assets that a worker uploads while it gets more jobs


class LocalWorkers(msgspec.Struct, frozen=True):
    """`--dask N`: N worker processes on this machine, without a scheduler. They share one address."""

    workers: int

    def opened(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    async def count(self) -> int:
        return self.workers

    async def take(self) -> str:
        return "of this machine"

    def give_back(self, _address: str, refused: StacpullError | None = None) -> None:
        if refused is not None:
            raise refused

    def connected(self, _address: str) -> AbstractAsyncContextManager[socket.socket]:
        return worker_process({})

    def settings_for(self, _address: str, settings: WorkerSettings) -> WorkerSettings:
        return settings


class DaskWorkers:
    """Transfers the assets of a run in worker processes in place of `stacpull.engine.pool.Pool`."""

    def __init__(
        self,
        pool: Pool[Job, AssetFile | None],
        setup: WalkSetup,
        opened: OpenMirror,
        store_client: StoreClient,
        queue: JobQueue[Job],
    ) -> None:
        self._pool, self._store_client, self._queue = pool, store_client, queue
        self.down_hosts = pool.down_hosts
        self._network, self._options, self._selection = setup.network, setup.options, setup.selection
        self._work, self._bucket = opened.store.staged.work, opened.bucket
        workers = setup.options.dask or ""  # a number, or the scheduler of a cluster
        if setup.options.dask_client is None and workers.isdecimal():
            self._cluster: Any = LocalWorkers(int(workers))
        else:
            self._cluster = DaskCluster(setup.options, setup.network.clock, setup.network.emit)
        self._workers: set[Worker] = set()
        self._unreserved = asyncio.Event()
        self._queue_ended = self._stopping = False
        self._lost_in_vain = 0  # workers that were lost since the last outcome
        self._shown: set[str] = set()

    @staticmethod
    def check(options: Options) -> None:
        """Reject options that contradict each other, and a cluster without `distributed`."""
        if options.dask is not None and options.dask_client is not None:
            raise UsageError("Give --dask or `client`, not both.")
        is_cluster = options.dask_client is not None or not (options.dask or "").isdecimal()
        if is_cluster and find_spec("distributed") is None:
            raise MissingExtraError("--dask", "distributed", "dask")
        if (client := options.dask_client) is not None and not hasattr(client, "scheduler"):
            raise UsageError(f"client must be a distributed.Client, not {type(client).__name__}.")

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pool.run())
            await self._queue.wait_until(lambda: self._queue_ended or self._stopping or self._queue.waiting)
            if not self._stopping and self._queue.waiting:
                async with self._cluster.opened():
                    await self._run_workers()
            self._pool.end_queue()

    def end_queue(self) -> None:
        self._queue_ended = True
        self._queue.changed.set()

    def stop(self) -> None:
        self._stopping = True
        self._pool.stop()
        self._queue.changed.set()

    async def _run_workers(self) -> None:
        options, network = self._options, self._network
        count = min(await self._cluster.count(), network.per_host)
        share = attrs.evolve(
            options,
            dask=None,
            dask_client=None,
            dashboard_token=None,
            per_host=network.per_host // count,
            concurrency=options.concurrency and options.concurrency // count,
            limit_rate=options.limit_rate and max(options.limit_rate / count, 1000),
            requests_per_second=options.requests_per_second / count,
        )
        settings = WorkerSettings(
            network.resolved,
            self._bucket,
            share,
            network.ip_policy,
            str(self._work.absolute()),
            self._selection.prefer,
            self._selection.clip,
        )
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(self._run_workers_in_turn(settings)) for _ in range(count)]
            keeping.append(group.create_task(self._reserve()))
            await self._queue.wait_until(lambda: self._give_jobs(count))
            self._stopping = True
            for worker in self._workers:
                worker.send(messages.Stop(park=False))
            if self._workers:
                ends = [worker.channel.lost for worker in self._workers]
                await asyncio.wait(ends, timeout=_GRACE_WITHOUT_JOBS)
            for task in keeping:
                task.cancel()

    async def _run_workers_in_turn(self, settings: WorkerSettings) -> None:
        while not self._stopping:
            address = await self._cluster.take()
            worker = Worker(self._take_message)
            refused: StacpullError | None = None
            try:
                refused = await self._serve(worker, address, settings)
            except UsageError as error:
                refused = error
            except OSError as error:
                refused = UsageError(f"The Dask worker {address} cannot be reached from here: {error}.")
            self._cluster.give_back(address, refused)
            if refused is not None or self._stopping:
                continue
            self._lost_in_vain += 1
            if self._lost_in_vain >= _MAX_LOST_IN_VAIN:
                raise WorkerError(
                    f"{_MAX_LOST_IN_VAIN} worker processes in a row ended before they transferred anything. "
                    "Make sure that they have enough memory, or mirror without --dask, then resume."
                )
            self._network.warn("A worker process was lost; another one takes its place.")

    async def _serve(self, worker: Worker, address: str, settings: WorkerSettings) -> StacpullError | None:
        """Run a worker until it ends. Return why it cannot be used, if it does not see DEST."""
        settings = self._cluster.settings_for(address, settings._replace(worker_parts=worker.parts))
        async with self._cluster.connected(address) as sock:
            await worker.channel.open(sock)
            worker.send(messages.Start(pickle.dumps(settings)))
            try:
                await worker.end_or(worker.ready)
                if worker.ready.done():
                    parts = self._work / PARTS / worker.parts
                    has_own_parts = settings.bucket is not None and settings.clip is None
                    if not (has_own_parts or await asyncio.to_thread(parts.is_dir)):
                        return DestinationError(
                            f"The Dask worker {address} does not see {self._work.absolute()}: "
                            "it must be a directory that all workers share, under the same path."
                        )
                    self._workers.add(worker)
                    self._queue.changed.set()
                await worker.end_or()
            except asyncio.CancelledError:
                worker.send(messages.Stop(park=True))
                await asyncio.wait([worker.channel.lost], timeout=_GRACE)
                raise
            finally:
                self._workers.discard(worker)
                self._queue.give_back(worker.open_jobs.values())  # at once, or the run may end without them
        return None

    def _give_jobs(self, count: int) -> bool:
        """Send jobs to the workers with the most room; return True after a stop, or once all are done."""
        while not self._stopping and (waiting := self._queue.waiting):
            worker = max(self._workers, key=Worker.room, default=None)
            if worker is None or worker.room() <= 0:
                return False
            jobs = self._queue.take(min(worker.room(), _MAX_JOBS_SENT, -(-waiting // count)))
            worker.open_jobs.update((job.rowid, job) for job in jobs)
            worker.send(messages.Jobs(jobs))
        return self._stopping or (self._queue_ended and not any(worker.open_jobs for worker in self._workers))

    async def _reserve(self) -> None:
        """Reserve the names of what the workers have received for the bucket, all that wait at once."""
        while True:
            await self._unreserved.wait()
            self._unreserved.clear()
            waiting = [(worker, worker.received) for worker in self._workers]
            for worker in self._workers:
                worker.received = []
            files = [file for _, received in waiting for file in received]
            reserved = await self._store_client.calls.reserve_uploads(files)
            by_part = {placement.part: (file, placement) for file, placement in reserved}
            for worker, received in waiting:
                allowed = [by_part[file.part] for file in received if file.part in by_part]
                refused = [file.rowid for file in received if file.part not in by_part]
                for rowid in refused:  # the store process records their failures
                    worker.open_jobs.pop(rowid, None)
                worker.uploads.update((file.rowid, file) for file, _ in allowed)
                worker.send(messages.Upload(allowed, refused))
            self._queue.changed.set()

    def _take_outcomes(self, worker: Worker, outcomes: Outcomes) -> None:
        files = outcomes.files
        for file in files:
            if file.body is None:
                file.part = f"{worker.parts}/{file.part}"
        if self._bucket is not None and files:
            worker.received += files
            self._unreserved.set()
            files = []
        unchanged = [outcome for outcome in outcomes.without_file if outcome.failure is None]
        for rowid in [file.rowid for file in files] + [outcome.rowid for outcome in unchanged]:
            del worker.open_jobs[rowid]
        for outcome in outcomes.without_file:
            if outcome.failure is not None:
                self._pool.take_failure(worker.open_jobs.pop(outcome.rowid), outcome.failure)
        if files or unchanged:
            self._store_client.sender.send_to_store(Outcomes(files, unchanged), worker.channel.pause())

    def _take_message(self, worker: Worker, message: messages.FromWorker) -> None:
        sender = self._store_client.sender
        match message:
            case Outcomes():
                self._take_outcomes(worker, message)
            case messages.Uploaded(results):
                for rowid, failure in results:
                    job, file = worker.open_jobs.pop(rowid), worker.uploads.pop(rowid)
                    file.part = ""
                    if failure is None:
                        sender.send_to_store(Outcomes([file]), worker.channel.pause())
                    else:
                        sender.fail(job, failure)
            case messages.Spent(requests, retries, bytes_fetched):
                counters = self._network.counters
                counters.requests += requests
                counters.retries += retries
                counters.bytes_fetched += bytes_fetched
            case EventMessage(Notice(_, text)):
                if text not in self._shown:
                    self._shown.add(text)
                    self._network.warn(text)
            case messages.Ready(slots):
                worker.ready.set_result(slots)
            case ProcessEnded(ErrorReport() as report):
                error = error_of(report, "worker process")
                self._network.secrets.mask_error(error)
                worker.fail(error)
        if isinstance(message, Outcomes | messages.Uploaded):
            self._lost_in_vain = 0
        self._queue.changed.set()


class Worker:
    def __init__(self, on_message: Callable[[Worker, messages.FromWorker], None]) -> None:
        self.channel = Channel(lambda data: on_message(self, messages.decode_from_worker(data)), self.fail)
        self.send = self.channel.send
        self._error: BaseException | None = None
        self.open_jobs: dict[int, Job] = {}
        self.ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Gets the number of simultaneous transfers once the worker has created its directory."""
        self.parts = secrets.token_hex(8)  # its directory among the parts
        self.received: list[AssetFile] = []
        """Assets for the bucket, not reserved yet. `uploads`: those not uploaded yet, by row."""
        self.uploads: dict[int, AssetFile] = {}

    def fail(self, error: BaseException) -> None:
        self._error = self._error or error
        if not self.channel.lost.done():
            self.channel.lost.set_result(None)

    async def end_or(self, *futures: asyncio.Future[Any]) -> None:
        """Wait for the end of the worker, or for one of `futures`. Raise its error if it has failed."""
        await asyncio.wait([self.channel.lost, *futures], return_when=asyncio.FIRST_COMPLETED)
        if self._error is not None:
            raise self._error

    def room(self) -> int:
        uploads = min(len(self.uploads), _MAX_UPLOADS)
        return self.ready.result() + _AHEAD + uploads - len(self.open_jobs)

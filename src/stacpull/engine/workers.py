"""`--dask`: several network processes around one store process.

    walk ─▶ queue ──▶ Workers ══ jobs ═▶ workers: pool ─▶ outcome sender
                         ▲═══ bodies, names of parts, failures ══┘

The process of the command walks, plans and gives out jobs. Each worker (`worker_transfers.py`) has a loop and
connections of its own. It writes and hashes its parts itself, and reports them to the first process, which
passes them on to the store process. With a bucket as DEST, it sends bodies of up to 1 MiB instead.

If a worker is lost (killed, out of memory), the store process publishes the complete parts that the worker
left. Its other jobs and its unfinished parts go to the next worker with room. Another worker takes its place,
unless six in a row were lost without an outcome. A busy worker reports every few seconds, so a worker that
sends nothing for two minutes hangs (suspended, a stuck disk, a lost machine) and is given up.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from stacpull.clock import Clock
from stacpull.config.options import Options
from stacpull.engine import shares
from stacpull.engine import worker_messages as messages
from stacpull.engine.channel import Channel
from stacpull.engine.messages import Arrivals, PartsWritten, error_of
from stacpull.engine.network import Network
from stacpull.engine.pool import JobQueue, Pool
from stacpull.engine.shares import HostShares, Share
from stacpull.engine.store_client import StoreClient
from stacpull.engine.store_operations import StoreOperations
from stacpull.engine.worker_messages import WorkerSettings
from stacpull.errors import WorkerError
from stacpull.events import Listener, Notice
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Arrival, Job
from stacpull.net.client import NetworkCounters
from stacpull.net.transport import TransferError
from stacpull.planning.statements import statements_of
from stacpull.selection import Selection
from stacpull.sources.item_reader import ItemReader
from stacpull.transfer.attempt import HasFile

_MOST_LOST_IN_VAIN = 6
"""Workers lost in a row without an outcome in between. The last one is not replaced: the run ends."""
_LOOK = 1.0
"""Seconds between two looks for workers that hang."""
_MOST_SILENT_LOOKS = 120
"""Looks in a row without a message of a worker, after which it is killed."""
_GRACE = 3.0
"""Seconds that a worker has to park its transfers."""
_GRACE_WITHOUT_JOBS = 10.0
"""Seconds that a worker without jobs has to end."""
_PACE_WINDOW = 0.1
"""Seconds over which outcomes are counted."""


def worker_settings(
    network: Network,
    options: Options,
    dest: Path,
    selection: Selection,
    share: Share,
) -> WorkerSettings:
    """Return the settings of a worker of a run.

    Args:
        network: The network of the run.
        options: The options of the run.
        dest: DEST, or the work directory of a bucket.
        selection: The selection of the run.
        share: The worker's share of the limits.
    """
    return WorkerSettings(
        network.address,
        attrs.evolve(
            options,
            per_host=share.per_host,
            concurrency=options.concurrency and share.slots,
            dashboard_token=None,
        ),
        network.addresses,
        share.slots,
        str(dest),
        selection.prefer,
        selection.clip,
    )


OnMessage = Callable[["WorkerProcess", messages.FromWorker], None]
"""Called with each message of a worker."""
StartWorker = Callable[[OnMessage], Awaitable["WorkerProcess | None"]]
"""Starts a worker at one place, or the next one there. Returns None if the place cannot be used.

It raises `WorkerError` if a worker cannot be started.
"""


class WorkerSupply(ABC):
    """A supply of workers.

    Attributes:
        jobs_to_start: Waiting jobs with which workers are started.
        most_processes: The most processes that share the jobs.
        shares: Divides the limits among the workers; None if their settings have fixed shares.
    """

    jobs_to_start: int
    most_processes: int
    shares: HostShares[WorkerProcess] | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open the supply. It is closed at the end of the block, when all workers have ended."""
        yield

    @abstractmethod
    def places(self) -> AsyncIterator[StartWorker]:
        """Yield each place for a worker once, as soon as it is available.

        Raises:
            StacpullError: No place will become available.
        """


class Workers:
    """Runs the jobs of a queue in worker processes as a `Pool` does in one.

    Args:
        queue: The queue of jobs.
        pool: The pool of this process: on the same queue if it also transfers, else on an empty one.
        supply: The supply of workers.
        network: The network of this process.
        store: The store process.
        items: Reads items again for all processes.
        has_file: Looks at files for Dask workers that may lack the credentials of DEST.
        emit: Called with notices for the user.
    """

    def __init__(
        self,
        queue: JobQueue[Job],
        pool: Pool[Job, Arrival | None],
        supply: WorkerSupply,
        *,
        network: Network,
        store: StoreClient,
        items: ItemReader,
        has_file: HasFile,
        emit: Listener,
    ) -> None:
        self._queue = queue
        self._pool = pool
        self._supply = supply
        self._network = network
        self._store = store
        self._items = items
        self._has_file = has_file
        self._emit = emit
        self._workers: dict[StartWorker, WorkerProcess] = {}
        """The running workers, by place."""
        self._places: dict[asyncio.Task[None], StartWorker] = {}
        """The tasks that keep a worker running, each at a place."""
        self._given_back: deque[Job] = deque()
        """Jobs of lost workers."""
        self._news = queue.news
        self._no_more = False
        self._stopping = False
        self._done = False
        self._lost_in_vain = 0
        """Workers that were replaced since the last outcome."""
        self._shown: set[str] = set()
        self._group = asyncio.TaskGroup()

    @property
    def given_up_hosts(self) -> Mapping[str, str]:
        """The hosts that were given up, and why; their assets stay pending."""
        return self._pool.given_up_hosts

    async def run(self) -> None:
        """Work until all jobs are done, or `stop` was called.

        Raises:
            WorkerError: Workers are lost one after the other, or one failed.
            StacpullError: Another error ends the run, here or in a worker.
        """
        async with self._supply.opened(), self._group:
            self._group.create_task(self._pool.run())
            if await self._is_worth_it():
                await self._run_workers()
            self._pool.no_more()

    def no_more(self) -> None:
        """Mark the end of the queue. The pool ends once the workers have no jobs."""
        self._no_more = True
        self._news.set()

    def stop(self) -> None:
        """Take no further jobs. Transfers in flight continue, here and in the workers."""
        self._stopping = True
        self._pool.stop()
        for worker in self._workers.values():
            worker.send(messages.Stop())
        self._news.set()

    # --- workers come and go -----------------------------------------------------------------------------

    async def _is_worth_it(self) -> bool:
        """Wait until the queue has enough jobs for workers; return False if it never has."""
        while not (self._no_more or self._stopping or self._queue.waiting >= self._supply.jobs_to_start):
            await self._some_news()
        return not self._stopping and self._queue.waiting >= self._supply.jobs_to_start

    async def _run_workers(self) -> None:
        """Keep workers running, and send them jobs until there are no more."""
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._fill_places(group)), group.create_task(self._watch())]
                await self._send_jobs()
                self._done = True
                for other in others:
                    other.cancel()
                for task, place in self._places.items():
                    worker = self._workers.get(place)
                    if worker is not None and worker.ready:
                        worker.send(messages.Stop())
                        if not worker.open:  # otherwise `run_control` limits the time
                            group.create_task(worker.kill_after(_GRACE_WITHOUT_JOBS))
                    else:
                        task.cancel()  # it would be too late
        finally:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers.values():
                    group.create_task(worker.end(_GRACE if worker.ready else 0))

    async def _fill_places(self, group: asyncio.TaskGroup) -> None:
        """Start a worker at each place."""
        async for start in self._supply.places():
            task = group.create_task(self._keep(start))
            self._places[task] = start
            task.add_done_callback(self._places.pop)

    async def _watch(self) -> None:
        """Kill workers that hang."""
        while True:
            await self._network.clock.sleep(_LOOK)
            for worker in self._workers.values():
                worker.look()

    async def _keep(self, start: StartWorker) -> None:
        """Run a worker at a place, and replace it if it is lost, until everything is done.

        Raises:
            WorkerError: Workers are lost again and again.
        """
        how = None
        while not (self._done or self._stopping):
            if how is not None and self._lost_in_vain + 1 >= _MOST_LOST_IN_VAIN:
                raise _too_many_lost(how)
            worker = await start(self._take_message)
            if worker is None:
                return
            self._workers[start] = worker
            if how is not None:
                self._lost_in_vain += 1
                self._emit(Notice("warning", f"A worker process {how}; another one takes its place."))
            how = await worker.ended()
            self._network.client.gates.ended(worker)
            self._network.events.peers.discard(worker.close_host)
            if self._supply.shares is not None:
                self._supply.shares.left(worker)
            await self._take_back(worker)
            del self._workers[start]

    async def _take_back(self, worker: WorkerProcess) -> None:
        """Publish the parts of a lost worker, and return its other jobs to the queue."""
        if not worker.open and not worker.worker_parts:
            return
        taken = set(
            await self._store.call(
                StoreOperations.publish_parts_of_worker, frozenset(worker.open), worker.worker_parts
            )
        )
        for other in self._workers.values():
            other.send(messages.LookAgain())
        self._given_back.extend(job for row, job in worker.open.items() if row not in taken)
        worker.open.clear()
        self._news.set()

    # --- jobs --------------------------------------------------------------------------------------------

    async def _send_jobs(self) -> None:
        """Send jobs to workers until all jobs have an outcome, or the run is stopped."""
        while not self._stopping:
            await self._store.outcomes.wait_for_publisher()
            if self._give():
                continue
            waiting = self._queue.waiting + len(self._given_back)
            if self._no_more and not waiting and not any(worker.open for worker in self._workers.values()):
                return
            await self._some_news()

    def _give(self) -> bool:
        """Send jobs to the least busy worker with room; return False if there is no worker or no job."""
        rooms = {worker: worker.room() for worker in self._workers.values()}
        free = [worker for worker, room in rooms.items() if room]
        if not free:
            return False
        worker = min(free, key=WorkerProcess.load)
        waiting = len(self._given_back) or self._queue.waiting
        processes = 1 + sum(worker.ready for worker in self._workers.values())
        count = shares.batch_size(waiting, rooms[worker], processes)
        jobs = [self._given_back.popleft() for _ in range(min(count, len(self._given_back)))]
        jobs = jobs or self._queue.take(count)
        if jobs:
            worker.give(jobs)
        return bool(jobs)

    async def _some_news(self) -> None:
        await self._news.wait()
        self._news.clear()

    # --- messages of workers -----------------------------------------------------------------------------

    def _take_message(self, worker: WorkerProcess, message: messages.FromWorker) -> None:  # noqa: C901, PLR0912 -- one case each
        if isinstance(message, Arrivals | UnchangedAsset | AssetFailure):
            self._lost_in_vain = 0
        match message:
            case Arrivals(arrivals):
                for arrival in arrivals:
                    arrival.worker_parts = worker.worker_parts
                    worker.close(arrival.row)
                self._store.outcomes.send(arrivals, lambda count: worker.send(PartsWritten(count)))
            case UnchangedAsset(row):
                self._store.outcomes.send_unchanged(worker.close(row))
            case AssetFailure(row, _, _, failure, attempts):
                self._pool.fail(worker.close(row), failure, attempts)
            case messages.RequestItem():
                self._group.create_task(self._read_item(worker, message))
            case messages.LookForFile():
                self._group.create_task(self._look_for_file(worker, message))
            case messages.Reserve(number, host, amount):
                seconds = self._network.client.limits.reserve(host, amount)
                worker.send(messages.Granted(number, seconds))
            case messages.Throttled(host, seconds):
                self._network.client.gates[host].throttled(seconds, from_other_process=True)
                self._network.events.closed(host, seconds, worker.close_host)
            case messages.Spent():
                worker.add_up(message, self._network.counters)
                self._network.client.gates.reported(worker, message.hosts)
            case messages.Noticed(level, text):
                if text not in self._shown:
                    self._shown.add(text)
                    self._emit(Notice(level, text))
            case messages.WithinLimits(per_host):
                if self._supply.shares is not None:
                    self._supply.shares.keeps_to(worker, per_host)
            case messages.Ready(now):
                worker.ahead = now - self._network.clock.monotonic()
                self._welcome(worker)
            case messages.Broke(report):
                error = error_of(report, "worker process")
                self._network.secrets.scrub_error(error)
                worker.fail(error)
        self._news.set()

    async def _read_item(self, worker: WorkerProcess, request: messages.RequestItem) -> None:
        """Read an item for a worker.

        Raises:
            CredentialsError, SourceError: An error that ends the run.
        """
        try:
            newer_than = None if request.newer_than is None else request.newer_than - worker.ahead
            document, read_at = await self._items.read(request.href, newer_than=newer_than)
        except TransferError as error:
            worker.send(messages.ItemRead(request.number, error.failure, 0.0))
        else:
            found = {
                "assets": document.get("assets"),
                "properties": statements_of(document.get("properties")),
            }
            read_at += worker.ahead
            worker.send(messages.ItemRead(request.number, json.dumps(found).encode(), read_at))

    async def _look_for_file(self, worker: WorkerProcess, request: messages.LookForFile) -> None:
        """Look at the file of a worker's job.

        Raises:
            CredentialsError, DestinationError: DEST cannot be read, which ends the run.
        """
        is_found = False
        if (job := worker.open.get(request.row)) is not None:
            is_found = await self._has_file(job, request.checksum)
        worker.send(messages.FileFound(request.number, is_found))

    def _welcome(self, worker: WorkerProcess) -> None:
        """Start a worker's transfers, and send it the current pauses of hosts."""
        worker.ready = True
        if self._supply.shares is not None:
            self._supply.shares.joined(worker)
        for gate in self._network.client.gates:
            if seconds := gate.closed_for():
                worker.close_host(gate.host, seconds)
        self._network.events.peers.add(worker.close_host)


def _too_many_lost(how: str) -> WorkerError:
    """Return the error of a run whose workers are lost again and again; `how` describes the last time."""
    return WorkerError(
        f"{_MOST_LOST_IN_VAIN} worker processes in a row ended before they transferred anything, the "
        f"last one {how}. Make sure that they have enough memory, or mirror without --dask, then resume."
    )


class WorkerProcess(ABC):
    """One worker process with its jobs.

    Args:
        slots: Its simultaneous transfers.
        on_message: Called with each of its messages.
        clock: The clock of the run.
        worker_parts: Its directory among the parts (`store.worker_parts`), if it has one.

    Attributes:
        channel: This end of its socket.
        lost: Done when it can send no more messages.
    """

    def __init__(self, slots: int, on_message: OnMessage, clock: Clock, worker_parts: str = "") -> None:
        self.channel = Channel(messages.decode_from_worker, self._take_message, self.fail)
        self.send, self.lost = self.channel.send, self.channel.lost
        self.open: dict[int, Job] = {}
        """Its jobs without an outcome, by row."""
        self.ready = False
        """True while it accepts jobs."""
        self.ahead = 0.0
        """Seconds that its monotonic clock is ahead of this one's, or fewer."""
        self.slots = slots
        self.worker_parts = worker_parts
        self._on_message = on_message
        self._clock = clock
        self._silent_looks = 0
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._spent = messages.Spent()
        self._pace = 0.0
        self._counted = 0
        self._since = clock.monotonic()

    @abstractmethod
    def kill(self) -> None:
        """End it at once."""

    @abstractmethod
    async def reap(self) -> str:
        """Wait for the end of a lost worker; return how it ended."""

    def _take_message(self, message: messages.FromWorker) -> None:
        self._silent_looks = 0
        self._on_message(self, message)

    def look(self) -> None:
        """Kill it if it hangs: it sent nothing since many looks, which are a second apart.

        Looks are counted, and not seconds, as this process may have been suspended together with it.
        """
        self._silent_looks += 1
        if self._silent_looks >= _MOST_SILENT_LOOKS:
            self.kill()

    def fail(self, error: BaseException) -> None:
        """End the run with `error`."""
        if not self._failure.done():
            self._failure.set_exception(error)

    async def ended(self) -> str:
        """Wait until it has ended and all its messages are handled; return how it ended.

        Raises:
            BaseException: An error that ends the run.
        """
        await asyncio.wait([self.lost, self._failure], return_when=asyncio.FIRST_COMPLETED)
        self.ready = False
        if self._failure.done():
            self._failure.result()
        how = await self.reap()
        return how if self._silent_looks < _MOST_SILENT_LOOKS else "was killed because it did not respond"

    async def end(self, grace: float) -> None:
        """Make it park its transfers and end; kill it after `grace` seconds."""
        self.send(messages.End())
        await self.kill_after(grace)
        await self.reap()
        await self.lost
        if self._failure.done():
            self._failure.exception()  # if it was not raised, something else has ended the run

    async def kill_after(self, seconds: float) -> None:
        """Kill it, unless it ends before: one that hangs may never close its connection."""
        await asyncio.wait([self.lost], timeout=seconds)
        if not self.lost.done():
            self.kill()

    def limit(self, slots: int, per_host: int) -> None:
        """Set its limits."""
        self.slots = slots
        self.send(messages.NewLimits(slots, per_host))

    def close_host(self, host: str, seconds: float) -> None:
        """Tell it that a host throttles."""
        self.send(messages.Throttled(host, seconds))

    def give(self, jobs: list[Job]) -> None:
        """Send it jobs."""
        self.open.update((job.row, job) for job in jobs)
        self.send(messages.Jobs(jobs))

    def close(self, row: int) -> Job:
        """Remove and return a job with an outcome."""
        self._counted += 1
        return self.open.pop(row)

    def room(self) -> int:
        """Return how many more jobs to send."""
        if not self.ready or not self.slots:
            return 0
        now = self._clock.monotonic()
        if now - self._since >= _PACE_WINDOW:
            self._pace = self._counted / (now - self._since)
            self._since, self._counted = now, 0
        return shares.room(self.slots, len(self.open), self._pace)

    def load(self) -> float:
        """Return its load in jobs per slot."""
        return len(self.open) / self.slots

    def add_up(self, spent: messages.Spent, counters: NetworkCounters) -> None:
        """Add its effort since the last report."""
        before, self._spent = self._spent, spent
        counters.requests += spent.requests - before.requests
        counters.retries += spent.retries - before.retries
        counters.bytes_fetched += spent.bytes_fetched - before.bytes_fetched

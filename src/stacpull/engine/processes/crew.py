"""The coordinator's side: worker processes in place of the pool, and the pool until they are up.

The pool begins, with its own share of slots. When jobs pile up in the queue, worker processes are started;
when all are ready, the pool leaves the queue to them. Each gets jobs as long as it has room (`shares.room`),
the least busy first. What becomes of a job is told in batches, and goes to the publisher as what the pool
brings does.

A worker that is lost (killed, out of memory) gives its jobs back: whole parts that it had written are taken
up, the others go to the next with room, together with the parts that it left. A new worker takes its place,
unless the last ones brought nothing at all.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import attrs

from stacpull.clock import Clock
from stacpull.config.environment import handed_down
from stacpull.config.options import Options
from stacpull.engine.held_failures import HeldFailures
from stacpull.engine.intake import Backlog
from stacpull.engine.job_queue import JobQueue
from stacpull.engine.network import Network
from stacpull.engine.pool import Pool
from stacpull.engine.processes import messages
from stacpull.engine.processes.leftovers import wholes_of
from stacpull.engine.processes.messages import Context, Word
from stacpull.engine.processes.peer import Peer, engage
from stacpull.engine.processes.shares import batch_size
from stacpull.engine.store_client import StoreClient
from stacpull.engine.together import off_loop
from stacpull.errors import WorkerError
from stacpull.events import Listener, Notice
from stacpull.models import Job, Received
from stacpull.net.gate import MAX_REFUSALS
from stacpull.net.notices import HostClosed, NetworkEvent
from stacpull.net.transport import TransferError
from stacpull.planning.statements import stated
from stacpull.sources.item_reader import ItemReader
from stacpull.store.destination import Destination
from stacpull.store.lock import workers_lock
from stacpull.store.writer import Arrived

__all__ = ["Crew", "Surroundings"]

_WORTH_IT = 64
"""Jobs that must wait before processes are started: some ten milliseconds of work, or many seconds."""
_LOST_IN_VAIN = 5
"""Workers lost in a row, without an outcome in between, that stop the run."""
_FAREWELL = 3.0
"""Seconds that a worker has to park what is under way."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What of a run its workers have to do with."""

    destination: Destination
    network: Network
    store: StoreClient
    backlog: Backlog
    items: ItemReader
    clock: Clock
    options: Options
    emit: Listener
    prefer: tuple[str, ...] = ()
    on_failure: Callable[[], None] = lambda: None
    """Called for each asset that fails."""


class Crew:
    """Runs jobs of a queue in worker processes (`engine.together.Works`)."""

    def __init__(self, queue: JobQueue, pool: Pool[Job, Received], around: Surroundings) -> None:
        """Prepare; nothing is started yet.

        Args:
            queue: where jobs come from; None in it says that there is nothing more.
            pool: does the jobs until workers are ready, from the same queue.
            around: the run.
        """
        self._queue = queue
        self._pool = pool
        self._around = around
        self._seats: list[Peer | None] = [None for _ in around.network.shares.workers]
        self._again: deque[Job] = deque()
        self._failures: HeldFailures[Job] = HeldFailures(
            around.store.fail, (MAX_REFUSALS - 1) * len(self._seats), around.on_failure
        )
        self._news = asyncio.Event()
        self._fed = False
        self._drained = False
        self._stopping = False
        self._over = False
        self._in_vain = 0
        self._said: set[str] = set()
        self._reading: asyncio.TaskGroup
        queue.on_put = self._news.set
        around.network.events.listen(self._hear_of_host)

    @property
    def left(self) -> Mapping[str, str]:
        """Why assets were left pending, by host that was given up."""
        return {**self._pool.left, **self._failures.left}

    async def run(self) -> None:
        """Work until everything that was fed is done, or `stop` was called.

        Raises:
            WorkerError: workers are lost one after the other, or one broke down.
            StacpullError: something else stops the run, here or in a worker.
        """
        async with asyncio.TaskGroup() as group:
            self._reading = group
            group.create_task(self._pool.run())
            if await self._is_worth_it():
                await self._in_processes()
        self._failures.hand_in_all()

    def no_more(self) -> None:
        """Say that nothing will be added to the queue."""
        self._fed = True
        self._pool.no_more()
        self._news.set()

    def stop(self) -> None:
        """Take no further job; what is under way goes on, here and in the workers."""
        self._stopping = True
        self._pool.stop()
        for peer in self._peers():
            peer.send(messages.Stop())
        self._news.set()

    # --- workers come and go -----------------------------------------------------------------------------

    async def _is_worth_it(self) -> bool:
        """Wait until so much is in the queue that workers are worth their start; False if it never is."""
        while not (self._fed or self._stopping or self._queue.waiting() >= _WORTH_IT):
            await self._some_news()
        return not self._stopping and self._queue.waiting() >= _WORTH_IT

    async def _in_processes(self) -> None:
        """Start workers, give them what is in the queue, and let them end."""
        async with off_loop(workers_lock(self._around.destination.path)) as lock:
            try:
                async with asyncio.TaskGroup() as seats:
                    filling = [
                        seats.create_task(self._keep_filled(number, lock))
                        for number in range(len(self._seats))
                    ]
                    await self._feed()
                    self._over = True
                    for peer, task in zip(self._seats, filling, strict=True):
                        if peer is None or not peer.ready:
                            task.cancel()  # it has come too late, and would only be waited for
                        else:
                            peer.send(messages.Stop())
            finally:
                await self._dismiss()

    async def _keep_filled(self, number: int, lock: int) -> None:
        """Keep a worker at work, and replace it if it is lost, until all is done.

        Raises:
            WorkerError: there is no use in starting more of them.
        """
        around = self._around
        while self._goes_on():
            peer = await engage(self._context(number), lock, self._hear, around.clock)
            self._seats[number] = peer
            code = await peer.gone()
            self._seats[number] = None
            await self._take_back(peer)
            if not peer.ended and self._goes_on():
                self._note_lost(code)

    def _goes_on(self) -> bool:
        return not (self._over or self._stopping)

    def _context(self, number: int) -> Context:
        """Return what a worker works with; the limits in it are its share of them."""
        network, options = self._around.network, self._around.options
        share = network.shares.workers[number]
        limited = attrs.evolve(
            options,
            per_host=share.per_host,
            concurrency=options.concurrency and share.slots,
        )
        return Context(
            coordinator=os.getpid(),
            environment=handed_down()[1],
            address=network.address,
            options=limited,
            addresses=network.addresses,
            slots=share.slots,
            dest=str(self._around.destination.path),
            prefer=self._around.prefer,
        )

    def _note_lost(self, code: int) -> None:
        how = f"was ended by signal {-code}" if code < 0 else f"ended by itself ({code})"
        self._in_vain += 1
        if self._in_vain > _LOST_IN_VAIN:
            raise WorkerError(
                f"One worker process after the other is lost, the last one {how}: see that there is enough "
                "memory, or give --processes 1, then resume."
            )
        self._around.emit(Notice("warning", f"A worker process {how}; another one takes its place."))

    async def _take_back(self, peer: Peer) -> None:
        """Take up what a worker has left that is gone, and see that others do the rest."""
        if not peer.open:
            return
        jobs, around = dict(peer.open), self._around
        checksum = around.options.recorded_checksum
        found = await asyncio.to_thread(wholes_of, around.destination, jobs, checksum=checksum)
        peer.open.clear()
        self._deliver(found)
        for job, _, _ in found:
            del jobs[job.row]
        self._again.extend(jobs.values())
        self._news.set()

    async def _dismiss(self) -> None:
        """See that no worker is left; what they tell until then counts."""
        async with asyncio.TaskGroup() as group:
            for peer in self._peers():
                group.create_task(peer.dismiss(_FAREWELL) if peer.ready else peer.kill())

    def _peers(self) -> list[Peer]:
        return [peer for peer in self._seats if peer is not None]

    # --- jobs out ----------------------------------------------------------------------------------------

    async def _feed(self) -> None:
        """Give out jobs until there are none any more, neither here nor with a worker, or until a stop."""
        await self._all_ready()
        while not self._stopping:
            await self._around.backlog.bearable()
            if self._give():
                continue
            if self._is_drained() and not self._again and not any(peer.open for peer in self._peers()):
                return
            await self._some_news()

    async def _all_ready(self) -> None:
        """Wait until every worker can take jobs, so that each gets its part; the pool works meanwhile."""
        while not (self._stopping or self._is_drained()):
            if all(peer is not None and peer.ready for peer in self._seats):
                break
            await self._some_news()
        self._pool.retire()

    def _give(self) -> bool:
        """Give jobs to the least busy worker that has room; return False if there is none, or no job."""
        rooms = {peer: peer.room() for peer in self._peers()}
        free = [peer for peer, room in rooms.items() if room]
        if not free:
            return False
        peer = min(free, key=Peer.load)
        again = bool(self._again)
        waiting = len(self._again) if again else self._queue.waiting()
        count = batch_size(waiting, rooms[peer], len(self._seats))
        jobs = [self._again.popleft() for _ in range(count)] if again else self._from_queue(count)
        if jobs:
            peer.give(jobs, again=again)
        return bool(jobs)

    def _from_queue(self, count: int) -> list[Job]:
        jobs = (self._queue.get_nowait() for _ in range(min(count, self._queue.waiting())))
        return [job for job in jobs if job is not None]

    def _is_drained(self) -> bool:
        """Return True if the queue has given its last job."""
        if self._fed and not self._drained and not self._queue.waiting():
            self._drained = True
            self._pool.no_more()  # its workers may still wait at the queue
        return self._drained

    async def _some_news(self) -> None:
        await self._news.wait()
        self._news.clear()

    # --- words in ----------------------------------------------------------------------------------------

    def _hear(self, peer: Peer, word: Word) -> None:  # noqa: C901 -- one case for each kind of message
        match word:
            case messages.Came(rows, spent):
                self._in_vain = 0
                self._deliver([messages.arrived(peer.closed(row[0]), row) for row in rows])
                peer.add_up(spent, self._around.network.counters)
            case messages.Confirmed() | messages.Failed():
                self._in_vain = 0
                self._close(peer.closed(word.row), word)
            case messages.Spent():
                peer.add_up(word, self._around.network.counters)
            case messages.ReadItem():
                self._reading.create_task(self._read_item(peer, word))
            case messages.Throttled(host, seconds):
                self._around.network.client.gates[host].throttled(seconds, hearsay=True)
                self._tell_throttled(host, seconds, but=peer)
            case messages.Reserve(number, host, amount):
                seconds = self._around.network.client.limits.reserve(host, amount)
                peer.send(messages.Granted(number, seconds))
            case messages.Said():
                self._say(word)
            case messages.Ready():
                self._welcome(peer)
            case messages.Broke():
                peer.fail(messages.error_of(word, self._around.network.secrets))
            case messages.Ended():
                peer.ended = True
        self._news.set()

    def _close(self, job: Job, word: messages.Confirmed | messages.Failed) -> None:
        """Hear what became of an asset of which nothing came in."""
        if isinstance(word, messages.Failed):
            self._failures.fail(job, word.failure, word.attempts)
        else:
            self._around.store.confirm(job)

    def _deliver(self, batch: list[Arrived]) -> None:
        self._around.backlog.wrote(len(batch))
        self._around.store.deliver(batch)

    async def _read_item(self, peer: Peer, asked: messages.ReadItem) -> None:
        """Read an item for a worker: here the requests of all workers for one item are one.

        Raises:
            CredentialsError, SourceError: what stops the run.
        """
        try:
            item = await self._around.items.read(asked.href, newer_than=asked.newer_than)
        except TransferError as error:
            peer.send(messages.ItemRead(asked.number, error.failure, 0.0))
        else:
            found = {
                "assets": item.document.get("assets"),
                "properties": stated(item.document.get("properties")),
            }
            peer.send(messages.ItemRead(asked.number, found, item.read_at))

    def _hear_of_host(self, event: NetworkEvent) -> None:
        if isinstance(event, HostClosed):
            self._tell_throttled(event.host, event.seconds)

    def _tell_throttled(self, host: str, seconds: float, but: Peer | None = None) -> None:
        for peer in self._peers():
            if peer is not but:
                peer.send(messages.Throttled(host, seconds))

    def _welcome(self, peer: Peer) -> None:
        """Let a worker begin. One that takes the place of another does not know whom to leave alone."""
        peer.ready = True
        for gate in self._around.network.client.gates:
            if seconds := gate.closed_for():
                peer.send(messages.Throttled(gate.host, seconds))

    def _say(self, said: messages.Said) -> None:
        """Pass on what a worker says; what several may find out, each by itself, is said once."""
        if not said.once or said.text not in self._said:
            self._around.emit(Notice(said.level, said.text))
        if said.once:
            self._said.add(said.text)

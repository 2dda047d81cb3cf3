"""One worker process, as the coordinator sees it: what it was given, and what it has told."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable, Sequence

from stacpull.clock import Clock
from stacpull.engine.processes import messages, shares
from stacpull.engine.processes.channel import Channel, open_channel
from stacpull.engine.processes.messages import Context, Order, Spent, Word
from stacpull.engine.processes.spawning import Started, reap, spawn
from stacpull.models import Job
from stacpull.net.client import Counters

__all__ = ["Peer", "engage"]

_WORKER = "stacpull.engine.processes.worker"
_WINDOW = 0.1
"""Seconds over which the pace is counted."""


class Peer:
    """A worker process and its channel."""

    def __init__(
        self, process: subprocess.Popen[bytes], hear: Callable[[Peer, Word], None], slots: int, clock: Clock
    ) -> None:
        """Begin with a process that has just been started; `hear` takes what it tells."""
        self.open: dict[int, Job] = {}
        """What it was given and has not told of, by row."""
        self.ready = False
        self.ended = False
        """True when it has said its last word."""
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what stops the run."""
        self._process = process
        self._hear_word = hear
        self._slots = slots
        self._clock = clock
        self._spent = Spent()
        self._pace = 0.0
        self._counted = 0
        self._since = clock.monotonic()
        self._channel: Channel

    async def connect(self, sock: socket.socket) -> None:
        """Open the channel over our end of the socket."""
        self._channel = await open_channel(sock, self._hear)

    def _hear(self, word: Word) -> None:
        try:
            self._hear_word(self, word)
        except BaseException as error:  # noqa: BLE001 - the loop would only log it
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Let the run end with `error`."""
        if not self.failure.done():
            self.failure.set_exception(error)

    async def gone(self) -> int:
        """Wait until the process has ended, and everything it told was heard; return its exit code.

        Raises:
            BaseException: what it said that stops the run.
        """
        await asyncio.wait([self._channel.lost, self.failure], return_when=asyncio.FIRST_COMPLETED)
        if self.failure.done():
            self.failure.result()
        return await asyncio.to_thread(reap, self._process)

    async def dismiss(self, patience: float) -> None:
        """Have it park what is under way and end; kill it if that takes longer than `patience` seconds."""
        self.send(messages.End())
        await asyncio.wait([self._channel.lost], timeout=patience)
        await self.kill()

    async def kill(self) -> None:
        """End it, if it has not ended."""
        if not self._channel.lost.done():
            self._process.kill()
        await asyncio.to_thread(reap, self._process)
        await self._channel.lost
        if self.failure.done():
            self.failure.exception()  # if nobody has raised it, something else has stopped the run

    def send(self, order: Order) -> None:
        """Tell it something."""
        self._channel.send(order)

    def give(self, jobs: Sequence[Job], *, again: bool) -> None:
        """Give it jobs; `again`: another worker had them, and was lost."""
        self.open.update((job.row, job) for job in jobs)
        self.send(messages.Jobs([messages.job_row(job) for job in jobs], again))

    def closed(self, row: int) -> Job:
        """Take a job as done or failed, and return it."""
        self._counted += 1
        return self.open.pop(row)

    def room(self) -> int:
        """Return how many more jobs it should be given."""
        if not self.ready or self.ended:
            return 0
        now = self._clock.monotonic()
        if now - self._since >= _WINDOW:
            self._pace = self._counted / (now - self._since)
            self._since, self._counted = now, 0
        return shares.room(self._slots, len(self.open), self._pace)

    def load(self) -> float:
        """Return how busy it is, in jobs a slot."""
        return len(self.open) / self._slots

    def add_up(self, spent: Spent, counters: Counters) -> None:
        """Add what it has spent since it last said so."""
        before, self._spent = self._spent, spent
        counters.requests += spent.requests - before.requests
        counters.retries += spent.retries - before.retries
        counters.bytes_fetched += spent.bytes_fetched - before.bytes_fetched


async def engage(context: Context, lock: int, hear: Callable[[Peer, Word], None], clock: Clock) -> Peer:
    """Start a worker process, tell it what it works with, and return it.

    Raises:
        WorkerError: it cannot be started.
    """
    starting = asyncio.get_running_loop().run_in_executor(None, spawn, _WORKER, lock)
    try:
        process, sock = await asyncio.shield(starting)
    except asyncio.CancelledError:
        starting.add_done_callback(_unwanted)
        raise
    peer = Peer(process, hear, context.slots, clock)
    try:
        await peer.connect(sock)
    except BaseException:
        _let_go((process, sock))
        raise
    peer.send(context)
    return peer


def _unwanted(starting: asyncio.Future[Started]) -> None:
    """Let go of a process that was started for a run that ends meanwhile."""
    if not starting.cancelled() and starting.exception() is None:
        _let_go(starting.result())


def _let_go(started: Started) -> None:
    process, sock = started
    sock.close()
    process.kill()
    process.wait()  # killed: a moment

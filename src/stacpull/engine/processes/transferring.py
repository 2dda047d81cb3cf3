"""What a worker process does: jobs from its socket take their course, and become whole parts.

    socket ─▶ queue ─▶ pool (course: fetcher) ─▶ intake ─▶ writer thread ─▶ socket

When the coordinator is gone there is nobody to do it for (`worker.py` ends the process then).
"""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from pathlib import Path
from typing import Any

from stacpull.clock import Clock, SystemClock
from stacpull.config.environment import take_over
from stacpull.engine.course import Tools
from stacpull.engine.fetching import open_fetching
from stacpull.engine.intake import Backlog, Intake
from stacpull.engine.network import Network, open_network
from stacpull.engine.pool import Pool
from stacpull.engine.processes import messages
from stacpull.engine.processes.channel import Channel, open_channel
from stacpull.engine.processes.messages import Came, Context, Failed, Said, Spent
from stacpull.engine.processes.worker import leave
from stacpull.engine.together import cause
from stacpull.errors import StacpullError
from stacpull.events import Notice
from stacpull.models import Failure, Job, Json, Received
from stacpull.net.notices import HostClosed, NetworkEvent
from stacpull.net.transport import TransferError
from stacpull.sources.item_reader import ReadItem
from stacpull.store.destination import Destination, destination_error, is_destination_failure
from stacpull.store.parts import PartStore
from stacpull.store.writer import Arrived, BodyWriter

__all__ = ["transfer_batches"]

_TICK = 0.25
"""Seconds between two looks at what was spent, and at the parent."""


async def transfer_batches(sock: socket.socket) -> None:
    """Do what comes over `sock` until it says that there is nothing more; then tell that this has ended.

    What is remote of a run is this and nothing else: batches of jobs in, outcomes out (`messages`).
    """
    told: asyncio.Queue[Any] = asyncio.Queue()
    channel = await open_channel(sock, told.put_nowait)
    try:
        context: Context = await told.get()
        take_over(context.environment)
        await _work(context, channel, told)
    except BaseException as caught:  # noqa: BLE001 - the coordinator must hear of it, whatever it is
        channel.send(_broke(cause(caught)))
    channel.send(messages.Ended())
    await channel.close()


def _broke(error: BaseException) -> messages.Broke:
    ours = isinstance(error, StacpullError)
    trace = "" if ours else "".join(traceback.format_exception(error))
    return messages.Broke(type(error).__name__, str(error), trace)


async def _work(context: Context, channel: Channel, told: asyncio.Queue[Any]) -> None:
    """Open what the transfers need, do them, and bring everything to the disk that came in."""
    clock, options = SystemClock(), context.options
    destination = await asyncio.to_thread(Destination, Path(context.dest))
    try:
        reservations = _Reservations(channel)
        async with open_network(
            context.address, options, clock, addresses=context.addresses, reserve=reservations.ask
        ) as network:
            worker = _Worker(context, channel, network, destination, clock, reservations)
            writer = BodyWriter(
                destination,
                checksum=options.recorded_checksum,
                deliver=worker.deliver,
                on_error=worker.break_off,
            )
            worker.writer = writer
            writer.start()
            try:
                await worker.run(told)
            finally:
                await asyncio.to_thread(writer.close)
                channel.send(worker.spent())
    except OSError as error:
        if is_destination_failure(error):
            raise await asyncio.to_thread(destination_error, error, destination.path) from error
        raise
    finally:
        await asyncio.to_thread(destination.close)


class _Reservations:
    """Asks the coordinator, which counts for all processes, when the user's limits leave room."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._number = 0

    async def ask(self, host: str, amount: int) -> float:
        """Return the seconds to wait for `amount` requests to `host`, or bytes (for the host "")."""
        self._number += 1
        number = self._number
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._channel.send(messages.Reserve(number, host, amount))
        try:
            return await answer
        finally:
            del self._waiting[number]

    def granted(self, number: int, seconds: float) -> None:
        """Take the coordinator's answer."""
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(seconds)


class _Worker:
    """What the transfers of one worker have in common; it stands for publisher and reader of items, too."""

    def __init__(
        self,
        context: Context,
        channel: Channel,
        network: Network,
        destination: Destination,
        clock: Clock,
        reservations: _Reservations,
    ) -> None:
        self._reservations = reservations
        self._channel = channel
        self._network = network
        self._clock = clock
        self._coordinator = context.coordinator
        self._loop = asyncio.get_running_loop()
        self._backlog = Backlog()  # never long: the coordinator has the whole one
        self._broken: asyncio.Future[BaseException] = self._loop.create_future()
        self.writer: BodyWriter
        self._ending = asyncio.Event()
        self._reading: dict[int, asyncio.Future[messages.ItemRead]] = {}
        self._read = 0
        self._parts = PartStore(destination.parts)
        self.intake = Intake(self, self._backlog, slots=context.slots)
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        fetching = open_fetching(
            network, self._parts, destination, context.options, clock=clock, on_detail=self._say
        )
        tools = Tools(fetching.fetcher, self, network.policy, clock, network.note_retry, context.prefer)
        # failures are held back where those of all workers come together
        self._pool = Pool(self._queue, self.intake, tools, workers=context.slots, held=0, fast=fetching.fast)
        network.events.listen(self._pass_on)

    async def run(self, told: asyncio.Queue[Any]) -> None:
        """Do jobs until told to end.

        Raises:
            BaseException: what stops the run.
        """
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(self._hear(told))
            ticking = group.create_task(self._tick())
            ending = group.create_task(self._ending.wait())
            working = group.create_task(self._pool.run())
            self._channel.send(messages.Ready())
            news: list[asyncio.Future[Any]] = [working, ending, self._broken]
            await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
            for task in (hearing, ticking, ending, working):
                task.cancel()
        if self._broken.done():
            raise self._broken.result()

    def break_off(self, error: BaseException) -> None:
        """Hear from the writer's thread that it has ended."""

        def tell() -> None:
            if not self._broken.done():
                self._broken.set_result(error)

        self._loop.call_soon_threadsafe(tell)

    def spent(self) -> Spent:
        """Return what went over the network so far."""
        counters = self._network.counters
        return Spent(counters.requests, counters.retries, counters.bytes_fetched)

    # --- what the coordinator tells ----------------------------------------------------------------------

    async def _hear(self, told: asyncio.Queue[Any]) -> None:  # noqa: C901 -- one case for each message
        while True:
            match await told.get():
                case messages.Jobs(rows, again):
                    if again:
                        await self._parts.look_again()
                    for row in rows:
                        self._queue.put_nowait(messages.job_of(row))
                case messages.ItemRead() as answer:
                    waiting = self._reading.pop(answer.number, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(answer)
                case messages.Throttled(host, seconds):
                    self._network.client.gates[host].throttled(seconds, hearsay=True)
                case messages.Granted(number, seconds):
                    self._reservations.granted(number, seconds)
                case messages.Stop():
                    self._pool.stop()
                case messages.End():
                    self._ending.set()

    # --- what the coordinator is told --------------------------------------------------------------------

    def put(self, job: Job, received: Received) -> None:
        """Have what came in written."""
        self.writer.put(job, received)

    def deliver(self, batch: list[Arrived]) -> None:
        """Tell of whole parts (on the writer's thread)."""
        frame = messages.framed(Came([messages.arrival_row(one) for one in batch], self.spent()))
        self._loop.call_soon_threadsafe(self._came, frame, len(batch))

    def _came(self, frame: bytes, count: int) -> None:
        self._channel.send_frame(frame)
        self.intake.written(count)
        self._backlog.published(count)

    def confirm(self, job: Job) -> None:
        """Tell of an asset that has not changed."""
        self._channel.send(messages.Confirmed(job.row))

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Tell of an asset that failed for good."""
        self._channel.send(Failed(job.row, failure, attempts))

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Have the coordinator read an item again: all workers' assets of one item share a request.

        Raises:
            TransferError: it could not be read.
        """
        self._read += 1
        number = self._read
        waiting = self._reading[number] = self._loop.create_future()
        self._channel.send(messages.ReadItem(number, href, newer_than))
        try:
            answer = await waiting
        finally:
            self._reading.pop(number, None)
        if isinstance(answer.found, Failure):
            raise TransferError(answer.found)
        document: Json = answer.found
        return ReadItem(document, answer.read_at)

    def _say(self, text: str) -> None:
        self._channel.send(Said(text, once=True))

    def _pass_on(self, event: NetworkEvent) -> None:
        """Send the coordinator what its user or the other workers must know."""
        match event:
            case HostClosed(host, seconds):
                self._channel.send(messages.Throttled(host, seconds))
            case Notice("warning", text):
                self._channel.send(Said(text, once=True, level="warning"))

    async def _tick(self) -> None:
        """Tell what was spent; leave if the parent is another one: the socket may have been inherited."""
        told = Spent()
        while True:
            await self._clock.sleep(_TICK)
            if os.getppid() != self._coordinator:
                leave()
            if (now := self.spent()) != told:
                self._channel.send(now)
                told = now

"""The work of a worker process: it transfers jobs to complete parts, and reports them."""

from __future__ import annotations

import asyncio
import json
import pickle
import platform
import socket
from pathlib import Path
from typing import TYPE_CHECKING, cast

from stacpull.config.environment import add_variables, take_over
from stacpull.config.profiles import profile_options
from stacpull.engine import worker_messages as messages
from stacpull.engine.channel import Channel
from stacpull.engine.fetching import has_file_in, open_parts, open_pool
from stacpull.engine.messages import PartsWritten, WholeEnvironment, error_report
from stacpull.engine.network import Network, open_network, options_and_address
from stacpull.engine.outcome_sender import OutcomeSender
from stacpull.engine.pool import JobQueue
from stacpull.engine.run_control import raise_when_broken
from stacpull.engine.worker_messages import WorkerSettings
from stacpull.errors import CredentialsError, cause, ungrouped
from stacpull.events import Notice
from stacpull.models import Checksum, Failure, Job
from stacpull.net.transport import TransferError
from stacpull.sources.item_reader import ReadItem
from stacpull.store.disk_errors import destination_error, is_destination_failure
from stacpull.store.protocol import LONGEST_HELD, Store
from stacpull.store.store_choice import open_store
from stacpull.store.worker_parts import mark_synced

if TYPE_CHECKING:
    from stacpull.store.parts import FileParts
    from stacpull.store.streamed_parts import StreamedParts

_TICK = 0.25
"""Seconds between two reports of the effort."""
_BEAT = 5.0
"""Seconds after which an unchanged effort is reported again, which shows that the worker does not hang."""


async def work(sock: socket.socket) -> None:
    """Transfer the jobs of the first network process, until it ends the work."""
    inbox: asyncio.Queue[messages.ToWorker] = asyncio.Queue()
    first = FirstProcess(inbox)
    await first.channel.open(sock)
    try:
        take_over(cast("WholeEnvironment", await inbox.get()).variables)
        pickled = cast("messages.Start", await inbox.get()).settings
        settings: WorkerSettings = pickle.loads(pickled)  # noqa: S301 -- from the parent process
        add_variables(settings.variables)
        if settings.credentials is not None:
            settings = with_own_credentials(settings)
        await _transfer(settings, first, inbox)
    except BaseException as error:  # noqa: BLE001 -- the first process raises it
        first.send(messages.Broke(error_report(cause(error))))
    await first.channel.close()


async def _transfer(
    settings: WorkerSettings, first: FirstProcess, inbox: asyncio.Queue[messages.ToWorker]
) -> None:
    """Open network and DEST, transfer, and write everything received.

    Raises:
        DestinationError: The disk fails.
    """
    destination = await asyncio.to_thread(
        open_store, Path(settings.dest), None, worker_parts=settings.worker_parts
    )
    try:
        async with open_network(
            settings.address,
            settings.options,
            addresses=settings.addresses,
            reserve=first.reserve,
            on_notice=first.report,
            peers=[first.close_host],
        ) as network:
            options, durable = settings.options, settings.durable
            parts = await asyncio.to_thread(open_parts, destination, options, durable=durable)
            worker = Worker(settings, first, network, destination, parts)
            try:
                await worker.run(inbox)
            finally:
                await worker.close()
    except OSError as error:
        if is_destination_failure(error):
            raise await asyncio.to_thread(destination_error, error, destination.work) from error
        raise
    finally:
        await asyncio.to_thread(destination.close)


def with_own_credentials(settings: WorkerSettings) -> WorkerSettings:
    """Return settings with the credentials of this machine's environment and files.

    Raises:
        CredentialsError: A credential of the run is missing here.
        UsageError: The credential profile cannot be read.
    """
    wanted, address = settings.credentials, settings.address
    if wanted is None:
        return settings
    options = settings.options
    if wanted.profile is not None:
        options = profile_options(options, wanted.profile)
    options, found = options_and_address(address.url, options, address.input_file, named=address.named)
    missing = [name for name in wanted.names if name not in found.credential_names]
    if missing:
        raise CredentialsError(
            f"A worker on {platform.node()} lacks {' and '.join(missing)}. Credentials are sent to workers "
            "over TLS only: set the same variables in the environment of the Dask workers, or give the "
            "cluster TLS (docs/howto/dask.md)."
        )
    return settings._replace(options=options, address=found)


class FirstProcess:
    """The first network process: it reads items for all processes, and counts requests and bytes.

    Args:
        inbox: Receives its other messages.
    """

    def __init__(self, inbox: asyncio.Queue[messages.ToWorker]) -> None:
        self.broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        """Has the error with which the worker ends as its result."""
        self.channel = Channel(messages.decode_to_worker, self._take_message, self.fail)
        self.send = self.channel.send
        self._inbox = inbox

    def fail(self, error: BaseException) -> None:
        """End the worker with `error`."""
        if not self.broken.done():
            self.broken.set_result(error)

    async def read(self, href: str, *, newer_than: float | None = None) -> ReadItem:
        """Return an item. It is requested once for all processes.

        Raises:
            TransferError: It could not be read.
        """
        answer: messages.ItemRead = await self.channel.request(messages.RequestItem(0, href, newer_than))
        if isinstance(answer.found, Failure):
            raise TransferError(answer.found)
        return ReadItem(json.loads(answer.found), answer.read_at)

    async def reserve(self, host: str, amount: int) -> float:
        """Reserve `amount` requests to `host`, or bytes (for the host ""); return the seconds to wait."""
        answer: messages.Granted = await self.channel.request(messages.Reserve(0, host, amount))
        return answer.seconds

    async def has_file(self, job: Job, checksum: Checksum | None) -> bool:
        """See `transfer.attempt.HasFile`."""
        request = messages.LookForFile(0, job.row, checksum)
        answer: messages.FileFound = await self.channel.request(request)
        return answer.is_found

    def report(self, notice: Notice) -> None:
        """Report what the user must know."""
        if notice.level == "warning":
            self.send(messages.Noticed("warning", notice.text))

    def close_host(self, host: str, seconds: float) -> None:
        """Report that a host throttles."""
        self.send(messages.Throttled(host, seconds))

    def _take_message(self, message: messages.ToWorker) -> None:
        if isinstance(message, messages.ItemRead | messages.FileFound | messages.Granted):
            self.channel.take_response(message)
        else:
            self._inbox.put_nowait(message)


class Worker:
    """The transfers of a worker process."""

    def __init__(
        self,
        settings: WorkerSettings,
        first: FirstProcess,
        network: Network,
        destination: Store,
        parts: FileParts | StreamedParts,
    ) -> None:
        options = settings.options
        self._outcomes = OutcomeSender(
            destination,
            first.send,
            network.secrets,
            longest=0 if destination.is_local else LONGEST_HELD,
            checksum=options.recorded_checksum,
            on_broken=first.fail,
            slots=settings.slots,  # the first process counts what all workers have to publish
            durable=settings.durable,
        )
        self._first = first
        self._network = network
        self._clock = network.clock
        self._parts = parts
        self._durable = destination.parts if settings.durable else None
        self._queue: JobQueue[Job] = JobQueue()
        self._limits: int | None = None
        """A new limit per host that is not confirmed yet."""
        self._end = asyncio.Event()
        # a Dask worker may lack the credentials of a bucket
        asks_first = bool(settings.worker_parts) and not destination.is_local
        self._pool = open_pool(
            self._queue,
            self._outcomes,
            network,
            first,
            destination,
            options,
            parts=parts,
            has_file=first.has_file if asks_first else has_file_in(destination),
            prefer=settings.prefer,
            clip=settings.clip,
            most_deferred=0,  # failures are deferred in the first network process
            on_detail=lambda text: first.send(messages.Noticed("debug", text)),
        )

    async def run(self, inbox: asyncio.Queue[messages.ToWorker]) -> None:
        """Transfer until there is no more work.

        Raises:
            BaseException: An error that ends the run.
        """
        with ungrouped():
            async with asyncio.TaskGroup() as group:
                ended = group.create_task(self._end.wait())
                working = group.create_task(self._pool.run())
                besides = (self._tick(), self._take_messages(inbox), raise_when_broken(self._first.broken))
                others = [ended, *map(group.create_task, besides)]
                self._first.send(messages.Ready(self._clock.monotonic()))
                await asyncio.wait([working, ended], return_when=asyncio.FIRST_COMPLETED)
                working.cancel()
                await asyncio.wait([working])
                await self._outcomes.all_sent()
                for task in others:
                    task.cancel()

    async def close(self) -> None:
        """Report everything received."""
        await self._outcomes.flush()
        if self._durable is not None:
            await asyncio.to_thread(mark_synced, self._durable)
        self._first.send(self._spent())

    async def _take_messages(self, inbox: asyncio.Queue[messages.ToWorker]) -> None:
        """Take messages while there is work."""
        while True:
            match await inbox.get():
                case messages.Jobs(jobs):
                    await self._queue.put(jobs)
                case PartsWritten(count):
                    self._outcomes.bodies_written(count)
                case messages.LookAgain():
                    await self._parts.look_again()
                case messages.Throttled(host, seconds):
                    self._network.client.gates[host].throttled(seconds, from_other_process=True)
                case messages.NewLimits(slots, per_host):
                    self._limits = per_host
                    self._outcomes.set_slots(slots)
                    self._network.client.gates.set_maximum(per_host)
                case messages.Stop():
                    self._pool.stop()
                case messages.End():
                    self._end.set()

    # --- the network -------------------------------------------------------------------------------------

    def _spent(self) -> messages.Spent:
        counters, hosts = self._network.counters, self._network.client.gates.progress()
        return messages.Spent(counters.requests, counters.retries, counters.bytes_fetched, hosts)

    async def _tick(self) -> None:
        """Report what was spent, whenever it has changed, and from time to time."""
        reported, reported_at = messages.Spent(), self._clock.monotonic()
        while True:
            await self._clock.sleep(_TICK)
            if self._limits is not None and self._network.client.gates.is_within(self._limits):
                self._first.send(messages.WithinLimits(self._limits))
                self._limits = None
            now = self._clock.monotonic()
            if (spent := self._spent()) != reported or now - reported_at >= _BEAT:
                self._first.send(spent)
                reported, reported_at = spent, now

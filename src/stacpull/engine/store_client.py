"""The network process's side of the store: it starts the store process, and sends it what came in.

`engine.part_sender` decides what is sent with its body.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import msgspec

from stacpull.child_process import Started, reap, spawn
from stacpull.config.environment import variables_of
from stacpull.engine import store_messages as messages
from stacpull.engine.channel import Channel
from stacpull.engine.messages import Arrivals, ErrorReport, PartsWritten, encoded, error_of, framed
from stacpull.engine.mirror_operations import MirrorOperations
from stacpull.engine.part_sender import LONGEST_TO_DIRECTORY, PartSender
from stacpull.errors import DestinationError
from stacpull.events import Listener, Notice
from stacpull.ledger.outcomes import AssetFailure, Confirmed
from stacpull.ledger.runs import Run, RunFlags
from stacpull.models import Arrival, BucketLocation, Failure, FailureKind, Job
from stacpull.python_process import import_early
from stacpull.redact import Secrets
from stacpull.schemes import SCHEMES
from stacpull.store.protocol import LONGEST_HELD, Store, remote_store

P = ParamSpec("P")
T = TypeVar("T")

_ENDED = (
    "The process that writes to the destination ended unexpectedly: what it recorded is safe. "
    "Run `stacpull resume`."
)
_PROCESS = "store process"
"""The process as errors name it."""
_BUFFER = 4 << 20
"""Bytes that the socket may hold, as far as the system allows."""


@asynccontextmanager
async def started_store(location: BucketLocation | None = None) -> AsyncIterator[Started]:
    """Start a store process, to be used by one run in the block; it ends with the block.

    It is started early: what it imports takes as long as a source takes to answer. For a bucket, both
    processes begin to import the library of its service.

    Args:
        location: DEST, if it is a bucket.

    Raises:
        WorkerError: The process cannot be started.
    """
    modules = () if location is None else SCHEMES[location.scheme].dest_modules
    process, sock = await asyncio.to_thread(spawn, "stacpull.engine.store_server", arguments=modules)
    import_early(modules)
    try:
        yield process, sock
    finally:
        sock.close()
        await asyncio.to_thread(reap, process)


class StoreClient(PartSender):
    """The store process, as the network process sees it. To be used on one event loop."""

    def __init__(
        self,
        destination: Store,
        run: Run,
        secrets: Secrets,
        *,
        checksum: str | None,
        slots: int,
        on_event: Listener,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        """Prepare; `open` opens the mirror.

        Args:
            destination: DEST, for the parts that are written here.
            run: The run.
            secrets: Removed from everything that is written.
            checksum: Algorithm of the digest that is recorded; None: none.
            slots: Assets that may be in flight.
            on_event: Called on the loop with what the store process reports to the user.
            on_broken: Called on the loop with the reason why nothing can be written any more.
        """
        super().__init__(
            slots,
            destination,
            longest=LONGEST_TO_DIRECTORY if destination.is_local else LONGEST_HELD,
            checksum=checksum,
            on_broken=on_broken,
        )
        self.counters: Mapping[str, int | None] = run.counters
        """The counters of the run after the last transaction."""
        self._destination = destination
        self._run = run
        self._secrets = secrets
        self._known_there: frozenset[str] | None = None
        self._checksum = checksum
        self._on_event = on_event
        self._on_broken = on_broken
        self._channel = Channel(messages.decode_to_network, self._hear, on_broken, self._on_lost)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, tuple[asyncio.Future[Any], messages.StoreOperation]] = {}
        self._number = 0
        self._confirmations: deque[Callable[[int], None]] = deque()
        """What to call when the store process has the bodies of a message, in their order."""
        self._closed: asyncio.Future[ErrorReport | None] = self._loop.create_future()
        self._failure: BaseException | None = None
        self._closing = False

    # --- start and end -----------------------------------------------------------------------------------

    async def open(self, started: Started, requests: RunFlags, lock: int) -> None:
        """Have the store process open the mirror.

        Args:
            started: The process, and our end of its socket.
            requests: What the run was started with.
            lock: The descriptor of the mirror's lock, which the process holds as well until it ends.

        Raises:
            DestinationError: The process has ended.
        """
        self._process, sock = started
        self._known_there = self._secrets.values
        dest = os.fsencode(self._destination.work)
        remote = remote_store(self._destination)
        variables = {} if remote is None else variables_of(SCHEMES[remote.location.scheme].dest_variables)
        secrets = self._secrets.revealed()
        opening = messages.OpenMirror(dest, self._run.id, requests, self._checksum, *secrets, variables)
        try:
            await asyncio.to_thread(socket.send_fds, sock, [framed(opening)], [lock])
        except OSError as error:
            raise DestinationError(_ENDED) from error
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        await self._channel.open(sock)
        self.start_writer()

    def stop(self) -> None:
        """Have operations end early that take long."""
        self._channel.send(messages.StopEarly())

    async def close(self) -> None:
        """Have everything published and recorded, and end the process.

        Raises:
            DestinationError: The ledger could not be brought to the disk, or the process ended before that.
        """
        self._closing = True
        was_open = self._channel.is_open
        if was_open:
            self._channel.send(messages.CloseMirror())
            ends: list[asyncio.Future[Any]] = [self._closed, self._channel.lost]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self._channel.close()
        if self._process is not None:
            await asyncio.to_thread(reap, self._process)
        if self._closed.done() and (error := self._closed.result()) is not None:
            raise error_of(error, _PROCESS)
        if was_open and not self._closed.done():
            raise DestinationError(_ENDED)

    # --- what came in ------------------------------------------------------------------------------------

    def send_arrivals(self, arrivals: list[Arrival]) -> None:
        """See `PartSender.send_arrivals`."""
        self._send_on(arrivals, self.confirmed)

    def deliver(self, arrivals: list[Arrival], confirmed: Callable[[int], None]) -> None:
        """Have assets published that a worker process has received.

        Args:
            arrivals: The assets.
            confirmed: Called with how many bodies there were, when the store process has them.
        """
        self._unpublished += len(arrivals)
        self._send_on(arrivals, confirmed)

    def _send_on(self, arrivals: list[Arrival], confirmed: Callable[[int], None]) -> None:
        if any(one.body is not None for one in arrivals):
            self._confirmations.append(confirmed)
        self._channel.send(Arrivals(arrivals))

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Have it recorded that an asset failed for good, or is not ready yet."""
        counted = 0 if failure.kind is FailureKind.ORDERED else attempts
        scrubbed = failure.scrubbed(self._secrets)
        self._channel.send(messages.RecordFailure(AssetFailure(job.row, job.item_row, scrubbed, counted)))

    def confirm(self, job: Job) -> None:
        """Have it recorded that the source says that an asset has not changed."""
        self._channel.send(messages.RecordUnchanged(Confirmed(job.row, job.item_row, job.generation)))

    # --- operations --------------------------------------------------------------------------------------

    async def call(
        self, operation: Callable[Concatenate[MirrorOperations, P], T], *arguments: P.args, **_: P.kwargs
    ) -> T:
        """Have the store process carry out an operation, and return its result.

        Args:
            operation: A method of `MirrorOperations`.
            arguments: Its arguments, by position.

        Raises:
            DestinationError: The ledger or the disk fails, or did before; also if the process has ended.
            StacpullError: As the operation.
        """
        if not self._channel.is_open:
            raise self._failure or DestinationError("The mirror is closed: nothing can be written to it.")
        if self._secrets.values is not self._known_there:
            self._known_there = self._secrets.values
            self._channel.send(messages.LearnedSecrets(*self._secrets.revealed()))
        self._number += 1
        number, future = self._number, self._loop.create_future()
        self._waiting[number] = future, messages.operation(operation.__name__)
        self._channel.send(
            messages.OperationCall(number, operation.__name__, msgspec.Raw(encoded(arguments)))
        )
        try:
            return cast("T", await future)
        finally:
            self._waiting.pop(number, None)

    # --- what the store process reports ----------------------------------------------------------------

    def _on_lost(self) -> None:
        """Note that the store process is gone: unless it was to end, the run ends."""
        if not (self._closing and self._closed.done()):
            error = self._closed.result() if self._closed.done() else None
            self._failure = DestinationError(_ENDED) if error is None else error_of(error, _PROCESS)
            self._on_broken(self._failure)
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(self._failure or DestinationError("The mirror is closed."))

    def _hear(self, message: messages.ToNetwork) -> None:
        match message:
            case messages.OperationResult():
                self._take_counters(message.counters)
                self._answer(message)
            case PartsWritten(count):
                self._confirmations.popleft()(count)
            case messages.PartsPublished(count, counters):
                self._take_counters(counters)
                self.published(count)
            case messages.AssetsFailed(failed):
                for event in failed:
                    self._on_event(event)
            case messages.StoreWarning(text):
                self._on_event(Notice("warning", text))
            case messages.StoreStage(stage):
                self._on_event(stage)
            case messages.StoreBroken(error):
                self._on_broken(error_of(error, _PROCESS))
            case messages.MirrorClosed(error):
                self._closed.set_result(error)

    def _take_counters(self, counters: messages.Counters) -> None:
        if counters:
            self.counters = counters

    def _answer(self, answer: messages.OperationResult) -> None:
        future, operation = self._waiting.pop(answer.number, (None, None))
        if future is None or operation is None or future.done():
            return
        if answer.error is not None:
            future.set_exception(error_of(answer.error, _PROCESS))
        else:
            future.set_result(operation.result.decode(answer.result))

"""The network process's side of the store: it starts the store process, and sends it what came in.

Bodies of small files go through the socket, in batches; longer ones are written as whole parts by a thread of
this process, and only their names are sent. How much may wait here is bounded by the slots of
`engine.intake`, which are free again when the store process says that a part is on the disk.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import msgspec

from stacpull.config.environment import variables_of
from stacpull.engine import store_messages as messages
from stacpull.engine.channel import Channel
from stacpull.engine.child_process import Started, reap, spawn
from stacpull.engine.messages import (
    ErrorReport,
    encoded,
    error_of,
    framed,
)
from stacpull.engine.mirror_operations import MirrorOperations
from stacpull.errors import DestinationError
from stacpull.events import AssetFailed, Stage
from stacpull.ledger.outcomes import AssetFailure, Confirmed
from stacpull.ledger.runs import Run, RunFlags
from stacpull.models import BucketLocation, Failure, FailureKind, IncomingPart, Job, Received, incoming_part
from stacpull.python_process import import_early
from stacpull.redact import Secrets
from stacpull.schemes import SCHEMES
from stacpull.store.protocol import Store, remote_store
from stacpull.store.writer import BodyWriter

P = ParamSpec("P")
T = TypeVar("T")

_MAX_BODY_OVER_SOCKET = 32 << 10
"""Bytes of a body that is sent through the socket; copying a longer one costs more than writing it here."""
_SMALL_FOR_BUCKET = 8 << 20
"""The same where the store process uploads it: it needs no file then."""
_BATCH = 64
_BATCH_SIZE = 1 << 20
"""Bytes."""
_GATHER = 0.002
"""Seconds that a body waits for others: each message costs both processes a system call."""
_ENDED = (
    "The process that writes to the destination ended unexpectedly: what it recorded is safe. "
    "Run `stacpull resume`."
)
_PROCESS = "store process"
"""What takes 0.2 s to import where DEST is a bucket."""
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


class StoreEvents(msgspec.Struct, frozen=True):
    """What the network process does about what the store process reports; all are called on the loop."""

    written: Callable[[int], None]
    """So many parts are on the disk."""
    published: Callable[[int], None]
    """So many parts are under their final names."""
    failed: Callable[[list[AssetFailed]], None]
    warned: Callable[[str], None]
    stage: Callable[[Stage], None]
    broken: Callable[[BaseException], None]
    """Nothing can be written any more."""


class StoreClient:
    """The store process, as the network process sees it. To be used on one event loop."""

    def __init__(
        self, destination: Store, run: Run, secrets: Secrets, checksum: str | None, on: StoreEvents
    ) -> None:
        """Prepare; `open` opens the mirror.

        Args:
            destination: DEST, for the parts that are written here.
            run: The run.
            secrets: Removed from everything that is written.
            checksum: Algorithm of the digest that is recorded; None: none.
            on: Called with what happens.
        """
        self.counters: Mapping[str, int | None] = run.counters
        """The counters of the run after the last transaction."""
        self._destination = destination
        self._run = run
        self._secrets = secrets
        self._known_there: frozenset[str] | None = None
        self._checksum = checksum
        self._on = on
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(messages.decode_to_network, self._hear, on.broken, self._on_lost)
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: dict[int, tuple[asyncio.Future[Any], messages.StoreOperation]] = {}
        self._number = 0
        self._small = _MAX_BODY_OVER_SOCKET if destination.is_local else _SMALL_FOR_BUCKET
        self._batch: list[IncomingPart] = []
        self._batch_size = 0
        self._on_taken: list[Callable[[], None]] = []
        """What is called when the store process has the bodies of the batch."""
        self._sent: deque[list[Callable[[], None]]] = deque()
        """The same of each message that was sent, and that the store process has not reported yet."""
        self._closed: asyncio.Future[ErrorReport | None] = self._loop.create_future()
        self._failure: BaseException | None = None
        self._closing = False
        self._writer = BodyWriter(
            destination,
            checksum=checksum,
            deliver=partial(self._on_loop, self._deliver_written),
            on_error=partial(self._on_loop, on.broken),
        )

    def _on_loop(self, function: Callable[[T], None], value: T) -> None:
        """Call a function on the loop, from the writer's thread."""
        self._loop.call_soon_threadsafe(function, value)

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
        self._writer.start()

    async def flush(self) -> None:
        """Send everything that was put in; nothing may be put in after that."""
        await asyncio.to_thread(self._writer.close)
        self._send_batch()

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

    def put(self, job: Job, received: Received) -> None:
        """Have an asset that came in published."""
        if received.body is None or received.size > self._small:
            self._writer.put(job, received)
            return
        self._batch.append(incoming_part(job, received, received.body, sha256=received.sha256))
        self._batch_size += received.size
        if received.on_taken is not None:
            self._on_taken.append(received.on_taken)
        if len(self._batch) >= _BATCH or self._batch_size >= _BATCH_SIZE:
            self._send_batch()
        elif len(self._batch) == 1:
            self._loop.call_later(_GATHER, self._send_batch)

    def _send_batch(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_size = self._batch, [], 0
            on_taken, self._on_taken = self._on_taken, []
            self._sent.append(on_taken)
            self._channel.send(messages.IncomingParts(batch, len(batch)))

    def deliver(self, parts: list[IncomingPart]) -> None:
        """Have whole parts published that a worker process has written."""
        self._channel.send(messages.IncomingParts(parts, 0))

    def _deliver_written(self, batch: list[IncomingPart]) -> None:
        self._sent.append([])
        self._channel.send(messages.IncomingParts(batch, len(batch)))

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
            self._on.broken(self._failure)
        for future, _ in self._waiting.values():
            if not future.done():
                future.set_exception(self._failure or DestinationError("The mirror is closed."))

    def _hear(self, message: messages.ToNetwork) -> None:
        match message:
            case messages.OperationResult():
                self._take_counters(message.counters)
                self._answer(message)
            case messages.PartsWritten(count):
                for taken in self._sent.popleft():
                    taken()
                self._on.written(count)
            case messages.PartsPublished(count, counters):
                self._take_counters(counters)
                self._on.published(count)
            case messages.AssetsFailed(failed):
                self._on.failed(failed)
            case messages.StoreWarning(text):
                self._on.warned(text)
            case messages.StoreStage(stage):
                self._on.stage(stage)
            case messages.StoreBroken(error):
                self._on.broken(error_of(error, _PROCESS))
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

"""The end of the network process: what it sends to the store process, and calls there.

An asset has a slot until its bytes are on the disk, they were sent, or it has failed. No slot is freed while
the store process does not take what was sent, because too much waits to be published: so memory and files are
limited, and all processes wait for a slow disk or bucket.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from copy import copy
from functools import partial
from types import NoneType
from typing import Any, TypeVar, cast

import msgspec

from stacpull.child_process import ChildProcess, Started, reap, spawned
from stacpull.digests import digest_of
from stacpull.engine import messages
from stacpull.engine.messages import LENGTH, Arrivals, encoded, error_of, framed
from stacpull.engine.pool import OutcomeSink
from stacpull.engine.workspace import Workspace
from stacpull.errors import DestinationError, StacpullError
from stacpull.events import Listener
from stacpull.ledger.runs import Run
from stacpull.models import Arrival, AssetOutcome, Checksum, Failure, FailureKind, Job
from stacpull.proxies import proxy_variables
from stacpull.redact import Secrets
from stacpull.runtime import BUS_ERROR, import_early
from stacpull.store.protocol import Store, store_kind
from stacpull.store.staging import complete_part_name
from stacpull.system import variables_of
from stacpull.threads import in_thread, to_its_end

T = TypeVar("T")

LONGEST_SENT = 32 << 10
"""The most bytes of a body that is sent: copying a longer one takes longer than writing it here."""
_MOST_UNSENT = 4 << 20
"""Bytes that wait for the socket, above which a channel is full."""
_BATCH = 64
_BATCH_SIZE = 1 << 20  # bytes
_GATHER = 0.002
"""Seconds that a body waits for others: messages and wake-ups of a thread take system calls."""
_ENDED = (
    "The process of stacpull that writes to the destination ended unexpectedly: it was killed, or crashed. "
    "What it recorded is safe. Repeat the command to continue."
)
_PROCESS = "store process"


class Channel(asyncio.Protocol):
    """One end of a socket between two processes. `broken` gets errors that the loop would only log."""

    def __init__(self, on_message: Callable[[bytes], None], broken: Callable[[BaseException], None]) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._on_message = on_message
        self._broken = broken
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._waiting: list[Callable[[], object]] = []

    async def open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing of asyncio's
        self._transport.set_write_buffer_limits(_MOST_UNSENT)

    def data_received(self, data: bytes) -> None:
        received, head = self._received, LENGTH.size
        received += data
        try:
            while len(received) >= head and len(received) >= (end := head + LENGTH.unpack_from(received)[0]):
                message = bytes(memoryview(received)[head:end])
                del received[:end]
                self._on_message(message)
        except BaseException as error:  # noqa: BLE001 -- raised at the end of the run
            self._broken(error)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(None)
        self.resume_writing()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        waiting, self._waiting = self._waiting, []
        for on_room in waiting:
            on_room()

    def send(self, message: msgspec.Struct, on_room: Callable[[], object] = lambda: None) -> None:
        """Send a message. `on_room` is called at once, or if the channel is full, when it no longer is."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed(message))
        if self._is_full:
            self._waiting.append(on_room)
        else:
            on_room()

    def pause(self) -> Callable[[], object]:
        """Read nothing until the returned function is called, so that the other end becomes full."""
        transport = cast("asyncio.Transport", self._transport)  # it has just received a message
        transport.pause_reading()
        return transport.resume_reading

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.write_eof()
            await self.lost


class OutcomeSender(OutcomeSink[Job, Arrival | None]):
    """Sends outcomes to the store process, in batches; writes bodies of more than `longest` bytes itself."""

    def __init__(
        self,
        store: Store,
        send: Callable[..., None],
        secrets: Secrets,
        *,
        longest: int,
        checksum: str | None,
        on_broken: Callable[[BaseException], None],
        slots: int,
    ) -> None:
        super().__init__(slots)
        self._staged = store.staged
        self._send_message = send
        self._secrets = secrets
        self._longest = longest
        self._checksum = None if checksum is None else Checksum(checksum, b"")
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._batch: list[Arrival] = []
        self._batch_size = 0
        self._long: list[Arrival] = []
        self._writer = ThreadPoolExecutor(1, "stacpull-writer")
        self._writing: set[asyncio.Future[list[Arrival]]] = set()

    def put(self, job: Job, arrival: Arrival | None) -> None:
        """Take an asset that was received; None if it has not changed."""
        if arrival is None:
            self.send_unchanged(job)
            self.free_slots()
            return
        if arrival.body is None or arrival.size > self._longest:
            # `engine.sharing` still uses a body, which is dropped there; of a part it needs the identity
            self._long.append(arrival if arrival.body is None else copy(arrival))
            if len(self._long) == 1:
                self._loop.call_later(_GATHER, self._write_long)
            return
        arrival.part = complete_part_name(arrival)
        self._batch.append(arrival)
        self._batch_size += arrival.size
        if len(self._batch) >= _BATCH or self._batch_size >= _BATCH_SIZE:
            self._send_batch()
        elif len(self._batch) == 1:
            self._loop.call_later(_GATHER, self._send_batch)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        counted = 0 if failure.kind is FailureKind.ORDERED else attempts
        cut = failure.scrubbed(self._secrets)
        self._send_message(AssetOutcome(job.row, job.item_row, job.generation, cut, counted))

    def send_unchanged(self, job: Job) -> None:
        self._send_message(AssetOutcome(job.row, job.item_row, job.generation, None))

    def send(self, arrivals: list[Arrival], on_room: Callable[[], object]) -> None:
        self._send_message(Arrivals(arrivals), on_room)

    async def flush(self) -> None:
        """Write and send everything. Nothing may be added after that."""
        self._write_long()
        try:
            while self._writing:
                await asyncio.wait(self._writing)
        finally:
            await to_its_end(self._writer.shutdown)  # the descriptors of DEST are closed next
        self._send_batch()

    def _send_batch(self) -> None:
        if self._batch:
            batch, self._batch, self._batch_size = self._batch, [], 0
            self.send(batch, partial(self.free_slots, len(batch)))

    def _write_long(self) -> None:
        long, self._long = self._long, []
        if long:
            writing = self._loop.run_in_executor(self._writer, self._write, long)
            self._writing.add(writing)
            writing.add_done_callback(self._send_written)

    def _write(self, arrivals: list[Arrival]) -> list[Arrival]:
        for arrival in arrivals:
            part, arrival.part = arrival.part, complete_part_name(arrival)
            if arrival.body is not None:
                if self._checksum is not None:
                    arrival.digest = digest_of(self._checksum, arrival.body)
                arrival.identity = self._staged.write_part(arrival.part, arrival.body)
                arrival.body = None
            elif part != arrival.part or not arrival.identity:  # the ETag, which is in the name, was escaped
                arrival.identity = self._staged.rename_part(part, arrival.part)
        return arrivals

    def _send_written(self, writing: asyncio.Future[list[Arrival]]) -> None:
        self._writing.discard(writing)
        if (error := writing.exception()) is not None:
            self._on_broken(error)
            return
        arrivals = writing.result()
        self.send(arrivals, partial(self.free_slots, len(arrivals)))


class StoreClient:
    """Calls the store process. `on_broken` gets the error after which nothing can be written."""

    def __init__(
        self,
        workspace: Workspace,
        run: Run,
        secrets: Secrets,
        *,
        checksum: str | None,
        slots: int,
        on_event: Listener,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        self.counters: Mapping[str, int] = run.counters
        work = os.fsencode(workspace.store.staged.work)
        self._opening = partial(messages.Open, work, workspace.bucket, run.id, checksum)
        self._workspace = workspace
        self._secrets = secrets
        self._known_there: frozenset[str] | None = None
        self._on_event = on_event
        self._on_broken = on_broken
        self._channel = Channel(self._take_message, on_broken)
        self._channel.lost.add_done_callback(self._check_end)
        self.sender = OutcomeSender(
            workspace.store,
            self._channel.send,
            secrets,
            longest=LONGEST_SENT,
            checksum=checksum,
            on_broken=on_broken,
            slots=slots,
        )
        self._process: ChildProcess | None = None
        self._calls: deque[asyncio.Future[messages.OperationResult]] = deque()
        self._ends: list[messages.ErrorReport | None] = []
        """What it said of its end: an error, or that everything is recorded. Since `close`, if that began."""
        self._closing = False

    @staticmethod
    def started(modules: Sequence[str] = ()) -> AbstractAsyncContextManager[Started]:
        """Start a store process early; both processes import `modules` in the background."""
        import_early(modules)
        return in_thread(spawned("stacpull.engine.store_process", modules))

    async def open(self, started: Started) -> None:
        """Open the mirror in the store process, which also holds the mirror's lock until it ends."""
        stops, self._stopping = socket.socketpair()
        self._process, sock = started
        self._known_there = self._secrets.values
        variables: dict[str, str] = {}
        if (bucket := self._workspace.bucket) is not None:
            variables = {**variables_of(store_kind(bucket).variables), **proxy_variables()}
        try:
            with stops:
                socket.send_fds(sock, [b"\0"], [self._workspace.lock, stops.fileno()])
        except OSError as error:
            raise await asyncio.to_thread(self._error) from error
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)  # bytes, if the system allows it
        await self._channel.open(sock)
        self._channel.send(self._opening(self._secrets.revealed(), variables))

    async def pass_on_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopping.close()

    async def close(self) -> None:
        self._closing = True
        self._ends.clear()
        was_open = not self._channel.lost.done()
        if self._process is not None:
            self._stopping.close()
            await self._channel.close()
            await asyncio.to_thread(reap, self._process)
        if any(self._ends) or (was_open and not self._ends):
            raise self._error()

    async def call(self, operation: str, *arguments: object, returns: type[T] = NoneType) -> T:  # type: ignore[assignment]
        secrets = None
        if self._secrets.values is not self._known_there:
            self._known_there = self._secrets.values
            secrets = self._secrets.revealed()
        message = messages.Operation(operation, msgspec.Raw(encoded(arguments)), secrets)
        future: asyncio.Future[messages.OperationResult] = asyncio.get_running_loop().create_future()
        if not self._channel.lost.done():
            self._calls.append(future)
            self._channel.send(message)
            ends: list[asyncio.Future[Any]] = [future, self._channel.lost]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            raise await asyncio.to_thread(self._error)
        if (failure := future.result().error) is not None:
            raise error_of(failure, _PROCESS)
        return msgspec.msgpack.decode(future.result().result, type=returns)

    def _check_end(self, _lost: asyncio.Future[None]) -> None:
        if not (self._closing and self._ends):
            failure = asyncio.get_running_loop().run_in_executor(None, self._error)
            failure.add_done_callback(lambda failure: self._on_broken(failure.result()))

    def _error(self) -> StacpullError:
        if (error := next(filter(None, self._ends), None)) is not None:
            return error_of(error, _PROCESS)
        is_bus_error = self._process is not None and reap(self._process) == -signal.SIGBUS
        return DestinationError(BUS_ERROR if is_bus_error else _ENDED)

    def _take_message(self, data: bytes) -> None:
        match messages.decode_to_network(data):
            case messages.OperationResult() as result:
                self._calls.popleft().set_result(result)
            case messages.RunCounters(counters):
                self.counters = counters
            case messages.Happened(event):
                self._on_event(event)
            case messages.Ended(error):
                self._ends.append(error)
                if error is not None and not self._closing:
                    self._on_broken(error_of(error, _PROCESS))

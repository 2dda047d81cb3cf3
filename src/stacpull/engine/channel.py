"""The channel between two processes, and `OutcomeSender`, which sends the outcome of each asset through it.

Each asset in flight has a slot. The slot becomes free when the asset has failed, or when its bytes are on the
disk or were sent. If too many parts wait to be published, the store process stops reading, and no slots
become free. So memory and unpublished files are bounded, and a slow disk or bucket slows both processes.
"""

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from copy import copy
from functools import partial
from typing import cast

import attrs
import msgspec

from stacpull.engine.messages import LENGTH, Outcomes, framed
from stacpull.engine.pool import OutcomeSink
from stacpull.models import AssetFile, Failure, FailureKind, Job, OutcomeWithoutFile
from stacpull.redact import Secrets
from stacpull.store.staging import StagedParts
from stacpull.threads import shielded_to_thread
from stacpull.transfer.attempt import FetchResult

OnWritable = Callable[[], object]  # called once a channel is not full

_MAX_UNSENT = 4 << 20  # bytes that wait for the socket: with more, a channel is full
_BATCH = 64
_BATCH_SIZE = 1 << 20  # bytes
_BATCH_DELAY = 0.002  # seconds that an outcome waits for others: each message takes system calls


class Channel(asyncio.Protocol):
    """One end of a socket between two processes. `handle` takes messages, and `on_error` what it raises."""

    def __init__(self, handle: Callable[[bytes], None], on_error: Callable[[BaseException], None]) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._received = bytearray()
        self._handle = handle
        self._on_error = on_error
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._waiting: list[OnWritable] = []

    async def open(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=sock)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it
        self._transport.set_write_buffer_limits(_MAX_UNSENT)

    def data_received(self, data: bytes) -> None:
        received = self._received
        head = LENGTH.size
        received += data
        while len(received) >= head:
            end = head + LENGTH.unpack_from(received)[0]
            if len(received) < end:
                return
            message = bytes(memoryview(received)[head:end])
            del received[:end]
            try:
                self._handle(message)
            except BaseException as error:  # noqa: BLE001 -- raised at the end of the run
                self._on_error(error)

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
        for on_writable in waiting:
            on_writable()

    def send(self, message: msgspec.Struct, on_writable: OnWritable = lambda: None) -> None:
        """Send a message. `on_writable` is called once the channel is not full: usually at once."""
        if self._transport is not None and not self._transport.is_closing():
            for piece in framed(message):  # `writelines` of Python 3.12 and 3.13.0 never pauses the writer
                self._transport.write(piece)
        if self._is_full:
            self._waiting.append(on_writable)
        else:
            on_writable()

    def pause(self) -> Callable[[], object]:
        """Read nothing until the returned function is called, so that the other end becomes full."""
        transport = cast("asyncio.Transport", self._transport)  # it is open: it has just received a message
        transport.pause_reading()
        return transport.resume_reading

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.write_eof()
            await self.lost


@attrs.define(eq=False)
class OutcomeSender(OutcomeSink[Job, FetchResult]):
    """Sends outcomes in batches; writes bodies of more than `max_size` bytes itself."""

    _staged: StagedParts
    send_to_store: Callable[[Outcomes, OnWritable], None]
    _secrets: Secrets
    _max_size: int
    _digest_algorithm: str | None
    _on_error: Callable[[BaseException], None]
    _loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.get_running_loop)
    _batch: Outcomes = attrs.field(factory=Outcomes)
    _batch_size: int = 0
    _unsent_parts: list[AssetFile] = attrs.field(factory=list)
    _writer: Executor = attrs.field(factory=lambda: ThreadPoolExecutor(1, "stacpull-writer"))
    _finishing: set[asyncio.Future[list[AssetFile]]] = attrs.field(factory=set)

    def put(self, job: Job, file: FetchResult) -> None:
        if file is None:
            unchanged = OutcomeWithoutFile(job.rowid, job.item_rowid, job.generation, None)
            self._batch.without_file.append(unchanged)
        elif file.body is not None and file.size <= self._max_size:
            self._batch.files.append(file)
            self._batch_size += file.size
        else:
            if file.body is not None:  # `_finish` drops the body, which `SharedDownloads` may still use
                file = copy(file)
            self._unsent_parts.append(file)
            if len(self._unsent_parts) == 1:
                self._loop.call_later(_BATCH_DELAY, self._finish_parts)
            return
        self._send_if_due()

    def fail(self, job: Job, failure: Failure) -> None:
        masked = failure.masked(self._secrets)
        if failure.kind is FailureKind.ORDERED:
            masked = msgspec.structs.replace(masked, attempts=0)
        self._batch.without_file.append(OutcomeWithoutFile(job.rowid, job.item_rowid, job.generation, masked))
        self._send_if_due()

    async def flush(self) -> None:
        """Write and send everything that was put. Nothing may be put after that."""
        self._finish_parts()
        try:
            while self._finishing:
                await asyncio.wait(self._finishing)
        finally:
            await shielded_to_thread(self._writer.shutdown)  # the descriptors of DEST are closed next
        self._send_batch()

    def _send_if_due(self) -> None:
        waiting = len(self._batch.files) + len(self._batch.without_file)
        if waiting >= _BATCH or self._batch_size >= _BATCH_SIZE:
            self._send_batch()
        elif waiting == 1:
            self._loop.call_later(_BATCH_DELAY, self._send_batch)

    def _send_batch(self) -> None:
        batch, self._batch = self._batch, Outcomes()
        self._batch_size = 0
        if batch.files or batch.without_file:
            self._send(batch)

    def _finish_parts(self) -> None:
        files, self._unsent_parts = self._unsent_parts, []
        if files:
            finishing = self._loop.run_in_executor(self._writer, self._finish, files)
            self._finishing.add(finishing)
            finishing.add_done_callback(self._send_finished)

    def _finish(self, files: list[AssetFile]) -> list[AssetFile]:
        for file in files:
            if file.body is None:
                file.identity, _ = self._staged.part_identity_and_size(file.part) or (0, 0)
            else:
                self._staged.write_body(file, self._digest_algorithm)
        return files

    def _send_finished(self, finishing: asyncio.Future[list[AssetFile]]) -> None:
        self._finishing.discard(finishing)
        error = finishing.exception()
        if error is None:
            self._send(Outcomes(finishing.result()))
        else:
            self._on_error(error)

    def _send(self, outcomes: Outcomes) -> None:
        unchanged = [outcome for outcome in outcomes.without_file if outcome.failure is None]
        slots = len(outcomes.files) + len(unchanged)  # that of a failed asset was released by its task
        self.send_to_store(outcomes, partial(self.release_slots, slots))

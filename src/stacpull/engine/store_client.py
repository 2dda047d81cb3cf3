"""The store for the network process: it starts the store process, and calls its operations.

`engine.outcome_sender` sends received assets to the store process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, TypeVarTuple, cast

import msgspec

from stacpull.child_process import ChildProcess, Started, reap, spawn
from stacpull.config.environment import variables_of
from stacpull.engine import store_messages as messages
from stacpull.engine.channel import Channel
from stacpull.engine.messages import ErrorReport, PartsWritten, encoded, error_of, framed
from stacpull.engine.outcome_sender import LONGEST_SENT, OutcomeSender
from stacpull.engine.store_operations import StoreOperations
from stacpull.errors import DestinationError, StacpullError
from stacpull.events import Listener
from stacpull.ledger.runs import Run
from stacpull.models import BucketLocation
from stacpull.proxies import proxy_variables
from stacpull.python_process import import_early
from stacpull.redact import Secrets
from stacpull.runtime import BUS_ERROR
from stacpull.store.protocol import Store, store_kind
from stacpull.threads import in_thread

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

_ENDED = (
    "The process of stacpull that writes to the destination ended unexpectedly: it was killed, or crashed. "
    "What it recorded is safe. Repeat the command to continue."
)
_PROCESS = "store process"
"""The process as errors name it."""
_BUFFER = 4 << 20
"""Bytes of the socket's buffer, if the system allows it."""
_MOST_UNPUBLISHED = 4096
"""Complete parts that may wait to be published."""


class StoreClient:
    """The interface to the store process. Use it on one event loop."""

    def __init__(
        self,
        destination: Store,
        bucket: BucketLocation | None,
        run: Run,
        secrets: Secrets,
        *,
        checksum: str | None,
        slots: int,
        on_event: Listener,
        on_broken: Callable[[BaseException], None],
    ) -> None:
        """Create the client; `open` opens the mirror.

        `on_event` and `on_broken` are called on the loop: with events for the user, and with the error after
        which nothing can be written.
        """
        self.counters: Mapping[str, int | None] = run.counters
        """The counters of the run after the last transaction."""
        self._destination = destination
        self._bucket = bucket
        self._run = run
        self._secrets = secrets
        self._known_there: frozenset[str] | None = None
        self._checksum = checksum
        self._on_event = on_event
        self._on_broken = on_broken
        self._channel = Channel(messages.decode_to_network, self._take_message, on_broken, self._on_lost)
        self.outcomes = OutcomeSender(
            destination,
            self._channel.send,
            secrets,
            longest=LONGEST_SENT,
            checksum=checksum,
            on_broken=on_broken,
            slots=slots,
            most_unpublished=_MOST_UNPUBLISHED,
        )
        """Sends the outcomes of a pool."""
        self._process: ChildProcess | None = None
        self._end: list[ErrorReport | None] = []
        """What `MirrorClosed` had, once it has come."""
        self._failure: asyncio.Future[StacpullError] | None = None
        self._closing = False

    @staticmethod
    @asynccontextmanager
    async def started(modules: Sequence[str] = ()) -> AsyncIterator[Started]:
        """Start a store process for one run. It ends with the block.

        It is started early, because its imports take as long as the first response of a source. Both
        processes import `modules` in the background.
        """

        @contextmanager
        def spawned() -> Iterator[Started]:
            process, sock = spawn("stacpull.engine.store_server", arguments=modules)
            try:
                yield process, sock
            finally:
                sock.close()
                reap(process)

        async with in_thread(spawned()) as started:
            import_early(modules)
            yield started

    async def open(self, started: Started, lock: int) -> None:
        """Open the mirror in the store process, which also holds the mirror's lock until it ends."""
        self._process, sock = started
        self._known_there = self._secrets.values
        variables: dict[str, str] = {}
        if self._bucket is not None:
            variables = {**variables_of(store_kind(self._bucket).variables), **proxy_variables()}
        dest = os.fsencode(self._destination.staged.work)
        opening = messages.OpenMirror(
            dest, self._bucket, self._run.id, self._checksum, self._secrets.revealed(), variables
        )
        try:
            await asyncio.to_thread(socket.send_fds, sock, [framed(opening)], [lock])
        except OSError as error:
            raise await asyncio.to_thread(self._ended) from error
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        await self._channel.open(sock)

    def stop(self) -> None:
        self._channel.send(messages.StopEarly())

    async def close(self) -> None:
        """Publish and record everything, and end the process."""
        self._closing = True
        was_open = self._channel.is_open
        await self._channel.close()
        if self._process is not None:
            await asyncio.to_thread(reap, self._process)
        if (was_open and not self._end) or any(self._end):
            raise self._ended()

    async def call(self, operation: Callable[[Any, *Ts], T], *arguments: *Ts) -> T:
        """Call one of `store_messages.OPERATIONS` with these arguments after the first one."""
        if not self._channel.is_open:
            raise await self._why_closed()
        if self._secrets.values is not self._known_there:
            self._known_there = self._secrets.values
            await self.call(StoreOperations.learn, *self._secrets.revealed())
        call = messages.Call(0, messages.NUMBERS[operation], msgspec.Raw(encoded(arguments)))
        try:
            result: messages.OperationResult = await self._channel.request(call)
        except ConnectionError as error:
            raise await self._why_closed() from error
        if result.error is not None:
            raise error_of(result.error, _PROCESS)
        return cast("T", messages.decoders(operation)[1].decode(result.result))

    def _on_lost(self) -> None:
        """Handle the end of the store process. If it was not closed, the run ends."""
        if self._closing and self._end:
            return
        self._failure = asyncio.get_running_loop().run_in_executor(None, self._ended)
        self._failure.add_done_callback(lambda failure: self._on_broken(failure.result()))

    async def _why_closed(self) -> StacpullError:
        if self._failure is None:
            return DestinationError("The mirror is closed: nothing can be written to it.")
        return await asyncio.shield(self._failure)

    def _ended(self) -> StacpullError:
        """Return the error of a store process that ended unexpectedly. Blocks."""
        if self._end and (error := self._end[0]) is not None:
            return error_of(error, _PROCESS)
        is_bus_error = self._process is not None and reap(self._process) == -signal.SIGBUS
        return DestinationError(BUS_ERROR if is_bus_error else _ENDED)

    def _take_message(self, message: messages.ToNetwork) -> None:
        if isinstance(message, messages.OperationResult | messages.PartsPublished) and message.counters:
            self.counters = message.counters
        match message:
            case messages.OperationResult():
                self._channel.take_response(message)
            case PartsWritten(count):
                self.outcomes.bodies_written(count)
            case messages.PartsPublished(count):
                self.outcomes.published(count)
            case messages.StoreEvent(event):
                self._on_event(event)
            case messages.StoreBroken(error):
                self._on_broken(error_of(error, _PROCESS))
            case messages.MirrorClosed(error):
                self._end.append(error)

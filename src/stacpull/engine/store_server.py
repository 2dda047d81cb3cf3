"""The store process (`main`), which `store_client.py` starts.

    socket ─▶ reader: messages ─▶ queue ─▶ store thread: complete parts, operations, groups ─▶ DEST, ledger

One thread does all work, because two would mostly wait for the interpreter's lock. Only a sync has a thread
of its own. Meanwhile the store thread writes the parts of the next group.

The store process ends when the other end of its socket is closed: the network process has closed it, has
ended or was killed. The store process then publishes and records everything that was sent, and closes the
ledger. Until then it holds the lock of DEST, whose descriptor is in the first message. It ignores SIGINT and
SIGTERM, which a terminal sends to both processes: the network process handles them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import BinaryIO

import msgspec

from stacpull.clock import SystemClock
from stacpull.digests import digest_of
from stacpull.engine import store_messages as messages
from stacpull.engine.messages import (
    LENGTH,
    Arrivals,
    ErrorReport,
    PartsWritten,
    encoded,
    error_report,
    framed,
)
from stacpull.engine.store_operations import StoreOperations, as_destination_error
from stacpull.engine.workspace import opened_ledger
from stacpull.events import Notice
from stacpull.ledger import runs
from stacpull.ledger.database import bind_plainly, ledger_path, translated
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Arrival, Checksum
from stacpull.python_process import import_early
from stacpull.redact import Secret, Secrets
from stacpull.runtime import tune_memory
from stacpull.store.protocol import Store
from stacpull.store.worker_parts import is_name

_AFTER_FAILURE = {
    messages.operation_name(StoreOperations.add_effort),
    messages.operation_name(StoreOperations.findings),
    messages.operation_name(StoreOperations.end_run),
}
"""Operations that are still called after publishing has failed."""
_NOTHING = msgspec.Raw(encoded(None))

_Queued = Arrivals | list[Arrival] | AssetFailure | UnchangedAsset | messages.OperationCall | None
"""A list has assets whose parts are written. None is the end."""


class StoreServer:
    """Runs a `StoreOperations` for the network process at the other end of a socket."""

    def __init__(self, sock: socket.socket, *, is_process: bool = False) -> None:
        """Create the server; `serve` opens the mirror. `is_process`: nothing else uses this interpreter."""
        self._sock = sock
        self._is_process = is_process
        self._sending = threading.Lock()
        self._queue: SimpleQueue[_Queued] = SimpleQueue()
        self._postponed: deque[_Queued] = deque()
        """Messages that were taken from the queue during a sync. They come before those in the queue."""
        self._stopped = threading.Event()
        self._failed: Exception | None = None
        self._unfinished: Exception | None = None
        """The error of the last group. The next start looks at what is not recorded."""
        self._secrets = Secrets()
        self._dest = self._ledger = Path()
        self._checksum: Checksum | None = None
        """The algorithm of the digest to record, as an empty checksum."""
        self._operations: StoreOperations | None = None

    def serve(self) -> None:
        """Handle messages of the network process, until it closes the mirror or its end of the socket."""
        failure: ErrorReport | None = None
        try:
            with ExitStack() as opened:
                self._listen(opened)
        except Exception as error:  # noqa: BLE001 -- the network process raises it
            failure = error_report(error)
        self._send(messages.MirrorClosed(failure))

    def _listen(self, opened: ExitStack) -> None:
        start, locks, _, _ = socket.recv_fds(self._sock, LENGTH.size, 1)
        for lock in locks:
            opened.callback(os.close, lock)
        file = opened.enter_context(self._sock.makefile("rb"))
        for message in _received(file, start):
            if isinstance(message, messages.CloseMirror):
                return
            if isinstance(message, messages.OpenMirror):
                self._open(message, opened)
            else:
                self._take(message)

    def _open(self, message: messages.OpenMirror, opened: ExitStack) -> None:
        """Open the mirror, and start the thread that ends with the socket."""
        self._learn(message)
        if message.variables:
            from stacpull.config.environment import add_variables  # noqa: PLC0415 - it imports all options

            add_variables(message.variables)
        self._checksum = None if message.checksum is None else Checksum(message.checksum, b"")
        self._dest = Path(os.fsdecode(message.dest))
        self._ledger = ledger_path(self._dest)
        try:
            workspace = opened.enter_context(opened_ledger(self._dest, message.bucket, self._warn))
            if message.bucket is None and self._is_process:
                sys.modules.setdefault("urllib3", None)  # type: ignore[arg-type] # pystac: 30 ms, unused
            operations = self._operations = StoreOperations(
                workspace,
                runs.stored(workspace.db, message.run),
                checksum=message.checksum,
                secrets=self._secrets,
                clock=SystemClock(),
                is_stopped=self._stopped.is_set,
                on_published=lambda count: self._send(messages.PartsPublished(count, self._counters())),
                on_event=lambda event: self._send(messages.StoreEvent(event)),
                run_sync=self._run_sync,
            )
        except Exception as error:  # noqa: BLE001 -- the network process raises it
            self._break(error)
            return
        thread = threading.Thread(target=self._run, args=(operations,), name="stacpull-store", daemon=True)
        thread.start()
        opened.callback(self._raise_unfinished)
        opened.callback(thread.join)
        opened.callback(self._queue.put, None)
        opened.callback(self._stopped.set)

    def _learn(self, message: messages.OpenMirror | messages.LearnedSecrets) -> None:
        self._secrets.add(*map(Secret, message.secrets))
        self._secrets.learn(*map(Secret, message.learned_secrets), least=0)

    # --- the reader --------------------------------------------------------------------------------------

    def _take(self, message: messages.ToStore) -> None:
        match message:
            case messages.OperationCall() if self._operations is None:
                self._send(messages.OperationResult(message.number, _NOTHING, self._error(), {}))
            case Arrivals() | AssetFailure() | UnchangedAsset() | messages.OperationCall():
                self._queue.put(message)
            case messages.LearnedSecrets():
                self._learn(message)
            case messages.StopEarly():
                self._stopped.set()

    # --- the store's thread ------------------------------------------------------------------------------

    def _run(self, operations: StoreOperations) -> None:
        while self._step(operations):
            pass
        if self._failed is None:
            try:
                with translated(self._ledger):
                    operations.publisher.finish()
            except Exception as error:  # noqa: BLE001 -- `_raise_unfinished` raises it
                operations.publisher.distrust_ledger(error)
                self._unfinished = error

    def _raise_unfinished(self) -> None:
        if self._unfinished is not None:
            raise as_destination_error(self._unfinished, self._dest)

    def _step(self, operations: StoreOperations) -> bool:
        """Handle one message, or publish a due group; return False at the end."""
        message = self._next(None if self._failed else operations.publisher.seconds_until_due())
        if message is None:
            return False
        if isinstance(message, messages.OperationCall):
            self._answer(operations, message)
        if self._failed is None:
            try:
                with translated(self._ledger):
                    self._publish(operations, message)
            except Exception as error:  # noqa: BLE001 -- the network process raises it
                self._break(error)
        return True

    def _next(self, timeout: float | None) -> _Queued:
        """Return the next message, an empty list if none comes in `timeout` seconds."""
        if self._postponed:
            return self._postponed.popleft()
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            return []

    def _publish(self, operations: StoreOperations, message: _Queued) -> None:
        publisher = operations.publisher
        match message:
            case AssetFailure():
                publisher.fail(message)
            case UnchangedAsset():
                publisher.keep_unchanged(message)
            case Arrivals(arrivals):
                publisher.add_received(self._written(arrivals, operations.store))
            case list():
                publisher.add_received(message)
        publisher.publish_if_due()

    def _run_sync(self, sync: Callable[[], None]) -> None:
        """Run a sync in a thread of its own, and take messages meanwhile (`_postpone`).

        Raises:
            DestinationError: The sync failed.
        """
        if self._operations is None or not self._operations.store.is_local:
            sync()
            return
        failures: list[BaseException] = []
        ended: list[Arrival] = []  # the message that ends the wait: it is recognised by its identity

        def run() -> None:
            try:
                sync()
            except BaseException as error:  # noqa: BLE001 -- raised below
                failures.append(error)
            self._queue.put(ended)

        threading.Thread(target=run, name="stacpull-sync", daemon=True).start()
        while (message := self._queue.get()) is not ended:
            self._postpone(message, self._operations.store)
        if failures:
            raise failures[0]

    def _postpone(self, message: _Queued, store: Store) -> None:
        """Keep a message for the time after a sync. The bodies of assets are written as parts at once."""
        if isinstance(message, Arrivals) and self._failed is None:
            try:
                message = self._written(message.arrivals, store)
            except Exception as error:  # noqa: BLE001 -- the network process raises it
                self._break(error)
                return
        self._postponed.append(message)

    def _written(self, arrivals: list[Arrival], store: Store) -> list[Arrival]:
        """Write the bodies of assets as complete parts, confirm that, and return the assets."""
        bodies = 0
        for arrival in arrivals:
            bodies += arrival.body is not None
            self._stage(arrival, store)
        if bodies:
            self._send(PartsWritten(bodies))
        return arrivals

    def _stage(self, arrival: Arrival, store: Store) -> None:
        """Write the body of an asset as a complete part, or take its existing part."""
        worker, slash, name = arrival.part.rpartition("/")
        if "/" in name or (slash and not is_name(worker)):
            raise ValueError(f"{arrival.part!r} is not the name of a part")
        if arrival.body is not None:
            if len(arrival.body) != arrival.size:  # nothing may change on the way between the processes
                raise ValueError(
                    f"{arrival.part} has {arrival.size} bytes, but {len(arrival.body)} were sent"
                )
            if arrival.digest is None and self._checksum is not None:
                arrival.digest = digest_of(self._checksum, arrival.body)
            arrival.identity = store.staged.write_part(arrival.part, arrival.body)
            arrival.body = None

    def _answer(self, operations: StoreOperations, call: messages.OperationCall) -> None:
        result, failure = _NOTHING, None
        if self._failed is not None and call.operation not in _AFTER_FAILURE:
            failure = self._error()
        else:
            try:
                with translated(self._ledger):
                    operation = messages.operation(call.operation)
                    first = getattr(operations, operation.owner) if operation.owner else operations
                    found = operation.function(first, *operation.arguments.decode(call.arguments))
                    result = msgspec.Raw(encoded(found))
                    operations.publisher.refresh_counters()
            except Exception as error:  # noqa: BLE001 -- the caller raises it
                operations.publisher.distrust_ledger(error)
                failure = error_report(as_destination_error(error, self._dest))
        self._send(messages.OperationResult(call.number, result, failure, self._counters()))

    def _counters(self) -> messages.RunCounters:
        return {} if self._operations is None else dict(self._operations.publisher.counters)

    def _break(self, error: Exception) -> None:
        """Record that nothing can be published any more."""
        if self._operations is not None:
            self._operations.publisher.distrust_ledger(error)
        if self._failed is None:
            self._failed = as_destination_error(error, self._dest)
            self._send(messages.StoreBroken(error_report(self._failed)))

    def _error(self) -> ErrorReport | None:
        return None if self._failed is None else error_report(self._failed)

    def _warn(self, text: str) -> None:
        self._send(messages.StoreEvent(Notice("warning", text)))

    def _send(self, message: messages.ToNetwork) -> None:
        """Send a message. If the network process has ended, the message is lost."""
        with self._sending, suppress(OSError):
            self._sock.sendall(framed(message))


def _received(file: BinaryIO, start: bytes) -> Iterator[messages.ToStore]:
    """Yield the messages of a socket, of which `start` was received already."""
    with suppress(OSError):  # reset: the network process was killed
        while len(head := start + file.read(LENGTH.size - len(start))) == LENGTH.size:
            size: int = LENGTH.unpack(head)[0]
            if len(data := file.read(size)) < size:
                return
            yield messages.decode_to_store(data)
            start = b""


def main() -> None:
    """Run the store process. Does not return.

    Its arguments are the descriptor of its socket, and modules to import early.
    """
    import_early(sys.argv[2:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGBUS, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    tune_memory()
    bind_plainly()
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        StoreServer(sock, is_process=True).serve()
    os._exit(0)  # everything is closed; freeing each object would take 15 ms

"""The store process (`main`), which `store_client.py` starts.

    socket ─▶ reader: messages ─▶ queue ─▶ this thread: complete parts, operations, groups ─▶ DEST, ledger

One thread does all work, because two would mostly wait for the interpreter's lock. Only a sync or upload has
another. Meanwhile the working thread writes the parts of the next group.

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
from stacpull.redact import Secrets
from stacpull.runtime import tune_memory
from stacpull.store.protocol import Store
from stacpull.store.staging import is_worker

_AFTER_FAILURE = (
    StoreOperations.add_effort,
    StoreOperations.findings,
    StoreOperations.end_run,
    StoreOperations.learn,
)
"""Operations that are still called after publishing has failed."""
_NOTHING = msgspec.Raw(encoded(None))

_Queued = Arrivals | list[Arrival] | AssetFailure | UnchangedAsset | messages.Call | None
"""A list has assets whose parts are written. None is the end."""


class StoreServer:
    """Runs a `StoreOperations` for the network process at the other end of a socket."""

    def __init__(self, sock: socket.socket, *, is_process: bool = False) -> None:
        """Create the server. `is_process`: nothing else uses this interpreter."""
        self._sock = sock
        self._is_process = is_process
        self._sending = threading.Lock()
        self._queue: SimpleQueue[_Queued] = SimpleQueue()
        self._postponed: deque[_Queued] = deque()
        """Messages that were taken from the queue during a sync or upload: they come first."""
        self._stopped = threading.Event()
        self._failed: Exception | None = None
        """The error after which nothing is published."""
        self._unreadable: Exception | None = None
        """The error of a message that could not be read."""
        self._secrets = Secrets()
        self._dest = self._ledger = Path()
        self._checksum: Checksum | None = None
        """The algorithm of the digest to record, as an empty checksum."""
        self._operations: StoreOperations | None = None

    def serve(self) -> None:
        """Handle messages of the network process, until its end of the socket is closed."""
        start, locks, _, _ = socket.recv_fds(self._sock, LENGTH.size, 1)
        failure: ErrorReport | None = None
        try:
            with self._sock.makefile("rb") as file, ExitStack() as opened:
                received = _received(file, start)
                for opening in received:
                    if isinstance(opening, messages.OpenMirror):
                        self._open(opening, opened)
                    break
                reader = threading.Thread(target=self._read, args=(received,), name="stacpull-reader")
                reader.start()
                opened.callback(reader.join)
                self._work()
        except Exception as error:  # noqa: BLE001 -- the network process raises it
            failure = error_report(as_destination_error(error, self._dest))
        self._send(messages.MirrorClosed(failure))
        for lock in locks:
            os.close(lock)

    def _open(self, opening: messages.OpenMirror, opened: ExitStack) -> None:
        if opening.variables:
            from stacpull.config.environment import add_variables  # noqa: PLC0415 - it imports all options

            add_variables(opening.variables)
        self._checksum = None if opening.checksum is None else Checksum(opening.checksum, b"")
        self._dest = Path(os.fsdecode(opening.dest))
        self._ledger = ledger_path(self._dest)
        try:
            workspace = opened.enter_context(
                opened_ledger(
                    self._dest,
                    opening.bucket,
                    lambda text: self._send(messages.StoreEvent(Notice("warning", text))),
                )
            )
            if opening.bucket is None and self._is_process:
                sys.modules.setdefault("urllib3", None)  # type: ignore[arg-type] # pystac: 30 ms, unused
            self._operations = StoreOperations(
                workspace,
                runs.stored(workspace.db, opening.run),
                checksum=opening.checksum,
                secrets=self._secrets,
                clock=SystemClock(),
                is_stopped=self._stopped.is_set,
                on_published=lambda count: self._send(messages.PartsPublished(count, self._counters())),
                on_event=lambda event: self._send(messages.StoreEvent(event)),
                run_beside=self._run_beside,
            )
            self._operations.learn(*opening.secrets)
        except Exception as error:  # noqa: BLE001 -- the network process raises it
            self._break(error)

    def _read(self, received: Iterator[messages.ToStore]) -> None:
        """Queue the messages of the network process. A stop is for the operation that runs."""
        try:
            for message in received:
                if isinstance(message, messages.StopEarly):
                    self._stopped.set()
                elif not isinstance(message, messages.OpenMirror):
                    self._queue.put(message)
        except Exception as error:  # noqa: BLE001 -- `_work` raises it
            self._unreadable = error
        self._stopped.set()
        self._queue.put(None)

    # --- the working thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        """Handle messages until the end, then publish and record everything."""
        operations = self._operations
        while (message := self._next()) is not None:
            if isinstance(message, messages.Call):
                self._answer(message)
            if self._failed is not None or operations is None:
                continue
            publisher = operations.publisher
            try:
                with translated(self._ledger):
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
            except Exception as error:  # noqa: BLE001 -- the network process raises it
                self._break(error)
        if self._failed is None and operations is not None:
            try:
                with translated(self._ledger):
                    operations.publisher.finish()
            except Exception as error:
                operations.publisher.distrust_ledger(error)
                raise
        if self._unreadable is not None:
            raise self._unreadable

    def _next(self) -> _Queued:
        """Return the next message, an empty list if none comes before a group is due."""
        if self._postponed:
            return self._postponed.popleft()
        timeout = None
        if self._operations is not None and self._failed is None:
            timeout = self._operations.publisher.seconds_until_due()
        try:
            return self._queue.get(timeout=timeout)
        except Empty:
            return []

    def _run_beside(self, work: Callable[[], object]) -> object:
        """Do blocking work in a thread. Meanwhile, write the bodies that arrive, and postpone messages."""
        assert self._operations is not None  # noqa: S101 - it calls this
        ended: list[Arrival] = []  # the message that ends the wait: it is recognised by its identity
        results: list[object] = []
        failures: list[BaseException] = []

        def run() -> None:
            try:
                results.append(work())
            except BaseException as error:  # noqa: BLE001 -- raised below
                failures.append(error)
            self._queue.put(ended)

        threading.Thread(target=run, name="stacpull-beside", daemon=True).start()
        while (message := self._queue.get()) is not ended:
            if isinstance(message, Arrivals) and self._failed is None:
                try:
                    message = self._written(message.arrivals, self._operations.store)
                except Exception as error:  # noqa: BLE001 -- the network process raises it
                    self._break(error)
            self._postponed.append(message)
        if failures:
            raise failures[0]
        return results[0]

    def _written(self, arrivals: list[Arrival], store: Store) -> list[Arrival]:
        """Write the bodies of assets as complete parts, confirm that, and return the assets."""
        bodies = 0
        for arrival in arrivals:
            worker, slash, name = arrival.part.rpartition("/")
            if slash and not is_worker(worker):
                raise ValueError(f"{arrival.part!r} is not the name of a part")
            if arrival.body is None:
                continue
            bodies += 1
            if len(arrival.body) != arrival.size:  # nothing may change on the way between the processes
                raise ValueError(f"{name} has {arrival.size} bytes, but {len(arrival.body)} were sent")
            if arrival.digest is None and self._checksum is not None:
                arrival.digest = digest_of(self._checksum, arrival.body)
            arrival.identity = store.staged.write_part(arrival.part, arrival.body)
            arrival.body = None
        if bodies:
            self._send(PartsWritten(bodies))
        return arrivals

    def _answer(self, call: messages.Call) -> None:
        operations, result, failure = self._operations, _NOTHING, None
        function, first_of = tuple(messages.OPERATIONS.items())[call.operation]
        if operations is None or (self._failed is not None and function not in _AFTER_FAILURE):
            failure = None if self._failed is None else error_report(self._failed)
        else:
            try:
                with translated(self._ledger):
                    arguments = messages.decoders(function)[0].decode(call.arguments)
                    result = msgspec.Raw(encoded(function(first_of(operations), *arguments)))
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

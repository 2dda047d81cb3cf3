"""The store process (`main`): during a run, only it uses the ledger, and gives files their names in DEST.

One thread takes messages, and writes the bodies in them as parts; the other one publishes parts. When the
other end of the socket is closed, everything that was sent is published and recorded; until then, DEST stays
locked. SIGINT and SIGTERM, which a terminal sends to both processes, are left to the network process.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from select import select
from typing import Any, BinaryIO

import msgspec

from stacpull.engine import messages
from stacpull.engine.messages import CALLS, Operation, Outcomes, decoders, encoded, error_report, framed
from stacpull.engine.open_mirror import open_ledger
from stacpull.engine.publisher import Publisher
from stacpull.engine.store_operations import StoreOperations
from stacpull.errors import translated_error
from stacpull.events import Notice
from stacpull.ledger import runs
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import ledger_errors, ledger_path, skip_adapter_search
from stacpull.models import AssetFile
from stacpull.redact import Secret, Secrets
from stacpull.runtime import tune_memory
from stacpull.store.inspection import WaitHooks, may_exist
from stacpull.store.local_store import open_store
from stacpull.store.staging import is_worker
from stacpull.system import add_variables

_NOTHING = msgspec.Raw(encoded(None))
_MAX_WAITING = 64
"""The maximum number of messages, with up to 64 parts each, that wait to be handled. With more, nothing is
read, and all processes wait, so that the number of unpublished parts is limited."""


class StoreServer(msgspec.Struct, eq=False):
    """Serves a run until the network process closes the socket. `send` sends the answers."""

    publisher: Publisher
    operations: Mapping[str, Callable[..., Any]]  # by name
    send: Callable[[messages.ToNetwork], None]
    ledger: Path
    _queue: Queue[messages.ToStore | None] = msgspec.field(default_factory=lambda: Queue(_MAX_WAITING))
    """The messages to work on; None is the end."""
    _error: Exception | None = None

    def run(self, received: Iterator[messages.ToStore]) -> None:
        reader = threading.Thread(target=self._read, args=(received,), name="stacpull-reader")
        reader.start()
        try:
            self._work()
        finally:
            reader.join()

    def _read(self, received: Iterator[messages.ToStore]) -> None:
        try:
            for message in received:
                if isinstance(message, Outcomes):
                    self._unless_failed(self._write, message.files)
                self._queue.put(message)
        except Exception as error:  # noqa: BLE001 -- the network process raises it
            self._fail_with(error)
        self._queue.put(None)

    def _write(self, files: list[AssetFile]) -> None:
        store = self.publisher.store
        algorithm = self.publisher.run.digest_algorithm
        for file in files:
            worker, slash, _ = file.part.rpartition("/")
            if slash and not is_worker(worker):
                raise ValueError(f"{file.part!r} is not the name of a part")
            if file.body is not None and len(file.body) != file.size:  # changed on its way
                raise ValueError(f"asset {file.rowid} has {file.size} bytes, not {len(file.body)}")
            store.staged.write_body(file, algorithm, keep=not store.is_local)  # to upload it

    def _work(self) -> None:
        publisher = self.publisher
        while True:
            with suppress(Empty):  # no message came before a group was due
                match self._queue.get(timeout=None if self._error else publisher.seconds_until_due()):
                    case None:
                        break
                    case Operation() as operation:
                        self._answer(operation)
                    case Outcomes(files, without_file):
                        publisher.add(files, without_file)
            self._unless_failed(publisher.publish_if_due)
        self._unless_failed(publisher.finish)

    def _unless_failed(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function, unless an earlier one has failed: after that, nothing more is published."""
        if self._error is None:
            try:
                with ledger_errors(self.ledger):
                    function(*arguments)
            except Exception as error:  # noqa: BLE001 -- the network process raises it
                self._fail_with(error)

    def _answer(self, message: Operation) -> None:
        packed = _NOTHING
        failure = None
        if message.secrets is not None:
            self.publisher.secrets.replace(message.secrets)
        if self._error is not None and message.name != "end_run":  # the end of a failed run is recorded, too
            failure = error_report(self._error)
        else:
            try:
                operation = self.operations[message.name]
                with ledger_errors(self.ledger):
                    arguments, _ = decoders(message.name)
                    packed = msgspec.Raw(encoded(operation(*arguments.decode(message.arguments))))
                    # before the result is sent, because the walk relies on them (`--max-items`)
                    self.publisher.send_counters()
            except Exception as error:  # noqa: BLE001 -- the caller raises it
                self.publisher.note_error(error)
                failure = error_report(translated_error(error, self.publisher.store.staged.work))
        self.send(messages.OperationResult(packed, failure))

    def _fail_with(self, error: Exception) -> None:
        self.publisher.note_error(error)
        if self._error is None:
            self._error = translated_error(error, self.publisher.store.staged.work)
            self.send(messages.ProcessEnded(error_report(self._error)))


@contextmanager
def _opened(
    work: Path, request: messages.OpeningRequest, stops: int, send: Callable[[messages.ToNetwork], None]
) -> Iterator[StoreServer]:
    """Open DEST and the ledger. Long operations end early once the other end of `stops` is closed."""
    add_variables(request.variables)
    secrets = Secrets(map(Secret, request.secrets))

    def on_event(event: messages.StoreEvent) -> None:
        send(messages.EventMessage(event))

    def is_stopped() -> bool:
        return bool(select([stops], [], [], 0)[0])

    hooks = WaitHooks(lambda text: on_event(Notice("warning", text)), is_stopped, has_answered=True)
    with closing(open_store(work, request.bucket, hooks)) as store, open_ledger(store) as db:
        run = runs.load(db, request.run_id)
        publisher = Publisher(db, store, run, secrets, is_stopped, on_event)
        batch_writer = BatchWriter(db, run, partial(may_exist, store), secrets, publisher.publish_all)
        offered = StoreOperations(publisher, batch_writer)
        operations = {name: getattr(offered, name) for name in CALLS}
        yield StoreServer(publisher, operations, send, ledger_path(work))


def serve(sock: socket.socket) -> None:
    """Serve the other end of `sock`. The first message opens the mirror, and the others make its run."""
    _, descriptors, _, _ = socket.recv_fds(sock, 1, 2)
    sending = threading.Lock()
    directory = Path()
    failure = None

    def send(message: messages.ToNetwork) -> None:
        with sending, suppress(OSError):
            sock.sendall(b"".join(framed(message)))

    try:
        with sock.makefile("rb") as file:
            received = _received(file)
            request = next(received, None)
            if isinstance(request, messages.OpeningRequest):
                directory = Path(os.fsdecode(request.work))
                opened = _opened(directory, request, descriptors[1], send)
                with ledger_errors(ledger_path(directory)), opened as server:
                    server.run(received)
    except Exception as error:  # noqa: BLE001 -- the network process raises it
        failure = error_report(translated_error(error, directory))
    send(messages.ProcessEnded(failure))
    for descriptor in descriptors:
        os.close(descriptor)


def _received(file: BinaryIO) -> Iterator[messages.ToStore]:
    with suppress(OSError):  # the network process was killed
        while len(head := file.read(messages.LENGTH.size)) == messages.LENGTH.size:
            size: int = messages.LENGTH.unpack(head)[0]
            if len(data := file.read(size)) < size:
                return
            yield messages.decode_to_store(data)


def main() -> None:
    """Serve the socket whose descriptor is the argument of the process, then end the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    tune_memory()
    skip_adapter_search()
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        serve(sock)
    os._exit(0)  # everything is closed, and the objects need not be freed one by one

"""The store process (`main`): during a run, only it uses the ledger, and gives files their names in DEST.

One thread takes messages, and writes the bodies in them as parts; the other one publishes parts. When the
other end of the socket is closed, everything that was sent is published and recorded. Then DEST is unlocked.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from queue import Empty, Queue
from select import select
from typing import Any, BinaryIO

import msgspec
import orjson

from stacpull import entry_points
from stacpull.catalog.catalog_tree import CatalogWriter, CollectionEntry, until_stopped, write_catalogs
from stacpull.engine import messages
from stacpull.engine.messages import CALLS, Operation, Outcomes, decoders, encoded, error_report, framed
from stacpull.engine.open_mirror import open_ledger
from stacpull.engine.publisher import Publisher, Recovery
from stacpull.errors import UsageError, translated_error
from stacpull.events import AssetFailed, Notice
from stacpull.ledger import asset_decision, jobs, meta, pruning, queries, runs, transitions
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import ledger_errors, ledger_path, skip_adapter_search
from stacpull.ledger.runs import EndState
from stacpull.models import AssetFile, FailureKind, ItemId, Placement
from stacpull.planning.hrefs import self_href
from stacpull.planning.names import NDJSON_FILE, OUTPUTS
from stacpull.redact import Secret, Secrets
from stacpull.runtime import tune_memory
from stacpull.store.inspection import IsStopped, WaitHooks, may_exist
from stacpull.store.local_store import open_store
from stacpull.store.staging import is_worker
from stacpull.system import add_variables

_MAX_WAITING = 64  # messages, with up to 64 parts each; with more, nothing is read, and all processes wait
_CATALOG_SECONDS = 3.0  # for which catalogs are written after a stop: enough for all but huge mirrors


class StoreOperations:
    """What the network process may call by name. Errors of the disk or ledger are `DestinationError`s."""

    def __init__(self, publisher: Publisher, batch_writer: BatchWriter) -> None:
        self._publisher = publisher
        self._store = publisher.store
        self._run = publisher.run
        self._db = db = publisher.db
        run_id = publisher.run.id
        self.finish = publisher.finish
        self.planned_this_run = partial(asset_decision.planned_this_run, db, publisher.run)
        self.save_batch = batch_writer.save_batch
        self.restart_walk = partial(runs.restart_walk, db, run_id)
        self.add_counts = partial(runs.add_counts, db, run_id)
        self.set_counter = partial(runs.set_counter, db, run_id)
        self.pending_jobs = partial(jobs.pending_jobs, db, run_id)
        self.put_document = partial(transitions.put_document, db)
        self.put_collection = partial(transitions.put_collection, db)
        self.unreadable_links = partial(queries.unreadable_links, db, publisher.run)
        self.damaged_item_json = partial(queries.damaged_item_json, db)
        self.collections_to_read = partial(queries.collections_to_read, db, run_id)
        self.count_unreadable = partial(pruning.count_unreadable, db, run_id)
        self.items_not_found = partial(pruning.items_not_found, db, run_id)
        self.count_not_listed = partial(pruning.count_not_listed, db, run_id)
        self.count_of_other_walks = partial(pruning.count_of_other_walks, db, run_id)
        self.seen_examples = partial(pruning.seen_examples, db, run_id)

    def _warn(self, text: str) -> None:
        self._publisher.on_event(Notice("warning", text))

    def acknowledge(self) -> None:
        """Let the caller wait until all earlier messages were handled."""

    def recover(self) -> None:
        """Requeue what the run tries again, report what a retry cannot try, and complete a killed run."""
        transitions.requeue_failures(self._db, self._run)
        if self._run.kind == "retry":  # those not queued have no href or no name: they failed when planned
            of_source = runs.of_same_source(self._db, self._run.id)
            for failed in queries.failures(self._db, of_runs=of_source):
                item = ItemId(failed.collection, failed.item)
                event = AssetFailed(item, failed.key, FailureKind(failed.kind), failed.message)
                self._publisher.on_event(event)
        self._publisher.remove_listed()
        self._publisher.add(Recovery(self._publisher).run(), [])
        self.write_item_json()

    def reserve_uploads(self, files: list[AssetFile]) -> list[tuple[AssetFile, Placement]]:
        reserved, failures = self._publisher.reserve_names(files, [])
        self._publisher.add([], failures)
        return reserved

    def remove_items(self, items: list[int]) -> None:
        pruning.delete_items(self._db, self._run.id, items)
        self._publisher.remove_listed()

    def write_item_json(self) -> None:
        self._publisher.publish_all()
        also_new = self._run.fixed["metadata"] == "item"
        last = 0
        while item_rowids := queries.unwritten_items(self._db, last, also_new):
            self._publisher.publish_all(item_rowids)
            last = item_rowids[-1]

    def end_run(self, state: EndState, why: str | None, spent: dict[str, float]) -> dict[str, int]:
        """Record the end of the run. Return the counts that take too long to be kept up to date."""
        db = self._db
        run_id = self._run.id
        counts = {"items_done": queries.items_done(db, run_id), "items_failed": runs.items_failed(db, run_id)}
        counts["assets_missing_new"] = queries.failed_by_kind(db, FailureKind.GONE, run_id, failed_in=run_id)
        counts |= queries.counts_not_in_totals(db, run_id, None if self._run.kind == "retry" else run_id)
        runs.add_counts(db, run_id, spent)
        runs.end(db, run_id, state, why, time.time())
        if state == "complete" and self._run.kind == "mirror":
            meta.put(db, meta.ADOPTING, None)
            counts["items_of_other_runs"] = runs.items_of_other_runs(db, run_id)
        if state == "complete" and queries.run_status(db)["state"] != "complete":
            self._warn("An earlier run is not complete: `stacpull resume` continues it.")
        return counts

    def write_derived_files(self) -> None:
        """Write the files of items, then the catalogs. After a stop, give up after `_CATALOG_SECONDS`."""
        self.write_item_json()
        # parts of assets that were later received in one piece
        self._store.staged.remove_leftovers(partial(jobs.has_job, self._db))
        unproven = queries.counts_not_in_totals(self._db)["assets_unproven"]
        if unproven:
            self._warn(f"Files that may be incomplete: {unproven:,}. The server sent no length for them.")
        until = time.monotonic() + _CATALOG_SECONDS

        def is_stopped() -> bool:
            return time.monotonic() >= until and self._publisher.is_stopped()

        rows = queries.collection_rows(self._db)
        in_place = meta.file_digests(self._db)
        for row in rows:
            self._write_ndjson(row, in_place, is_stopped)
        if not (rows or meta.owns_file(self._db, "catalog.json")):
            return
        entries = list(map(self._entry, rows))
        in_dest = {file for file in OUTPUTS.values() if meta.owns_file(self._db, file)}
        kept = [file for field, file in OUTPUTS.items() if self._run.remembered.get(field, file in in_dest)]
        try:
            for file in kept:
                self._update_output(file, entries)
        finally:  # also after a stop, which ends the update at once: the catalogs take less time
            recorded = meta.file_digests(self._db)
            outputs = [entry_points.load("stacpull.outputs", file) for file in kept if file in recorded]
            assets = {key: asset for output in outputs if output for key, asset in output.assets.items()}
            write = self._publisher.write_file
            writer = CatalogWriter(self._store, write, self._publisher.secrets, recorded, assets)
            source = self._run.source
            write_catalogs(writer, entries, source=source, remove=self._remove, is_stopped=is_stopped)
        for file in in_dest.difference(kept):
            self._remove(file)  # no collection refers to it any more

    def _update_output(self, file: str, entries: list[CollectionEntry]) -> None:
        try:
            for text in entry_points.require("stacpull.outputs", file, file).update(self._publisher, entries):
                self._warn(text)
        except UsageError as missing:
            self._warn(f"{file} was not updated. {missing}")

    def _write_ndjson(
        self, row: queries.CollectionRow, in_place: Mapping[str, bytes | None], is_stopped: IsStopped
    ) -> None:
        path = f"{row.directory}/{NDJSON_FILE}"
        is_wanted = self._run.fixed["metadata"] == "ndjson"
        if not is_wanted and not meta.owns_file(self._db, path):
            return
        digest = sha256()
        records = queries.records_in(self._db, row.rowid)
        encoded = (self._publisher.item_json(record, path) for record in records)
        with self._store.staged.new_part(NDJSON_FILE) as file:
            for item_json in until_stopped(is_stopped, encoded):
                if item_json is not None:
                    digest.update(item_json + b"\n")
                    file.write(item_json + b"\n")
        if digest.digest() == in_place.get(path) == self._store.state_of(path).digest:
            self._store.staged.remove_part(NDJSON_FILE)
        else:
            self._publisher.place_file(path, NDJSON_FILE, digest.digest())

    def _entry(self, row: queries.CollectionRow) -> CollectionEntry:
        def items() -> Iterator[tuple[str, str]]:
            rows = queries.item_names(self._db, row.rowid, "i.id")
            return ((item.name, item.path) for item in rows if item.is_written)

        document = None if row.document is None else orjson.loads(row.document)
        base = None if document is None else self_href(document, local=True)
        return CollectionEntry(row.name, row.directory, document, items, base=base, mirrored=row.mirrored)

    def _remove(self, path: str) -> None:
        self._store.remove(path)
        meta.record_file(self._db, path, None)


class StoreServer(msgspec.Struct, eq=False):
    """Serves a run until the network process closes the socket. `send` sends the answers."""

    publisher: Publisher
    operations: Mapping[str, Callable[..., Any]]  # by name
    send: Callable[[messages.ToNetwork], None]
    ledger: Path
    _queue: Queue[messages.ToStore | None] = msgspec.field(default_factory=lambda: Queue(_MAX_WAITING))
    _error: Exception | None = None
    _failing: threading.Lock = msgspec.field(default_factory=threading.Lock)  # both threads may fail

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
        packed = msgspec.Raw(encoded(None))
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
                    result = operation(*arguments.decode(message.arguments))
                    packed = msgspec.Raw(encoded(result))
                    # before the result is sent, because the walk relies on them (`--max-items`)
                    self.publisher.send_counters()
            except Exception as error:  # noqa: BLE001 -- the caller raises it
                self.publisher.note_error(error)
                failure = error_report(translated_error(error, self.publisher.store.staged.work))
        self.send(messages.OperationResult(packed, failure))

    def _fail_with(self, error: Exception) -> None:
        self.publisher.note_error(error)
        with self._failing:
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
    with suppress(OSError):  # if the other end could not send any more, it would end without reading this
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass
    for descriptor in descriptors:
        os.close(descriptor)


def _received(file: BinaryIO) -> Iterator[messages.ToStore]:
    with suppress(OSError):  # the network process was killed
        while len(head := file.read(messages.LENGTH.size)) == messages.LENGTH.size:
            size: int = messages.LENGTH.unpack(head)[0]
            data = file.read(size)
            if len(data) < size:
                return
            yield messages.decode_to_store(data)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    tune_memory()
    skip_adapter_search()
    with socket.socket(fileno=int(sys.argv[1])) as sock:
        serve(sock)
    os._exit(0)  # everything is closed, and the objects need not be freed one by one

"""What the network process calls in the store process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256

import orjson

from stacpull import entry_points
from stacpull.catalog.catalog_tree import CatalogWriter, CollectionEntry, until_stopped, write_catalogs
from stacpull.engine.publisher import Publisher
from stacpull.engine.recovery import Recovery
from stacpull.errors import UsageError, dest_argument
from stacpull.events import AssetFailed, Notice
from stacpull.ledger import jobs, meta, pruning, runs, transitions, views
from stacpull.ledger.batch_writer import BatchWriter
from stacpull.ledger.database import scalar
from stacpull.ledger.runs import EndState
from stacpull.models import AssetFile, FailureKind, ItemId, Placement
from stacpull.planning.hrefs import self_href
from stacpull.planning.names import NDJSON_FILE

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
        self.planned_this_run = batch_writer.planned_this_run
        self.save_batch = batch_writer.save_batch
        self.restart_walk = partial(runs.restart_walk, db, run_id)
        self.add_counts = partial(runs.add_counts, db, run_id)
        self.set_counter = partial(runs.set_counter, db, run_id)
        self.pending_jobs = partial(jobs.pending_jobs, db, run_id)
        self.keep_document = partial(transitions.keep_document, db)
        self.keep_collection = partial(transitions.keep_collection, db)
        self.unreadable_links = partial(views.unreadable_links, db, publisher.run)
        self.damaged_item_json = partial(views.damaged_item_json, db)
        self.collections_to_read = partial(views.collections_to_read, db, run_id)
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
        """Requeue the failed assets that the run tries again, and complete what a killed run has begun.

        A retry also reports the failed assets that it cannot try again.
        """
        transitions.requeue_failures(self._db, self._run)
        for record in views.failures(self._db) if self._run.kind == "retry" else ():
            if record.key:  # it has no href or no name: it failed when it was planned, and is not queued
                item = ItemId(record.collection, record.item)
                kind = FailureKind(record.kind)
                self._publisher.on_event(AssetFailed(item, record.key, kind, record.message))
        self._publisher.remove_listed()
        self._publisher.add(Recovery(self._publisher).run(), [])
        self.write_final_items()

    def reserve_uploads(self, files: list[AssetFile]) -> list[tuple[AssetFile, Placement]]:
        """Reserve the names of assets that a worker uploads; return what it may upload."""
        reserved, failures = self._publisher.reserve_names(files, [])
        self._publisher.add([], failures)
        return reserved

    def remove_items(self, items: list[int]) -> None:
        pruning.delete_items(self._db, self._run.id, items)
        self._publisher.remove_listed()

    def write_final_items(self) -> None:
        self._publisher.publish_all()
        also_new = self._run.fixed["metadata"] == "item"
        last = 0
        while item_rowids := views.unwritten_items(self._db, last, also_new):
            self._publisher.publish_all(item_rowids)
            last = item_rowids[-1]

    def end_run(self, state: EndState, reason: str | None, spent: dict[str, float]) -> dict[str, int]:
        """Record the end of the run. Return the counts that take too long to be kept up to date."""
        db = self._db
        run = self._run.id
        counts = {"items_done": views.items_done(db, run), "items_failed": runs.items_failed(db, run)}
        counts["assets_missing_new"] = views.failed_by_kind(db, FailureKind.GONE, run, failed_in=run)
        counts |= views.counts_not_in_totals(db, run, None if self._run.kind == "retry" else run)
        runs.add_counts(db, run, spent)
        runs.end(db, run, state, reason, time.time())
        if state == "complete" and self._run.kind == "mirror":
            meta.put(db, meta.ADOPTING, None)
            counts["items_of_other_runs"] = scalar(db, "SELECT sum(items) FROM totals WHERE run <> ?", (run,))
        if state == "complete" and views.run_status(db)["state"] != "complete":
            name = dest_argument(self._store.name)
            self._warn(f"An earlier run is not complete: `stacpull resume {name}` continues it.")
        return counts

    def write_derived_files(self) -> None:
        """Write the files of items, then the catalogs. After a stop, give up after `_CATALOG_SECONDS`."""
        self.write_final_items()
        # parts of assets that were later received in one piece
        self._store.staged.remove_leftovers(partial(jobs.has_job, self._db))
        unproven = views.counts_not_in_totals(self._db)["assets_unproven"]
        if unproven:
            self._warn(f"Files that may be incomplete: {unproven:,}. The server sent no length for them.")
        until = time.monotonic() + _CATALOG_SECONDS

        def is_stopped() -> bool:
            return time.monotonic() >= until and self._publisher.is_stopped()

        rows = views.collection_rows(self._db)
        for row in rows:
            self._write_ndjson(row, is_stopped)
        if not (rows or meta.owns_file(self._db, "catalog.json")):
            return
        entries = list(map(self._entry, rows))
        has_parquet = meta.owns_file(self._db, meta.ITEMS_PARQUET)
        keeps_parquet = self._run.remembered.get("items_parquet", has_parquet)
        try:
            if keeps_parquet:
                update = entry_points.require("stacpull.outputs", "items-parquet", meta.ITEMS_PARQUET)
                for note in update(self._publisher, entries):
                    self._warn(note)
        except UsageError as missing:
            self._warn(f"{meta.ITEMS_PARQUET} was not updated. {missing}")
        finally:  # a stop ends it at once, and the catalogs take less time
            is_written = keeps_parquet and meta.owns_file(self._db, meta.ITEMS_PARQUET)
            parquet = meta.ITEMS_PARQUET if is_written else None
            recorded = meta.file_digests(self._db)
            write = self._publisher.write_file
            writer = CatalogWriter(self._store, write, self._publisher.secrets, recorded, parquet)
            source = self._run.source
            write_catalogs(writer, entries, source=source, remove=self._remove, is_stopped=is_stopped)
        if has_parquet and not keeps_parquet:
            self._remove(meta.ITEMS_PARQUET)  # no collection refers to it any more

    def _write_ndjson(self, row: views.CollectionRow, is_stopped: Callable[[], bool]) -> None:
        path = f"{row.directory}/{NDJSON_FILE}"
        if not (self._run.fixed["metadata"] == "ndjson" or meta.owns_file(self._db, path)):
            return
        digest = sha256()
        records = views.records_in(self._db, row.rowid)
        encoded = (self._publisher.item_json(record, path) for record in records)
        with self._store.staged.new_part(NDJSON_FILE) as file:
            for item_json in until_stopped(is_stopped, encoded):
                if item_json is not None:
                    digest.update(item_json + b"\n")
                    file.write(item_json + b"\n")
        self._publisher.place_file(path, NDJSON_FILE, digest.digest())

    def _entry(self, row: views.CollectionRow) -> CollectionEntry:
        def items() -> Iterator[tuple[str, str]]:
            rows = views.item_names(self._db, row.rowid, "i.id")
            return ((item.name, item.path) for item in rows if item.is_written)

        document = None if row.document is None else orjson.loads(row.document)
        base = None if document is None else self_href(document, local=True)
        return CollectionEntry(row.name, row.directory, document, items, base=base, mirrored=row.mirrored)

    def _remove(self, path: str) -> None:
        self._store.remove(path)
        meta.record_file(self._db, path, None)

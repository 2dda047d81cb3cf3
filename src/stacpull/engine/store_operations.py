"""The operations on DEST and the ledger during a run, which the network process calls.

Arguments and results are plain values, which msgspec encodes, so that the two processes share no memory.
Nothing else writes to the ledger while a run is active.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stacpull import entry_points
from stacpull.clock import Clock
from stacpull.engine.publisher import Publisher
from stacpull.engine.recovery import mark_recovered, recover
from stacpull.engine.workspace import Workspace
from stacpull.errors import (
    DestinationError,
    InterruptedRunError,
    UsageError,
    destination_error,
    is_destination_failure,
)
from stacpull.events import AssetFailed, Notice, Stage
from stacpull.ledger import jobs, meta, pruning, runs, views
from stacpull.ledger.planner import Planner
from stacpull.ledger.pruning import forget_unwanted
from stacpull.ledger.runs import EndState, StoredRun
from stacpull.models import FailureKind
from stacpull.plurals import count
from stacpull.pyarrow_import import require_pyarrow
from stacpull.redact import Secret, Secrets
from stacpull.runtime import trim

if TYPE_CHECKING:
    from stacpull.catalog.catalog_tree import CollectionEntry
    from stacpull.selection import Selection

_CATALOG_PATIENCE = 3.0
"""Seconds for which catalogs are written although the user stops the run: enough for all but huge mirrors."""


def _covers(wide: Selection, narrow: Selection) -> bool:
    from stacpull.filters.item_filter import covers  # noqa: PLC0415 -- it imports all filters

    return covers(wide, narrow)


class RunFindings(NamedTuple):
    counts: dict[str, int]
    """Counters of a `MirrorReport`, by name."""
    left_out: dict[str, int]
    """Items that the filters left out, by filter."""
    unwritten: int
    """Items whose JSON could not be written."""


def as_destination_error(error: Exception, dest: Path) -> Exception:
    """Return an error that concerns DEST as a whole as a `DestinationError`, others unchanged."""
    if isinstance(error, OSError) and is_destination_failure(error):
        return destination_error(error, dest)
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return DestinationError(
            f"Python cannot encode the file name {error.object!a} in {error.encoding}: set PYTHONUTF8=1 "
            "for this process, then run `stacpull resume`."
        )
    return error


class StoreOperations:
    """Owns DEST and the ledger for one run. Its public methods are the operations of the network process.

    Every method runs on one thread, and raises `DestinationError` if the disk or the ledger fails.
    """

    def __init__(
        self,
        workspace: Workspace,
        run: StoredRun,
        *,
        checksum: str | None,
        secrets: Secrets,
        clock: Clock,
        is_stopped: Callable[[], bool],
        on_published: Callable[[int], None],
        on_event: Callable[[AssetFailed | Notice | Stage], None],
        run_beside: Callable[[Callable[[], object]], Any] = lambda work: work(),
    ) -> None:
        """Create the object; nothing is written yet.

        `on_published` is called with the number of published parts. `run_beside` runs a sync or an upload,
        does other work until it has ended, and returns its result.
        """
        self.db = workspace.db
        self.store = workspace.destination
        self._run = run
        self._checksum = checksum
        self._secrets = secrets
        self._clock = clock
        self._is_stopped = is_stopped
        self._on_event = on_event
        self.publisher = Publisher(
            workspace,
            run,
            secrets=secrets,
            clock=clock,
            on_published=on_published,
            on_event=on_event,
            run_beside=run_beside,
        )

    @cached_property
    def planner(self) -> Planner:
        """Saves the batches of the walk. It is created when it is first used."""
        return Planner(
            self.db,
            self._run.id,
            revalidate=self._run.kept.get("revalidate", False),
            is_there=self.store.has,
            secrets=self._secrets,
        )

    def learn(self, secrets: list[str], learned: list[str]) -> None:
        """Also remove these secrets (`Secrets.revealed`) from everything that is written."""
        self._secrets.add(*map(Secret, secrets))
        self._secrets.learn(*map(Secret, learned), least=0)

    # --- start and end -----------------------------------------------------------------------------------

    def recover(self) -> None:
        """Recover the mirror after an earlier run."""
        db = self.db
        if self.store.warning:
            self._warn(self.store.warning)
        self.publisher.remove_listed()
        left = recover(db, self.store, checksum=self._checksum, is_stopped=self._is_stopped)
        mark_recovered(db, self.store)
        self.publisher.add_in_place(left.in_place)
        self.publisher.add_recovered(left.complete)
        self._write_final_items()

    def _write_final_items(self) -> None:
        """Publish everything, then write the missing JSON of final items."""
        self.publisher.publish_all()
        if self._run.metadata != "item":
            return
        after = 0
        while rows := jobs.unwritten_items(self.db, after, 1000):
            self.publisher.write_items(rows)
            self.publisher.publish_all()
            after = rows[-1]

    def complete_items(self) -> None:
        """Write the JSON of final items, and remove parts of assets that are done.

        An asset may have been received whole although a part of it was parked. Warnings name what is not as
        it should be.
        """
        self._write_final_items()
        self.store.staged.sweep_parts(partial(jobs.is_open, self.db))
        if unproven := views.unproven(self.db):
            self._warn(f"Files that may be incomplete: {unproven:,}. The server sent no length for them.")
        for sentence in self.publisher.items.unwritable.values():
            self._warn(sentence)

    def _warn(self, text: str) -> None:
        self._on_event(Notice("warning", text))

    def forget_unwanted(self) -> None:
        """Delete open assets that only earlier runs selected, if this run is done."""
        self.publisher.publish_all()
        counters = self.publisher.counters
        is_done = counters["walk_ended"] and not counters["assets_pending"]
        if is_done and self._run.kind == "mirror":
            pending = forget_unwanted(self.db, self._run.id, _covers, self.store.has)
            if pending:
                what = f"{count(pending, 'asset')} that only an earlier, wider selection includes"
                self._on_event(Notice("info", f"No longer pending: {what}."))

    def add_effort(self, spent: dict[str, float]) -> None:
        runs.count(self.db, self._run.id, spent)

    def findings(self) -> RunFindings:
        db, run = self.db, self._run.id
        counts = {
            **runs.findings(db, run),
            "assets_ordered": views.failed_by_kind(db, FailureKind.ORDERED, run),
            "assets_outside": views.failed_by_kind(db, FailureKind.OUTSIDE, run),
            "assets_missing_new": views.failed_by_kind(db, FailureKind.GONE, run, since_start=True),
            "assets_clipped": views.clipped(db, run),
        }
        return RunFindings(counts, runs.left_out(db, run), len(self.publisher.items.unwritable))

    def end_run(self, state: EndState, reason: str | None) -> None:
        runs.end(self.db, self._run.id, state, reason, self._clock.time())
        if state == "complete" and self._run.kind == "mirror":
            meta.put(self.db, meta.ADOPTING, None)

    # --- catalogs ----------------------------------------------------------------------------------------

    def collections_to_read(self) -> list[str]:
        """Return the collections to read: those with items of the run, and those without a document."""
        db, run = self.db, self._run.id
        rows = views.collection_rows(db)
        return [row.name for row in rows if row.document is None or views.has_items_of(db, row.row, run)]

    def keep_collection(self, name: str, document: bytes) -> None:
        self.db.execute("UPDATE collections SET document = ? WHERE name = ?", (document, name))

    def keep_items_parquet(self, kept: bool) -> None:
        """Set whether this run and later ones keep items.parquet up to date or remove it."""
        if kept:
            self.publisher.refuse_foreign(meta.ITEMS_PARQUET)
        meta.put(self.db, meta.KEEPS_ITEMS_PARQUET, "1" if kept else None)

    def write_catalogs(self) -> None:
        """Update the catalogs and items.parquet."""
        self.db.execute("PRAGMA shrink_memory")  # the page cache makes room for pystac and the documents
        trim()
        from stacpull.engine import catalogs  # noqa: PLC0415 - only needed at the end

        db, store, publisher, metadata = self.db, self.store, self.publisher, self._run.metadata
        until = time.monotonic() + _CATALOG_PATIENCE

        def is_stopped() -> bool:
            return self._is_stopped() and time.monotonic() >= until

        if metadata == "ndjson":
            catalogs.write_lines(db, store, publisher, secrets=self._secrets, is_stopped=is_stopped)
        entries = catalogs.collection_entries(db, metadata=metadata)
        interrupted: InterruptedRunError | None = None
        if meta.get(db, meta.KEEPS_ITEMS_PARQUET) and (entries or meta.owns_file(db, "catalog.json")):
            try:
                for note in self._update_items_parquet(entries):
                    self._warn(note)
            except InterruptedRunError as error:
                interrupted = error
        catalogs.write_mirror_catalogs(
            db,
            store,
            publisher,
            entries,
            secrets=self._secrets,
            source=self._run.source,
            is_stopped=is_stopped,
        )
        if interrupted is not None:
            raise interrupted

    def _update_items_parquet(self, entries: list[CollectionEntry]) -> tuple[str, ...]:
        if self._is_stopped():
            raise InterruptedRunError("Interrupted.")
        if self._run.metadata == "none":
            return (f"{meta.ITEMS_PARQUET} was not updated, because --metadata none stores no items.",)
        try:
            require_pyarrow(meta.ITEMS_PARQUET)
            update = entry_points.require("stacpull.outputs", "items-parquet", meta.ITEMS_PARQUET)
        except UsageError as missing:
            return (f"{meta.ITEMS_PARQUET} was not updated. {missing}",)
        notes: tuple[str, ...] = update(
            self.db,
            self.store,
            self.publisher,
            entries,
            secrets=self._secrets,
            is_stopped=self._is_stopped,
            on_stage=self._on_event,
        )
        return notes

    # --- pruning -----------------------------------------------------------------------------------------

    def remove_items(self, rows: Sequence[int], renewed: Mapping[int, bytes]) -> None:
        """Delete items and their files; `renewed` has new documents of label items, by row."""
        pruning.forget(self.db, self._run.id, rows, renewed)
        self.publisher.remove_listed()

"""The owner of DEST and of the ledger during a run: each operation that the network side asks for.

Arguments and results are plain values (numbers, text, bytes, and the named tuples and dataclasses of the
ledger), so that the two sides need not share memory. Nothing else writes to the ledger while a run is active.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stacpull.clock import Clock
from stacpull.engine import runtime
from stacpull.engine.item_writer import ItemWriter
from stacpull.engine.items_parquet import (
    ITEMS_PARQUET,
    is_pyarrow_installed,
    remove_items_parquet,
    update_items_parquet,
)
from stacpull.engine.publisher import Publisher
from stacpull.engine.recovery import accept, parts_of_lost_worker, recover
from stacpull.engine.workspace import Workspace
from stacpull.errors import DestinationError, InterruptedRunError
from stacpull.events import AssetFailed, Stage
from stacpull.ledger import jobs, meta, pruning, rates, runs, views, walk_state
from stacpull.ledger.database import ledger_path, transaction, translated
from stacpull.ledger.jobs import DamagedItem, FailedItem
from stacpull.ledger.planned_assets import Committed
from stacpull.ledger.planner import PlanBatch, Planner
from stacpull.ledger.pruning import LabelItem, UnseenItem, forget_unwanted
from stacpull.ledger.runs import EndState, RunFlags, StoredRun
from stacpull.ledger.walk_state import SampledItem, UnreadLink
from stacpull.models import FailureKind, ItemId, Job
from stacpull.redact import Secrets
from stacpull.store.disk_errors import destination_error, is_destination_failure

if TYPE_CHECKING:
    from stacpull.catalog.catalog_tree import CollectionEntry
    from stacpull.selection import Selection

_CATALOG_PATIENCE = 3.0
"""Seconds that catalogs are still written after a stop: enough for all of a mirror that is not huge."""


def _covers(wide: Selection, narrow: Selection) -> bool:
    from stacpull.filters.covering import covers  # noqa: PLC0415 -- it imports all filters

    return covers(wide, narrow)


class Recovered(NamedTuple):
    """The state of a mirror once what an earlier run left is in order."""

    layout: str | None
    """The layout of the last mirror here, None if it left no file."""
    why_single: str | None
    """Why files are synced one by one, where a group sync was expected."""


class RunFindings(NamedTuple):
    """What a run has found, by kind."""

    left_out: dict[str, int]
    changes: dict[str, int]
    ordered: int
    """Assets that are not ready yet."""
    unwritten: list[str]
    """Why the JSON of an item could not be written: a sentence for each item."""
    outside: int = 0
    """Rasters that have nothing in the area of `--clip`."""
    clipped: int = 0
    """Rasters of which the part in that area is here."""


class PruneBasis(NamedTuple):
    """What decides whether a walk can say what is gone."""

    whole: bool
    """True if the walk is known to have met all that the source has."""
    unread: int
    """Links and items that the walk met and could not read or use."""


class KeptCounts(NamedTuple):
    """What the walk did not meet and nothing is asked about."""

    unlisted_assets: int
    """Files that their items do not list any more."""
    of_more_credentials: int
    """Items that an earlier run read with other credentials."""
    of_several: int
    """Items that other sources have had as well."""


def as_destination_error(error: Exception, dest: Path) -> Exception:
    """Return an error that concerns DEST as a whole as a `DestinationError`, others as they are."""
    if isinstance(error, OSError) and is_destination_failure(error):
        return destination_error(error, dest)
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return DestinationError(
            f"Python cannot encode the file name {error.object!a} in {error.encoding}: set PYTHONUTF8=1 "
            "for this process, then run `stacpull resume`."
        )
    return error


class StopDeadline:
    """How long work may still take after a stop; asked by whatever does the work."""

    def __init__(self, is_stopped: Callable[[], bool], seconds: float) -> None:
        self._is_stopped = is_stopped
        self._seconds = seconds
        self._since: float | None = None

    def is_over(self) -> bool:
        """Return True if a stop has been waiting for that long since it was first seen here."""
        if not self._is_stopped():
            return False
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        return now - self._since >= self._seconds


class MirrorOperations:
    """Owns DEST and the ledger for one run. Its public methods are the operations of the network side.

    Every method runs on one thread, and raises `DestinationError` if the disk or the ledger fails.
    """

    def __init__(
        self,
        workspace: Workspace,
        run: StoredRun,
        requests: RunFlags,
        *,
        checksum: str | None,
        secrets: Secrets,
        clock: Clock,
        is_stopped: Callable[[], bool],
        on_published: Callable[[int], None],
        on_failed: Callable[[list[AssetFailed]], None],
        on_notice: Callable[[str], None],
        on_stage: Callable[[Stage], None],
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            workspace: The opened mirror.
            run: The run.
            requests: What the run was started with.
            checksum: Algorithm of the digest that is recorded; None: none.
            secrets: Removed from everything that is written.
            clock: Where time comes from.
            is_stopped: Asked during operations that take long.
            on_published: Called with the number of delivered parts that have been published.
            on_failed: Called with the assets that failed for good.
            on_notice: Called with a warning for the user.
            on_stage: Called with the progress of an operation that takes long.
        """
        self._db = workspace.db
        self.store = workspace.destination
        self._run = run
        self._requests = requests
        self._checksum = checksum
        self._secrets = secrets
        self._clock = clock
        self._is_stopped = is_stopped
        self._on_stage = on_stage
        self._items = ItemWriter(self._db, self.store, secrets, run.metadata)
        self.publisher = Publisher(
            self._db,
            run.id,
            run.counters,
            self.store,
            self._items,
            clock=clock,
            on_published=on_published,
            on_failed=on_failed,
            on_notice=on_notice,
            area=runs.area_of(self._db, run.id),
            checksum=checksum,
        )

    @cached_property
    def _planner(self) -> Planner:
        return Planner(
            self._db,
            self._run.id,
            sample_size=self._run.sample_size,
            revalidate=self._requests.revalidate,
            is_there=self.store.has,
            secrets=self._secrets,
        )

    def translated(self) -> AbstractContextManager[None]:
        """Raise errors of SQLite in the block as `DestinationError`."""
        return translated(ledger_path(self.store.work))

    # --- start and end -----------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Put in order what an earlier run left.

        Raises:
            InterruptedRunError: The run was stopped before everything was in order.
        """
        db = self._db
        self.publisher.remove_listed()
        runs.set_requests(db, self._run.id, self._requests)
        left = recover(db, self.store, checksum=self._checksum, is_stopped=self._is_stopped)
        accept(db, self.store)
        self.publisher.adopting = self._requests.adopt or meta.is_adopting(db)
        self.publisher.take_in_place(left.in_place)
        self.publisher.take(left.complete)
        self.write_final_items()
        return Recovered(runs.layout_before(db, self._run.id), self.store.warning)

    def make_own_parts(self, name: str, token: str) -> None:
        """Make the directory of a worker on another machine (`store.own_parts`)."""
        self.store.make_own_parts(name, token)

    def take_up(self, rows: frozenset[int], own: str = "") -> list[int]:
        """Publish what a worker process that has ended wrote of these assets and did not report.

        Args:
            rows: The assets that it had.
            own: Its directory among the parts, if it had one; that is removed.

        Returns:
            The assets whose parts are whole, by row.
        """
        if own:
            self.publisher.publish_all()  # what it reported is still in its directory
            self.store.collect_parts(own)
        found = parts_of_lost_worker(self._db, self.store, rows, checksum=self._checksum)
        self.publisher.take(found)
        return [part.row for part in found]

    def publish_all(self) -> None:
        """Publish and record everything that was received."""
        self.publisher.publish_all()

    def write_final_items(self) -> None:
        """Publish everything, then write the JSON of items that are final without it."""
        self.publisher.publish_all()
        if self._run.metadata != "item":
            return
        after = 0
        while rows := jobs.unwritten_items(self._db, after, 1000):
            self.publisher.write_items(rows)
            self.publisher.publish_all()
            after = rows[-1]

    def sweep_parts(self) -> None:
        """Remove parts of what is done: an asset may have come in small, and whole, beside a parked part."""
        self.store.collect_parts()
        wanted = jobs.is_open if self.store.is_local else jobs.job_of  # an unfinished upload costs money
        self.store.sweep_parts(lambda row, generation: bool(wanted(self._db, row, generation)))

    def finish(self) -> None:
        """Publish and record everything, and sync what was renamed last."""
        self.publisher.publish_all()
        self.publisher.sync_renamed()

    def forget_unwanted(self) -> None:
        """Forget what only earlier, wider runs wanted, if this one is done."""
        self.publisher.publish_all()
        counters = self.publisher.counters
        is_done = counters["walk_ended"] and not counters["assets_pending"]
        if is_done and self._run.kind == "mirror":
            forget_unwanted(self._db, self._run.id, _covers, self.store.has)

    def add_effort(self, spent: dict[str, float], by_host: dict[str, int]) -> None:
        """Add what was spent to the sums of the run, and the bytes from each host to the rates."""
        hosts = {self._secrets.scrub(host): count for host, count in by_host.items()}
        with transaction(self._db):
            runs.add_effort(self._db, self._run.id, spent)
            rates.add(self._db, self._clock.time(), spent["seconds"], hosts)

    def unproven(self) -> int:
        """Return how many files nothing proved to be whole."""
        return views.unproven(self._db)

    def findings(self) -> RunFindings:
        """Return what the run has found so far."""
        unwritten, db, run = list(self._items.unwritable.values()), self._db, self._run.id
        return RunFindings(
            views.left_out(db, run),
            runs.changes_of(db, run),
            views.failed_by_kind(db, FailureKind.ORDERED, run),
            unwritten,
            views.failed_by_kind(db, FailureKind.OUTSIDE, run),
            views.clipped(db, run),
        )

    def end_run(self, state: EndState, reason: str | None) -> None:
        """Record how the run ended."""
        runs.end(self._db, self._run.id, state, reason, self._clock.time())
        if state == "complete" and self._run.kind == "mirror":
            meta.set_adopting(self._db, adopting=False)

    # --- catalogs ----------------------------------------------------------------------------------------

    def collections_to_read(self) -> list[str]:
        """Return the collections whose documents the run reads: those it met items of, and unknown ones."""
        db, run = self._db, self._run.id
        rows = views.collection_rows(db)
        return [row.name for row in rows if row.document is None or views.has_items_of(db, row.row, run)]

    def keep_collection(self, name: str, document: bytes) -> None:
        """Keep the document of a collection, without credentials."""
        self._db.execute("UPDATE collections SET document = ? WHERE name = ?", (document, name))

    def keep_items_parquet(self, kept: bool) -> None:
        """Have this run and all later ones keep items.parquet up to date, or have it removed.

        Raises:
            DestinationError: A file of that name is not part of this mirror.
        """
        if kept:
            self.publisher.refuse_foreign(ITEMS_PARQUET)
        meta.keep_items_parquet(self._db, kept=kept)

    def write_catalogs(self) -> tuple[str, ...]:
        """Bring the catalogs and items.parquet up to date; return what the user should know.

        Raises:
            InterruptedRunError: A stop has waited long enough.
        """
        self._db.execute("PRAGMA shrink_memory")  # the page cache makes room for pystac and the documents
        runtime.trim()
        from stacpull.engine import catalogs  # noqa: PLC0415 - only needed at the end

        notes: tuple[str, ...] = ()
        interrupted: InterruptedRunError | None = None
        metadata = self._run.metadata
        is_stopped = StopDeadline(self._is_stopped, _CATALOG_PATIENCE).is_over
        if metadata == "ndjson":
            catalogs.write_lines(
                self._db,
                self.store,
                self.publisher,
                secrets=self._secrets,
                is_stopped=is_stopped,
            )
        entries = catalogs.collection_entries(self._db, metadata=metadata)
        if meta.keeps_items_parquet(self._db) and (entries or meta.owns_file(self._db, "catalog.json")):
            try:
                notes = self._update_items_parquet(entries)
            except InterruptedRunError as error:
                interrupted = error
        catalogs.write_mirror_catalogs(
            self._db,
            self.store,
            self.publisher,
            entries,
            secrets=self._secrets,
            source=self._run.source,
            is_stopped=is_stopped,
        )
        if not meta.keeps_items_parquet(self._db):
            remove_items_parquet(self._db, self.store)
        if interrupted is not None:
            raise interrupted
        return notes

    def _update_items_parquet(self, entries: list[CollectionEntry]) -> tuple[str, ...]:
        if self._is_stopped():
            raise InterruptedRunError("Interrupted.")
        if self._run.metadata == "none":
            return (f"{ITEMS_PARQUET} is not brought up to date, because --metadata none keeps no items.",)
        if not is_pyarrow_installed():
            return (f"{ITEMS_PARQUET} is not brought up to date: pip install 'stacpull[geoparquet]'.",)
        return update_items_parquet(
            self._db,
            self.store,
            self.publisher,
            entries,
            secrets=self._secrets,
            is_stopped=self._is_stopped,
            on_stage=self._on_stage,
        )

    # --- the walk ----------------------------------------------------------------------------------------

    def plan(self, batch: PlanBatch, now: float) -> Committed:
        """Save a batch of the walk, and return the jobs that it opens; `now` in seconds since 1970."""
        return self._planner.commit(batch, now)

    def known(self, ids: Sequence[ItemId]) -> set[ItemId]:
        """Return which of these items the run has planned already."""
        return self._planner.known(ids)

    def newest_job(self) -> int:
        """Return the highest row of an asset: what is planned later has a higher one."""
        return jobs.newest(self._db)

    def pending_jobs(self, after: int, most: int) -> list[Job]:
        """Return up to `most` pending jobs with rows past `after`, in row order."""
        return jobs.pending_jobs(self._db, self._run.id, after, most)

    def walked(self) -> frozenset[str]:
        """Return the collections whose walk has ended."""
        return runs.walked(self._db)

    def set_complete_walk(self) -> None:
        """Record that the walk has met all that the source has."""
        meta.set_complete_walk(self._db, self._run.id)

    def restart_walk(self) -> None:
        """Forget how far the walk is; its items are known and stay counted."""
        runs.restart_walk(self._db, self._run.id)

    def failed_items(self) -> list[FailedItem]:
        """Return the source items that could not be read."""
        return jobs.failed_items(self._db)

    def unread_links(self) -> list[UnreadLink]:
        """Return the links of a tree that could not be read."""
        return walk_state.unread_links(self._db, self._run.id)

    def forget_unread(self, hrefs: Sequence[str]) -> None:
        """Forget links that have been read."""
        walk_state.forget_links(self._db, self._run.id, hrefs)

    def matched_by_walk(self) -> int:
        """Return how many items matched in the last walk, and in what tried again since."""
        return runs.matched_by_walk(self._db, self._run.id)

    def sample_ranks(self) -> list[int]:
        """Return the ranks of the candidates of the sample so far."""
        return walk_state.ranks(self._db)

    def sample_candidates(self, after: SampledItem | None, most: int) -> list[SampledItem]:
        """Return up to `most` candidates of the sample in their order, those behind `after`."""
        return walk_state.candidates(self._db, after, most)

    def damaged_documents(self, after: int, most: int) -> list[DamagedItem]:
        """Return up to `most` items past row `after` whose JSON in DEST is damaged."""
        return jobs.damaged_documents(self._db, after, most)

    def keep_document(self, row: int, document: bytes) -> None:
        """Keep the document of an item whose JSON is damaged; it is written when the run ends."""
        jobs.keep_document(self._db, row, document)

    # --- pruning -----------------------------------------------------------------------------------------

    def prune_basis(self) -> PruneBasis:
        """Return what decides whether the walk can say what is gone."""
        whole = meta.complete_walk(self._db) == self._run.id
        return PruneBasis(whole, pruning.unread(self._db, self._run.id))

    def unseen_items(self, after: int, most: int) -> list[UnseenItem]:
        """Return up to `most` items past row `after` that the walk did not meet."""
        return pruning.unseen_items(self._db, self._run.id, after, most)

    def seen_examples(self, collection: str, host: str, most: int) -> list[tuple[str, str]]:
        """Return (id, URL) of up to `most` items of a collection that the walk met at a host."""
        return pruning.seen_examples(self._db, self._run.id, collection, host, most)

    def label_items(self, sources: Sequence[int]) -> list[LabelItem]:
        """Return the label items of these source items."""
        return pruning.label_items(self._db, sources)

    def remove_items(self, rows: Sequence[int], renewed: Mapping[int, bytes]) -> None:
        """Forget items and remove their files; `renewed` has new documents of label items, by row."""
        pruning.forget(self._db, self._run.id, rows, renewed)
        self.publisher.remove_listed()

    def put_change(self, what: str, number: int) -> None:
        """Record how many changes of a kind there are."""
        runs.set_change(self._db, self._run.id, what, number)

    def kept(self) -> KeptCounts:
        """Return how much stays that the walk did not meet."""
        db, run = self._db, self._run.id
        return KeptCounts(
            unlisted_assets=pruning.unlisted_assets(db, run),
            of_more_credentials=pruning.of_more_credentials(db, run),
            of_several=pruning.of_several(db, run),
        )

"""Saving a page: its items, their assets, and the position of the walk. One transaction per batch.

`Planner.save_batch` takes a batch of items of one page. The batch that ends a page has the new position.
After a kill between two batches, the next start reads the page again: its first items are already planned,
and none is counted twice.

Nearly all items are new. They are inserted together, with one statement per table. A known item is planned
by itself, based on its rows in the ledger (`ledger.planned_assets`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.digests import text_digest
from stacpull.ledger import paths, runs, walk_state
from stacpull.ledger.compact import HrefForms, href_of, item_directory_of
from stacpull.ledger.database import exists, number, rows_with, transaction
from stacpull.ledger.known_assets import KnownAsset
from stacpull.ledger.outcomes import ITEM_FAILURE, put_failure, renew_document, update_item_states
from stacpull.ledger.planned_assets import (
    AssetPlanner,
    ItemRow,
    PlanResult,
    always_present,
    reject_duplicates,
)
from stacpull.ledger.runs import asset_counters, selection_of
from stacpull.ledger.schema import DAMAGED, OF_SEVERAL, WRITTEN
from stacpull.ledger.walk_state import SampledItem
from stacpull.models import ItemFailure, ItemId, PlannedItem, Unread, path_in_dest
from stacpull.planning.item_plan import item_document_name
from stacpull.redact import Secrets


class PlanBatch(msgspec.Struct, frozen=True):
    """One batch: label items come before the source items that they link to.

    `seen` are the IDs of the items read, `left_out` those that a filter rejected, by reason. `position` is
    None unless the batch ends its page.
    """

    items: Sequence[PlannedItem] = ()
    failed_items: Sequence[ItemFailure] = ()
    seen: Sequence[ItemId] = ()
    left_out: Mapping[str, Sequence[ItemId]] = msgspec.field(default_factory=dict)
    unread: Sequence[Unread] = ()
    """What could not be read or planned, without credentials. Links have no name here."""
    position: str | None = None
    walked: str | None = None
    """The collection whose last page ends with this batch."""
    walk_ended: bool = False
    announced: int | None = None
    """The number of items that all collections announce, if it is known."""
    cut_short: str | None = None
    """Why the walk ended before the source did."""
    counts_unseen: bool = False
    """True at the end of the walk if announced items that it did not see are missing."""
    sampled: Sequence[SampledItem] = ()
    """Candidates of the run's sample."""
    sample_complete: bool = False
    """True if the sample is complete with this batch."""


class _EarlierItem(NamedTuple):
    """An item that was in the ledger before the batch."""

    row: int
    run: int
    """The last run that planned it."""
    updated: str | None
    parent: int | None
    written: int
    walk: int | None
    """The last walk that found it (`ledger.schema`)."""
    listed: int
    """1 if it has a label item and is on a page as well."""
    directory: str
    """The directory of its JSON."""
    is_unread: bool = False
    """True if it is a source item that could not be read."""

    @property
    def is_primary(self) -> bool:
        """True if a page contains it."""
        return self.parent is None or bool(self.listed)

    @property
    def is_new(self) -> bool:
        """True if it could never be read."""
        return self.is_unread and self.updated is None and not self.written


class _BatchItem(NamedTuple):
    """An item of the current batch."""

    item: PlannedItem
    item_row: ItemRow
    parent: int | None
    before: _EarlierItem | None
    """None if it is new."""


class Planner:
    """Plans for one run, on the thread that owns the ledger."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        *,
        sample_size: int = 0,
        revalidate: bool = False,
        is_there: Callable[[str], bool] = always_present,
        secrets: Secrets | None = None,
    ) -> None:
        """Create a planner.

        Args:
            db: The ledger.
            run: The run.
            sample_size: How many items the sample of the run has, if it draws one.
            revalidate: True to revalidate every asset that is done.
            is_there: Returns True if a file is in DEST, given its path relative to DEST.
            secrets: Texts that are removed from hrefs and messages.
        """
        self._db = db
        self._run = run
        self._sample_size = sample_size
        self._secrets = Secrets() if secrets is None else secrets
        self._is_there = is_there
        self._same_assets: dict[int, bool] = {}
        self._directories = paths.Directories(db)
        self._forms = HrefForms(db)
        self._collections = Recent[str, int]()
        self._assets = AssetPlanner(
            db,
            run,
            self._directories,
            self._secrets,
            revalidate=revalidate,
            is_there=is_there,
            area=runs.area_of(db, run),
        )
        self._known: dict[ItemId, _EarlierItem] = {}
        """Items of the current batch that are in the ledger."""
        self._last_item = 0
        self._is_walk, self._others = _walks(db, run)

    def known(self, ids: Sequence[ItemId], linked: bool) -> set[ItemId]:
        """Return the `ids` that this run has already planned.

        With `linked`, the IDs are source items; also return those that this run could not read. Without it,
        they are on a page: leave out what was planned, or could not be read, as a source item only.
        """
        found = [(item, one) for item, one in self._load(ids).items() if one.run == self._run]
        return {item for item, one in found if linked or (one.is_primary and not one.is_unread)}

    def save_batch(self, batch: PlanBatch, now: float) -> PlanResult:
        """Save a batch in one transaction.

        Args:
            batch: The batch.
            now: Seconds since 1970.

        Returns:
            The jobs that it opened, and the failures while planning.
        """
        self._assets.begin(now)
        try:
            with transaction(self._db):
                self._save(batch, now)
        except BaseException:
            self._forget()
            raise
        return self._assets.result

    def _save(self, batch: PlanBatch, now: float) -> None:
        result = self._assets.result
        done = asset_counters(self._db, self._run)["assets_done"]
        result.new_seen = self._see(batch.seen) + self._leave_out(batch)
        rows = self._items(batch)
        rows += [row for item in batch.failed_items for row in self._failed_item(item, now)]
        update_item_states(self._db, rows)
        result.items_failed += walk_state.note_unread(self._db, self._run, batch.unread, now)
        self._count(batch, asset_counters(self._db, self._run)["assets_done"] - done)
        walk_state.keep(self._db, batch.sampled, self._sample_size)
        if batch.walk_ended:
            self._db.execute("DELETE FROM sample")
        if batch.walk_ended or batch.sample_complete:
            self._db.execute(walk_state.END_WALK, {"run": self._run})

    def _forget(self) -> None:
        """Clear the state of rows that were rolled back."""
        self._directories.forget()
        self._forms.forget()
        self._collections.clear()
        self._assets.forget()

    # --- items of the walk -------------------------------------------------------------------------------

    def _see(self, ids: Sequence[ItemId]) -> int:
        """Record the items of a page; return how many are new to this walk."""
        hashes = ((seen_hash(item),) for item in ids)
        return self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", hashes).rowcount if ids else 0

    def _leave_out(self, batch: PlanBatch) -> int:
        """Count the rejected items that are new to this walk by reason; return their number."""
        counts = {reason: self._see(ids) for reason, ids in batch.left_out.items()}
        self._db.executemany(_LEAVE_OUT, [(self._run, *entry) for entry in counts.items()])
        return sum(counts.values())

    # --- items -------------------------------------------------------------------------------------------

    def _items(self, batch: PlanBatch) -> list[int]:
        """Plan the items of a batch; return the rows of all items whose state must be updated."""
        if not batch.items and not batch.failed_items:
            return []
        self._known = self._load(_ids_in(batch))
        self._last_item = number(self._db, "SELECT max(id) FROM items")
        for item in batch.items:
            self._list(item)
        planned = [found for item in batch.items if (found := self._planned(item)) is not None]
        new = [plan for plan in planned if plan.before is None]
        again = [(plan, plan.before) for plan in planned if plan.before is not None]
        hashes = self._assets.path_hashes(asset for plan in new for asset in plan.item.assets)
        directories = self._directories.of_items([plan.item_row.id for plan in new], hashes)
        new = [
            one._replace(item_row=one.item_row._replace(directory=path))
            for one, (_, path) in zip(new, directories, strict=True)
        ]
        fresh = [(plan.item_row, asset) for plan in new for asset in plan.item.assets]
        self._assets.prepare(fresh, hashes)
        self._insert_items(new, [row for row, _ in directories])
        if self._has_unread():
            self._drop_stand_ins(planned)
            read = [(one.row,) for _, one in again if one.is_unread]
            self._db.executemany("DELETE FROM failures WHERE item = ? AND key = ''", read)
        existing = self._assets.existing([one.item_row.row for one, _ in again])
        linking = {plan.parent for plan in new}.union(self._labels_of_new(batch.failed_items))
        linking |= {one.parent for one, before in again if before.parent not in (None, one.parent)}
        updates = [
            self._plan_again(one, before, existing[one.item_row.row], links_more=one.item_row.row in linking)
            for one, before in again
        ]
        self._db.executemany(_UPDATE_ITEM, updates)
        self._assets.keep_unchanged()
        self._assets.insert(fresh, hashes)
        for plan in new:
            self._assets.fail(plan.item_row, plan.item.problems, {})
        return [row for plan in planned for row in _with_parents(plan.item_row.row, plan.parent, plan.before)]

    def _list(self, item: PlannedItem) -> None:
        """Count a source item that this run has planned as a primary item, if a page contains it."""
        before = self._known.get(item.id)
        if before is None or before.run != self._run or before.is_unread or before.is_primary:
            return
        if item.parent is None:
            self._assets.result.matched += 1
            self._db.execute("UPDATE items SET listed = 1 WHERE id = ?", (before.row,))
            self._known[item.id] = before._replace(listed=1)

    def _labels_of_new(self, failed: Sequence[ItemFailure]) -> set[int]:
        """Return the rows of the label items that link to unknown source items that could not be read."""
        new = (failed_item.parent for failed_item in failed if failed_item.id not in self._known)
        return {self._known[parent].row for parent in new if parent in self._known}

    def _load(self, ids: Iterable[ItemId]) -> dict[ItemId, _EarlierItem]:
        """Return the `ids` that are in the ledger."""
        wanted = set(ids)
        found: dict[ItemId, _EarlierItem] = {}
        for collection, name, *rest in rows_with(self._db, _FIND, list(map(paths.item_hash, wanted))):
            found[ItemId(collection, name)] = _EarlierItem(*rest)
        found = {item: known for item, known in found.items() if item in wanted}
        if self._has_unread():
            rows = [known.row for known in found.values()]
            unread = {row for (row,) in rows_with(self._db, _UNREAD, rows)}
            found = {item: known._replace(is_unread=known.row in unread) for item, known in found.items()}
        return found

    def _has_unread(self) -> bool:
        return exists(self._db, "SELECT 1 FROM failures WHERE key = ''")

    def _planned(self, item: PlannedItem) -> _BatchItem | None:
        """Return an item with its row; None if this run already planned it, through another label item."""
        before = self._known.get(item.id)
        result = self._assets.result
        if before is not None and before.run == self._run:
            if not before.is_unread:
                return None
            result.items_failed -= 1
        reject_duplicates(item.id, item.assets)
        result.matched += item.parent is None and not item.of_collection
        result.count("assets_excluded", len(item.excluded))
        result.count("assets_pages", len(item.pages))
        result.count("items_new", (before is None or before.is_new) and not item.of_collection)
        parent = None if item.parent is None else self._known.get(item.parent)
        row = before.row if before is not None else self._new_row()
        self._remember(item.id, row, before, is_unread=False)
        item_row = ItemRow(row, item.id, item.href, "" if before is None else before.directory)
        return _BatchItem(item, item_row, None if parent is None else parent.row, before)

    def _remember(self, item: ItemId, row: int, before: _EarlierItem | None, *, is_unread: bool) -> None:
        """Record that this run has planned an item, or could not read it."""
        known = before or _EarlierItem(row, self._run, *_NOTHING)
        self._known[item] = known._replace(run=self._run, is_unread=is_unread)

    def _new_row(self) -> int:
        """Return the row of the next new item."""
        self._last_item += 1
        return self._last_item

    def _insert_items(self, new: Sequence[_BatchItem], directories: Sequence[int]) -> None:
        """Insert items. They are open until their states are updated."""
        values = [self._item_values(one, row) for one, row in zip(new, directories, strict=True)]
        self._db.executemany(_INSERT_ITEM, values)
        documents = [(plan.item_row.row, plan.item.cleaned) for plan in new if not plan.item.of_collection]
        self._db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", documents)

    def _item_values(self, one: _BatchItem, directory: int) -> tuple[object, ...]:
        item = one.item
        return (
            one.item_row.row,
            paths.item_hash(item.id),
            self._collection(item.id.collection),
            item.id.item,
            one.parent,
            self._run,
            directory,
            *self._href(item.href, item.id),
            item.updated,
            self._run if self._is_walk else None,
        )

    def _plan_again(
        self, one: _BatchItem, before: _EarlierItem, existing: Mapping[str, KnownAsset], *, links_more: bool
    ) -> tuple[object, ...]:
        """Plan a known item, and schedule its JSON to be written again if it may be outdated.

        Args:
            one: The item.
            before: The item as it is in the ledger.
            existing: Its asset rows in the ledger.
            links_more: True if it links to a source item that was not in the ledger, or that another label
                item led to.

        Returns:
            The new values of its row.
        """
        item, row = one.item, one.item_row.row
        result = self._assets.result
        item_updated = item.updated != before.updated
        opened = self._assets.plan_known(
            one.item_row,
            item,
            existing,
            item_updated=item_updated,
            fresh_is_change=self._chose_same_assets(before.run),
        )
        lost = before.written == WRITTEN and not self._is_there(
            path_in_dest(before.directory, item_document_name(item.id))
        )
        result.count("files_lost", lost)
        renewed = (
            opened.any or item_updated or lost or links_more or before.is_new or before.written == DAMAGED
        )
        if renewed:
            self._note_unchecked(item, existing, item_updated=item_updated)
        if not item.of_collection:
            result.count("items_changed", (item_updated or opened.changed) and not before.is_new)
            if renewed:
                renew_document(self._db, row, one.item.cleaned)
        walk = self._walk_of(before, item.href)
        href = self._href(item.href, item.id)
        return self._run, one.parent, item.updated, *href, walk, row

    def _note_unchecked(
        self, item: PlannedItem, existing: Mapping[str, KnownAsset], *, item_updated: bool
    ) -> None:
        """Record the assets of an item that this run leaves out although they may have changed.

        The next run that plans such an asset revalidates it. There are two cases: the item's `updated` has
        changed, which only this run can detect; or the new document does not list the asset (its prefix was
        not listed in this run), so the document must get it back.
        """
        planned = {asset.key for asset in item.assets}.union(item.expanded_prefixes)
        assets = orjson.loads(item.cleaned).get("assets")
        listed = assets if isinstance(assets, dict) else {}
        left = [
            (old.row,)
            for key, old in existing.items()
            if key not in planned and (item_updated or key not in listed)
        ]
        self._db.executemany("INSERT OR IGNORE INTO unchecked VALUES (?)", left)

    def _drop_stand_ins(self, planned: Sequence[_BatchItem]) -> None:
        """Delete the placeholders of source items that could not be read and whose IDs were unknown."""
        for plan in (plan for plan in planned if plan.parent is not None):
            found = self._db.execute(
                "SELECT i.id, i.run FROM items i JOIN failures f ON f.item = i.id AND f.key = '' "
                f"WHERE i.parent = ? AND {href_of()} = ? AND i.id <> ?",
                (plan.parent, self._cut(plan.item_row.href), plan.item_row.row),
            ).fetchall()
            self._assets.result.items_failed -= sum(run == self._run for _, run in found)
            rows = [(row,) for row, _ in found]
            self._db.executemany("DELETE FROM failures WHERE item = ?", rows)
            self._db.executemany("DELETE FROM items WHERE id = ?", rows)

    def _failed_item(self, failed: ItemFailure, now: float) -> list[int]:
        """Record a source item that could not be read; return its row and the rows of its label items."""
        parent, before = self._known.get(failed.parent), self._known.get(failed.id)
        if before is not None and before.run == self._run:
            return []
        above = parent.row if parent is not None else None
        if before is None:
            row = self._new_row()
            collection, hashed = self._collection(failed.id.collection), paths.item_hash(failed.id)
            ((directory, _),) = self._directories.of_items([failed.id])
            href = self._href(failed.href, failed.id)
            values = (row, hashed, collection, failed.id.item, above, self._run, directory, *href, None, None)
            self._db.execute(_INSERT_ITEM, values)
        else:
            row = before.row
            self._db.execute(
                "UPDATE items SET run = ?, parent = ?, listed = 0 WHERE id = ?", (self._run, above, row)
            )
        self._remember(failed.id, row, before, is_unread=True)
        put_failure(self._db, row, "", failed.failure.scrubbed(self._secrets), 1, now)
        result = self._assets.result
        result.items_failed += 1
        result.failures.append((failed.id, "", failed.failure))
        return _with_parents(row, above, before)

    # --- values of rows ----------------------------------------------------------------------------------

    def _collection(self, name: str) -> int:
        found = self._collections.get(name)
        if found is None:
            found = paths.collection_row(self._db, name)
            if len(name) <= LONGEST_KEY:
                self._collections[name] = found
        return found

    def _cut(self, href: str | None) -> str | None:
        return None if href is None else self._secrets.cut(href)

    def _href(self, href: str | None, item: ItemId) -> tuple[str | None, int | None]:
        """Return the values of `href` and `href_form`."""
        return self._forms.stored(self._cut(href), item.item)

    def _walk_of(self, before: _EarlierItem, href: str | None) -> int | None:
        """Return the last walk that found an item; a retry does not change it.

        If several sources have the item under different URLs, no single source may declare it gone.
        """
        if not self._is_walk or before.walk == OF_SEVERAL:
            return before.walk
        if before.walk in self._others and self._href_of(before.row) != self._cut(href):
            return OF_SEVERAL
        return self._run

    def _href_of(self, item_row: int) -> str | None:
        kept: str | None = self._db.execute(
            f"SELECT {href_of()} FROM items i WHERE i.id = ?", (item_row,)
        ).fetchone()[0]
        return kept

    def _chose_same_assets(self, run: int) -> bool:
        """Return True if `run` selected the same assets as this run."""
        found = self._same_assets.get(run)
        if found is None:
            (then, state), (now, _) = (
                self._db.execute("SELECT selection, state FROM runs WHERE id = ?", (run_id,)).fetchone()
                for run_id in (run, self._run)
            )
            is_over = state == "superseded"  # its assets may have been deleted
            found = not is_over and selection_of(then).asset_filters == selection_of(now).asset_filters
            self._same_assets[run] = found
        return found

    def _count(self, batch: PlanBatch, skipped: int) -> None:
        result = self._assets.result
        self._db.execute(
            _COUNT_RUN,
            {
                "seen": result.new_seen,
                "matched": result.matched,
                "items_failed": result.items_failed,
                "skipped": skipped,
                "position": batch.position,
                "walk_ended": batch.walk_ended,
                "sample_complete": batch.sample_complete,
                "announced": batch.announced,
                "cut_short": batch.cut_short,
                "counts_unseen": batch.counts_unseen,
                "run": self._run,
            },
        )
        if batch.walked is not None:
            self._db.execute("INSERT OR IGNORE INTO walked VALUES (?)", (batch.walked,))
        runs.count_findings(self._db, self._run, result.findings)


_NOTHING = (None, None, 0, None, 0, "")
"""The values of an unknown item."""
_FIND = (
    "SELECT c.name, i.name, i.id, i.run, i.updated, i.parent, i.written, i.walk, i.listed, "
    f"{item_directory_of()} FROM items i JOIN collections c ON c.id = i.collection "
    "WHERE i.hash IN ({marks})"
)
_UNREAD = f"SELECT item FROM failures WHERE item IN ({{marks}}) AND {ITEM_FAILURE}"
_UPDATE_ITEM = (
    "UPDATE items SET run = ?, parent = ?, updated = ?, href = ?, href_form = ?, walk = ?, "
    "listed = 0, remaining = 1 WHERE id = ?"
)
_LEAVE_OUT = "INSERT INTO left_out VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET items = items + excluded.items"
_INSERT_ITEM = (
    "INSERT INTO items(id, hash, collection, name, parent, run, directory, href, href_form, updated, walk, "
    "remaining) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
)
_COUNT_RUN = (
    "UPDATE runs SET items_seen = items_seen + :seen, items_matched = items_matched + :matched, "
    "items_failed = items_failed + :items_failed, "
    "assets_skipped = assets_skipped + :skipped, position = coalesce(:position, position), "
    "walk_ended = walk_ended OR :walk_ended, sample_complete = sample_complete OR :sample_complete, "
    "items_announced = coalesce(:announced, items_announced), "
    "cut_short = coalesce(:cut_short, cut_short), "
    "items_unseen = coalesce(iif(:counts_unseen, max(0, :announced - items_seen - :seen), NULL), "
    "items_unseen) WHERE id = :run"
)


def _ids_in(batch: PlanBatch) -> set[ItemId]:
    """Return the IDs of all items in a batch."""
    named = {item.id for item in batch.items}
    named |= {item.parent for item in batch.items if item.parent is not None}
    return named.union(*((one.id, one.parent) for one in batch.failed_items))


def _with_parents(row: int, parent: int | None, before: _EarlierItem | None) -> list[int]:
    """Return an item and the label items to update with it: its current one and its earlier one."""
    parents = (parent, before.parent if before is not None else None)
    return [row, *(one for one in parents if one is not None)]


def _walks(db: sqlite3.Connection, run: int) -> tuple[bool, frozenset[int]]:
    """Return True if `run` walks its source, and the walks of other sources."""
    rows = db.execute(
        "SELECT id, kind, source = (SELECT source FROM runs WHERE id = ?) FROM runs", (run,)
    ).fetchall()
    is_walk = any(row == run and kind == "mirror" for row, kind, _ in rows)
    return is_walk, frozenset(row for row, _, is_own in rows if not is_own)


def seen_hash(item: ItemId) -> int:
    """Return the key of an item in the table of items seen by the current walk, matched or not."""
    return text_digest(f"{item.collection}\0{item.item}")

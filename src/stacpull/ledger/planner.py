"""Saving a page: its items, their assets, and the position of the walk. One transaction per batch.

`Planner.save_batch` takes a batch of items of one page. The batch that ends a page has the new position.
After a kill between two batches, the next start reads the page again: its first items are already planned,
and none is counted twice.

Nearly all items are new. They and their assets are inserted together, with one statement per table. A known
item is planned by itself, based on its rows in the ledger: `ledger.known_assets` decides what becomes of its
assets. A failed asset whose name was taken gets a path of the current layout when it is fetched again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.errors import StacpullError
from stacpull.ledger import paths, runs, walk_state
from stacpull.ledger.database import exists, insert_rows, marks, number, pieces, rows_with, transaction
from stacpull.ledger.known_assets import (
    KnownAsset,
    Replanned,
    encoded_checksum,
    replan,
    version_to_confirm,
)
from stacpull.ledger.outcomes import (
    FAILED_IN_PASSING,
    ITEM_FAILURE,
    failed_state,
    put_failure,
    renew_document,
    update_item_states,
)
from stacpull.ledger.paths import OTHER_DIRECTORY, UNOWNED, item_directory_of
from stacpull.ledger.runs import LEFT_OUT, asset_counters, selection_of
from stacpull.ledger.schema import (
    DAMAGED,
    OF_SEVERAL,
    OWN_DIRECTORY,
    STATE_DONE,
    STATE_FAILED,
    STATE_PENDING,
    STATE_RESERVED,
    WRITTEN,
)
from stacpull.models import (
    Asset,
    Failure,
    FailureKind,
    ItemFailure,
    ItemId,
    Job,
    PlannedItem,
    Unread,
    WalkUpdate,
    path_in_dest,
)
from stacpull.planning.item_plan import is_newer, item_document_name
from stacpull.planning.names import hashes_in, path_hash
from stacpull.redact import Secrets, href_hash, is_signed


class PlanBatch(msgspec.Struct):
    """What a walk selected from up to 100 items: label items come before the source items that they link to.

    In the ledger, nothing in it has credentials, and links in `unread` have no name.
    """

    items: list[PlannedItem] = msgspec.field(default_factory=list)
    failed_items: list[ItemFailure] = msgspec.field(default_factory=list)
    """Source items that could not be read or planned."""
    seen: list[ItemId] = msgspec.field(default_factory=list)
    """The items of the page that match."""
    left_out: dict[str, list[ItemId]] = msgspec.field(default_factory=dict)
    """The items of the page that a filter rejected, by reason."""
    unread: list[Unread] = msgspec.field(default_factory=list)
    """Unreadable links and entries, and items of the page that cannot be planned."""
    reached: WalkUpdate = WalkUpdate()


class PlanResult(msgspec.Struct):
    """The result of planning a batch.

    Attributes:
        jobs: The jobs of assets that must be fetched.
        failures: Failures while planning: item, asset key ("" for the item itself), reason.
        new_seen: How many of `PlanBatch.seen` and `PlanBatch.left_out` were new.
        matched: Primary items that this run planned for the first time.
        items_failed: What could not be read or planned and was not counted in this run before, minus the
            source items that were read later in the run.
        findings: What else the report counts, by the name of its field in `MirrorReport`.
    """

    jobs: list[Job] = msgspec.field(default_factory=list)
    failures: list[tuple[ItemId, str, Failure]] = msgspec.field(default_factory=list)
    new_seen: int = 0
    matched: int = 0
    items_failed: int = 0
    findings: dict[str, int] = msgspec.field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a finding."""
        if number:
            self.findings[name] = self.findings.get(name, 0) + number


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
    href: str | None
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


class _BatchItem(msgspec.Struct):
    """An item of the current batch, and what planning has found about it."""

    item: PlannedItem
    row: int
    parent: int | None
    before: _EarlierItem | None
    """None if it is new."""
    directory: str = ""
    """The directory of its JSON."""
    directory_row: int = OWN_DIRECTORY
    """Its row, if the item is new."""
    is_renewed: bool = False
    """True if an asset is new, an asset is open that was final, or its JSON may be incomplete."""
    has_changed: bool = False
    """True if an asset is new, or has another size or checksum."""


_Fresh = Sequence[tuple[_BatchItem, Sequence[Asset]]]
"""New assets by item."""


def always_present(_path: str) -> bool:
    """Return True for every file, for a planner that does not look into DEST."""
    return True


class Planner:
    """Plans for one run, on the thread that owns the ledger."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        *,
        revalidate: bool = False,
        is_there: Callable[[str], bool] = always_present,
        secrets: Secrets | None = None,
    ) -> None:
        """Create a planner.

        Args:
            db: The ledger.
            run: The run.
            revalidate: True to revalidate every asset that is done.
            is_there: Returns True if a file is in DEST, given its path relative to DEST.
            secrets: Texts that are removed from hrefs and messages.
        """
        self._db = db
        self._run = run
        self._secrets = Secrets() if secrets is None else secrets
        self._is_there = is_there
        self._revalidate = revalidate
        self._area = runs.area_of(db, run)
        self._same_assets: dict[int, bool] = {}
        self._directories = paths.Directories(db)
        self._collections = Recent[str, int]()
        self._result = PlanResult()
        """Of the current batch, like the following."""
        self._now = 0.0
        self._has_secrets = True
        self._unchanged: list[tuple[KnownAsset, bytes | None]] = []
        """Assets that are done and unchanged, each with the checksum now stated."""
        self._earlier: dict[ItemId, _EarlierItem] = {}
        """Items that are in the ledger."""
        self._last_item = 0
        self._last_asset = number(db, "SELECT max(id) FROM assets")
        self._is_walk, self._others = _walks(db, run)

    def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that this run has already planned, with their `updated`.

        With `linked`, the IDs come from links: a source item that this run could not read counts as planned.
        Without `linked`, the IDs come from a page of the walk: an item that was planned, or could not be
        read, only because another item links to it does not count as planned.
        """
        found = [(item, one) for item, one in self._load(ids).items() if one.run == self._run]
        return {item: one.updated for item, one in found if linked or (one.is_primary and not one.is_unread)}

    def save_batch(self, batch: PlanBatch, now: float) -> PlanResult:
        """Save a batch in one transaction.

        Args:
            batch: The batch.
            now: Seconds since 1970.

        Returns:
            The jobs that it opened, and the failures while planning.
        """
        self._result, self._now, self._unchanged = PlanResult(), now, []
        self._has_secrets = bool(self._secrets)
        try:
            with transaction(self._db):
                self._save(batch, now)
        except BaseException:
            self._forget()
            raise
        return self._result

    def _save(self, batch: PlanBatch, now: float) -> None:
        result = self._result
        done = asset_counters(self._db, self._run)["assets_done"]
        result.new_seen = self._see(batch.seen) + self._leave_out(batch)
        rows = self._items(batch)
        rows += [row for item in batch.failed_items for row in self._failed_item(item, now)]
        update_item_states(self._db, rows)
        result.items_failed += walk_state.note_unread(self._db, self._run, batch.unread, now)
        self._count(batch, asset_counters(self._db, self._run)["assets_done"] - done)
        if batch.reached.walk_ended:
            self._db.execute(walk_state.END_WALK, {"run": self._run})

    def _forget(self) -> None:
        """Clear the state of rows that were rolled back."""
        self._directories.forget()
        self._collections.clear()
        self._last_asset = number(self._db, "SELECT max(id) FROM assets")

    # --- items of the walk -------------------------------------------------------------------------------

    def _see(self, ids: Sequence[ItemId]) -> int:
        """Record the items of a page; return how many are new to this walk."""
        hashes = ((walk_state.seen_hash(item),) for item in ids)
        return self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", hashes).rowcount if ids else 0

    def _leave_out(self, batch: PlanBatch) -> int:
        """Count the rejected items that are new to this walk by reason; return their number."""
        counts = {LEFT_OUT + reason: self._see(ids) for reason, ids in batch.left_out.items()}
        runs.count_findings(self._db, self._run, counts)
        return sum(counts.values())

    # --- items -------------------------------------------------------------------------------------------

    def _items(self, batch: PlanBatch) -> list[int]:
        """Plan the items of a batch; return the rows of all items whose state must be updated."""
        if not batch.items and not batch.failed_items:
            return []
        self._earlier = self._load(_ids_in(batch))
        self._last_item = number(self._db, "SELECT max(id) FROM items")
        for item in batch.items:
            self._list(item)
        planned = [found for item in batch.items if (found := self._planned(item)) is not None]
        new = [plan for plan in planned if plan.before is None]
        again = [(plan, plan.before) for plan in planned if plan.before is not None]
        fresh = [(one, one.item.assets) for one in new]
        hashes = _path_hashes(fresh)
        directories = self._directories.of_items([one.item.id for one in new], hashes)
        for one, (row, path) in zip(new, directories, strict=True):
            one.directory_row, one.directory = row, path
        self._prepare_directories(fresh, hashes)
        self._insert_items(new)
        if self._has_unread():
            self._drop_stand_ins(planned)
            read = [(one.row,) for _, one in again if one.is_unread]
            self._db.executemany("DELETE FROM failures WHERE item = ? AND key = ''", read)
        existing = self._existing([one.row for one, _ in again])
        linking = {plan.parent for plan in new}.union(self._labels_of_new(batch.failed_items))
        linking |= {one.parent for one, before in again if before.parent not in (None, one.parent)}
        updates = [
            self._plan_again(one, before, existing[one.row], links_more=one.row in linking)
            for one, before in again
        ]
        self._db.executemany(_UPDATE_ITEM, updates)
        self._keep_unchanged()
        self._insert_assets(fresh, hashes)
        for one in new:
            self._fail_assets(one, {})
        return [row for one in planned for row in _with_parents(one.row, one.parent, one.before)]

    def _list(self, item: PlannedItem) -> None:
        """Count a source item that this run has planned as a primary item, if a page contains it."""
        before = self._earlier.get(item.id)
        if before is None or before.run != self._run or before.is_unread or before.is_primary:
            return
        if item.parent is None:
            self._result.matched += 1
            self._db.execute("UPDATE items SET listed = 1 WHERE id = ?", (before.row,))
            self._earlier[item.id] = before._replace(listed=1)

    def _labels_of_new(self, failed: Sequence[ItemFailure]) -> set[int]:
        """Return the rows of the label items that link to unknown source items that could not be read."""
        new = (failed_item.parent for failed_item in failed if failed_item.id not in self._earlier)
        return {self._earlier[parent].row for parent in new if parent in self._earlier}

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
        """Return an item with its row; None if this run already planned it, unless a page has a newer one."""
        before = self._earlier.get(item.id)
        result = self._result
        again = before is not None and before.run == self._run and not before.is_unread
        if before is not None and before.run == self._run:
            if again and not (
                item.parent is None and before.parent is None and is_newer(item.updated, before.updated)
            ):
                return None
            result.items_failed -= not again
        reject_duplicates(item.id, item.assets)
        result.matched += item.parent is None and not item.of_collection and not again
        result.count("assets_excluded", 0 if again else len(item.excluded))
        result.count("assets_pages", 0 if again else len(item.pages))
        result.count("items_new", (before is None or before.is_new) and not item.of_collection)
        parent = None if item.parent is None else self._earlier.get(item.parent)
        row = before.row if before is not None else self._new_row()
        self._remember(item.id, row, before, is_unread=False)
        directory = "" if before is None else before.directory
        return _BatchItem(item, row, None if parent is None else parent.row, before, directory)

    def _remember(self, item: ItemId, row: int, before: _EarlierItem | None, *, is_unread: bool) -> None:
        """Record that this run has planned an item, or could not read it."""
        known = before or _EarlierItem(row, self._run, *_NOTHING)
        self._earlier[item] = known._replace(run=self._run, is_unread=is_unread)

    def _new_row(self) -> int:
        """Return the row of the next new item."""
        self._last_item += 1
        return self._last_item

    def _insert_items(self, new: Sequence[_BatchItem]) -> None:
        """Insert items. They are open until their states are updated."""
        self._db.executemany(_INSERT_ITEM, map(self._item_values, new))
        documents = [(one.row, one.item.cleaned) for one in new if not one.item.of_collection]
        self._db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", documents)

    def _item_values(self, one: _BatchItem) -> tuple[object, ...]:
        item = one.item
        return (
            one.row,
            paths.item_hash(item.id),
            self._collection(item.id.collection),
            item.id.item,
            one.parent,
            self._run,
            one.directory_row,
            self._cut(item.href),
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
        item, row = one.item, one.row
        result = self._result
        item_updated = item.updated != before.updated
        self._plan_known_assets(
            one, existing, item_updated=item_updated, fresh_is_change=self._chose_same_assets(before.run)
        )
        lost = before.written == WRITTEN and not self._is_there(
            path_in_dest(before.directory, item_document_name(item.id))
        )
        result.count("files_lost", lost)
        renewed = (
            one.is_renewed or item_updated or lost or links_more or before.is_new or before.written == DAMAGED
        )
        if renewed:
            self._note_unchecked(item, existing, item_updated=item_updated)
        if not item.of_collection:
            changed = (item_updated or one.has_changed) and not before.is_new
            result.count("items_changed", changed and before.run != self._run)
            if renewed:
                renew_document(self._db, row, one.item.cleaned)
        walk = self._walk_of(before, item.href)
        # the earlier document may be about to be recorded as written: then the next run writes this one
        updated = item.updated if before.run != self._run or one.is_renewed else before.updated
        return self._run, one.parent, updated, self._cut(item.href), walk, row

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
                "WHERE i.parent = ? AND i.href = ? AND i.id <> ?",
                (plan.parent, self._cut(plan.item.href), plan.row),
            ).fetchall()
            self._result.items_failed -= sum(run == self._run for _, run in found)
            rows = [(row,) for row, _ in found]
            self._db.executemany("DELETE FROM failures WHERE item = ?", rows)
            self._db.executemany("DELETE FROM items WHERE id = ?", rows)

    def _failed_item(self, failed: ItemFailure, now: float) -> list[int]:
        """Record a source item that could not be read; return its row and the rows of its label items."""
        parent, before = self._earlier.get(failed.parent), self._earlier.get(failed.id)
        if before is not None and before.run == self._run:
            return []
        above = parent.row if parent is not None else None
        if before is None:
            row = self._new_row()
            collection, hashed = self._collection(failed.id.collection), paths.item_hash(failed.id)
            ((directory, _),) = self._directories.of_items([failed.id])
            href = self._cut(failed.href)
            values = (row, hashed, collection, failed.id.item, above, self._run, directory, href, None, None)
            self._db.execute(_INSERT_ITEM, values)
        else:
            row = before.row
            self._db.execute(
                "UPDATE items SET run = ?, parent = ?, listed = 0 WHERE id = ?", (self._run, above, row)
            )
        self._remember(failed.id, row, before, is_unread=True)
        put_failure(self._db, row, "", failed.failure.scrubbed(self._secrets), 1, now)
        result = self._result
        result.items_failed += 1
        result.failures.append((failed.id, "", failed.failure))
        return _with_parents(row, above, before)

    # --- known assets ------------------------------------------------------------------------------------

    def _existing(self, items: Sequence[int]) -> dict[int, dict[str, KnownAsset]]:
        """Return the asset rows of these items, by item and key."""
        found: dict[int, dict[str, KnownAsset]] = {item: {} for item in items}
        for row in rows_with(self._db, _EXISTING, items):
            found[row[0]][row[1]] = KnownAsset._make(row[2:])
        return found

    def _plan_known_assets(
        self,
        one: _BatchItem,
        known: Mapping[str, KnownAsset],
        *,
        item_updated: bool,
        fresh_is_change: bool,
    ) -> None:
        """Plan the assets of a known item; `_keep_unchanged` completes the planning for a batch.

        Args:
            one: The item.
            known: Its asset rows in the ledger.
            item_updated: True if its `updated` changed: assets that no checksum proves are revalidated.
            fresh_is_change: True if an unknown asset is new at the source; False if the previous run did not
                select it.
        """
        item = one.item
        # a collection without `updated` may have changed
        item_may_have_changed = item_updated or (item.of_collection and item.updated is None)
        for key in item.expanded_prefixes:
            self._drop_unfetched(one, key, known.get(key))
        fresh: list[Asset] = []
        for asset in item.assets:
            old = known.get(asset.key)
            if old is None:
                fresh.append(asset)
                continue
            if old.state < STATE_DONE and one.before is not None and one.before.run == self._run:
                # it is being fetched, perhaps from before the change
                self._db.execute("INSERT OR IGNORE INTO unchecked VALUES (?)", (old.row,))
                continue
            is_lost = self._is_lost(one, old)
            self._result.count("files_lost", is_lost)
            replanned = replan(
                old,
                asset,
                is_lost=is_lost,
                item_updated=item_updated or old.unchecked,
                may_have_changed=item_may_have_changed or old.unchecked,
                revalidate=self._revalidate,
                area=self._area,
            )
            one.is_renewed |= old.unchecked
            if replanned.state == STATE_DONE:
                self._unchanged.append((old, encoded_checksum(asset.checksum)))
            elif replanned.state >= STATE_FAILED:
                self._leave_failed(one, asset, old)
            else:
                self._reopen(one, asset, old, replanned)
        if fresh:
            hashes = _path_hashes([(one, fresh)])
            self._prepare_directories([(one, fresh)], hashes)
            self._insert_assets([(one, fresh)], hashes)
            one.is_renewed, one.has_changed = True, one.has_changed or fresh_is_change
        added = (problem for problem in item.problems if problem.key not in known)
        # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
        one.is_renewed |= any(problem.failure.kind is not FailureKind.ITEM for problem in added)
        self._fail_assets(one, known)

    def _is_lost(self, one: _BatchItem, old: KnownAsset) -> bool:
        """Return True if an asset is done and its file is missing in DEST."""
        if old.state != STATE_DONE or old.name is None:
            return False
        directory = one.directory if old.directory is None else old.directory
        return not self._is_there(path_in_dest(directory, old.name.removeprefix(UNOWNED)))

    def _keep_unchanged(self) -> None:
        """Assign the assets of the batch that are done and unchanged to this run."""
        for some in pieces([old.row for old, _ in self._unchanged if old.run != self._run]):
            taken_over = f"UPDATE assets SET run = ? WHERE id IN ({marks(len(some))})"
            self._db.execute(taken_over, (self._run, *some))
        newly = [(now, old.row) for old, now in self._unchanged if now is not None and now != old.stated]
        self._db.executemany("UPDATE assets SET stated = ? WHERE id = ?", newly)
        self._db.executemany(_CHECKED, [(old.row,) for old, _ in self._unchanged if old.unchecked])

    def _leave_failed(self, one: _BatchItem, asset: Asset, old: KnownAsset) -> None:
        """Leave an asset failed, for `retry` with its newest href."""
        self._locate(one, asset, old)
        self._db.execute(_INSERT_OPEN, self._open_row(old.row, asset, old.previous_digest))
        self._db.execute("UPDATE assets SET run = ? WHERE id = ?", (self._run, old.row))

    def _reopen(self, one: _BatchItem, asset: Asset, old: KnownAsset, new: Replanned) -> None:
        """Make a known asset pending."""
        directory, name = self._locate(one, asset, old)
        self._db.execute(_INSERT_OPEN, self._open_row(old.row, asset, new.previous_digest))
        self._db.execute(
            f"UPDATE assets SET run = ?, state = {STATE_PENDING}, generation = ?, stated = ?, origin = ?, "
            "sha256 = NULL, etag = ? WHERE id = ?",
            (
                self._run,
                new.generation,
                encoded_checksum(asset.checksum),
                href_hash(asset.href),
                new.etag,
                old.row,
            ),
        )
        if old.unchecked:
            self._db.execute(_CHECKED, (old.row,))
        job = self._job(old.row, one, new.generation, asset, directory, name)
        self._result.jobs.append(replace(job, version_in_dest=version_to_confirm(old, asset, new.etag)))
        one.is_renewed |= old.state >= STATE_DONE
        one.has_changed |= new.has_changed

    def _locate(self, one: _BatchItem, asset: Asset, old: KnownAsset) -> tuple[str, str | None]:
        """Return the directory and name of a known asset. One that never had a name gets the planned one."""
        if old.name is not None and not old.name.startswith(UNOWNED):
            directory = one.directory if old.directory is None else old.directory
            return directory, old.name
        directory_id, directory = self._directories.of_asset(asset.directory, one.directory)
        name = None if asset.name is None else UNOWNED + asset.name
        self._db.execute(
            "UPDATE assets SET directory = ?, name = ? WHERE id = ?", (directory_id, name, old.row)
        )
        return directory, asset.name

    def _drop_unfetched(self, one: _BatchItem, key: str, old: KnownAsset | None) -> None:
        """Delete an asset that was not fetched and that its item no longer lists.

        An earlier version that is in place stays. Fetched assets stay even if they are no longer listed.
        """
        if old is None or old.state in (STATE_RESERVED, STATE_DONE):
            return
        self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (one.row, key))
        drop_open(self._db, old.row, old.previous_digest, self._run)
        one.is_renewed = True

    # --- new assets --------------------------------------------------------------------------------------

    def _prepare_directories(self, fresh: _Fresh, hashes: Sequence[int | None]) -> None:
        """Look up or create the directories of new assets whose paths have these hashes."""
        others = {
            asset.directory for one, assets in fresh for asset in assets if asset.directory != one.directory
        }
        self._directories.prepare(others, hashes)

    def _insert_assets(self, fresh: _Fresh, hashes: Sequence[int | None]) -> None:
        """Insert rows for new assets, and add jobs for those whose name is free."""
        rows: list[tuple[object, ...]] = []
        opens: list[tuple[object, ...]] = []
        claims: list[tuple[int, int]] = []
        jobs: list[Job] = []
        row, next_hash = self._last_asset, iter(hashes)
        for one, assets in fresh:
            last = None
            for asset in assets:
                name, wanted, name_hash = asset.name, asset.directory, next(next_hash)
                if wanted != last:
                    directory_row, directory = self._directories.of_asset(wanted, one.directory)
                    last = wanted
                row += 1
                stored = None
                if name is not None and name_hash is not None:
                    stored = name
                    own = name_hash if directory == wanted else path_hash(path_in_dest(directory, name))
                    claims.append((own, row))
                rows.append(self._asset_row(row, one, asset, STATE_PENDING, directory_row, stored))
                opens.append(self._open_row(row, asset, None))
                jobs.append(self._job(row, one, 0, asset, directory, name))
        self._last_asset = row
        taken = paths.own_all(self._db, claims)
        if taken:
            rows = [one for one in rows if one[0] not in taken]
            opens = [one for one in opens if one[0] not in taken]
        insert_rows(self._db, _INTO_ASSETS, rows)
        insert_rows(self._db, _INTO_OPEN, opens)
        if not taken:
            self._result.jobs += jobs
            return
        planned = [(one, asset) for one, assets in fresh for asset in assets]
        for (one, asset), job in zip(planned, jobs, strict=True):
            if job.row in taken:
                self._insert_renamed(one, asset, job)
            else:
                self._result.jobs.append(job)

    def _insert_renamed(self, one: _BatchItem, asset: Asset, job: Job) -> None:
        """Insert a new asset whose folded name is taken. It gets another name, or fails."""
        name = job.name or ""
        claim = paths.claim(self._db, job.row, job.directory, name)
        directory_id, _ = self._directories.of_asset(asset.directory, one.directory)
        stored = UNOWNED + name if claim.failure else claim.name
        state = STATE_FAILED if claim.failure else STATE_PENDING
        self._db.execute(_INSERT_ASSET, self._asset_row(job.row, one, asset, state, directory_id, stored))
        self._db.execute(_INSERT_OPEN, self._open_row(job.row, asset, None))
        if claim.failure is not None:
            self._failed_now(one, asset.key, claim.failure)
            return
        paths.own(self._db, job.row, claim)
        self._result.jobs.append(replace(job, name=claim.name))

    def _asset_row(
        self, row: int, one: _BatchItem, asset: Asset, state: int, directory: int, name: str | None
    ) -> tuple[object, ...]:
        origin, stated = href_hash(asset.href), encoded_checksum(asset.checksum)
        return row, one.row, asset.key, state, 0, self._run, directory, name, origin, stated

    def _open_row(self, row: int, asset: Asset, previous_digest: bytes | None) -> tuple[object, ...]:
        href, stale, alternates = asset.href, 0, None
        if "?" in href or "@" in href or asset.alternates or self._has_secrets:
            cut = self._secrets.cut
            if asset.alternates:
                alternates = orjson.dumps([cut(href) for href in asset.alternates]).decode()
            stale = int(is_signed(href) or any(map(is_signed, asset.alternates)))
            href = cut(href)
        template, media_type = asset.name_template, asset.media_type
        return row, href, stale, template, asset.size, media_type, alternates, previous_digest

    def _job(
        self, row: int, one: _BatchItem, generation: int, asset: Asset, directory: str, name: str | None
    ) -> Job:
        return Job(
            row,
            one.row,
            generation,
            asset.key,
            asset.href,
            one.item.href,
            directory,
            name,
            asset.name_template,
            asset.size,
            asset.checksum,
            asset.media_type,
            alternates=asset.alternates,
            unready=asset.unready,
            clip=self._area is not None,
        )

    # --- assets that cannot be fetched -------------------------------------------------------------------

    def _fail_assets(self, one: _BatchItem, existing: Mapping[str, KnownAsset]) -> None:
        """Record assets that cannot be fetched as planned. Assets that are done stay done."""
        for problem in one.item.problems:
            old, state = existing.get(problem.key), failed_state(problem.failure)
            if old is None:
                self._last_asset += 1
                values = (self._last_asset, one.row, problem.key, state, 0, self._run, *(None,) * 4)
                self._db.execute(_INSERT_ASSET, values)
                self._failed_now(one, problem.key, problem.failure)
                continue
            state = STATE_DONE if old.state == STATE_DONE else state
            self._db.execute("UPDATE assets SET run = ?, state = ? WHERE id = ?", (self._run, state, old.row))
            if old.state >= STATE_FAILED:
                self._note_failure(one, problem.key, problem.failure)
            elif old.state != STATE_DONE:
                self._failed_now(one, problem.key, problem.failure)

    def _failed_now(self, one: _BatchItem, key: str, failure: Failure) -> None:
        self._note_failure(one, key, failure)
        self._result.failures.append((one.item.id, key, failure))

    def _note_failure(self, one: _BatchItem, key: str, failure: Failure) -> None:
        put_failure(self._db, one.row, key, failure.scrubbed(self._secrets), 1, self._now)

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

    def _walk_of(self, before: _EarlierItem, href: str | None) -> int | None:
        """Return the last walk that found an item; a retry does not change it.

        If several sources have the item under different URLs, no single source may declare it gone.
        """
        if not self._is_walk or before.walk == OF_SEVERAL:
            return before.walk
        if before.walk in self._others and before.href != self._cut(href):
            return OF_SEVERAL
        return self._run

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
        result = self._result
        self._db.execute(
            _COUNT_RUN,
            {
                "seen": result.new_seen,
                "matched": result.matched,
                "items_failed": result.items_failed,
                "skipped": skipped,
                **batch.reached._asdict(),
                "run": self._run,
            },
        )
        if batch.reached.walked is not None:
            self._db.execute("INSERT OR IGNORE INTO walked VALUES (?)", (batch.reached.walked,))
        runs.count_findings(self._db, self._run, result.findings)


_NOTHING = (None, None, 0, None, 0, None, "")
"""The values of an unknown item."""
_FIND = (
    "SELECT c.name, i.name, i.id, i.run, i.updated, i.parent, i.written, i.walk, i.listed, i.href, "
    f"{item_directory_of()} FROM items i JOIN collections c ON c.id = i.collection "
    "WHERE i.hash IN ({marks})"
)
_UNREAD = f"SELECT item FROM failures WHERE item IN ({{marks}}) AND {ITEM_FAILURE}"
_UPDATE_ITEM = (
    "UPDATE items SET run = ?, parent = ?, updated = ?, href = ?, walk = ?, "
    "listed = 0, remaining = 1 WHERE id = ?"
)
_INSERT_ITEM = (
    "INSERT INTO items(id, hash, collection, name, parent, run, directory, href, updated, walk, "
    "remaining) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
)
_COUNT_RUN = (
    "UPDATE runs SET items_seen = items_seen + :seen, items_matched = items_matched + :matched, "
    "items_failed = items_failed + :items_failed, "
    "assets_skipped = assets_skipped + :skipped, position = coalesce(:position, position), "
    "walk_ended = walk_ended OR :walk_ended, "
    "items_announced = coalesce(:announced, items_announced), "
    "cut_short = coalesce(:cut_short, cut_short), "
    "items_unseen = coalesce(iif(:counts_unseen, max(0, :announced - items_seen - :seen), NULL), "
    "items_unseen) WHERE id = :run"
)

_EXISTING = (
    f"SELECT a.item, a.key, a.id, a.state, a.generation, a.run, {OTHER_DIRECTORY}, a.name, a.size, a.sha256, "
    "a.etag, a.origin, a.stated, o.previous_digest, u.asset IS NOT NULL, c.area, c.source_size, "
    f"a.state = {STATE_FAILED} AND EXISTS ({FAILED_IN_PASSING}) FROM assets a "
    f"LEFT JOIN open_assets o ON o.asset = a.id AND a.state <> {STATE_DONE} "
    "LEFT JOIN unchecked u ON u.asset = a.id LEFT JOIN clips c ON c.asset = a.id WHERE a.item IN ({marks})"
)
_CHECKED = "DELETE FROM unchecked WHERE asset = ?"
_INTO_ASSETS = (
    "INSERT INTO assets(id, item, key, state, generation, run, directory, name, origin, stated) VALUES "
)
_INSERT_ASSET = f"{_INTO_ASSETS} (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INTO_OPEN = (
    "INSERT OR REPLACE INTO open_assets(asset, href, stale, name_template, size, media_type, alternates, "
    "previous_digest) VALUES "
)
_INSERT_OPEN = f"{_INTO_OPEN} (?, ?, ?, ?, ?, ?, ?, ?)"


def _path_hashes(fresh: _Fresh) -> list[int | None]:
    """Return the hash of the path of each new asset, None where the path is not known yet."""
    hashes: list[int | None] = []
    for _, assets in fresh:
        directory = None
        for asset in assets:
            if asset.directory != directory:
                directory, hash_of = asset.directory, hashes_in(asset.directory)
            hashes.append(None if asset.name is None else hash_of(asset.name))
    return hashes


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


def drop_open(db: sqlite3.Connection, row: int, previous: bytes | None, run: int) -> None:
    """Delete an open asset. An earlier version that is in place stays, as done.

    Args:
        db: The ledger.
        row: The asset.
        previous: The digest of the version in place, empty if it is unknown; None if there is none,
            also because its file was lost. Its ETag is unknown.
        run: The run that the version in place counts for.
    """
    if previous is not None:
        db.execute("DELETE FROM open_assets WHERE asset = ?", (row,))
        db.execute(
            f"UPDATE assets SET state = {STATE_DONE}, run = ?, sha256 = ?, stated = NULL, etag = NULL "
            "WHERE id = ?",
            (run, previous or None, row),
        )
        return
    paths.disown(db, row)
    db.execute("DELETE FROM assets WHERE id = ?", (row,))


def reject_duplicates(item: ItemId, assets: Sequence[Asset]) -> None:
    """Reject two assets with the same key: the key identifies the row.

    Raises:
        StacpullError: Two assets have the same key.
    """
    if len({asset.key for asset in assets}) != len(assets):
        twice = next(key for key, count in Counter(asset.key for asset in assets).items() if count > 1)
        raise StacpullError(
            f"Asset {twice!r} of item {item.item} of {item.collection} was planned twice: this is a "
            "bug in stacpull, please report it. --exclude-asset leaves such assets out."
        )

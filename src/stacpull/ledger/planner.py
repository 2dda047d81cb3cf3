"""Saving a page: its items, their assets, and the position of the walk. One transaction per batch.

`Planner.save_batch` takes a batch of items of one page. The batch that ends a page has the new position.
After a kill between two batches, the next start reads the page again: its first items are already planned,
and none is counted twice.

New and known items take the same way: each planned item and asset becomes one row, which is inserted, or
updates the row that the ledger has. `ledger.known_assets` decides what becomes of known assets.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.errors import StacpullError
from stacpull.ledger import paths, runs
from stacpull.ledger.database import exists, insert_rows, marks, number, pieces, rows_with, transaction
from stacpull.ledger.known_assets import PLANNED, KnownAsset, encoded_checksum, replan, version_to_confirm
from stacpull.ledger.outcomes import (
    FAILED_IN_PASSING,
    ITEM_FAILURE,
    drop_open,
    failed_state,
    put_failure,
    update_item_states,
)
from stacpull.ledger.paths import ITEM_DIRECTORY, OTHER_DIRECTORY
from stacpull.ledger.runs import LEFT_OUT, asset_counters, selection_of
from stacpull.ledger.schema import (
    DAMAGED,
    OF_SEVERAL,
    STATE_DONE,
    STATE_FAILED,
    STATE_PENDING,
    STATE_RESERVED,
    TO_WRITE,
    UNWRITTEN,
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
    VersionInDest,
    WalkUpdate,
    path_in_dest,
)
from stacpull.planning.item_plan import is_newer, item_directory, item_document_name
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
    """An item that was in the ledger before the batch, or that the batch has planned."""

    row: int
    run: int
    """The last run that planned it."""
    updated: str | None = None
    parent: int | None = None
    written: int = UNWRITTEN
    walk: int | None = None
    listed: int = 0
    href: str | None = None
    directory: str = ""
    is_unread: int = 0
    """True if it is a source item that could not be read."""

    @property
    def is_primary(self) -> bool:
        """True if a page contains it."""
        return self.parent is None or bool(self.listed)

    @property
    def is_new(self) -> bool:
        """True if it could never be read."""
        return bool(self.is_unread) and self.updated is None and not self.written


class _Plan(msgspec.Struct):
    """An item of the batch."""

    item: PlannedItem
    row: int
    parent: int | None
    before: _EarlierItem | None
    """None if it is new."""
    directory: str = ""
    """The directory of its JSON."""
    is_renewed: bool = False
    """True if its JSON must be written again."""
    has_changed: bool = False
    """True if an asset is new, or has another size or checksum."""


class _Rows(NamedTuple):
    """What a batch writes at once."""

    items: list[tuple[object, ...]]
    documents: list[tuple[int, bytes]]
    assets: list[tuple[object, ...]]
    open_assets: list[tuple[object, ...]]
    claims: list[tuple[int, str, str]]
    """Assets that need the path that they have in `assets`: row, directory and name."""
    failures: list[tuple[int, str, Failure]]
    unchanged: list[int]
    """Assets that are done, and now belong to this run."""
    unchecked: list[tuple[int]]


class Planner:
    """Plans for one run, on the thread that owns the ledger."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        *,
        revalidate: bool = False,
        is_there: Callable[[str], bool] = lambda _path: True,
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
        self._collections = Recent[str, int]()
        self._directories = Recent[str, int]()
        walks = db.execute(
            "SELECT id, kind, source = (SELECT source FROM runs WHERE id = ?) FROM runs", (run,)
        ).fetchall()
        self._is_walk = any(row == run and kind == "mirror" for row, kind, _ in walks)
        self._other_walks = frozenset(row for row, _, is_own in walks if not is_own)
        self._last_asset = number(db, "SELECT max(id) FROM assets")
        self._last_item = 0
        # of the current batch:
        self._result = PlanResult()
        self._rows = _Rows(*([] for _ in _Rows._fields))
        self._has_secrets = True
        self._known: dict[ItemId, _EarlierItem] = {}

    def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the `ids` that this run has already planned, with their `updated`.

        With `linked`, the IDs come from links: a source item that this run could not read counts as planned.
        Without `linked`, the IDs come from a page of the walk: an item that was planned, or could not be
        read, only because another item links to it does not count as planned.
        """
        known = self._load(ids)
        found = [(item, known[item]) for item in ids if item in known and known[item].run == self._run]
        return {item: one.updated for item, one in found if linked or (one.is_primary and not one.is_unread)}

    def save_batch(self, batch: PlanBatch, now: float) -> PlanResult:
        """Save a batch in one transaction, at `now` (seconds since 1970).

        Returns:
            The jobs that it opened, and the failures while planning.
        """
        self._result, self._rows = PlanResult(), _Rows(*([] for _ in _Rows._fields))
        self._has_secrets = bool(self._secrets)
        try:
            with transaction(self._db):
                self._save(batch, now)
        except BaseException:  # the state of rows that were rolled back
            self._collections.clear()
            self._directories.clear()
            self._last_asset = number(self._db, "SELECT max(id) FROM assets")
            raise
        return self._result

    def _save(self, batch: PlanBatch, now: float) -> None:
        result, done = self._result, asset_counters(self._db, self._run)["assets_done"]
        left_out = {LEFT_OUT + reason: self._see(ids) for reason, ids in batch.left_out.items()}
        result.new_seen = self._see(batch.seen) + sum(left_out.values())
        if batch.items or batch.failed_items:
            self._plan(batch, now)
        result.items_failed += runs.note_unread(self._db, self._run, batch.unread, now)
        skipped = asset_counters(self._db, self._run)["assets_done"] - done
        runs.count_walk(
            self._db,
            self._run,
            batch.reached,
            seen=result.new_seen,
            matched=result.matched,
            items_failed=result.items_failed,
            skipped=skipped,
        )
        runs.count_findings(self._db, self._run, {**left_out, **result.findings})

    def _see(self, ids: Sequence[ItemId]) -> int:
        """Record the items of a page; return how many are new to this walk."""
        hashes = ((runs.seen_hash(item),) for item in ids)
        return self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", hashes).rowcount if ids else 0

    def _plan(self, batch: PlanBatch, now: float) -> None:
        db, rows = self._db, self._rows
        named = {item.id for item in batch.items}
        named |= {item.parent for item in batch.items if item.parent is not None}
        before = self._load(named.union(*((one.id, one.parent) for one in batch.failed_items)))
        self._known = dict(before)
        self._last_item = number(db, "SELECT max(id) FROM items")
        plans = [plan for item in batch.items if (plan := self._plan_of(item)) is not None]
        new = [plan for plan in plans if plan.before is None]
        failed = [one for one in batch.failed_items if self._is_newly_failed(one)]
        new_failed = [one for one in failed if one.id not in before]
        directories = paths.new_directories(
            [*(plan.item.id for plan in new), *(one.id for one in new_failed)],
            set(map(paths.item_hash, before)),
        )
        for plan, directory in zip(new, directories, strict=False):
            plan.directory = directory
        self._drop_stand_ins(plans)
        linking = {plan.parent for plan in new}
        linking |= {self._known[one.parent].row for one in new_failed if one.parent in self._known}
        linking |= {
            plan.parent for plan in plans if plan.before and plan.before.parent not in (None, plan.parent)
        }
        existing = self._assets_of([plan.row for plan in plans if plan.before is not None])
        for plan in plans:
            self._plan_assets(plan, existing.get(plan.row, {}))
            self._plan_document(plan, existing.get(plan.row, {}), links_more=plan.row in linking)
        changed = {
            row for plan in plans for row in (plan.row, plan.parent, plan.before and plan.before.parent)
        }
        other_directories = dict(zip((one.id for one in new_failed), directories[len(new) :], strict=True))
        for one in failed:
            changed |= self._fail_item(one, before.get(one.id), other_directories.get(one.id, ""))
        insert_rows(db, _INTO_ITEMS, rows.items, _KNOWN_ITEM)
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", rows.documents)
        insert_rows(db, _INTO_ASSETS, rows.assets, _KNOWN_ASSET)
        insert_rows(db, _INTO_OPEN, rows.open_assets)
        for some in pieces(rows.unchanged):
            db.execute(f"UPDATE assets SET run = ? WHERE id IN ({marks(len(some))})", (self._run, *some))
        db.executemany("UPDATE assets SET unchecked = 1 WHERE id = ?", rows.unchecked)
        self._claim_paths()
        for row, key, failure in rows.failures:
            put_failure(db, row, key, failure.scrubbed(self._secrets), 1, now)
        update_item_states(db, [row for row in changed if row is not None])

    # --- items -------------------------------------------------------------------------------------------

    def _load(self, ids: Iterable[ItemId]) -> dict[ItemId, _EarlierItem]:
        """Return those of the items that are in the ledger, and items with the same hash."""
        found = rows_with(self._db, _FIND, list(map(paths.item_hash, set(ids))))
        return {ItemId(collection, name): _EarlierItem(*rest) for collection, name, *rest in found}

    def _plan_of(self, item: PlannedItem) -> _Plan | None:
        """Return an item with its row; None if this run already planned it, unless a page has a newer one."""
        before, result = self._known.get(item.id), self._result
        again = before is not None and before.run == self._run
        if again and before is not None:
            if not before.is_unread:
                if item.parent is None and not before.is_primary:  # so far, only a link led to it
                    result.matched += 1
                    self._db.execute("UPDATE items SET listed = 1 WHERE id = ?", (before.row,))
                    self._known[item.id] = before._replace(listed=1)
                    return None
                if (item.parent, before.parent) != (None, None) or not is_newer(item.updated, before.updated):
                    return None
            again = not before.is_unread
            result.items_failed -= bool(before.is_unread)
        if len({asset.key for asset in item.assets}) != len(item.assets):
            keys = Counter(asset.key for asset in item.assets)
            raise StacpullError(
                f"Asset {keys.most_common(1)[0][0]!r} of item {item.id.item} of {item.id.collection} was "
                "planned twice: this is a bug in stacpull, please report it. --exclude-asset leaves such "
                "assets out."
            )
        if not again:
            result.matched += item.parent is None and not item.of_collection
            result.count("assets_excluded", len(item.excluded))
            result.count("assets_pages", len(item.pages))
        result.count("items_new", (before is None or before.is_new) and not item.of_collection)
        parent = None if item.parent is None else self._known.get(item.parent)
        known = self._remember(item.id, is_unread=False)
        return _Plan(item, known.row, None if parent is None else parent.row, before, known.directory)

    def _is_newly_failed(self, failed: ItemFailure) -> bool:
        """Return True for a source item that this run has neither planned nor failed to read before."""
        before = self._known.get(failed.id)
        if before is not None and before.run == self._run:
            return False
        self._remember(failed.id, is_unread=True)
        return True

    def _remember(self, item: ItemId, *, is_unread: bool) -> _EarlierItem:
        """Record that this run has planned an item, or could not read it."""
        before = self._known.get(item)
        if before is None:
            self._last_item += 1
            before = _EarlierItem(self._last_item, self._run)
        self._known[item] = before._replace(run=self._run, updated=None, is_unread=is_unread)
        return before

    def _drop_stand_ins(self, plans: Sequence[_Plan]) -> None:
        """Delete the failures of items that can be read now, and the rows that stood for items without ID."""
        db = self._db
        if not exists(db, "SELECT 1 FROM failures WHERE key = ''"):
            return
        db.executemany(
            "DELETE FROM failures WHERE item = ? AND key = ''",
            [(plan.row,) for plan in plans if plan.before is not None and plan.before.is_unread],
        )
        for plan in (plan for plan in plans if plan.parent is not None):
            for row, run in db.execute(
                "SELECT i.id, i.run FROM items i JOIN failures f ON f.item = i.id AND f.key = '' "
                "WHERE i.parent = ? AND i.href = ? AND i.id <> ?",
                (plan.parent, self._cut(plan.item.href), plan.row),
            ).fetchall():
                self._result.items_failed -= run == self._run
                db.execute("DELETE FROM failures WHERE item = ?", (row,))
                db.execute("DELETE FROM items WHERE id = ?", (row,))

    def _plan_document(self, plan: _Plan, known: Mapping[str, KnownAsset], *, links_more: bool) -> None:
        """Plan the row of an item and its JSON, which is written again if it may be outdated.

        Args:
            plan: The item. Its assets are planned.
            known: Its asset rows in the ledger.
            links_more: True if it links to a source item that was not in the ledger, or that another label
                item led to.
        """
        item, before, result = plan.item, plan.before, self._result
        if before is None:
            walk = self._run if self._is_walk else None
            self._add_item(item.id, plan.row, plan.parent, plan.directory, item.href, item.updated, walk)
            if not item.of_collection:
                self._rows.documents.append((plan.row, item.cleaned))
            return
        item_updated = item.updated != before.updated
        json_path = path_in_dest(before.directory, item_document_name(item.id))
        lost = before.written == WRITTEN and not self._is_there(json_path)
        result.count("files_lost", lost)
        has_changed = (item_updated or plan.has_changed) and before.run != self._run
        result.count("items_changed", has_changed and not before.is_new and not item.of_collection)
        # the earlier document may be about to be recorded as written: then the next run writes this one
        updated = item.updated if before.run != self._run or plan.is_renewed else before.updated
        if (
            plan.is_renewed
            or item_updated
            or lost
            or links_more
            or before.is_new
            or before.written == DAMAGED
        ):
            self._note_unchecked(item, known, item_updated=item_updated)
            if not item.of_collection:
                self._rows.documents.append((plan.row, item.cleaned))
                before = before._replace(written=TO_WRITE if before.written == WRITTEN else before.written)
        walk = before.walk
        if self._is_walk and walk != OF_SEVERAL:
            # if several sources have the item under different URLs, no single one may declare it gone
            is_other = walk in self._other_walks and before.href != self._cut(item.href)
            walk = OF_SEVERAL if is_other else self._run
        self._add_item(
            item.id, plan.row, plan.parent, before.directory, item.href, updated, walk, before.written
        )

    def _add_item(
        self,
        item: ItemId,
        row: int,
        parent: int | None,
        directory: str,
        href: str | None,
        updated: str | None,
        walk: int | None,
        written: int = UNWRITTEN,
    ) -> None:
        collection = self._collections.get(item.collection)
        if collection is None:
            collection = self._db.execute(
                "INSERT INTO collections(name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id",
                (item.collection,),
            ).fetchone()[0]
            if len(item.collection) <= LONGEST_KEY:
                self._collections[item.collection] = collection
        stored = None if directory == f"{item.collection}/{item.item}" else directory
        values = (paths.item_hash(item), collection, item.item, parent, self._run, stored, self._cut(href))
        self._rows.items.append((row, *values, updated, walk, written))

    def _note_unchecked(
        self, item: PlannedItem, known: Mapping[str, KnownAsset], *, item_updated: bool
    ) -> None:
        """Record the assets of an item that this run leaves out although they may have changed.

        The next run that plans such an asset revalidates it. There are two cases: the item's `updated` has
        changed, which only this run can detect; or the new document does not list the asset (its prefix was
        not listed in this run), so the document must get it back.
        """
        planned = {asset.key for asset in item.assets}.union(item.expanded_prefixes)
        assets = orjson.loads(item.cleaned).get("assets")
        listed = assets if isinstance(assets, dict) else {}
        self._rows.unchecked.extend(
            (old.row,)
            for key, old in known.items()
            if key not in planned and (item_updated or key not in listed)
        )

    def _fail_item(self, failed: ItemFailure, before: _EarlierItem | None, directory: str) -> set[int | None]:
        """Record a source item that could not be read; return its row and the rows of its label items."""
        row, parent = self._known[failed.id].row, self._known.get(failed.parent)
        above = parent.row if parent is not None else None
        if before is None:
            self._add_item(failed.id, row, above, directory, failed.href, None, None)
        else:
            kept = (before.directory, before.href, before.updated, before.walk, before.written)
            self._add_item(failed.id, row, above, *kept)
        self._rows.failures.append((row, "", failed.failure))
        self._result.items_failed += 1
        self._result.failures.append((failed.id, "", failed.failure))
        return {row, above, before.parent if before is not None else None}

    # --- assets ------------------------------------------------------------------------------------------

    def _assets_of(self, items: Sequence[int]) -> dict[int, dict[str, KnownAsset]]:
        """Return the asset rows of these items, by item and key."""
        found: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
        for row in rows_with(self._db, _EXISTING, items):
            known = KnownAsset._make(row)
            found[known.item][known.key] = known
        return found

    def _plan_assets(self, plan: _Plan, known: Mapping[str, KnownAsset]) -> None:
        """Plan the assets of an item, given its asset rows in the ledger."""
        item, own, rows = plan.item, plan.directory, self._rows
        usual = item_directory(item.id)  # differs from `own` if that is another item's on some file system
        for key in item.expanded_prefixes:
            self._drop_unfetched(plan, key, known.get(key))
        for asset in item.assets:
            old, name = known.get(asset.key), asset.name
            directory = own if asset.directory == usual else asset.directory
            if old is not None:
                self._plan_known(plan, asset, old, directory)
                continue
            row = self._last_asset = self._last_asset + 1
            if name is not None:
                rows.claims.append((row, directory, name))
            origin, stated = href_hash(asset.href), encoded_checksum(asset.checksum)
            other = None if directory == own else self._directory(directory)
            planned = (STATE_PENDING, 0, self._run, other, name, None, None, origin, stated, 0)
            rows.assets.append((row, plan.row, asset.key, *planned))
            self._open(row, asset, None, name)
            self._result.jobs.append(self._job(row, plan, 0, asset, directory, name, None))
        if plan.before is not None and any(asset.key not in known for asset in item.assets):
            plan.is_renewed = True
            plan.has_changed |= self._chose_same_assets(plan.before.run)
        self._fail_assets(plan, known)

    def _plan_known(self, plan: _Plan, asset: Asset, old: KnownAsset, directory: str) -> None:
        """Plan a known asset of a known item; it would be stored in `directory` now."""
        item, before, rows, own = plan.item, plan.before, self._rows, plan.directory
        if old.state < STATE_DONE and before is not None and before.run == self._run:
            # it is being fetched, perhaps from before the change
            rows.assets.append(old._replace(unchecked=1)[:PLANNED])
            return
        item_updated = before is not None and item.updated != before.updated
        # a collection without `updated` may have changed
        may_have_changed = item_updated or (item.of_collection and item.updated is None)
        path = f"{own}/{old.name}" if old.elsewhere is None else f"{old.elsewhere}{old.name}"
        is_done, is_failed = old.state == STATE_DONE, old.state >= STATE_FAILED
        is_lost = is_done and old.name is not None and not self._is_there(path)
        self._result.count("files_lost", is_lost)
        new = replan(
            old,
            asset,
            is_lost=is_lost,
            item_updated=item_updated or bool(old.unchecked),
            may_have_changed=may_have_changed or bool(old.unchecked),
            revalidate=self._revalidate,
            area=self._area,
        )
        plan.is_renewed |= bool(old.unchecked)
        stated = encoded_checksum(asset.checksum)
        if new.state == STATE_DONE:
            if old.unchecked or stated not in (None, old.stated):
                kept = old._replace(run=self._run, stated=stated or old.stated, unchecked=0)
                rows.assets.append(kept[:PLANNED])
            elif old.run != self._run:
                rows.unchanged.append(old.row)
            return
        name = asset.name
        if old.name is not None:
            directory, _, name = path.rpartition("/")
        else:
            old = old._replace(directory=None if directory == own else self._directory(directory))
        if new.state >= STATE_FAILED:  # for `retry`, with its newest href
            rows.assets.append(old._replace(run=self._run)[:PLANNED])
            self._open(old.row, asset, old.previous_digest, old.name)
            return
        reopened = old._replace(
            state=STATE_PENDING,
            generation=new.generation,
            run=self._run,
            sha256=None,
            etag=new.etag,
            origin=href_hash(asset.href),
            stated=stated,
            unchecked=0,
        )
        rows.assets.append(reopened[:PLANNED])
        self._open(old.row, asset, new.previous_digest, old.name)
        version = version_to_confirm(old, asset, new.etag)
        self._result.jobs.append(self._job(old.row, plan, new.generation, asset, directory, name, version))
        plan.is_renewed |= is_done or is_failed
        plan.has_changed |= new.has_changed

    def _drop_unfetched(self, plan: _Plan, key: str, old: KnownAsset | None) -> None:
        """Delete an asset that was not fetched and that its item no longer lists.

        An earlier version that is in place stays. Fetched assets stay even if they are no longer listed.
        """
        if old is None or old.state in (STATE_RESERVED, STATE_DONE):
            return
        self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (plan.row, key))
        drop_open(self._db, old.row, old.previous_digest, self._run)
        plan.is_renewed = True

    def _fail_assets(self, plan: _Plan, known: Mapping[str, KnownAsset]) -> None:
        """Record assets that cannot be fetched as planned. Assets that are done stay done."""
        for key, failure in plan.item.problems:
            old, state = known.get(key), failed_state(failure)
            if old is None:
                self._last_asset += 1
                values = (state, 0, self._run, None, None, None, None, None, None, 0)
                self._rows.assets.append((self._last_asset, plan.row, key, *values))
                # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
                plan.is_renewed |= failure.kind is not FailureKind.ITEM
            else:
                state = STATE_DONE if old.state == STATE_DONE else state
                self._rows.assets.append(old._replace(run=self._run, state=state)[:PLANNED])
            if state != STATE_DONE:
                self._rows.failures.append((plan.row, key, failure))
                if old is None or old.state < STATE_FAILED:
                    self._result.failures.append((plan.item.id, key, failure))

    def _claim_paths(self) -> None:
        """Claim the paths of the new assets. One whose path is taken gets another name, or fails."""
        taken = paths.claim(self._db, self._rows.claims)
        if not taken:
            return
        items = {known.row: item for item, known in self._known.items()}
        jobs, self._result.jobs = self._result.jobs, []
        for job in jobs:
            found = taken.get(job.row)
            if isinstance(found, Failure):
                self._db.execute("UPDATE open_assets SET name = ? WHERE asset = ?", (job.name, job.row))
                self._db.execute(f"UPDATE assets SET state = {STATE_FAILED} WHERE id = ?", (job.row,))
                self._rows.failures.append((job.item_row, job.key, found))
                self._result.failures.append((items[job.item_row], job.key, found))
            else:
                self._result.jobs.append(job if found is None else replace(job, name=found))

    # --- values of rows ----------------------------------------------------------------------------------

    def _open(
        self,
        row: int,
        asset: Asset,
        previous_digest: bytes | None,
        owned: str | None,
    ) -> None:
        """Add the row of an open asset; `owned` is its name if it owns one."""
        href, stale, alternates = asset.href, 0, None
        name = None if owned is not None else asset.name or asset.name_template or "{filename}"
        if "?" in href or "@" in href or asset.alternates or self._has_secrets:
            cut = self._secrets.cut
            if asset.alternates:
                alternates = orjson.dumps([cut(href) for href in asset.alternates]).decode()
            stale = int(is_signed(href) or any(map(is_signed, asset.alternates)))
            href = cut(href)
        stated = (asset.size, asset.media_type, alternates, previous_digest)
        self._rows.open_assets.append((row, href, stale, name, *stated))

    def _job(
        self,
        row: int,
        plan: _Plan,
        generation: int,
        asset: Asset,
        directory: str,
        name: str | None,
        version: VersionInDest | None,
    ) -> Job:
        return Job(
            row,
            plan.row,
            generation,
            asset.key,
            asset.href,
            plan.item.href,
            directory,
            name,
            None if name is not None else asset.name_template or "{filename}",
            asset.size,
            asset.checksum,
            asset.media_type,
            alternates=asset.alternates,
            version_in_dest=version,
            unready=asset.unready,
            clip=self._area is not None,
        )

    def _directory(self, path: str) -> int:
        row = self._directories.get(path)
        if row is None:
            row = paths.directory_row(self._db, path)
            if len(path) <= LONGEST_KEY:
                self._directories[path] = row
        return row

    def _cut(self, href: str | None) -> str | None:
        return None if href is None else self._secrets.cut(href)

    def _chose_same_assets(self, run: int) -> bool:
        """Return True if `run` selected the same assets as this run: another one is new at the source."""
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


_FIND = (
    "SELECT c.name, i.name, i.id, i.run, i.updated, i.parent, i.written, i.walk, i.listed, i.href, "
    f"{ITEM_DIRECTORY}, EXISTS (SELECT 1 FROM failures WHERE item = i.id AND {ITEM_FAILURE}) "
    "FROM items i JOIN collections c ON c.id = i.collection WHERE i.hash IN ({marks})"
)
_INTO_ITEMS = (
    "INSERT INTO items"
    "(id, hash, collection, name, parent, run, directory, href, updated, walk, written) VALUES "
)
_KNOWN_ITEM = (
    " ON CONFLICT (id) DO UPDATE SET parent = excluded.parent, run = excluded.run, href = excluded.href, "
    "updated = excluded.updated, walk = excluded.walk, written = excluded.written, listed = 0, remaining = 1"
)
_EXISTING = (
    "SELECT a.id, a.item, a.key, a.state, a.generation, a.run, a.directory, a.name, a.sha256, a.etag, "
    f"a.origin, a.stated, a.unchecked, a.size, a.clip, o.previous_digest, {OTHER_DIRECTORY}, "
    f"a.state = {STATE_FAILED} AND EXISTS ({FAILED_IN_PASSING}) FROM assets a "
    f"LEFT JOIN open_assets o ON o.asset = a.id AND a.state <> {STATE_DONE} WHERE a.item IN ({{marks}})"
)
_INTO_ASSETS = (
    "INSERT INTO assets(id, item, key, state, generation, run, directory, name, sha256, etag, origin, "
    "stated, unchecked) VALUES "
)
_KNOWN_ASSET = (
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, generation = excluded.generation, "
    "run = excluded.run, directory = excluded.directory, name = excluded.name, sha256 = excluded.sha256, "
    "etag = excluded.etag, origin = excluded.origin, stated = excluded.stated, "
    "unchecked = excluded.unchecked"
)
_INTO_OPEN = (
    "INSERT OR REPLACE INTO open_assets(asset, href, stale, name, size, media_type, alternates, "
    "previous_digest) VALUES "
)

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
from stacpull.ledger.paths import OTHER_DIRECTORY
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
    jobs: list[Job] = msgspec.field(default_factory=list)
    failures: list[tuple[ItemId, str, Failure]] = msgspec.field(default_factory=list)
    """Item, asset key ("" for the item itself), and reason."""
    new_seen: int = 0
    """How many of `PlanBatch.seen` and `PlanBatch.left_out` were new."""
    matched: int = 0
    """Primary items that this run planned for the first time."""
    items_failed: int = 0
    """What was not counted in this run before, minus the source items that were read later in the run."""
    findings: dict[str, int] = msgspec.field(default_factory=dict)
    """What else the report counts, by the name of its field in `MirrorReport`."""

    def count(self, name: str, number: int) -> None:
        if number:
            self.findings[name] = self.findings.get(name, 0) + number


class _ItemRow(NamedTuple):
    """A row of `items`; the first `_PLANNED` fields are the ones that a plan sets."""

    row: int
    hash: int
    collection: int
    name: str
    parent: int | None
    run: int
    directory: str | None
    href: str | None = None
    updated: str | None = None
    walk: int | None = None
    written: int = UNWRITTEN
    listed: int = 0
    is_unread: int = 0
    """True if it is a source item that could not be read."""

    @property
    def is_primary(self) -> bool:
        """True if a page contains it."""
        return self.parent is None or bool(self.listed)

    @property
    def was_never_read(self) -> bool:
        return bool(self.is_unread) and self.updated is None and not self.written


_PLANNED = 11


class _Plan(msgspec.Struct):
    """An item of the batch, with its row before the batch (None if it is new) and after it."""

    item: PlannedItem
    before: _ItemRow | None
    row: _ItemRow
    directory: str
    """The directory of its JSON."""
    is_renewed: bool = False
    """True if its JSON must be written again."""
    has_changed: bool = False
    """True if an asset is new, or has another size or checksum."""


class _Rows(NamedTuple):
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
        self._db = db
        self._run = run
        self._secrets = Secrets() if secrets is None else secrets
        self._is_there = is_there
        self._revalidate = revalidate
        self._area = runs.area_of(db, run)
        self._same_assets: dict[int, bool] = {}
        self._collections = Recent[str, int]()
        self._directories = Recent[str, tuple[int, str]]()
        walks = db.execute(
            "SELECT id, kind, source = (SELECT source FROM runs WHERE id = ?) FROM runs", (run,)
        ).fetchall()
        self._is_walk = any(row == run and kind == "mirror" for row, kind, _ in walks)
        self._other_walks = frozenset(row for row, _, is_own in walks if not is_own)
        self._last_asset = number(db, "SELECT max(id) FROM assets")
        # of the current batch:
        self._result = PlanResult()
        self._rows = _Rows(*([] for _ in _Rows._fields))
        self._has_secrets = True
        self._known: dict[ItemId, _ItemRow] = {}
        self._taken: set[int] = set()
        self._last_item = 0

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
        """Save a batch in one transaction, at `now` (seconds since 1970)."""
        result = self._result = PlanResult()
        self._rows = _Rows(*([] for _ in _Rows._fields))
        self._has_secrets = bool(self._secrets)
        try:
            with transaction(self._db):
                done = asset_counters(self._db, self._run)["assets_done"]
                left_out = {LEFT_OUT + reason: self._see(ids) for reason, ids in batch.left_out.items()}
                result.new_seen = self._see(batch.seen) + sum(left_out.values())
                if batch.items or batch.failed_items:
                    self._plan(batch, now)
                result.items_failed += runs.note_unread(self._db, self._run, batch.unread, now)
                runs.count_walk(
                    self._db,
                    self._run,
                    batch.reached,
                    seen=result.new_seen,
                    matched=result.matched,
                    items_failed=result.items_failed,
                    skipped=asset_counters(self._db, self._run)["assets_done"] - done,
                )
                runs.count_findings(self._db, self._run, {**left_out, **result.findings})
        except BaseException:  # these rows were rolled back
            self._collections.clear()
            self._directories.clear()
            self._last_asset = number(self._db, "SELECT max(id) FROM assets")
            raise
        return result

    def _see(self, ids: Sequence[ItemId]) -> int:
        """Record the items of a page; return how many are new to this walk."""
        hashes = ((runs.seen_hash(item),) for item in ids)
        return self._db.executemany("INSERT OR IGNORE INTO seen VALUES (?)", hashes).rowcount if ids else 0

    def _plan(self, batch: PlanBatch, now: float) -> None:
        ids = {item.id for item in batch.items}
        ids |= {item.parent for item in batch.items if item.parent is not None}
        self._known = self._load(ids.union(*((one.id, one.parent) for one in batch.failed_items)))
        self._taken = {known.hash for known in self._known.values()}
        self._last_item = number(self._db, "SELECT max(id) FROM items")
        plans = [plan for item in batch.items if (plan := self._plan_of(item)) is not None]
        failed = [found for one in batch.failed_items if (found := self._fail_item(one)) is not None]
        changed = {plan.row.row for plan in plans} | {after.row for _, after in failed}
        linking = set()  # label items that link to another source item than before
        for before, after in [*((plan.before, plan.row) for plan in plans), *failed]:
            if before is None or (before.parent not in (None, after.parent) and not after.is_unread):
                linking.add(after.parent)
            changed.update(
                one.parent for one in (before, after) if one is not None and one.parent is not None
            )
        self._drop_stand_ins(plans)
        existing: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
        for row in rows_with(
            self._db, _EXISTING, [plan.row.row for plan in plans if plan.before is not None]
        ):
            known = KnownAsset._make(row)
            existing[known.item][known.key] = known
        for plan in plans:
            self._plan_assets(plan, existing[plan.row.row])
            self._plan_document(plan, existing[plan.row.row], links_more=plan.row.row in linking)
        self._write(now)
        update_item_states(self._db, changed)

    def _write(self, now: float) -> None:
        """Write the rows of the batch. New assets whose path is taken get another name, or fail."""
        db, rows = self._db, self._rows
        insert_rows(db, _INTO_ITEMS, rows.items, _KNOWN_ITEM)
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", rows.documents)
        insert_rows(db, _INTO_ASSETS, rows.assets, _KNOWN_ASSET)
        insert_rows(db, _INTO_OPEN, rows.open_assets)
        for some in pieces(rows.unchanged):
            db.execute(f"UPDATE assets SET run = ? WHERE id IN ({marks(len(some))})", (self._run, *some))
        db.executemany("UPDATE assets SET unchecked = 1 WHERE id = ?", rows.unchecked)
        if taken := paths.claim(db, rows.claims):
            items = {known.row: item for item, known in self._known.items()}
            jobs, self._result.jobs = self._result.jobs, []
            for job in jobs:
                found = taken.get(job.row)
                if isinstance(found, Failure):
                    db.execute("UPDATE open_assets SET name = ? WHERE asset = ?", (job.name, job.row))
                    db.execute(f"UPDATE assets SET state = {STATE_FAILED} WHERE id = ?", (job.row,))
                    rows.failures.append((job.item_row, job.key, found))
                    self._result.failures.append((items[job.item_row], job.key, found))
                else:
                    self._result.jobs.append(job if found is None else replace(job, name=found))
        for row, key, failure in rows.failures:
            put_failure(db, row, key, failure.scrubbed(self._secrets), 1, now)

    # --- items -------------------------------------------------------------------------------------------

    def _load(self, ids: Iterable[ItemId]) -> dict[ItemId, _ItemRow]:
        """Return those of the items that are in the ledger, and items with the same hash."""
        found = rows_with(self._db, _FIND, list(map(paths.item_hash, set(ids))))
        return {ItemId(collection, row[3]): _ItemRow._make(row) for collection, *row in found}

    def _plan_of(self, item: PlannedItem) -> _Plan | None:
        """Return an item with its row; None if this run already planned it, unless a page has a newer one."""
        before, result = self._known.get(item.id), self._result
        again = before is not None and before.run == self._run
        if before is not None and again and not before.is_unread:
            if item.parent is None and not before.is_primary:  # so far, only a link led to it
                result.matched += 1
                self._db.execute("UPDATE items SET listed = 1 WHERE id = ?", (before.row,))
                self._known[item.id] = before._replace(listed=1)
                return None
            if (item.parent, before.parent) != (None, None) or not is_newer(item.updated, before.updated):
                return None
        elif again:
            result.items_failed -= 1
        if len({asset.key for asset in item.assets}) != len(item.assets):
            keys = Counter(asset.key for asset in item.assets)
            raise StacpullError(
                f"Asset {keys.most_common(1)[0][0]!r} of item {item.id.item} of {item.id.collection} was "
                "planned twice: this is a bug in stacpull, please report it. --exclude-asset leaves such "
                "assets out."
            )
        if not again or (before is not None and before.is_unread):
            result.matched += item.parent is None and not item.of_collection
            result.count("assets_excluded", len(item.excluded))
            result.count("assets_pages", len(item.pages))
        result.count("items_new", (before is None or before.was_never_read) and not item.of_collection)
        parent = None if item.parent is None else self._known.get(item.parent)
        row = self._row_of(item.id, before, parent, item.href, is_unread=0)
        # a batch plans each item once: nothing is newer than no time
        self._known[item.id] = row if before is None else row._replace(updated=None)
        return _Plan(item, before, row, row.directory or f"{item.id.collection}/{item.id.item}")

    def _row_of(
        self,
        item: ItemId,
        before: _ItemRow | None,
        parent: _ItemRow | None,
        href: str | None,
        *,
        is_unread: int,
    ) -> _ItemRow:
        above, href = None if parent is None else parent.row, self._cut(href)
        if before is not None:
            return before._replace(run=self._run, parent=above, href=href, is_unread=is_unread)
        self._last_item += 1
        path, index = item_directory(item), paths.item_hash(item)
        if index in self._taken:
            path = paths.other_name(path)
        self._taken.add(index)
        stored = None if path == f"{item.collection}/{item.item}" else path
        collection = self._collections.get(item.collection)
        if collection is None:
            collection = self._db.execute(
                "INSERT INTO collections(name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id",
                (item.collection,),
            ).fetchone()[0]
            if len(item.collection) <= LONGEST_KEY:
                self._collections[item.collection] = collection
        values = (self._last_item, index, collection, item.item, above, self._run, stored, href)
        return _ItemRow(*values, is_unread=is_unread)

    def _fail_item(self, failed: ItemFailure) -> tuple[_ItemRow | None, _ItemRow] | None:
        """Record a source item that could not be read, once per run; return its row before and after."""
        before = self._known.get(failed.id)
        if before is not None and before.run == self._run:
            return None
        href = failed.href if before is None else before.href
        row = self._row_of(failed.id, before, self._known.get(failed.parent), href, is_unread=1)
        self._known[failed.id] = row
        self._rows.items.append(row[:_PLANNED])
        self._rows.failures.append((row.row, "", failed.failure))
        self._result.items_failed += 1
        self._result.failures.append((failed.id, "", failed.failure))
        return before, row

    def _drop_stand_ins(self, plans: Sequence[_Plan]) -> None:
        """Delete the failures of items that can be read now, and the rows that stood for items without ID."""
        db = self._db
        if not exists(db, "SELECT 1 FROM failures WHERE key = ''"):
            return
        db.executemany(
            "DELETE FROM failures WHERE item = ? AND key = ''",
            [(plan.row.row,) for plan in plans if plan.before is not None and plan.before.is_unread],
        )
        for row in (plan.row for plan in plans if plan.row.parent is not None):
            for stand_in, run in db.execute(
                "SELECT i.id, i.run FROM items i JOIN failures f ON f.item = i.id AND f.key = '' "
                "WHERE i.parent = ? AND i.href = ? AND i.id <> ?",
                (row.parent, row.href, row.row),
            ).fetchall():
                self._result.items_failed -= run == self._run
                db.execute("DELETE FROM failures WHERE item = ?", (stand_in,))
                db.execute("DELETE FROM items WHERE id = ?", (stand_in,))

    def _plan_document(self, plan: _Plan, known: Mapping[str, KnownAsset], *, links_more: bool) -> None:
        """Plan the row of an item and its JSON, which is written again if it may be outdated.

        `links_more`: it links to a source item that was new, or that another label item led to.
        """
        item, before, result = plan.item, plan.before, self._result
        is_renewed, walk = True, self._run if self._is_walk else None
        updated, written = item.updated, UNWRITTEN
        if before is not None:
            item_updated, written = item.updated != before.updated, before.written
            lost = written == WRITTEN and not self._is_there(
                f"{plan.directory}/{item_document_name(item.id)}"
            )
            result.count("files_lost", lost)
            has_changed = (item_updated or plan.has_changed) and before.run != self._run
            result.count("items_changed", has_changed and not (before.was_never_read or item.of_collection))
            if before.run == self._run and not plan.is_renewed:
                updated = before.updated  # of the document that may be about to be recorded as written
            is_renewed = (
                plan.is_renewed
                or item_updated
                or lost
                or links_more
                or before.was_never_read
                or written == DAMAGED
            )
            if is_renewed:
                self._note_unchecked(item, known, item_updated=item_updated)
            if walk is None or before.walk == OF_SEVERAL:
                walk = before.walk
            elif before.walk in self._other_walks and before.href != plan.row.href:
                walk = OF_SEVERAL  # no single source may declare it gone
        if is_renewed and not item.of_collection:
            self._rows.documents.append((plan.row.row, item.cleaned))
            written = TO_WRITE if written == WRITTEN else written
        row = plan.row._replace(updated=updated, walk=walk, written=written)
        self._rows.items.append(row[:_PLANNED])

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

    # --- assets ------------------------------------------------------------------------------------------

    def _plan_assets(self, plan: _Plan, known: Mapping[str, KnownAsset]) -> None:
        item, own, row, run = plan.item, plan.directory, plan.row.row, self._run
        claims, added = self._rows.claims, self._rows.assets
        usual = item_directory(item.id)  # differs from `own` if that is another item's on some file system
        for key in item.expanded_prefixes:
            old = known.get(key)
            if old is not None and old.state not in (STATE_RESERVED, STATE_DONE):
                # not fetched, and no longer listed: only an earlier version in place stays
                self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (row, key))
                drop_open(self._db, old.row, old.previous_digest, self._run)
                plan.is_renewed = True
        for asset in item.assets:
            old, name = known.get(asset.key), asset.name
            directory = own if asset.directory == usual else asset.directory
            if old is not None:
                self._plan_known(plan, asset, old, directory)
                continue
            plan.is_renewed, other = True, None
            if directory != own:
                other, directory = self._directory(directory, item)
            new = self._last_asset = self._last_asset + 1
            if name is not None:
                claims.append((new, directory, name))
            origin, stated = href_hash(asset.href), encoded_checksum(asset.checksum)
            planned = (new, row, asset.key, STATE_PENDING, 0, run, other, name)
            added.append((*planned, None, None, origin, stated, 0))
            self._open(new, asset, None, name)
            self._fetch(plan, asset, new, 0, directory, name, None)
        if plan.before is not None and any(asset.key not in known for asset in item.assets):
            plan.has_changed |= self._chose_same_assets(plan.before.run)
        self._fail_assets(plan, known)

    def _fail_assets(self, plan: _Plan, known: Mapping[str, KnownAsset]) -> None:
        """Record assets that cannot be fetched as planned. Assets that are done stay done."""
        item, row = plan.item, plan.row.row
        for key, failure in item.problems:
            old, state = known.get(key), failed_state(failure)
            if old is None:
                self._last_asset += 1
                nothing = (None, None, None, None, None, None, 0)
                self._rows.assets.append((self._last_asset, row, key, state, 0, self._run, *nothing))
                # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
                plan.is_renewed |= failure.kind is not FailureKind.ITEM
            else:
                state = STATE_DONE if old.state == STATE_DONE else state
                self._rows.assets.append(old._replace(run=self._run, state=state)[:PLANNED])
            if state != STATE_DONE:
                self._rows.failures.append((row, key, failure))
                if old is None or old.state < STATE_FAILED:
                    self._result.failures.append((item.id, key, failure))

    def _plan_known(self, plan: _Plan, asset: Asset, old: KnownAsset, directory: str) -> None:
        """Plan a known asset of a known item; it would be stored in `directory` now."""
        item, before, rows = plan.item, plan.before, self._rows
        if old.state < STATE_DONE and before is not None and before.run == self._run:
            # it is being fetched, perhaps from before the change
            rows.assets.append(old._replace(unchecked=1)[:PLANNED])
            return
        item_updated = before is not None and item.updated != before.updated
        # a collection without `updated` may have changed
        may_have_changed = item_updated or (item.of_collection and item.updated is None)
        path = f"{plan.directory}/{old.name}" if old.elsewhere is None else f"{old.elsewhere}{old.name}"
        is_lost = old.state == STATE_DONE and old.name is not None and not self._is_there(path)
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
        name, row = asset.name, old._replace(run=self._run)
        if old.name is not None:
            directory, _, name = path.rpartition("/")
        else:
            other = None
            if directory != plan.directory:
                other, directory = self._directory(directory, item)
            row = row._replace(directory=other)
        if new.state == STATE_PENDING:
            row = row._replace(
                state=STATE_PENDING,
                generation=new.generation,
                sha256=None,
                etag=new.etag,
                origin=href_hash(asset.href),
                stated=stated,
                unchecked=0,
            )
            version = version_to_confirm(old, asset, new.etag)
            self._fetch(plan, asset, old.row, new.generation, directory, name, version)
            plan.is_renewed |= old.state >= STATE_DONE
            plan.has_changed |= new.has_changed
        rows.assets.append(row[:PLANNED])  # one that stays failed waits for `retry`, with its newest href
        previous = new.previous_digest if new.state == STATE_PENDING else old.previous_digest
        self._open(old.row, asset, previous, old.name)

    def _open(self, row: int, asset: Asset, previous_digest: bytes | None, owned: str | None) -> None:
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

    def _fetch(
        self,
        plan: _Plan,
        asset: Asset,
        row: int,
        generation: int,
        directory: str,
        name: str | None,
        version: VersionInDest | None,
    ) -> None:
        job = Job(
            row,
            plan.row.row,
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
            False,
            None,
            asset.alternates,
            version,
            False,
            asset.unready,
            self._area is not None,
        )
        self._result.jobs.append(job)

    # --- values of rows ----------------------------------------------------------------------------------

    def _directory(self, path: str, item: PlannedItem) -> tuple[int, str]:
        found = self._directories.get(path)
        if found is None:
            files = {path_in_dest(one.directory, one.name) for one in item.assets if one.name is not None}
            found = paths.directory_row(self._db, path, files)
            if len(path) <= LONGEST_KEY:
                self._directories[path] = found
        return found

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
    "SELECT c.name, i.id, i.hash, i.collection, i.name, i.parent, i.run, i.directory, i.href, i.updated, "
    "i.walk, i.written, i.listed, "
    f"EXISTS (SELECT 1 FROM failures WHERE item = i.id AND {ITEM_FAILURE}) "
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

"""Saving a page: its items, their assets, and the position of the walk. One transaction per batch.

The batch that ends a page has the new position: after a kill the page is read again, and nothing is counted
twice. `Planner` decides what becomes of a known asset: fetched again if it is lost or stated otherwise, else
revalidated or kept. A conditional request has the ETag or date of the version in DEST, and is only sent to
the URL that gave it (`assets.origin`), because an ETag belongs to one URL (RFC 9110, 8.8).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.digests import as_checksum
from stacpull.ledger import runs
from stacpull.ledger.database import AMONG, exists, insert_rows, json_array, scalar, transaction
from stacpull.ledger.jobs import (
    FAILED_IN_PASSING,
    FailedRow,
    claim,
    delete_asset,
    failed_state,
    put_failure,
    update_item_states,
)
from stacpull.ledger.schema import ITEMS, OF_SEVERAL, OTHER_DIRECTORY, Phase, Written, item_hash, stored_clip
from stacpull.models import (
    Asset,
    Checksum,
    Failure,
    FailureKind,
    ItemFailure,
    ItemId,
    Job,
    PlanBatch,
    PlannedItem,
    PlanResult,
    VersionInDest,
    path_in_dest,
)
from stacpull.planning.item_plan import document_digest, is_newer, item_directory, item_document_name
from stacpull.planning.names import path_hash, with_salted_hash
from stacpull.redact import Secrets, href_hash


class KnownAsset(NamedTuple):
    """A row of `assets`; the first `_OF_ASSET` fields are the ones that a plan sets."""

    row: int
    item: int
    key: str
    state: int
    generation: int  # 0 as long as a file at its path does not belong to the mirror
    run: int
    directory: int | None
    name: str | None
    sha256: bytes | None = None
    etag: str | None = None
    origin: int | None = None
    stated: bytes | None = None
    unchecked: int = 0
    size: int | None = None
    clip: str | None = None
    previous_digest: bytes | None = None  # of the earlier version, b"" if unknown; None if done, or none
    elsewhere: str | None = None  # its directory with a slash at the end, if it is not that of its item
    is_due: int = 0  # it failed in passing, or only SOURCE states its href

    def agrees(self, checksum: Checksum | None) -> bool | None:
        """Return whether a done asset has a checksum that is now stated; None if that is unknown."""
        if checksum is None:
            return None
        held = self.sha256 if self.sha256 is not None else self.previous_digest or None
        digest = None if self.clip is not None or held is None else as_checksum(held)
        if digest is not None and digest.algorithm == checksum.algorithm:
            return digest == checksum
        return None if self.stated is None else self.stated == _encoded(checksum)


_OF_ASSET = 13


def _encoded(checksum: Checksum | None) -> bytes | None:
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


class _ItemRow(NamedTuple):
    """A row of `items`; the first `_OF_ITEM` fields are the ones that a plan sets."""

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
    written: int = Written.NO
    is_unread: int = 0  # 1: it is a source item that could not be read


_OF_ITEM = 11


class _Plan(msgspec.Struct):
    """An item of the batch, with its row before the batch (None if it had none) and after it."""

    item: PlannedItem
    before: _ItemRow | None
    row: _ItemRow
    directory: str  # of its JSON
    is_again: bool  # True: this run planned an earlier version
    version: str  # `updated`, or if it states none, a digest of its document
    is_new: bool  # True: it was never read before
    is_renewed: bool  # True: its JSON must be written again
    has_changed: bool = False  # True: the source has another version of an asset

    def is_updated(self) -> bool:
        return self.before is not None and self.before.updated != self.version


class Planner(msgspec.Struct, eq=False):
    """Saves what the walk of a run plans. `is_there` says whether DEST has a file."""

    db: sqlite3.Connection
    run: int
    revalidate: bool = False
    is_there: Callable[[str], bool] = lambda _path: True
    secrets: Secrets = msgspec.field(default_factory=Secrets)
    source: str = ""
    is_walk: bool = False
    area_digest: int | None = None
    other_walks: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        query, others = "SELECT kind, source FROM runs WHERE id = ?", "SELECT id FROM runs WHERE source <> ?"
        kind, self.source = self.db.execute(query, (self.run,)).fetchone()
        self.is_walk, self.area_digest = kind == "mirror", runs.area_digest(self.db, self.run)
        self.other_walks = frozenset().union(*self.db.execute(others, (self.source,)))

    def find_planned(self, ids: Sequence[ItemId], linked: bool) -> dict[ItemId, str | None]:
        """Return the items that this run has already planned, with their versions.

        With `linked`, an unreadable source item counts; otherwise one known only by a link does not.
        """
        known = _load(self.db, ids)
        rows = [(item, known[item]) for item in ids if item in known and known[item].run == self.run]
        return {
            item: row.updated for item, row in rows if linked or (row.parent is None and not row.is_unread)
        }

    def save_batch(self, batch: PlanBatch, now: float) -> PlanResult:
        """Save a batch in one transaction, at `now` (seconds since 1970)."""
        db, run = self.db, self.run
        with transaction(db):
            planned: list[PlannedItem | ItemFailure] = [*batch.items, *batch.failed_items]
            rows = _BatchRows(self, {one.id for one in planned} | {p for one in planned if (p := one.parent)})
            result = rows.result
            done = runs.asset_counters(db, run)["assets_done"]
            for reason, ids in [("", batch.seen), *batch.left_out.items()]:
                hashes = [(runs.seen_hash(item),) for item in ids]
                new = insert_rows(db, "INSERT OR IGNORE INTO seen VALUES ", hashes)  # to this walk
                result.count("items_seen", new)
                if reason:
                    result.count(runs.LEFT_OUT + reason, new)
            rows.plan(batch, now)
            for one in batch.unread:
                found = (0, one.href or one.name, run, self.source, one.collection)
                put_failure(db, FailedRow("link" if one.href else "entry", *found), one.failure, 1, now)
            result.count("assets_skipped", runs.asset_counters(db, run)["assets_done"] - done)
            runs.add_counts(db, run, result.counted)
            runs.save_walk(db, run, batch.update)
            if self.is_walk and batch.update.walk_ended:
                self._forget_unread()
        return result

    def _forget_unread(self) -> None:
        """Forget what only earlier walks of the same source and selection could not read."""
        forget = (
            "DELETE FROM failures WHERE what IN ('item', 'link', 'entry') AND run IN (SELECT o.id FROM "
            "runs o JOIN runs r USING (source, selection) WHERE o.id < r.id AND r.id = ?) RETURNING item"
        )
        items = [item for (item,) in self.db.execute(forget, (self.run,))]
        update_item_states(self.db, items)
        # source items that were never read, and that no item links to any more
        self.db.execute(f"DELETE FROM items WHERE id {AMONG} AND updated IS NULL", (json_array(items),))


class _BatchRows:
    """The rows of one batch: those before it, and those to write. `ids` are its items, and their parents."""

    def __init__(self, planner: Planner, ids: set[ItemId]) -> None:
        self._planner, self._run = planner, planner.run
        db = self._db = planner.db
        self.result = PlanResult()
        self._known = _load(db, ids)
        query, hashes = f"SELECT hash FROM paths WHERE hash {AMONG}", json_array(map(item_hash, ids))
        self._taken = {row.hash for row in self._known.values()}.union(*db.execute(query, (hashes,)))
        self._collections: dict[str, int] = {}
        self._directories: dict[str, tuple[int, str]] = {}
        self._last_item = scalar(db, "SELECT max(id) FROM items")
        self._last_asset = scalar(db, "SELECT max(id) FROM assets")
        # rows to write:
        self._items: list[tuple[object, ...]] = []
        self._documents: list[tuple[int, bytes]] = []
        self._assets: list[tuple[object, ...]] = []
        self._open_assets: list[tuple[object, ...]] = []
        self._claims: list[tuple[int, str, str]] = []  # assets that need the path in `_assets`
        self._failures: list[tuple[FailedRow, Failure, ItemId | None]] = []  # with the item if it is news
        self._unchanged: list[int] = []  # assets that are done, and now belong to this run
        self._unchecked: list[tuple[int]] = []

    def plan(self, batch: PlanBatch, now: float) -> None:
        parents = {row.row: row.parent for row in self._known.values()}  # before the batch
        plans = [plan for item in batch.items if (plan := self._plan_of(item)) is not None]
        rows = [plan.row for plan in plans]
        for one in batch.failed_items:
            before = self._known.get(one.id)
            if before is not None and before.run == self._run:
                continue
            row = self._row_of(one.id, one.parent, one.href if before is None else before.href)
            self._known[one.id] = row = row._replace(is_unread=1)
            rows.append(row)
            self._items.append((*row[:_OF_ITEM], 1))
            self._failures.append((FailedRow("item", row.row), one.failure, one.id))
        linking = {  # label items that link to a source item that was new, or that another one led to
            row.parent
            for row in rows
            if row.row not in parents or (parents[row.row] not in (None, row.parent) and not row.is_unread)
        }
        unread = "SELECT item FROM failures WHERE what = 'item'"
        for row in [plan.row for plan in plans] if exists(self._db, unread) else ():  # they can be read now
            read = self._db.execute(  # rows that stood for items without ID
                f"DELETE FROM items WHERE parent = ? AND href = ? AND id <> ? AND id IN ({unread}) "
                "RETURNING id",
                (row.parent, row.href, row.row),
            ).fetchall()
            forget = "DELETE FROM failures WHERE what = 'item' AND item = ?"
            self._db.executemany(forget, [(row.row,), *read])
        existing: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
        for found in self._db.execute(_ASSETS, (json_array(plan.row.row for plan in plans if plan.before),)):
            asset = KnownAsset._make(found)
            existing[asset.item][asset.key] = asset
        for plan in plans:
            assets = existing[plan.row.row]
            self._plan_assets(plan, assets)
            self._plan_document(plan, assets, links_more=plan.row.row in linking)
        failing = self._write(now)
        above = {parent for row in rows for parent in (row.parent, parents.get(row.row))}
        waiting = {  # new items whose assets are all pending, as they are inserted
            plan.row.row
            for plan in plans
            if plan.before is None and plan.item.assets and not plan.item.problems
        }
        changed = {row.row for row in rows} - (waiting - failing) | above
        update_item_states(self._db, (row for row in changed if row is not None))

    def _write(self, now: float) -> set[int]:
        """Write the batch. New assets whose path is taken get another name, or fail: return their items."""
        db = self._db
        insert_rows(db, _INTO_ITEMS, self._items, _KNOWN_ITEM)
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", self._documents)
        insert_rows(db, _INTO_ASSETS, self._assets, _KNOWN_ASSET)
        insert_rows(db, _INTO_OPEN, self._open_assets)
        db.execute(f"UPDATE assets SET run = ? WHERE id {AMONG}", (self._run, json_array(self._unchanged)))
        db.executemany("UPDATE assets SET unchecked = 1 WHERE id = ?", self._unchecked)
        if taken := claim(db, self._claims):
            items = {known.row: item for item, known in self._known.items()}
            jobs, self.result.jobs = self.result.jobs, []
            for job in jobs:
                other = taken.get(job.row)
                if isinstance(other, Failure):
                    db.execute("UPDATE open_assets SET name = ? WHERE asset = ?", (job.name, job.row))
                    db.execute(f"UPDATE assets SET state = {Phase.FAILED} WHERE id = ?", (job.row,))
                    self._failures.append((FailedRow("", job.item_row, job.key), other, items[job.item_row]))
                else:
                    self.result.jobs.append(job if other is None else replace(job, name=other))
        for failed, failure, item in self._failures:
            put_failure(db, failed._replace(run=self._run), failure.scrubbed(self._planner.secrets), 1, now)
            if item is not None:
                self.result.failures.append((item, failed.key, failure))
        return {failed.item for failed, *_ in self._failures}

    def _plan_of(self, item: PlannedItem) -> _Plan | None:
        """Return an item with its row; None if this run already planned it, unless a page has a newer one."""
        before, count = self._known.get(item.id), self.result.count
        is_new = before is None or (bool(before.is_unread) and before.updated is None)
        is_again = before is not None and before.run == self._run and not before.is_unread
        if before is not None and is_again:
            if item.parent is None and before.parent is not None:  # so far, only a link led to it
                count("items_matched", 1)
                self._db.execute("UPDATE items SET parent = NULL WHERE id = ?", (before.row,))
                self._known[item.id] = before._replace(parent=None)
                update_item_states(self._db, [before.parent])
                return None
            if (item.parent, before.parent) != (None, None) or not is_newer(item.updated, before.updated):
                return None
        else:
            count("items_matched", item.parent is None and not item.of_collection)
            count("assets_excluded", len(item.excluded))
            count("assets_pages", len(item.web_pages))
        count("items_new", is_new and not item.of_collection)
        row = self._row_of(item.id, item.parent, item.href)._replace(is_unread=0)
        # a batch plans each item once: nothing is newer than no time
        self._known[item.id] = row._replace(updated=None)
        directory = row.directory or f"{item.id.collection}/{item.id.item}"
        version = item.updated or document_digest(item.cleaned)
        return _Plan(item, before, row, directory, is_again, version, is_new, is_renewed=is_new)

    def _row_of(self, item: ItemId, parent_id: ItemId | None, href: str | None) -> _ItemRow:
        before = self._known.get(item)
        parent = None if parent_id is None else self._known.get(parent_id)
        above = None if parent is None else parent.row
        href = None if href is None else self._planner.secrets.cut_name(href)
        if before is not None:
            return before._replace(run=self._run, parent=above, href=href)
        self._last_item += 1
        path, index = item_directory(item), item_hash(item)
        if index in self._taken:
            start, _, last = path.rpartition("/")
            path = f"{start}/{with_salted_hash(last, start)}"  # another item or an asset has that path
        self._taken.add(index)
        if item.collection not in self._collections:
            self._collections[item.collection] = self._db.execute(
                "INSERT INTO collections(name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id",
                (item.collection,),
            ).fetchone()[0]
        directory = None if path == f"{item.collection}/{item.item}" else path
        collection = self._collections[item.collection]
        return _ItemRow(self._last_item, index, collection, item.item, above, self._run, directory, href)

    def _plan_document(self, plan: _Plan, known: Mapping[str, KnownAsset], *, links_more: bool) -> None:
        """Plan the row of an item and its JSON, which is written again if it may be outdated."""
        item, before, count = plan.item, plan.before, self.result.count
        walk, written = self._run if self._planner.is_walk else None, plan.row.written
        if before is not None:
            is_changed = (plan.is_updated() or plan.has_changed) and not plan.is_again
            count("items_changed", is_changed and not (plan.is_new or item.of_collection))
            path = f"{plan.directory}/{item_document_name(item.id.item)}"
            lost = written == Written.YES and not self._planner.is_there(path)
            count("files_lost", lost)
            plan.is_renewed |= plan.is_updated() or lost or links_more or written == Written.DAMAGED
            if plan.is_renewed:
                # the next run that plans an asset that this one leaves out revalidates it, because only this
                # run sees that the item has changed
                planned = {asset.key for asset in item.assets}.union(item.expanded_prefixes)
                self._unchecked.extend((old.row,) for key, old in known.items() if key not in planned)
            if walk is None or before.walk == OF_SEVERAL:
                walk = before.walk
            elif before.walk in self._planner.other_walks and before.href != plan.row.href:
                walk = OF_SEVERAL  # no single source may declare it gone
        if plan.is_renewed and not item.of_collection:
            self._documents.append((plan.row.row, item.cleaned))
            if written == Written.DUE:  # its earlier document may be about to be recorded as written
                self._db.execute("UPDATE items SET sha256 = x'' WHERE id = ?", (plan.row.row,))
            written = Written.DUE if written == Written.YES else written
        row = plan.row._replace(updated=plan.version, walk=walk, written=written)
        self._items.append((*row[:_OF_ITEM], len(item.assets) or 1))

    def _plan_assets(self, plan: _Plan, known: Mapping[str, KnownAsset]) -> None:
        item, row = plan.item, plan.row.row
        for key in item.expanded_prefixes:
            old = known.get(key)
            if old is not None and old.state not in (Phase.RESERVED, Phase.DONE):
                self._db.execute("DELETE FROM failures WHERE what = '' AND item = ? AND key = ?", (row, key))
                delete_asset(self._db, old.row)  # not fetched, and no longer listed
                plan.is_renewed = True
        usual = item_directory(item.id)  # differs from the own one if that is another item's somewhere
        for asset in item.assets:
            old, directory = known.get(asset.key), asset.directory
            if directory == usual:
                directory = plan.directory
            if old is not None:
                self._plan_known(plan, asset, old, directory)
                continue
            plan.is_renewed = True
            other, directory = self._directory(directory, plan)
            self._last_asset += 1
            if asset.name is not None:
                self._claims.append((self._last_asset, directory, asset.name))
            planned = (self._last_asset, row, asset.key, Phase.PENDING, 0, self._run, other, asset.name)
            self._assets.append((*planned, None, None, href_hash(asset.href), _encoded(asset.checksum), 0))
            self._fetch(plan, asset, (self._last_asset, 0), directory, asset.name)
            self._open(self._last_asset, asset, None, is_owned=asset.name is not None)
        for key, failure in item.problems:  # assets that are done stay done
            old, state = known.get(key), failed_state(failure)
            if old is not None and old.run == self._run and old.state < Phase.DONE:
                continue  # it is being fetched
            if old is None:
                self._last_asset += 1
                new = KnownAsset(self._last_asset, row, key, state, 0, self._run, None, None)
                # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
                plan.is_renewed |= failure.kind is not FailureKind.ITEM
            else:
                new = old._replace(run=self._run, state=Phase.DONE if old.state == Phase.DONE else state)
            self._assets.append(new[:_OF_ASSET])
            if new.state != Phase.DONE:
                is_news = old is None or old.state < Phase.FAILED
                self._failures.append((FailedRow("", row, key), failure, item.id if is_news else None))

    def _plan_known(self, plan: _Plan, asset: Asset, old: KnownAsset, directory: str) -> None:
        """Decide what becomes of a known asset: it is kept, requested again, or stays failed."""
        is_done, is_checked_again = old.state == Phase.DONE, bool(old.unchecked)
        if old.run == self._run and old.state < Phase.DONE:  # it is being fetched, perhaps from before
            self._assets.append(old._replace(unchecked=1)[:_OF_ASSET])
            return
        path = f"{plan.directory}/{old.name}" if old.elsewhere is None else f"{old.elsewhere}{old.name}"
        clip, agrees = stored_clip(old.clip), old.agrees(asset.checksum)
        is_lost = is_done and old.name is not None and not self._planner.is_there(path)
        is_restated = agrees is False or asset.size not in (None, clip.source_size if clip else old.size)
        is_of_other_area = clip is not None and clip.area_digest != self._planner.area_digest
        has_changed = is_restated or is_of_other_area
        is_updated = is_checked_again or plan.is_updated()
        # only a stated checksum can prove that it is current; a collection without `updated` may have changed
        may_have_changed = is_updated or (plan.item.of_collection and not plan.item.updated)
        is_current = agrees or not (asset.checksum or may_have_changed)
        self.result.count("files_lost", is_lost)
        plan.is_renewed |= is_checked_again
        if is_done and is_current and not (has_changed or is_lost or self._planner.revalidate):
            stated = _encoded(asset.checksum)
            if is_checked_again or stated not in (None, old.stated):
                kept = old._replace(run=self._run, stated=stated or old.stated, unchecked=0)
                self._assets.append(kept[:_OF_ASSET])
            elif old.run != self._run:
                self._unchanged.append(old.row)
            return
        row, name, previous = old._replace(run=self._run), asset.name, old.previous_digest
        if old.name is not None:
            directory, _, name = path.rpartition("/")
        else:
            other, directory = self._directory(directory, plan)
            row = row._replace(directory=other)
        if old.state < Phase.FAILED or is_updated or is_of_other_area or old.is_due:
            row, previous, version = self._requested(row, asset, is_lost, has_changed)
            self._fetch(plan, asset, (row.row, row.generation), directory, name, version)
            plan.is_renewed |= old.state >= Phase.DONE
            plan.has_changed |= is_restated if is_lost else is_done and has_changed
        self._assets.append(row[:_OF_ASSET])  # one that stays failed waits for `retry`, with its newest href
        self._open(old.row, asset, previous, is_owned=old.name is not None)

    def _requested(
        self, old: KnownAsset, asset: Asset, is_lost: bool, has_changed: bool
    ) -> tuple[KnownAsset, bytes | None, VersionInDest | None]:
        """Return the pending row, the digest of the file that it replaces, and the version to revalidate."""
        is_done, origin = old.state == Phase.DONE, href_hash(asset.href)
        is_replaced = is_done and not is_lost
        previous = old.sha256 or b"" if is_replaced else old.previous_digest
        # the validator is sent only if its version may be current, and only to the URL that gave it
        may_be_same = (is_replaced or old.state == Phase.PENDING) and not has_changed
        etag = old.etag if may_be_same and old.origin == origin else None
        row = old._replace(
            state=Phase.PENDING,
            generation=0 if is_lost else old.generation + is_done,
            sha256=None,
            etag=etag,
            origin=origin,
            stated=_encoded(asset.checksum),
            unchecked=0,
        )
        if etag is None or old.size is None:
            return row, previous, None
        held = old._replace(stated=None) if old.state == Phase.PENDING else old
        is_unverified = asset.checksum is not None and not held.agrees(asset.checksum)
        return row, previous, VersionInDest(etag, old.size, is_unverified)

    def _open(self, row: int, asset: Asset, previous_digest: bytes | None, *, is_owned: bool) -> None:
        """Add the row of an open asset, without credentials; it owns its name or has yet to claim it."""
        href, stale, alternates = asset.href, 0, None
        name = None if is_owned else asset.name or asset.name_template or "{filename}"
        if "?" in href or "@" in href or asset.alternates or self._planner.secrets:
            hrefs = [href, *asset.alternates]
            href, *others = stored = [*map(self._planner.secrets.cut, hrefs)]
            stale = int(stored != hrefs)
            alternates = orjson.dumps(others).decode() if others else None
        stated = (asset.size, asset.media_type, alternates, previous_digest)
        self._open_assets.append((row, href, stale, name, *stated))

    def _fetch(
        self,
        plan: _Plan,
        asset: Asset,
        version: tuple[int, int],  # row and generation
        directory: str,
        name: str | None,
        in_dest: VersionInDest | None = None,
    ) -> None:
        (row, generation), item, key, href = version, plan.row.row, asset.key, asset.href
        template = None if name is not None else asset.name_template or "{filename}"
        job = Job(  # positions take half the time of keywords
            *(row, item, generation, key, href, plan.item.href, directory, name, template),
            *(asset.size, asset.checksum, asset.media_type, False, None, asset.alternates, in_dest, False),
            self._planner.area_digest is not None,
        )
        self.result.jobs.append(job)

    def _directory(self, path: str, plan: _Plan) -> tuple[int | None, str]:
        """Return row and path. A new one gets a hash in its name if a file has its path."""
        if path == plan.directory:
            return None, path
        if path not in self._directories:
            db, found, query = self._db, "", "SELECT id FROM directories WHERE path = ?"
            if (known := db.execute(query, (path_in_dest(path, ""),)).fetchone()) is not None:
                self._directories[path] = known[0], path
                return known[0], path
            assets = plan.item.assets
            files = {path_in_dest(one.directory, one.name) for one in assets if one.name is not None}
            for step in path.split("/") if path else ():
                above, found = found, path_in_dest(found, step)
                if found in files or exists(db, "SELECT 1 FROM paths WHERE hash = ?", (path_hash(found),)):
                    found = path_in_dest(above, with_salted_hash(step, above))
            row: int = db.execute(
                "INSERT INTO directories(path) VALUES (?) ON CONFLICT DO UPDATE SET path = path RETURNING id",
                (path_in_dest(found, ""),),
            ).fetchone()[0]
            self._directories[path] = row, found
        return self._directories[path]


def _load(db: sqlite3.Connection, ids: Iterable[ItemId]) -> dict[ItemId, _ItemRow]:
    found = db.execute(_ITEMS, (json_array(map(item_hash, set(ids))),))
    return {ItemId(collection, row[3]): _ItemRow._make(row) for collection, *row in found}


def _updated(columns: str) -> str:
    values = ", ".join(f"{column} = excluded.{column}" for column in columns.split(", "))
    return f" ON CONFLICT (id) DO UPDATE SET {values}"


_ITEM_COLUMNS = ("id", *_ItemRow._fields[1:_OF_ITEM])
_ITEMS = (
    f"SELECT c.name, {', '.join(f'i.{name}' for name in _ITEM_COLUMNS)}, "
    "EXISTS (SELECT 1 FROM failures WHERE what = 'item' AND item = i.id) "
    f"FROM {ITEMS} WHERE i.hash {AMONG}"
)
_INTO_ITEMS = f"INSERT INTO items({', '.join(_ITEM_COLUMNS)}, remaining) VALUES "
_KNOWN_ITEM = f"{_updated('parent, run, href, updated, walk, written')}, remaining = 1"
_ASSET_COLUMNS = ("id", *KnownAsset._fields[1:_OF_ASSET])
_ASSETS = (
    f"SELECT {', '.join(f'a.{name}' for name in _ASSET_COLUMNS)}, "
    f"a.size, a.clip, o.previous_digest, {OTHER_DIRECTORY}, "
    f"a.state = {Phase.FAILED} AND ({FAILED_IN_PASSING} "
    "OR (o.stale AND (SELECT href FROM items WHERE id = a.item) IS NULL)) FROM assets a "
    f"LEFT JOIN open_assets o ON o.asset = a.id AND a.state <> {Phase.DONE} WHERE a.item {AMONG}"
)
_INTO_ASSETS = f"INSERT INTO assets({', '.join(_ASSET_COLUMNS)}) VALUES "
_KNOWN_ASSET = _updated(", ".join(_ASSET_COLUMNS[3:]))  # what follows its row, item and key
_INTO_OPEN = (
    "INSERT OR REPLACE INTO open_assets(asset, href, stale, name, size, media_type, alternates, "
    "previous_digest) VALUES "
)

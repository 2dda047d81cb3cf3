"""Saving a page: its items, their assets, and the position of the walk. One transaction per batch.

The batch that ends a page has the new position. After a kill, the page is read again, and nothing is counted
twice. `_BatchChanges.save` shows the steps; `asset_decision.decide` says what becomes of a known asset.
"""

from collections.abc import Callable, Iterable
from functools import cache
from itertools import count
from typing import Literal

import msgspec
import orjson
from msgspec.structs import astuple, replace

from stacpull.ledger import asset_decision, database, paths, queries, runs, transitions
from stacpull.ledger.asset_decision import Action, AssetRow, Decision, HasFile, ItemRow, KnownAsset
from stacpull.ledger.database import IN_LIST, Connection, column, exists, json_array, scalar, write_rows
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import LISTED_BY_SEVERAL, AssetState, JsonState, encoded_checksum, item_hash
from stacpull.ledger.transitions import FailureKey
from stacpull.models import Asset, Failure, FailureKind, ItemId, Job, PlannedItem, SavedBatch, WalkBatch
from stacpull.planning.item_plan import is_newer, item_directory, item_json_in, version_of
from stacpull.planning.layout import final_name
from stacpull.planning.names import COLLECTION_FILE, fold, path_hash, safe_segment, with_salted_hash
from stacpull.redact import Secrets, href_hash
from stacpull.urls import filename_of

_REQUEST_NEW = Decision(Action.REQUEST)


class BatchWriter:
    """Saves what the walk of a run plans. Reserved assets are published before they are planned again."""

    def __init__(
        self, db: Connection, run: Run, has_file: HasFile, secrets: Secrets, publish_all: Callable[[], None]
    ) -> None:
        self.db = db
        self.run = run
        self.has_file = has_file
        self.secrets = secrets
        self.publish_all = publish_all
        other_runs = column(db, "SELECT id FROM runs WHERE source <> ?", (run.source,))
        self.runs_of_other_sources = set(other_runs)
        has_metadata = "SELECT 1 FROM runs WHERE json_extract(fixed, '$.metadata') IS NOT 'none'"
        self.keeps_documents = exists(db, has_metadata)
        self._directories = queries.collection_directories(db)
        self._folded_directories = set(map(fold, self._directories.values()))
        # documents older than those of an earlier run: planned last, if SOURCE lists no newer ones
        self.postponed: dict[ItemId, PlannedItem] = {}
        # with `--max-items` none, as they do not count yet
        self.max_postponed = 0 if run.has_max_items else 1000
        self.item_rowids = count(scalar(db, "SELECT max(id) FROM items") + 1)  # of new rows
        self.asset_rowids = count(scalar(db, "SELECT max(id) FROM assets") + 1)

    def add_collection(self, name: str) -> tuple[int, str]:
        if name not in self._directories:
            directory = safe_segment(name)
            is_file = exists(self.db, "SELECT 1 FROM paths WHERE hash = ?", (path_hash(directory),))
            if is_file or fold(directory) in self._folded_directories:
                directory = with_salted_hash(directory, COLLECTION_FILE)
            self._directories[name] = directory
            self._folded_directories.add(fold(directory))
        add = "INSERT INTO collections(name) VALUES (?) ON CONFLICT DO UPDATE SET name = name RETURNING id"
        return scalar(self.db, add, (name,)), self._directories[name]

    def save_batch(self, batch: WalkBatch, now: float) -> SavedBatch:
        """Save a batch in one transaction, at `now` (seconds since 1970)."""
        db = self.db
        run_id = self.run.id
        result = SavedBatch()
        if batch.update.walk_ended:
            batch.items += self.postponed.values()
        changes = _BatchChanges(self, batch, result, now)
        with database.transaction(db):
            done_before = runs.run_totals(db, run_id)["assets_done"]
            for reason, ids in {"": batch.seen, **batch.left_out}.items():
                hashes = [(runs.seen_hash(item),) for item in ids]
                newly_seen = write_rows(db, "INSERT OR IGNORE INTO seen VALUES ?", hashes)
                result.count("items_seen", newly_seen)
                if reason:
                    result.count(runs.LEFT_OUT + reason, newly_seen)
            changes.save()
            done_now = runs.run_totals(db, run_id)["assets_done"]
            result.count("assets_skipped", max(0, done_now - done_before))
            runs.add_counts(db, run_id, result.counted)
            if self.postponed:  # a resumed run reads their pages again
                batch.update = batch.update._replace(position=None)
            runs.save_walk(db, run_id, batch.update)
            if self.run.kind == "mirror" and batch.update.walk_ended:
                self._delete_unreadable()
        return result

    def _delete_unreadable(self) -> None:
        """Delete failures to read of earlier walks, but not of complete ones if this walk was cut short."""
        is_comparable = "(r.cut_short IS NULL OR o.cut_short IS NOT NULL)"
        earlier = (
            "SELECT o.id FROM runs o JOIN runs r USING (source, selection) WHERE o.id < r.id AND r.id = ?"
        )
        of_walks = f"what IN ('item', 'link', 'entry') AND run IN ({earlier} AND {is_comparable})"
        items = column(self.db, f"DELETE FROM failures WHERE {of_walks} RETURNING item", (self.run.id,))
        transitions.update_item_states(self.db, items)
        # source items that were never read, and that no item links to any more
        self.db.execute(f"DELETE FROM items WHERE id {IN_LIST} AND version IS NULL", (json_array(items),))


class _ItemChange(msgspec.Struct):
    """An item that a batch adds or plans again, and what its assets require of its JSON."""

    item: PlannedItem
    before: ItemRow
    row: ItemRow
    was_planned: bool  # True: this run planned an earlier version
    is_updated: bool  # True: the source has another version than before
    known: dict[str, KnownAsset]  # its assets before the batch, by the keys that they have after it
    rewrites_json: bool = False  # True: its JSON must be written, the first time or again
    has_changed: bool = False  # True: the source has another version of an asset
    lacks_file: bool = False  # True: DEST has no version of an asset, so its JSON may say that it is remote


class _Rows(msgspec.Struct):
    """The rows of items and assets that a batch writes, once everything is decided."""

    items: list[ItemRow] = []
    documents: list[tuple[int, bytes]] = []  # of items
    assets: list[AssetRow] = []
    jobs: list[tuple[object, ...]] = []
    unchanged: list[int] = []  # assets of which only the run changes
    must_revalidate: list[int] = []  # assets

    def write(self, db: Connection, run_id: int) -> None:
        db.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?)", self.documents)
        transitions.put_rows(db, self.items, self.assets, self.jobs)
        transitions.set_run(db, run_id, self.unchanged)
        revalidate = f"UPDATE assets SET must_revalidate = 1 WHERE id {IN_LIST}"
        db.execute(revalidate, (json_array(self.must_revalidate),))


class _BatchChanges:
    """Decides what a batch changes. The constructor reads what is known; `save` decides, then writes."""

    def __init__(self, writer: BatchWriter, batch: WalkBatch, result: SavedBatch, now: float) -> None:
        self._writer = writer
        self._db = writer.db
        self._run = writer.run
        self._has_file = writer.has_file
        self._secrets = writer.secrets
        self._batch = batch
        self._result = result
        self._now = now
        self._rows = _Rows()
        self._claims: list[tuple[int, str, str]] = []  # new assets with the directory and name that they need
        # of items and assets, each with its item if it is reported
        self._failures: list[tuple[FailureKey, Failure, ItemId | None]] = []
        self._relinked = set[int | None]()  # label items that gained a source item, perhaps from another one
        self._directories: dict[str, tuple[int, str]] = {}
        self._add_collection = cache(writer.add_collection)
        self._read_known()
        rows = [known.row for assets in self._known_assets.values() for known in assets.values()]
        if any(row.state == AssetState.RESERVED for row in rows):
            writer.publish_all()
            self._read_known()
        # items whose states may change: known ones, and those that linked to them
        self._changed = set[int | None]()
        for row in self._known.values():
            self._changed |= {row.id, row.parent}

    def _read_known(self) -> None:
        planned = {item.id for item in self._batch.items}
        unreadable = [*self._batch.unreadable_items, *self._batch.deferred]
        ids = planned.union(item.id for item in unreadable)
        parents = {item.parent for item in self._batch.items if item.parent is not None}
        parents.update(item.parent for item in unreadable)
        self._known = asset_decision.known_items(self._db, ids | parents)
        planned_rows = [row for item, row in self._known.items() if item in planned]
        self._known_assets = asset_decision.known_assets(self._db, planned_rows, self._run)
        query = f"SELECT hash FROM paths WHERE hash {IN_LIST}"
        owned_by_assets = column(self._db, query, (json_array(map(item_hash, ids)),))
        self._taken_hashes = {row.hash for row in self._known.values()}.union(owned_by_assets)

    def save(self) -> None:
        changes = []
        for item in self._batch.items:
            row = self._known.get(item.id)
            if row is None or row.run != self._run.id or row.is_unreadable:
                if not self._postpone(item):
                    changes.append(self._change_of(item, was_planned=False))
                continue
            if item.parent is not None:
                continue
            if row.parent is not None:  # known by a link so far
                self._result.count("items_matched", 1)
                self._result.count("source_items", -1)
                self._known[item.id] = row._replace(parent=None)
                self._rows.items.append(self._known[item.id])
            if is_newer(item.updated, row.version):
                changes.append(self._change_of(item, was_planned=True))
        self._plan_unreadable_items()
        for entry in self._batch.unreadable_entries:
            what: Literal["link", "entry"] = "link" if entry.href else "entry"
            place = self._secrets.storable_url(entry.href or entry.name)
            key = FailureKey(what, 0, place, source=self._run.source, collection=entry.collection)
            self._fail(key, entry.failure)
        for change in changes:  # once `_relinked` is complete, which `_json_state` needs
            if change.known:
                self._resolve_unplanned(change)
            for asset in change.item.assets:
                known = change.known.get(asset.key)
                if known is None:
                    self._plan_new_asset(change, asset)
                else:
                    self._plan_known_asset(change, asset, known)
            self._plan_problems(change)
            self._plan_row(change)
        self._write()

    def _fail(self, key: FailureKey, failure: Failure, item: ItemId | None = None) -> None:
        self._failures.append((key, failure, item))

    def _postpone(self, item: PlannedItem) -> bool:
        """Postpone an item if SOURCE may list it twice: an earlier run had a newer version."""
        known = self._known.get(item.id)
        postponed = self._writer.postponed
        if known is None or item.parent is not None or not is_newer(known.version, item.updated):
            return False
        if self._batch.update.walk_ended or len(postponed) >= self._writer.max_postponed:
            return False
        before = postponed.get(item.id)
        if before is None or not is_newer(before.updated, item.updated):
            postponed[item.id] = item
        return True

    def _change_of(self, item: PlannedItem, *, was_planned: bool) -> _ItemChange:
        before = self._known.get(item.id) or self._new_row(item.id)
        row = self._planned_row(before, item.parent, item.href)
        row = row._replace(version=version_of(item), is_unreadable=0)
        self._known[item.id] = row
        if not was_planned:
            if item.parent is not None:
                self._result.count("source_items", 1)
            elif not item.is_collection:
                self._result.count("items_matched", 1)
            self._result.count("assets_excluded", len(item.excluded))
            self._result.count("assets_pages", len(item.web_pages))
        if before.version is None and not item.is_collection:
            self._result.count("items_new", 1)
        if row.directory != item_directory(item.id):
            item = _moved_to(item, row.directory)
        is_updated = before.version not in (None, row.version)
        known = self._known_assets[row.id]
        return _ItemChange(item, before, row, was_planned=was_planned, is_updated=is_updated, known=known)

    def _new_row(self, item: ItemId) -> ItemRow:
        collection, directory = self._add_collection(item.collection)
        name = safe_segment(item.item)
        hashed = item_hash(item)
        if hashed in self._taken_hashes:
            name = with_salted_hash(name, directory)
        self._taken_hashes.add(hashed)
        path = f"{directory}/{name}"
        is_usual = path == f"{item.collection}/{item.item}"  # as in `named_items`
        other_directory = None if is_usual else path
        rowid = next(self._writer.item_rowids)
        return ItemRow(rowid, hashed, collection, item.item, other_directory, directory=path)

    def _planned_row(self, before: ItemRow, parent: ItemId | None, href: str | None) -> ItemRow:
        parent_rowid = None
        if parent in self._known:
            parent_rowid = self._known[parent].id
        if before.run == 0 or before.parent not in (None, parent_rowid):
            self._relinked.add(parent_rowid)
        if href is not None:
            href = self._secrets.requestable_url(href)
        return before._replace(run=self._run.id, parent=parent_rowid, href=href)

    def _plan_unreadable_items(self) -> None:
        for unreadable in (*self._batch.unreadable_items, *self._batch.deferred):
            before = self._known.get(unreadable.id) or self._new_row(unreadable.id)
            if before.run == self._run.id and not before.is_unreadable:
                continue  # it was read before the run was resumed
            row = self._planned_row(before, unreadable.parent, unreadable.href)
            row = row._replace(href=before.href or row.href, is_unreadable=1)
            self._known[unreadable.id] = row
            self._rows.items.append(row)
            reported = unreadable.id if unreadable.failure.attempts else None
            self._fail(FailureKey("item", row.id), unreadable.failure, reported)

    def _directory(self, path: str, change: _ItemChange) -> tuple[int | None, str]:
        """Return the row of a directory, None for that of the item, and its path, which may get a hash."""
        if path == change.row.directory:
            return None, path
        if path not in self._directories:
            self._directories[path] = paths.add_directory(self._db, path, change.item.assets)
        return self._directories[path]

    def _plan_known_asset(self, change: _ItemChange, asset: Asset, known: KnownAsset) -> None:
        run = self._run
        is_pending = known.row.run == run.id and known.row.state == AssetState.PENDING
        if is_pending and (change.was_planned or known.row.must_revalidate):  # 1 for a renamed asset
            # a transfer of the older version may still deliver to the old row
            rowid = next(self._writer.asset_rowids)
            transitions.move_asset(self._db, known.row.id, rowid, asset.key)
            known = known._replace(row=known.row._replace(id=rowid, run=0))
        is_lost = known.is_lost(self._has_file)
        decision = asset_decision.decide(
            known, asset, change.item, run, is_updated=change.is_updated, is_lost=is_lost
        )
        if decision.action is Action.WAIT:
            self._rows.must_revalidate.append(known.row.id)
            return
        row = decision.row
        if row is None:
            self._rows.unchanged.append(known.row.id)
            return
        if is_lost:
            self._result.count("files_lost", 1)
        change.rewrites_json |= decision.rewrites_json
        change.has_changed |= decision.has_changed
        if decision.action is Action.KEEP:
            self._rows.assets.append(row)
            return
        directory = known.directory
        if row.name is None:
            other_directory, directory = self._directory(asset.directory, change)
            row = row._replace(other_directory=other_directory)
        self._add_job(change, asset, row, directory, decision)

    def _plan_new_asset(self, change: _ItemChange, asset: Asset) -> None:
        change.rewrites_json = True
        other_directory, directory = self._directory(asset.directory, change)
        row = AssetRow(
            next(self._writer.asset_rowids),
            change.row.id,
            asset.key,
            self._run.id,
            other_directory=other_directory,
            name=asset.name,
            href_hash=href_hash(asset.href),
            stated_checksum=encoded_checksum(asset.checksum),
        )
        if asset.name is not None:
            self._claims.append((row.id, directory, asset.name))
        self._add_job(change, asset, row, directory, _REQUEST_NEW)

    def _add_job(
        self, change: _ItemChange, asset: Asset, row: AssetRow, directory: str, decision: Decision
    ) -> None:
        name = row.name or asset.name
        template = None if name else asset.name_template or "{filename}"
        name_or_template = None if row.name else name or template  # None: the asset owns its path
        hrefs = [asset.href, *asset.alternates]
        public_hrefs = [*map(self._secrets.storable_url, hrefs)]
        is_stale = int(public_hrefs != hrefs)  # 1: a stored URL lacks its key or signature
        alternates = orjson.dumps(public_hrefs[1:]).decode() if asset.alternates else None
        columns = (row.id, public_hrefs[0], is_stale, name_or_template, asset.size, asset.media_type)
        self._rows.assets.append(row)
        self._rows.jobs.append((*columns, alternates, decision.digest_in_dest))
        if decision.action is not Action.REQUEST:
            return
        change.lacks_file |= decision.digest_in_dest is None
        planned = asset
        if (directory, name, template) != (asset.directory, asset.name, asset.name_template):
            planned = replace(asset, directory=directory, name=name, name_template=template)
        known = change.known.get(asset.key)
        job = Job(
            *astuple(planned),  # a job has the fields of its asset, and more
            rowid=row.id,
            item_rowid=row.item,
            generation=row.generation,
            item_href=change.item.href,
            item_name=change.item.id.item,
            version_in_dest=decision.version,
            is_clipped=self._run.area_hash is not None,
            replanned_at=self._now if change.was_planned else 0.0,
            has_failed=known is not None and known.row.state >= AssetState.FAILED,
        )
        self._result.jobs.append(job)

    def _resolve_unplanned(self, change: _ItemChange) -> None:
        """Decide about known assets that the plan of their item does not have any more."""
        item = change.item
        planned = {asset.key for asset in item.assets}.union(dict(item.problems))
        unplanned = [known for key, known in change.known.items() if key not in planned]
        if not unplanned:
            return
        left_out = {*item.excluded, *item.web_pages}
        wanted = [known for known in unplanned if known.row.key not in left_out]
        self._rename_assets(change, [known for known in wanted if known.row.state != AssetState.RESERVED])
        if item.problems:  # one of these may be the same asset
            return
        for known in unplanned:
            row = known.row
            if change.known.get(row.key) is not known:  # it was renamed
                continue
            match self._fate_of(known, is_left_out=row.key in left_out):
                case "deleted":
                    transitions.delete_asset(self._db, row.id)
                    del change.known[row.key]
                case "done":
                    transitions.delete_jobs(self._db, [row.id])
                    done = row._replace(state=AssetState.DONE, digest=known.digest_in_dest or None)
                    self._rows.assets.append(done)

    def _fate_of(self, known: KnownAsset, *, is_left_out: bool) -> Literal["kept", "deleted", "done"]:
        """Decide about an asset that its item does not list any more, or that a filter leaves out."""
        row = known.row
        if row.run in self._writer.runs_of_other_sources:
            return "kept"  # the other SOURCE may list it
        if row.state in {AssetState.RESERVED, AssetState.DONE}:
            return "kept"  # until it is pruned
        if row.state == AssetState.PENDING and (is_left_out or row.run != self._run.id):
            return "kept"  # its run fetches it
        if not known.has_version or known.is_lost(self._has_file):
            return "deleted"
        return "kept" if is_left_out else "done"  # DEST has its last version

    def _rename_assets(self, change: _ItemChange, unplanned: Iterable[KnownAsset]) -> None:
        """Let a key without a file take over the unplanned asset with its path."""
        unplanned_by_path = {(known.directory, known.row.name): known for known in unplanned}
        for asset in change.item.assets:
            replaced = change.known.get(asset.key)
            if replaced and (replaced.row.name is not None or replaced.row.state < AssetState.FAILED):
                continue
            name = final_name(asset.name, asset.name_template, filename_of(asset.href), asset.directory)
            known = unplanned_by_path.pop((asset.directory, name), None)
            if known is None:
                continue
            if replaced:
                transitions.delete_asset(self._db, replaced.row.id)
            transitions.move_asset(self._db, known.row.id, known.row.id, asset.key)
            row = known.row._replace(key=asset.key, must_revalidate=1)  # its content may be another one
            del change.known[known.row.key]
            change.known[asset.key] = known._replace(row=row)

    def _plan_problems(self, change: _ItemChange) -> None:
        run_id = self._run.id
        for key, failure in change.item.problems:
            known = change.known.get(key)
            if known is None:
                row = AssetRow(next(self._writer.asset_rowids), change.row.id, key, run_id)
                # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
                change.rewrites_json |= failure.kind is not FailureKind.ITEM
            elif known.row.run == run_id and known.row.state < AssetState.DONE:
                continue  # the asset is being fetched
            else:
                row = known.row._replace(run=run_id)
            if row.state != AssetState.DONE:
                row = row._replace(state=transitions.failed_state(failure))
                self._fail(FailureKey("", row.item, key), failure, change.item.id)
            self._rows.assets.append(row)

    def _plan_row(self, change: _ItemChange) -> None:
        item = change.item
        is_changed = change.is_updated or change.has_changed
        if is_changed and not (change.was_planned or item.is_collection):
            self._result.count("items_changed", 1)
        row = change.row._replace(
            listed_by=self._listed_by(change), json_state=self._json_state(change), pending=len(item.assets)
        )
        self._rows.items.append(row)
        if change.rewrites_json:
            # later runs do not see the change: they must revalidate the assets that this one leaves out
            planned = {asset.key for asset in item.assets}.union(item.expanded_prefixes)
            left_out = [known.row.id for key, known in change.known.items() if key not in planned]
            self._rows.must_revalidate += left_out

    def _listed_by(self, change: _ItemChange) -> int | None:
        before = change.before
        if self._run.kind != "mirror" or before.listed_by == LISTED_BY_SEVERAL:
            return before.listed_by
        # a 404 for this URL proves nothing if another source lists the item under another URL
        is_of_other_source = before.listed_by in self._writer.runs_of_other_sources
        is_listed_twice = is_of_other_source and before.href != change.row.href
        return LISTED_BY_SEVERAL if is_listed_twice else self._run.id

    def _json_state(self, change: _ItemChange) -> int:
        """Return the new state of the item's JSON, and keep its document if the JSON must be written."""
        item = change.item
        state = change.row.json_state
        path = item_json_in(change.row.directory, item.id.item)
        if state == JsonState.CURRENT and not self._has_file(path):
            self._result.count("files_lost", 1)
            state = JsonState.DAMAGED  # unlike one that is only `DUE`, the catalog does not list it
        is_other_version = change.before.version != change.row.version
        is_outdated = is_other_version or change.row.id in self._relinked
        change.rewrites_json |= is_outdated or state == JsonState.DAMAGED
        # relative hrefs in a document that is not written yet are resolved against the URL of its item
        is_moved = change.before.href != change.row.href and state != JsonState.CURRENT
        # without metadata, only a repair needs a document, if it cannot read the item again
        keeps = self._writer.keeps_documents or item.href is None
        is_needed = change.rewrites_json or change.lacks_file or is_moved
        if not is_needed and state == JsonState.ABSENT:  # perhaps after runs with `--metadata none`
            is_needed = not exists(self._db, "SELECT 1 FROM documents WHERE item = ?", (change.row.id,))
        if item.is_collection or not (keeps and is_needed):
            return state
        self._rows.documents.append((change.row.id, item.public_json))
        if state in {JsonState.CURRENT, JsonState.WRITING}:
            state = JsonState.DUE
        return state

    def _write(self) -> None:
        db = self._db
        self._rows.write(db, self._run.id)
        self._claim_paths()
        if exists(db, "SELECT 1 FROM failures WHERE what = 'item'"):
            read = {self._known[item.id].id for item in self._batch.items}
            self._delete_failures(read)
        for key, failure, item in self._failures:
            masked = failure.masked(self._secrets)
            transitions.put_failure(db, key._replace(run=self._run.id), masked, self._now)
            if item is not None:
                self._result.failures.append((item, key.key, failure))
        changed = self._changed.union(row.parent for row in self._rows.items)
        changed.update(key.item for key, *_ in self._failures)
        transitions.update_item_states(db, changed)

    def _claim_paths(self) -> None:
        other_names = paths.claim(self._db, self._claims)
        if not other_names:
            return
        items = {row.id: item for item, row in self._known.items()}
        jobs = []
        for job in self._result.jobs:
            name = other_names.get(job.rowid, job.name)
            if isinstance(name, Failure):
                transitions.fail_planned(self._db, job.rowid, job.name)
                key = FailureKey("", job.item_rowid, job.key)
                self._fail(key, name, items[job.item_rowid])
            else:
                jobs.append(replace(job, name=name))
        self._result.jobs = jobs

    def _delete_failures(self, read: set[int]) -> None:
        same_href = f"SELECT o.id FROM items i JOIN items o USING (parent, href) WHERE i.id {IN_LIST}"
        placeholders = f"{same_href} AND o.version IS NULL"
        is_of_item = f"(item {IN_LIST} OR item IN ({placeholders}))"
        delete = f"DELETE FROM failures WHERE what = 'item' AND {is_of_item} RETURNING item"
        rowids = json_array(read)
        of_items = set(column(self._db, delete, (rowids, rowids)))
        replaced = of_items - read - {key.item for key, *_ in self._failures}
        delete = f"DELETE FROM items WHERE id {IN_LIST} RETURNING parent"
        self._changed.update(column(self._db, delete, (json_array(replaced),)))


def _moved_to(item: PlannedItem, directory: str) -> PlannedItem:
    """Move assets out of the usual directories of the item and its collection, because these were taken."""
    usual = item_directory(item.id)
    usual_of_collection = usual.partition("/")[0]
    moved = {usual: directory, usual_of_collection: directory.partition("/")[0]}
    assets = [replace(asset, directory=moved.get(asset.directory, asset.directory)) for asset in item.assets]
    return item._replace(assets=tuple(assets))

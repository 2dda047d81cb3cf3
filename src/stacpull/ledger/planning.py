"""What a page brings, saved in one transaction: items, assets to fetch, and how far the walk is.

`Planner.commit` takes a batch of items of one page. The batch that ends a page carries the new position; so a
kill between two batches reads the page again, finds its first items planned already, and counts none twice.
Each item gets its number in the walk's order here, which is what `--max-items` counts.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from stacpull.ledger import paths
from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_PENDING
from stacpull.models import Asset, Checksum, Failure, FailureKind, ItemId, Job, PlannedItem
from stacpull.planning.items import AssetProblem, item_directory
from stacpull.redact import cut_url, is_signed

__all__ = ["Committed", "ItemFailure", "ItemRow", "PlanBatch", "Planner", "decide"]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """A planned item as the ledger takes it: `document` is its JSON with all credentials cut."""

    item: PlannedItem
    document: bytes
    problems: tuple[AssetProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A source item that could not be read."""

    id: ItemId
    href: str
    parent: ItemId
    failure: Failure


@dataclass(frozen=True, slots=True)
class PlanBatch:
    """One batch: parents before the source items reached through them.

    `seen` are ids of all items read, kept or not. `position` is None unless the batch ends its page.
    """

    items: Sequence[ItemRow] = ()
    failed_items: Sequence[ItemFailure] = ()
    seen: Sequence[ItemId] = ()
    without_label: int = 0
    unplannable: int = 0
    position: str | None = None
    walk_ended: bool = False
    announced: int | None = None


@dataclass(slots=True)
class Committed:
    """What a commit did: the jobs it opened, how many of `seen` were new, what failed while planning."""

    jobs: list[Job] = field(default_factory=list)
    new_seen: int = 0
    matched: int = 0
    failures: list[tuple[ItemId, str, Failure]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Existing:
    """An asset row that is there already."""

    row: int
    state: int
    generation: int
    size: int | None
    sha256: bytes | None
    stated: bytes | None


def decide(existing: _Existing, size: int | None, checksum: Checksum | None) -> bool:
    """Return True if a done asset must be fetched anew: the source now states another size or checksum."""
    if size is not None and existing.size is not None and size != existing.size:
        return True
    if checksum is None:
        return False
    if checksum.algorithm == "sha256" and existing.sha256 is not None:
        return checksum.digest != existing.sha256
    return existing.stated is not None and existing.stated != _stated(checksum)


def _stated(checksum: Checksum | None) -> bytes | None:
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


def _seen_hash(item: ItemId) -> int:
    digest = hashlib.blake2b(
        f"{item.collection}\0{item.item}".encode("utf-8", "surrogatepass"), digest_size=8
    )
    return int.from_bytes(digest.digest(), "big", signed=True)


@dataclass(slots=True)
class _Delta:
    """What one commit adds to the run's and the mirror's counters."""

    matched: int = 0
    items_done: int = 0
    items_failed: int = 0
    excluded: int = 0
    pending: int = 0
    done: int = 0
    failed: int = 0
    missing: int = 0
    bytes_done: int = 0
    total_pending: int = 0
    total_done: int = 0
    total_failed: int = 0
    total_bytes: int = 0


class Planner:
    """Plans for one run, on the ledger's writer thread."""

    def __init__(self, db: sqlite3.Connection, run: int) -> None:
        self._db = db
        self._run = run
        self._directories = paths.Directories(db)
        self._collections: dict[str, int] = dict(db.execute("SELECT name, id FROM collections").fetchall())
        self._next_asset = (db.execute("SELECT max(id) FROM assets").fetchone()[0] or 0) + 1
        self._next_sequence = (
            db.execute("SELECT max(sequence) FROM items WHERE run = ?", (run,)).fetchone()[0] or 0
        ) + 1

    def known(self, ids: Sequence[ItemId]) -> set[ItemId]:
        """Return those of `ids` that this run has planned already, as primary or as source items."""
        found = set()
        for item in ids:
            collection = self._collections.get(item.collection)
            if collection is None:
                continue
            row = self._db.execute(
                "SELECT run FROM items WHERE collection = ? AND name = ?", (collection, item.item)
            ).fetchone()
            if row is not None and row[0] == self._run:
                found.add(item)
        return found

    def commit(self, batch: PlanBatch, now: float) -> Committed:
        """Save `batch` in one transaction and return the jobs it opens."""
        result, delta = Committed(), _Delta()
        try:
            with transaction(self._db):
                result.new_seen = self._see(batch.seen)
                for row in batch.items:
                    self._item(row, result, delta, now)
                for failed in batch.failed_items:
                    self._failed_item(failed, result, delta, now)
                self._settle(batch, delta)
                self._count(batch, result, delta)
        except BaseException:
            self._directories.forget()
            raise
        result.matched = delta.matched
        return result

    def _see(self, ids: Sequence[ItemId]) -> int:
        execute = self._db.execute
        return sum(
            execute("INSERT OR IGNORE INTO seen VALUES (?)", (_seen_hash(item),)).rowcount for item in ids
        )

    def _collection(self, name: str) -> int:
        found = self._collections.get(name)
        if found is None:
            found = self._db.execute("INSERT INTO collections(name) VALUES (?)", (name,)).lastrowid or 0
            self._collections[name] = found
        return found

    def _row_of(self, item: ItemId) -> tuple[int, int] | None:
        """Return (row, run) of an item that is in the ledger."""
        found: tuple[int, int] | None = self._db.execute(
            "SELECT id, run FROM items WHERE collection = ? AND name = ?",
            (self._collection(item.collection), item.item),
        ).fetchone()
        return found

    def _item(self, row: ItemRow, result: Committed, delta: _Delta, now: float) -> None:
        item = row.item
        found = self._row_of(item.id)
        if found is not None and found[1] == self._run:
            return  # a source item that another label item brought, or an item met twice
        parent = self._row_of(item.parent) if item.parent is not None else None
        sequence = None
        if item.parent is None:
            sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
            delta.matched += 1
        delta.excluded += item.excluded_assets
        if found is None:
            item_row = self._insert_item(row, parent[0] if parent else None, sequence)
            existing: dict[str, _Existing] = {}
        else:
            item_row = found[0]
            existing = self._existing(item_row)
            self._db.execute(
                "UPDATE items SET run = ?, sequence = ?, updated = ?, href = ? WHERE id = ?",
                (self._run, sequence, item.updated, _cut(item.href), item_row),
            )
            self._db.execute("DELETE FROM failures WHERE item = ? AND key = ''", (item_row,))
        opened = self._assets(row, item_row, existing, result, delta, now)
        if found is not None and opened:
            self._db.execute(
                "UPDATE items SET document = ?, written = 0 WHERE id = ?", (row.document, item_row)
            )

    def _insert_item(self, row: ItemRow, parent: int | None, sequence: int | None) -> int:
        item = row.item
        return (
            self._db.execute(
                "INSERT INTO items(collection, name, parent, run, sequence, directory, href, updated, document) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    self._collection(item.id.collection),
                    item.id.item,
                    parent,
                    self._run,
                    sequence,
                    self._directories.id_of(item_directory(item.id)),
                    _cut(item.href),
                    item.updated,
                    row.document,
                ),
            ).lastrowid
            or 0
        )

    def _existing(self, item_row: int) -> dict[str, _Existing]:
        rows = self._db.execute(
            "SELECT key, id, state, generation, size, sha256, stated FROM assets WHERE item = ?", (item_row,)
        )
        return {row[0]: _Existing(*row[1:]) for row in rows}

    def _assets(
        self,
        row: ItemRow,
        item_row: int,
        existing: dict[str, _Existing],
        result: Committed,
        delta: _Delta,
        now: float,
    ) -> int:
        """Plan the assets of one item; return how many were opened (pending now)."""
        fresh: list[Asset] = []
        opened = 0
        for asset in row.item.assets:
            old = existing.get(asset.key)
            if old is None:
                fresh.append(asset)
            elif self._again(row.item, asset, item_row, old, result, delta):
                opened += 1
        for job, failure in self._fresh(row.item, fresh, item_row):
            if failure is None:
                result.jobs.append(job)
                opened += 1
                delta.pending += 1
                delta.total_pending += 1
            else:
                self._fail(row.item.id, item_row, job.key, failure, result, delta, now)
        for problem in row.problems:
            if problem.key not in existing:
                self._insert_failed(item_row, problem.key)
                self._fail(row.item.id, item_row, problem.key, problem.failure, result, delta, now)
        return opened

    def _again(
        self, item: PlannedItem, asset: Asset, item_row: int, old: _Existing, result: Committed, delta: _Delta
    ) -> bool:
        """Plan an asset that the ledger knows; return True if it was final and is open now."""
        self._db.execute("UPDATE assets SET run = ? WHERE id = ?", (self._run, old.row))
        if old.state == STATE_DONE and not decide(old, asset.size, asset.checksum):
            delta.done += 1
            delta.bytes_done += old.size or 0
            return False
        if old.state == STATE_FAILED:
            delta.failed += 1
            gone = "SELECT 1 FROM failures WHERE item = ? AND key = ? AND kind = ?"
            if self._db.execute(gone, (item_row, asset.key, FailureKind.GONE)).fetchone():
                delta.missing += 1
            return False
        generation = old.generation
        delta.pending += 1
        if old.state == STATE_DONE:
            generation += 1
            delta.total_done -= 1
            delta.total_pending += 1
            delta.total_bytes -= old.size or 0
        self._db.execute(
            "UPDATE assets SET state = ?, generation = ?, stated = ? WHERE id = ?",
            (STATE_PENDING, generation, _stated(asset.checksum), old.row),
        )
        self._open(old.row, asset)
        directory, name = self._place(old.row)
        result.jobs.append(
            _job(old.row, item_row, generation, item.href, asset, directory or asset.directory, name)
        )
        return old.state == STATE_DONE

    def _place(self, row: int) -> tuple[str | None, str | None]:
        """Return where a known asset goes: the place it had is its place."""
        found = self._db.execute(
            "SELECT d.path, a.name FROM assets a LEFT JOIN directories d ON d.id = a.directory WHERE a.id = ?",
            (row,),
        ).fetchone()
        return (found[0], found[1]) if found[1] is not None else (found[0], None)

    def _fresh(
        self, item: PlannedItem, assets: Sequence[Asset], item_row: int
    ) -> list[tuple[Job, Failure | None]]:
        """Insert rows for new assets; those whose name is taken come back with a failure."""
        rows, opens, planned = [], [], []
        for asset in assets:
            row, self._next_asset = self._next_asset, self._next_asset + 1
            directory_id, directory = self._directories.get(asset.directory)
            claim = paths.claim(self._db, row, directory, asset.name) if asset.name is not None else None
            failure = claim.failure if claim is not None else None
            name = claim.name if claim is not None else None
            state = STATE_PENDING if failure is None else STATE_FAILED
            self._db.execute(
                "INSERT INTO assets(id, item, key, state, generation, run, directory, name, path_hash, stated) "
                "VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?)",
                (
                    row,
                    item_row,
                    asset.key,
                    state,
                    self._run,
                    directory_id,
                    name if failure is None else None,
                    claim.hash if claim is not None and failure is None else None,
                    _stated(asset.checksum),
                ),
            )
            rows.append(row)
            opens.append(_open_row(row, asset))
            planned.append((_job(row, item_row, 0, item.href, asset, directory, name), failure))
        self._db.executemany(_INSERT_OPEN, opens)
        return planned

    def _open(self, row: int, asset: Asset) -> None:
        self._db.execute(_INSERT_OPEN, _open_row(row, asset))

    def _insert_failed(self, item_row: int, key: str) -> None:
        self._db.execute(
            "INSERT INTO assets(id, item, key, state, generation, run) VALUES (?, ?, ?, ?, 0, ?)",
            (self._next_asset, item_row, key, STATE_FAILED, self._run),
        )
        self._next_asset += 1

    def _fail(
        self,
        item: ItemId,
        item_row: int,
        key: str,
        failure: Failure,
        result: Committed,
        delta: _Delta,
        now: float,
    ) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, 1, ?)",
            (item_row, key, failure.kind, failure.message, failure.status, now),
        )
        delta.failed += 1
        delta.total_failed += 1
        result.failures.append((item, key, failure))

    def _failed_item(self, failed: ItemFailure, result: Committed, delta: _Delta, now: float) -> None:
        """Record a source item that could not be read: its label item is not done without it."""
        parent = self._row_of(failed.parent)
        found = self._row_of(failed.id)
        if found is not None and found[1] == self._run:
            return
        if found is None:
            row = self._db.execute(
                "INSERT INTO items(collection, name, parent, run, directory, href, failed, written) "
                "VALUES (?, ?, ?, ?, ?, ?, 1, 1)",
                (
                    self._collection(failed.id.collection),
                    failed.id.item,
                    parent[0] if parent else None,
                    self._run,
                    self._directories.id_of(item_directory(failed.id)),
                    _cut(failed.href),
                ),
            ).lastrowid
        else:
            row = found[0]
            self._db.execute("UPDATE items SET run = ? WHERE id = ?", (self._run, row))
        self._db.execute(
            "INSERT OR REPLACE INTO failures VALUES (?, '', ?, ?, ?, 1, ?)",
            (row, failed.failure.kind, failed.failure.message, failed.failure.status, now),
        )
        delta.items_failed += 1
        result.failures.append((failed.id, "", failed.failure))

    def _settle(self, batch: PlanBatch, delta: _Delta) -> None:
        """Let label items wait for the source items planned with them, and count those that are whole now."""
        parents = [row.item.parent or row.item.id for row in batch.items]
        parents += [failed.parent for failed in batch.failed_items]
        for row in batch.items:
            if row.item.parent is not None and (found := self._row_of(row.item.id)) is not None:
                settle(self._db, found[0])
        planned = {row.item.id for row in batch.items if row.item.parent is None}
        for item in dict.fromkeys(parents):
            if (found := self._row_of(item)) is not None:
                remaining, failed_assets = settle(self._db, found[0])
                delta.items_done += item in planned and remaining == 0 and failed_assets == 0

    def _count(self, batch: PlanBatch, result: Committed, delta: _Delta) -> None:
        self._db.execute(
            "UPDATE runs SET items_seen = items_seen + :seen, items_matched = items_matched + :matched, "
            "items_done = items_done + :items_done, items_failed = items_failed + :items_failed, "
            "items_without_label = items_without_label + :without_label, "
            "assets_excluded = assets_excluded + :excluded, assets_pending = assets_pending + :pending, "
            "assets_done = assets_done + :done, assets_skipped = assets_skipped + :done, "
            "assets_failed = assets_failed + :failed, assets_missing = assets_missing + :missing, "
            "bytes_done = bytes_done + :bytes_done, position = coalesce(:position, position), "
            "walk_ended = walk_ended OR :walk_ended, "
            "items_announced = coalesce(:announced, items_announced) WHERE id = :run",
            {
                "seen": result.new_seen,
                "matched": delta.matched,
                "items_done": delta.items_done,
                "items_failed": delta.items_failed + batch.unplannable,
                "without_label": batch.without_label,
                "excluded": delta.excluded,
                "pending": delta.pending,
                "done": delta.done,
                "failed": delta.failed,
                "missing": delta.missing,
                "bytes_done": delta.bytes_done,
                "position": batch.position,
                "walk_ended": batch.walk_ended,
                "announced": batch.announced,
                "run": self._run,
            },
        )
        self._db.execute(
            "UPDATE totals SET assets_pending = assets_pending + ?, assets_done = assets_done + ?, "
            "assets_failed = assets_failed + ?, bytes_done = bytes_done + ?",
            (delta.total_pending, delta.total_done, delta.total_failed, delta.total_bytes),
        )


_INSERT_OPEN = "INSERT OR REPLACE INTO open_assets VALUES (?, ?, ?, ?, ?, ?)"


def _cut(href: str | None) -> str | None:
    return None if href is None else cut_url(href)


def _open_row(row: int, asset: Asset) -> tuple[int, str, int, str | None, int | None, str | None]:
    return (
        row,
        cut_url(asset.href),
        int(is_signed(asset.href)),
        asset.name_template,
        asset.size,
        asset.media_type,
    )


def _job(
    row: int,
    item_row: int,
    generation: int,
    item_href: str | None,
    asset: Asset,
    directory: str,
    name: str | None,
) -> Job:
    return Job(
        row=row,
        item_row=item_row,
        generation=generation,
        key=asset.key,
        href=asset.href,
        item_href=item_href,
        directory=directory,
        name=name,
        name_template=asset.name_template,
        size=asset.size,
        checksum=asset.checksum,
        media_type=asset.media_type,
    )

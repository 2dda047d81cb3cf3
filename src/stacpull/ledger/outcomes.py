"""What became of assets: reserved before the rename, recorded as done only after the data is safe.

    reserve ── sync ── rename ── sync ── record

The publisher (`engine.publisher`) drives these steps; each is one transaction over a group.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from stacpull.ledger import paths
from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_PENDING, STATE_RESERVED
from stacpull.models import Failure, FailureKind

__all__ = ["Arrival", "AssetFailure", "Recorded", "record", "release", "reserve"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """An asset that lies whole in a part file: where it will go, and what proves it (size, inode, sha256)."""

    row: int
    item_row: int
    generation: int
    directory: str
    name: str
    size: int
    inode: int
    sha256: bytes | None = None
    etag: str | None = None

    @property
    def path(self) -> str:
        """Where it goes, relative to DEST."""
        return f"{self.directory}/{self.name}" if self.directory else self.name


@dataclass(frozen=True, slots=True)
class AssetFailure:
    """An asset that failed for good in this run, after `attempts` attempts."""

    row: int
    item_row: int
    failure: Failure
    attempts: int = 1


@dataclass(slots=True)
class Recorded:
    """What a transaction changed: items that are final now (their JSON can be written)."""

    final_items: list[int] = field(default_factory=list)


def reserve(db: sqlite3.Connection, arrivals: Sequence[Arrival]) -> tuple[list[Arrival], list[AssetFailure]]:
    """Reserve the final names of `arrivals`, in one transaction.

    Returns:
        The arrivals that may be renamed (a name may have been changed to keep it apart from another spelling),
        and the failures of those whose name is taken. Arrivals of an older generation are in neither.
    """
    reserved, failures = [], []
    with transaction(db):
        directories = paths.Directories(db)
        for arrival in arrivals:
            directory_id, directory = directories.get(arrival.directory)
            claim = paths.claim(db, arrival.row, directory, arrival.name)
            if claim.failure is not None:
                failures.append(AssetFailure(arrival.row, arrival.item_row, claim.failure))
                continue
            updated = db.execute(
                "UPDATE assets SET directory = ?, name = ?, path_hash = ?, size = ?, sha256 = ?, etag = ?, "
                "inode = ?, state = ? WHERE id = ? AND generation = ? AND state < ?",
                (
                    directory_id,
                    claim.name,
                    claim.hash,
                    arrival.size,
                    arrival.sha256,
                    arrival.etag,
                    arrival.inode,
                    STATE_RESERVED,
                    arrival.row,
                    arrival.generation,
                    STATE_DONE,
                ),
            )
            if updated.rowcount:
                same = directory == arrival.directory and claim.name == arrival.name
                reserved.append(arrival if same else replace(arrival, directory=directory, name=claim.name))
    return reserved, failures


def release(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Take reservations back: nothing of these assets is on disk any more, they are pending again."""
    with transaction(db):
        db.executemany(
            f"UPDATE assets SET state = {STATE_PENDING}, inode = NULL, sha256 = NULL, etag = NULL "
            f"WHERE id = ? AND state = {STATE_RESERVED}",
            ((row,) for row in rows),
        )


def record(
    db: sqlite3.Connection,
    run: int,
    done: Sequence[Arrival],
    failed: Sequence[AssetFailure],
    written_items: Sequence[int],
    now: float,
) -> Recorded:
    """Record what is durable now, in one transaction.

    Args:
        db: the ledger.
        run: the run that did it.
        done: reserved, synced and renamed, and the rename synced.
        failed: failed for good.
        written_items: items whose JSON is durable on disk.
        now: seconds since 1970.
    """
    result = Recorded()
    with transaction(db):
        db.executemany(
            f"UPDATE assets SET state = {STATE_DONE}, inode = NULL WHERE id = ?", ((a.row,) for a in done)
        )
        db.executemany("DELETE FROM open_assets WHERE asset = ?", ((a.row,) for a in done))
        missing = _record_failures(db, failed, now)
        touched = Counter(a.item_row for a in done)
        touched.update(f.item_row for f in failed)
        items_done = _settle_items(db, touched, result)
        db.executemany(
            "UPDATE items SET written = 1, document = NULL WHERE id = ? AND remaining = 0",
            ((item,) for item in written_items),
        )
        size = sum(a.size for a in done)
        _count(db, run, len(done), len(failed), missing, size, items_done)
    return result


def _record_failures(db: sqlite3.Connection, failed: Sequence[AssetFailure], now: float) -> int:
    for one in failed:
        db.execute(
            f"UPDATE assets SET state = {STATE_FAILED}, inode = NULL WHERE id = ?",
            (one.row,),
        )
        db.execute(
            "INSERT OR REPLACE INTO failures SELECT ?, key, ?, ?, ?, "
            "? + coalesce((SELECT attempts FROM failures f WHERE f.item = assets.item AND f.key = assets.key), 0), "
            "? FROM assets WHERE id = ?",
            (
                one.item_row,
                one.failure.kind,
                one.failure.message,
                one.failure.status,
                one.attempts,
                now,
                one.row,
            ),
        )
    return sum(one.failure.kind == FailureKind.GONE for one in failed)


def _settle_items(db: sqlite3.Connection, touched: Iterable[int], result: Recorded) -> int:
    """Settle the touched items, then their label items; return how many primary items are whole now."""
    parents: set[int] = set()
    items_done = 0
    for item in touched:
        parent = db.execute("SELECT parent FROM items WHERE id = ?", (item,)).fetchone()[0]
        if parent is None:
            parents.add(item)
        elif settle(db, item)[0] == 0:
            result.final_items.append(item)
            parents.add(parent)
    for item in parents:
        remaining, failed = settle(db, item)
        if remaining == 0:
            result.final_items.append(item)
            items_done += failed == 0
    return items_done


def _count(
    db: sqlite3.Connection, run: int, done: int, failed: int, missing: int, size: int, items_done: int
) -> None:
    values = {
        "done": done,
        "failed": failed,
        "missing": missing,
        "size": size,
        "items": items_done,
        "run": run,
    }
    db.execute(
        "UPDATE runs SET assets_pending = assets_pending - :done - :failed, assets_done = assets_done + :done, "
        "assets_failed = assets_failed + :failed, assets_missing = assets_missing + :missing, "
        "bytes_done = bytes_done + :size, items_done = items_done + :items WHERE id = :run",
        values,
    )
    db.execute(
        "UPDATE totals SET assets_pending = assets_pending - :done - :failed, "
        "assets_done = assets_done + :done, assets_failed = assets_failed + :failed, "
        "assets_missing = assets_missing + :missing, bytes_done = bytes_done + :size",
        values,
    )

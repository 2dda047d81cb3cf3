"""What became of assets: reserved before the rename, recorded as done only after the data is safe.

    reserve ── sync ── rename ── sync ── record

The publisher (`engine.publisher`) drives these steps; each is one transaction over a group.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from stacpull.ledger import bulk, changes, paths
from stacpull.ledger.compact import stored_etag, stored_name
from stacpull.ledger.database import transaction
from stacpull.ledger.failures import put_failure, state_of
from stacpull.ledger.items import settle
from stacpull.ledger.schema import (
    STATE_DONE,
    STATE_PENDING,
    STATE_RESERVED,
    UNWRITTEN,
    WRITTEN,
    WRITTEN_ONCE,
)
from stacpull.models import Failure

__all__ = [
    "Arrival",
    "AssetFailure",
    "Confirmed",
    "Recorded",
    "Written",
    "record",
    "release",
    "release_document",
    "reserve",
]


class Arrival(NamedTuple):
    """An asset that lies whole in a part file: where it will go, and what proves it (size, inode, sha256)."""

    row: int
    item_row: int
    generation: int
    directory: str
    name: str
    size: int
    inode: int | None
    """None where a file of the user's is adopted: what lies in the place is no part of ours renamed."""
    sha256: bytes | None = None
    etag: str | None = None
    unproven: int | None = None
    """1 if nothing proved its length, else None."""

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


class Confirmed(NamedTuple):
    """An asset of which the source said that what lies in its place is what it has."""

    row: int
    item_row: int
    generation: int


class Written(NamedTuple):
    """An item whose JSON is on disk, and the SHA-256 of that."""

    row: int
    sha256: bytes | None = None


@dataclass(slots=True)
class Recorded:
    """What a transaction changed: items that are final now (their JSON can be written)."""

    final_items: list[int] = field(default_factory=list)


def reserve(
    db: sqlite3.Connection, arrivals: Sequence[Arrival], items: Sequence[int] = ()
) -> tuple[list[Arrival], list[AssetFailure]]:
    """Reserve the final names of `arrivals`, and of the JSON of `items`, in one transaction.

    Returns:
        The arrivals that may be renamed (a name may have been changed to keep it apart from another
        spelling), and the failures of those whose name is taken. Arrivals of an older generation are in
        neither.
    """
    reserved: list[Arrival] = []
    failures: list[AssetFailure] = []
    with transaction(db):
        directories = paths.Directories(db)
        for stretch in bulk.in_stretches(arrivals):
            if _reserved_as_planned(db, stretch, directories):
                reserved += stretch
                continue
            for arrival in stretch:
                found = _reserved(db, arrival, directories)
                if isinstance(found, Arrival):
                    reserved.append(found)
                elif found is not None:
                    failures.append(AssetFailure(arrival.row, arrival.item_row, found))
        db.executemany(
            f"UPDATE items SET written = iif(written = {UNWRITTEN}, {WRITTEN_ONCE}, written), sha256 = NULL "
            "WHERE id = ?",
            ((item,) for item in items),
        )
    return reserved, failures


def _reserved_as_planned(
    db: sqlite3.Connection, arrivals: Sequence[Arrival], directories: paths.Directories
) -> bool:
    """Reserve the names that were claimed when these assets were planned; False unless all had theirs."""
    values: list[object] = []
    for arrival in arrivals:
        directory_id, directory = directories.get(arrival.directory)
        if directory != arrival.directory:
            return False
        name = stored_name(arrival.name, directory)
        values += (arrival.row, arrival.generation, directory_id, name)
        values += (arrival.size, arrival.sha256, stored_etag(arrival.etag), arrival.inode, arrival.unproven)
    statement = _RESERVE_PLANNED.format(rows=bulk.rows(len(arrivals), 9))
    return db.execute(statement, values).rowcount == len(arrivals)


def _reserved(
    db: sqlite3.Connection, arrival: Arrival, directories: paths.Directories
) -> Arrival | Failure | None:
    """Reserve a name for one arrival: return it, with the name it got; why not; None if it is outdated."""
    directory_id, directory = directories.get(arrival.directory)
    claim = paths.claim(db, arrival.row, directory, arrival.name)
    if claim.failure is not None:
        return claim.failure
    proof = (arrival.size, arrival.sha256, stored_etag(arrival.etag), arrival.inode, arrival.unproven)
    values = (*proof, directory_id, stored_name(claim.name, directory), arrival.row, arrival.generation)
    before = None
    if not db.execute(f"{_RESERVE} AND placed IS NULL", values).rowcount:
        before = paths.path_of(db, arrival.row)
        if not db.execute(_RESERVE, values).rowcount:
            return None
    paths.own(db, arrival.row, claim, before)
    same = directory == arrival.directory and claim.name == arrival.name
    return arrival if same else arrival._replace(directory=directory, name=claim.name)


def release(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Take reservations back: nothing of these assets is on disk any more, they are pending again."""
    with transaction(db):
        db.executemany(
            f"UPDATE assets SET state = {STATE_PENDING}, inode = NULL, sha256 = NULL, etag = NULL, "
            "was = iif(wanted, was, NULL) "  # the version before may be gone, too
            f"WHERE id = ? AND state = {STATE_RESERVED}",
            ((row,) for row in rows),
        )


def release_document(db: sqlite3.Connection, item: int) -> None:
    """Give up the reserved name of an item's JSON that was never there: what has that name is not ours."""
    db.execute(
        f"UPDATE items SET written = {UNWRITTEN} WHERE id = ? AND written = {WRITTEN_ONCE}",
        (item,),
    )


def record(
    db: sqlite3.Connection,
    done: Sequence[Arrival],
    failed: Sequence[AssetFailure],
    written_items: Sequence[Written],
    now: float,
    confirmed: Sequence[Confirmed] = (),
) -> Recorded:
    """Record what is durable now, in one transaction. Each asset counts for the run that planned it last.

    Args:
        db: the ledger.
        done: reserved, synced and renamed, and the rename synced.
        failed: failed for good.
        written_items: items whose JSON is durable on disk.
        now: seconds since 1970.
        confirmed: lie in place, and are what the source has.
    """
    found: defaultdict[int, _Compared] = defaultdict(_Compared)
    with transaction(db):
        _record_done(db, done, found)
        _record_confirmed(db, confirmed, found)
        _record_failed(db, failed, now)
        final = settle(db, {one.item_row for some in (done, failed, confirmed) for one in some})
        _record_written(db, written_items)
        for run, one in found.items():
            changes.count(db, run, {"assets_changed": one.changed, "assets_revalidated": one.same})
    return Recorded(final)


def _record_written(db: sqlite3.Connection, items: Sequence[Written]) -> None:
    for item in items:
        final = db.execute(_WRITTEN, (item.sha256, item.row))
        if final.rowcount:
            db.execute("DELETE FROM documents WHERE item = ?", (item.row,))


@dataclass(slots=True)
class _Compared:
    """What a run found about assets of which an earlier version was there."""

    changed: int = 0
    """Of another content."""
    same: int = 0
    """Of the same content."""


def _record_done(db: sqlite3.Connection, done: Sequence[Arrival], found: defaultdict[int, _Compared]) -> None:
    for stretch in bulk.in_stretches(done):
        if not _all_done(db, stretch, found):
            _each_done(db, stretch, found)


def _all_done(db: sqlite3.Connection, done: Sequence[Arrival], by_run: defaultdict[int, _Compared]) -> bool:
    """Record arrivals at once; False, and nothing is done, unless each is reserved in its generation."""
    values = [value for arrival in done for value in (arrival.row, arrival.generation)]
    found = db.execute(_RESERVED_BY_RUN.format(rows=bulk.rows(len(done), 2)), values).fetchall()
    if sum(row[1] for row in found) != len(done):
        return False
    for run, _, changed, same in found:
        by_run[run].changed += changed
        by_run[run].same += same
    asked = [arrival.row for arrival in done]
    places = bulk.places(len(done))
    for statement in (_ALL_DONE, _ALL_HEALED, _ALL_CLOSED):
        db.execute(statement.format(places=places), asked)
    return True


def _each_done(db: sqlite3.Connection, done: Sequence[Arrival], by_run: defaultdict[int, _Compared]) -> None:
    healed = []
    for arrival in done:
        changed, same = db.execute(_OF_ONE, (arrival.row,)).fetchone() or (0, 0)
        found = db.execute(_DONE, (arrival.row, arrival.generation)).fetchone()
        if found is not None:
            by_run[found[0]].changed += changed
            by_run[found[0]].same += same
            healed.append((arrival.item_row, found[1]))
            db.execute("DELETE FROM open_assets WHERE asset = ?", (arrival.row,))
    db.executemany("DELETE FROM failures WHERE item = ? AND key = ?", healed)


def _record_confirmed(
    db: sqlite3.Connection, confirmed: Sequence[Confirmed], by_run: defaultdict[int, _Compared]
) -> None:
    """Take what lies in place for done; not what was planned otherwise meanwhile."""
    for one in confirmed:
        found = db.execute(_CONFIRMED, (one.row, one.generation)).fetchone()
        if found is not None:
            run, key = found
            by_run[run].same += 1
            db.execute("DELETE FROM open_assets WHERE asset = ?", (one.row,))
            db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (one.item_row, key))


def _record_failed(db: sqlite3.Connection, failed: Sequence[AssetFailure], now: float) -> None:
    for failure in failed:
        found = db.execute(_FAILED, (state_of(failure.failure), failure.row)).fetchone()
        if found is not None:
            put_failure(db, failure.item_row, found[0], failure.failure, failure.attempts, now)


_SET_RESERVED = (
    f"UPDATE assets SET state = {STATE_RESERVED}, size = ?, sha256 = ?, etag = ?, inode = ?, unproven = ?"
)
_IF_OPEN = f"WHERE id = ? AND generation = ? AND state < {STATE_DONE}"
_RESERVE = f"{_SET_RESERVED}, directory = ?, name = ?, placed = 1 {_IF_OPEN}"
_RESERVE_PLANNED = (
    f"UPDATE assets AS a SET state = {STATE_RESERVED}, size = v.column5, sha256 = v.column6, "
    "etag = v.column7, inode = v.column8, unproven = v.column9 "
    "FROM ({rows}) AS v "
    f"WHERE a.id = v.column1 AND a.generation = v.column2 AND a.state < {STATE_DONE} "
    "AND a.directory = v.column3 AND a.placed IS NOT NULL "
    "AND iif(substr(a.name, 1, 1) = char(2), a.key || substr(a.name, 2), a.name) = v.column4"
)
"""For names that were claimed when the assets were planned: nearly all."""
_CHANGED = "wanted IS NULL AND was IS NOT NULL AND (sha256 IS NULL OR was <> sha256)"
_SAME = "wanted IS NULL AND was IS NOT NULL AND sha256 IS NOT NULL AND was = sha256"
"""`wanted`: it was damaged, and is here again; else `was` is of the version before."""
_OF_ONE = f"SELECT {_CHANGED}, {_SAME} FROM assets WHERE id = ?"
_RESERVED_BY_RUN = (
    f"SELECT run, count(*), sum({_CHANGED}), sum({_SAME}) "
    "FROM ({rows}) AS v CROSS JOIN assets ON id = v.column1 "
    f"WHERE generation = v.column2 AND state = {STATE_RESERVED} GROUP BY run"
)
_SET_DONE = f"UPDATE assets SET state = {STATE_DONE}, inode = NULL, was = NULL, wanted = NULL"
_ALL_DONE = f"{_SET_DONE} WHERE id IN {{places}}"
_ALL_HEALED = "DELETE FROM failures WHERE (item, key) IN (SELECT item, key FROM assets WHERE id IN {places})"
_ALL_CLOSED = "DELETE FROM open_assets WHERE asset IN {places}"
_DONE = f"{_SET_DONE} WHERE id = ? AND generation = ? AND state = {STATE_RESERVED} RETURNING run, key"
_CONFIRMED = (
    f"UPDATE assets SET state = {STATE_DONE}, sha256 = nullif(was, x''), was = NULL "
    f"WHERE id = ? AND generation = ? AND state = {STATE_PENDING} AND etag IS NOT NULL AND wanted IS NULL "
    "RETURNING run, key"
)
_WRITTEN = f"UPDATE items SET written = {WRITTEN}, sha256 = ? WHERE id = ? AND remaining = 0"
_FAILED = (
    "UPDATE assets SET state = ?, inode = NULL, etag = NULL, sha256 = NULL "
    f"WHERE id = ? AND state < {STATE_DONE} RETURNING key"
)

"""Outcomes of assets and items: reserved before the rename, recorded as done only once the data is safe.

    reserve ── sync ── rename ── sync ── record

The publisher (`engine.publisher`) takes these steps; each is one transaction for a group. The state of an
item is derived from its assets and source items (`update_item_states`).
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.ledger import paths, runs
from stacpull.ledger.database import exists, marks, pieces, rows_with, transaction
from stacpull.ledger.known_assets import stored_etag
from stacpull.ledger.schema import (
    STATE_DONE,
    STATE_FAILED,
    STATE_MISSING,
    STATE_PENDING,
    STATE_RESERVED,
    TO_WRITE,
    UNWRITTEN,
    WRITTEN,
)
from stacpull.models import PASSING, Arrival, Clip, Failure, FailureKind
from stacpull.planning.names import path_hash


class AssetFailure(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """An asset that failed for good in this run, or is not ready yet, after `attempts` attempts."""

    row: int
    item_row: int
    generation: int
    failure: Failure
    attempts: int = 1


class UnchangedAsset(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """An asset whose file in place is current, as the source has confirmed."""

    row: int
    item_row: int
    generation: int


def reserve(
    db: sqlite3.Connection,
    arrivals: list[Arrival],
    items: Sequence[int] = (),
    clips: Mapping[int, Clip] = MappingProxyType({}),
) -> tuple[list[Arrival], list[AssetFailure]]:
    """Reserve the final names of `arrivals`, and of the JSON of `items`, in one transaction.

    Args:
        db: the ledger.
        arrivals: the assets that were received.
        items: rows of items whose JSON will be written next.
        clips: for clipped rasters, the part that was received, by row.

    Returns:
        The arrivals that may be renamed, and the failures of those whose name is taken. A name may have been
        changed because another path differs from it only in case or Unicode form. Arrivals of an older
        generation are in neither list. If all arrivals keep their planned names, the list is `arrivals`
        itself.
    """
    failures: list[AssetFailure] = []
    with transaction(db):
        directories = _ArrivalDirectories(db, arrivals)
        reserved = arrivals
        others = _reserve_planned(db, arrivals, directories)
        if others:
            reserved, odd = [], _reserve_late(db, others, directories)
            for arrival in arrivals:
                found = _reserved(db, arrival, directories) if arrival.row in odd else arrival
                if isinstance(found, Arrival):
                    reserved.append(found)
                elif found is not None:
                    failures.append(AssetFailure(arrival.row, arrival.item_row, arrival.generation, found))
        identities = [(arrival.identity, arrival.row) for arrival in reserved]
        db.executemany("UPDATE open_assets SET identity = ? WHERE asset = ?", identities)
        _note_unproven(db, reserved)
        _note_clips(db, reserved, clips)
        db.executemany(
            f"UPDATE items SET written = iif(written = {UNWRITTEN}, {TO_WRITE}, written), sha256 = NULL "
            "WHERE id = ?",
            [(item,) for item in items],
        )
    return reserved, failures


def _note_unproven(db: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
    """Record which arrivals have a length that nothing proved, and remove the mark from the others."""
    unproven = [(arrival.row,) for arrival in arrivals if arrival.unproven]
    if exists(db, "SELECT 1 FROM unproven"):
        db.executemany("DELETE FROM unproven WHERE asset = ?", [(arrival.row,) for arrival in arrivals])
    db.executemany("INSERT INTO unproven VALUES (?)", unproven)


def _note_clips(db: sqlite3.Connection, arrivals: Sequence[Arrival], clips: Mapping[int, Clip]) -> None:
    """Record which arrivals are clipped rasters, and remove the mark from complete assets."""
    if not clips and not exists(db, "SELECT 1 FROM clips"):
        return
    db.executemany("DELETE FROM clips WHERE asset = ?", [(arrival.row,) for arrival in arrivals])
    for arrival in arrivals:
        if (clip := clips.get(arrival.row)) is not None:
            put_clip(db, arrival.row, clip)


def put_clip(db: sqlite3.Connection, row: int, clip: Clip) -> None:
    """Record which part of a raster an asset is."""
    db.execute(
        "INSERT INTO clips VALUES (?, ?, ?, ?)",
        (row, clip.area, clip.source_size, orjson.dumps(clip.fields).decode()),
    )


class _ArrivalDirectories:
    """The directories of arrivals."""

    def __init__(self, db: sqlite3.Connection, arrivals: Sequence[Arrival]) -> None:
        items = list({arrival.item_row for arrival in arrivals})
        self._own: dict[int, str] = dict(rows_with(db, _ITEM_DIRECTORIES, items))
        self._others = paths.Directories(db)
        others = (other.directory for other in arrivals if other.directory != self._own.get(other.item_row))
        self._others.prepare(set(others))

    def of(self, arrival: Arrival) -> tuple[int, str]:
        """Return (ID, path on disk) of the directory of an arrival."""
        return self._others.of_asset(arrival.directory, self._own.get(arrival.item_row))


_ITEM_DIRECTORIES = (
    f"SELECT i.id, {paths.item_directory_of()} FROM items i JOIN collections c ON c.id = i.collection "
    "WHERE i.id IN ({marks})"
)


def _reserve_planned(
    db: sqlite3.Connection, arrivals: Sequence[Arrival], directories: _ArrivalDirectories
) -> list[Arrival]:
    """Reserve the planned names of these assets; return those that have another name, or are outdated."""
    values: list[tuple[object, ...]] = []
    item, wanted = 0, ""
    for arrival in arrivals:
        if arrival.item_row != item or arrival.directory != wanted:
            item, wanted = arrival.item_row, arrival.directory
            directory_id, directory = directories.of(arrival)
        name = arrival.name if directory == wanted else None
        values.append((*_proof(arrival), arrival.row, arrival.generation, directory_id, name))
    if not arrivals or db.executemany(_RESERVE_PLANNED, values).rowcount == len(arrivals):
        return []
    planned = set(rows_with(db, _PLANNED, [arrival.row for arrival in arrivals]))
    return [arrival for arrival, one in zip(arrivals, values, strict=True) if one[-4:] not in planned]


def _reserve_late(
    db: sqlite3.Connection, arrivals: Sequence[Arrival], directories: _ArrivalDirectories
) -> set[int]:
    """Reserve names that became known with the response; return the rows that must be handled one by one.

    These are arrivals of an older generation, and those whose name is taken or differs from the planned one.
    """
    nameless = dict(rows_with(db, _NAMELESS, [arrival.row for arrival in arrivals]))
    late = {
        arrival.row: arrival
        for arrival in arrivals
        if nameless.get(arrival.row) == arrival.generation and directories.of(arrival)[1] == arrival.directory
    }
    taken = paths.own_all(db, [(path_hash(arrival.path), row) for row, arrival in late.items()])
    values = [
        (
            *_proof(arrival),
            directories.of(arrival)[0],
            arrival.name,
            row,
        )
        for row, arrival in late.items()
        if row not in taken
    ]
    db.executemany(f"{_SET_RESERVED}, directory = ?, name = ? WHERE id = ?", values)
    return {arrival.row for arrival in arrivals if arrival.row not in late or arrival.row in taken}


def _reserved(
    db: sqlite3.Connection, arrival: Arrival, directories: _ArrivalDirectories
) -> Arrival | Failure | None:
    """Reserve a name for one arrival; return it with that name, or the failure, or None if it is outdated."""
    directory_id, directory = directories.of(arrival)
    claim = paths.claim(db, arrival.row, directory, arrival.name)
    if claim.failure is not None:
        return claim.failure
    before = paths.path_of(db, arrival.row)
    values = (*_proof(arrival), directory_id, claim.name, arrival.row, arrival.generation)
    if not db.execute(f"{_SET_RESERVED}, directory = ?, name = ? {_IF_OPEN}", values).rowcount:
        return None
    paths.own(db, arrival.row, claim, before)
    return replace(arrival, directory=directory, name=claim.name)


def _proof(arrival: Arrival) -> tuple[object, ...]:
    """Return the properties of the file that a reservation records."""
    return arrival.size, arrival.digest, stored_etag(arrival.etag)


def release(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Cancel reservations: these assets have no file on disk any more, so they are pending again."""
    released = [(row,) for row in rows]
    with transaction(db):
        db.executemany(  # the earlier version may also be gone
            "UPDATE open_assets SET previous_digest = NULL WHERE asset = ? AND wanted IS NULL "
            f"AND asset IN (SELECT id FROM assets WHERE id = asset AND state = {STATE_RESERVED})",
            released,
        )
        db.executemany(
            f"UPDATE assets SET state = {STATE_PENDING}, sha256 = NULL, etag = NULL "
            f"WHERE id = ? AND state = {STATE_RESERVED}",
            released,
        )


def release_document(db: sqlite3.Connection, item: int) -> None:
    """Release the name of an item's JSON that was never written: a file there is not the mirror's own."""
    db.execute(
        f"UPDATE items SET written = {UNWRITTEN} WHERE id = ? AND written = {TO_WRITE}",
        (item,),
    )


def record(
    db: sqlite3.Connection,
    done: Sequence[Arrival],
    failed: Sequence[AssetFailure],
    written_items: Mapping[int, bytes | None],
    now: float,
    unchanged: Sequence[UnchangedAsset] = (),
    area: int | None = None,
) -> list[int]:
    """Record durable outcomes in one transaction. An asset counts for the last run that planned it.

    Args:
        db: the ledger.
        done: assets that are reserved, synced and renamed, and whose rename is synced.
        failed: assets that failed for good.
        written_items: the SHA-256 of each JSON of an item that is durable on disk, by row of the item.
        now: seconds since 1970.
        unchanged: assets that are in place and current at the source.
        area: the digest of the area of the run's `--clip`, if it has one.

    Returns:
        The rows of the items that are final now: their JSON can be written.
    """
    found: defaultdict[int, _Compared] = defaultdict(_Compared)
    with transaction(db):
        _record_done(db, done, found)
        _record_unchanged(db, unchanged, found)
        recorded = _record_failed(db, failed, now)
        outside = [(failure.row, area) for failure in recorded if failure.failure.kind is FailureKind.OUTSIDE]
        db.executemany("INSERT OR REPLACE INTO clips VALUES (?, ?, 0, NULL)", outside)
        final = update_item_states(
            db, {outcome.item_row for some in (done, failed, unchanged) for outcome in some}
        )
        db.executemany(_WRITTEN, [(sha256, item) for item, sha256 in written_items.items()])
        db.executemany(_DROP_DOCUMENT, [(item,) for item in written_items])
        for run, one in found.items():
            runs.count_findings(db, run, {"assets_changed": one.changed, "assets_revalidated": one.same})
    return final


class _Compared(msgspec.Struct):
    """How many assets with an earlier version changed in a run, and how many did not."""

    changed: int = 0
    """Assets with different content."""
    same: int = 0
    """Assets with the same content."""


def _record_done(
    db: sqlite3.Connection, done: Sequence[Arrival], by_run: defaultdict[int, _Compared]
) -> None:
    """Record arrivals as done if their generation is still reserved."""
    generations = {arrival.row: arrival.generation for arrival in done}
    has_failures = bool(done) and exists(db, "SELECT 1 FROM failures")
    for some in pieces(list(generations)):
        found = db.execute(_RESERVED.format(rows=marks(len(some))), some)
        rows = [row for row, generation in found if generation == generations[row]]
        at = marks(len(rows))
        for run, is_same in db.execute(_COMPARED.format(rows=at), rows):
            by_run[run].same += is_same
            by_run[run].changed += not is_same
        db.execute(f"UPDATE assets SET state = {STATE_DONE} WHERE id IN ({at})", rows)
        if has_failures:
            db.execute(_HEALED.format(rows=at), rows)
        db.execute(f"DELETE FROM open_assets WHERE asset IN ({at})", rows)


def _record_unchanged(
    db: sqlite3.Connection, unchanged: Sequence[UnchangedAsset], by_run: defaultdict[int, _Compared]
) -> None:
    """Mark unchanged assets as done, except those that were planned again in the meantime."""
    for asset in unchanged:
        found = db.execute(_CONFIRMED, (asset.row, asset.row, asset.generation)).fetchone()
        if found is not None:
            run, key = found
            by_run[run].same += 1
            db.execute("DELETE FROM open_assets WHERE asset = ?", (asset.row,))
            db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (asset.item_row, key))


def _record_failed(db: sqlite3.Connection, failed: Sequence[AssetFailure], now: float) -> list[AssetFailure]:
    """Record failures, and return them without those of assets that were planned again in the meantime."""
    recorded = []
    for failure in failed:
        found = db.execute(
            _FAILED, (failed_state(failure.failure), failure.row, failure.generation)
        ).fetchone()
        if found is not None:
            put_failure(db, failure.item_row, found[0], failure.failure, failure.attempts, now)
            recorded.append(failure)
    return recorded


_SET_RESERVED = f"UPDATE assets SET state = {STATE_RESERVED}, size = ?, sha256 = ?, etag = ?"
_IF_OPEN = f"WHERE id = ? AND generation = ? AND state < {STATE_DONE}"
_RESERVE_PLANNED = f"{_SET_RESERVED} {_IF_OPEN} AND directory = ? AND name = ?"
"""For names that were claimed when the assets were planned, which are nearly all."""
_PLANNED = (
    f"SELECT id, generation, directory, name FROM assets WHERE id IN ({{marks}}) AND state = {STATE_RESERVED}"
)
_NAMELESS = (
    f"SELECT id, generation FROM assets WHERE id IN ({{marks}}) AND name IS NULL AND state < {STATE_DONE}"
)
_RESERVED = f"SELECT id, generation FROM assets WHERE id IN ({{rows}}) AND state = {STATE_RESERVED}"
"""Few columns, because `sqlite3` releases the interpreter's lock for each value that it fetches."""
_COMPARED = (
    "SELECT a.run, o.previous_digest IS a.sha256 FROM open_assets o JOIN assets a ON a.id = o.asset "
    "WHERE o.asset IN ({rows}) AND o.previous_digest IS NOT NULL AND o.wanted IS NULL"
)
"""For each asset with an earlier version: its run, and whether its content is the same."""
_HEALED = "DELETE FROM failures WHERE (item, key) IN (SELECT item, key FROM assets WHERE id IN ({rows}))"
_CONFIRMED = (
    f"UPDATE assets SET state = {STATE_DONE}, "
    "sha256 = (SELECT nullif(o.previous_digest, x'') FROM open_assets o WHERE o.asset = ?) "
    f"WHERE id = ? AND generation = ? AND state = {STATE_PENDING} AND etag IS NOT NULL RETURNING run, key"
)
_WRITTEN = f"UPDATE items SET written = {WRITTEN}, sha256 = ? WHERE id = ? AND remaining = 0"
_DROP_DOCUMENT = (
    f"DELETE FROM documents WHERE item = ? AND item IN (SELECT id FROM items WHERE id = item "
    f"AND written = {WRITTEN} AND remaining = 0)"
)
_FAILED = f"UPDATE assets SET state = ?, etag = NULL, sha256 = NULL {_IF_OPEN} RETURNING key"


FAILED_IN_PASSING = (
    "SELECT 1 FROM failures f WHERE f.item = a.item AND f.key = a.key AND f.kind IN "
    f"({', '.join(repr(kind.value) for kind in sorted(PASSING))})"
)
"""SQL: asset `a` failed for a reason that may have passed."""

ITEM_FAILURE = "key = '' AND NOT EXISTS (SELECT 1 FROM assets a WHERE a.item = failures.item AND a.key = '')"
"""Selects from `failures` those of items, without those of assets whose key is empty."""


def update_item_states(db: sqlite3.Connection, items: Iterable[int]) -> list[int]:
    """Update `remaining` and `failed` of these items and of the label items that wait for them.

    Returns:
        The items that have become final: their JSON can be written.
    """
    final: list[int] = []
    level = sorted(set(items))
    while level:
        above: set[int] = set()
        for some in pieces(level):
            at = marks(len(some))
            before = {row[0]: row[1:] for row in db.execute(_STATES_BEFORE.format(items=at), some)}
            for item, remaining, failed in db.execute(_DERIVE_STATES.format(items=at), some).fetchall():
                remaining_before, failed_before, parent = before[item]
                if remaining_before > 0 and remaining == 0:
                    final.append(item)
                is_same = (remaining_before == 0, failed_before > 0) == (remaining == 0, failed > 0)
                if parent is not None and not is_same:
                    above.add(parent)
        level = sorted(above)
    return final


_STATES_BEFORE = "SELECT id, remaining, failed, parent FROM items WHERE id IN ({items})"
_DERIVE_STATES = f"""
UPDATE items SET (remaining, failed) = (
    SELECT
        count(*) FILTER (WHERE a.state < {STATE_DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining > 0),
        count(*) FILTER (WHERE a.state > {STATE_DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining = 0 AND c.failed > 0)
            + (SELECT count(*) FROM failures f WHERE f.item = items.id AND f.key = '')
    FROM assets a WHERE a.item = items.id
) WHERE id IN ({{items}}) RETURNING id, remaining, failed
"""


_PUT_FAILURE = """
INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (item, key) DO UPDATE SET kind = excluded.kind, message = excluded.message,
    status = excluded.status, attempts = attempts + excluded.attempts, at = excluded.at
"""


def renew_document(db: sqlite3.Connection, item: int, document: bytes) -> None:
    """Schedule the JSON of an item to be written again. If it was written, a file there is the mirror's."""
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))
    db.execute(f"UPDATE items SET written = {TO_WRITE} WHERE id = ? AND written = {WRITTEN}", (item,))


def put_failure(
    db: sqlite3.Connection, item: int, key: str, failure: Failure, attempts: int, now: float
) -> None:
    """Record a failure: attempts are added up, other values replaced. `now` is in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # it may quote any text of a server
    db.execute(_PUT_FAILURE, (item, key, failure.kind, message, failure.status, attempts, now))


def failed_state(failure: Failure) -> int:
    """Return the state of an asset with this failure."""
    return STATE_MISSING if failure.kind is FailureKind.GONE else STATE_FAILED

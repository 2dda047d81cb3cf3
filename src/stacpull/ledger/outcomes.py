"""Outcomes of assets and items: reserved before the rename, recorded as done only once the data is safe.

The publisher takes the steps; each is one transaction for a group.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.ledger import paths, runs
from stacpull.ledger.database import AMONG, exists, listed, transaction
from stacpull.ledger.paths import ASSET_PATH
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
from stacpull.models import PASSING, Arrival, Clip, Failure, FailureKind, VersionInDest


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
    """Reserve names; return what may be renamed, perhaps to other names, and failures for taken names.

    `items` reserves their JSON. `arrivals` itself is returned if all keep their names. An older generation is
    in neither list.
    """
    with transaction(db):
        reserved, failures = arrivals, list[AssetFailure]()
        if arrivals:
            reserved, failures = _reserve(db, arrivals, clips)
        identities = [(arrival.identity, arrival.row) for arrival in reserved]
        db.executemany("UPDATE open_assets SET identity = ? WHERE asset = ?", identities)
        db.executemany(
            f"UPDATE items SET written = iif(written = {UNWRITTEN}, {TO_WRITE}, written), sha256 = NULL "
            "WHERE id = ?",
            [(item,) for item in items],
        )
    return reserved, failures


def _reserve(
    db: sqlite3.Connection, arrivals: list[Arrival], clips: Mapping[int, Clip]
) -> tuple[list[Arrival], list[AssetFailure]]:
    set_reserved = f"UPDATE assets SET state = {STATE_RESERVED}, size = ?, sha256 = ?, etag = ?"
    values: list[tuple[object, ...]]
    values = [(arrival.size, arrival.digest, arrival.etag) for arrival in arrivals]
    marked = "SELECT 1 FROM assets WHERE unproven UNION ALL SELECT 1 FROM assets WHERE clip IS NOT NULL"
    if clips or any(arrival.unproven for arrival in arrivals) or exists(db, marked):
        set_reserved += ", unproven = ?, clip = ?"
        both = zip(values, arrivals, strict=True)
        values = [(*received, one.unproven, encoded_clip(clips.get(one.row))) for received, one in both]
    planned = [
        (*received, arrival.row, arrival.generation, arrival.name)
        for received, arrival in zip(values, arrivals, strict=True)
    ]
    if db.executemany(f"{set_reserved} {_IF_OPEN} AND name = ?", planned).rowcount == len(arrivals):
        return arrivals, []
    # the others have names that were not known before the response or not free, or an older generation
    open_paths = (
        f"SELECT a.id, a.generation, {ASSET_PATH} FROM assets a WHERE a.id {AMONG} AND a.state < {STATE_DONE}"
    )
    rows = db.execute(open_paths, (listed(arrival.row for arrival in arrivals),))
    found = {row: path for row, *path in rows}
    late = [one for one in arrivals if found.get(one.row) == [one.generation, None]]
    db.executemany("UPDATE assets SET name = ? WHERE id = ?", [(one.name, one.row) for one in late])
    claimed = paths.claim(db, [(one.row, one.directory, one.name) for one in late])
    reserved, failures = list[Arrival](), list[AssetFailure]()
    for arrival, received in zip(arrivals, values, strict=True):
        generation, path = found.get(arrival.row, (None, None))
        if generation != arrival.generation:
            continue
        directory, name = arrival.directory, claimed.get(arrival.row, arrival.name)
        if isinstance(name, Failure):
            failures.append(AssetFailure(arrival.row, arrival.item_row, arrival.generation, name))
            continue
        if path is not None:  # that of an earlier response
            directory, _, name = path.rpartition("/")
        db.execute(f"{set_reserved} WHERE id = ?", (*received, arrival.row))
        is_same = (directory, name) == (arrival.directory, arrival.name)
        reserved.append(arrival if is_same else replace(arrival, directory=directory, name=name))
    return reserved, failures


_IF_OPEN = f"WHERE id = ? AND generation = ? AND state < {STATE_DONE}"


def release(db: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Cancel reservations: these assets have no file on disk any more, so they are pending again."""
    with transaction(db):
        for row in rows:
            released = db.execute(
                f"UPDATE assets SET state = {STATE_PENDING}, sha256 = NULL, etag = NULL "
                f"WHERE id = ? AND state = {STATE_RESERVED}",
                (row,),
            )
            if released.rowcount:  # the earlier version may also be gone
                forget = "UPDATE open_assets SET previous_digest = NULL WHERE asset = ? AND wanted IS NULL"
                db.execute(forget, (row,))


def release_document(db: sqlite3.Connection, item: int) -> None:
    """Release the name of an item's JSON that was never written: a file there is not the mirror's own."""
    db.execute(f"UPDATE items SET written = {UNWRITTEN} WHERE id = ? AND written = {TO_WRITE}", (item,))


def record(
    db: sqlite3.Connection,
    done: Sequence[Arrival],
    failed: Sequence[AssetFailure],
    written_items: Mapping[int, bytes | None],
    now: float,
    unchanged: Sequence[UnchangedAsset] = (),
    area: int | None = None,
) -> list[int]:
    """Record durable outcomes in one transaction; return the items that are final, to write their JSON.

    `written_items` has the SHA-256 of durable JSON. `area` is that of the run's `--clip`.
    """
    compared = defaultdict[int, Counter[str]](Counter)  # by run: assets with an earlier version
    with transaction(db):
        generations = {arrival.row: arrival.generation for arrival in done}
        if generations:
            # few columns, because `sqlite3` releases the interpreter's lock for each value that it fetches
            reserved = f"SELECT id, generation FROM assets WHERE id {AMONG} AND state = {STATE_RESERVED}"
            found = db.execute(reserved, (listed(generations),))
            rows = (listed(row for row, generation in found if generation == generations[row]),)
            for run, is_same in db.execute(_COMPARED, rows):
                compared[run]["assets_revalidated" if is_same else "assets_changed"] += 1
            db.execute(f"UPDATE assets SET state = {STATE_DONE} WHERE id {AMONG}", rows)
            if exists(db, "SELECT 1 FROM failures"):
                its_assets = f"SELECT item, key FROM assets WHERE id {AMONG}"
                db.execute(f"DELETE FROM failures WHERE (item, key) IN ({its_assets})", rows)
            db.execute(f"DELETE FROM open_assets WHERE asset {AMONG}", rows)
        for asset in unchanged:  # except those that were planned again in the meantime
            confirmed = db.execute(_CONFIRMED, (asset.row, asset.row, asset.generation)).fetchone()
            if confirmed is not None:
                run, key = confirmed
                compared[run]["assets_revalidated"] += 1
                db.execute("DELETE FROM open_assets WHERE asset = ?", (asset.row,))
                db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (asset.item_row, key))
        for one in failed:
            failing = (failed_state(one.failure), one.row, one.generation)
            open_asset = db.execute(_FAILED, failing).fetchone()
            if open_asset is not None:
                put_failure(db, one.item_row, open_asset[0], one.failure, one.attempts, now)
                if one.failure.kind is FailureKind.OUTSIDE:
                    clip = encoded_clip((area, 0, None))
                    db.execute("UPDATE assets SET clip = ? WHERE id = ?", (clip, one.row))
        final = update_item_states(
            db, {outcome.item_row for some in (done, failed, unchanged) for outcome in some}
        )
        db.executemany(
            f"UPDATE items SET written = {WRITTEN}, sha256 = ? WHERE id = ? AND remaining = 0",
            [(sha256, item) for item, sha256 in written_items.items()],
        )
        db.executemany(
            "DELETE FROM documents WHERE item = ? AND item IN (SELECT id FROM items WHERE id = item "
            f"AND written = {WRITTEN} AND remaining = 0)",
            [(item,) for item in written_items],
        )
        for run, counts in compared.items():
            runs.count(db, run, counts)
    return final


_COMPARED = (
    "SELECT a.run, o.previous_digest IS a.sha256 FROM open_assets o JOIN assets a ON a.id = o.asset "
    f"WHERE o.asset {AMONG} AND o.previous_digest IS NOT NULL AND o.wanted IS NULL"
)
_CONFIRMED = (
    f"UPDATE assets SET state = {STATE_DONE}, "
    "sha256 = (SELECT nullif(o.previous_digest, x'') FROM open_assets o WHERE o.asset = ?) "
    f"WHERE id = ? AND generation = ? AND state = {STATE_PENDING} AND etag IS NOT NULL RETURNING run, key"
)
_FAILED = f"UPDATE assets SET state = ?, etag = NULL, sha256 = NULL {_IF_OPEN} RETURNING key"

FAILED_IN_PASSING = (
    "SELECT 1 FROM failures f WHERE f.item = a.item AND f.key = a.key AND f.kind IN "
    f"({', '.join(repr(kind.value) for kind in sorted(PASSING))})"
)
"""SQL: asset `a` failed for a reason that may have passed."""


def update_item_states(db: sqlite3.Connection, items: Iterable[int]) -> list[int]:
    """Update `remaining` and `failed` of items and of their label items; return those that became final."""
    final: list[int] = []
    level = sorted(set(items))
    while level:
        above: set[int] = set()
        query = f"SELECT id, remaining, failed, parent FROM items WHERE id {AMONG}"
        before = {row[0]: row[1:] for row in db.execute(query, (listed(level),))}
        for item, remaining, failed in db.execute(_DERIVE_STATES, (listed(level),)).fetchall():
            remaining_before, failed_before, parent = before[item]
            if remaining_before > 0 and remaining == 0:
                final.append(item)
            is_same = (remaining_before == 0, failed_before > 0) == (remaining == 0, failed > 0)
            if parent is not None and not is_same:
                above.add(parent)
        level = sorted(above)
    return final


_DERIVE_STATES = f"""
UPDATE items SET (remaining, failed) = (
    SELECT
        count(*) FILTER (WHERE a.state < {STATE_DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining > 0),
        count(*) FILTER (WHERE a.state > {STATE_DONE})
            + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining = 0 AND c.failed > 0)
            + (SELECT count(*) FROM failures f WHERE f.item = items.id AND f.key = '')
    FROM assets a WHERE a.item = items.id
) WHERE id {AMONG} RETURNING id, remaining, failed
"""


def put_failure(
    db: sqlite3.Connection, item: int, key: str, failure: Failure, attempts: int, now: float
) -> None:
    """Record a failure: attempts are added up, other values replaced. `now` is in seconds since 1970."""
    message = failure.message.encode("utf-8", "replace").decode()  # it may quote any text of a server
    db.execute(
        "INSERT INTO failures VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (item, key) DO UPDATE SET "
        "kind = excluded.kind, message = excluded.message, status = excluded.status, "
        "attempts = attempts + excluded.attempts, at = excluded.at",
        (item, key, failure.kind, message, failure.status, attempts, now),
    )


def failed_state(failure: Failure) -> int:
    return STATE_MISSING if failure.kind is FailureKind.GONE else STATE_FAILED


def drop_open(db: sqlite3.Connection, row: int, previous: bytes | None, run: int) -> None:
    """An earlier version that is in place stays, as done for `run`.

    `previous` is its digest, empty if unknown; None if there is none, also because its file was lost.
    """
    if previous is None:
        paths.delete_asset(db, row)
        return
    db.execute("DELETE FROM open_assets WHERE asset = ?", (row,))
    db.execute(
        f"UPDATE assets SET state = {STATE_DONE}, run = ?, sha256 = ?, stated = NULL, etag = NULL "
        "WHERE id = ?",
        (run, previous or None, row),
    )


# --- stored values of assets ------------------------------------------------------------------------------


def encoded_clip(clip: Clip | tuple[int | None, int, None] | None) -> str | None:
    """Return the stored form of the clip of a raster; its fields are None if nothing is in the area."""
    return None if clip is None else orjson.dumps(tuple(clip)).decode()


def stored_clip(text: str | None) -> Clip | None:
    return None if text is None else Clip(*orjson.loads(text))


def version_of(etag: str | None, size: int | None, *, checksum_unverified: bool) -> VersionInDest | None:
    """Return the version of an asset that is in place, None if it cannot be asked about."""
    return None if etag is None or size is None else VersionInDest(etag, size, checksum_unverified)

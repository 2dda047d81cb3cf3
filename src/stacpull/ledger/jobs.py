"""Remaining work: pending assets, reservations left by a kill, failures to retry, damage to repair.

A damaged asset becomes pending in a new generation, so that its file may be replaced, but only by bytes with
its earlier digest (`models.Job.sha256`). After a kill the remaining damage is found again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from stacpull.digests import recorded
from stacpull.ledger import runs
from stacpull.ledger.database import exists, number, transaction
from stacpull.ledger.outcomes import FAILED_IN_PASSING, stored_clip, update_item_states, version_of
from stacpull.ledger.paths import ASSET_DIRECTORY, IS_ITEM, id_values
from stacpull.ledger.schema import (
    DAMAGED,
    STATE_DONE,
    STATE_FAILED,
    STATE_PENDING,
    STATE_RESERVED,
    TO_WRITE,
    UNWRITTEN,
    WRITTEN,
)
from stacpull.models import Arrival, Checksum, FailureKind, ItemId, Job, SourceLink
from stacpull.planning.item_plan import STATEMENTS

_ORDERED = (
    "SELECT 'it was not ready before' FROM failures f "
    f"WHERE f.item = a.item AND f.key = a.key AND f.kind = '{FailureKind.ORDERED}'"
)
_STATED = (  # to search for a few bytes is much cheaper than to parse: the item is read again anyway
    "SELECT 'its item may say that it is not ready' FROM documents w WHERE w.item = a.item AND ("
    + " OR ".join(f"instr(w.document, CAST('\"{name}\"' AS BLOB))" for name in STATEMENTS)
    + ")"
)
_OPEN = "open_assets o JOIN assets a ON a.id = o.asset"
_JOBS = (
    f"SELECT a.id, a.item, a.generation, a.key, o.href, i.href, {ASSET_DIRECTORY}, a.name, o.name, "
    "o.size, a.stated, o.media_type, o.stale, iif(o.wanted, nullif(o.previous_digest, x''), NULL), "
    f"o.alternates, iif(a.state = {STATE_PENDING}, a.etag, NULL), a.size, o.previous_digest, "
    f"coalesce(({_ORDERED}), ({_STATED}), ''), o.wanted IS NULL OR a.clip IS NOT NULL "
    f"FROM {_OPEN} JOIN items i ON i.id = a.item"
)


def pending_jobs(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[Job]:
    """Return the jobs of a run past row `after`, in row order."""
    rows = db.execute(
        f"{_JOBS} WHERE o.asset > ? AND a.run = ? AND a.state = {STATE_PENDING} ORDER BY o.asset LIMIT ?",
        (after, run, limit),
    )
    has_area = runs.area_of(db, run) is not None
    return [_job(row, has_area=has_area) for row in rows]


def job_of(db: sqlite3.Connection, row: int, generation: int) -> Job | None:
    found = db.execute(
        f"{_JOBS} WHERE o.asset = ? AND a.generation = ? AND a.state < {STATE_DONE}", (row, generation)
    ).fetchone()
    return _job(found, has_area=False) if found is not None else None


def _job(row: tuple[Any, ...], *, has_area: bool) -> Job:
    asset, item, generation, key, href, item_href, directory, name, unclaimed, size, *rest = row
    stated, kind, stale, sha256, alternates, validator, size_before, sha256_before, unready, clip = rest
    is_template = name is None and "{" in unclaimed  # names have no braces
    checksum = None
    if stated is not None:
        algorithm, _, digest = stated.partition(b"\0")
        checksum = Checksum(algorithm.decode(), digest)
    held = checksum is None or (sha256_before is not None and checksum == recorded(sha256_before))
    return Job(
        row=asset,
        item_row=item,
        generation=generation,
        key=key,
        href=href,
        item_href=item_href,
        directory=directory.removesuffix("/"),
        name=name if is_template or name is not None else unclaimed,
        name_template=unclaimed if is_template else None,
        size=size,
        checksum=checksum,
        media_type=kind,
        stale=bool(stale),
        sha256=sha256,
        alternates=tuple(orjson.loads(alternates)) if alternates is not None else (),
        version_in_dest=version_of(validator, size_before, checksum_unverified=not held),
        unready=unready,
        clip=has_area and bool(clip),
    )


def is_open(db: sqlite3.Connection, row: int, generation: int) -> bool:
    """Return True if an asset of that generation is not done: pending, or failed until `retry`."""
    return exists(db, f"SELECT 1 FROM {_OPEN} WHERE o.asset = ? AND a.generation = ?", (row, generation))


def reservations(db: sqlite3.Connection) -> Iterator[Arrival]:
    rows = db.execute(
        f"SELECT a.id, a.item, a.generation, {ASSET_DIRECTORY}, a.name, a.size, o.identity, a.sha256, "
        f"a.etag, a.unproven FROM {_OPEN} WHERE a.state = {STATE_RESERVED}"
    ).fetchall()
    for row, item, generation, directory, name, size, identity, sha256, etag, unproven in rows:
        values = (directory.removesuffix("/"), name, size, identity, sha256, etag)
        yield Arrival(row, item, generation, *values, bool(unproven))


# --- failures ---------------------------------------------------------------------------------------------


def requeue_passing(db: sqlite3.Connection, run: int) -> None:
    """Make the assets of `run` pending that failed for a reason that may have passed."""
    with transaction(db):
        items = db.execute(
            f"UPDATE assets AS a SET state = {STATE_PENDING} WHERE id IN (SELECT asset FROM open_assets) "
            f"AND state = {STATE_FAILED} AND run = ? AND EXISTS ({FAILED_IN_PASSING}) RETURNING item",
            (run,),
        ).fetchall()
        update_item_states(db, {row[0] for row in items})


def requeue_failures(db: sqlite3.Connection, run: int, *, ordered: bool = False) -> int:
    """Make every failed asset that has an href pending in `run`; return their number.

    Also what earlier retries and repairs left pending, because no other run would fetch it. Assets that could
    not be planned count as failed in `run`.
    """
    with transaction(db):
        failed = db.execute(
            f"SELECT a.id, a.item FROM {_OPEN} WHERE a.state >= {STATE_FAILED}"
            + (f" AND EXISTS ({_ORDERED})" if ordered else "")
        ).fetchall()
        for row, _ in failed:
            db.execute(f"UPDATE assets SET state = {STATE_PENDING}, run = ? WHERE id = ?", (run, row))
            db.execute("UPDATE open_assets SET wanted = NULL WHERE asset = ? AND wanted = 1", (row,))
        if not ordered:
            take_over_pending(db, run, of_repairs=False)
            db.execute(
                "UPDATE assets SET run = ? WHERE id IN (SELECT a.id FROM failures f JOIN assets a "
                f"ON a.item = f.item AND a.key = f.key WHERE a.state >= {STATE_FAILED}) "
                "AND id NOT IN (SELECT asset FROM open_assets)",
                (run,),
            )
        # a source item that could not be read stays with its run: it is planned once it has been read
        unread = "(SELECT item FROM failures WHERE key = '')"
        _take_over_items(db, run, f"SELECT a.item FROM {_OPEN} WHERE a.run = :run AND a.item NOT IN {unread}")
        _take_over_items(
            db, run, f"SELECT parent FROM items WHERE parent IS NOT NULL AND (run = :run OR id IN {unread})"
        )
        update_item_states(db, {item for _, item in failed})
    return len(failed)


def _take_over_items(db: sqlite3.Connection, run: int, items: str, item: int = 0) -> None:
    """Assign items, which a query returns, to `run`; their JSON is written again when they are final."""
    db.execute(
        f"UPDATE items SET run = :run, written = iif(written = {WRITTEN}, {TO_WRITE}, written) "
        f"WHERE id IN ({items})",
        {"run": run, "item": item},
    )


def take_over_pending(db: sqlite3.Connection, run: int, *, of_repairs: bool = True) -> None:
    kinds = "kind = 'repair'" if of_repairs else "kind <> 'mirror'"
    db.execute(
        f"UPDATE assets SET run = :run WHERE state < {STATE_DONE} AND id IN (SELECT asset FROM open_assets) "
        f"AND run <> :run AND run IN (SELECT id FROM runs WHERE {kinds})",
        {"run": run},
    )


def failed_items(db: sqlite3.Connection) -> list[SourceLink]:
    rows = db.execute(
        "SELECT i.href, pc.name, p.name, c.name, i.name FROM failures f "
        "JOIN items i ON i.id = f.item JOIN collections c ON c.id = i.collection "
        "JOIN items p ON p.id = i.parent JOIN collections pc ON pc.id = p.collection WHERE f.key = ''"
    )
    return [SourceLink(row[0], ItemId(*row[1:3]), ItemId(*row[3:])) for row in rows]


_LOST = f"""FROM {_OPEN} JOIN items i ON i.id = a.item JOIN collections c ON c.id = i.collection
WHERE a.run = ? AND a.state = {STATE_PENDING} AND o.stale AND i.href IS NULL"""


def lost_hrefs(db: sqlite3.Connection, run: int) -> int:
    """Return the number of pending assets of `run` whose href is in SOURCE only: their items have no URL."""
    return number(db, f"SELECT count(*) {_LOST}", (run,))


def restore_hrefs(db: sqlite3.Connection, run: int, found: Sequence[tuple[ItemId, str, str]]) -> int:
    """Give pending assets (item, key) the hrefs that SOURCE lists; return how many had lost theirs."""
    restore = (
        "UPDATE open_assets SET href = ?, stale = 0 "
        f"WHERE asset IN (SELECT a.id {_LOST} AND {IS_ITEM} AND a.key = ?)"
    )
    with transaction(db):
        return sum(
            db.execute(restore, (href, run, *id_values(item), key)).rowcount for item, key, href in found
        )


# --- damage -----------------------------------------------------------------------------------------------


def requeue_damaged(db: sqlite3.Connection, run: int, assets: Mapping[int, str | None]) -> None:
    """Make damaged assets pending, each with its href at the source, in one transaction.

    They are done, or failed in an earlier repair. Without an href, the item is read again first.
    """
    with transaction(db):
        area = runs.area_of(db, run)
        items: set[int] = set()
        for row, href in assets.items():
            found = db.execute(
                "SELECT a.item, coalesce(a.size, 0), coalesce(a.sha256, o.previous_digest, x''), a.clip "
                "FROM assets a LEFT JOIN open_assets o ON o.asset = a.id "
                f"WHERE a.id = ? AND a.state >= {STATE_DONE}",
                (row,),
            ).fetchone()
            if found is None:  # it is already open
                continue
            item, size, digest, clip = found
            # a raster that was clipped to another area cannot be fetched with its earlier digest
            held = stored_clip(clip)
            is_wanted = held is None or held.area == area
            db.execute(
                f"UPDATE assets SET state = {STATE_PENDING}, run = ?, generation = generation + 1, "
                "sha256 = NULL, etag = NULL WHERE id = ?",
                (run, row),
            )
            stated = None if digest or not is_wanted else size
            db.execute(
                "INSERT OR REPLACE INTO open_assets(asset, href, stale, size, previous_digest, wanted) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (row, href or "", href is None, stated, digest, 1 if is_wanted else None),
            )
            items.add(item)
        for item in items:
            its = "SELECT :item UNION ALL SELECT parent FROM items WHERE id = :item"
            _take_over_items(db, run, its, item)
        update_item_states(db, items)


def is_left_open(db: sqlite3.Connection) -> bool:
    return damaged_items(db) > 0 or exists(
        db,
        f"SELECT 1 FROM {_OPEN} JOIN runs r ON r.id = a.run "
        f"WHERE a.state = {STATE_PENDING} AND r.kind = 'repair'",
    )


def mark_documents(db: sqlite3.Connection, items: Sequence[int]) -> None:
    """Record that the JSON of these items is damaged: it is no longer read, and is written again."""
    with transaction(db):
        db.executemany(
            f"UPDATE items SET written = {DAMAGED} WHERE id = ? AND written <> {UNWRITTEN}",
            ((item,) for item in items),
        )


def damaged_items(db: sqlite3.Connection) -> int:
    return number(db, f"SELECT count(*) FROM items WHERE written = {DAMAGED}")


def damaged_documents(db: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, ItemId, str | None]]:
    """Return row, ID and URL of items past row `after` whose JSON is damaged and was not read again yet."""
    rows = db.execute(
        "SELECT i.id, c.name, i.name, i.href FROM items i JOIN collections c ON c.id = i.collection "
        f"WHERE i.written = {DAMAGED} AND i.id > ? AND i.id NOT IN (SELECT item FROM documents) "
        "ORDER BY i.id LIMIT ?",
        (after, limit),
    )
    return [(row, ItemId(collection, name), href) for row, collection, name, href in rows]


def keep_document(db: sqlite3.Connection, item: int, document: bytes) -> None:
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))


def unwritten_items(db: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Return final items past row `after` whose JSON is missing on disk or outdated."""
    rows = db.execute(
        f"SELECT id FROM items WHERE written <> {WRITTEN} AND remaining = 0 AND id > ? "
        f"AND (written = {TO_WRITE} OR id IN (SELECT item FROM documents)) ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [row[0] for row in rows]

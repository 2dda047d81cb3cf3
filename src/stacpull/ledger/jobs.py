"""Remaining work: pending assets, reservations left by a kill, failures to retry, damage to repair.

Jobs are read in row order, in batches. A damaged asset becomes pending in a new generation, so that its file
counts as the mirror's own and may be replaced. Its earlier digest is stored separately, and only bytes with
that digest are accepted, in every attempt (`models.Job.sha256`). Until then the file counts as damaged
(`ledger.expected`). An item with damaged JSON is read again. Each batch is one transaction: after a kill the
remaining damage is found again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from stacpull.digests import recorded
from stacpull.ledger import paths, runs
from stacpull.ledger.database import exists, number, transaction
from stacpull.ledger.known_assets import stored_clip, true_etag, version_of
from stacpull.ledger.outcomes import FAILED_IN_PASSING, update_item_states
from stacpull.ledger.paths import ASSET_DIRECTORY
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
from stacpull.planning.statements import STATEMENTS

_ORDERED = (
    f"SELECT 'it was not ready before' FROM failures f "
    f"WHERE f.item = a.item AND f.key = a.key AND f.kind = '{FailureKind.ORDERED}'"
)
_STATED = (
    "SELECT 'its item may say that it is not ready' FROM documents w WHERE w.item = a.item AND ("
    + " OR ".join(f"instr(w.document, CAST('\"{name}\"' AS BLOB))" for name in STATEMENTS)
    + ")"
)
"""Searching for a few bytes is much cheaper than parsing the document. The item is read again anyway."""
_COLUMNS = (
    f"a.id, a.item, a.generation, a.key, o.href, i.href, {ASSET_DIRECTORY}, a.name, o.name, "
    "o.size, a.stated, o.media_type, o.stale, "
    "iif(o.wanted, nullif(o.previous_digest, x''), NULL), "
    f"o.alternates, iif(a.state = {STATE_PENDING}, a.etag, NULL), a.size, o.previous_digest, "
    f"coalesce(({_ORDERED}), ({_STATED}), ''), o.wanted IS NULL OR a.clip IS NOT NULL"
)
_FROM = "FROM open_assets o JOIN assets a ON a.id = o.asset JOIN items i ON i.id = a.item"


def pending_jobs(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[Job]:
    """Return up to `limit` pending jobs of `run` with rows past `after`, in row order."""
    rows = db.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE o.asset > ? AND a.run = ? AND a.state = {STATE_PENDING} "
        "ORDER BY o.asset LIMIT ?",
        (after, run, limit),
    )
    has_area = runs.area_of(db, run) is not None
    return [_job(row, has_area=has_area) for row in rows]


def job_of(db: sqlite3.Connection, row: int, generation: int) -> Job | None:
    """Return the job of an open asset, if it still has that generation."""
    found = db.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE o.asset = ? AND a.generation = ? AND a.state < {STATE_DONE}",
        (row, generation),
    ).fetchone()
    return _job(found) if found is not None else None


def is_open(db: sqlite3.Connection, row: int, generation: int) -> bool:
    """Return True if an asset of that generation is not done: pending, or failed until `retry`."""
    return exists(
        db,
        "SELECT 1 FROM open_assets o JOIN assets a ON a.id = o.asset WHERE o.asset = ? AND a.generation = ?",
        (row, generation),
    )


def reservations(db: sqlite3.Connection) -> Iterator[Arrival]:
    """Yield the reservations that were left open by a kill."""
    rows = db.execute(
        f"SELECT a.id, a.item, a.generation, {ASSET_DIRECTORY}, a.name, a.size, o.identity, a.sha256, "
        "a.etag, a.unproven "
        f"FROM open_assets o JOIN assets a ON a.id = o.asset WHERE a.state = {STATE_RESERVED}"
    ).fetchall()
    for row, item, generation, directory, name, size, identity, sha256, etag, unproven in rows:
        values = (directory.removesuffix("/"), name, size, identity, sha256, true_etag(etag))
        yield Arrival(row, item, generation, *values, bool(unproven))


def requeue_passing(db: sqlite3.Connection, run: int) -> None:
    """Make the assets of `run` pending that failed for a reason that may have passed."""
    with transaction(db):
        failed = db.execute(
            "SELECT a.id, a.item FROM open_assets o JOIN assets a ON a.id = o.asset "
            f"WHERE a.state = {STATE_FAILED} AND a.run = ? AND EXISTS ({FAILED_IN_PASSING})",
            (run,),
        ).fetchall()
        db.executemany(f"UPDATE assets SET state = {STATE_PENDING} WHERE id = ?", [row[:1] for row in failed])
        update_item_states(db, {row[1] for row in failed})


def requeue_failures(db: sqlite3.Connection, run: int, *, ordered: bool = False) -> int:
    """Make every failed asset that has an href pending in `run`, a retry; return their number.

    Assets that an earlier retry or repair left pending are also taken over, because no other run would fetch
    them. Assets without an href, which could not be planned, count as failed in `run`: a retry has no walk
    that could plan them.

    Args:
        db: The ledger.
        run: The retry.
        ordered: True to claim only assets that were not ready yet.
    """
    with transaction(db):
        failed = db.execute(_CLAIMABLE + (f" AND EXISTS ({_ORDERED})" if ordered else "")).fetchall()
        db.executemany(
            f"UPDATE assets SET state = {STATE_PENDING}, run = ? WHERE id = ?",
            [(run, row[0]) for row in failed],
        )
        db.executemany(
            "UPDATE open_assets SET wanted = NULL WHERE asset = ? AND wanted = 1",
            [(row[0],) for row in failed],
        )
        if not ordered:
            db.execute(_TAKE_OVER, {"run": run})
            db.execute(_COUNT_UNPLANNED, (run,))
        _take_over_items(db, run)
        update_item_states(db, {row[1] for row in failed})
    return len(failed)


_CLAIMABLE = (
    f"SELECT a.id, a.item FROM open_assets o JOIN assets a ON a.id = o.asset WHERE a.state >= {STATE_FAILED}"
)
_TAKE_OVER = (
    f"UPDATE assets SET run = :run WHERE state < {STATE_DONE} AND id IN (SELECT asset FROM open_assets) "
    "AND run <> :run AND run IN (SELECT id FROM runs WHERE kind <> 'mirror')"
)

_COUNT_UNPLANNED = (
    "UPDATE assets SET run = ? WHERE id IN (SELECT a.id FROM failures f JOIN assets a "
    f"ON a.item = f.item AND a.key = f.key WHERE a.state >= {STATE_FAILED}) "
    "AND id NOT IN (SELECT asset FROM open_assets)"
)


def _take_over_items(db: sqlite3.Connection, run: int) -> None:
    """Assign the items of `run`'s assets and their label items to `run`; they are written again when final.

    A source item that could not be read stays with its run. It is planned once it has been read.
    """
    unread = "(SELECT item FROM failures WHERE key = '')"
    db.execute(
        f"{_TAKE_OVER_ITEMS} IN (SELECT a.item FROM open_assets o JOIN assets a ON a.id = o.asset "
        f"WHERE a.run = :run AND a.item NOT IN {unread})",
        {"run": run},
    )
    db.execute(
        f"{_TAKE_OVER_ITEMS} IN (SELECT parent FROM items "
        f"WHERE parent IS NOT NULL AND (run = :run OR id IN {unread}))",
        {"run": run},
    )


_TAKE_OVER_ITEMS = (
    f"UPDATE items SET run = :run, written = iif(written = {WRITTEN}, {TO_WRITE}, written) WHERE id"
)


def failed_items(db: sqlite3.Connection) -> list[SourceLink]:
    """Return links to the source items that could not be read."""
    rows = db.execute(
        "SELECT c.name, i.name, i.href, pc.name, p.name FROM failures f "
        "JOIN items i ON i.id = f.item JOIN collections c ON c.id = i.collection "
        "JOIN items p ON p.id = i.parent JOIN collections pc ON pc.id = p.collection WHERE f.key = ''"
    )
    return [SourceLink(r[2], ItemId(r[3], r[4]), ItemId(r[0], r[1])) for r in rows]


def unwritten_items(db: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Return final items past row `after` whose JSON is missing on disk or outdated."""
    rows = db.execute(
        f"SELECT id FROM items WHERE written <> {WRITTEN} AND remaining = 0 AND id > ? "
        f"AND (written = {TO_WRITE} OR id IN (SELECT item FROM documents)) ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [row[0] for row in rows]


def _job(row: tuple[Any, ...], *, has_area: bool = False) -> Job:
    """Return the job of a row of `_COLUMNS`."""
    asset, item, generation, key, href, item_href, directory, name, unclaimed, size, *rest = row
    stated, kind, stale, sha256, alternates, validator, size_before, sha256_before, unready, clip = rest
    template = None
    if name is None and "{" in unclaimed:  # names have no braces
        template = unclaimed
    elif name is None:
        name = unclaimed
    checksum = _checksum(stated)
    held = checksum is None or (sha256_before is not None and checksum == recorded(sha256_before))
    return Job(
        row=asset,
        item_row=item,
        generation=generation,
        key=key,
        href=href,
        item_href=item_href,
        directory=directory.removesuffix("/"),
        name=name,
        name_template=template,
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


def _checksum(stated: bytes | None) -> Checksum | None:
    if stated is None:
        return None
    algorithm, _, digest = stated.partition(b"\0")
    return Checksum(algorithm.decode(), digest)


class DamagedItem(NamedTuple):
    """An item whose JSON is damaged; `href` is its URL, if that is known."""

    row: int
    collection: str
    name: str
    href: str | None


def requeue_damaged(db: sqlite3.Connection, run: int, assets: Mapping[int, str | None]) -> None:
    """Make damaged assets pending in `run`, in one transaction.

    Args:
        db: the ledger.
        run: a run of kind `repair`.
        assets: rows of assets that are done, or that failed in an earlier repair, each with its href at the
            source. If that is None, the item is read again first.
    """
    with transaction(db):
        area = runs.area_of(db, run)
        requeued = {_requeue(db, run, row, href, area) for row, href in assets.items()}
        items = {item for item in requeued if item is not None}
        for item in items:
            _take_over(db, run, item)
        update_item_states(db, items)


def _requeue(db: sqlite3.Connection, run: int, row: int, href: str | None, area: int | None) -> int | None:
    """Make one asset pending and return its item; None if it is already open.

    Args:
        db: The ledger.
        run: The run that fetches it.
        row: The asset.
        href: Its href at the source, if that is known.
        area: The area to which the run clips rasters (`runs.area_of`).
    """
    found = db.execute(
        "SELECT a.item, coalesce(a.size, 0), coalesce(a.sha256, o.previous_digest, x''), a.clip "
        f"FROM assets a LEFT JOIN open_assets o ON o.asset = a.id WHERE a.id = ? AND a.state >= {STATE_DONE}",
        (row,),
    ).fetchone()
    if found is None:
        return None
    item, size, digest, clip = found[0], found[1], found[2], stored_clip(found[3])
    # a raster that was clipped to another area cannot be fetched with its earlier digest
    is_wanted = clip is None or clip.area == area
    db.execute(
        f"UPDATE assets SET state = {STATE_PENDING}, run = ?, generation = generation + 1, "
        "sha256 = NULL, etag = NULL WHERE id = ?",
        (run, row),
    )
    db.execute(
        "INSERT OR REPLACE INTO open_assets(asset, href, stale, size, previous_digest, wanted) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (
            *(row, href or "", int(href is None), None if digest or not is_wanted else size, digest),
            1 if is_wanted else None,
        ),
    )
    return int(item)


_LOST = f"""FROM open_assets o JOIN assets a ON a.id = o.asset JOIN items i ON i.id = a.item
WHERE a.run = ? AND a.state = {STATE_PENDING} AND o.stale AND i.href IS NULL"""


def lost_hrefs(db: sqlite3.Connection, run: int) -> int:
    """Return the number of pending assets of `run` whose href is in SOURCE only: their items have no URL."""
    found: tuple[int] = db.execute(f"SELECT count(*) {_LOST}", (run,)).fetchone()
    return found[0]


def restore_hrefs(db: sqlite3.Connection, run: int, found: Sequence[tuple[ItemId, str, str]]) -> int:
    """Give pending assets their hrefs back, and return how many of `lost_hrefs` these were.

    Args:
        db: The ledger.
        run: The run that fetches them.
        found: Item, key and href of assets that SOURCE lists.
    """
    restored = 0
    with transaction(db):
        for item_id, key, href in found:
            if (item := paths.find_item(db, item_id)) is not None:
                restored += db.execute(
                    "UPDATE open_assets SET href = ?, stale = 0 WHERE asset IN "
                    f"(SELECT a.id {_LOST} AND a.item = ? AND a.key = ?)",
                    (href, run, item.row, key),
                ).rowcount
    return restored


def _take_over(db: sqlite3.Connection, run: int, item: int) -> None:
    """Assign an item and its label item to `run`; their JSON is written again when they are final."""
    db.execute(
        f"{_TAKE_OVER_ITEMS} IN (SELECT :item UNION ALL SELECT parent FROM items WHERE id = :item)",
        {"run": run, "item": item},
    )


def mark_documents(db: sqlite3.Connection, items: Sequence[int]) -> None:
    """Record that the JSON of these items is damaged: it is no longer read, and is written again."""
    with transaction(db):
        db.executemany(
            f"UPDATE items SET written = {DAMAGED} WHERE id = ? AND written <> {UNWRITTEN}",
            ((item,) for item in items),
        )


def damaged_documents(db: sqlite3.Connection, after: int, limit: int) -> list[DamagedItem]:
    """Return items past row `after` whose JSON is damaged and was not read again yet, in row order."""
    rows = db.execute(
        f"SELECT i.id, c.name, i.name, i.href FROM items i JOIN collections c ON c.id = i.collection "
        f"WHERE i.written = {DAMAGED} AND i.id > ? AND i.id NOT IN (SELECT item FROM documents) "
        "ORDER BY i.id LIMIT ?",
        (after, limit),
    )
    return [DamagedItem(*row) for row in rows]


def keep_document(db: sqlite3.Connection, item: int, document: bytes) -> None:
    """Store the JSON of an item that was read again; it is written when the item is final."""
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))


def take_over_pending(db: sqlite3.Connection, run: int) -> None:
    """Assign the assets that an earlier repair left pending to `run`."""
    db.execute(
        f"UPDATE assets SET run = ? WHERE state = {STATE_PENDING} "
        "AND id IN (SELECT asset FROM open_assets) AND run <> ? "
        "AND run IN (SELECT id FROM runs WHERE kind = 'repair')",
        (run, run),
    )


def is_left_open(db: sqlite3.Connection) -> bool:
    """Return True if an earlier repair left damage to repair."""
    return exists(
        db,
        "SELECT 1 FROM open_assets o JOIN assets a ON a.id = o.asset JOIN runs r ON r.id = a.run "
        f"WHERE a.state = {STATE_PENDING} AND r.kind = 'repair' "
        f"UNION ALL SELECT 1 FROM items WHERE written = {DAMAGED}",
    )


def damaged_items(db: sqlite3.Connection) -> int:
    """Return the number of items whose JSON is damaged."""
    return number(db, f"SELECT count(*) FROM items WHERE written = {DAMAGED}")

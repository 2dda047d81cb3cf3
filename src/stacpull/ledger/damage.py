"""What `verify --repair` writes down: damaged files are open again, to be fetched as they were.

A damaged asset is pending in a new generation, so that the file in its place counts as ours and may be
replaced; the SHA-256 it had is kept apart, and only bytes that have it are taken (`models.Job.sha256`),
however often it is tried. Until then the file counts as damaged (`ledger.expected`). An item whose JSON is
damaged is read again. Each batch is one transaction: a kill in between leaves the rest to be found again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stacpull.ledger.compact import href_of
from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.schema import (
    DAMAGED,
    STATE_DONE,
    STATE_PENDING,
    WRITTEN,
    WRITTEN_ONCE,
)

__all__ = [
    "DamagedItem",
    "claim_damaged",
    "damaged_documents",
    "damaged_items",
    "is_left_open",
    "keep_document",
    "mark_documents",
    "take_over_pending",
]


class DamagedItem(NamedTuple):
    """An item whose JSON is damaged; `href` is where it can be read again, if that is known."""

    row: int
    collection: str
    name: str
    href: str | None


def claim_damaged(db: sqlite3.Connection, run: int, assets: Mapping[int, str | None]) -> None:
    """Have damaged assets fetched again by `run`, in one transaction.

    Args:
        db: the ledger.
        run: a run of kind `repair`.
        assets: rows of assets that are done, or failed in an earlier repair, each with the href that the
            source had for it. Where that is not known the item is read again first.
    """
    with transaction(db):
        claimed = {_claim(db, run, row, href) for row, href in assets.items()}
        items = {item for item in claimed if item is not None}
        for item in items:
            _take_over(db, run, item)
        settle(db, items)


def _claim(db: sqlite3.Connection, run: int, row: int, href: str | None) -> int | None:
    """Open one asset and return its item; None if it is open already."""
    found = db.execute(
        "SELECT a.item, coalesce(a.size, 0), coalesce(a.sha256, o.was, x'') FROM assets a "
        f"LEFT JOIN open_assets o ON o.asset = a.id WHERE a.id = ? AND a.state >= {STATE_DONE}",
        (row,),
    ).fetchone()
    if found is None:
        return None
    item, size, digest = found
    db.execute(
        f"UPDATE assets SET state = {STATE_PENDING}, run = ?, generation = generation + 1, inode = NULL, "
        "sha256 = NULL, etag = NULL WHERE id = ?",
        (run, row),
    )
    db.execute(
        "INSERT OR REPLACE INTO open_assets(asset, href, stale, size, was, wanted) VALUES (?, ?, ?, ?, ?, 1)",
        (row, href or "", int(href is None), None if digest else size, digest),
    )
    return int(item)


def _take_over(db: sqlite3.Connection, run: int, item: int) -> None:
    """Let an item count for `run`, with its label item; their JSON is written again when they are final."""
    db.execute(
        f"UPDATE items SET run = ?, written = iif(written = {WRITTEN}, {WRITTEN_ONCE}, written) "
        "WHERE id = ? OR id = (SELECT parent FROM items WHERE id = ?)",
        (run, item, item),
    )


def mark_documents(db: sqlite3.Connection, items: Sequence[int]) -> None:
    """Note that the JSON of these items is damaged: it is not read any more, and made anew."""
    with transaction(db):
        db.executemany(
            f"UPDATE items SET written = {DAMAGED} WHERE id = ? AND written = {WRITTEN}",
            ((item,) for item in items),
        )


def damaged_documents(db: sqlite3.Connection, after: int, limit: int) -> list[DamagedItem]:
    """Return items past row `after` whose JSON is damaged and not read again yet, in row order."""
    rows = db.execute(
        f"SELECT i.id, c.name, i.name, {href_of()} FROM items i JOIN collections c ON c.id = i.collection "
        f"WHERE i.written = {DAMAGED} AND i.id > ? AND i.id NOT IN (SELECT item FROM documents) "
        "ORDER BY i.id LIMIT ?",
        (after, limit),
    )
    return [DamagedItem(*row) for row in rows]


def keep_document(db: sqlite3.Connection, item: int, document: bytes) -> None:
    """Keep the JSON of an item that was read again; it is written when the item is final."""
    db.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (item, document))


def take_over_pending(db: sqlite3.Connection, run: int) -> None:
    """Let `run` fetch as well what an earlier repair, or a rebuild of the ledger, left to be fetched."""
    db.execute(
        f"UPDATE assets SET run = ? WHERE state = {STATE_PENDING} "
        "AND id IN (SELECT asset FROM open_assets) AND run <> ? "
        "AND run IN (SELECT id FROM runs WHERE kind IN ('repair', 'rebuild'))",
        (run, run),
    )


def is_left_open(db: sqlite3.Connection) -> bool:
    """Return True if an earlier repair, or a rebuild of the ledger, left something to be made good."""
    found = db.execute(
        "SELECT EXISTS (SELECT 1 FROM open_assets o JOIN assets a ON a.id = o.asset "
        f"JOIN runs r ON r.id = a.run WHERE a.state = {STATE_PENDING} AND r.kind IN ('repair', 'rebuild')) "
        f"OR EXISTS (SELECT 1 FROM items WHERE written = {DAMAGED})"
    ).fetchone()
    return bool(found[0])


def damaged_items(db: sqlite3.Connection) -> int:
    """Return how many items there are whose JSON is damaged."""
    found: int = db.execute(f"SELECT count(*) FROM items WHERE written = {DAMAGED}").fetchone()[0]
    return found

"""What is still to do, streamed by key: pending assets, reservations a kill left, failures to retry."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from stacpull.ledger.database import transaction
from stacpull.ledger.items import settle
from stacpull.ledger.outcomes import Arrival
from stacpull.ledger.schema import STATE_FAILED, STATE_PENDING, STATE_RESERVED
from stacpull.models import Checksum, ItemId, Job

__all__ = [
    "FailedItem",
    "claim_failures",
    "failed_items",
    "job_of",
    "newest",
    "pending_jobs",
    "reservations",
    "reserved_checksums",
    "unwritten_items",
]

_COLUMNS = (
    "a.id, a.item, a.generation, a.key, o.href, i.href, d.path, a.name, o.name_template, o.size, a.stated, "
    "o.media_type, o.stale"
)
_FROM = (
    "FROM open_assets o JOIN assets a ON a.id = o.asset JOIN items i ON i.id = a.item "
    "LEFT JOIN directories d ON d.id = a.directory"
)


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A source item that could not be read, to be read again by `retry`."""

    row: int
    id: ItemId
    href: str
    parent: ItemId


def pending_jobs(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[Job]:
    """Return up to `limit` pending jobs of `run` with rows past `after`, in row order."""
    rows = db.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE o.asset > ? AND a.run = ? AND a.state = {STATE_PENDING} "
        "ORDER BY o.asset LIMIT ?",
        (after, run, limit),
    )
    return [_job(row) for row in rows]


def newest(db: sqlite3.Connection) -> int:
    """Return the highest asset row there is: what is planned later has a higher one."""
    found: int = db.execute("SELECT coalesce(max(id), 0) FROM assets").fetchone()[0]
    return found


def job_of(db: sqlite3.Connection, row: int, generation: int) -> Job | None:
    """Return the job of an open asset, if it is still of that generation."""
    found = db.execute(
        f"SELECT {_COLUMNS} {_FROM} WHERE o.asset = ? AND a.generation = ? AND a.state < 2",
        (row, generation),
    ).fetchone()
    return _job(found) if found is not None else None


def reservations(db: sqlite3.Connection) -> Iterator[Arrival]:
    """Yield the reservations that a kill left open."""
    rows = db.execute(
        "SELECT a.id, a.item, a.generation, d.path, a.name, a.size, a.inode, a.sha256, a.etag "
        "FROM open_assets o JOIN assets a ON a.id = o.asset JOIN directories d ON d.id = a.directory "
        f"WHERE a.state = {STATE_RESERVED}"
    ).fetchall()
    for row in rows:
        yield Arrival(*row)


def reserved_checksums(db: sqlite3.Connection) -> list[tuple[int, bytes]]:
    """Return (row, sha256) of the reservations that have one: what proves a part after a reboot."""
    rows: list[tuple[int, bytes]] = db.execute(
        f"SELECT id, sha256 FROM assets WHERE state = {STATE_RESERVED} AND sha256 IS NOT NULL"
    ).fetchall()
    return rows


def claim_failures(db: sqlite3.Connection, run: int) -> int:
    """Make every failed asset that has an href pending again, in `run`; return how many there are."""
    with transaction(db):
        items = db.execute(
            "SELECT DISTINCT a.item FROM assets a JOIN open_assets o ON o.asset = a.id "
            f"WHERE a.state = {STATE_FAILED}"
        ).fetchall()
        count = db.execute(
            f"UPDATE assets SET state = {STATE_PENDING}, run = ? WHERE state = {STATE_FAILED} "
            "AND id IN (SELECT asset FROM open_assets)",
            (run,),
        ).rowcount
        missing = db.execute(
            "SELECT count(*) FROM failures f JOIN assets a ON a.item = f.item AND a.key = f.key "
            "WHERE f.kind = 'gone' AND a.run = ? AND a.state = 0",
            (run,),
        ).fetchone()[0]
        _reopen_items(db, [row[0] for row in items])
        db.execute("UPDATE runs SET assets_pending = assets_pending + ? WHERE id = ?", (count, run))
        db.execute(
            "UPDATE totals SET assets_pending = assets_pending + :n, assets_failed = assets_failed - :n, "
            "assets_missing = assets_missing - :m",
            {"n": count, "m": missing},
        )
    return count


def failed_items(db: sqlite3.Connection) -> list[FailedItem]:
    """Return the source items that could not be read."""
    rows = db.execute(
        "SELECT i.id, c.name, i.name, i.href, pc.name, p.name FROM failures f "
        "JOIN items i ON i.id = f.item JOIN collections c ON c.id = i.collection "
        "JOIN items p ON p.id = i.parent JOIN collections pc ON pc.id = p.collection WHERE f.key = ''"
    )
    return [FailedItem(r[0], ItemId(r[1], r[2]), r[3], ItemId(r[4], r[5])) for r in rows]


def unwritten_items(db: sqlite3.Connection, after: int, limit: int) -> list[int]:
    """Return items past row `after` that are final but whose JSON is not on disk."""
    rows = db.execute(
        "SELECT id FROM items WHERE written = 0 AND remaining = 0 AND id > ? ORDER BY id LIMIT ?",
        (after, limit),
    )
    return [row[0] for row in rows]


def _reopen_items(db: sqlite3.Connection, items: list[int]) -> None:
    parents = set()
    for item in items:
        settle(db, item)
        parent = db.execute("UPDATE items SET written = 0 WHERE id = ? RETURNING parent", (item,)).fetchone()[
            0
        ]
        if parent is not None:
            parents.add(parent)
    for parent in parents:
        settle(db, parent)


def _job(row: tuple[object, ...]) -> Job:
    fields = dict(
        zip(
            (
                "row",
                "item_row",
                "generation",
                "key",
                "href",
                "item_href",
                "directory",
                "name",
                "name_template",
                "size",
                "checksum",
                "media_type",
                "stale",
            ),
            row,
            strict=True,
        )
    )
    stated = fields["checksum"]
    if isinstance(stated, bytes):
        algorithm, _, digest = stated.partition(b"\0")
        fields["checksum"] = Checksum(algorithm.decode(), digest)
    fields["directory"] = fields["directory"] or ""
    fields["stale"] = bool(fields["stale"])
    return Job(**fields)  # type: ignore[arg-type]  # columns in the order of the names above

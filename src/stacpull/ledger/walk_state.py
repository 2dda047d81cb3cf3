"""The state of a walk in the ledger: items seen, and what it could not read or plan.

What cannot be read or planned (`models.Unread`) is recorded with the run whose walk found it, and `failures`
lists it. `retry` reads links again; the rest has no URL of its own. A later complete walk of the same source
and selection finds everything itself: what it does not record again is readable, or no longer there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from stacpull.digests import text_digest
from stacpull.ledger.database import exists
from stacpull.models import Failure, FailureKind, ItemId, Unread


def seen_hash(item: ItemId) -> int:
    """Return the key of an item in the table of items seen by the current walk, matched or not."""
    return text_digest(f"{item.collection}\0{item.item}")


_NOTE_UNREAD = """
INSERT INTO unread VALUES
    ((SELECT source FROM runs WHERE id = :run), :name, :is_link, :run, :collection, :kind, :message, :status,
     1, :at)
ON CONFLICT (source, is_link, name, collection) DO UPDATE SET
    run = iif((SELECT kind FROM runs WHERE id = :run) = 'mirror', :run, run), kind = excluded.kind,
    message = excluded.message, status = excluded.status, attempts = attempts + 1, at = excluded.at
"""
_IS_NOTED = (
    "SELECT 1 FROM unread JOIN runs r ON r.id = run AND r.kind = 'mirror' AND r.source = unread.source "
    "WHERE run = :run AND is_link = :is_link AND name = :name AND collection = :collection"
)
END_WALK = """
DELETE FROM unread WHERE run < :run AND run IN
    (SELECT one.id FROM runs one JOIN runs this ON one.source = this.source AND one.selection = this.selection
     WHERE this.id = :run AND this.kind = 'mirror')
"""
"""SQL: delete what only earlier walks of the same source and selection recorded; binds the run."""


def note_unread(db: sqlite3.Connection, run: int, found: Sequence[Unread], now: float) -> int:
    """Record what `run` could not read or plan.

    Args:
        db: The ledger.
        run: The run.
        found: Without credentials.
        now: Seconds since 1970.

    Returns:
        How many of `found` the run has not recorded before. A retry counts all, because `count_failures` has
        not counted its links.
    """
    new = 0
    for unread in found:
        values = {
            "run": run,
            "name": unread.href or unread.name,
            "is_link": bool(unread.href),
            "collection": unread.collection,
            "kind": unread.failure.kind,
            "message": unread.failure.message,
            "status": unread.failure.status,
            "at": now,
        }
        new += not exists(db, _IS_NOTED, values)
        db.execute(_NOTE_UNREAD, values)
    return new


def unread_links(db: sqlite3.Connection, run: int) -> list[Unread]:
    """Return the unreadable links of the source of `run`, in the order of discovery."""
    rows = db.execute(
        "SELECT collection, name, kind, message, status FROM unread "
        "WHERE source = (SELECT source FROM runs WHERE id = ?) AND is_link ORDER BY at, name",
        (run,),
    )
    return [
        Unread(name, href, Failure(FailureKind(kind), text, status), href)
        for name, href, kind, text, status in rows
    ]


def forget_links(db: sqlite3.Connection, run: int, hrefs: Collection[str]) -> None:
    """Delete links of the source of `run` that have been read."""
    db.executemany(
        "DELETE FROM unread WHERE source = (SELECT source FROM runs WHERE id = ?) AND is_link AND name = ?",
        [(run, href) for href in hrefs],
    )


def forget_walk(db: sqlite3.Connection, run: int) -> None:
    """Delete what the walk of `run` recorded, because it starts again."""
    db.execute("DELETE FROM unread WHERE run = ?", (run,))
    count_failures(db, run)


def count_failures(db: sqlite3.Connection, run: int) -> None:
    """Reset the count of failed items before the walk restarts.

    Keep only failures that the walk will not find again: the source items that failed before, and in a retry
    also what has no URL, because it is not tried.
    """
    db.execute(
        "UPDATE runs SET items_failed = "
        "(SELECT count(*) FROM failures f JOIN items i ON i.id = f.item "
        "WHERE f.key = '' AND i.run = runs.id) + (SELECT count(*) FROM unread u "
        "WHERE runs.kind = 'retry' AND u.source = runs.source AND NOT u.is_link) WHERE id = ?",
        (run,),
    )

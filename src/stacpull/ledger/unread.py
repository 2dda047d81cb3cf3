"""Links of a tree that gave no item: what `retry` reads again, and `failures` lists.

A link is noted with the run whose walk met it. A later walk that asks the same and ends has met every link
itself: what it did not note again is readable, or gone from the tree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

import orjson

from stacpull.ledger.batches import UnreadLink
from stacpull.models import Failure, FailureKind

__all__ = ["count", "end_of_walk", "forget", "forget_run", "links", "note"]

_NOTE = """
INSERT INTO unread VALUES
    ((SELECT source FROM runs WHERE id = :run), :href, :run, :collection, :kind, :message, :status, 1, :at,
     :path)
ON CONFLICT (source, href) DO UPDATE SET
    run = iif((SELECT kind FROM runs WHERE id = :run) = 'mirror', :run, run), kind = excluded.kind,
    message = excluded.message, status = excluded.status, attempts = attempts + 1, at = excluded.at,
    path = coalesce(excluded.path, path)
"""
_END_OF_WALK = """
DELETE FROM unread WHERE run < :run AND run IN
    (SELECT one.id FROM runs one JOIN runs this ON one.source = this.source AND one.selection = this.selection
     WHERE this.id = :run AND this.kind = 'mirror')
"""


def note(db: sqlite3.Connection, run: int, found: Sequence[UnreadLink], now: float) -> None:
    """Note links that `run` could not read; `now` in seconds since 1970."""
    db.executemany(
        _NOTE,
        [
            {
                "run": run,
                "href": one.href,
                "collection": one.collection,
                "kind": one.failure.kind,
                "message": one.failure.message.encode("utf-8", "replace").decode(),
                "status": one.failure.status,
                "at": now,
                "path": orjson.dumps(one.path).decode() if one.path else None,
            }
            for one in found
        ],
    )


def links(db: sqlite3.Connection, run: int) -> list[UnreadLink]:
    """Return the links that are not read of the source of `run`, in the order in which they were met."""
    rows = db.execute(
        "SELECT collection, href, kind, message, status, path FROM unread "
        "WHERE source = (SELECT source FROM runs WHERE id = ?) ORDER BY at, href",
        (run,),
    )
    return [
        UnreadLink(
            row[0],
            row[1],
            Failure(FailureKind(row[2]), row[3], status=row[4]),
            tuple(orjson.loads(row[5] or "[]")),
        )
        for row in rows
    ]


def forget(db: sqlite3.Connection, run: int, hrefs: Collection[str]) -> None:
    """Forget links of the source of `run`: they have been read."""
    db.executemany(
        "DELETE FROM unread WHERE source = (SELECT source FROM runs WHERE id = ?) AND href = ?",
        [(run, href) for href in hrefs],
    )


def forget_run(db: sqlite3.Connection, run: int) -> None:
    """Forget what the walk of `run` has noted: it begins again."""
    db.execute("DELETE FROM unread WHERE run = ?", (run,))


def end_of_walk(db: sqlite3.Connection, run: int) -> None:
    """Forget what earlier walks of the same noted, and this one, which has ended, did not."""
    db.execute(_END_OF_WALK, {"run": run})


def count(db: sqlite3.Connection) -> int:
    """Return how many links could not be read."""
    found: int = db.execute("SELECT count(*) FROM unread").fetchone()[0]
    return found

"""The state of a walk in the ledger: the candidates of its sample, and the links that could not be read.

Candidates are kept in the transaction that saves the position of the walk (`ledger.planner`), at most as
many as the sample has, so that a draw continues after a kill. When the walk has ended the run is `drawn`; the
candidates are deleted when all of them are planned.

A link of a tree that gave no item is noted with the run whose walk met it: `retry` reads it again, and
`failures` lists it. A later walk that asks the same and ends has met every link itself: what it did not note
again is readable, or gone from the tree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
import orjson

from stacpull.ledger.database import number
from stacpull.models import Failure, FailureKind, ItemId


class UnreadLink(msgspec.Struct, frozen=True):
    """A link of a tree that gave no item; `href` is absolute, credentials cut; `path` as in `Unread`."""

    collection: str
    href: str
    failure: Failure
    path: tuple[str, ...] = ()


class SampledItem(NamedTuple):
    """An item of a sample. `document` and the URLs have credentials and signatures cut."""

    rank: int
    item: ItemId
    document: bytes
    href: str | None
    """Where the item can be read by itself."""
    page_url: str
    """The page that it was on: relative hrefs belong to it."""
    stale: bool
    """True if an href lost its signature: the item is read again before it is planned."""


def keep(db: sqlite3.Connection, found: Sequence[SampledItem], size: int) -> None:
    """Keep the `size` items of smallest rank, of those that are there and those `found`."""
    if not found:
        return
    rows = [(one.rank, *one.item, *one[2:]) for one in found]
    db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    db.execute(
        "DELETE FROM sample WHERE (rank, collection, item) IN "
        "(SELECT rank, collection, item FROM sample ORDER BY rank, collection, item LIMIT -1 OFFSET ?)",
        (size,),
    )


def ranks(db: sqlite3.Connection) -> list[int]:
    """Return the ranks of the candidates so far."""
    return [row[0] for row in db.execute("SELECT rank FROM sample")]


def candidates(db: sqlite3.Connection, after: SampledItem | None, limit: int) -> list[SampledItem]:
    """Return up to `limit` candidates in their order, those after `after` if it is given."""
    place = (-1, "", "") if after is None else (after.rank, *after.item)
    rows = db.execute(
        "SELECT * FROM sample WHERE (rank, collection, item) > (?, ?, ?) "
        "ORDER BY rank, collection, item LIMIT ?",
        (*place, limit),
    )
    return [SampledItem(row[0], ItemId(row[1], row[2]), row[3], row[4], row[5], bool(row[6])) for row in rows]


def set_drawn(db: sqlite3.Connection, run: int) -> None:
    """Record that the walk of `run` has ended: its sample is what is kept now."""
    db.execute("UPDATE runs SET drawn = 1 WHERE id = ?", (run,))


def clear(db: sqlite3.Connection) -> None:
    """Forget the candidates."""
    db.execute("DELETE FROM sample")


_NOTE_UNREAD = """
INSERT INTO unread VALUES
    ((SELECT source FROM runs WHERE id = :run), :href, :run, :collection, :kind, :message, :status, 1, :at,
     :path)
ON CONFLICT (source, href) DO UPDATE SET
    run = iif((SELECT kind FROM runs WHERE id = :run) = 'mirror', :run, run), kind = excluded.kind,
    message = excluded.message, status = excluded.status, attempts = attempts + 1, at = excluded.at,
    path = coalesce(excluded.path, path)
"""
_END_WALK = """
DELETE FROM unread WHERE run < :run AND run IN
    (SELECT one.id FROM runs one JOIN runs this ON one.source = this.source AND one.selection = this.selection
     WHERE this.id = :run AND this.kind = 'mirror')
"""


def note_unread(db: sqlite3.Connection, run: int, found: Sequence[UnreadLink], now: float) -> None:
    """Note links that `run` could not read; `now` in seconds since 1970."""
    db.executemany(
        _NOTE_UNREAD,
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


def unread_links(db: sqlite3.Connection, run: int) -> list[UnreadLink]:
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


def forget_links(db: sqlite3.Connection, run: int, hrefs: Collection[str]) -> None:
    """Forget links of the source of `run`: they have been read."""
    db.executemany(
        "DELETE FROM unread WHERE source = (SELECT source FROM runs WHERE id = ?) AND href = ?",
        [(run, href) for href in hrefs],
    )


def forget_links_of(db: sqlite3.Connection, run: int) -> None:
    """Forget what the walk of `run` has noted: it begins again."""
    db.execute("DELETE FROM unread WHERE run = ?", (run,))


def end_walk(db: sqlite3.Connection, run: int) -> None:
    """Forget what earlier walks of the same noted, and this one, which has ended, did not."""
    db.execute(_END_WALK, {"run": run})


def count_unread(db: sqlite3.Connection) -> int:
    """Return how many links could not be read."""
    return number(db, "SELECT count(*) FROM unread")

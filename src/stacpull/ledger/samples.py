"""The sample of a run while it is drawn: its candidates so far, bounded by its size.

They are kept in the transaction that saves the walk's position (`ledger.planning`), so that a draw goes on
after a kill. When the walk has ended the run is `drawn`; the candidates go when all of them are planned.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from stacpull.models import ItemId

__all__ = ["SampledItem", "candidates", "clear", "keep", "ranks", "set_drawn"]


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
    db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?, ?, ?, ?)", map(_row, found))
    db.execute(
        "DELETE FROM sample WHERE (rank, collection, item) IN "
        "(SELECT rank, collection, item FROM sample ORDER BY rank, collection, item LIMIT -1 OFFSET ?)",
        (size,),
    )


def _row(one: SampledItem) -> tuple[object, ...]:
    return one.rank, one.item.collection, one.item.item, one.document, one.href, one.page_url, one.stale


def ranks(db: sqlite3.Connection) -> list[int]:
    """Return the ranks of the candidates so far."""
    return [row[0] for row in db.execute("SELECT rank FROM sample")]


def candidates(db: sqlite3.Connection, after: SampledItem | None, limit: int) -> list[SampledItem]:
    """Return up to `limit` candidates in their order, those behind `after` if it is given."""
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

"""How whole an item is: derived from its assets and source items, never counted by hand."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Settled", "count_items_done", "settle"]

_SETTLE = """
UPDATE items SET
    remaining = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state < 2)
              + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining > 0),
    failed = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state = 3)
           + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining = 0 AND c.failed > 0)
           + (SELECT count(*) FROM failures f WHERE f.item = :item AND f.key = '')
WHERE id = :item RETURNING remaining, failed
"""
_STANDING = "SELECT remaining, failed, run, sequence IS NOT NULL, parent FROM items WHERE id = ?"


@dataclass(frozen=True, slots=True)
class Settled:
    """What settling changed."""

    final: list[int] = field(default_factory=list)
    """Items that are final now: their JSON can be written."""
    done: Counter[int] = field(default_factory=Counter)
    """By run: how many more of its primary items are whole."""


def settle(db: sqlite3.Connection, items: Iterable[int]) -> Settled:
    """Bring `remaining` and `failed` of these items up to date, and of the label items that wait for them."""
    settled = Settled()
    level = set(items)
    while level:
        level = {above for item in sorted(level) if (above := _settle_one(db, item, settled)) is not None}
    return settled


def _settle_one(db: sqlite3.Connection, item: int, settled: Settled) -> int | None:
    """Settle one item; return its label item if that is to be settled too."""
    remaining, failed, run, primary, parent = db.execute(_STANDING, (item,)).fetchone()
    now_remaining, now_failed = db.execute(_SETTLE, {"item": item}).fetchone()
    if remaining > 0 and now_remaining == 0:
        settled.final.append(item)
    before, now = (remaining == 0, failed > 0), (now_remaining == 0, now_failed > 0)
    if primary:
        settled.done[run] += (now == (True, False)) - (before == (True, False))
    found: int | None = parent if before != now else None
    return found


def count_items_done(db: sqlite3.Connection, settled: Settled) -> None:
    """Add the primary items that became whole to the counters of their runs."""
    db.executemany(
        "UPDATE runs SET items_done = items_done + ? WHERE id = ?",
        [(count, run) for run, count in settled.done.items() if count],
    )

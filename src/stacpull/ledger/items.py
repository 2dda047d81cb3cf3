"""How whole an item is: derived from its assets and source items, never counted by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

__all__ = ["settle"]

_SETTLE = """
UPDATE items SET
    remaining = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state < 2)
              + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining > 0),
    failed = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state > 2)
           + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining = 0 AND c.failed > 0)
           + (SELECT count(*) FROM failures f WHERE f.item = :item AND f.key = '')
WHERE id = :item RETURNING remaining, failed
"""
_STANDING = "SELECT remaining, failed, parent FROM items WHERE id = ?"


def settle(db: sqlite3.Connection, items: Iterable[int]) -> list[int]:
    """Bring `remaining` and `failed` of these items up to date, and of the label items that wait for them.

    Returns:
        The items that have become final: their JSON can be written.
    """
    final: list[int] = []
    level = set(items)
    while level:
        level = {above for item in sorted(level) if (above := _settle_one(db, item, final)) is not None}
    return final


def _settle_one(db: sqlite3.Connection, item: int, final: list[int]) -> int | None:
    """Settle one item; return its label item if that must be settled too."""
    remaining, failed, parent = db.execute(_STANDING, (item,)).fetchone()
    now_remaining, now_failed = db.execute(_SETTLE, {"item": item}).fetchone()
    if remaining > 0 and now_remaining == 0:
        final.append(item)
    before, now = (remaining == 0, failed > 0), (now_remaining == 0, now_failed > 0)
    found: int | None = parent if before != now else None
    return found

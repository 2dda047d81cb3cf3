"""How whole an item is: derived from its assets and source items, never counted by hand."""

from __future__ import annotations

import sqlite3

__all__ = ["settle"]

_SETTLE = """
UPDATE items SET
    remaining = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state < 2)
              + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining > 0),
    failed = (SELECT count(*) FROM assets a WHERE a.item = :item AND a.state = 3)
           + (SELECT count(*) FROM items c WHERE c.parent = :item AND c.remaining = 0 AND c.failed > 0)
           + (SELECT count(*) FROM failures f WHERE f.item = :item AND f.key = '')
WHERE id = :item RETURNING remaining, failed
"""


def settle(db: sqlite3.Connection, item: int) -> tuple[int, int]:
    """Bring an item's `remaining` and `failed` up to date and return them.

    A label item counts its source items too: it is not whole before they are. Settle those first.
    """
    found: tuple[int, int] = db.execute(_SETTLE, {"item": item}).fetchone()
    return found

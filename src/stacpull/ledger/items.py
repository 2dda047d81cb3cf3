"""How complete an item is: derived from its assets and source items, never counted by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from stacpull.ledger.database import marks, pieces


def settle(db: sqlite3.Connection, items: Iterable[int]) -> list[int]:
    """Bring `remaining` and `failed` of these items up to date, and of the label items that wait for them.

    Returns:
        The items that have become final: their JSON can be written.
    """
    final: list[int] = []
    level = sorted(set(items))
    while level:
        above: set[int] = set()
        for some in pieces(level):
            at = marks(len(some))
            before = {row[0]: row[1:] for row in db.execute(_STANDING.format(items=at), some)}
            for item, remaining, failed in db.execute(_SETTLE.format(items=at), some).fetchall():
                remaining_before, failed_before, parent = before[item]
                if remaining_before > 0 and remaining == 0:
                    final.append(item)
                is_same = (remaining_before == 0, failed_before > 0) == (remaining == 0, failed > 0)
                if parent is not None and not is_same:
                    above.add(parent)
        level = sorted(above)
    return final


_STANDING = "SELECT id, remaining, failed, parent FROM items WHERE id IN ({items})"
_SETTLE = """
UPDATE items SET
    remaining = (SELECT count(*) FROM assets a WHERE a.item = items.id AND a.state < 2)
              + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining > 0),
    failed = (SELECT count(*) FROM assets a WHERE a.item = items.id AND a.state > 2)
           + (SELECT count(*) FROM items c WHERE c.parent = items.id AND c.remaining = 0 AND c.failed > 0)
           + (SELECT count(*) FROM failures f WHERE f.item = items.id AND f.key = '')
WHERE id IN ({items}) RETURNING id, remaining, failed
"""

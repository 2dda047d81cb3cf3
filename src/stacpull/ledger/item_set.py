"""A set of items for `plan` and `headers`, which have no ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from stacpull.ledger.database import IN_LIST, json_array
from stacpull.ledger.runs import seen_hash
from stacpull.models import ItemId


class ItemSet:
    """A set of items in a temporary file, because there may be millions. One thread at a time may use it."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._db.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2048;"
            "CREATE TABLE items(hash INTEGER PRIMARY KEY); BEGIN"
        )
        self.close = self._db.close

    def clear(self) -> None:
        self._db.execute("DELETE FROM items")

    def add_all(self, items: Iterable[ItemId]) -> set[ItemId]:
        insert = "INSERT OR IGNORE INTO items VALUES (?)"
        return {item for item in items if self._db.execute(insert, (seen_hash(item),)).rowcount == 1}

    def intersection(self, items: Sequence[ItemId]) -> set[ItemId]:
        by_hash = {seen_hash(item): item for item in items}
        rows = self._db.execute(f"SELECT hash FROM items WHERE hash {IN_LIST}", (json_array(by_hash),))
        return {by_hash[row[0]] for row in rows}

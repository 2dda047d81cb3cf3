"""What a run found that was not so before, counted by kind: what a mirror that is run again reports.

Counted in the transactions that make the changes, so that a kill loses no number and none counts twice.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

__all__ = ["count", "counted", "put"]


def count(db: sqlite3.Connection, run: int, numbers: Mapping[str, int]) -> None:
    """Add to what `run` has found, within a transaction; names are fields of `reports.MirrorReport`."""
    found = [(run, what, number) for what, number in numbers.items() if number]
    if found:
        db.executemany(_ADD, found)


def put(db: sqlite3.Connection, run: int, what: str, number: int) -> None:
    """Say how many there are, where a run that goes on counts them all anew."""
    db.execute("INSERT OR REPLACE INTO changes VALUES (?, ?, ?)", (run, what, number))


def counted(db: sqlite3.Connection, run: int) -> dict[str, int]:
    """Return what `run` has found so far, by kind; what there was none of is not in it."""
    return dict(db.execute("SELECT what, number FROM changes WHERE run = ?", (run,)).fetchall())


_ADD = "INSERT INTO changes VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET number = number + excluded.number"

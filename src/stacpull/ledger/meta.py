"""What the ledger knows of the machine's state: the boot of the last run, and whether a sync failed."""

from __future__ import annotations

import sqlite3

__all__ = ["boot_of_last_run", "is_tainted", "set_boot", "set_tainted"]


def boot_of_last_run(db: sqlite3.Connection) -> str | None:
    """Return the boot id under which the last run worked."""
    return _get(db, "boot")


def set_boot(db: sqlite3.Connection, boot: str) -> None:
    """Remember the boot under which a run begins to work; what an earlier one left is in order now."""
    _set(db, "boot", boot)
    _set(db, "tainted", "")


def is_tainted(db: sqlite3.Connection) -> bool:
    """Return True if a sync of the last run failed: what was not recorded may be lost though it looks whole."""
    return bool(_get(db, "tainted"))


def set_tainted(db: sqlite3.Connection, reason: str) -> None:
    """Remember that a sync failed."""
    _set(db, "tainted", reason)


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

"""What the ledger knows beside its rows: the last boot, a failed sync, which catalog files are ours."""

from __future__ import annotations

import sqlite3

__all__ = ["boot_of_last_run", "claim_file", "is_tainted", "owns_file", "set_boot", "set_tainted"]


def boot_of_last_run(db: sqlite3.Connection) -> str | None:
    """Return the boot id under which the last run worked."""
    return _get(db, "boot")


def set_boot(db: sqlite3.Connection, boot: str) -> None:
    """Remember the boot under which a run begins to work; what an earlier one left is in order now."""
    _set(db, "boot", boot)
    _set(db, "tainted", "")


def is_tainted(db: sqlite3.Connection) -> bool:
    """Return True if a sync of the last run failed: what was not recorded may be lost, whole as it looks."""
    return bool(_get(db, "tainted"))


def set_tainted(db: sqlite3.Connection, reason: str) -> None:
    """Remember that a sync failed."""
    _set(db, "tainted", reason)


def owns_file(db: sqlite3.Connection, path: str) -> bool:
    """Return True if the catalog file `path`, relative to DEST, is this mirror's own."""
    return _get(db, f"file:{path}") is not None


def claim_file(db: sqlite3.Connection, path: str) -> None:
    """Remember that a catalog file is this mirror's own, before it is put in place."""
    _set(db, f"file:{path}", "1")


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

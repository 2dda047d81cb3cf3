"""Single values in the ledger: the last boot, a failed sync, the catalog files that belong to the mirror."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

_FILE = "file:"
_NAMED_SOURCE = "named source"
_UNKNOWN = "1"
"""In place of a digest: the file belongs to the mirror, and its content is about to change or not known."""
_NOT_YET = "0"
"""Likewise: the file is about to be put in place for the first time, so it may not be there."""


def boot_of_last_run(db: sqlite3.Connection) -> str | None:
    """Return the boot id under which the last run worked."""
    return _get(db, "boot")


def set_boot(db: sqlite3.Connection, boot: str) -> None:
    """Record the boot under which a run begins to work; what an earlier run left is in order."""
    _set(db, "boot", boot)
    _set(db, "sync_error", "")


def had_sync_error(db: sqlite3.Connection) -> bool:
    """Return True if a sync of the last run failed: what it did not record may be lost."""
    return bool(_get(db, "sync_error"))


def set_sync_error(db: sqlite3.Connection, reason: str) -> None:
    """Record that a sync failed."""
    _set(db, "sync_error", reason)


def is_adopting(db: sqlite3.Connection) -> bool:
    """Return True if DEST may have files of the mirror that its ledger, which was rebuilt, does not know."""
    return bool(_get(db, "adopting"))


def set_adopting(db: sqlite3.Connection, *, adopting: bool) -> None:
    """Remember that such files may be there, or that a whole mirror has met them all."""
    _set(db, "adopting", "1" if adopting else "")


def walked_whole(db: sqlite3.Connection) -> int | None:
    """Return the last run whose walk is known to have met all that the source has."""
    found = _get(db, "walked_whole")
    return None if found is None else int(found)


def set_walked_whole(db: sqlite3.Connection, run: int) -> None:
    """Remember that the walk of `run` has met all that the source has."""
    _set(db, "walked_whole", str(run))


def keeps_items_parquet(db: sqlite3.Connection) -> bool:
    """Return True if runs keep items.parquet up to date."""
    return bool(_get(db, "items_parquet"))


def keep_items_parquet(db: sqlite3.Connection, *, kept: bool) -> None:
    """Remember whether runs keep items.parquet up to date."""
    _set(db, "items_parquet", "yes" if kept else "")


def items_parquet_state(db: sqlite3.Connection) -> str | None:
    """Return the digest of the items that items.parquet was written from."""
    return _get(db, "items_parquet_state")


def set_items_parquet_state(db: sqlite3.Connection, state: str) -> None:
    """Remember the digest of the items that items.parquet was written from."""
    _set(db, "items_parquet_state", state)


def owns_file(db: sqlite3.Connection, path: str) -> bool:
    """Return True if the catalog file `path`, relative to DEST, is this mirror's own."""
    return _get(db, _FILE + path) is not None


def is_recorded(db: sqlite3.Connection, path: str) -> bool:
    """Return True if a catalog file belongs to this mirror and has been put in place."""
    return str(_get(db, _FILE + path) or _NOT_YET) != _NOT_YET


def claim_file(db: sqlite3.Connection, path: str, sha256: bytes | None = None) -> None:
    """Remember that a catalog file is this mirror's own.

    Args:
        db: the ledger.
        path: of the file, relative to DEST.
        sha256: its digest; None before the file is put in place.
    """
    before = _UNKNOWN if is_recorded(db, path) else _NOT_YET
    _set(db, _FILE + path, before if sha256 is None else sha256.hex())


def disown_file(db: sqlite3.Connection, path: str) -> None:
    """Forget a catalog file that was removed."""
    db.execute("DELETE FROM meta WHERE key = ?", (_FILE + path,))


def files_not_yet_there(db: sqlite3.Connection) -> frozenset[str]:
    """Return the catalog files that a run was about to put in place for the first time."""
    return frozenset(path for path in file_digests(db) if not is_recorded(db, path))


def file_digests(db: sqlite3.Connection) -> dict[str, bytes | None]:
    """Return the catalog files that are this mirror's own, by path, with their SHA-256 where it is known."""
    rows = db.execute(
        "SELECT substr(key, ?), value FROM meta WHERE key >= ? AND key < ?",
        (len(_FILE) + 1, _FILE, _FILE[:-1] + chr(ord(_FILE[-1]) + 1)),
    )
    return {path: _digest(value) for path, value in rows}


def _digest(value: str | float) -> bytes | None:
    """Return the digest that is stored: what looks like a number SQLite keeps as one, `_UNKNOWN` as well."""
    return bytes.fromhex(value) if isinstance(value, str) and value != _UNKNOWN else None


def note_named_source(db: sqlite3.Connection, source: str) -> None:
    """Remember that this user named `source`, a place on this disk, for this very ledger."""
    _set(db, _NAMED_SOURCE, f"{_inode(db)} {source}")


def is_named_source(db: sqlite3.Connection, source: str) -> bool:
    """Return True if this user named `source` for this ledger, and not for a ledger that it was copied from.

    The inode identifies the file of the ledger. Who makes a ledger for another user does not know it.
    """
    inode = _inode(db)
    return inode >= 0 and _get(db, _NAMED_SOURCE) == f"{inode} {source}"


def _inode(db: sqlite3.Connection) -> int:
    """Return the inode of a ledger, -1 if it is another user's."""
    path = next(row[2] for row in db.execute("PRAGMA database_list") if row[1] == "main")
    found = Path(path).stat()
    return found.st_ino if found.st_uid == os.geteuid() else -1


def rates_taken(db: sqlite3.Connection) -> dict[str, float]:
    """Return the start of the last interval that is here of each merged ledger, by that of its first run."""
    found: dict[str, float] = json.loads(_get(db, "rates_taken") or "{}")
    return found


def set_rates_taken(db: sqlite3.Connection, taken: dict[str, float]) -> None:
    """Note which intervals of merged ledgers are here."""
    _set(db, "rates_taken", json.dumps(taken))


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

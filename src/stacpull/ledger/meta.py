"""Single values in the ledger: the last boot, a failed sync, the catalog files that belong to the mirror."""

from __future__ import annotations

import json
import os
import sqlite3
from typing import cast

ITEMS_PARQUET = "items.parquet"
"""The index that `mirror --items-parquet` keeps, relative to DEST."""
_FILE = "file:"
_NAMED_SOURCE = "named source"
_UNKNOWN = "1"
"""Stored instead of a digest: the file belongs to the mirror; its content is unknown or will change."""
_NOT_YET = "0"
"""Stored instead of a digest: the file will be put in place for the first time, so it may not exist."""


def boot_of_last_run(db: sqlite3.Connection) -> str | None:
    """Return the boot ID of the machine during the last run."""
    return _get(db, "boot")


def set_boot(db: sqlite3.Connection, boot: str) -> None:
    """Record the boot ID of a run that starts, once the files of earlier runs have been checked."""
    _set(db, "boot", boot)
    _set(db, "sync_error", "")


def forget_boot(db: sqlite3.Connection) -> None:
    """Forget the last boot and a failed sync, in a copy of the ledger for another work directory.

    That has no mark of the boot, which would count as a failed sync.
    """
    db.execute("DELETE FROM meta WHERE key IN ('boot', 'sync_error')")


def had_sync_error(db: sqlite3.Connection) -> bool:
    """Return True if a sync of the last run failed: files that it did not record may be lost."""
    return bool(_get(db, "sync_error"))


def set_sync_error(db: sqlite3.Connection, reason: str) -> None:
    """Record that a sync failed."""
    _set(db, "sync_error", reason)


def is_adopting(db: sqlite3.Connection) -> bool:
    """Return True if DEST may have files of the mirror that its ledger, an older copy, does not have."""
    return bool(_get(db, "adopting"))


def set_adopting(db: sqlite3.Connection, *, adopting: bool) -> None:
    """Record whether DEST may have such files. A complete mirror has found them all."""
    _set(db, "adopting", "1" if adopting else "")


def complete_walk(db: sqlite3.Connection) -> int | None:
    """Return the last run whose walk is known to have found everything in the source."""
    found = _get(db, "walked_whole")
    return None if found is None else int(found)


def set_complete_walk(db: sqlite3.Connection, run: int) -> None:
    """Record that the walk of `run` has found everything in the source."""
    _set(db, "walked_whole", str(run))


def keeps_items_parquet(db: sqlite3.Connection) -> bool:
    """Return True if runs keep items.parquet up to date."""
    return bool(_get(db, "items_parquet"))


def keep_items_parquet(db: sqlite3.Connection, *, kept: bool) -> None:
    """Record whether runs keep items.parquet up to date."""
    _set(db, "items_parquet", "yes" if kept else "")


def items_parquet_state(db: sqlite3.Connection) -> str | None:
    """Return the digest of the items that items.parquet was written from."""
    return _get(db, "items_parquet_state")


def set_items_parquet_state(db: sqlite3.Connection, state: str) -> None:
    """Record the digest of the items that items.parquet was written from."""
    _set(db, "items_parquet_state", state)


def owns_file(db: sqlite3.Connection, path: str) -> bool:
    """Return True if the catalog file `path`, relative to DEST, belongs to this mirror."""
    return _get(db, _FILE + path) is not None


def is_recorded(db: sqlite3.Connection, path: str, sha256: bytes | None = None) -> bool:
    """Return True if a catalog file belongs to this mirror and has been put in place, with that digest."""
    found = str(_get(db, _FILE + path) or _NOT_YET)
    return found != _NOT_YET if sha256 is None else found == sha256.hex()


def claim_file(db: sqlite3.Connection, path: str, sha256: bytes | None = None) -> None:
    """Record that a catalog file belongs to this mirror.

    Args:
        db: the ledger.
        path: the path of the file, relative to DEST.
        sha256: its digest; None before the file is put in place.
    """
    before = _UNKNOWN if is_recorded(db, path) else _NOT_YET
    _set(db, _FILE + path, before if sha256 is None else sha256.hex())


def disown_file(db: sqlite3.Connection, path: str) -> None:
    """Forget a catalog file that was removed."""
    db.execute("DELETE FROM meta WHERE key = ?", (_FILE + path,))


def files_not_yet_there(db: sqlite3.Connection) -> frozenset[str]:
    """Return the catalog files that a run started to put in place for the first time."""
    return frozenset(path for path in file_digests(db) if not is_recorded(db, path))


def file_digests(db: sqlite3.Connection) -> dict[str, bytes | None]:
    """Return the catalog files of this mirror, by path, with their SHA-256 if it is known."""
    rows = db.execute(
        "SELECT substr(key, ?), value FROM meta WHERE key >= ? AND key < ?",
        (len(_FILE) + 1, _FILE, _FILE[:-1] + chr(ord(_FILE[-1]) + 1)),
    )
    return {path: _digest(value) for path, value in rows}


def _digest(value: str | float) -> bytes | None:
    """Return the stored digest. SQLite stores a text that looks like a number, as `_UNKNOWN`, as a number."""
    return bytes.fromhex(value) if isinstance(value, str) and value != _UNKNOWN else None


def note_named_source(db: sqlite3.Connection, source: str) -> None:
    """Record that this user named `source`, a path on this disk, for this very ledger."""
    _set(db, _NAMED_SOURCE, f"{_inode(db)} {source}")


def is_named_source(db: sqlite3.Connection, source: str) -> bool:
    """Return True if this user named `source` for this ledger, not for another one that it was copied from.

    The inode identifies the file of the ledger. A person who prepares a ledger for another user does not know
    it.
    """
    inode = _inode(db)
    return inode >= 0 and _get(db, _NAMED_SOURCE) == f"{inode} {source}"


def _inode(db: sqlite3.Connection) -> int:
    """Return the inode of a ledger, -1 if it belongs to another user."""
    query = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
    found = os.stat(db.execute(query).fetchone()[0])  # noqa: PTH116 -- a path need not be text in UTF-8
    return found.st_ino if found.st_uid == os.geteuid() else -1


def recorded_bucket(db: sqlite3.Connection) -> tuple[str, str, str, int] | None:
    """Return the URL, endpoint (empty for the usual one), mirror id and last generation of a bucket."""
    stored = _get(db, "bucket")
    return None if stored is None else cast("tuple[str, str, str, int]", tuple(json.loads(stored)))


def set_bucket(db: sqlite3.Connection, url: str, endpoint: str, mirror: str, generation: int) -> None:
    """Record the bucket of a mirror, so that another one is refused, and the generation of a run."""
    _set(db, "bucket", json.dumps([url, endpoint, mirror, generation]))


def _get(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def _set(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

"""Single values in the ledger, and sets of names: files to remove, catalog files."""

import json
import os
from sqlite3 import Connection

ADOPTING = "adopting"  # DEST may have files that its ledger, an older copy, lacks
BOOT = "boot"  # the boot ID of the last run, once the files of earlier runs had been checked
POSITION = "position:"  # with the number of a run: the next page to read, JSON
SELECTION = "selection:"  # with the number of a run that may be resumed: all of a long selection, JSON
_BUCKET = "bucket"
# prefixes of names
_NAMED_SOURCE = "named source:"
REMOVALS = "remove:"  # files of the mirror to remove, relative to DEST
_FILES = "file:"
_UNKNOWN = "?"  # instead of a digest, while a file of the mirror is replaced
_NOT_YET = ""  # instead of a digest, while it is put in place for the first time


def get(db: Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else row[0]


def put(db: Connection, key: str, value: str | None) -> None:
    if value is None:
        db.execute("DELETE FROM meta WHERE key = ?", (key,))
    else:
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def with_prefix(db: Connection, prefix: str) -> dict[str, str]:
    """Return the names with this prefix, in order and without the prefix, and their values."""
    query = "SELECT substr(key, ?), value FROM meta WHERE substr(key, 1, ?) = ? ORDER BY key"
    values = (len(prefix) + 1, len(prefix), prefix)
    return dict(db.execute(query, values).fetchall())


def owns_file(db: Connection, path: str) -> bool:
    return get(db, _FILES + path) is not None


def claim_file(db: Connection, path: str) -> None:
    """Record that a catalog file belongs to this mirror, before it is put in place."""
    is_in_place = get(db, _FILES + path) not in (None, _NOT_YET)
    put(db, _FILES + path, _UNKNOWN if is_in_place else _NOT_YET)


def record_file(db: Connection, path: str, sha256: bytes | None) -> None:
    """Record the digest of a catalog file, or with None that the mirror no longer owns it."""
    put(db, _FILES + path, None if sha256 is None else sha256.hex())


def file_digests(db: Connection) -> dict[str, bytes | None]:
    """Return the SHA-256 of each catalog file: None while it is replaced, empty until it exists."""
    files = with_prefix(db, _FILES)
    return {path: None if value == _UNKNOWN else bytes.fromhex(value) for path, value in files.items()}


def note_named_source(db: Connection, source: str) -> None:
    """Record that this user named `source`, a path on this disk, for this very ledger."""
    put(db, _NAMED_SOURCE + source, str(_inode(db)))


def is_named_source(db: Connection, source: str) -> bool:
    """Return True if this user named `source`: others do not know the ledger's inode."""
    inode = _inode(db)
    return inode >= 0 and get(db, _NAMED_SOURCE + source) == str(inode)


def _inode(db: Connection) -> int:
    query = "SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'"
    ledger_stat = os.stat(db.execute(query).fetchone()[0])  # noqa: PTH116 -- a path need not be text in UTF-8
    return ledger_stat.st_ino if ledger_stat.st_uid == os.geteuid() else -1


def recorded_bucket(db: Connection) -> tuple[str, str, str, int] | None:
    """Return the URL, endpoint (empty for the usual one), mirror id and last epoch of a bucket."""
    stored = get(db, _BUCKET)
    return None if stored is None else tuple(json.loads(stored))


def set_bucket(db: Connection, url: str, endpoint: str, mirror: str, epoch: int) -> None:
    put(db, _BUCKET, json.dumps([url, endpoint, mirror, epoch]))

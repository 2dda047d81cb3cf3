"""Copies of the ledger. Each run that changed the ledger leaves one beside it when it ends.

A run that continues from a copy adopts the files that were stored after the copy was made.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from stacpull.errors import DestinationError, StacpullError
from stacpull.ledger.database import (
    Connection,
    backup_path,
    damaged_sentence,
    integrity,
    ledger_path,
    make_private,
    open_reader,
    translated,
)
from stacpull.ledger.meta import ADOPTING, forget_boot, put

_SENTENCES = {
    sqlite3.SQLITE_FULL: "The disk is full, no copy of the ledger can be made: free some space.",
    sqlite3.SQLITE_IOERR: "No copy of the ledger can be made ({text}): the disk is full or fails.",
}


@contextmanager
def backed_up(db: Connection, dest: Path) -> Iterator[None]:
    """Replace `ledger.backup` at the end of the block if any process has changed the ledger in it."""

    def version() -> tuple[int, int]:  # differs after this connection, or another one, has changed the ledger
        return db.execute("PRAGMA data_version").fetchone()[0], db.total_changes

    before = version()
    try:
        yield
    except BaseException:
        with suppress(StacpullError, sqlite3.Error):
            if version() != before:
                _back_up(dest)
        raise
    if version() != before:
        _back_up(dest)


def _back_up(dest: Path) -> None:
    part = backup_path(dest).with_name("ledger.backup.part")
    try:
        copy_ledger(dest, part)
        with translated(part, _SENTENCES), closing(sqlite3.connect(part)) as copy:
            complaint = integrity(copy, quick=True)
        if complaint is not None:
            raise DestinationError(damaged_sentence(ledger_path(dest), complaint))
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(backup_path(dest))
    except OSError as error:
        raise DestinationError(f"No copy of the ledger can be made: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def copy_ledger(dest: Path, to: Path) -> None:
    """Copy a consistent snapshot of the ledger of `dest`, even while a run writes to it."""
    to.unlink(missing_ok=True)
    with closing(open_reader(dest)) as db, translated(to, _SENTENCES):
        make_private(to)
        with closing(sqlite3.connect(to)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
            put(copy, ADOPTING, "1")
            forget_boot(copy)
            copy.commit()
            copy.execute("PRAGMA journal_mode = DELETE")

"""Opening the ledger: journal mode, transactions, and SQLite's errors as ours.

On a local disk the ledger runs in WAL mode with `synchronous=NORMAL`: a commit costs no fsync, since the
publisher's group sync covers the log as well (`engine.publisher`). Where only single files can be synced the
publisher asks for `synchronous=FULL`. On a network file system WAL does not work; there the rollback journal
is used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from stacpull.errors import DestinationError, NotAMirrorError
from stacpull.ledger.schema import migrate

__all__ = ["Connection", "ledger_path", "open_reader", "open_writer", "transaction", "translated"]

Connection = sqlite3.Connection
"""An open ledger: other rooms hand it on, only this room speaks SQL on it."""

_READER_TIMEOUT = 10.0  # seconds a reader waits for the writer's checkpoint


def ledger_path(dest: Path) -> Path:
    """Return where the ledger of the mirror `dest` lies."""
    return dest / ".stacpull" / "ledger.sqlite"


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into `DestinationError`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = str(error)
        if "full" in text:
            raise DestinationError(
                f"The disk is full: the ledger {path} cannot grow. Free some space."
            ) from error
        if "malformed" in text or "not a database" in text:
            raise DestinationError(f"The ledger {path} is damaged ({text}).") from error
        raise DestinationError(f"The ledger {path} cannot be used: {text}.") from error


def open_writer(
    dest: Path, *, journal: Literal["wal", "delete"] = "wal", durable: bool = False
) -> sqlite3.Connection:
    """Open the ledger of `dest` for its one writer, making or migrating it first.

    The connection may be handed to one other thread, which then owns it.

    Args:
        dest: the mirror; `.stacpull` exists.
        journal: "wal", or "delete" on network file systems.
        durable: True to sync each commit (where the group sync does not cover the ledger).

    Raises:
        DestinationError: the ledger is damaged, newer than this program, or cannot be written.
    """
    path = ledger_path(dest)
    with translated(path):
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
        try:
            db.execute("PRAGMA cache_size = -4096")
            db.execute(f"PRAGMA journal_mode = {journal}")
            db.execute("PRAGMA synchronous = " + ("FULL" if durable or journal == "delete" else "NORMAL"))
            db.execute("PRAGMA journal_size_limit = 16777216")
            migrate(db)
        except BaseException:
            db.close()
            raise
    return db


def open_reader(dest: Path) -> sqlite3.Connection:
    """Open the ledger of `dest` read-only, also while a mirror runs or right after one was killed.

    Raises:
        NotAMirrorError: there is no ledger.
        DestinationError: it cannot be read.
    """
    path = ledger_path(dest)
    if not path.is_file():
        raise NotAMirrorError(f"{dest} is not a mirror: it has no .stacpull/ledger.sqlite.")
    with translated(path):
        try:
            return _connect_read_only(path, "mode=ro")
        except sqlite3.OperationalError:
            # A read-only file system has no place for the shared-memory file of WAL: read the main file alone.
            return _connect_read_only(path, "immutable=1")


def _connect_read_only(path: Path, query: str) -> sqlite3.Connection:
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?{query}", uri=True, isolation_level=None, timeout=_READER_TIMEOUT
    )
    try:
        db.execute("SELECT count(*) FROM totals").fetchone()
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run the body as one transaction: all of it is in the ledger, or none."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")

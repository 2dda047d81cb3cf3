"""Results of a job that is not a mirror (`headers`, `trace`): one SQLite file, so that a kill loses little.

The file has the job's query, one row per key that succeeded or failed, and the position to continue from.
The position is saved in one transaction with the rows before it. A file with rows is not used for another
query, because they would be wrong for it. A file without rows starts over.

One process at a time may use it. SQLite's own lock is held from opening to closing, and ends with the
process. Commits are as durable as those of a mirror's ledger (`ledger.database`): all of them survive kill
-9. After a loss of power the last ones may be missing, but none is incomplete.

Credentials are not removed here: query, values and position must not have any.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import orjson

from stacpull.errors import UsageError, destination_errors
from stacpull.ledger.database import (
    json_array,
    ledger_errors,
    reject_irregular,
    scalar,
    transaction,
)
from stacpull.ledger.schema import Schema, create_tables
from stacpull.models import Json

_TABLES = """
CREATE TABLE meta(key TEXT PRIMARY KEY, value ANY) WITHOUT ROWID;
CREATE TABLE results(
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    place INTEGER NOT NULL,                -- rows are read in this order
    ok INTEGER NOT NULL,                   -- 1: answered; 0: failed
    value BLOB NOT NULL                    -- JSON
);
CREATE INDEX results_place ON results(place, id);
"""

_SENTENCES = {
    sqlite3.SQLITE_BUSY: "Another stacpull is working on {path}: wait for it, or stop it first.",
    sqlite3.SQLITE_FULL: "The disk is full: {path} cannot grow. Free some space, then run the command again.",
    sqlite3.SQLITE_CORRUPT: "{path} is damaged ({text}): remove it and start again.",
    sqlite3.SQLITE_NOTADB: "{path} is not a results file ({text}): remove it, or choose another output.",
    sqlite3.SQLITE_READONLY: "No permission to write {path}.",
    sqlite3.SQLITE_CANTOPEN: "{path} cannot be opened: check permissions; the disk may be full or read-only.",
    sqlite3.SQLITE_IOERR: "{path} cannot be used ({text}): check the disk, space and `ulimit`.",
}
_RESULTS = "SELECT key, value, ok, place FROM results"
_KNOWN = "SELECT key FROM results WHERE key IN (SELECT value FROM json_each(?))"
_LOCK_TIMEOUT = 1.0
"""Seconds to wait for a process that is ending."""


class Result(NamedTuple):
    """One row. `value` is JSON; `place` is its position in the order, None for the end."""

    key: str
    value: bytes
    ok: bool = True
    place: int | None = None


class Results:
    """The open results file of one job; a context manager that closes it.

    Several threads may read and write. No thread may write while another one reads all `rows`.
    """

    def __init__(self, path: Path, question: Mapping[str, Any], *, start_over: bool | None = None) -> None:
        """Open or create the file at `path` for a job with the query `question`."""
        self.path = path
        self._is_new = not path.exists()
        self._lock = threading.Lock()
        reject_irregular(path)
        with destination_errors(path), ledger_errors(path, _SENTENCES):
            if self._is_new:
                path.touch(0o600)
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=_LOCK_TIMEOUT
            )
            try:
                _lock(self._db)
                create_tables(self._db, Schema(_TABLES, 1, str(path), "remove it and start again."))
                self._agree(question, start_over=start_over)
                last_place = self._db.execute("SELECT max(place) FROM results").fetchone()[0]
            except BaseException:
                self._db.close()
                raise
        self._next_place = 0 if last_place is None else last_place + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file. After an error, a new one without results is removed: the query may be wrong."""
        is_useless = error is not None and self._is_new and not (self.count(ok=True) or self.count(ok=False))
        self.close()
        if is_useless:
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._alone():
            self._db.close()

    @property
    def position(self) -> Json | None:
        """Return the last saved position; None if none was saved."""
        text = self._meta("position")
        position: Json | None = None if text is None else orjson.loads(text)
        return position

    def forget_failed(self, position: Mapping[str, Any]) -> None:
        """Delete the failed keys, so that they are tried again, and continue from `position`."""
        with self._alone(), transaction(self._db) as db:
            db.execute("DELETE FROM results WHERE NOT ok")
            self._set_meta("position", orjson.dumps(position))

    def count(self, *, ok: bool) -> int:
        with self._alone():
            return scalar(self._db, "SELECT count(*) FROM results WHERE ok = ?", (ok,))

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return the `keys` that have a row, successful or failed."""
        with self._alone():
            rows = self._db.execute(_KNOWN, (json_array(keys),))
            return {key for (key,) in rows}

    def get(self, key: str) -> Result | None:
        with self._alone():
            row = self._db.execute(f"{_RESULTS} WHERE key = ?", (key,)).fetchone()
        return None if row is None else _result(row)

    def rows(self, *, failed: bool = False) -> Iterator[Result]:
        """Yield all (or the failed) rows by place, then in the order of first insertion.

        No thread may write meanwhile.
        """
        where = "WHERE NOT ok " if failed else ""
        with ledger_errors(self.path, _SENTENCES):
            yield from map(_result, self._db.execute(f"{_RESULTS} {where}ORDER BY place, id"))

    def put(self, results: Iterable[Result], *, position: Mapping[str, Any] | None = None) -> None:
        """Save rows and a position in one transaction; new rows replace earlier ones of the same key."""
        with self._alone(), transaction(self._db) as db:
            for key, value, ok, place in results:
                at = self._next_place if place is None else place
                self._next_place = max(self._next_place, at + 1)
                db.execute(
                    "INSERT INTO results(key, value, ok, place) VALUES (?, ?, ?, ?) ON CONFLICT(key) "
                    "DO UPDATE SET value = excluded.value, ok = excluded.ok, place = excluded.place",
                    (key, value, ok, at),
                )
            if position is not None:
                self._set_meta("position", orjson.dumps(position))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock out other threads, so that their statements do not become part of a transaction."""
        with self._lock, ledger_errors(self.path, _SENTENCES):
            yield

    def _agree(self, question: Mapping[str, Any], *, start_over: bool | None) -> None:
        now = orjson.loads(orjson.dumps(question))
        if start_over or self._db.execute("SELECT 1 FROM results").fetchone() is None:
            with transaction(self._db) as db:
                db.execute("DELETE FROM results")
                db.execute("DELETE FROM meta")
        stored = self._meta("question")
        if stored is None:
            self._set_meta("question", orjson.dumps(now))
            return
        before = orjson.loads(stored)
        if now != before:
            what = ", ".join(sorted(name for name in now if now[name] != before.get(name)))
            what = what.replace("evalscript", "index or evalscript")  # an index is stored as its evalscript
            of = f"query (different: {what})" if now.keys() == before.keys() else "command"
            how = "remove the output and this file" if start_over is None else "add --refresh"
            raise UsageError(
                f"{self.path} has results of another {of}: "
                f"repeat the earlier command, choose another output, or {how} to start over."
            )

    def _meta(self, key: str) -> bytes | None:
        with self._alone():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _set_meta(self, key: str, value: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _lock(db: sqlite3.Connection) -> None:
    """Take SQLite's lock until the file is closed. With it WAL needs no shared memory."""
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("BEGIN EXCLUSIVE")
    db.execute("COMMIT")


def _result(row: tuple[str, bytes, int, int]) -> Result:
    key, value, ok, place = row
    return Result(key, value, bool(ok), place)

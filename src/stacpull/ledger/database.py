"""Opening and copying the ledger: journal mode, transactions, and SQLite's errors as `StacpullError`.

In WAL mode with `synchronous=NORMAL`, a commit needs no fsync: the publisher's group sync covers the log. If
only single files can be synced, `synchronous=FULL` is used; on network file systems, where WAL does not work,
the rollback journal. A run that continues from a copy of the ledger adopts the files stored after the copy.
"""

import os
import shlex
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from stacpull.errors import DestinationError, NotAMirrorError, StacpullError, destination_errors, owner_advice
from stacpull.ledger import meta
from stacpull.ledger.schema import check_version, create_tables
from stacpull.models import OWN_DIRECTORY, BucketLocation
from stacpull.planning.names import is_own_catalog

Connection = sqlite3.Connection  # an open ledger: other packages pass it on, and only this one runs SQL
Values = Sequence[object] | Mapping[str, object]  # those that a query binds

_ROWS_AT_ONCE = 64  # `executemany` takes two to three times as long for short rows
_COPIED_AFTER_STOP = 64 << 20  # bytes: a larger ledger takes seconds, after which a scheduler kills the run
_DAMAGES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_FOREIGN = ("no such table", "no such column", "Could not decode", "malformed JSON")  # of a foreign file
_SENTENCES = {
    sqlite3.SQLITE_FULL: "The disk is full: the ledger {path} cannot grow. Free some space, then try again.",
    sqlite3.SQLITE_BUSY: "The ledger {path} is locked by another program: stop that program first.",
}


def ledger_path(work: Path) -> Path:
    return work / OWN_DIRECTORY / "ledger.sqlite"


def backup_path(work: Path) -> Path:
    return work / OWN_DIRECTORY / "ledger.backup"


@contextmanager
def ledger_errors(path: Path, sentences: Mapping[int, str] = _SENTENCES) -> Iterator[None]:
    """Turn SQLite's errors into `DestinationError`; `sentences` are indexed by primary result code."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = _code(error)
        is_foreign = code in {0, sqlite3.SQLITE_ERROR} and str(error).startswith(_FOREIGN)
        if sentences is _SENTENCES and (code in _DAMAGES or is_foreign):
            raise DestinationError(damage_message(path, error)) from error
        general = "{path} cannot be used ({text}): check its permissions, the disk, space and `ulimit`."
        sentence = sentences.get(code, general)
        raise DestinationError(sentence.format(path=path, text=error)) from error


def damage_message(path: Path, what: object) -> str:
    remove = f"rm -f {shlex.quote(str(path))}*"
    return f"The ledger {path} is damaged ({what}). {remedy(path.parent.parent, remove)}"


def remedy(work: Path, remove: str = "") -> str:
    copy = backup_path(work)
    adopt = "`stacpull mirror SOURCE DEST --adopt` with the same options as before: it keeps files that match"
    if not os.path.exists(copy):  # noqa: PTH110 -- never raises
        first = f"Remove it (`{remove}`), then run" if remove else "Run"
        return f"{first} {adopt}."
    restore = f"cp {shlex.quote(str(copy))} {shlex.quote(str(ledger_path(work)))}"
    steps = f"{remove} && {restore}" if remove else restore
    with_copy = f"There is a copy from an earlier run: run `{steps}`; `status --json` shows the options"
    return f"{with_copy}. Then run {adopt}. If the copy is damaged, too, first remove {copy}."


def is_disk_error(error: BaseException) -> bool:
    """Return True if SQLite could not read, write or sync its files: unsynced data may be lost."""
    for cause in (error, error.__cause__):
        if isinstance(cause, sqlite3.Error) and _code(cause) == sqlite3.SQLITE_IOERR:
            return True
    return False


def _code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF  # the primary code (sqlite.org/rescode.html)


def open_writer(work: Path, *, on_network: bool = False, durable: bool = False) -> Connection:
    """Open or create the ledger of `work` for its only writer, on one thread at a time."""
    path = ledger_path(work)
    reject_irregular(path)
    with ledger_errors(path):
        make_private(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60.0)
        try:
            db.execute("PRAGMA cache_size = -4096")
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a new ledger; see `runs.end`
            wanted = "delete" if on_network else "wal"
            mode = db.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
            is_wal = mode == "wal"  # SQLite silently keeps another mode where WAL fails
            db.execute(f"PRAGMA synchronous = {'NORMAL' if is_wal and not durable else 'FULL'}")
            db.execute("PRAGMA journal_size_limit = 16777216")
            create_tables(db)
        except BaseException:
            db.close()
            raise
    return db


def make_private(path: Path) -> None:
    """Create a missing database, which only its owner may read. The logs inherit this mode."""
    # an existing file is not opened: closing it would release the locks that this process has on it
    with suppress(OSError):  # the file exists, or SQLite will report why it cannot be created
        path.touch(0o600, exist_ok=False)


def skip_adapter_search() -> None:
    """Let all connections of this interpreter bind None, bool and bytes without a search for adapters."""
    sqlite3.register_adapter(type(None), dict[None, None]().get)
    sqlite3.register_adapter(bytes, bytes.__bytes__)
    sqlite3.register_adapter(bool, int)


def reject_irregular(path: Path) -> None:
    """Reject a database or log that is not a regular file: SQLite would wait forever for a pipe."""
    for end in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + end)
        try:
            mode = file.lstat().st_mode
        except OSError:  # missing, or opening it will report the error
            continue
        if not stat.S_ISREG(mode):
            raise DestinationError(f"{file} is not a regular file, so it is not used. Move it away.")


def truncate_wal(db: Connection) -> None:
    """Truncate the WAL: a failed sync may leave a hole in it, and a power loss would lose the rest."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def checkpoint_wal(db: Connection) -> None:
    """Checkpoint the WAL as far as no reader needs it, because closing the ledger reports no error."""
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.OperationalError as error:
        if is_disk_error(error):  # if the disk is only full, the next start continues from the WAL
            raise


def integrity(db: Connection, *, quick: bool) -> str | None:
    """Return the first problem that SQLite finds in the ledger; `quick` does not look at the indexes."""
    check = "quick_check" if quick else "integrity_check"
    problem: str = db.execute(f"PRAGMA {check}(1)").fetchone()[0]
    text = " ".join(problem.removeprefix("*** in database main ***").split())
    return None if text == "ok" else text


def reject_missing_ledger(work: Path) -> None:
    """Reject a directory with mirrored files and a missing or empty ledger: the files would be unknown."""
    if _has_content(ledger_path(work)):
        return
    with suppress(OSError):  # missing, or opening it will report the error
        # an empty ledger alone does not make a mirror: a run may have been killed right at its start
        is_marked = (work / OWN_DIRECTORY / "log.ndjson").is_file() or has_own_catalog(work)
        if is_marked and any(entry.name != OWN_DIRECTORY for entry in work.iterdir()):
            raise DestinationError(f"The ledger of {work} is missing, but its files exist. {remedy(work)}")


def has_own_catalog(work: Path) -> bool:
    path = work / "catalog.json"
    is_short = path.is_file() and path.stat().st_size < 64 << 20  # ours have at most 10,000 links
    return is_short and is_own_catalog(path.read_bytes())


def open_reader(work: Path, bucket: BucketLocation | None = None) -> Connection:
    """Open the ledger of `work` read-only, even while a mirror runs or right after one was killed."""
    path = ledger_path(work)
    reject_irregular(path)
    try:
        has_ledger = path.is_file()
    except OSError as error:
        what = f"The ledger {path} cannot be read ({error.strerror})"
        raise DestinationError(f"{what}: {owner_advice(work, 'check the disk')}.") from error
    reject_missing_ledger(work)
    if not has_ledger:
        text = f"{work} is not a mirror: it has no .stacpull/ledger.sqlite."
        if not work.exists():
            text = f"There is no mirror at {work}: the directory does not exist."
        if bucket is not None:
            text += f" If {bucket.url} is a mirror, `stacpull mirror` fetches its ledger into {work}."
        raise NotAMirrorError(text)
    with ledger_errors(path):
        try:
            return _connect(path, "mode=ro")
        except sqlite3.OperationalError as error:
            has_journal = _has_content(path, "-journal")
            if has_journal and _code(error) == sqlite3.SQLITE_READONLY:  # a run was killed within a commit
                _connect(path, "mode=rw").close()  # SQLite has undone the commit
                return _connect(path, "mode=ro")
            is_in_use = _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}
            if is_in_use or has_journal or _has_content(path, "-wal"):
                raise
            # the disk is read-only or full, so no shared memory can be made
            return _connect(path, "immutable=1")


def _has_content(path: Path, end: str = "") -> bool:
    try:
        return path.with_name(path.name + end).stat().st_size > 0
    except OSError:
        return False


def _connect(path: Path, query: str) -> Connection:
    uri = f"{path.absolute().as_uri()}?{query}"
    wait = 10.0  # seconds, for the writer's checkpoint
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=wait)
    try:
        if check_version(db) == 0:  # there are no tables yet
            raise NotAMirrorError(  # noqa: TRY301 -- the connection is closed
                f"{path.parent.parent} has no mirror yet: its first run ended right at the start. "
                "Run `stacpull mirror` again."
            )
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def backed_up(db: Connection, work: Path, is_stopped: Callable[[], bool]) -> Iterator[None]:
    """Replace `ledger.backup` at the end of the block if a run has changed the ledger in it."""
    with destination_errors(work):
        for part in backup_path(work).parent.glob("ledger.backup.part*"):  # of a copy that was killed
            part.unlink(missing_ok=True)
    changes_before = db.total_changes  # by this connection, which begins each run

    def is_wanted() -> bool:
        is_small = ledger_path(work).stat().st_size <= _COPIED_AFTER_STOP
        return db.total_changes > changes_before and (is_small or not is_stopped())

    try:
        yield
    except BaseException:
        with suppress(StacpullError, sqlite3.Error, OSError):
            if is_wanted():
                _back_up(work)
        raise
    with destination_errors(work):
        if is_wanted():
            _back_up(work)


def _back_up(work: Path) -> None:
    part = backup_path(work).with_name("ledger.backup.part")
    try:
        copy_ledger(work, part)
        with ledger_errors(ledger_path(work)), closing(sqlite3.connect(part)) as copy:
            problem = integrity(copy, quick=True)
        if problem is not None:
            raise DestinationError(damage_message(ledger_path(work), problem))  # noqa: TRY301 -- joins the others
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(backup_path(work))
    except (OSError, DestinationError) as error:
        text = f"{error.strerror}." if isinstance(error, OSError) else str(error)
        raise DestinationError(f"The run is recorded, but its ledger cannot be copied: {text}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def copy_ledger(work: Path, to: Path) -> None:
    """Copy a consistent snapshot of the ledger of `work`, even while a run writes to it."""
    to.unlink(missing_ok=True)
    with closing(open_reader(work)) as db, ledger_errors(ledger_path(work)):
        make_private(to)
        with closing(sqlite3.connect(to)) as copy:
            copy.execute("PRAGMA synchronous = OFF")
            db.backup(copy)
            meta.put(copy, meta.ADOPTING, "1")
            meta.put(copy, meta.BOOT, None)  # another work directory has no boot mark: no sync failed
            copy.commit()
            copy.execute("PRAGMA journal_mode = DELETE")


def scalar(db: Connection, query: str, values: Values = ()) -> int:
    number: int | None = db.execute(query, values).fetchone()[0]
    return number or 0


def exists(db: Connection, query: str, values: Values = ()) -> bool:
    return db.execute(query, values).fetchone() is not None


def column(db: Connection, query: str, values: Values = ()) -> list[Any]:
    return [value for (value,) in db.execute(query, values)]


def named_rows(db: Connection, query: str, values: Values = ()) -> list[sqlite3.Row]:
    cursor = db.execute(query, values)
    cursor.row_factory = sqlite3.Row
    return cursor.fetchall()


IN_LIST = "IN (SELECT value FROM json_each(?))"  # of any number of values: binds a `json_array`


def json_array(values: Iterable[int | str]) -> str:
    return orjson.dumps(list(values)).decode()


def write_rows(db: Connection, statement: str, rows: Sequence[tuple[object, ...]]) -> int:
    """Run a statement with rows of up to 15 values instead of `?` in `VALUES ?`; return how many it wrote."""
    written = 0
    while rows:
        size = min(_ROWS_AT_ONCE, 1 << len(rows).bit_length() - 1)  # of 7 sizes, as SQLite compiles slowly
        chunk, rows = rows[:size], rows[size:]
        columns = list(zip(*chunk, strict=True))
        nothing = (None,) * size  # its column is not bound: to bind None takes longer than most values
        marks = ["NULL" if column == nothing else "?" for column in columns]
        all_marks = ", ".join([f"({', '.join(marks)})"] * size)
        bound = [column for column in columns if column != nothing]
        values = list(chain.from_iterable(zip(*bound, strict=True)))
        written += db.execute(statement.replace("VALUES ?", f"VALUES {all_marks}"), values).rowcount
    return written


@contextmanager
def transaction(db: Connection) -> Iterator[Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise

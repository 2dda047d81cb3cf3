"""Who owns which name in DEST: two assets can never overwrite each other.

Names that are equal but for case or Unicode form would meet on some file systems, so ownership is decided on
the folded path, by an 8-byte hash that is the key of the table `paths`. Where a folded name is taken by
another spelling, the newcomer gets a hash in its name; where the very same name is taken, it is a failure of
the newcomer.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import accumulate

import msgspec

from stacpull.ledger.compact import UNOWNED, true_name
from stacpull.ledger.database import marks, pieces
from stacpull.models import Failure, FailureKind, path_in_dest
from stacpull.planning.names import kept_apart, path_hash

_INSERT = "INSERT INTO paths(hash, asset) VALUES (?, ?)"
_CACHE = 4096
_SPELLINGS = 8


class Claim(msgspec.Struct, frozen=True):
    """A name that was found free (`hash` is its entry in the index), or why there is none."""

    name: str
    hash: int
    failure: Failure | None = None


def claim(db: sqlite3.Connection, row: int, directory: str, name: str) -> Claim:
    """Find the name that asset `row` may have in `directory`; nothing is written."""
    wanted = name
    for _ in range(_SPELLINGS):
        path = path_in_dest(directory, wanted)
        index = path_hash(path)
        owner = db.execute(
            "SELECT a.id, d.path, a.name, a.key FROM paths p JOIN assets a ON a.id = p.asset "
            "JOIN directories d ON d.id = a.directory WHERE p.hash = ?",
            (index,),
        ).fetchone()
        if owner is None or owner[0] == row:
            return Claim(wanted, index)
        if owned_path(*owner[1:]) == path:
            return Claim(wanted, index, _taken(path))
        wanted = kept_apart(wanted, directory)
    return Claim(wanted, index, _taken(path))


def path_of(db: sqlite3.Connection, row: int) -> str | None:
    """Return the path that asset `row` owns, None if it owns none."""
    found = db.execute(
        "SELECT d.path, a.name, a.key FROM assets a JOIN directories d ON d.id = a.directory WHERE a.id = ?",
        (row,),
    ).fetchone()
    return None if found is None else owned_path(*found)


def owned_path(directory: str | None, name: str | None, key: str) -> str | None:
    """Return the path that an asset owns, None if it owns none.

    Args:
        directory: The path of its directory.
        name: Its name as rows keep it (`ledger.compact`).
        key: Its key in the item.
    """
    if directory is None or name is None or name.startswith(UNOWNED):
        return None
    return path_in_dest(directory, true_name(name, directory, key))


def is_owned(db: sqlite3.Connection, path: str) -> bool:
    """Return True if an asset owns a path, relative to DEST."""
    return db.execute("SELECT 1 FROM paths WHERE hash = ?", (path_hash(path),)).fetchone() is not None


def own(db: sqlite3.Connection, row: int, claim: Claim, before: str | None = None) -> None:
    """Let asset `row` own what it claimed, and no longer the path that it owned `before`."""
    if before is not None:
        index = path_hash(before)
        if index == claim.hash:
            return
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (index, row))
    db.execute(_INSERT, (claim.hash, row))


def own_all(db: sqlite3.Connection, claims: Sequence[tuple[int, int]]) -> set[int]:
    """Let assets own paths: pairs of the hash of a path and a row.

    Returns:
        The rows whose path another asset owns: each of them must be claimed by itself.
    """
    in_order = sorted(claims)  # each page of the index is visited once: all do not fit into the page cache
    if not claims or db.executemany(f"{_INSERT} ON CONFLICT DO NOTHING", in_order).rowcount == len(claims):
        return set()
    owners: dict[int, int] = {}
    for some in pieces([index for index, _ in claims]):
        owners.update(db.execute(f"SELECT hash, asset FROM paths WHERE hash IN ({marks(len(some))})", some))
    return {row for index, row in claims if owners[index] != row}


def disown(db: sqlite3.Connection, row: int) -> None:
    """Let asset `row`, which is forgotten, own no path any more."""
    path = path_of(db, row)
    if path is not None:
        db.execute("DELETE FROM paths WHERE hash = ? AND asset = ?", (path_hash(path), row))


def _taken(path: str) -> Failure:
    return Failure(
        kind=FailureKind.NAME,
        message=(
            f"Another asset is stored as {path}: choose a --layout that keeps them apart for `mirror`, then "
            "`retry`."
        ),
    )


class Directories:
    """Directories by id; equal ones but for case or Unicode form are kept apart as names are.

    So is a new one from a file of its name that an asset has or will have: a prefix of an object store may
    have both, one after the other.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._cache: OrderedDict[str, tuple[int, str]] = OrderedDict()

    def forget(self) -> None:
        """Drop what is remembered (after a transaction was rolled back)."""
        self._cache.clear()

    def prepare(self, wanted: Iterable[str], files: Iterable[int | None] = ()) -> None:
        """Look up directories, and create those that are new, with a few statements.

        What needs a closer look (a path that is taken by another spelling or by a file) is left to `get`.

        Args:
            wanted: Their paths.
            files: Hashes of the paths of files that are planned with them.
        """
        unknown = {path_hash(path): path for path in wanted if path not in self._cache}
        taken: set[int] = set()
        for some in pieces(list(unknown)):
            at = marks(len(some))
            for index, *found in self._db.execute(f"{_DIRECTORIES} IN ({at})", some):
                taken.add(index)
                if found[1] == unknown[index]:
                    self._keep(found[1], (found[0], found[1]))
        new = {index: path for index, path in unknown.items() if index not in taken}
        if not new:
            return
        above = {path: set(_upward(path)) for path in new.values()}
        every = list(set().union(*above.values()))
        blocked = set(files).intersection(every)
        for some in pieces(every):
            rows = self._db.execute(f"SELECT hash FROM paths WHERE hash IN ({marks(len(some))})", some)
            blocked.update(row[0] for row in rows)
        free = [(index, path) for index, path in new.items() if not blocked.intersection(above[path])]
        first = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM directories").fetchone()[0]
        rows_of = [(first + number, *one) for number, one in enumerate(free)]
        self._db.executemany("INSERT INTO directories VALUES (?, ?, ?)", rows_of)
        for number, _, path in rows_of:
            self._keep(path, (number, path))

    def _keep(self, path: str, found: tuple[int, str]) -> None:
        self._cache[path] = found
        if len(self._cache) > _CACHE:
            self._cache.popitem(last=False)

    def id_of(self, path: str) -> int:
        """Return the id of directory `path`."""
        return self.get(path)[0]

    def get(self, path: str) -> tuple[int, str]:
        """Return (id, path as it is on disk) of directory `path`, making its entry if need be."""
        found = self._cache.get(path)
        if found is None:
            found = self._find(path)
            self._keep(path, found)
        return found

    def _find(self, path: str) -> tuple[int, str]:
        wanted = path
        while True:
            index = path_hash(wanted)
            row = self._db.execute(f"{_DIRECTORIES} = ?", (index,)).fetchone()
            if row is None:
                file = self._file_above(wanted)
                if file is not None:
                    wanted = _apart(file) + wanted[len(file) :]
                    continue
                cursor = self._db.execute(
                    "INSERT INTO directories(hash, path) VALUES (?, ?)", (index, wanted)
                )
                return cursor.lastrowid or 0, wanted
            if row[2] == wanted:
                return row[1], wanted
            wanted = _apart(wanted)

    def _file_above(self, path: str) -> str | None:
        """Return the beginning of a new directory's path, or all of it, that is the path of an asset."""
        upward = _upward(path)
        taken = f"SELECT hash FROM paths WHERE hash IN ({marks(len(upward))}) LIMIT 1"
        row = self._db.execute(taken, list(upward)).fetchone()
        return None if row is None else upward[row[0]]


_DIRECTORIES = "SELECT hash, id, path FROM directories WHERE hash"


def _upward(path: str) -> dict[int, str]:
    """Return a directory and those above it, by the hashes of their paths."""
    steps = path.split("/")
    return {path_hash(found): found for found in map("/".join, accumulate([step] for step in steps))}


def _apart(directory: str) -> str:
    above, slash, last = directory.rpartition("/")
    return above + slash + kept_apart(last, above)

"""A mirror as it lies there after any end, complete or not, held against the manifest and its own ledger.

What must hold at every moment: a file under a final name is whole and right, and known to the ledger as done
or reserved; an asset that the ledger calls done has its file. The ledger is read as plain SQLite, from a copy
(opening it as a writer would recover its log).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.trees import files_in, metadata_files

from stacpull.replicas import ExpectedFile

_RESERVED, _DONE = 1, 2
_ROWS = (
    "SELECT a.state, d.path, a.name FROM assets a JOIN directories d ON d.id = a.directory "
    "WHERE a.state IN (1, 2)"
)


@dataclass(frozen=True)
class KnownFiles:
    """What the ledger says of paths relative to DEST."""

    done: frozenset[str] = frozenset()
    reserved: frozenset[str] = frozenset()


def known_files(dest: Path) -> KnownFiles:
    """Read the ledger, as far as there is one; nothing in it is changed."""
    own = dest / ".stacpull"
    if not (own / "ledger.sqlite").is_file():
        return KnownFiles()
    with tempfile.TemporaryDirectory() as copies:
        for name in ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-journal"):
            if (own / name).is_file():
                shutil.copyfile(own / name, Path(copies, name))
        with closing(sqlite3.connect(Path(copies, "ledger.sqlite"))) as db:
            try:
                rows = db.execute(_ROWS).fetchall()
            except sqlite3.OperationalError:  # killed before its tables were made
                return KnownFiles()
    paths = [(state, f"{directory}/{name}" if directory else name) for state, directory, name in rows]
    return KnownFiles(
        done=frozenset(path for state, path in paths if state == _DONE),
        reserved=frozenset(path for state, path in paths if state == _RESERVED),
    )


@dataclass
class AtRest:
    """Looks at one mirror again and again; what has not changed since is not read again."""

    dest: Path
    expected: Mapping[str, ExpectedFile]
    most_reserved: int = 0
    adopting: bool = False
    """True where all the files lay there before, a user's: none may be missing, recorded or not."""
    _seen: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def complaints(self) -> Iterator[str]:
        """What is wrong now, a sentence each."""
        known, found = known_files(self.dest), files_in(self.dest)
        self.most_reserved = max(self.most_reserved, len(known.reserved))
        self._metadata = metadata_files(self.expected)
        for name in sorted(known.done - found.keys()):
            yield f"{name} is done, and not there"
        for name in sorted(self.expected.keys() - found.keys() if self.adopting else ()):
            yield f"{name} was the user's, and is gone"
        for name, path in sorted(found.items()):
            yield from self._of_file(name, path, known)

    def _of_file(self, name: str, path: Path, known: KnownFiles) -> Iterator[str]:
        stat = path.lstat()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if name in self.expected:
            if self._seen.get(name) != stamp and not _is_right(path, self.expected[name]):
                yield f"{name} is not what it should be ({stat.st_size} bytes)"
            if not self.adopting and name not in known.done | known.reserved:
                yield f"{name} is there, and the ledger knows nothing of it"
        elif name not in self._metadata:
            yield f"{name} belongs to nothing"
        elif self._seen.get(name) != stamp and not _is_document(path):
            yield f"{name} is no JSON document ({stat.st_size} bytes)"
        self._seen[name] = stamp


def _is_right(path: Path, file: ExpectedFile) -> bool:
    data = path.read_bytes()
    return len(data) == file.size and hashlib.sha256(data).hexdigest() == file.sha256


def _is_document(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False

"""A mirror after any end, complete or not, compared with the manifest and its own ledger.

What must hold at every moment: a file under a final name is whole and right, and known to the ledger as done
or reserved; a done asset has its file, with the content that the ledger records. Files from before a run
(`Before`) may still exist. The ledger is read as plain SQLite, from a copy (opening it as a writer would
recover its log).
"""

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.acceptance.command import STORE_SECONDS, wait_until
from tests.acceptance.trees import digest, digests_in, files_in, metadata_files

from stacpull.store.lock import is_held
from stacpull_replicas import ExpectedFile

_RESERVED, _DONE = 1, 2
_ROWS = "SELECT state, path, digest, generation FROM placed_assets WHERE state IN (1, 2)"


class Row(NamedTuple):
    sha256: str | None
    generation: int


@dataclass(frozen=True)
class KnownFiles:
    done: Mapping[str, Row] = field(default_factory=dict)
    reserved: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Before:
    """What lay there when a run began that may replace files, but never take one away."""

    digests: Mapping[str, str] = field(default_factory=dict)
    known: KnownFiles = field(default_factory=KnownFiles)


def await_rest(dest: Path) -> None:
    """Wait until no process works on DEST: after a kill, the store process publishes what was received."""
    assert wait_until(lambda: not is_held(dest), STORE_SECONDS), f"{dest} is held long after the kill"


def before(dest: Path) -> Before:
    await_rest(dest)
    return Before(digests_in(dest), known_files(dest))


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
            except sqlite3.DatabaseError:  # killed before its tables were made, or damaged on purpose
                return KnownFiles()
    return KnownFiles(
        done={path: Row(sha and sha.hex(), number) for state, path, sha, number in rows if state == _DONE},
        reserved=frozenset(path for state, path, *_ in rows if state == _RESERVED),
    )


@dataclass
class InspectedMirror:
    """Looks at one mirror again and again; what has not changed since is not read again."""

    dest: Path
    expected: Mapping[str, ExpectedFile]
    before: Before = field(default_factory=Before)
    max_reserved: int = 0
    _seen: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def complaints(self) -> Iterator[str]:
        """What is wrong now, a sentence each."""
        await_rest(self.dest)
        known, found = known_files(self.dest), files_in(self.dest)
        self.max_reserved = max(self.max_reserved, len(known.reserved))
        self._metadata = metadata_files(self.expected)
        for name, row in sorted(known.done.items()):
            was_missing = name not in self.before.digests and row == self.before.known.done.get(name)
            if name not in found and not was_missing:
                yield f"{name} is done, and not there"
        for name in sorted(self.before.digests.keys() - found.keys()):
            yield f"{name} lay there before, and is gone"
        for name, path in sorted(found.items()):
            yield from self._of_file(name, path, known)

    def _of_file(self, name: str, path: Path, known: KnownFiles) -> Iterator[str]:
        stat = path.lstat()
        stamp = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if name in self.expected:
            row = known.done.get(name)
            if self._seen.get(name) != stamp and not self._is_right(name, path, row):
                yield f"{name} is not what it should be ({stat.st_size} bytes)"
            if row is None and name not in known.reserved and name not in self.before.digests:
                yield f"{name} is there, and the ledger knows nothing of it"
        elif name not in self._metadata:
            yield f"{name} belongs to nothing"
        elif self._seen.get(name) != stamp and not self._is_right_json(name, path):
            yield f"{name} is not a JSON document ({stat.st_size} bytes)"
        self._seen[name] = stamp

    def _is_right(self, name: str, path: Path, row: Row | None) -> bool:
        """An old content is right as well, if nothing newer was recorded."""
        found = digest(path)
        if self.before.digests.get(name) == found and row in {None, self.before.known.done.get(name)}:
            return True
        return found == self.expected[name].sha256 and (
            row is None or row.sha256 is None or row.sha256 == found
        )

    def _is_right_json(self, name: str, path: Path) -> bool:
        try:
            return isinstance(json.loads(path.read_bytes()), dict)
        except ValueError:
            return self.before.digests.get(name) == digest(path)

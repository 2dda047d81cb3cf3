"""A store in memory, for tests that need neither a disk nor its errors."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from stacpull.models import Checksum, Failure, FailureKind
from stacpull.store.inspection import LONGEST_DOCUMENT, digest_by
from stacpull.store.protocol import Entry, FileState, IsStopped, StagedFile, never
from stacpull.store.staging import StagedParts


@dataclass
class Stored:
    """A file or a part."""

    identity: int
    data: bytes
    modified: float = field(default_factory=time.time)


@dataclass
class MemoryDisk:
    """What a store leaves to the next one."""

    files: dict[str, Stored] = field(default_factory=dict)


class MemoryStore:
    """A `Store` whose files are in a `MemoryDisk`. Ledger, lock and log are in `work`, as always."""

    def __init__(self, work: Path, disk: MemoryDisk | None = None) -> None:
        self.staged = StagedParts(work, identity_of=lambda found: found.st_mtime_ns ^ found.st_ino << 1)
        self.name = "memory"
        self.covers_ledger = self.is_local = True
        self.warning: str | None = None
        self.disk = disk or MemoryDisk()
        self.synced: list[list[str]] = []

    def close(self) -> None:
        self.staged.close()

    # --- reading -----------------------------------------------------------------------------------------

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        if path not in self.disk.files:
            return FileState(obstacle=self._obstacle(path))
        return _look(self.disk.files[path].data, algorithm, is_stopped)

    def _obstacle(self, path: str) -> str | None:
        segments = path.split("/")
        for count in range(1, len(segments)):
            if (above := "/".join(segments[:count])) in self.disk.files:
                return f"a file at {above}"
        return "a directory" if self._is_directory(path) else None

    def has(self, path: str) -> bool:
        return path in self.disk.files or self._is_directory(path)

    def read(self, path: str) -> bytes | None:
        found = self.disk.files.get(path)
        return None if found is None or len(found.data) > LONGEST_DOCUMENT else found.data

    def open(self, path: str) -> BinaryIO:
        if path not in self.disk.files:
            raise FileNotFoundError(path)
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- the caller closes it; it can be synced
        file.write(self.disk.files[path].data)
        file.seek(0)
        return file

    def modified(self, path: str) -> float | None:
        found = self.disk.files.get(path)
        return None if found is None else found.modified

    def names(self, directory: str) -> list[str]:
        prefix = f"{directory}/" if directory else ""
        found = [path.removeprefix(prefix) for path in self.disk.files if path.startswith(prefix)]
        if prefix and not found:
            raise FileNotFoundError(directory)
        return sorted({path.split("/")[0] for path in found})

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        for path in sorted(self.disk.files):
            if path.split("/")[0] not in skipped:
                yield [Entry(path, is_file=True)]

    def _is_directory(self, path: str) -> bool:
        return any(one.startswith(f"{path}/") for one in self.disk.files)

    # --- publishing --------------------------------------------------------------------------------------

    def sync(self, parts: Sequence[str]) -> None:
        self.synced.append(list(parts))

    def place(self, files: Sequence[StagedFile]) -> list[Failure | None]:
        return [self._place(one.part, one.directory, one.name, replace=one.may_replace) for one in files]

    def _place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        path = f"{directory}/{name}" if directory else name
        if name in {"", ".", ".."} or "/" in name or "\0" in path or _is_odd(directory):
            return Failure(FailureKind.NAME, f"{path!r} cannot be written: it is not a name.")
        if (obstacle := self._obstacle(path)) is not None and " at " in obstacle:
            return Failure(FailureKind.NAME, f"{path!r} cannot be written: a link or file is in its path.")
        if self._is_directory(path) or (path in self.disk.files and not replace):
            return Failure(FailureKind.EXISTS, f"{path} exists and is not part of this mirror.")
        identity, _ = self.staged.part_identity(part) or (0, 0)
        self.disk.files[path] = Stored(identity, self._part(part))
        self.staged.drop_part(part)
        return None

    def _part(self, name: str) -> bytes:
        with self.staged.open_part(name) as file:
            return file.read()

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        found = self.disk.files.get(f"{directory}/{name}" if directory else name)
        return None if found is None else (found.identity, len(found.data))

    def remove(self, directory: str, name: str) -> None:
        self.disk.files.pop(f"{directory}/{name}" if directory else name, None)


def _is_odd(directory: str) -> bool:
    return bool(directory) and not {"", ".", ".."}.isdisjoint(directory.split("/"))


def _look(data: bytes, algorithm: str | None, is_stopped: Callable[[], bool]) -> FileState:
    if algorithm is None:
        return FileState(len(data))
    hashed = digest_by(io.BytesIO(data).read, Checksum(algorithm, b""), is_stopped)
    return FileState(len(data)) if hashed is None else FileState(*hashed)

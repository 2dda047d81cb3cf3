"""Parts of small files that stay in memory until they are published, for a store on the network.

After a kill, these parts are lost and their assets are fetched again. Small bodies that another process of
the run has received come to the store process as messages, and are in memory there. Other parts are files on
the local disk, such as clipped rasters, or objects (`store.staged_objects`).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stacpull.digests import digest_of
from stacpull.models import Checksum, CopySource
from stacpull.store.inspection import digest_by
from stacpull.store.part_files import UNFINISHED
from stacpull.store.protocol import LONGEST_HELD, FileState, IsStopped, PartEntry, never
from stacpull.store.staging import StagedParts

_MOST_HELD = 64 << 20
"""Bytes of all parts. When they have more, the store has no room."""
_LITTLE = 64
"""A body stays in its message without a copy if the rest of the message is at most 1/64 of the body."""


class PendingCopy(NamedTuple):
    """A part whose bytes are another object of the service of DEST, which will copy it."""

    source: CopySource
    size: int
    digest: bytes | None
    """The digest that it must have; None if it is not stated."""
    algorithm: str | None
    """The algorithm of the digest to record."""
    is_staged: bool = False
    """True if the mirror uploaded the source object; its digest is known, and it is removed afterwards."""


class PartWithoutFile(NamedTuple):
    """A part that is in memory, or that the service of DEST will copy."""

    identity: int
    size: int
    content: bytes | memoryview | PendingCopy

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return 0 if isinstance(self.content, PendingCopy) else len(self.content)


class BufferedParts(StagedParts):
    """The parts of one mirror (`Store`): in memory if they are small and were written at once, else in files.

    Several threads may write parts at once.
    """

    def __init__(self, work: Path, *, in_memory: bool) -> None:
        """Open the work directory. It and `.stacpull/parts` are created if they are missing.

        Args:
            work: The directory of the ledger.
            in_memory: True in the publishing process. What another process writes as a part must be a file,
                which the publishing process reads.

        Raises:
            DestinationError: It cannot be created or written.
        """
        super().__init__(work)
        self._in_memory = in_memory
        self._held: dict[str, PartWithoutFile] = {}
        self._size = 0
        self._counting = threading.Lock()
        self._identities = count(new_identity())

    @property
    def has_room(self) -> bool:
        return self._size < _MOST_HELD

    def write_part(self, name: str, body: bytes | memoryview) -> int:
        self._drop_here(name)  # there is no object with that name: recovery has removed it
        if not self._in_memory or len(body) > LONGEST_HELD:
            return super().write_part(name, body)
        is_kept = isinstance(body, bytes) or _is_most(body)
        return self._hold(name, len(body), body if is_kept else bytes(body))

    def add_copy(self, name: str, copy: PendingCopy) -> int:
        self.drop_part(name)
        return self._hold(name, copy.size, copy)

    def _hold(self, name: str, size: int, content: bytes | memoryview | PendingCopy) -> int:
        part = self._held[name] = PartWithoutFile(next(self._identities), size, content)
        self._count(part.weight)
        return part.identity

    @contextmanager
    def new_part(self, name: str) -> Iterator[BinaryIO]:
        self.drop_part(name)
        with super().new_part(name) as file:
            yield file

    def part_without_file(self, name: str) -> PartWithoutFile | None:
        """Return a part that is not a file; None if it is a file, or does not exist."""
        return self._held.get(name)

    def open_copy(self, copy: PendingCopy) -> BinaryIO:
        """Open the source of a part that the service will copy, for a store that has such parts."""
        raise NotImplementedError(f"{copy.source.url} cannot be read")

    def rename_part(self, old: str, new: str) -> int:
        if old not in self._held:
            return super().rename_part(old, new)
        self.drop_part(new)
        held = self._held[new] = self._held.pop(old)
        return held.identity

    def drop_part(self, name: str) -> None:
        self._drop_here(name)

    def _drop_here(self, name: str) -> None:
        """Remove a part that is in memory or a file, if it exists."""
        held = self._held.pop(name, None)
        if held is None:
            super().drop_part(name)
        else:
            self._count(-held.weight)

    def _count(self, size: int) -> None:
        with self._counting:
            self._size += size

    def list_parts(self) -> list[PartEntry]:
        held = [PartEntry(name, one.identity, one.size) for name, one in list(self._held.items())]
        return sorted(held + super().list_parts())

    def state_of_part(
        self, name: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        found = self.part_without_file(name)
        if found is None:
            return super().state_of_part(name, algorithm=algorithm, is_stopped=is_stopped)
        content = found.content
        if algorithm is None:
            return FileState(found.size)
        if not isinstance(content, PendingCopy):
            return FileState(found.size, digest_of(Checksum(algorithm, b""), content))
        if content.is_staged and content.algorithm == algorithm:
            return FileState(found.size, content.digest)
        with self.open_copy(content) as file:
            hashed = digest_by(file.read, Checksum(algorithm, b""), is_stopped)
        return FileState(found.size) if hashed is None else FileState(*hashed)

    def part_identity(self, name: str) -> tuple[int, int] | None:
        found = self.part_without_file(name)
        return super().part_identity(name) if found is None else (found.identity, found.size)

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """Parts in memory have no description, so they cannot be resumed."""
        for name in [part for part in self._held if Path(part).suffix in UNFINISHED]:
            self.drop_part(name)
        super().sweep_parts(keep)

    def open_part(self, name: str) -> BinaryIO:
        found = self.part_without_file(name)
        if found is None:
            return super().open_part(name)
        content = found.content
        return self.open_copy(content) if isinstance(content, PendingCopy) else io.BytesIO(content)


def _is_most(body: memoryview) -> bool:
    """Return True if a body is nearly all of the message that it came in: it stays in memory with it."""
    message = body.obj
    return isinstance(message, bytes) and (len(message) - len(body)) * _LITTLE <= len(body)


def new_identity() -> int:
    """Return a random identity for a part, so that two runs do not use the same one."""
    return int.from_bytes(os.urandom(7), "big")

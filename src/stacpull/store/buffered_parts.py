"""Parts of small files that stay in memory until they are published, for a store on the network.

After a kill, these parts are lost and their assets are fetched again. Longer files are staged on the local
disk, as is everything that another process of the run has received.
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
from stacpull.store.part_files import UNFINISHED
from stacpull.store.protocol import LONGEST_HELD, Look, PartEntry
from stacpull.store.staging import StagedParts

_MOST_HELD = 64 << 20
"""Bytes of all parts. When they have more, the store has no room."""


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


class _BufferedPart(NamedTuple):
    identity: int
    size: int
    content: bytes | PendingCopy

    @property
    def weight(self) -> int:
        """Bytes in memory."""
        return len(self.content) if isinstance(self.content, bytes) else 0


class BufferedParts(StagedParts):
    """The parts of one mirror: in memory if they were written at once, else in files.

    Several threads may write parts at once.
    """

    def __init__(self, work: Path, own_parts: str = "", *, in_memory: bool) -> None:
        """Open the work directory. It and `.stacpull/parts` are created if they are missing.

        Args:
            work: The directory of the ledger.
            own_parts: The directory of this worker among the parts (`store.own_parts`).
            in_memory: True in the publishing process. Parts of other processes must be files that it can
                read.

        Raises:
            DestinationError: It cannot be created or written.
        """
        super().__init__(work, own_parts)
        self._in_memory = in_memory
        self._held: dict[str, _BufferedPart] = {}
        self._size = 0
        self._counting = threading.Lock()
        self._identities = count(new_identity())

    @property
    def has_room(self) -> bool:
        """See `Store.has_room`."""
        return self._size < _MOST_HELD

    def write_part(self, name: str, body: bytes | memoryview) -> int:
        """See `Store.write_part`."""
        BufferedParts.drop_part(self, name)  # there is no object with that name: recovery has removed it
        if not self._in_memory or len(body) > LONGEST_HELD:
            return super().write_part(name, body)
        return self._hold(name, len(body), bytes(body))

    def add_copy(self, name: str, copy: PendingCopy) -> int:
        """Add a part that the service will copy from an object. It replaces a part with the same name.

        Returns:
            The identity of the part.
        """
        self.drop_part(name)
        return self._hold(name, copy.size, copy)

    def _hold(self, name: str, size: int, content: bytes | PendingCopy) -> int:
        part = self._held[name] = _BufferedPart(next(self._identities), size, content)
        self._count(part.weight)
        return part.identity

    @contextmanager
    def new_part(self, name: str) -> Iterator[BinaryIO]:
        """See `Store.new_part`."""
        self.drop_part(name)
        with super().new_part(name) as file:
            yield file

    def held(self, name: str) -> bytes | PendingCopy | None:
        """Return the bytes of a part, or the source to copy it from; None if it is not in memory."""
        part = self._held.get(name)
        return None if part is None else part.content

    def rename_part(self, old: str, new: str) -> int:
        """See `Store.rename_part`."""
        if old not in self._held:
            return super().rename_part(old, new)
        self.drop_part(new)
        held = self._held[new] = self._held.pop(old)
        return held.identity

    def drop_part(self, name: str) -> None:
        """See `Store.drop_part`."""
        held = self._held.pop(name, None)
        if held is None:
            super().drop_part(name)
        else:
            self._count(-held.weight)

    def _count(self, size: int) -> None:
        with self._counting:
            self._size += size

    def list_parts(self) -> list[PartEntry]:
        """See `Store.list_parts`."""
        held = [PartEntry(name, one.identity, one.size) for name, one in list(self._held.items())]
        return sorted(held + super().list_parts())

    def look_at_part(
        self,
        name: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """See `Store.look_at_part`."""
        body = self.held(name)
        if not isinstance(body, bytes):
            return super().look_at_part(name, hashed=hashed, algorithm=algorithm, is_stopped=is_stopped)
        return Look(len(body), digest_of(Checksum(algorithm, b""), body) if hashed else None)

    def part_identity(self, name: str) -> tuple[int, int] | None:
        """See `Store.part_identity`."""
        held = self._held.get(name)
        return super().part_identity(name) if held is None else (held.identity, held.size)

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """See `Store.sweep_parts`: parts in memory have no description, so they cannot be resumed."""
        for name in [one for one in self._held if Path(one).suffix in UNFINISHED]:
            self.drop_part(name)
        super().sweep_parts(keep)

    def open_part(self, name: str) -> BinaryIO:
        """See `Store.open_part`."""
        body = self.held(name)
        return io.BytesIO(body) if isinstance(body, bytes) else super().open_part(name)


def new_identity() -> int:
    """Return a random identity for a part, so that two runs do not use the same one."""
    return int.from_bytes(os.urandom(7), "big")

"""The interface between transfers and part files.

A part belongs to one asset row in one generation: a refresh of an asset makes a new generation, so bytes of
an old version are never continued with those of a new one. A part states the hash of its URL (`ResumePoint`),
because the href of an asset may change within a generation. A part is unfinished until `PartWriter.finish`.
Until then, a reader of the mirror never sees it.

`store.parts.FileParts` implements the interface on disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stacpull.digests import Hasher
from stacpull.models import PieceBuffer, ResumePoint, Validator
from stacpull.spans import Spans

PlacedBytes = tuple[int, bytes]
"""The offset in the file, and the bytes."""


class PartWriter(Protocol):
    """One part file, open for writing. Exactly one call of `finish`, `park` or `discard` ends it."""

    @property
    def size(self) -> int:
        """Number of bytes in the part, including those of earlier attempts and those after a gap."""

    @property
    def have(self) -> Spans:
        """The ranges of bytes in the part."""

    @property
    def hashed(self) -> int:
        """Number of bytes, from the start, that are hashed."""

    async def hash_with(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        """Hash the bytes of the part with `hashers`, and from now on all written bytes, in order.

        Returns hashers with the same names: those given, or those of an earlier attempt that have hashed all
        bytes so far.

        Hashing is done off the loop, together with the write. Bytes after a gap are hashed some time after
        the gap is closed: `caught_up` waits for that.

        Raises:
            DestinationError: the part cannot be read.
        """

    async def caught_up(self) -> None:
        """Wait until all bytes before the first gap are hashed. Digests are not valid before that.

        Raises:
            DestinationError: what is there cannot be read.
        """

    async def put(self, pieces: Sequence[PlacedBytes]) -> None:
        """Write each piece at its offset. A piece after the end leaves a gap, which does not count as size.

        Raises:
            TooLongError: The store cannot keep a file of this size.
            DestinationError: the disk is full, read-only or broken.
        """

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> str | PieceBuffer:
        """Close the part, which has no gaps, as complete and checked. The publisher takes it from here.

        File name, ETag and `unproven` (nothing proved its length) are stored with the part: the next start
        can publish the part without a request.

        Returns:
            The name of the complete part, or the part itself if it is in memory only.

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """

    async def park(self) -> None:
        """Close the part and keep it, to be resumed later."""

    async def discard(self) -> None:
        """Close the part and remove it."""


class Parts(Protocol):
    """All part files of a mirror."""

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        """Return the state of the part up to its first gap, or None if it cannot be resumed."""

    def has_no_part(self, row: int, generation: int) -> bool:
        """Return True if there are no bytes of the part."""

    async def create(
        self,
        row: int,
        generation: int,
        validator: Validator,
        total: int | None,
        origin: int | None = None,
    ) -> PartWriter:
        """Start an empty part; the bytes of an earlier attempt are deleted.

        `total` is the final size in bytes, if known; `origin` is the hash of the URL (`redact.href_hash`).

        Raises:
            TooLongError: The store cannot keep so many bytes.
            DestinationError: the part cannot be created.
        """

    async def resume(self, row: int, generation: int) -> PartWriter:
        """Open the part that `point` describes, to resume it.

        Raises:
            DestinationError: the part cannot be opened.
        """

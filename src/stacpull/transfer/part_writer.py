"""The interface between transfers and part files.

A part belongs to one asset row in one generation (a refresh of an asset makes a new generation, so bytes of
an old version are never continued with those of a new one). It is unfinished until `PartWriter.finish`, and
whatever happens before that, a reader of the mirror never sees it.

`store.parts.PartStore` is the implementation on disk, `store.streamed_parts.StreamedParts` that for a bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from stacpull.digests import Hasher
from stacpull.models import FinishedPart, ResumePoint, Validator
from stacpull.spans import Spans

Piece = tuple[int, bytes]
"""Bytes, and the place of the first one in the file."""


class PartWriter(Protocol):
    """One part file, open for writing. Exactly one of `finish`, `park`, `discard` ends it."""

    @property
    def size(self) -> int:
        """Bytes in the part, wherever they are, those of earlier attempts included."""
        ...

    @property
    def have(self) -> Spans:
        """Which bytes are in the part."""
        ...

    @property
    def hashed(self) -> int:
        """Bytes, from the first one on, that the hashers have taken in."""
        ...

    async def feed(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        """Give `hashers` the bytes that are there, and from now on all that is written, in order.

        Returned are the hashers that do this, by the same names: those of an earlier attempt, where they have
        taken in everything.

        The hashing is done off the loop, in the hop of the write. What was behind a gap is hashed some time
        after the gap has closed: `caught_up` waits for that. `finish` reports the one named `sha256`.

        Raises:
            DestinationError: what is there cannot be read.
        """
        ...

    async def caught_up(self) -> None:
        """Return when all that is there before the first gap is hashed. A digest is of nothing else before.

        Raises:
            DestinationError: what is there cannot be read.
        """
        ...

    async def write(self, chunk: bytes) -> None:
        """Append `chunk` to a part without gaps.

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """
        ...

    async def put(self, pieces: Sequence[Piece]) -> None:
        """Write pieces, each at its place; one behind the end leaves a gap, which does not count as size.

        Raises:
            TooLongError: The store cannot keep so many bytes.
            DestinationError: the disk is full, read-only or broken.
        """
        ...

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> FinishedPart:
        """Close the part, which has no gaps, as whole and checked; it now waits for the publisher.

        File name and ETag are kept with it, and whether its length is `unproven`: what a next start needs to
        publish it without a request.

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """
        ...

    async def park(self) -> None:
        """Close the part and keep it, to be resumed later."""
        ...

    async def discard(self) -> None:
        """Close the part and remove it."""
        ...


class Parts(Protocol):
    """All part files of a mirror."""

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        """Return what is there of the part before its first gap, or None if nothing can be continued."""
        ...

    async def load(self) -> None:
        """Get ready to be asked by `is_fresh`."""
        ...

    def is_fresh(self, row: int, generation: int) -> bool:
        """Return True if nothing is there of the part."""
        ...

    async def create(self, row: int, generation: int, validator: Validator, total: int | None) -> PartWriter:
        """Start the part afresh; what an earlier attempt left is gone.

        `total` is the size in bytes that the whole will have, if known.

        Raises:
            TooLongError: The store cannot keep so many bytes.
            DestinationError: the part cannot be created.
        """
        ...

    async def resume(self, row: int, generation: int) -> PartWriter:
        """Open the part that `point` describes, to continue it.

        Raises:
            DestinationError: the part cannot be opened.
        """
        ...

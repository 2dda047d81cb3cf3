"""Part files in memory: the fake of `store.parts.FileParts`, with the rules of the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stacpull.digests import Hasher
from stacpull.models import ResumePoint, Validator
from stacpull.spans import Span, Spans, beginning, joined, length

Pair = tuple[int, int]


@dataclass
class MemoryPart:
    """A part, open or parked."""

    parts: MemoryParts
    pair: Pair
    validator: Validator
    total: int | None
    origin: int | None = None
    data: bytearray = field(default_factory=bytearray)
    hashers: Mapping[str, Hasher] = field(default_factory=dict)

    have: Spans = ()
    hashed: int = 0

    @property
    def size(self) -> int:
        return length(self.have)

    async def hash_with(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        self.hashers, self.hashed = hashers, 0
        self._hash()
        return hashers

    async def caught_up(self) -> None:
        self._hash()

    async def put(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        for at, chunk in pieces:
            self.data.extend(bytes(max(0, at - len(self.data))))
            self.data[at : at + len(chunk)] = chunk
            self.have = joined((*self.have, Span(at, at + len(chunk))))
        self._hash()
        self.parts.grown.set()

    def _hash(self) -> None:
        end = beginning(self.have)
        for hasher in self.hashers.values():
            hasher.update(bytes(self.data[self.hashed : end]))
        if self.hashers:
            self.hashed = end

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> str:
        assert self.size == beginning(self.have) == len(self.data), "a part with gaps is not whole"
        del self.parts.open[self.pair]
        self.parts.finished[self.pair] = bytes(self.data)
        return f"{self.pair[0]}.{self.pair[1]}.{self.size}{'~' if unproven else ''}.whole"

    async def park(self) -> None:
        del self.parts.open[self.pair]
        if self.validator.resumable and beginning(self.have):
            self.parts.parked[self.pair] = self

    async def discard(self) -> None:
        del self.parts.open[self.pair]


@dataclass
class MemoryParts:
    """All parts: those being written, parked ones and complete ones."""

    open: dict[Pair, MemoryPart] = field(default_factory=dict)
    parked: dict[Pair, MemoryPart] = field(default_factory=dict)
    finished: dict[Pair, bytes] = field(default_factory=dict)
    grown: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the first chunk has been written."""
    origin: int | None = None
    """The hash of the URL that `park` records."""

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        part = self.parked.get((row, generation))
        if part is None:
            return None
        return ResumePoint(beginning(part.have), part.validator, part.total, part.origin)

    def has_no_part(self, row: int, generation: int) -> bool:
        return (row, generation) not in self.parked

    async def create(
        self,
        row: int,
        generation: int,
        validator: Validator,
        total: int | None,
        origin: int | None = None,
    ) -> MemoryPart:
        assert (row, generation) not in self.open, "a part was left open"
        self.parked.pop((row, generation), None)
        part = self.open[row, generation] = MemoryPart(self, (row, generation), validator, total, origin)
        return part

    async def resume(self, row: int, generation: int) -> MemoryPart:
        part = self.open[row, generation] = self.parked.pop((row, generation))
        return part

    def park(self, row: int, data: bytes, validator: Validator, total: int | None) -> None:
        """Put a part there as an earlier attempt left it."""
        have = (Span(0, len(data)),) if data else ()
        part = MemoryPart(self, (row, 1), validator, total, self.origin, bytearray(data), have=have)
        self.parked[row, 1] = part

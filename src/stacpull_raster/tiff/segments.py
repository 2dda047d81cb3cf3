"""The known bytes of a file, and the bytes that are missing.

A header is read with range requests, so only pieces of the file are known. `Segments` holds them, in whatever
order they arrive. The parser takes pieces through `Reader`, which continues past a missing piece as far as it
can. Then it reports with `Needs` which bytes to fetch, so that one request brings as much as possible.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class TiffError(ValueError):
    """The file is not a TIFF, or contradicts itself; the message says what is wrong and where.

    It concerns one file (a row of the table), never the run, so it is not in the tree of `errors`.
    """


class Needs(NamedTuple):
    """The bytes to fetch before parsing again, half-open: `Range: bytes=start-(stop-1)`."""

    start: int
    stop: int


class Segments:
    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self._starts: list[int] = []
        self._pieces: list[bytes] = []

    def add(self, start: int, data: bytes) -> None:
        """Add the bytes at `start`; bytes that are already known are not replaced."""
        if start < 0 or (self.total is not None and start + len(data) > self.total):
            raise ValueError(f"bytes {start}-{start + len(data)} are not in a file of {self.total}")
        for gap_start, gap_stop in self._gaps(start, start + len(data)):
            piece, index = data[gap_start - start : gap_stop - start], bisect_right(self._starts, gap_start)
            if index < len(self._starts) and self._starts[index] == gap_stop:
                piece += self._pieces.pop(index)
                del self._starts[index]
            if index and self._starts[index - 1] + len(self._pieces[index - 1]) == gap_start:
                self._pieces[index - 1] += piece
            else:
                self._starts.insert(index, gap_start)
                self._pieces.insert(index, piece)

    def read(self, start: int, stop: int) -> bytes | None:
        """Return the bytes `start` to `stop` (half-open), None if not all of them are known."""
        index = bisect_right(self._starts, start) - 1
        if index < 0:
            return None
        piece, begin = self._pieces[index], self._starts[index]
        return piece[start - begin : stop - begin] if stop - begin <= len(piece) else None

    def missing(self, start: int, stop: int) -> Needs | None:
        """Return the range from the first to the last unknown byte of `start` to `stop`."""
        gaps = self._gaps(start, stop)
        return Needs(gaps[0][0], gaps[-1][1]) if gaps else None

    def _gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        gaps = []
        for begin, piece in zip(self._starts, self._pieces, strict=True):
            if begin >= stop:
                break
            if start < begin:
                gaps.append((start, begin))
            start = max(start, begin + len(piece))
        return [*gaps, (start, stop)] if start < stop else gaps


_NEAR = 4096
"""Pieces closer together than this are one request: a round trip costs more than 4 KiB."""
_REST = 65_536
"""If a directory is this close to the end of the file, request the rest: most likely it is its values."""

_FARTHEST = 2**63 - 1
"""No file is larger: file systems and HTTP ranges have signed offsets."""


class Reader:
    def __init__(self, segments: Segments, max_bytes: int) -> None:
        self.segments = segments
        self.stop = 0
        self._max_bytes = max_bytes
        self._left = max_bytes
        self._missing: list[Needs] = []

    def read(self, start: int, size: int, what: str, *, ahead: int = 0, rest: bool = False) -> bytes | None:
        """Return a piece, or None and record it as missing."""
        stop, total = start + size, self.segments.total
        if stop > (_FARTHEST if total is None else total):
            end = "any file" if total is None else f"the file ({total} bytes)"
            raise TiffError(f"{what} at byte {start} reaches past the end of {end}")
        self._left -= size
        if self._left < 0:
            raise TiffError(f"{what} makes the header larger than {self._max_bytes} bytes")
        data = self.segments.read(start, stop) if size else b""
        if data is None:
            reach = stop + ahead
            if total is not None:  # never past a known end of the file
                reach = total if rest and total - start <= _REST else min(reach, total)
            if missing := self.segments.missing(start, reach):
                self._missing.append(missing)
        else:
            self.stop = max(self.stop, stop)
        return data

    def needs(self) -> Needs | None:
        """Return the first range of missing bytes, joined with others nearby; None if nothing is missing."""
        if not self._missing:
            return None
        start, stop = min(self._missing)
        for piece in sorted(self._missing):
            if piece.start - stop > _NEAR:
                break
            stop = max(stop, piece.stop)
        return Needs(start, stop)

"""The known bytes of a file, and the bytes that are missing.

A header is read with range requests, so only pieces of the file are known. `Segments` holds them, in whatever
order they arrive. The parser takes pieces through `Reader`, which continues past a missing piece as far as it
can and then reports with `Needs` which bytes to fetch, so that one request brings as much as possible.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple


class TiffError(ValueError):
    """The file is no TIFF, or contradicts itself; the message is one sentence that names what and where.

    It is the failure of one file (a row of the table), never of a run: so it is not in the tree of `errors`.
    """


class Needs(NamedTuple):
    """The bytes to fetch before parsing again, half-open: `Range: bytes=start-(stop-1)`.

    Attributes:
        start: The first byte that lacks.
        stop: Behind the last one. It lies past the end of the file only where nobody told the total: a reply
            that is shorter than asked (or a 416) tells it, and `Segments.total` is to be set before parsing.
    """

    start: int
    stop: int


class Segments:
    """Byte ranges of one file, each byte known once.

    Attributes:
        total: Size of the file in bytes; None as long as nobody told (`Content-Range` does).
    """

    def __init__(self, total: int | None = None) -> None:
        self.total = total
        self._starts: list[int] = []
        self._pieces: list[bytes] = []

    def __repr__(self) -> str:
        known = ", ".join(f"{start}-{start + len(piece)}" for start, piece in self._known())
        return f"Segments({known or 'nothing'} of {'?' if self.total is None else self.total})"

    def add(self, start: int, data: bytes) -> None:
        """Take in the bytes at `start`; what is known already stays as it is.

        Raises:
            ValueError: `start` is negative, or the bytes reach past `total`.
        """
        if start < 0 or (self.total is not None and start + len(data) > self.total):
            raise ValueError(f"bytes {start}-{start + len(data)} are not in a file of {self.total}")
        for gap_start, gap_stop in self._gaps(start, start + len(data)):
            self._insert(gap_start, data[gap_start - start : gap_stop - start])

    def read(self, start: int, stop: int) -> bytes | None:
        """Give the bytes `start` to `stop` (half-open), None where not all of them are known."""
        index = bisect_right(self._starts, start) - 1
        if index < 0:
            return None
        piece, begin = self._pieces[index], self._starts[index]
        return piece[start - begin : stop - begin] if stop - begin <= len(piece) else None

    def lacking(self, start: int, stop: int) -> Needs | None:
        """Give the span from the first to the last byte of `start` to `stop` that is not known."""
        gaps = self._gaps(start, stop)
        return Needs(gaps[0][0], gaps[-1][1]) if gaps else None

    def _known(self) -> list[tuple[int, bytes]]:
        return list(zip(self._starts, self._pieces, strict=True))

    def _gaps(self, start: int, stop: int) -> list[tuple[int, int]]:
        gaps = []
        for begin, piece in self._known():
            if begin >= stop:
                break
            if start < begin:
                gaps.append((start, begin))
            start = max(start, begin + len(piece))
        return [*gaps, (start, stop)] if start < stop else gaps

    def _insert(self, start: int, data: bytes) -> None:
        """Put in bytes none of which are known, joined with the neighbours they touch."""
        index = bisect_right(self._starts, start)
        if index < len(self._starts) and self._starts[index] == start + len(data):
            data += self._pieces.pop(index)
            del self._starts[index]
        if index and self._starts[index - 1] + len(self._pieces[index - 1]) == start:
            self._pieces[index - 1] += data
            return
        self._starts.insert(index, start)
        self._pieces.insert(index, data)


_NEAR = 4096
"""Two pieces with less than this between them are one request: a round trip costs more than 4 KiB."""
_REST = 65_536
"""A directory this close to the end of the file: its values are most likely all there is, ask for all."""

_FARTHEST = 2**63 - 1
"""No file is larger: offsets of file systems and of HTTP ranges are signed."""


class Reader:
    """Takes pieces of a file and remembers those that lack.

    Attributes:
        segments: What is known.
        stop: Where the last of the pieces taken ends: bytes 0 to `stop` hold them all.
    """

    def __init__(self, segments: Segments, most_bytes: int) -> None:
        self.segments = segments
        self.stop = 0
        self._most_bytes = most_bytes
        self._left = most_bytes
        self._lacking: list[Needs] = []

    def take(self, start: int, size: int, what: str, *, ahead: int = 0, rest: bool = False) -> bytes | None:
        """Give a piece, or None and remember that it lacks.

        Args:
            start: Where it begins.
            size: Its length in bytes, 0 allowed.
            what: Names the piece in a message.
            ahead: Where it lacks, ask for this many more bytes behind it: likely to be needed next.
            rest: And for all that follows, if that is little.

        Raises:
            TiffError: The piece reaches past the end of the file, or too much was taken.
        """
        stop, total = start + size, self.segments.total
        if stop > (_FARTHEST if total is None else total):
            end = "any file" if total is None else f"the file ({total} bytes)"
            raise TiffError(f"{what} at byte {start} reaches past the end of {end}")
        self._left -= size
        if self._left < 0:
            raise TiffError(f"{what} makes the header larger than {self._most_bytes} bytes")
        data = self.segments.read(start, stop) if size else b""
        if data is None:
            self._lack(start, self._reach(start, stop + ahead, rest=rest))
        else:
            self.stop = max(self.stop, stop)
        return data

    def needs(self) -> Needs | None:
        """Give the first run of bytes that lack, near ones joined; None when all was there."""
        if not self._lacking:
            return None
        start, stop = min(self._lacking)
        for lacking in sorted(self._lacking):
            if lacking.start - stop > _NEAR:
                break
            stop = max(stop, lacking.stop)
        return Needs(start, stop)

    def _reach(self, start: int, stop: int, *, rest: bool) -> int:
        """Say up to where to ask; never past an end that is known."""
        total = self.segments.total
        if total is None:
            return stop
        return total if rest and total - start <= _REST else min(stop, total)

    def _lack(self, start: int, stop: int) -> None:
        lacking = self.segments.lacking(start, stop)
        if lacking is not None:
            self._lacking.append(lacking)

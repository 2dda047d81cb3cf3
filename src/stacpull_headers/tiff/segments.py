"""What is known of a file: pieces of bytes, and what lacks next.

A header is read by ranged requests, so a file is known in pieces. `Segments` holds them, however and in which
order they came; the parser reads from it and says with `Needs` which bytes to fetch next.
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

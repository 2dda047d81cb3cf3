"""Reading pieces of a file that is known in part: what is there, what lacks, how far it all reaches.

The parser goes on past a piece that lacks as far as it can, so that one request brings all that is known to
be wanted and lies near together.
"""

from __future__ import annotations

from stacpull_headers.tiff.segments import Needs, Segments, TiffError

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

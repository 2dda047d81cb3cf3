"""Who brings which bytes of one file. No I/O.

Each connection (a lane) has a claim on a stretch of the file, which shrinks from its start as bytes come. No
two claims overlap, and none is of bytes that are there: whatever comes, in whatever order, is written once.

One lane may be *open*: its response goes on to the end of the file. Alone it claims all that is missing up to
the next bytes that are there. When another lane wants a share, the open one's is cut to the next piece; if
nobody has taken what follows when it gets there, it simply reads on, over a little that is there already.

Pieces are given out from the start of the file on, so that the checksum can follow, and few gaps are left by
whatever breaks off.
"""

from __future__ import annotations

from stacpull.spans import Span, Spans, added, beginning, joined, length, missing

__all__ = ["Shares"]

_ENDLESS = 1 << 62
"""End of a file whose size nobody tells."""


class Shares:
    """The claims on one file.

    Args:
        total: Size of the file in bytes, None if it is not known: then there is one lane, and it is open.
        have: What is there.
    """

    __slots__ = ("_claims", "_open", "have", "total")

    def __init__(self, total: int | None, have: Spans) -> None:
        self.total = _ENDLESS if total is None else total
        self.have = have
        """What came, and what was there before."""
        self._claims: dict[int, Span] = {}
        self._open: int | None = None

    def __repr__(self) -> str:
        return f"<Shares {length(self.have)} of {self.total} bytes, claims {self._claims}>"

    @property
    def rest(self) -> int:
        """How many bytes are still to come."""
        return self.total - length(self.have)

    def begin(self, lane: int) -> int:
        """Let `lane` have the first gap, whole, with a response that goes on to the end of the file.

        Return where the gap begins.
        """
        self._open = lane
        start = beginning(self.have)
        ahead = [span.start for span in self.have if span.start > start]
        self._claims[lane] = Span(start, min(ahead, default=self.total))
        return start

    def claim(self, lane: int, size: int) -> Span | None:
        """Give `lane` the first bytes that nobody has, about `size` of them; None if all are taken."""
        gaps = missing(self._taken(), self.total)
        if not gaps and self._cut(size):
            gaps = missing(self._taken(), self.total)
        if not gaps:
            return None
        start, end = gaps[0]
        span = self._claims[lane] = Span(start, end if end - start < size + size // 2 else start + size)
        return span

    def left(self, lane: int) -> int:
        """Return how many bytes `lane` has still to bring."""
        start, end = self._claims.get(lane, Span(0, 0))
        return end - start

    def is_at_end(self, lane: int) -> bool:
        """Tell if the claim of the open `lane` reaches to the end of the file."""
        return lane == self._open and self._claims[lane].end >= self.total

    def extend(self, lane: int, size: int | None, *, skip: int = 0) -> bool:
        """Let the open lane read on past its claim, by `size` or (None) to the next bytes that are taken.

        Up to `skip` bytes that are there may lie in between: they come, and are not wanted. Return False if
        others have what follows, or there is nothing more to bring.
        """
        at = self._claims[lane].end
        gaps = [gap for gap in missing(self._taken(), self.total) if gap.start >= at]
        if lane != self._open or not gaps or gaps[0].start - at > skip:
            return False
        start, end = gaps[0]
        if any(gap.end > at for gap in missing(self.have, start)):
            return False
        self._claims[lane] = Span(start, end if size is None else min(end, start + size))
        return True

    def took(self, lane: int, came: Span) -> Span:
        """Take note that the bytes of `came` came to `lane`; return those that are wanted: its next ones.

        Raises:
            ValueError: bytes before them have not come: they would be taken for others.
        """
        start, end = self._claims[lane]
        if came.start > start:
            raise ValueError(f"bytes from {came.start} on came where those from {start} on are next")
        wanted = Span(start, max(start, min(end, came.end)))
        self._claims[lane] = Span(wanted.end, end)
        self.have = added(self.have, wanted)
        return wanted

    def close(self, lane: int) -> None:
        """Take note that the response of the open `lane` is over: what it claims from now on has an end."""
        if self._open == lane:
            self._open = None

    def release(self, lane: int) -> None:
        """Let others have what `lane` did not bring."""
        self._claims.pop(lane, None)
        self.close(lane)

    def _taken(self) -> Spans:
        return joined((*self.have, *self._claims.values()))

    def _cut(self, size: int) -> bool:
        """Cut the claim of the open lane to `size` bytes, if as many would be left for another."""
        if self._open is None:
            return False
        start, end = self._claims[self._open]
        if end - start < 2 * size:
            return False
        self._claims[self._open] = Span(start, start + size)
        return True

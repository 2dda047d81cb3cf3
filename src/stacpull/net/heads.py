"""What is accepted as the head of a response: its limits, and repeated lengths.

A length that is stated several times with one value may be taken for one (RFC 9110, 8.6). llhttp, which
parses for aiohttp and for the fast path, refuses it. So repetitions are removed before they reach the parser.
"""

from __future__ import annotations

FIELD_LIMIT = 64 * 1024
"""Bytes of one header field."""
FIELD_COUNT_LIMIT = 1000
OVERHEAD_LIMIT = 256 * 1024
"""Bytes of all fields and interim responses together. The fast path counts trailers as well."""

_NAME = b"content-length:"
_STATUS_LINE = len(b"HTTP/1.1 200")
_SWITCHING = b"101"


class LengthFilter:
    """Takes repeated lengths out of the head of one response; all other bytes pass as they come.

    Different lengths pass, too: the parser refuses them.
    """

    __slots__ = ("_begin", "_held", "_is_passing", "_length", "_status", "is_done", "seen")

    def __init__(self) -> None:
        self.is_done = False
        """True once the head has ended: what follows is not looked at."""
        self.seen = 0
        """Bytes that have come up to there."""
        self._held = b""  # the beginning of a line that may state a length
        self._begin = b""  # of a line that was passed on
        self._is_passing = False
        self._status = b""
        self._length: bytes | None = None

    def feed(self, data: bytes) -> bytes:
        """Return what the parser is to get, of `data` and of what was held back before."""
        kept: list[bytes] = []
        start = 0
        while start < len(data) and not self.is_done:
            end = data.find(b"\n", start) + 1
            kept.append(self._piece(data[start : end or len(data)]))
            self.seen += (end or len(data)) - start
            start = end or len(data)
        return b"".join((*kept, data[start:]))

    def _piece(self, piece: bytes) -> bytes:
        """Return what passes of a piece of a line, which ends there if the piece has a line feed."""
        if self._is_passing:
            self._begin = (self._begin + piece)[:_STATUS_LINE]
        else:
            piece, self._held = self._held + piece, b""
            if piece[: len(_NAME)].lower() == _NAME[: len(piece)]:
                if piece[-1:] != b"\n":
                    self._held = piece
                    return b""
                return self._stated(piece)
            self._begin = piece[:_STATUS_LINE]
        self._is_passing = piece[-1:] != b"\n"
        if not self._is_passing:
            self._end_line(self._begin.strip())
        return piece

    def _stated(self, line: bytes) -> bytes:
        """Return a line that states a length with one value; nothing if that is known already."""
        values = {one.strip() for one in line[len(_NAME) :].split(b",")}
        if len(values) > 1:
            return line
        length = values.pop()
        known, self._length = self._length, length
        if known is None:
            return b"Content-Length: " + length + b"\r\n"
        return b"" if known == length else line

    def _end_line(self, begin: bytes) -> None:
        """Note the status, and the end of the head. Another head follows an interim one (RFC 9110, 15.2)."""
        if not self._status:
            self._status = begin[-3:]
        elif not begin:
            self.is_done = self._status[:1] != b"1" or self._status == _SWITCHING
            self._status, self._length = b"", None

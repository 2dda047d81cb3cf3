"""The log of a part with gaps: the ranges of bytes that were written.

    parts/<row>.<generation>.have    start and end of each range, little-endian, 64 bits each

The log is created before the first gap, and a range is logged after its bytes were written. If there is a
log, it determines the bytes of the part, and the size of the file does not. An incomplete record at its end
is ignored. A kill loses no logged byte. A loss of power may, but then no part is trusted anyway
(`engine.recovery`).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Self

from stacpull.spans import Span, Spans, joined
from stacpull.store.regular import open_regular, read_regular

_RECORD = struct.Struct("<QQ")
_LIMIT = 1 << 28
"""The most bytes of a log: 16 million records, a thousand times as many as the longest file has."""


def log_of(part: Path) -> Path:
    """Return the path of the log of `part`, which may not exist."""
    return part.with_suffix(".have")


def read_log(part: Path) -> Spans:
    """Return the written ranges of `part`.

    Raises:
        FileNotFoundError: there is no log, because the part has no gaps.
        OSError: the log cannot be read, or is not a regular file.
    """
    data = read_regular(log_of(part), _LIMIT)
    whole = len(data) - len(data) % _RECORD.size
    return joined(Span(*record) for record in _RECORD.iter_unpack(data[:whole]))


class PartLog:
    """The log of one part, open for more records. It blocks: use it on a thread."""

    def __init__(self, fd: int, have: Spans) -> None:
        self.have = have
        """The written ranges when it was opened."""
        self._fd = fd
        self._last = Span(0, 0)
        self._at = 0

    @classmethod
    def begin(cls, part: Path, have: Spans) -> Self:
        """Create the log of a part, with the written ranges `have`, before its first gap.

        Raises:
            OSError: it cannot be created.
        """
        new = log_of(part).with_suffix(".new")
        new.unlink(missing_ok=True)
        log = cls(open_regular(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL), have)
        try:
            for span in have:
                log.note(span)
            new.replace(log_of(part))
        except BaseException:
            log.close()
            raise
        return log

    @classmethod
    def resume(cls, part: Path) -> Self:
        """Rewrite the log of `part` with as few records as possible, and open it.

        Raises:
            OSError: it cannot be read or written.
        """
        return cls.begin(part, read_log(part))

    def note(self, span: Span) -> None:
        """Log `span` as written. If it follows the last record, that one is extended.

        Raises:
            OSError: the disk is full, read-only or broken.
        """
        if span.start == self._last.end:
            span = Span(self._last.start, span.end)
        else:
            self._at += _RECORD.size if self._last.end else 0
        os.pwrite(self._fd, _RECORD.pack(*span), self._at)
        self._last = span

    def close(self) -> None:
        """Close the log. Closing it again does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

"""The log of a part with gaps: which of its bytes are there.

    parts/<row>.<generation>.have    start and end of each stretch, little-endian, 64 bits each

The log exists before the first gap does, and a stretch is noted after its bytes were written. While there is
a log, it states which bytes are there, not the size of the file; an incomplete record at its end is ignored.
A kill loses no byte that was noted. A loss of power may, but then no part is believed anyway
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
"""Bytes of a log: 16 million records, a thousand times what the longest file leaves."""


def log_of(part: Path) -> Path:
    """Return the path of the log of `part`, if it has one."""
    return part.with_suffix(".have")


def read_log(part: Path) -> Spans:
    """Return which bytes of `part` are there.

    Raises:
        FileNotFoundError: it has no log: it has no gaps.
        OSError: the log cannot be read, or is not a regular file.
    """
    data = read_regular(log_of(part), _LIMIT)
    whole = len(data) - len(data) % _RECORD.size
    return joined(Span(*record) for record in _RECORD.iter_unpack(data[:whole]))


class PartLog:
    """The log of one part, open for more records. Blocks: for threads."""

    def __init__(self, fd: int, have: Spans) -> None:
        self.have = have
        """What was there when it was opened."""
        self._fd = fd
        self._last = Span(0, 0)
        self._at = 0

    @classmethod
    def begin(cls, part: Path, have: Spans) -> Self:
        """Make the log of a part that is about to get its first gap, and of which `have` is there.

        Raises:
            OSError: it cannot be made.
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
        """Write the log of `part` again, as short as can be, and open it.

        Raises:
            OSError: it cannot be read or written.
        """
        return cls.begin(part, read_log(part))

    def note(self, span: Span) -> None:
        """Note that the bytes of `span` are written; what continues the last note makes that one longer.

        Raises:
            OSError: the disk is full, read-only or broken.
        """
        if span.start == self._last.end > 0:
            span = Span(self._last.start, span.end)
        else:
            self._at += _RECORD.size if self._last.end else 0
        os.pwrite(self._fd, _RECORD.pack(*span), self._at)
        self._last = span

    def close(self) -> None:
        """Close it; twice does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

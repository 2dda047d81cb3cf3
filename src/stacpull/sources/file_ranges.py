"""Reads ranges of one version of a file: that of the first response.

    offset ─▶ Range ─▶ 206 at this offset, same version   its body
                       200, same version                  its body from the offset on
                       anything else                      ForgottenCursorError: the walk begins again

A version is the size of the file with its ETag, or else its date. A strong ETag is enough without a size. No
`If-Range` is sent: some servers ignore it, and S3 would get another condition instead, which it answers with
412. Without `If-Range`, a response has the ETag and the date that a 200 would have, and these are compared
(`net.fields`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from stacpull.errors import ForgottenCursorError, SourceError
from stacpull.net.fields import Version, content_range, stated_version
from stacpull.net.transport import Response, TransferError
from stacpull.sources.source import JsonReader

_CHUNK: Final = 1 << 18
_BREAKS: Final = 5
"""The most interruptions in a row without a received byte."""
_OK, _PARTIAL, _UNSATISFIABLE = 200, 206, 416


class FileRanges:
    """The bytes of one version of a file."""

    def __init__(self, url: str, reader: JsonReader, accept: str = "*/*") -> None:
        self.is_whole = False
        """True if the server sent the whole file instead of its end."""
        self.size: int | None = None
        """Bytes of the file; None if the server has not stated it."""
        self._url = url
        self._reader = reader
        self._accept = accept
        self._known: Version | None = None

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from `start` to `stop`, with as many requests as needed.

        If `start` is negative, the last `-start` bytes are requested; a server without ranges then sends the
        whole file. Without `stop`, the bytes to the end of the file are read.
        """
        at, end, breaks = start, stop, 0
        while end is None or at < end:
            headers = {"Accept": self._accept}
            if at < 0:
                headers["Range"] = f"bytes={at}"
            elif at or end is not None:
                headers["Range"] = f"bytes={at}-{'' if end is None else end - 1}"
            cause: TransferError | None = None
            try:
                async with self._reader.stream(self._url, headers) as response:
                    offset = self._offset_of(response, at)
                    at = offset if at < 0 else at
                    end = self.size if stop is None else stop  # a 206 may end before the end of the file
                    async for chunk in response.chunks(_CHUNK):
                        piece = chunk[at - offset : None if end is None else end - offset]
                        offset += len(chunk)
                        if piece:
                            yield piece
                            at, breaks = at + len(piece), 0
                        if at == end and offset > at:
                            break  # the server sends more than requested
            except TransferError as error:
                cause = error
            if cause is None and (end is None or at == end):
                return
            breaks += 1
            if breaks > _BREAKS or (cause is not None and not cause.failure.retryable):
                where = f" at byte {at:,}" if at > 0 else ""
                why = cause or "its server sends less than it states."
                raise SourceError(f"{self._url} could not be read{where}: {why}") from cause

    def _offset_of(self, response: Response, requested: int) -> int:
        """Return the offset of the first byte of a response, which must be of the same version."""
        found = stated_version(response.status, response.headers)
        if response.status == _OK:
            self.is_whole, offset = self.is_whole or requested < 0, 0
        else:
            first, _, size = content_range(response.headers)
            if requested < 0 and response.status == _UNSATISFIABLE:
                raise SourceError(f"{self._url} cannot be read: it is empty.")
            if requested < 0 and size is None:
                raise SourceError(f"{self._url} cannot be read: its server does not state its size.")
            if size is None or first is None:
                raise self._changed()
            offset = first
            if offset != (requested if requested >= 0 else max(0, size + requested)):
                raise self._changed()
        # only a strong ETag is enough without a size (RFC 9110, 8.8.1); an equal size is enough if the
        # server states nothing else
        known = self._known
        if known is not None and (
            not known.is_same_as(found)
            or (None in (known.total, found.total) and known.validator.strong_etag is None)
        ):
            raise self._changed()
        if known is None or known.total is None:
            self._known, self.size = found, found.total
        return offset

    def _changed(self) -> ForgottenCursorError:
        return ForgottenCursorError(f"{self._url} may have changed while it was read")

"""Receive one long body into a part: from the open response, and over more connections if it is very long.

Each connection takes the first free block. If a response does not have the strong ETag of the first one, no
more ranges are requested. The attempt fails only if blocks are left when the last connection ends. While the
gate of the host is full, only the last connection takes further blocks.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import AsyncIterator

from stacpull.errors import ungrouped
from stacpull.models import Failure, FailureKind, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client, Exchange
from stacpull.net.fields import Version, content_range, range_headers, stated_version
from stacpull.net.gate import Gate
from stacpull.net.transport import Request, Response, TransferError
from stacpull.spans import Span, Spans, missing
from stacpull.store.parts import FilePart
from stacpull.transfer.checks import PARTIAL, another_range, failed

SPLIT_ABOVE = 64 << 20  # bytes above which a file gets several connections
BLOCK = 16 << 20
CHUNK = 1 << 18  # bytes that are written at once
_ANSWERS = frozenset({200, 206, 412, 416})
_ENDLESS = 1 << 62


class LongBody:
    """Receives a long body into `part`, whose existing bytes are not requested again. Use it once."""

    def __init__(self, client: Client, part: FilePart, href: str, version: Version, most: int = 1) -> None:
        self._client = client
        self._part = part
        self._href = href
        self._version = version
        self._total = _ENDLESS if version.total is None else version.total
        self._most = most if SPLIT_ABOVE < self._total < _ENDLESS else 1
        self._free = blocks(part.received, self._total)
        self._active = 0
        self._gate: Gate | None = None
        self._failure: Failure | None = None
        self._group = asyncio.TaskGroup()
        self._write: asyncio.Task[None] | None = None

    async def receive(self, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        self._active, self._gate = 1, response.gate
        with ungrouped():
            async with self._group:
                self._open_more()
                await self._connection((response, chunks))
        failure = self._failure
        if failure is not None and (self._free or failure.kind is FailureKind.OVERLONG):
            raise TransferError(failure)

    def _open_more(self) -> None:
        while self._active < self._most and len(self._free) > 1:
            self._active += 1
            self._group.create_task(self._connection())

    async def _connection(self, first: tuple[Exchange, AsyncIterator[bytes]] | None = None) -> None:
        try:
            if first is not None and not await self._read_open(*first):
                return
            while self._free and self._active <= self._most:
                if self._active > 1 and self._gate is not None and self._gate.is_full():
                    return
                await self._request_block()
                self._open_more()
        except TransferError as error:
            self._most = max(1, self._active - 1)
            known, new = self._failure, error.failure
            if known is None or new.kind is FailureKind.OVERLONG or not known.retryable:
                self._failure = new
        finally:
            self._active -= 1

    async def _read_open(self, response: Exchange, chunks: AsyncIterator[bytes]) -> bool:
        at, end = self._free.pop(0) if self._free else (self._total, self._total)
        try:
            async for chunk in chunks:
                rest = chunk
                while rest:
                    if at == end:
                        end = self._following(at)
                        if end == at:
                            await response.close()
                            return True
                    piece, rest = rest[: end - at], rest[end - at :]
                    await self._put(at, piece)
                    at += len(piece)
        except TransferError as error:
            await response.close(error)
            raise
        finally:
            self._give_back(at, end)
        await response.close()
        return False

    def _following(self, at: int) -> int:
        """Take the block at offset `at`, and return its end; `at` if the open response must end there."""
        if at >= self._total:
            what = f"sent more than the {self._total} bytes that were announced"
            raise TransferError(failed(FailureKind.OVERLONG, self._href, what, again=True))
        if not self._free or self._free[0].start != at:
            return at
        following = self._free.pop(0)
        self._open_more()
        return following.end

    async def _request_block(self) -> None:
        span = self._free.pop(0)
        at = span.start
        condition = self._version.validator
        headers = range_headers(at, condition if condition.strong_etag else Validator(), span.end)
        if condition.strong_etag is not None:  # some servers support only If-Match, some only If-Range
            headers["If-Match"] = condition.strong_etag
        request = Request(self._href, headers=headers)
        try:
            async with self._client.open(request, accept=_ANSWERS, count_refusal=False) as response:
                if not _serves(response, span, self._version):
                    self._most = 1
                    if self._active == 1:
                        raise TransferError(another_range(response.url))
                    return
                async for chunk in response.chunks(CHUNK):
                    piece = chunk[: span.end - at] if at < span.end else b""
                    await self._put(at, piece)
                    at += len(piece)
            if at < span.end:
                what = f"sent {at - span.start} of {span.end - span.start} bytes of a range"
                raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))
        finally:
            self._give_back(at, span.end)

    def _give_back(self, start: int, end: int) -> None:
        if start < end:
            insort(self._free, Span(start, end))

    async def _put(self, at: int, piece: bytes) -> None:
        """Wait for the piece before, then begin to write this one: meanwhile the next one is received."""
        if piece:
            before, self._write = self._write, self._group.create_task(self._part.put([(at, piece)]))
            if before is not None:
                await before


def blocks(received: Spans, total: int) -> list[Span]:
    found = []
    for gap in missing(received, total):
        start = gap.start
        while start < gap.end:
            end = gap.end if total == _ENDLESS else min(gap.end, (start // BLOCK + 1) * BLOCK)
            found.append(Span(start, end))
            start = end
    return found


def _serves(response: Response, span: Span, version: Version) -> bool:
    """Return True if the response is this range of this version, by its strong ETag (RFC 9110, 15.3.7.3)."""
    if response.status != PARTIAL or coding_of(response.headers) is not None:
        return False
    start, end, _ = content_range(response.headers)
    by_etag = version._replace(validator=Validator(version.validator.strong_etag))
    is_same = by_etag.compared(stated_version(PARTIAL, response.headers)) is True
    return is_same and start == span.start and end is not None and end < span.end

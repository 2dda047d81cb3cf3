"""Receive a long body into a part: from the open response, and over more connections if it is long and slow.

Each connection takes the first free range; only the last one does while the gate of the host is full. If a
response does not have the strong ETag of the first one, no more ranges are requested. The attempt fails only
if ranges are left when the last connection ends.
"""

import asyncio
from bisect import insort
from collections.abc import AsyncGenerator

from stacpull.byte_ranges import ByteRange, gaps_in
from stacpull.errors import ungrouped
from stacpull.models import Failure, FailureKind, ResumePoint, Validator
from stacpull.net.client import Client, Exchange
from stacpull.net.fields import content_range, range_headers
from stacpull.net.gate import Gate
from stacpull.net.status import PRECONDITION_FAILED, RANGES
from stacpull.net.transport import Chunk, Request, TransferError
from stacpull.store.partial_downloads import PartialDownload
from stacpull.transfer.checks import host_failure, range_failure, resume_action

MAX_CONNECTIONS = 4  # of a file; they may be to several hosts
SPLIT_ABOVE = 64 << 20  # bytes above which a file may get several connections
FAST = 100e6  # bytes per second; more connections cost CPU, because bytes out of order are read again
MAX_RANGE = 16 << 20  # bytes that a connection requests at once
CHUNK = 1_000_000  # bytes that are received and written at once; up to three of them are in memory
CONDITIONAL_RANGES = RANGES | {PRECONDITION_FAILED}
_ENDLESS = 1 << 62
_FIRST_SECONDS = 0.1  # which the rate leaves out


class BodyReceiver:
    """Receives a long body into `part`, whose existing bytes are not requested again. Use it once."""

    def __init__(
        self, client: Client, gate: Gate, part: PartialDownload, href: str, version: ResumePoint
    ) -> None:
        self._client = client
        self._gate = gate
        self._part = part
        self._href = href
        self._version = version._replace(validator=Validator(version.validator.strong_etag))
        self._total = _ENDLESS if version.total is None else version.total
        self._max_connections = 1
        self._gaps = list(gaps_in(part.received, self._total))  # divided when taken: a size may be false
        self._active_connections = 1  # the open response
        self._failure: Failure | None = None
        self._group = asyncio.TaskGroup()
        self._write: asyncio.Task[None] | None = None
        self._rated_from = client.clock.monotonic() + _FIRST_SECONDS
        self._received = 0

    async def run(self, response: Exchange, chunks: AsyncGenerator[Chunk], *, may_split: bool) -> None:
        if may_split and SPLIT_ABOVE < self._total < _ENDLESS:
            self._max_connections = MAX_CONNECTIONS  # failures lower it
        try:
            with ungrouped():
                async with self._group:
                    await self._run_connection((response, chunks))
        finally:
            self._client.counters.files_in_flight -= self._received / max(1, self._total)
        failure = self._failure
        if failure is not None and (self._gaps or failure.kind is FailureKind.OVERLONG):
            raise TransferError(failure)

    def _range_end(self, gap: ByteRange) -> int:
        return min(gap.end, (gap.start // MAX_RANGE + 1) * MAX_RANGE)

    def _take_range(self) -> ByteRange:
        gap = self._gaps.pop(0)
        end = self._range_end(gap)
        self._give_back(end, gap.end)
        return ByteRange(gap.start, end)

    def _open_more_if_slow(self) -> None:
        seconds = self._client.clock.monotonic() - self._rated_from
        if self._received > FAST * seconds or not self._gaps:
            return
        has_several_ranges = self._range_end(self._gaps[0]) < self._gaps[-1].end
        while has_several_ranges and self._active_connections < self._max_connections:
            self._active_connections += 1
            self._group.create_task(self._run_connection())

    async def _run_connection(self, first: tuple[Exchange, AsyncGenerator[Chunk]] | None = None) -> None:
        try:
            may_request = first is None or await self._read_open(*first)
            while may_request and self._gaps and self._active_connections <= self._max_connections:
                if self._active_connections > 1 and self._gate.is_full():
                    return
                await self._request_range()
        except TransferError as error:
            self._max_connections = max(1, self._active_connections - 1)
            is_overlong = error.failure.kind is FailureKind.OVERLONG
            if self._failure is None or is_overlong or not self._failure.retryable:
                self._failure = error.failure
        finally:
            self._active_connections -= 1

    async def _read_open(self, response: Exchange, chunks: AsyncGenerator[Chunk]) -> bool:
        offset = end = self._total
        if self._gaps:
            offset, end = self._take_range()
        try:
            async for chunk in chunks:
                unwritten = chunk
                while unwritten:
                    if offset == self._total:
                        what = f"sent more than the expected {self._total} bytes"
                        failure = host_failure(FailureKind.OVERLONG, self._href, what)
                        raise TransferError(failure)  # noqa: TRY301 -- it closes the response, too
                    if offset == end:
                        is_next_free = bool(self._gaps) and self._gaps[0].start == offset
                        if not is_next_free:  # another connection has the rest
                            await response.close()
                            return True
                        end = self._take_range().end
                    piece = unwritten[: end - offset]
                    unwritten = unwritten[len(piece) :]
                    await self._put(offset, piece)
                    offset += len(piece)
        except TransferError as error:
            await response.close(error)
            raise
        finally:
            self._give_back(offset, end)
        await response.close()
        return False

    async def _request_range(self) -> None:
        wanted = self._take_range()
        offset = wanted.start
        validator = self._version.validator
        headers = range_headers(offset, validator, wanted.end)
        if validator.etag is not None:  # some servers support only If-Match, some only If-Range
            headers["If-Match"] = validator.etag
        request = Request(self._href, headers=headers)
        try:
            async with self._client.stream(request, accept=CONDITIONAL_RANGES) as response:
                point = self._version._replace(size=offset)
                end = content_range(response.headers).end
                is_same = resume_action(point, response.status, response.headers) == "append"
                if not is_same or end is None or end >= wanted.end:  # of another version, or longer
                    self._max_connections = 1
                    if self._active_connections == 1:
                        raise TransferError(range_failure(response.url))
                    return
                async for chunk in response.chunks(CHUNK // 2):
                    piece = chunk[: max(0, wanted.end - offset)]
                    await self._put(offset, piece)
                    offset += len(piece)
            if offset < wanted.end:
                what = f"sent {offset - wanted.start} of {wanted.end - wanted.start} bytes of a range"
                raise TransferError(host_failure(FailureKind.TRUNCATED, response.url, what))
        finally:
            self._give_back(offset, wanted.end)

    def _give_back(self, start: int, end: int) -> None:
        if start < end:
            insort(self._gaps, ByteRange(start, end))

    async def _put(self, offset: int, piece: Chunk) -> None:
        """Wait for the previous write, then start this one, while the next piece is received."""
        if piece:
            self._received += len(piece)
            self._client.counters.files_in_flight += len(piece) / self._total
            self._open_more_if_slow()
            if self._write is not None:
                await self._write
            self._write = self._group.create_task(self._part.put([(offset, piece)]))
            await asyncio.sleep(0)  # so that its thread starts before more bytes are received

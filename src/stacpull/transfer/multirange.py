"""Receive one long body into a part file: over one connection, or over four if it has more than 64 MiB.

    response ─▶ connection ─┐
    206 ──────▶ connection ─┼─ pieces ─▶ writer ─▶ part
    206 ──────▶ connection ─┘

The first connection reads the response that is already open. Other connections request the missing bytes of
the file piece by piece, with If-Match and If-Range and the strong ETag of the first response. Their responses
must have that ETag and the requested Content-Range. The second connection alone shows whether the host serves
ranges. `Claims` decides which bytes each one receives.

- Receiving continues while the part is written. A connection waits while more than its share of the buffer is
  waiting to be written (`BufferBudget`).
- A connection that fails ends, and any other may request its missing bytes. The attempt fails only if bytes
  are missing when the last connection ends. The received bytes stay in the part.
- Only the last connection ever waits for a permit of the host's gate. The others end if no permit is free,
  and return their permit after each piece. So files share a host, and no connection waits while it has a
  permit.
- If a response is not the requested range of the same object, no more ranges are requested. If another
  connection is left, it receives the rest; if not, the part cannot be resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

from stacpull.clock import Clock
from stacpull.errors import ungrouped
from stacpull.models import Failure, FailureKind, TooLongError, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client, Exchange, NoPermitError
from stacpull.net.fields import content_range
from stacpull.net.transport import Request, Response, TransferError
from stacpull.net.versions import Version, range_headers, stated_version
from stacpull.spans import Span, Spans, added, beginning, joined, length, missing
from stacpull.transfer.checks import another_range, failed, too_long
from stacpull.transfer.part_writer import PartWriter, PlacedBytes

LONG = 64 << 20
"""The size from which a file gets several connections."""
_FEWEST = 16 << 20
"""Missing bytes from which another connection is worth its request."""
_PIECE, _SMALLEST_PIECE, _FIRST_PIECE = 16 << 20, 4 << 20, 1 << 20
_WAIT_AFTER_FAILURE = 30.0
_WAIT_FOR_PERMIT = 5.0
CHUNK = 1 << 18
"""Bytes that are passed to the writer at once."""
_AHEAD = 4 << 20
_AHEAD_OF_ALL = 8 << 20
_READ_OVER = 8 << 20
"""The most existing bytes that are received again in order to keep reading one response."""
_ANSWERS = frozenset({200, 206, 412, 416})
_PARTIAL = 206
_ENDLESS = 1 << 62
"""The end of a file of unknown size."""


class BufferBudget:
    """The memory for bytes that wait to be written. All downloads of a process share it."""

    def __init__(self) -> None:
        self._downloads = 0

    def enter(self) -> None:
        """Add a download."""
        self._downloads += 1

    def leave(self) -> None:
        """Remove a download."""
        self._downloads -= 1

    def share(self) -> int:
        """Return the number of bytes of one download that may wait."""
        return min(_AHEAD, _AHEAD_OF_ALL // max(1, self._downloads))


class MultiRangeDownload:
    """The transfer of one body into `writer`. Use it once.

    Args:
        client: Sends the requests of further connections.
        writer: The part; its existing bytes are not requested again.
        clock: The clock.
        budget: Shared with the other downloads.
        href: The URL of the object.
        version: The version of it to receive.
        connections: The most connections.
        on_no_ranges: Called if the host does not serve ranges of it.
    """

    def __init__(
        self,
        client: Client,
        writer: PartWriter,
        clock: Clock,
        budget: BufferBudget,
        href: str,
        version: Version,
        *,
        connections: int = 1,
        on_no_ranges: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._href = href
        self._version = version
        self._budget = budget
        self._on_no_ranges = on_no_ranges
        self._claims = Claims(version.total, writer.have)
        self._most = connections
        self._active = self._opened = 0
        self._has_ranges = False
        self._not_before = 0.0
        """When another connection may be opened."""
        self._failure: Failure | None = None
        self._pending: list[PlacedBytes] = []
        self._held = 0
        self._filled, self._written = asyncio.Event(), asyncio.Event()
        self._group = asyncio.TaskGroup()

    async def run(self, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        """Receive all missing bytes: the first gap from `response`, whose body is `chunks`.

        Raises:
            TransferError: Missing bytes cannot be received, or the body was too long.
            DestinationError: The part cannot be written.
            CredentialsError: A response means that the credentials of the run are invalid.
        """
        if self._claims.total <= LONG:
            self._most = 1
        self._budget.enter()
        try:
            with ungrouped():
                async with self._group:
                    self._group.create_task(self._write())
                    await self._connection(self._next_key(), (response, chunks))
        finally:
            self._budget.leave()
        if self._failure is not None and (self._claims.rest or self._failure.kind is FailureKind.OVERLONG):
            raise TransferError(self._failure)

    # --- connections ---------------------------------------------------------------------------------------

    async def _connection(self, key: int, first: tuple[Exchange, AsyncIterator[bytes]] | None = None) -> None:
        """Receive the claimed bytes of `first`, then one piece after another."""
        try:
            if first is not None:
                await self._read_open(key, *first)
            while (span := self._next(key)) is not None:
                try:
                    await self._receive_piece(key, span)
                except NoPermitError:
                    self._wait(_WAIT_FOR_PERMIT)
                    if self._active > 1:
                        break
                    self._claims.release(key)  # the last one stays, and waits for a permit
        except TransferError as error:
            self._wait(_WAIT_AFTER_FAILURE)
            self._failure = _more_serious(self._failure, error.failure)
        finally:
            self._claims.release(key)
            self._active -= 1
            self._filled.set()

    async def _read_open(self, key: int, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        """Read the response that continues to the end of the file, up to the claim of another connection."""
        claims = self._claims
        at = claims.begin(key)
        try:
            async for chunk in chunks:
                at = await self._accept(key, at, chunk)
                if not claims.left(key) and not self._read_past(key):
                    break
        except TransferError as error:
            await response.leave(error)
            raise
        claims.close(key)
        await response.leave()

    def _read_past(self, key: int) -> bool:
        """Return True if the open response is still needed: its end proves the length of the file."""
        if self._claims.is_at_end(key):
            return True
        if self._active > 1:
            return self._claims.extend(key, self._piece_size())
        return self._claims.extend(key, None, skip=_READ_OVER)

    def _next(self, key: int) -> Span | None:
        """Return the bytes that connection `key` receives next, None if it must end."""
        if self._claims.left(key) or self._active > self._most:
            return None
        size = self._piece_size()
        is_trial = self._active > 1 and not self._has_ranges
        return self._claims.claim(key, min(_FIRST_PIECE, size) if is_trial else size, cut=size)

    async def _receive_piece(self, key: int, span: Span) -> None:
        """Request `span` and receive it."""
        request = Request(self._href, headers=_range_of(span, self._version.validator))
        alone = self._active == 1
        async with self._client.open(request, accept=_ANSWERS, count_refusal=False, wait=alone) as response:
            if not _serves(response, span, self._version):
                self._end_splitting(response.url)
                return
            at = span.start
            async for chunk in response.chunks(CHUNK):
                at = await self._accept(key, at, chunk)
        left = self._claims.left(key)
        if left:
            what = f"sent {span.end - span.start - left} of {span.end - span.start} bytes of a range"
            raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))
        self._has_ranges = True

    def _end_splitting(self, url: str) -> None:
        """Request no more ranges.

        Raises:
            TransferError: CHANGED, if no other connection can receive the missing bytes.
        """
        self._on_no_ranges()
        self._most = 1
        if self._active == 1:
            raise TransferError(another_range(url))

    # --- pieces ------------------------------------------------------------------------------------------

    async def _accept(self, key: int, at: int, chunk: bytes) -> int:
        """Queue the bytes of `chunk`, which starts at offset `at`, that connection `key` has claimed.

        Waits while too many bytes wait to be written.

        Returns:
            The offset after the chunk.
        """
        claims, place, end = self._claims, at, at + len(chunk)
        while place < end and (claims.left(key) or self._read_past(key)):
            if not claims.left(key):
                what = f"sent more than the {self._version.total} bytes that it announced"
                raise TransferError(failed(FailureKind.OVERLONG, self._href, what, again=True))
            wanted = claims.take(key, Span(place, end))
            if wanted.start == wanted.end:
                break  # the part already has all of it
            self._pending.append((wanted.start, chunk[wanted.start - at : wanted.end - at]))
            self._held += wanted.end - wanted.start
            place = wanted.end
        self._filled.set()
        self._open_more()
        while self._held > self._budget.share():
            self._written.clear()
            await self._written.wait()
        return end

    async def _write(self) -> None:
        """Write the received bytes, all waiting ones at once, until the last connection has ended."""
        while self._active or self._pending:
            await self._filled.wait()
            self._filled.clear()
            pieces, self._pending, self._held = self._pending, [], 0
            self._written.set()
            if pieces:
                try:
                    await self._writer.put(pieces)
                except TooLongError as error:
                    raise TransferError(too_long(self._href, error)) from error

    # --- number of connections ---------------------------------------------------------------------------

    def _open_more(self) -> None:
        """Open connections if there should be more: the second one first."""
        wanted = self._most if self._has_ranges else min(2, self._most)
        while (
            self._active < wanted
            and self._claims.rest > _FEWEST
            and self._clock.monotonic() >= self._not_before
        ):
            self._group.create_task(self._connection(self._next_key()))

    def _next_key(self) -> int:
        self._active += 1
        self._opened += 1
        return self._opened

    def _wait(self, seconds: float) -> None:
        """Open no more connections for some seconds."""
        self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _piece_size(self) -> int:
        """Return the size of the next piece; smaller at the end, so that all connections end together."""
        if self._most == 1:
            return _PIECE
        return max(_SMALLEST_PIECE, min(_PIECE, self._claims.rest // (2 * self._most)))


class Claims:
    """The bytes of one file that each connection receives.

    Each connection claims a range of the file. The range shrinks from its start as bytes are received. Claims
    never overlap, and never include received bytes. So each byte is written once, in any order.

    One connection may be *open*: its response continues to the end of the file. Alone it claims everything up
    to the next received bytes. If another connection needs a claim, that of the open one is cut to the next
    piece. If the following bytes are still free when the open connection reaches them, it reads on, even over
    a few received bytes.

    Claims start at the start of the file, so that the hashers can follow, and a failure leaves few gaps.

    Args:
        total: Size of the file in bytes, None if it is unknown: then one connection is open.
        have: The received bytes.
    """

    def __init__(self, total: int | None, have: Spans) -> None:
        self.total = _ENDLESS if total is None else total
        self.have = have
        """The received bytes, including those of earlier attempts."""
        self._claims: dict[int, Span] = {}
        self._open: int | None = None

    def __repr__(self) -> str:
        return f"<Claims {length(self.have)} of {self.total} bytes, claims {self._claims}>"

    @property
    def rest(self) -> int:
        """Return the number of missing bytes."""
        return self.total - length(self.have)

    def begin(self, key: int) -> int:
        """Claim the first gap for connection `key`, whose response continues to the end of the file.

        Returns:
            The start of the gap.
        """
        self._open = key
        start = beginning(self.have)
        ahead = [span.start for span in self.have if span.start > start]
        self._claims[key] = Span(start, min(ahead, default=self.total))
        return start

    def claim(self, key: int, size: int, *, cut: int | None = None) -> Span | None:
        """Claim about `size` of the first free bytes for connection `key`; None if all are claimed.

        The open connection keeps `cut` bytes, `size` by default.
        """
        gaps = missing(self._taken(), self.total)
        if not gaps and self._cut(cut or size):
            gaps = missing(self._taken(), self.total)
        if not gaps:
            return None
        start, end = gaps[0]
        span = self._claims[key] = Span(start, end if end - start < size + size // 2 else start + size)
        return span

    def left(self, key: int) -> int:
        """Return the number of bytes that connection `key` must still receive."""
        start, end = self._claims.get(key, Span(0, 0))
        return end - start

    def is_at_end(self, key: int) -> bool:
        """Return True if the claim of connection `key` is open and reaches the end of the file."""
        return key == self._open and self._claims[key].end >= self.total

    def extend(self, key: int, size: int | None, *, skip: int = 0) -> bool:
        """Extend the claim of the open connection by `size` bytes, or (None) up to the next claimed ones.

        Up to `skip` received bytes may be in between: they are received again and dropped. Return False if
        other connections have claimed the following bytes, or nothing is missing.
        """
        at = self._claims[key].end
        gaps = [gap for gap in missing(self._taken(), self.total) if gap.start >= at]
        if key != self._open or not gaps or gaps[0].start - at > skip:
            return False
        start, end = gaps[0]
        if any(gap.end > at for gap in missing(self.have, start)):
            return False
        self._claims[key] = Span(start, end if size is None else min(end, start + size))
        return True

    def take(self, key: int, came: Span) -> Span:
        """Record that connection `key` received the bytes `came`; return the claimed part of them.

        Raises:
            ValueError: Bytes before them are missing, so their offset is wrong.
        """
        start, end = self._claims[key]
        if came.start > start:
            raise ValueError(f"received bytes from offset {came.start}, but offset {start} is next")
        wanted = Span(start, max(start, min(end, came.end)))
        self._claims[key] = Span(wanted.end, end)
        self.have = added(self.have, wanted)
        return wanted

    def close(self, key: int) -> None:
        """Record that the response of the open connection `key` has ended: its next claims have an end."""
        if self._open == key:
            self._open = None

    def release(self, key: int) -> None:
        """Release the bytes that connection `key` did not receive."""
        self._claims.pop(key, None)
        self.close(key)

    def _taken(self) -> Spans:
        return joined((*self.have, *self._claims.values()))

    def _cut(self, size: int) -> bool:
        """Cut the claim of the open connection to `size` bytes, if at least as many are left for another."""
        if self._open is None:
            return False
        start, end = self._claims[self._open]
        if end - start < 2 * size:
            return False
        self._claims[self._open] = Span(start, start + size)
        return True


def _more_serious(known: Failure | None, new: Failure) -> Failure:
    """Return the failure to report for the file: a body that is too long, else the retryable one."""
    if known is None or new.kind is FailureKind.OVERLONG:
        return new
    return known if known.retryable else new


def _range_of(span: Span, validator: Validator) -> Mapping[str, str]:
    """Return the fields that request `span` of the object that `validator` names (RFC 9110, 13.1.1, 14.2).

    Some servers support only `If-Match`, some only `If-Range`. Without a strong ETag there is no condition.
    """
    if validator.strong_etag is None:
        return range_headers(span.start, Validator(), span.end)
    return {**range_headers(span.start, validator, span.end), "If-Match": validator.strong_etag}


def _serves(response: Response, span: Span, version: Version) -> bool:
    """Return True if a response starts with `span` of the same object, and does not go beyond it.

    Only a strong ETag proves that ranges can be combined (RFC 9110, 15.3.7.3).
    """
    start, end, _ = content_range(response.headers)
    by_etag = version._replace(validator=Validator(version.validator.strong_etag))
    return (
        response.status == _PARTIAL
        and coding_of(response.headers) is None
        and start == span.start
        and end is not None
        and end < span.end
        and by_etag.compared(stated_version(_PARTIAL, response.headers)) is True
    )

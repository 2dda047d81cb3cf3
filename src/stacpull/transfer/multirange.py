"""One long body received into a part file, over one connection or, where that is slow, over several.

    response ─▶ connection ─┐
    206 ──────▶ connection ─┼─ pieces ─▶ writer ─▶ part
    206 ──────▶ connection ─┘

The first connection reads the response that is open already. What is missing of the file, other connections
ask for piece by piece, each under If-Match and If-Range with the strong ETag of the first response; their
responses must have that ETag and the Content-Range that was asked for. `transfer.connection_count` decides
how many connections there are, `Claims` which one receives what.

- Receiving continues while the part is written; a connection waits when more than its share of some mebibytes
  is waiting to be written (`BufferBudget`).
- A connection that fails ends, and any other may ask for what it did not receive. The attempt has failed only
  when the last one has ended and bytes are missing; what was received stays in the part.
- Only the last connection ever waits for a permit of the host's gate; the others end where none is free, and
  return theirs after each piece. So files share a host, and no connection waits while holding a permit.
- A response that is not the range asked for, of the very same object, ends the splitting. If another
  connection remains it receives the rest; if not, the part cannot be resumed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind, TooLongError, Validator
from stacpull.net.bodies import coding_of
from stacpull.net.client import Client, Exchange, NoPermitError
from stacpull.net.fields import content_range
from stacpull.net.transport import Request, Response, TransferError
from stacpull.spans import Span, Spans, added, beginning, joined, length, missing
from stacpull.transfer.checks import failed, too_long
from stacpull.transfer.connection_count import ConnectionCount
from stacpull.transfer.part_writer import PartWriter, Piece
from stacpull.transfer.resume import same_version

CHUNK = 1 << 18
"""Bytes that are passed on at once."""
_AHEAD = 1 << 20
_AHEAD_OF_ALL = 8 << 20
_READ_OVER = 8 << 20
"""Bytes that are there already and are received once more, rather than asking for another response."""
_ANSWERS = frozenset({200, 206, 412, 416})
_PARTIAL = 206
_ENDLESS = 1 << 62
"""End of a file whose size is not known."""


class RemoteObject(NamedTuple):
    """The object behind `href` that `validator` names."""

    href: str
    validator: Validator
    total: int | None
    """Its size in bytes, None if it is not known."""


class BufferBudget:
    """The memory for bytes that wait to be written, shared by all downloads of a process."""

    def __init__(self) -> None:
        self._downloads = 0

    def enter(self) -> None:
        """Share with one more download."""
        self._downloads += 1

    def leave(self) -> None:
        """Share with one less."""
        self._downloads -= 1

    def share(self) -> int:
        """Return how many bytes of one download may wait."""
        return min(_AHEAD, _AHEAD_OF_ALL // max(1, self._downloads))


class MultiRangeDownload:
    """The transfer of one body into `writer`. For one use.

    Args:
        client: Sends the requests of further connections.
        writer: The part; what is in it already is not asked for again.
        clock: Where time comes from.
        budget: Shared with the other downloads.
        remote: What is downloaded.
        connections: The most that it may have.
        on_no_ranges: Called if the host turns out not to serve ranges of it.
    """

    def __init__(
        self,
        client: Client,
        writer: PartWriter,
        clock: Clock,
        budget: BufferBudget,
        remote: RemoteObject,
        *,
        connections: int = 1,
        on_no_ranges: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._remote = remote
        self._budget = budget
        self._on_no_ranges = on_no_ranges
        self._claims = Claims(remote.total, writer.have)
        self._connections = connections
        self._failure: Failure | None = None
        self._keys = 0  # ever
        self._pending: list[Piece] = []
        self._held = 0
        self._filled, self._written = asyncio.Event(), asyncio.Event()
        self._flowing: set[int] = set()

    async def run(self, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        """Receive all that is missing: the first gap from `response`, whose body is `chunks`.

        Raises:
            TransferError: Bytes are missing and cannot be received; or there were too many.
            DestinationError: The part cannot be written.
            CredentialsError: What a response means for the whole run.
        """
        now = self._clock.monotonic()
        self._count = ConnectionCount(self._connections, now, first_byte=response.first_byte)
        self._budget.enter()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._write())
                await self._connection(self._new_key(), (response, chunks))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        finally:
            self._budget.leave()
        if self._failure is not None and (self._claims.rest or self._failure.kind is FailureKind.OVERLONG):
            raise TransferError(self._failure)

    # --- connections ---------------------------------------------------------------------------------------

    def _new_key(self) -> int:
        self._keys += 1
        self._count.opened()
        return self._keys

    async def _connection(self, key: int, first: tuple[Exchange, AsyncIterator[bytes]] | None = None) -> None:
        """Receive what is wanted of `first`, then piece after piece."""
        try:
            if first is not None:
                await self._read_open(key, *first)
            while (span := self._next(key)) is not None:
                try:
                    await self._receive_piece(key, span)
                except NoPermitError:
                    self._count.refused()
                    if self._count.active > 1:
                        break
                    self._claims.release(key)  # the last one stays, and waits for its turn
        except TransferError as error:
            self._count.troubled()
            self._failure = _graver(self._failure, error.failure)
        finally:
            self._claims.release(key)
            self._count.ended(has_flowed=key in self._flowing)
            self._flowing.discard(key)
            self._filled.set()

    async def _read_open(self, key: int, response: Exchange, chunks: AsyncIterator[bytes]) -> None:
        """Read the response that continues to the end of the file, as far as no other has what follows."""
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
        """Tell if the open response is still wanted: at the end of the file its end is, which proves it."""
        if self._claims.is_at_end(key):
            return True
        if self._count.active > 1:
            return self._claims.extend(key, self._piece_size())
        return self._claims.extend(key, None, skip=_READ_OVER)

    def _next(self, key: int) -> Span | None:
        """Return what connection `key` is to receive next, None if it is to end."""
        if self._claims.left(key) or self._count.active > self._count.wanted:
            return None
        return self._claims.claim(key, self._piece_size())

    async def _receive_piece(self, key: int, span: Span) -> None:
        """Ask for `span` and receive it."""
        request = Request(self._remote.href, headers=_range_of(span, self._remote.validator))
        alone = self._count.active == 1
        async with self._client.open(request, accept=_ANSWERS, count_refusal=False, wait=alone) as response:
            if not _serves(response, span, self._remote):
                self._end_splitting(response.url)
                return
            at = span.start
            async for chunk in response.chunks(CHUNK):
                at = await self._accept(key, at, chunk)
        left = self._claims.left(key)
        if left:
            what = f"sent {span.end - span.start - left} of {span.end - span.start} bytes of a range"
            raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))

    def _end_splitting(self, url: str) -> None:
        """Ask for no more ranges.

        Raises:
            TransferError: CHANGED, if no other connection can receive what is missing.
        """
        self._on_no_ranges()
        self._count.stay_at_one()
        if self._count.active == 1:
            what = "sent another part, or a part of another object, than was asked for"
            raise TransferError(failed(FailureKind.CHANGED, url, what, again=True))

    # --- pieces ------------------------------------------------------------------------------------------

    async def _accept(self, key: int, at: int, chunk: bytes) -> int:
        """Queue for writing what connection `key` may take of `chunk`, whose first byte is at `at`.

        Waits while too much is waiting to be written.

        Returns:
            The position after it.
        """
        claims, place, end = self._claims, at, at + len(chunk)
        while place < end and (claims.left(key) or self._read_past(key)):
            if not claims.left(key):
                what = f"sent more than the {self._remote.total} bytes that it announced"
                raise TransferError(failed(FailureKind.OVERLONG, self._remote.href, what, again=True))
            wanted = claims.take(key, Span(place, end))
            if wanted.start == wanted.end:
                break  # all of it is there already
            self._pending.append((wanted.start, chunk[wanted.start - at : wanted.end - at]))
            self._held += wanted.end - wanted.start
            place = wanted.end
        self._filled.set()
        self._open_more(key, len(chunk))
        while self._held > self._budget.share():
            self._written.clear()
            await self._written.wait()
        return end

    async def _write(self) -> None:
        """Write what the connections receive, all that waits at once, until the last one has ended."""
        while self._count.active or self._pending:
            await self._filled.wait()
            self._filled.clear()
            pieces, self._pending, self._held = self._pending, [], 0
            self._written.set()
            if pieces:
                try:
                    await self._writer.put(pieces)
                except TooLongError as error:
                    raise TransferError(too_long(self._remote.href, error)) from error

    # --- how many ----------------------------------------------------------------------------------------

    def _open_more(self, key: int, size: int) -> None:
        """Count what connection `key` received, and open connections if there should be more."""
        now, more = self._clock.monotonic(), 0
        if key not in self._flowing:
            self._flowing.add(key)
            more = self._count.flows(now)
        more += self._count.received(now, size, self._claims.rest)
        for _ in range(more):
            self._group.create_task(self._connection(self._new_key()))

    def _piece_size(self) -> int:
        return self._count.piece_size(self._claims.rest)


class Claims:
    """Which connection receives which bytes of one file.

    Each connection has a claim on a stretch of the file, which shrinks from its start as bytes are received.
    No two claims overlap, and none is of bytes that are there: whatever is received, in whatever order, is
    written once.

    One connection may be *open*: its response continues to the end of the file. Alone it claims all that is
    missing up to the next bytes that are there. When another connection asks for a claim, the open one's is
    cut to the next piece; if no other has claimed what follows when it gets there, it simply reads on, over a
    little that is there already.

    Claims are made from the start of the file on, so that the checksum can follow, and few gaps are left by
    whatever breaks off.

    Args:
        total: Size of the file in bytes, None if it is not known: then one connection is open.
        have: What is there.
    """

    __slots__ = ("_claims", "_open", "have", "total")

    def __init__(self, total: int | None, have: Spans) -> None:
        self.total = _ENDLESS if total is None else total
        self.have = have
        """What was received, and what was there before."""
        self._claims: dict[int, Span] = {}
        self._open: int | None = None

    def __repr__(self) -> str:
        return f"<Claims {length(self.have)} of {self.total} bytes, claims {self._claims}>"

    @property
    def rest(self) -> int:
        """How many bytes are missing."""
        return self.total - length(self.have)

    def begin(self, key: int) -> int:
        """Let connection `key` have the first gap, with a response that continues to the end of the file.

        Returns:
            Where the gap begins.
        """
        self._open = key
        start = beginning(self.have)
        ahead = [span.start for span in self.have if span.start > start]
        self._claims[key] = Span(start, min(ahead, default=self.total))
        return start

    def claim(self, key: int, size: int) -> Span | None:
        """Give connection `key` the first free bytes, about `size` of them; None if all are taken."""
        gaps = missing(self._taken(), self.total)
        if not gaps and self._cut(size):
            gaps = missing(self._taken(), self.total)
        if not gaps:
            return None
        start, end = gaps[0]
        span = self._claims[key] = Span(start, end if end - start < size + size // 2 else start + size)
        return span

    def left(self, key: int) -> int:
        """Return how many bytes connection `key` has still to receive."""
        start, end = self._claims.get(key, Span(0, 0))
        return end - start

    def is_at_end(self, key: int) -> bool:
        """Tell if the claim of connection `key` is open and reaches to the end of the file."""
        return key == self._open and self._claims[key].end >= self.total

    def extend(self, key: int, size: int | None, *, skip: int = 0) -> bool:
        """Let the open connection claim what follows, `size` bytes or (None) up to the next taken ones.

        Up to `skip` bytes that are there may lie in between: they are received, and not wanted. Return False
        if others have what follows, or nothing is missing.
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
        """Note that connection `key` received the bytes `came`; return those that are wanted: its next ones.

        Raises:
            ValueError: bytes before them have not come: they would be taken for others.
        """
        start, end = self._claims[key]
        if came.start > start:
            raise ValueError(f"bytes from {came.start} on came where those from {start} on are next")
        wanted = Span(start, max(start, min(end, came.end)))
        self._claims[key] = Span(wanted.end, end)
        self.have = added(self.have, wanted)
        return wanted

    def close(self, key: int) -> None:
        """Note that the response of the open connection `key` is over: its next claims have an end."""
        if self._open == key:
            self._open = None

    def release(self, key: int) -> None:
        """Let others have what connection `key` did not receive."""
        self._claims.pop(key, None)
        self.close(key)

    def _taken(self) -> Spans:
        return joined((*self.have, *self._claims.values()))

    def _cut(self, size: int) -> bool:
        """Cut the claim of the open connection to `size` bytes, if as many would be left for another."""
        if self._open is None:
            return False
        start, end = self._claims[self._open]
        if end - start < 2 * size:
            return False
        self._claims[self._open] = Span(start, start + size)
        return True


def _graver(known: Failure | None, new: Failure) -> Failure:
    """Return which of two failures is the file's: too much content, else the one that may be gone later."""
    if known is None or new.kind is FailureKind.OVERLONG:
        return new
    return known if known.retryable else new


def _range_of(span: Span, validator: Validator) -> Mapping[str, str]:
    """Return the fields that ask for `span` of the object that `validator` names (RFC 9110, 13.1.1 and 14.2).

    A server that ignores `If-Match` may know `If-Range`, and the other way round.
    """
    headers = {"Range": f"bytes={span.start}-{span.end - 1}"}
    if validator.strong_etag is not None:
        headers["If-Match"] = headers["If-Range"] = validator.strong_etag
    return headers


def _serves(response: Response, span: Span, remote: RemoteObject) -> bool:
    """Tell if a response begins `span` of the very object, and goes no further."""
    start, end, total = content_range(response.headers)
    return (
        response.status == _PARTIAL
        and coding_of(response.headers) is None
        and start == span.start
        and end is not None
        and end < span.end
        and total in {None, remote.total}
        and same_version(remote.validator, response.headers)
    )

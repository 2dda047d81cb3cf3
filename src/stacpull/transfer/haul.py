"""One long body on its way into a part file, over one connection or, where that is slow, over several.

    response ─▶ lane ─┐
    206 ──────▶ lane ─┼─ pieces ─▶ scribe ─▶ part
    206 ──────▶ lane ─┘

The first lane reads the response that is open already. What it lacks of the file, other lanes ask for piece
by piece, each under If-Match and If-Range with the strong ETag of the first response, and held to that ETag
and the Content-Range that was asked for. `transfer.splitting` decides how many lanes there are,
`transfer.shares` who brings what.

- Receiving goes on while the scribe writes; a lane waits when more than its share of
  some mebibytes waits for the scribe (`Room`).
- A lane that fails ends, and what it did not bring is anybody's. Only when the last one has ended and bytes
  are missing has the attempt failed; what came stays in the part.
- Only the last lane ever waits for a permit of the host's gate; the others go where none is free, and give
  theirs back after each piece. So files share a host, and nobody waits while holding one.
- An answer that is not the range asked for, of the very same object, ends the splitting. If another lane is
  still there it brings the rest; if not, the part is nothing to go on from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from stacpull.clock import Clock
from stacpull.models import Failure, FailureKind, Validator
from stacpull.net.client import NoPermitError
from stacpull.net.coding import coding_of
from stacpull.net.transport import Request, Response, TransferError
from stacpull.spans import Span
from stacpull.transfer.headers import content_range
from stacpull.transfer.intake import failed
from stacpull.transfer.opener import LaneOpener, Reply
from stacpull.transfer.parts import PartWriter, Piece
from stacpull.transfer.resume import same_version
from stacpull.transfer.shares import Shares
from stacpull.transfer.splitting import LOOK_BYTES, LOOK_SECONDS, Growth, Look, decide, piece_size

__all__ = ["CHUNK", "Freight", "Haul", "Room"]

CHUNK = 1 << 18
"""Bytes that are passed on at once."""
_AHEAD = 1 << 20
_AHEAD_OF_ALL = 8 << 20
_READ_OVER = 8 << 20
"""Bytes that are there already and come once more, sooner than that another response is asked for."""
_ANSWERS = frozenset({200, 206, 412, 416})
_PARTIAL = 206


@dataclass(frozen=True, slots=True)
class Freight:
    """What is hauled: the object behind `href` that `validator` names, `total` bytes long (None: unknown)."""

    href: str
    validator: Validator
    total: int | None
    most: int = 1
    """Connections it may have at most."""


class Room:
    """The memory for what waits to be written, shared by all hauls of a process: few get more each."""

    def __init__(self) -> None:
        self._hauls = 0

    def enter(self) -> None:
        """Share with one more."""
        self._hauls += 1

    def leave(self) -> None:
        """Share with one less."""
        self._hauls -= 1

    def share(self) -> int:
        """Return how many bytes of one haul may wait."""
        return min(_AHEAD, _AHEAD_OF_ALL // max(1, self._hauls))


class Haul:
    """The way of one body into `writer`. For one use.

    Args:
        client: Sends the requests of further lanes.
        writer: The part; what is in it already is not asked for again.
        clock: Where time comes from.
        freight: What comes.
        room: Shared with the other hauls.
        on_unserved: Called if the host turns out not to serve ranges of it.
    """

    def __init__(
        self,
        client: LaneOpener,
        writer: PartWriter,
        clock: Clock,
        freight: Freight,
        room: Room,
        on_unserved: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._freight = freight
        self._shared_room = room
        self._on_unserved = on_unserved
        self._shares = Shares(freight.total, writer.have)
        self._growth = Growth(freight.most)
        self._failure: Failure | None = None
        self._lanes = 0  # ever
        self._active = 0
        self._pending: list[Piece] = []
        self._held = 0
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._looked, self._came, self._rate = clock.monotonic(), 0, 0.0
        self._troubled = self._refused = False

    async def run(self, reply: Reply, start: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Bring the first gap from `reply`, of which `start` was read before, and all else that is missing.

        Raises:
            TransferError: Bytes are missing, and nobody brings them; or there were too many.
            DestinationError: The part cannot be written.
            CredentialsError: What a response means for the whole run.
        """
        self._shared_room.enter()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._scribe())
                await self._lane(self._new_lane(), (reply, start, chunks))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        finally:
            self._shared_room.leave()
        if self._failure is not None and (self._shares.rest or self._failure.kind is FailureKind.OVERLONG):
            raise TransferError(self._failure)

    # --- lanes -------------------------------------------------------------------------------------------

    def _new_lane(self) -> int:
        self._lanes += 1
        self._active += 1
        return self._lanes

    async def _lane(self, lane: int, first: tuple[Reply, bytes, AsyncIterator[bytes]] | None = None) -> None:
        """Bring what is to be had of `first`, then piece after piece."""
        try:
            if first is not None:
                await self._read_on(lane, *first)
            while (span := self._next(lane)) is not None:
                try:
                    await self._bring_piece(lane, span)
                except NoPermitError:
                    self._refused = True
                    if self._active > 1:
                        break
                    self._shares.release(lane)  # the last one stays, and waits for its turn
        except TransferError as error:
            self._troubled = True
            self._failure = _graver(self._failure, error.failure)
        finally:
            self._shares.release(lane)
            self._active -= 1
            self._filled.set()

    async def _read_on(self, lane: int, reply: Reply, start: bytes, chunks: AsyncIterator[bytes]) -> None:
        """Read a response that goes on to the end of the file, as far as nobody else has what follows."""
        shares = self._shares
        at = shares.begin(lane)
        try:
            if start:
                at = await self._bring(lane, at, start)
            async for chunk in chunks:
                at = await self._bring(lane, at, chunk)
                if not shares.left(lane) and not self._read_past(lane):
                    break
        except TransferError as error:
            await reply.leave(error)
            raise
        shares.close(lane)
        await reply.leave()

    def _read_past(self, lane: int) -> bool:
        """Tell if the open response is still wanted: at the end of the file its end is, which proves it."""
        if self._shares.is_at_end(lane):
            return True
        if self._active > 1:
            return self._shares.extend(lane, self._piece_size())
        return self._shares.extend(lane, None, skip=_READ_OVER)

    def _next(self, lane: int) -> Span | None:
        """Return what `lane` is to bring next, None if it is to end."""
        if self._shares.left(lane) or self._active > self._growth.lanes:
            return None
        return self._shares.claim(lane, self._piece_size())

    async def _bring_piece(self, lane: int, span: Span) -> None:
        """Ask for `span` and bring it."""
        request = Request(self._freight.href, headers=_range_of(span, self._freight.validator))
        alone = self._active == 1
        async with self._client.open(request, accept=_ANSWERS, count_refusal=False, wait=alone) as response:
            if not _serves(response, span, self._freight):
                self._end_splitting(response.url)
                return
            at = span.start
            async for chunk in response.chunks(CHUNK):
                at = await self._bring(lane, at, chunk)
        left = self._shares.left(lane)
        if left:
            what = f"sent {span.end - span.start - left} of {span.end - span.start} bytes of a range"
            raise TransferError(failed(FailureKind.TRUNCATED, response.url, what, again=True))

    def _end_splitting(self, url: str) -> None:
        """Ask for no more ranges.

        Raises:
            TransferError: CHANGED, if nobody else brings what is missing.
        """
        self._on_unserved()
        self._growth = Growth(most=1)
        if self._active == 1:
            what = "sent another part, or a part of another object, than was asked for"
            raise TransferError(failed(FailureKind.CHANGED, url, what, again=True))

    # --- pieces ------------------------------------------------------------------------------------------

    async def _bring(self, lane: int, at: int, chunk: bytes) -> int:
        """Hand what `lane` is to bring of `chunk`, whose place is `at`, to the scribe; wait if he is behind.

        Returns:
            The place behind it.
        """
        shares, place, end = self._shares, at, at + len(chunk)
        while place < end and (shares.left(lane) or self._read_past(lane)):
            if not shares.left(lane):
                what = f"sent more than the {self._freight.total} bytes that it announced"
                raise TransferError(failed(FailureKind.OVERLONG, self._freight.href, what, again=True))
            wanted = shares.took(lane, Span(place, end))
            if wanted.start == wanted.end:
                break  # all of it is there already
            self._pending.append((wanted.start, chunk[wanted.start - at : wanted.end - at]))
            self._held += wanted.end - wanted.start
            place = wanted.end
        self._came += len(chunk)
        self._filled.set()
        self._look()
        while self._held > self._shared_room.share():
            self._room.clear()
            await self._room.wait()
        return end

    async def _scribe(self) -> None:
        """Write what the lanes bring, all that waits at once, until the last has ended."""
        while self._active or self._pending:
            await self._filled.wait()
            self._filled.clear()
            pieces, self._pending, self._held = self._pending, [], 0
            self._room.set()
            if pieces:
                await self._writer.put(pieces)

    # --- how many ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Decide, if it is time, how many lanes there should be, and start those that lack."""
        if self._growth.most == 1:
            return
        now = self._clock.monotonic()
        seconds = now - self._looked
        if seconds < LOOK_SECONDS or (self._came < LOOK_BYTES * self._active and not self._troubled):
            return
        self._rate = self._came / seconds
        look = Look(now, self._rate, self._active, self._shares.rest, self._troubled, self._refused)
        self._growth = decide(self._growth, look)
        self._looked, self._came, self._troubled, self._refused = now, 0, False, False
        for _ in range(self._growth.lanes - self._active):
            self._group.create_task(self._lane(self._new_lane()))

    def _piece_size(self) -> int:
        return piece_size(self._rate, self._growth.lanes, self._shares.rest)


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


def _serves(response: Response, span: Span, freight: Freight) -> bool:
    """Tell if a response begins `span` of the very object, and goes no further."""
    start, end, total = content_range(response.headers)
    return (
        response.status == _PARTIAL
        and coding_of(response.headers) is None
        and start == span.start
        and end is not None
        and end < span.end
        and total in {None, freight.total}
        and same_version(freight.validator, response.headers)
    )

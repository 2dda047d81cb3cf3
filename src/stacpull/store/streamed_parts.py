"""Uploads long bodies to a bucket while they are received.

    body ─▶ piece in memory ─▶ SHA-256 ─▶ UploadPart ─▶ an object among the parts (`store.staged_objects`)

No byte of a body is written to the disk. A multipart upload is invisible until it is completed. The completed
object is one of the mirror's parts: the publisher has the service copy this part to its final key
(`store.server_copy`), with the digest, and then removes the part. So content that fails a check never gets a
final key.

If bodies may be sent to the store process (`in_memory`), a body of one piece goes there, and the store
process stores the body with one PUT to its final key.

After a kill, an upload continues after the last piece without a gap before it. The service verified these
pieces when it stored them, but the state of the hashers is lost, so the complete object is read once. Within
a run, an interrupted transfer also continues with the bytes in memory.

`PieceBudget` limits the memory of all transfers of a process to 128 MiB. A transfer reserves room for a piece
before its first byte, and frees it when the service has the piece, whose memory is used again. While there is
no room, transfers and their servers wait. In addition, up to four interrupted transfers keep part of a piece:
64 MiB at most. Bytes must arrive in order, because they are hashed in order: a file is received over one
connection.

An upload has at most 10,000 pieces, and pieces here are at most 16 MiB. Files of more than 156 GiB are
therefore written to the work directory first. A file of unknown length fails when it exceeds this size, and
so does any file that is longer than an object of S3 can be.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ParamSpec, TypeVar

from stacpull.digests import Hasher
from stacpull.errors import DestinationError
from stacpull.models import PieceBuffer, ResumePoint, TooLongError, Validator
from stacpull.spans import Span, Spans
from stacpull.store.bucket import BucketStore
from stacpull.store.bucket_service import code_behind
from stacpull.store.buffered_parts import new_identity
from stacpull.store.complete_parts import complete_part_name
from stacpull.store.disk_errors import destination_error
from stacpull.store.multipart import MOST_PIECES, UploadedPiece, UploadNote
from stacpull.store.part_files import Pair
from stacpull.store.parts import FilePart, FileParts
from stacpull.store.protocol import LONGEST_HELD
from stacpull.store.s3_bucket import READ
from stacpull.store.staged_objects import StagedObject, upload_name

P = ParamSpec("P")
T = TypeVar("T")

PIECE = 8 << 20
"""Bytes of a piece, unless a file has more than `MOST_PIECES` of them."""
_LONGEST_PIECE = 16 << 20
"""The most bytes of a piece, also used for files of unknown length."""
_LONGEST_OBJECT = 5 << 40
"""A limit of S3."""
MOST_HELD = 128 << 20
"""Bytes of the pieces of a process in memory."""
_UNIT = 1 << 20
_AHEAD = 4
"""Simultaneous pieces of one file."""
_MOST_TAILS = 4
"""Interrupted transfers whose last bytes stay in memory, in addition to the budget."""


class PieceBudget:
    """The memory for pieces, shared by all transfers of a process."""

    def __init__(self, size: int = MOST_HELD) -> None:
        self._most = max(1, size // _UNIT)
        self._units = asyncio.Semaphore(self._most)
        self._turn = asyncio.Lock()
        self._taken = 0
        """Units."""
        self._spare: list[PieceBuffer] = []
        """The memory of sent pieces, each of `PIECE` bytes. New memory would cost 2,000 page faults."""

    async def acquire(self, size: int) -> int:
        """Wait for room; return the units for `release`. A piece larger than the budget gets all of it."""
        units = min(self._most, -(-size // _UNIT))
        taken = 0
        async with self._turn:  # one after the other, so that two pieces do not wait for each other
            try:
                while taken < units:
                    await self._units.acquire()
                    taken += 1
                    self._taken += 1
            except BaseException:
                self.release(taken)
                raise
        while self._spare and self._taken + len(self._spare) * (PIECE // _UNIT) > self._most:
            self._spare.pop()
        return units

    def release(self, units: int) -> None:
        """Free room."""
        self._taken -= units
        for _ in range(units):
            self._units.release()

    def memory(self, size: int) -> PieceBuffer:
        """Return memory for a piece, for which there is room. Its content is arbitrary.

        That of a piece with `PIECE` bytes may have been used before. Other memory is empty, and grows.
        """
        if size != PIECE:
            return PieceBuffer()
        return self._spare.pop() if self._spare else PieceBuffer(PIECE)

    def give_back(self, memory: PieceBuffer, units: int) -> None:
        """Free the room of a piece, and keep its memory for another one."""
        self.release(units)
        if len(memory) == PIECE and self._taken + (len(self._spare) + 1) * (PIECE // _UNIT) <= self._most:
            self._spare.append(memory)


class StreamedParts:
    """The long bodies of one mirror in a bucket (`transfer.part_writer.Parts`)."""

    def __init__(
        self,
        store: BucketStore,
        files: FileParts,
        *,
        checksum: str | None,
        in_memory: bool = False,
        budget: PieceBudget | None = None,
    ) -> None:
        """Read the noted uploads, which blocks. Nothing is sent yet.

        Args:
            store: The bucket.
            files: Part files, for bodies that do not arrive in order.
            checksum: Algorithm of the digest to record; None for none.
            in_memory: True if a body of one piece may be sent to the store process.
            budget: The budget of the process.
        """
        self.files = files
        self._store = store
        self._checksum = checksum
        self._in_memory = in_memory
        self._budget = budget or PieceBudget()
        self._known = _with_disk_errors(store, store.staged.noted_uploads)
        self._parked: dict[Pair, _StreamedPart] = {}

    async def point(self, row: int, generation: int) -> ResumePoint | None:
        pair = row, generation
        if pair not in self._known:
            return await self.files.point(row, generation)
        part = self._parked.get(pair)
        if part is None:
            part = await _off_loop(self._store, self._taken_up, row, generation)
            if part is None:
                return None
            self._parked[pair] = part
        return ResumePoint(part.size, part.validator, part.total, part.origin) if part.size else None

    def has_no_part(self, row: int, generation: int) -> bool:
        return (row, generation) not in self._known and self.files.has_no_part(row, generation)

    async def create(
        self,
        row: int,
        generation: int,
        validator: Validator,
        total: int | None,
        origin: int | None = None,
    ) -> _StreamedPart | FilePart:
        """Start an empty part. The upload of an earlier attempt is removed.

        Raises:
            TooLongError: An object cannot be that long.
            CredentialsError, DestinationError: It cannot be removed.
        """
        if total is not None and total > _LONGEST_OBJECT:
            raise TooLongError(_LONGEST_OBJECT)
        pair = row, generation
        if pair in self._known:
            left = self._parked.pop(pair, None)
            left = left or await _off_loop(self._store, self._taken_up, row, generation)
            if left is not None:
                await left.discard()
        piece = _LONGEST_PIECE if total is None else max(PIECE, -(-total // MOST_PIECES))
        if piece > _LONGEST_PIECE:
            return await self.files.create(row, generation, validator, total, origin)
        name = upload_name(pair)
        key, (etag, modified) = self._store.staged.new_key(name), validator
        note = UploadNote(name, key, piece, total, etag=etag, last_modified=modified, origin=origin)
        return self._part(pair, note)

    async def resume(self, row: int, generation: int) -> _StreamedPart | FilePart:
        part = self._parked.pop((row, generation), None)
        return part or await self.files.resume(row, generation)

    def _part(self, pair: Pair, note: UploadNote) -> _StreamedPart:
        return _StreamedPart(
            self._store, self._budget, self._checksum, pair, note, self._ended, in_memory=self._in_memory
        )

    def _ended(self, part: _StreamedPart, *, is_kept: bool) -> None:
        """Record the end of a part, which is kept or not."""
        if not is_kept:
            self._known.discard(part.pair)
            return
        self._known.add(part.pair)
        self._parked[part.pair] = part
        for one in [parked for parked in self._parked.values() if parked.has_tail][:-_MOST_TAILS]:
            one.drop_tail()

    def _taken_up(self, row: int, generation: int) -> _StreamedPart | None:
        """Resume an upload with the pieces that the service has; None if it cannot be resumed."""
        staged, uploads = self._store.staged, self._store.uploads
        note = uploads.claim_note(upload_name((row, generation)))
        if note is None:
            return None
        part = self._part((row, generation), note)
        if not part.validator.resumable:
            staged.drop_upload(note)
            return None
        stored = uploads.stored(note)
        whole = staged.whole(note) if stored is None else None
        if stored is not None:
            part.keep_stored(stored)
        elif whole is not None and whole.size == note.total:
            part.mark_completed(whole.etag)
        else:
            staged.drop_upload(note)
            return None
        return part


class _Tail:
    """The received bytes of the next piece."""

    def __init__(self, memory: PieceBuffer | None = None) -> None:
        self.memory = PieceBuffer() if memory is None else memory
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: memoryview) -> None:
        end = self._size + len(data)
        if end <= len(self.memory):
            with memoryview(self.memory) as view:
                view[self._size : end] = data
        else:
            del self.memory[self._size :]
            self.memory.extend(data)
        self._size = end

    def taken(self) -> PieceBuffer:
        """Return the bytes, without copying them if nothing else is in their memory."""
        return self.memory if len(self.memory) == self._size else PieceBuffer(self.view())

    def view(self) -> memoryview:
        """Return the bytes without copying them."""
        return memoryview(self.memory)[: self._size]


class _StreamedPart:
    """One body (`transfer.part_writer.PartWriter`)."""

    def __init__(
        self,
        store: BucketStore,
        budget: PieceBudget,
        checksum: str | None,
        pair: Pair,
        note: UploadNote,
        on_end: Callable[..., None],
        *,
        in_memory: bool,
    ) -> None:
        self.pair = pair
        self.size = 0
        self.hashed = 0
        self._store = store
        self._staged = store.staged
        self._uploads = store.uploads
        self._budget = budget
        self._checksum = checksum
        self._note = note
        self._on_end = on_end
        self._in_memory = in_memory
        self._hashers: Mapping[str, Hasher] = {}
        self._is_hashed_later = False
        """True once the hashers lack bytes that the service has. The complete object is then read."""
        self._tail = _Tail()
        self._room = 0
        """Reserved units of the budget for it."""
        self._pieces: dict[int, UploadedPiece] = {}
        self._sending: list[asyncio.Future[None]] = []
        self._last_hashed = threading.Event()
        """Set once the last sent piece is hashed, so that the next one can be hashed."""
        self._last_hashed.set()
        self._beginning = threading.Lock()
        self._ahead = asyncio.Semaphore(_AHEAD)
        self._etag: str | None = None
        """The ETag of the object, once it is complete."""

    # --- stored and received bytes -----------------------------------------------------------------------

    @property
    def validator(self) -> Validator:
        """The validator of the version that the bytes belong to."""
        return Validator(self._note.etag, self._note.last_modified)

    @property
    def total(self) -> int | None:
        """The size of the whole body in bytes, if known."""
        return self._note.total

    @property
    def origin(self) -> int | None:
        """The hash of its URL (`redact.href_hash`)."""
        return self._note.origin

    @property
    def have(self) -> Spans:
        """There are no gaps."""
        return (Span(0, self.size),) if self.size else ()

    @property
    def has_tail(self) -> bool:
        """True if there are bytes that are only in memory."""
        return bool(self._tail)

    def keep_stored(self, stored: Sequence[UploadedPiece]) -> None:
        """Keep the pieces that the service has, up to the first gap, and drop all other bytes."""
        self._pieces, self.size, self._tail = {}, 0, _Tail()
        for piece in sorted(stored):
            is_last = self.size + piece.size == self.total
            if piece.number != len(self._pieces) + 1 or (piece.size != self._note.piece and not is_last):
                break
            self._pieces[piece.number] = piece
            self.size += piece.size
        self._is_hashed_later = self._is_hashed_later or self.hashed != self.size

    def mark_completed(self, etag: str) -> None:
        """Record that the upload is complete."""
        self._etag, self.size, self._is_hashed_later = etag, self.total or 0, True

    def drop_tail(self) -> None:
        """Drop the bytes that are only in memory. They are fetched again."""
        self.size -= len(self._tail)
        self._tail = _Tail()
        self._is_hashed_later = self._is_hashed_later or self.hashed > self.size

    # --- writing -----------------------------------------------------------------------------------------

    async def hash_with(self, hashers: Mapping[str, Hasher]) -> Mapping[str, Hasher]:
        """Existing hashers are kept, unless others are requested."""
        if self.size and not self._is_hashed_later and hashers.keys() <= self._hashers.keys():
            return self._hashers
        self._hashers, self.hashed, self._is_hashed_later = hashers, 0, self.size > 0
        return hashers

    async def put(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Take pieces in order, without gaps; return when they are in memory.

        Raises:
            TooLongError: The body has more bytes than pieces can hold.
            CredentialsError, DestinationError: An earlier piece could not be stored.
        """
        for offset, data in pieces:
            if offset != self.size or self._etag is not None:
                raise RuntimeError(f"received bytes from offset {offset}, but offset {self.size} is next")
            rest = memoryview(data)
            while rest:
                if len(self._tail) == self._note.piece:  # more bytes than announced
                    await self._send_tail()
                if self.size >= (most := self._note.piece * MOST_PIECES):
                    raise TooLongError(most)
                if not self._room:
                    self._room = await self._budget.acquire(self._piece_size())
                if not self._tail:
                    self._tail = _Tail(self._budget.memory(self._piece_size()))
                taken = rest[: self._note.piece - len(self._tail)]
                rest = rest[len(taken) :]
                self._tail.add(taken)
                self.size += len(taken)
                is_whole = self.size == self.total and (self._sending or self._pieces)
                if len(self._tail) == self._note.piece and (is_whole or self.size != self.total):
                    await self._send_tail()

    def _piece_size(self) -> int:
        """Return the size of the current piece."""
        before = self.size - len(self._tail)
        if self.total is None or before >= self.total:
            return self._note.piece
        return min(self._note.piece, self.total - before)

    async def _send_tail(self) -> None:
        """Send the received bytes as a piece.

        Raises:
            CredentialsError, DestinationError: An earlier one could not be stored.
        """
        await self._ahead.acquire()
        number = (self.size - 1) // self._note.piece + 1
        tail, self._tail = self._tail, _Tail()
        room, self._room = self._room, 0
        before, self._last_hashed = self._last_hashed, threading.Event()
        loop = asyncio.get_running_loop()
        sent = loop.run_in_executor(
            self._store.threads, self._send, number, tail.view(), before, self._last_hashed
        )
        sent.add_done_callback(partial(self._make_room, tail.memory, room))
        self._sending = [
            sending for sending in self._sending if not sending.done() or sending.exception() is not None
        ]
        failed = [sending for sending in self._sending if sending.done()]
        self._sending.append(sent)
        if failed:
            failed[0].result()

    def _make_room(self, memory: PieceBuffer, room: int, _: asyncio.Future[None]) -> None:
        self._budget.give_back(memory, room)
        self._ahead.release()

    def _send(self, number: int, body: memoryview, before: threading.Event, hashed: threading.Event) -> None:
        """Hash a piece after the one before it, and send it. Runs in a thread.

        Raises:
            CredentialsError, DestinationError: It cannot be stored.
        """
        try:
            before.wait()
            self._hash_on((number - 1) * self._note.piece, body)
        finally:
            hashed.set()
        sha256 = hashlib.sha256(body).digest()
        with self._beginning:
            if not self._note.upload:
                self._note = _with_disk_errors(self._store, self._uploads.begin, self._note)
        (self._pieces[number],) = _with_disk_errors(
            self._store, self._uploads.send, self._note, {number: (body, sha256)}
        )

    def _hash_on(self, offset: int, data: memoryview) -> None:
        """Hash the bytes that are not hashed yet."""
        if self._is_hashed_later:
            return
        unhashed = data if self.hashed == offset else data[self.hashed - offset :]
        for hasher in self._hashers.values():
            hasher.update(unhashed)
        self.hashed += len(unhashed)

    async def _sent(self) -> None:
        """Wait until the service has all pieces that were sent.

        Raises:
            CredentialsError, DestinationError: It does not have one.
        """
        await self._settled()
        for sending in self._sending:
            sending.result()
        self._sending = []

    async def _settled(self) -> None:
        """Wait until no piece is in flight."""
        if self._sending:
            await asyncio.wait(self._sending)
        for sending in self._sending:
            sending.exception()  # marks it as retrieved: it was raised, or the transfer has failed anyway

    # --- the end -----------------------------------------------------------------------------------------

    async def caught_up(self) -> None:
        """If the state of the hashers was lost, the object is read.

        Raises:
            CredentialsError, DestinationError: It cannot be stored, or read.
        """
        await self._sent()
        if not self._is_hashed_later:
            await _off_loop(self._store, self._hash_on, self.size - len(self._tail), self._tail.view())
        elif self.hashed != self.size:
            await self._complete()
            await _off_loop(self._store, self._read_back)

    async def _complete(self) -> None:
        """Complete the upload."""
        if self._etag is not None:
            return
        if not self._pieces:
            self._etag = await _off_loop(self._store, self._staged.send_whole, self._note, self._tail.view())
        else:
            if self._tail:
                await self._send_tail()
            await self._sent()
            pieces = [self._pieces[number] for number in sorted(self._pieces)]
            self._etag = await _off_loop(self._store, self._complete_upload, pieces)
        self._tail = _Tail()
        self._give_back()

    def _complete_upload(self, pieces: list[UploadedPiece]) -> str:
        if not self._uploads.is_noted(self._note):
            raise DestinationError(f"Another worker has taken over an upload to {self._store.name}.")
        return self._uploads.complete(self._note, pieces)

    def _read_back(self) -> None:
        bucket, self.hashed = self._store.bucket, 0
        with bucket.open(bucket.path(self._note.key), self.size, self._etag or "") as file:
            while chunk := file.read(READ):
                self.hashed += len(chunk)
                for hasher in self._hashers.values():
                    hasher.update(chunk)
        if self.hashed != self.size:
            raise DestinationError(
                f"{bucket.described(self._note.key)} has lost bytes: run `stacpull resume`."
            )

    async def finish(
        self, filename: str | None = None, etag: str | None = None, *, unproven: bool = False
    ) -> str | PieceBuffer:
        """See `PartWriter.finish`.

        Raises:
            CredentialsError, DestinationError: It cannot be stored.
        """
        await self.caught_up()
        if self._in_memory and len(self._tail) == self.size <= LONGEST_HELD and not self._note.upload:
            body, self._tail = self._tail.taken(), _Tail()
            room, self._room = self._room, 0
            self._on_end(self, is_kept=False)
            body.release = partial(self._budget.release, room)
            return body
        await self._complete()
        digest = None if self._checksum is None else self._hashers[self._checksum].digest()
        staged = StagedObject(
            self._note.key, self._etag or "", self.size, self._checksum, digest, new_identity()
        )
        name = complete_part_name(*self.pair, self.size, etag, filename, unproven=unproven)
        await _off_loop(self._store, self._staged.finish, self._note, name, staged)
        self._on_end(self, is_kept=False)
        return name

    async def park(self) -> None:
        """End the transfer and keep the upload, to resume it later. If it cannot be resumed, remove it."""
        await self._settled()
        self._give_back()
        is_longer = self._etag is not None and self.size != self.total
        if not self.validator.resumable or is_longer:
            await self.discard()
            return
        if any(sending.exception() is not None for sending in self._sending):
            self.keep_stored([self._pieces[number] for number in sorted(self._pieces)])
        self._sending = []
        self._on_end(self, is_kept=True)

    async def discard(self) -> None:
        """End the transfer and remove the upload."""
        await self._settled()
        self._sending, self._tail = [], _Tail()
        self._give_back()
        self._on_end(self, is_kept=False)
        if self._note.upload or self._etag is not None:
            await _off_loop(self._store, self._staged.drop_upload, self._note)

    def _give_back(self) -> None:
        room, self._room = self._room, 0
        self._budget.release(room)


async def _off_loop(store: BucketStore, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do `work` in a thread of the bucket."""
    return await asyncio.get_running_loop().run_in_executor(
        store.threads, lambda: _with_disk_errors(store, work, *values, **named)
    )


def _with_disk_errors(store: BucketStore, work: Callable[P, T], *values: P.args, **named: P.kwargs) -> T:
    """Do `work`, and translate errors of the disk and missing uploads to `DestinationError`."""
    try:
        return work(*values, **named)
    except OSError as error:
        if code_behind(error):
            raise DestinationError(
                f"{store.name} has lost an upload or an object: run `stacpull resume`."
            ) from error
        raise destination_error(error, store.work) from error

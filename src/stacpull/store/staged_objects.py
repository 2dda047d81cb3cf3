"""Objects among the parts of a mirror in a bucket, and the notes on the disk that name them.

    bucket   .stacpull/parts/<row>.<generation>.<token>    an upload, or a whole object
    disk     parts/<row>.<generation>.upload               an unfinished upload (`UploadNote`)
             parts/<row>.<generation>.<size>….sent         a whole object (`StagedObject`)

A note is there before the first piece is sent. A kill may leave an upload or an object that no note names:
`sweep` removes it. The note of a whole object takes the place of a part (`store.complete_parts`): whoever
asks for the part gets the object.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from stacpull.errors import DestinationError
from stacpull.models import CopySource
from stacpull.store.bucket_requests import Body, ObjectRequest
from stacpull.store.buffered_parts import PendingCopy
from stacpull.store.complete_parts import parse_complete_part
from stacpull.store.part_files import Pair
from stacpull.store.protocol import PartEntry
from stacpull.store.regular import open_regular, read_regular
from stacpull.store.s3_bucket import NOT_FOUND, ObjectContent, S3Bucket, StoredObject, UploadedPiece

T = TypeVar("T")

_UPLOAD, _SENT, _WHOLE, _NEW = ".upload", ".sent", ".whole", ".new"
NOTES = (_UPLOAD, _SENT)
"""How the names of notes end."""
_LIMIT = 1 << 16
_STAGING = ".stacpull/parts/"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class UploadNote(msgspec.Struct, frozen=True):
    """An upload that was begun."""

    key: str
    upload: str
    piece: int
    """Bytes of each piece but the last."""
    etag: str | None
    last_modified: str | None
    """What the bytes belong to (`models.Validator`)."""
    total: int | None


class StagedObject(msgspec.Struct, frozen=True):
    """An object that is copied into its place."""

    key: str
    etag: str
    size: int
    algorithm: str | None
    """Of the digest; None: none is recorded."""
    digest: bytes | None
    identity: int
    """Of the part."""


def new_identity() -> int:
    """Return what tells a part from any other one."""
    return int.from_bytes(os.urandom(7), "big")


class StagedObjects:
    """The staged objects of one mirror. Any thread may call any method.

    Methods that send requests raise `CredentialsError` and `DestinationError` as any request.
    """

    def __init__(
        self, bucket: S3Bucket, confirm: Callable[[], None], parts: Path, shared: Path | None
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: DEST.
            confirm: Returns if objects may be written now (`LeaseCheck.confirm`).
            parts: The directory of the notes.
            shared: That of other processes, if `parts` is the directory of one worker.
        """
        self._bucket = bucket
        self._confirm = confirm
        self._parts = parts
        self._shared = shared

    # --- uploads -----------------------------------------------------------------------------------------

    def new_key(self, row: int, generation: int) -> str:
        """Return the key of an object that no other has."""
        return self._bucket.key(f"{_STAGING}{row}.{generation}.{os.urandom(8).hex()}")

    def noted_uploads(self) -> set[Pair]:
        """Return the rows and generations of the assets whose upload is noted."""
        found = set()
        for directory in (self._parts, self._shared):
            for path in () if directory is None else directory.glob(f"*{_UPLOAD}"):
                row, _, generation = path.stem.partition(".")
                if row.isdecimal() and generation.isdecimal():
                    found.add((int(row), int(generation)))
        return found

    def upload_of(self, row: int, generation: int) -> UploadNote | None:
        """Return the upload of an asset, which is this process's from now on; None if there is none."""
        path = self._upload_path(row, generation)
        if self._shared is not None:
            with suppress(FileNotFoundError):
                (self._shared / path.name).rename(path)
        return _read(path, UploadNote)

    def begin(self, row: int, generation: int, note: UploadNote) -> UploadNote:
        """Create an upload, and note it."""
        self._confirm()
        note = msgspec.structs.replace(note, upload=self._bucket.create_upload(note.key))
        _write(self._upload_path(row, generation), note)
        return note

    def send_piece(self, note: UploadNote, number: int, body: Body, sha256: str) -> UploadedPiece:
        """Store a piece, whose SHA-256 is in hex."""
        self._confirm()
        return self._bucket.store_pieces(note.key, note.upload, {number: (body, sha256)})[0]

    def complete(self, row: int, generation: int, note: UploadNote, pieces: Sequence[UploadedPiece]) -> str:
        """Have the service make an object of the pieces; return its ETag.

        Raises:
            FileNotFoundError: Its note is gone: the asset is another worker's now.
        """
        self._upload_path(row, generation).stat()
        self._confirm()
        lost: DestinationError | None = None
        try:
            self._bucket.complete_own(note.key, note.upload, pieces)
        except DestinationError as error:
            lost = error  # unless the reply was lost
        found = self.whole(note)
        if found is None or found.size != sum(one.size for one in pieces):
            raise lost or DestinationError(f"{self._bucket.name} has lost pieces of {note.key}.")
        return found.etag

    def whole(self, note: UploadNote) -> StoredObject | None:
        """Return the object that an upload has become."""
        return self._bucket.head(self._in_dest(note.key))

    def send_whole(self, note: UploadNote, body: bytearray) -> str:
        """Store an object that is one piece; return its ETag."""
        self._confirm()
        return self._bucket.put_own(note.key, ObjectContent(body, hashlib.sha256(body).digest()))

    def finish(self, row: int, generation: int, name: str, staged: StagedObject) -> None:
        """Note a whole object as the part `name`, instead of its upload."""
        _write(self._path(name), staged)
        self._upload_path(row, generation).unlink(missing_ok=True)

    def drop_upload(self, row: int, generation: int, note: UploadNote) -> None:
        """Remove an upload that is not to be continued, or the object that it has become."""
        self._confirm()
        if note.upload:
            self._bucket.abort(note.key, note.upload)
        self._bucket.delete(self._in_dest(note.key))
        self._upload_path(row, generation).unlink(missing_ok=True)

    # --- whole objects -----------------------------------------------------------------------------------

    def copy_of(self, part: str) -> tuple[int, PendingCopy] | None:
        """Return identity and source of a part that is an object, None if it is not."""
        found = _read(self._path(part), StagedObject)
        if found is None:
            return None
        source = CopySource(f"s3://{self._bucket.location.bucket}/{found.key}", found.etag)
        is_own = self._is_staged(found.key)
        return found.identity, PendingCopy(
            source, found.size, found.digest, found.algorithm, is_staged=is_own
        )

    def rename(self, old: str, new: str) -> bool:
        """Give a part another name; return False if it is not an object."""
        try:
            self._path(old).rename(self._path(new))
        except FileNotFoundError:
            return False
        return True

    def drop(self, part: str) -> bool:
        """Remove a part, and its object; return False if it is not an object."""
        path = self._path(part)
        if not path.exists():
            return False
        found = _read(path, StagedObject)
        if found is not None and self._is_staged(found.key):
            self._confirm()
            self._bucket.delete(self._in_dest(found.key))
        path.unlink(missing_ok=True)
        return True

    def entries(self) -> list[PartEntry]:
        """Return the parts that are objects. The note of an object that is gone is removed."""
        found = []
        for path in self._parts.glob(f"*{_SENT}"):
            staged, name = _read(path, StagedObject), path.stem + _WHOLE
            if staged is not None and parse_complete_part(name) is not None:
                found.append((path, staged, PartEntry(name, staged.identity, staged.size)))
        heads = [ObjectRequest("HEAD", staged.key) for _, staged, _ in found]
        there = []
        for (path, _, entry), reply in zip(found, self._bucket.send(heads, "look at"), strict=True):
            if reply is not None and reply.status == NOT_FOUND:
                path.unlink(missing_ok=True)
            else:
                there.append(entry)
        return there

    def sweep(self, keep: Callable[[int, int], bool]) -> None:
        """Remove uploads that `keep` (row, generation) does not want, and whatever no note names.

        Nothing may be transferred meanwhile.
        """
        kept = set()
        for path in self._parts.glob(f"*{_SENT}"):
            staged = _read(path, StagedObject)
            if staged is None or parse_complete_part(path.stem + _WHOLE) is None:
                path.unlink(missing_ok=True)
            else:
                kept.add(staged.key)
        wholes = frozenset(kept)
        for pair in self.noted_uploads():
            note = self.upload_of(*pair)
            if note is None or note.key in wholes:
                self._upload_path(*pair).unlink(missing_ok=True)
            elif keep(*pair):
                kept.add(note.key)
            else:
                self.drop_upload(*pair, note)
        self._remove_all_but(kept)

    def _remove_all_but(self, kept: set[str]) -> None:
        prefix = self._bucket.key(_STAGING)
        for key, upload in self._bucket.list_uploads(prefix):
            if key not in kept:
                self._confirm()
                self._bucket.abort(key, upload)
        after, is_last = "", False
        while not is_last:
            keys, is_last = self._bucket.listed(prefix, after)
            for key in keys:
                if key not in kept:
                    self._confirm()
                    self._bucket.delete(self._in_dest(key))
            after, is_last = keys[-1] if keys else "", is_last or not keys

    def _in_dest(self, key: str) -> str:
        return key.removeprefix(self._bucket.prefix)

    def _is_staged(self, key: str) -> bool:
        return key.startswith(self._bucket.key(_STAGING))

    def _upload_path(self, row: int, generation: int) -> Path:
        return self._parts / f"{row}.{generation}{_UPLOAD}"

    def _path(self, part: str) -> Path:
        return (self._parts / part).with_suffix(_SENT)


def _read(path: Path, kind: type[T]) -> T | None:
    """Return what a note says, None if there is none, or a loss of power has left it unfinished."""
    try:
        return msgspec.json.decode(read_regular(path, _LIMIT), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, note: msgspec.Struct) -> None:
    """Write a note, whole or not at all."""
    new = path.with_name(f"{os.urandom(8).hex()}{_NEW}")
    with os.fdopen(open_regular(new, _CREATE), "wb") as file:
        file.write(msgspec.json.encode(note))
    new.replace(path)

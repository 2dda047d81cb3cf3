"""A long object, uploaded in pieces from a file, and notes of the uploads that were begun."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from stacpull.errors import DestinationError
from stacpull.store.bucket_requests import Body, FilePiece
from stacpull.store.s3_bucket import PART, READ, SHA256, ConditionRefusedError, S3Bucket, UploadedPiece

PIECE = 16 << 20
_PIECES_AT_ONCE = 4
MOST_PIECES = 9_000


class NotedUpload(msgspec.Struct, frozen=True):
    """An upload under the final key of an object. `upload` is empty until the service has named it."""

    key: str
    upload: str
    metadata: dict[str, str]
    """Of the object. It is fixed when the upload is created."""


class NotedUploads:
    """The notes of one mirror, one file per key.

    A note is there before the upload is. So one that a kill leaves is found by the next start, and removed
    if nothing continues it.
    """

    def __init__(self, bucket: S3Bucket, directory: Path) -> None:
        """Prepare; the directory is made with the first note."""
        self._bucket = bucket
        self._directory = directory

    def of(self, key: str) -> NotedUpload | None:
        """Return the note of a key."""
        return _read_note(self._path(key))

    def begin(self, key: str, metadata: Mapping[str, str], create: Callable[[], str]) -> str:
        """Create an upload, and note it; return its name."""
        self._write(NotedUpload(key, "", dict(metadata)))
        upload = create()
        self._write(NotedUpload(key, upload, dict(metadata)))
        return upload

    def remove(self, key: str) -> None:
        """Remove the note of an upload that has ended."""
        self._path(key).unlink(missing_ok=True)

    def list(self) -> list[NotedUpload]:
        """Return all notes; one that a loss of power left unfinished is not among them."""
        return [note for path in self._directory.glob("*.json") if (note := _read_note(path)) is not None]

    def abort(self, note: NotedUpload) -> None:
        """Abort an upload, and remove its note if it is still of that upload."""
        uploads = [note.upload]
        if not note.upload:
            uploads = [upload for key, upload in self._bucket.list_uploads(note.key) if key == note.key]
        for upload in uploads:
            self._bucket.abort(note.key, upload)
        if self.of(note.key) == note:
            self.remove(note.key)

    def _write(self, note: NotedUpload) -> None:
        self._directory.mkdir(exist_ok=True)
        path = self._path(note.key)
        new = path.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(note))
        new.replace(path)

    def _path(self, key: str) -> Path:
        return self._directory / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _read_note(path: Path) -> NotedUpload | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=NotedUpload)
    except (OSError, msgspec.MsgspecError):
        return None


class Upload:
    """A long part, uploaded in pieces. What an upload that broke off has stored is not sent again.

    An upload is continued only for the same content, with the same metadata; others are aborted.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        confirm: Callable[[], None],
        uploads: NotedUploads,
        path: str,
        file: BinaryIO,
        size: int,
        noted: Mapping[str, str],
        condition: Mapping[str, str],
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: Where to.
            confirm: Returns if objects may be written now (`LeaseCheck.confirm`).
            uploads: The notes of uploads.
            path: Of the object.
            file: Its content.
            size: In bytes.
            noted: Its metadata.
            condition: Under which it is stored.
        """
        self._bucket = bucket
        self._confirm = confirm
        self._key = bucket.key(path)
        self._file = file
        self._size = size
        self._piece = max(PIECE, -(-size // MOST_PIECES))
        self._noted = noted
        self._condition = condition
        self._uploads = uploads

    def run(self) -> None:
        """Upload, and make the object appear.

        Raises:
            ConditionRefusedError: The service refuses the condition; nothing is left of the upload.
            CredentialsError, DestinationError: As any request.
        """
        upload, stored = self._begun()
        pieces: list[UploadedPiece] = []
        count = -(-self._size // self._piece)
        for first in range(0, count, _PIECES_AT_ONCE):
            self._confirm()
            numbers = range(first + 1, min(first + _PIECES_AT_ONCE, count) + 1)
            pieces += self._sent(upload, numbers, stored)
        self._confirm()
        try:
            self._bucket.complete_upload(self._key, upload, pieces, self._condition)
        except ConditionRefusedError:
            self._bucket.abort(self._key, upload)
            self._uploads.remove(self._key)
            raise
        except DestinationError:
            if not self._is_there():
                raise
        self._uploads.remove(self._key)

    def _is_there(self) -> bool:
        """Return True if the upload has become an object, and only the reply was lost."""
        found = self._bucket.head(self._key.removeprefix(self._bucket.prefix))
        if found is None or found.size != self._size:
            return False
        noted = {SHA256: found.digests.get("sha256", b"").hex()}
        if found.identity:
            noted[PART] = str(found.identity)
        return noted == dict(self._noted)

    def _sent(
        self, upload: str, numbers: Sequence[int], stored: Mapping[int, UploadedPiece]
    ) -> list[UploadedPiece]:
        """Send some pieces at a time, unless they are stored."""
        found: dict[int, UploadedPiece] = {}
        missing: dict[int, tuple[Body, str]] = {}
        for number in numbers:
            offset = (number - 1) * self._piece
            piece = FilePiece(self._file, offset, min(self._piece, self._size - offset))
            there = stored.get(number)
            sha256, md5 = self._digests(piece, is_stored=there is not None)
            if there is not None and (there.etag.strip('"'), there.size) == (md5, piece.size):
                found[number] = there._replace(sha256=base64.b64encode(sha256).decode())
            else:
                missing[number] = piece, sha256.hex()
        for one in self._bucket.store_pieces(self._key, upload, missing):
            found[one.number] = one
        return [found[number] for number in numbers]

    def _digests(self, part: FilePiece, *, is_stored: bool) -> tuple[bytes, str]:
        """Return the SHA-256 of a piece and, if the server says that it has it, the MD5 that it must have."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for offset in range(part.offset, part.offset + part.size, READ):
            data = os.pread(self._file.fileno(), min(READ, part.offset + part.size - offset), offset)
            sha256.update(data)
            if is_stored:
                md5.update(data)
        return sha256.digest(), md5.hexdigest() if is_stored else ""

    def _begun(self) -> tuple[str, Mapping[int, UploadedPiece]]:
        """Return the upload to continue, and the pieces that it has, by number."""
        known = self._uploads.of(self._key)
        for key, upload in self._bucket.list_uploads(self._key):
            if key == self._key and (known is None or upload != known.upload):
                self._bucket.abort(key, upload)
        if known is not None and known.upload:
            same = known.metadata == self._noted
            stored = self._bucket.pieces(self._key, known.upload) if same else None
            if stored is not None:
                return known.upload, {one.number: one for one in stored}
            self._uploads.abort(known)
        noted = self._noted
        begun = self._uploads.begin(self._key, noted, lambda: self._bucket.create_upload(self._key, noted))
        return begun, {}

"""A long object, uploaded in pieces from a file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import orjson

from stacpull.store.bucket_requests import Body, FilePiece
from stacpull.store.s3_bucket import READ, ConditionRefusedError, S3Bucket, UploadedPiece

PIECE = 16 << 20
_PIECES_AT_ONCE = 4
MOST_PIECES = 9_000


class Upload:
    """A long part, uploaded in pieces. What an upload that broke off has stored is not sent again.

    The metadata of an object is fixed when its upload is created. So a file in the work directory notes for
    what metadata an upload was created, and it is continued only for the same content; others are aborted.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        confirm: Callable[[], None],
        created: Path,
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
            created: The directory of the notes.
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
        name = hashlib.sha256(self._key.encode()).hexdigest()
        self._created = created / f"{name}.json"

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
            self._created.unlink(missing_ok=True)
            raise
        self._created.unlink(missing_ok=True)

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
        known = self._upload_of_this_content()
        uploads = [upload for key, upload in self._bucket.uploads(self._key) if key == self._key]
        for upload in uploads:
            if upload != known:
                self._bucket.abort(self._key, upload)
        if known in uploads:
            return known, {one.number: one for one in self._bucket.pieces(self._key, known) or ()}
        begun = self._bucket.create_upload(self._key, self._noted)
        self._created.parent.mkdir(exist_ok=True)
        self._created.write_bytes(orjson.dumps({"upload": begun, "metadata": self._noted}))
        return begun, {}

    def _upload_of_this_content(self) -> str:
        """Return the upload that was created with the metadata of this content, or "".

        A file that a kill or a loss of power left unfinished names none.
        """
        try:
            noted = orjson.loads(self._created.read_bytes())
            return str(noted["upload"]) if noted["metadata"] == self._noted else ""
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return ""

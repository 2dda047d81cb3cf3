"""Multipart uploads to a bucket: create, resume after a kill, complete, abort.

    pieces come from        key of the object                       used by
    memory                  among the parts of the mirror           store.streamed_parts
    a file                  the final key                           store.bucket (`upload_file`)
    another object          the final key                           store.server_copy

Every upload has a note among the parts, `<name>.upload`. The note exists from before the upload is created
until its object is published or removed. So the next start after a kill finds the upload, and continues or
aborts it.

Other programs may upload to the same final key. Only an upload whose ID is noted is known to be our own, so
only such an upload is aborted there. The ID is on the disk before the first piece is sent, so a kill before
that leaves an upload without pieces, which costs nothing.

The service may complete an upload although its response is lost. So an error only counts if the object does
not exist.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import msgspec

from stacpull.errors import DestinationError, StacpullError
from stacpull.models import CopySource
from stacpull.sigv4 import encode_key
from stacpull.store.atomic import sync_directory
from stacpull.store.bucket_requests import COPY, FilePiece, ObjectReply, ObjectRequest, RequestBody, size_of
from stacpull.store.bucket_service import DENIALS, NOT_THERE, code_behind
from stacpull.store.regular import CREATE, open_regular, read_regular
from stacpull.store.s3_bucket import (
    NO_UPLOADS,
    OK,
    READ,
    REFUSED_CONDITIONS,
    UNKNOWN_CONDITIONS,
    ObjectContent,
    S3Bucket,
    StoredObject,
    query_of,
)

AnyNote = TypeVar("AnyNote", bound=msgspec.Struct)

MOST_PIECES = 10_000
"""A limit of S3."""
FILE_PIECE = 16 << 20
"""Bytes of a piece of a file, unless that would be more than `MOST_PIECES` pieces."""
_AT_ONCE = 4
"""Simultaneous pieces of one file."""
_LIMIT = 1 << 16
"""Bytes of a note."""
_SUFFIX, _NEW = ".upload", ".new"
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_SHA256 = {"x-amz-checksum-algorithm": "SHA256"}
_CHECKSUMS = ("ChecksumSHA256", "ChecksumCRC64NVME")


class UploadNote(msgspec.Struct, frozen=True):
    """An upload in progress."""

    name: str
    """The name of the note: row and generation of an asset, or the hash of a final key."""
    key: str
    piece: int
    """Bytes of each piece except the last."""
    total: int | None = None
    """Bytes of the object, if known."""
    metadata: dict[str, str] = {}
    """The metadata of the object. It cannot be changed after the upload is created."""
    etag: str | None = None
    last_modified: str | None = None
    """The version of the source that the bytes belong to (`models.Validator`)."""
    origin: int | None = None
    """The hash of its URL (`redact.href_hash`)."""
    upload: str = ""
    """The upload ID of the service. Empty until the service has assigned it."""

    @property
    def has_final_key(self) -> bool:
        """True if the upload goes to a final key, which others may write; False if its key is unique."""
        return "." not in self.name


class UploadedPiece(NamedTuple):
    """A piece of an upload that the service has."""

    number: int
    etag: str
    size: int
    checksums: Mapping[str, str] = {}
    """Checksums in Base64, by the name of their field. Empty if the service does not state them."""


class MultipartUploads:
    """The uploads of one mirror. Any thread may call any method.

    Methods that send requests raise `CredentialsError` and `DestinationError`.
    """

    def __init__(
        self, bucket: S3Bucket, check_lease: Callable[[], None], notes: Path, shared: Path | None = None
    ) -> None:
        """Create the object; nothing is sent yet.

        Args:
            bucket: DEST.
            check_lease: Raises an error if objects may not be written (`LeaseCheck.check`).
            notes: The directory of the notes.
            shared: The directory of the other processes, if `notes` is the directory of one worker.
        """
        self._bucket = bucket
        self.check_lease = check_lease
        self._notes = notes
        self._shared = shared

    # --- notes -------------------------------------------------------------------------------------------

    def names(self) -> set[str]:
        """Return the names of all notes."""
        directories = (self._notes, self._shared)
        return {
            path.stem
            for directory in directories
            if directory is not None
            for path in directory.glob(f"*{_SUFFIX}")
        }

    def claim_note(self, name: str) -> UploadNote | None:
        """Take over the note with that name for this process, and return it; None if there is none."""
        path = self._path(name)
        if self._shared is not None:
            with suppress(FileNotFoundError):
                (self._shared / path.name).rename(path)
        return load_note(path, UploadNote)

    def is_noted(self, note: UploadNote) -> bool:
        """Return False if another process has taken over the upload."""
        return self._path(note.name).exists()

    def forget(self, name: str) -> None:
        """Remove the note of an upload that is complete, or that cannot be read."""
        self._path(name).unlink(missing_ok=True)

    def of_final_keys(self) -> list[UploadNote]:
        """Return the uploads under final keys."""
        notes = [load_note(path, UploadNote) for path in self._notes.glob(f"*{_SUFFIX}")]
        return [note for note in notes if note is not None and note.has_final_key]

    def _path(self, name: str) -> Path:
        return self._notes / f"{name}{_SUFFIX}"

    # --- one upload --------------------------------------------------------------------------------------

    def begin(self, note: UploadNote, checksums: Mapping[str, str] = _SHA256) -> UploadNote:
        """Create an upload. Its note is written before and after that.

        Args:
            note: The note of the upload, which has no ID yet.
            checksums: Header fields that request checksums from the service.
        """
        self.check_lease()
        save_note(self._path(note.name), note)
        metadata = {f"x-amz-meta-{name}": value for name, value in note.metadata.items()}
        request = ObjectRequest("POST", note.key, {**metadata, **checksums}, query="uploads=")
        upload = self._bucket.document(request, "write").fields.get("UploadId")
        if not upload:
            raise self._unusable("no ID of an upload")
        note = msgspec.structs.replace(note, upload=upload)
        save_note(self._path(note.name), note, is_synced=note.has_final_key)
        return note

    def stored(self, note: UploadNote) -> list[UploadedPiece] | None:
        """Return the pieces that the service has, None if the upload does not exist or cannot be listed."""
        if not note.upload:
            return None
        found: list[UploadedPiece] = []
        parameters = {"uploadId": note.upload}
        while True:
            request = ObjectRequest("GET", note.key, query=query_of(parameters))
            try:
                page = self._bucket.document(request, "read")
            except (FileNotFoundError, DestinationError) as error:
                if code_behind(error) not in NO_UPLOADS | NOT_THERE | DENIALS:
                    raise
                return None
            pieces = page.records.get("Part", ())
            try:
                found += [_piece(int(piece["PartNumber"]), int(piece["Size"]), piece) for piece in pieces]
            except (KeyError, ValueError) as error:
                raise self._unusable("an incomplete list of pieces") from error
            marker = str(found[-1].number) if pieces else ""
            if not page.is_truncated or marker in {"", parameters.get("part-number-marker")}:
                return found
            parameters["part-number-marker"] = marker

    def _unusable(self, what: str) -> DestinationError:
        return DestinationError(f"{self._bucket.name} cannot be used: its server sent {what}.")

    def send(self, note: UploadNote, pieces: Mapping[int, tuple[RequestBody, bytes]]) -> list[UploadedPiece]:
        """Store some pieces at once. `pieces` maps the number of a piece to its body and SHA-256."""
        self.check_lease()
        checksums = {number: base64.b64encode(sha256).decode() for number, (_, sha256) in pieces.items()}
        requests = [
            ObjectRequest(
                "PUT",
                note.key,
                {"x-amz-checksum-sha256": checksums[number]},
                body,
                sha256.hex(),
                query_of({"partNumber": str(number), "uploadId": note.upload}),
            )
            for number, (body, sha256) in pieces.items()
        ]
        found = []
        replies = self._bucket.send(requests)
        for (number, (body, _)), request, first in zip(pieces.items(), requests, replies, strict=True):
            reply = first if first is not None and first.status == OK else None
            etag = self._etag(reply or self._bucket.request(request, "write"))
            found.append(UploadedPiece(number, etag, size_of(body), {"ChecksumSHA256": checksums[number]}))
        return found

    def _etag(self, reply: ObjectReply) -> str:
        etag = reply.headers.get("etag")
        if etag is None:
            raise self._unusable("no ETag of a piece")
        return etag

    def copy(self, note: UploadNote, source: CopySource, size: int, number: int) -> UploadedPiece:
        """Let the service copy a piece from an object with `size` bytes."""
        self.check_lease()
        first = (number - 1) * note.piece
        end = min(first + note.piece, size)
        headers = {
            COPY: encode_key(source.url.removeprefix("s3:/")),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-copy-source-range": f"bytes={first}-{end - 1}",
        }
        query = query_of({"partNumber": str(number), "uploadId": note.upload})
        request = ObjectRequest("PUT", note.key, headers, query=query)
        found = self._bucket.document(request, "write").fields
        if "ETag" not in found:
            raise self._unusable("no ETag of a piece")
        return _piece(number, end - first, found)

    def complete(
        self, note: UploadNote, pieces: list[UploadedPiece], condition: Mapping[str, str] = {}
    ) -> str:
        """Complete the upload and return the ETag of the object. The note stays.

        Args:
            note: The note of the upload.
            pieces: All pieces, in order.
            condition: The condition of the request. If it is not met, the upload no longer exists, and
                `code_behind` returns the code of the error. If the service refuses conditions, the object is
                looked at instead, which leaves a moment for another writer.
        """
        self.check_lease()
        fields = [{"PartNumber": piece.number, "ETag": piece.etag, **piece.checksums} for piece in pieces]
        parts = "".join(
            f"<Part>{''.join(f'<{name}>{_escaped(value)}</{name}>' for name, value in field.items())}</Part>"
            for field in fields
        )
        body = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{parts}</CompleteMultipartUpload>'.encode()
        query = query_of({"uploadId": note.upload})
        request = ObjectRequest("POST", note.key, condition, body, hashlib.sha256(body).hexdigest(), query)
        path, refusal = self._bucket.path(note.key), None
        try:
            etag = self._bucket.document(request, "write").fields.get("ETag")
            if etag:  # radosgw does not send it
                return '"' + etag.strip('"') + '"'
        except (OSError, DestinationError) as error:
            refusal = error
        made, size = self._bucket.head(path), sum(piece.size for piece in pieces)
        if made is not None and made.size == size and made.has_metadata(note.metadata):
            return made.etag
        if refusal is None:
            what = self._bucket.described(note.key)
            raise DestinationError(f"{what} has lost pieces that were confirmed: run `stacpull resume`.")
        code = code_behind(refusal)
        if condition and code in UNKNOWN_CONDITIONS and _is_met(condition, made):
            return self.complete(note, pieces)
        if condition and code in REFUSED_CONDITIONS:
            self.abort(note)
        raise refusal

    def abort(self, note: UploadNote) -> None:
        """Abort an upload, and remove its note. The service may remove its pieces later."""
        uploads = [note.upload] if note.upload else []
        if not uploads and not note.has_final_key:  # the run was killed before the ID was noted
            uploads = [upload for key, upload in self.listed(note.key) if key == note.key]
        for upload in uploads:
            self.abort_unnoted(note.key, upload)
        if load_note(self._path(note.name), UploadNote) == note:
            self.forget(note.name)

    def abort_unnoted(self, key: str, upload: str) -> None:
        """Abort an upload that has no note. The service may remove its pieces later."""
        request = ObjectRequest("DELETE", key, query=query_of({"uploadId": upload}))
        with suppress(StacpullError, OSError):
            self._bucket.request(request, "remove")

    def listed(self, prefix: str) -> list[tuple[str, str]]:
        """Return the incomplete uploads of keys with that prefix: (key, upload ID).

        The list is empty if the server does not support or permit listing: the notes have all needed uploads.
        """
        found: list[tuple[str, str]] = []
        parameters = {"uploads": "", "prefix": prefix, "encoding-type": "url"}
        while True:
            try:
                page = self._bucket.document(ObjectRequest("GET", "", query=query_of(parameters)), "list")
            except (FileNotFoundError, DestinationError) as error:
                if code_behind(error) not in NO_UPLOADS | DENIALS:
                    raise
                return found
            uploads = page.records.get("Upload", ())
            found += [(page.name(upload), upload.get("UploadId", "")) for upload in uploads]
            markers = dict(zip(("key-marker", "upload-id-marker"), found[-1], strict=True)) if uploads else {}
            if not page.is_truncated or markers.items() <= parameters.items():  # some servers ignore them
                return found
            parameters |= markers

    # --- uploads under a final key -----------------------------------------------------------------------

    def abort_left(self, note: UploadNote) -> None:
        """Abort the upload of an earlier run with the same final key."""
        left = self.claim_note(note.name)
        if left is not None:
            self.abort(left)

    def upload_file(self, path: str, content: ObjectContent, condition: Mapping[str, str]) -> None:
        """Store a long file in pieces. Pieces that an interrupted upload has stored are not sent again.

        An upload is continued only for the same content, with the same metadata; others are aborted.

        Args:
            path: The path of the object.
            content: A `FilePiece` of the whole file, and its metadata.
            condition: See `complete`.
        """
        file = cast("FilePiece", content.body)
        piece = max(FILE_PIECE, -(-file.size // MOST_PIECES))
        note = final_note(self._bucket.key(path), piece, file.size, content.metadata)
        left = self.claim_note(note.name)
        is_same = left is not None and msgspec.structs.replace(left, upload="") == note
        stored = self.stored(left) if left is not None and is_same else None
        if left is not None and stored is not None:
            note = left
        else:
            self.abort_left(note)
            note = self.begin(note)
        there = {one.number: one for one in stored or ()}
        pieces: list[UploadedPiece] = []
        count = -(-file.size // piece)
        for first in range(0, count, _AT_ONCE):
            numbers = range(first + 1, min(first + _AT_ONCE, count) + 1)
            pieces += self._send_of_file(note, file, numbers, there)
        self.complete(note, pieces, condition)
        self.forget(note.name)

    def _send_of_file(
        self, note: UploadNote, file: FilePiece, numbers: Sequence[int], there: Mapping[int, UploadedPiece]
    ) -> list[UploadedPiece]:
        """Send the pieces of a file that the service does not have, several at once."""
        found: dict[int, UploadedPiece] = {}
        missing: dict[int, tuple[RequestBody, bytes]] = {}
        for number in numbers:
            offset = (number - 1) * note.piece
            piece = FilePiece(file.file, offset, min(note.piece, file.size - offset))
            known = there.get(number)
            sha256, md5 = _digests(piece, with_md5=known is not None)
            if known is not None and (known.etag.strip('"'), known.size) == (md5, piece.size):
                checksum = {"ChecksumSHA256": base64.b64encode(sha256).decode()}
                found[number] = known._replace(checksums=checksum)
            else:
                missing[number] = piece, sha256
        for sent in self.send(note, missing) if missing else ():
            found[sent.number] = sent
        return [found[number] for number in numbers]


def final_note(key: str, piece: int, total: int, metadata: Mapping[str, str]) -> UploadNote:
    """Return the note of an upload under a final key, before the upload is created."""
    return UploadNote(hashlib.sha256(key.encode()).hexdigest(), key, piece, total, dict(metadata))


def load_note(path: Path, kind: type[AnyNote]) -> AnyNote | None:
    """Read a note. Return None if there is none, or if a loss of power left it incomplete."""
    try:
        return msgspec.json.decode(read_regular(path, _LIMIT), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def save_note(path: Path, note: msgspec.Struct, *, is_synced: bool = False) -> None:
    """Write a note atomically; with `is_synced` it survives a loss of power."""
    new = path.with_name(f"{os.urandom(8).hex()}{_NEW}")
    with os.fdopen(open_regular(new, CREATE), "wb") as file:
        file.write(msgspec.json.encode(note))
        if is_synced:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)
    if is_synced:
        sync_directory(path.parent)


def _digests(piece: FilePiece, *, with_md5: bool) -> tuple[bytes, str]:
    """Return the SHA-256 of a piece of a file, and its MD5 in hex if `with_md5`."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    end = piece.offset + piece.size
    for offset in range(piece.offset, end, READ):
        data = os.pread(piece.file.fileno(), min(READ, end - offset), offset)
        sha256.update(data)
        if with_md5:
            md5.update(data)
    return sha256.digest(), md5.hexdigest()


def _piece(number: int, size: int, fields: Mapping[str, str]) -> UploadedPiece:
    checksums = {name: fields[name] for name in _CHECKSUMS if name in fields}
    return UploadedPiece(number, fields["ETag"], size, checksums)


def _escaped(value: object) -> str:
    """Return a value as content of an XML element."""
    return str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_met(condition: Mapping[str, str], there: StoredObject | None) -> bool:
    """Return True if the object, None if there is none, meets the condition of a request."""
    if "if-none-match" in condition:
        return there is None
    return there is not None and there.etag.strip('"') == condition["if-match"].strip('"')

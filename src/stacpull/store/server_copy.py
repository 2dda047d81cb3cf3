"""Copies of objects that the service of DEST makes itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from stacpull.models import CopySource, Failure, FailureKind
from stacpull.store.bucket_service import NOT_THERE
from stacpull.store.buffered_parts import PendingCopy
from stacpull.store.disk_errors import foreign_file
from stacpull.store.multipart import MultipartUploads, final_note
from stacpull.store.s3_bucket import EXISTS, PART, S3Bucket

_PIECES_AT_ONCE = 4
_SINGLE_COPY, _SINGLE_COPY_AT_AMAZON = 1 << 30, 5 << 30
"""Bytes: longer objects are copied in pieces. Amazon keeps the connection alive while it copies."""
_COPIED_PIECE = 1 << 29
_COPY_REFUSALS = frozenset({"AccessDenied", "InvalidRequest", "InvalidArgument", "NotImplemented"})


class CopyRefusedError(Exception):
    """The service does not copy an object, so it must be downloaded and uploaded."""


class ServerCopy:
    """One copy by the service, and its verification.

    Some services ignore `x-amz-copy-source-if-match`, so the source is checked again afterwards. The digest
    of the copy is the one that the service states. If it states none, the copy is read once, and `add_digest`
    adds the digest to its metadata.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        uploads: MultipartUploads,
        path: str,
        identity: int,
        copy: PendingCopy,
        subject: str,
        *,
        replace: bool,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: DEST.
            uploads: The uploads of the mirror.
            path: The path of the copy.
            identity: The identity of the part.
            copy: The source.
            subject: The source in messages. The URL in `copy` may be that of a staged copy of the object.
            replace: True if an existing object may be replaced.
        """
        self._bucket = bucket
        self._uploads = uploads
        self._path = path
        self._identity = identity
        self._copy = copy
        self._subject = subject
        self._replace = replace
        self._metadata = {PART: str(identity)}
        if copy.is_staged and copy.algorithm is not None and copy.digest is not None:
            self._metadata[f"stacpull-{copy.algorithm}"] = copy.digest.hex()
        self._found: tuple[str, bytes | None] = "", None
        """ETag and digest of the copy."""
        self._is_stated = True
        """False if the service states no digest of the copy."""
        is_amazon = bucket.location.endpoint_url is None
        self._is_single = copy.size <= (_SINGLE_COPY_AT_AMAZON if is_amazon else _SINGLE_COPY)

    def run(self) -> Failure | None:
        """Copy and verify; return the failure, if any.

        Raises:
            CopyRefusedError: The service does not copy it.
            CredentialsError, DestinationError: As any request.
        """
        there = None if self._replace else self._bucket.head(self._path)
        if there is not None and there.identity != self._identity:
            return foreign_file(self._path)
        code = self._bucket.try_write(self._copied, NOT_THERE | EXISTS | _COPY_REFUSALS)
        if code in NOT_THERE | EXISTS:
            return self.removed(FailureKind.CHANGED, "changed before it was copied")
        if code:
            raise CopyRefusedError(code)
        return self._verified()

    def _copied(self) -> None:
        copy = self._copy
        if not self._is_single:
            self._copied_in_pieces()
        else:
            self._bucket.copy(self._path, copy.source, self._metadata, self._algorithm)

    @property
    def _algorithm(self) -> str | None:
        """The checksum that the service must compute. The digest of a staged object is known."""
        return None if self._copy.is_staged or self._copy.algorithm is None else self._copy.algorithm.upper()

    def _copied_in_pieces(self) -> None:
        """Copy a very long object. Pieces of an interrupted copy may be of another version of it."""
        uploads, copy = self._uploads, self._copy
        checksums = {} if self._algorithm is None else {"x-amz-checksum-algorithm": self._algorithm}
        if self._algorithm == "CRC64NVME":
            checksums["x-amz-checksum-type"] = "FULL_OBJECT"
        note = final_note(self._bucket.key(self._path), _COPIED_PIECE, copy.size, self._metadata)
        uploads.abort_left(note)
        note = uploads.begin(note, checksums)
        try:
            with ThreadPoolExecutor(_PIECES_AT_ONCE, "stacpull-copy") as threads:
                numbers = range(1, -(-copy.size // _COPIED_PIECE) + 1)
                pieces = list(threads.map(partial(uploads.copy, note, copy.source, copy.size), numbers))
            uploads.complete(note, pieces)
        except BaseException:
            uploads.abort(note)
            raise
        uploads.forget(note.name)

    def _verified(self) -> Failure | None:
        bucket, copy = self._bucket, self._copy
        found = bucket.head(self._path)
        is_same = copy.is_staged  # other programs do not write staged objects
        if not copy.is_staged:
            other, path = bucket.located(copy.source)
            source = other.head(path)
            is_same = source is not None and source.etag == copy.source.etag
        if not is_same or found is None or found.size != copy.size:
            return self.removed(FailureKind.CHANGED, "changed while it was copied")
        self._found = found.etag, None
        if copy.algorithm is None:
            return None
        digest = found.digests.get(copy.algorithm)
        self._is_stated = digest is not None
        if digest is None:
            digest = bucket.state_of(self._path, algorithm=copy.algorithm).digest
        if digest is None or copy.digest not in {None, digest}:
            return self.removed(FailureKind.CHECKSUM, f"has another {copy.algorithm} than stated")
        self._found = found.etag, digest
        return None

    def add_digest(self) -> None:
        """Add the digest to the metadata of the verified copy, unless the service states it.

        The service copies the object onto itself, which may change its ETag.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        copy, (_, digest) = self._copy, self._found
        if digest is None or self._is_stated or not self._is_single:
            return
        metadata = {**self._metadata, f"stacpull-{copy.algorithm}": digest.hex()}
        self._bucket.copy(self._path, self.as_staged().source, metadata)

    def as_staged(self) -> PendingCopy:
        """Return the verified copy as a source to copy from."""
        bucket, (etag, digest) = self._bucket, self._found
        url, copy = bucket.location.url_of(bucket.key(self._path)), self._copy
        return PendingCopy(CopySource(url, etag), copy.size, digest, copy.algorithm, is_staged=True)

    def removed(self, kind: FailureKind, what: str) -> Failure:
        """Remove the copy, if it exists, and return the failure."""
        found = self._bucket.head(self._path)
        if found is not None and found.identity == self._identity:
            self._uploads.check_lease()
            self._bucket.delete(self._path)
        return Failure(kind, f"{self._subject} {what}.")

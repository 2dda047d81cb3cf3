"""An object that the service of DEST copies into its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stacpull.models import Failure, FailureKind
from stacpull.store.bucket_upload import NotedUploads
from stacpull.store.buffered_parts import PendingCopy
from stacpull.store.disk_errors import foreign_file
from stacpull.store.s3_bucket import EXISTS, NOT_THERE, PART, S3Bucket, object_address

_PIECES_AT_ONCE = 4
_SINGLE_COPY, _SINGLE_COPY_AT_AMAZON = 1 << 30, 5 << 30
"""Bytes: longer objects are copied in pieces. Amazon keeps the connection alive while it copies."""
_COPIED_PIECE = 1 << 29
_OF_PIECES = ("ETag", "ChecksumSHA256", "ChecksumCRC64NVME")
_COPY_REFUSALS = frozenset({"AccessDenied", "InvalidRequest", "InvalidArgument", "NotImplemented"})


class CopyRefusedError(Exception):
    """The service does not copy an object: it must pass through this machine."""


class ServerCopy:
    """An object that the service copies into its place, and what it must be then.

    Not every service obeys `x-amz-copy-source-if-match`, so the source is looked at once more afterwards. The
    digest is the one that the service states of the copy; where it states none, the copy is read once, and
    the digest is noted in its metadata. What the service refuses to copy passes through this machine.
    """

    def __init__(
        self,
        bucket: S3Bucket,
        confirm: Callable[[], None],
        uploads: NotedUploads,
        path: str,
        identity: int,
        copy: PendingCopy,
        *,
        replace: bool,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            bucket: DEST.
            confirm: Returns if objects may be written now (`LeaseCheck.confirm`).
            uploads: The notes of uploads.
            path: Of the copy.
            identity: Of the part.
            copy: What is copied.
            replace: True if an object that is there may be replaced.
        """
        self._bucket = bucket
        self._confirm = confirm
        self._uploads = uploads
        self._path = path
        self._identity = identity
        self._copy = copy
        self._replace = replace
        self._place = bucket.object_args(path)
        self._source = object_address(copy.source)
        self._noted = {PART: str(identity)}
        if copy.is_staged and copy.algorithm is not None and copy.digest is not None:
            self._noted[f"stacpull-{copy.algorithm}"] = copy.digest.hex()
        is_amazon = bucket.location.endpoint_url is None
        self._is_single = copy.size <= (_SINGLE_COPY_AT_AMAZON if is_amazon else _SINGLE_COPY)

    def run(self) -> Failure | None:
        """Copy, and verify the copy; return why it is not there.

        Raises:
            CopyRefusedError: The service does not copy it.
            CredentialsError, DestinationError: As any request.
        """
        there = None if self._replace else self._bucket.head(self._path)
        if there is not None and there.identity != self._identity:
            return foreign_file(self._path)
        code = self._bucket.refused(self._path, NOT_THERE | EXISTS | _COPY_REFUSALS, self._copied)
        if code in NOT_THERE | EXISTS:
            return self.removed(FailureKind.CHANGED, "changed before it was copied")
        if code:
            raise CopyRefusedError(code)
        return self._verified()

    def _copied(self) -> None:
        copy = self._copy
        if not self._is_single:
            self._copied_in_pieces()
        elif not (copy.is_staged and self._bucket.copy_own(self._path, copy.source, self._noted)):
            self._bucket.s3.copy_object(
                **self._place,
                CopySource=self._source,
                CopySourceIfMatch=self._copy.source.etag,
                MetadataDirective="REPLACE",
                TaggingDirective="REPLACE",
                Metadata=self._noted,
                **self._algorithm,
            )

    @property
    def _algorithm(self) -> dict[str, str]:
        """What the service is to compute of the copy; of what was received here, that is known."""
        algorithm = None if self._copy.is_staged else self._copy.algorithm
        return {} if algorithm is None else {"ChecksumAlgorithm": algorithm.upper()}

    def _copied_in_pieces(self) -> None:
        """Copy a very long object; what an upload has that broke off may be of another version of it."""
        s3, size, place, target = self._bucket.s3, self._copy.size, self._place, self._place["Key"]
        left = self._uploads.of(target)
        if left is not None:
            self._uploads.abort(left)
        for key, upload in self._bucket.list_uploads(target):
            if key == target:
                self._bucket.abort(key, upload)
        whole = (
            {"ChecksumType": "FULL_OBJECT"} if self._algorithm.get("ChecksumAlgorithm") == "CRC64NVME" else {}
        )

        def create() -> str:
            begun = s3.create_multipart_upload(**place, Metadata=self._noted, **self._algorithm, **whole)
            return str(begun["UploadId"])

        upload = self._uploads.begin(target, self._noted, create)

        def copied(number: int) -> dict[str, Any]:
            self._confirm()
            first = (number - 1) * _COPIED_PIECE
            found = s3.upload_part_copy(
                **place,
                UploadId=upload,
                PartNumber=number,
                CopySource=self._source,
                CopySourceIfMatch=self._copy.source.etag,
                CopySourceRange=f"bytes={first}-{min(first + _COPIED_PIECE, size) - 1}",
            )["CopyPartResult"]
            return {"PartNumber": number, **{name: found[name] for name in _OF_PIECES if name in found}}

        try:
            with ThreadPoolExecutor(_PIECES_AT_ONCE, "stacpull-copy") as threads:
                pieces = list(threads.map(copied, range(1, -(-size // _COPIED_PIECE) + 1)))
            self._confirm()
            self._complete(upload, pieces)
        except BaseException:
            self._bucket.abort(target, upload)
            self._uploads.remove(target)
            raise
        self._uploads.remove(target)

    def _complete(self, upload: str, pieces: Sequence[Mapping[str, Any]]) -> None:
        """Have the service make the object. If its reply is lost, the object is there nevertheless."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - 0.15 s

        parts = {"Parts": pieces}
        try:
            self._bucket.s3.complete_multipart_upload(**self._place, UploadId=upload, MultipartUpload=parts)
        except (BotoCoreError, ClientError):
            found = self._bucket.head(self._path)
            if found is None or (found.identity, found.size) != (self._identity, self._copy.size):
                raise

    def _verified(self) -> Failure | None:
        bucket, copy = self._bucket, self._copy
        found = bucket.head(self._path)
        is_same = copy.is_staged  # no other program writes there
        if not copy.is_staged:
            source = bucket.head_by_boto3(self._source)
            is_same = source is not None and source.etag == copy.source.etag
        if not is_same or found is None or found.size != copy.size:
            return self.removed(FailureKind.CHANGED, "changed while it was copied")
        if copy.algorithm is None:
            return None
        digest = found.digests.get(copy.algorithm)
        is_stated = digest is not None
        if digest is None:
            digest = bucket.look_at(self._path, hashed=True, algorithm=copy.algorithm).sha256
        if digest is None or copy.digest not in {None, digest}:
            return self.removed(FailureKind.CHECKSUM, f"has another {copy.algorithm} than is stated of it")
        if not is_stated and self._is_single:
            noted = {**self._noted, f"stacpull-{copy.algorithm}": digest.hex()}
            with bucket.errors("write", self._path):
                bucket.s3.copy_object(
                    **self._place, CopySource=self._place, MetadataDirective="REPLACE", Metadata=noted
                )
        return None

    def removed(self, kind: FailureKind, what: str) -> Failure:
        """Remove the copy, if it is there, and return the failure."""
        found = self._bucket.head(self._path)
        if found is not None and found.identity == self._identity:
            self._confirm()
            self._bucket.delete(self._path)
        return Failure(kind, f"{self._copy.source.url} {what}.")

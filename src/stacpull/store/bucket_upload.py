"""A long object, uploaded in pieces from a file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import orjson

from stacpull.store.bucket_requests import FilePiece, ObjectRequest
from stacpull.store.s3_bucket import OK, READ, REFUSED_CONDITIONS, S3Bucket, error_code

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
            condition: Under which it is stored, as boto3 names it.
        """
        self._bucket = bucket
        self._confirm = confirm
        self._s3 = bucket.s3
        self._place = bucket.place(path)
        self._file = file
        self._size = size
        self._piece = max(PIECE, -(-size // MOST_PIECES))
        self._noted = noted
        self._condition = condition
        name = hashlib.sha256(self._place["Key"].encode()).hexdigest()
        self._created = created / f"{name}.json"

    def run(self) -> None:
        """Upload, and make the object appear.

        Raises:
            ClientError: The service refuses it. If it refuses the condition, nothing is left of the upload.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

        upload, stored = self._begun()
        pieces = []
        count = -(-self._size // self._piece)
        for first in range(0, count, _PIECES_AT_ONCE):
            self._confirm()
            numbers = range(first + 1, min(first + _PIECES_AT_ONCE, count) + 1)
            pieces += self._sent(upload, numbers, stored)
        self._confirm()
        try:
            self._s3.complete_multipart_upload(
                **self._place, UploadId=upload, MultipartUpload={"Parts": pieces}, **self._condition
            )
        except ClientError as error:
            if error_code(error) in REFUSED_CONDITIONS:
                self._bucket.abort(self._place, upload)
                self._created.unlink(missing_ok=True)
            raise
        self._created.unlink(missing_ok=True)

    def _sent(
        self, upload: str, numbers: Sequence[int], stored: Mapping[int, tuple[str, int]]
    ) -> list[dict[str, Any]]:
        """Send some pieces at a time, unless they are stored; return what the server knows them by."""
        found: dict[int, dict[str, Any]] = {}
        requests: dict[int, ObjectRequest] = {}
        for number in numbers:
            offset = (number - 1) * self._piece
            part = FilePiece(self._file, offset, min(self._piece, self._size - offset))
            sha256, md5 = self._digests(part, is_stored=number in stored)
            checksum = base64.b64encode(sha256).decode()
            found[number] = {"PartNumber": number, "ETag": f'"{md5}"', "ChecksumSHA256": checksum}
            if stored.get(number) != (md5, part.size):
                query = f"partNumber={number}&uploadId={quote(upload, safe='')}"
                headers = {"x-amz-checksum-sha256": checksum}
                requests[number] = ObjectRequest(
                    "PUT", self._place["Key"], headers, part, sha256.hex(), query
                )
        replies = self._bucket.send(list(requests.values()), "write")
        for number, reply in zip(requests, replies, strict=True):
            etag = reply.headers.get("etag") if reply is not None and reply.status == OK else None
            found[number]["ETag"] = etag or self._sent_by_boto3(
                upload, number, found[number]["ChecksumSHA256"]
            )
        return list(found.values())

    def _digests(self, part: FilePiece, *, is_stored: bool) -> tuple[bytes, str]:
        """Return the SHA-256 of a piece and, if the server says that it has it, the MD5 that it must have."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for offset in range(part.offset, part.offset + part.size, READ):
            data = os.pread(self._file.fileno(), min(READ, part.offset + part.size - offset), offset)
            sha256.update(data)
            if is_stored:
                md5.update(data)
        return sha256.digest(), md5.hexdigest() if is_stored else ""

    def _sent_by_boto3(self, upload: str, number: int, checksum: str) -> str:
        """Send one piece, and return its ETag."""
        self._file.seek((number - 1) * self._piece)
        etag: str = self._s3.upload_part(
            **self._place,
            UploadId=upload,
            PartNumber=number,
            Body=self._file.read(self._piece),
            ChecksumSHA256=checksum,
        )["ETag"]
        return etag

    def _begun(self) -> tuple[str, Mapping[int, tuple[str, int]]]:
        """Return the upload to continue, and the pieces that it has: (ETag, size) by number."""
        known = self._upload_of_this_content()
        uploads = self._bucket.uploads(self._place["Key"])
        for upload in uploads:
            if upload != known:
                self._bucket.abort(self._place, upload)
        if known in uploads:
            return known, self._pieces(known)
        begun: str = self._s3.create_multipart_upload(
            **self._place, Metadata=self._noted, ChecksumAlgorithm="SHA256"
        )["UploadId"]
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

    def _pieces(self, upload: str) -> dict[int, tuple[str, int]]:
        pieces: dict[int, tuple[str, int]] = {}
        marker = 0
        while True:
            page = self._s3.list_parts(**self._place, UploadId=upload, PartNumberMarker=marker)
            for one in page.get("Parts", ()):
                pieces[one["PartNumber"]] = one["ETag"].strip('"'), one["Size"]
            if not page.get("IsTruncated"):
                return pieces
            marker = page["NextPartNumberMarker"]

"""An object of a bucket as a file that is read."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from stacpull.errors import ObjectChangedError

_FAILED_CONDITION = 412


class ObjectReader(io.RawIOBase):
    """An object, read from any place on; it stays the version that it was when it was opened."""

    def __init__(
        self,
        s3: Any,
        errors: Callable[[str, str], AbstractContextManager[None]],
        place: Mapping[str, str],
        size: int,
        etag: str,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            s3: A client of boto3.
            errors: Raises what that raises as errors of the destination (`S3Bucket.errors`).
            place: Bucket and key.
            size: In bytes.
            etag: Of the version.
        """
        super().__init__()
        self._s3 = s3
        self._errors = errors
        self._place = place
        self._size = size
        self._etag = etag
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Read on from another place; nothing is sent before that."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset != self._at:
            self._drop()
            self._at = base + offset
        return self._at

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        if self._at >= self._size:
            return 0
        try:
            with self._errors("read", self._place["Key"]):
                if self._body is None:
                    self._body = self._opened()
                data = self._body.read(len(buffer))
        except FileNotFoundError as error:
            raise self._changed() from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _changed(self) -> ObjectChangedError:
        where = f"s3://{self._place['Bucket']}/{self._place['Key']}"
        return ObjectChangedError(
            f"{where} was replaced or removed while it was read: run the command again."
        )

    def _opened(self) -> Any:
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

        asked = {"Range": f"bytes={self._at}-"} if self._at else {}
        try:
            answer = self._s3.get_object(**self._place, IfMatch=self._etag, **asked)
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") != _FAILED_CONDITION:
                raise
            raise self._changed() from error
        body = answer["Body"]
        if asked and "ContentRange" not in answer:  # a server that ignores ranges
            body.read(self._at)
        return body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        """Give up the response that is open."""
        self._drop()
        super().close()

"""The objects of one S3 bucket: stored, read, looked at, listed, copied, removed."""

from __future__ import annotations

import base64
import io
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from msgspec.structs import replace

from stacpull.errors import DestinationError, ObjectChangedError, StacpullError
from stacpull.models import BucketLocation, Checksum, CopySource
from stacpull.net.status import moment_of
from stacpull.s3_document import S3Document, read_document
from stacpull.sigv4 import encode_key
from stacpull.store.bucket_requests import COPY, ObjectReply, ObjectRequest, RequestBody
from stacpull.store.bucket_service import BucketService, code_behind
from stacpull.store.inspection import digest_by
from stacpull.store.protocol import FileState, IsStopped, never

READ = 1 << 20
SHA256, PART = "stacpull-sha256", "stacpull-part"
"""Metadata of an object: its digest, and the identity of its part."""
STAGING = ".stacpull/parts/"
"""The prefix of objects that are uploaded and not yet copied to their final keys."""
NO_UPLOADS = frozenset({"NoSuchUpload", "NotImplemented"})
OK, _PARTIAL, NOT_FOUND, FAILED_CONDITION = 200, 206, 404, 412
EXISTS = frozenset({"412", "PreconditionFailed"})
UNKNOWN_CONDITIONS = frozenset({"501", "NotImplemented"})
"""The codes of services that refuse every condition of a request."""
REFUSED_CONDITIONS = EXISTS | UNKNOWN_CONDITIONS | {"ConditionalRequestConflict"}
_DIGEST_BYTES = {"sha256": 32, "crc64nvme": 8}
"""Algorithms whose digests are in the metadata of an object or stated by the service."""
_WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
_STRETCHES = 16
_RANGE, _RANGES = 1 << 19, 8
"""Bytes of a range that is read, and number of ranges that are requested at once."""


class StoredObject(NamedTuple):
    """The properties of an object from HEAD."""

    size: int
    etag: str
    modified: float
    digests: Mapping[str, bytes]
    """Digests by algorithm: those that were verified at the upload, and those of the service."""
    identity: int
    """The identity of its part."""

    def has_metadata(self, metadata: Mapping[str, str]) -> bool:
        """Return True if it was stored with this metadata."""
        own = {f"stacpull-{name}": digest.hex() for name, digest in self.digests.items()}
        return metadata.items() <= {**own, PART: str(self.identity)}.items()


class ObjectContent(NamedTuple):
    """The content of an object, and its metadata."""

    body: RequestBody
    sha256: bytes
    metadata: Mapping[str, str] = {}


class S3Bucket:
    """One bucket. Any thread may call any method.

    Attributes:
        location: Its location.
        service: Its service.
        prefix: The prefix of the mirror's keys, including `/`; it may be empty.
        names: Listed keys.
    """

    def __init__(self, location: BucketLocation, service: BucketService | None = None) -> None:
        """Create the client; nothing is sent yet.

        Args:
            location: Its location.
            service: Its service; None to create one.
        """
        self.location = location
        self.service = service or BucketService(location)
        self.prefix = f"{location.prefix}/" if location.prefix else ""
        self.names = ListedNames()

    @property
    def name(self) -> str:
        """See `StoredFiles.name`."""
        return self.location.url

    def located(self, source: CopySource) -> tuple[S3Bucket, str]:
        """Return the bucket of an object of the service, which is this one in DEST, and its path there."""
        name, _, key = source.url.removeprefix("s3://").partition("/")
        if name == self.location.bucket and key.startswith(self.prefix):
            return self, self.path(key)
        return S3Bucket(replace(self.location, bucket=name, prefix=""), self.service), key

    def key(self, path: str) -> str:
        """Return the key of a path in DEST."""
        return self.prefix + path

    def described(self, key: str) -> str:
        """Return how a sentence about an object begins. The key of a staged one tells users nothing."""
        is_staged = key.startswith(self.key(STAGING))
        return f"An upload to {self.name}" if is_staged else self.location.url_of(key)

    def path(self, key: str) -> str:
        """Return the path in DEST of a key."""
        return key.removeprefix(self.prefix)

    def head(self, path: str) -> StoredObject | None:
        """Return the object at a path in DEST, None if there is none."""
        headers = self.head_fields(path)
        return None if headers is None else object_of(headers)

    def head_fields(self, path: str) -> Mapping[str, str] | None:
        """Return the header fields of an object, None if there is none."""
        try:
            return self.request(ObjectRequest("HEAD", self.key(path), _WITH_CHECKSUMS), "look at").headers
        except FileNotFoundError:
            return None

    def send(self, requests: Sequence[ObjectRequest]) -> Sequence[ObjectReply | None]:
        """Send requests once, many at once. Those without a good reply can be repeated by `request`."""
        return self.service.send(self.location, requests) if requests else ()

    def request(self, request: ObjectRequest, what: str) -> ObjectReply:
        """Send a request, repeat it if necessary, and return its reply (`BucketService.request`)."""
        return self.service.request(self.location, request, what)

    def pages(self, prefix: str, *, after: str = "", delimiter: str = "") -> Iterator[S3Document]:
        """List objects: yield the pages of the list.

        Args:
            prefix: The prefix of their keys.
            after: Only keys after this one. Some servers ignore it.
            delimiter: If given, keys with it after the prefix are grouped.

        Raises:
            CredentialsError, DestinationError: As any request; or the list is incomplete.
        """
        given = {"start-after": after, "delimiter": delimiter}
        parameters = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
        parameters |= {name: value for name, value in given.items() if value}
        token = ""
        while True:
            page = self.document(ObjectRequest("GET", "", query=query_of(parameters)), "list")
            if not page.is_whole or "IsTruncated" not in page.fields:
                raise self._incomplete_list
            yield page
            if not page.is_truncated:
                return
            before, token = token, page.fields.get("NextContinuationToken", "")
            if token in {"", before}:
                raise self._incomplete_list
            parameters["continuation-token"] = token

    @property
    def _incomplete_list(self) -> DestinationError:
        return DestinationError(f"{self.name} cannot be listed: its server sent an incomplete list.")

    def put(self, path: str, content: ObjectContent, condition: Mapping[str, str]) -> str:
        """Store an object by one request.

        Returns:
            "", or the error code if `condition` was not met.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        request = self.put_request(path, content, condition)
        codes = REFUSED_CONDITIONS if condition else frozenset[str]()
        return self.try_write(lambda: self.request(request, "write"), codes)

    def put_own(self, key: str, content: ObjectContent) -> str:
        """Store an object under a key that no other writer uses; return its ETag."""
        path = self.path(key)
        reply = self.request(self.put_request(path, content, {}), "write")
        if "etag" in reply.headers:
            return reply.headers["etag"]
        found = self.head(path)
        if found is None:
            raise DestinationError(f"{self.name}/{path} was removed during the run.")
        return found.etag

    def put_request(self, path: str, content: ObjectContent, condition: Mapping[str, str]) -> ObjectRequest:
        """Return the request that stores an object."""
        headers = {
            "x-amz-checksum-sha256": base64.b64encode(content.sha256).decode(),
            **{f"x-amz-meta-{name}": value for name, value in content.metadata.items()},
            **condition,
        }
        return ObjectRequest("PUT", self.key(path), headers, content.body, content.sha256.hex())

    @staticmethod
    def try_write(write: Callable[[], object], codes: frozenset[str]) -> str:
        """Call `write`; return the code of its error if that is one of `codes`, else ""."""
        try:
            write()
        except (StacpullError, OSError) as error:
            code = code_behind(error)
            if code not in codes:
                raise
            return code
        return ""

    # --- publishing --------------------------------------------------------------------------------------

    def delete(self, path: str) -> None:
        """Remove an object, if it exists."""
        with suppress(FileNotFoundError):
            self.request(ObjectRequest("DELETE", self.key(path)), "remove")
        self.names.note(self.key(path), is_there=False)

    def open(self, path: str, size: int, etag: str) -> BinaryIO:
        """Open a version of an object for reading."""
        return io.BufferedReader(ObjectReader(self, path, size, etag), READ)

    def open_source(self, source: CopySource, size: int) -> BinaryIO:
        """Open a version of an object of the service, which may be outside of DEST."""
        other, path = self.located(source)
        return other.open(path, size, source.etag)

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """See `StoredFiles.state_of`. The digest is the one that was verified when the object was stored."""
        found = self.head(path)
        if found is None:
            return FileState()
        if algorithm is None or is_stopped():
            return FileState(found.size)
        if algorithm in found.digests:
            return FileState(found.size, found.digests[algorithm])
        with ObjectReader(self, path, found.size, found.etag) as file:
            hashed = digest_by(file.take, Checksum(algorithm, b""), is_stopped)
        return FileState(found.size) if hashed is None else FileState(*hashed)

    def copy(
        self, path: str, source: CopySource, metadata: Mapping[str, str], algorithm: str | None = None
    ) -> None:
        """Let the service copy a version of an object.

        Args:
            path: The path of the copy.
            source: The source object.
            metadata: The metadata of the copy.
            algorithm: The algorithm of the checksum that the service must compute.
        """
        headers = {
            COPY: encode_key(source.url.removeprefix("s3:/")),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-metadata-directive": "REPLACE",
            "x-amz-tagging-directive": "REPLACE",
            **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
            **({} if algorithm is None else {"x-amz-checksum-algorithm": algorithm}),
        }
        self.request(ObjectRequest("PUT", self.key(path), headers), "write")

    def listed(self, prefix: str, after: str = "") -> tuple[list[str], bool]:
        """Return up to a thousand keys, and whether there are no more.

        Args:
            prefix: Their prefix.
            after: Only keys after this one.
        """
        page = next(self.pages(prefix, after=after))
        return [page.name(entry) for entry in page.records.get("Contents", ())], not page.is_truncated

    def document(self, request: ObjectRequest, what: str) -> S3Document:
        """Send a request as `request` does, and return the document of the reply."""
        return read_document(self.request(request, what).body or b"")


class ObjectReader(io.RawIOBase):
    """A readable, seekable object. All reads are of the version that was opened."""

    def __init__(self, bucket: S3Bucket, path: str, size: int, etag: str) -> None:
        """Prepare to read the version with `etag`, which has `size` bytes; nothing is sent yet."""
        super().__init__()
        self._bucket = bucket
        self._path = path
        self._size = size
        self._etag = etag
        self._at = 0
        self._ranges: deque[memoryview] = deque()
        """Received ranges that were not read yet."""

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position of the next read. Nothing is sent yet."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset != self._at:
            self._ranges.clear()
            self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        data = self.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def take(self, most: int) -> bytes | memoryview:
        """Return the next bytes without copying them, `most` or fewer. There are none at the end."""
        if self._at >= self._size:
            return b""
        if not self._ranges:
            self._ranges.extend(self._received())
        data = self._ranges[0][:most]
        self._ranges[0] = self._ranges[0][len(data) :]
        if not self._ranges[0]:
            self._ranges.popleft()
        self._at += len(data)
        return data

    def _received(self) -> Iterator[memoryview]:
        """Request the next ranges at once, and yield them.

        rclone sends a range with status 200. A server that ignores ranges sends the whole object, which is
        read if it is short.
        """
        starts = range(self._at, min(self._at + _RANGES * _RANGE, self._size), _RANGE)
        sizes = [min(_RANGE, self._size - start) for start in starts]
        key = self._bucket.key(self._path)
        requests = [
            ObjectRequest("GET", key, {"range": f"bytes={start}-{start + size - 1}", "if-match": self._etag})
            for start, size in zip(starts, sizes, strict=True)
        ]
        replies = self._bucket.send(requests)
        for start, size, request, first in zip(starts, sizes, requests, replies, strict=True):
            reply = first if first is not None and first.status in {OK, _PARTIAL} else self._reply_to(request)
            body = memoryview(reply.body or b"")
            if reply.status == OK and "content-range" not in reply.headers and len(body) == self._size:
                yield body[start:]
                return
            if len(body) != size:
                what = self._bucket.described(key)
                raise DestinationError(f"{what} cannot be read: its server does not send ranges of objects.")
            yield body

    def _reply_to(self, request: ObjectRequest) -> ObjectReply:
        """Send a request until it succeeds, or another version of the object is there."""
        bucket = self._bucket
        try:
            return bucket.request(request, "read")
        except (FileNotFoundError, DestinationError) as error:
            if isinstance(error, DestinationError) and code_behind(error) not in EXISTS:
                raise
            raise ObjectChangedError(
                f"{bucket.described(request.key)} was replaced or removed while it was read: run the command "
                "again."
            ) from error


class ListedNames:
    """Listed names: the most recent ranges of keys.

    Attributes:
        listing: A lock. Hold it from before a listing until `add`, so that no change is noted in between and
            then lost.
    """

    def __init__(self) -> None:
        self.listing = threading.Lock()
        self._stretches: list[tuple[bytes, bytes | None, set[str]]] = []
        """Each range: the key before it, its last key (None for the end), its keys."""

    def has(self, key: str) -> bool | None:
        """Return True if a key exists, False if it does not, None if that is unknown."""
        found = self._of(key)
        return None if found is None else key in found

    def add(self, after: str, keys: Sequence[str], *, is_last: bool) -> None:
        """Add the result of a listing."""
        until = None if is_last or not keys else keys[-1].encode()
        if is_last or keys:
            self._stretches.append((after.encode(), until, set(keys)))
            del self._stretches[:-_STRETCHES]

    def note(self, key: str, *, is_there: bool) -> None:
        """Record a change by the mirror itself. Waits for a listing."""
        with self.listing:
            found = self._of(key)
            if found is not None and is_there:
                found.add(key)
            elif found is not None:
                found.discard(key)

    def _of(self, key: str) -> set[str] | None:
        name = key.encode()
        for after, until, keys in reversed(self._stretches):
            if after < name and (until is None or name <= until):
                return keys
        return None


def query_of(parameters: Mapping[str, str]) -> str:
    """Return parameters as the query of a request."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())


def object_of(headers: Mapping[str, str]) -> StoredObject | None:
    """Return the object described by the header fields of a HEAD; None if a field is missing."""
    size, modified = headers.get("content-length", ""), moment_of(headers.get("last-modified", ""))
    if not size.isdecimal() or modified is None:
        return None
    return StoredObject(
        int(size),
        headers.get("etag", ""),
        modified,
        _digests_in(headers),
        _number(headers.get(f"x-amz-meta-{PART}", "")),
    )


def _digests_in(headers: Mapping[str, str]) -> Mapping[str, bytes]:
    """Return the digests of an object, from its metadata and from the service."""
    found = {}
    for algorithm, size in _DIGEST_BYTES.items():
        with suppress(ValueError):
            digest = bytes.fromhex(headers.get(f"x-amz-meta-stacpull-{algorithm}", ""))
            is_composite = headers.get("x-amz-checksum-type") == "COMPOSITE" or "-" in headers.get("etag", "")
            if not digest and not (is_composite and algorithm == "sha256"):
                digest = base64.b64decode(headers.get(f"x-amz-checksum-{algorithm}", ""), validate=True)
            if len(digest) == size:
                found[algorithm] = digest
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0

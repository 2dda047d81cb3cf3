"""A client for one S3 bucket: credentials, connections, and the translation of errors.

`store.bucket_requests` sends the common requests. boto3 sends the rare ones, and common ones that got no
reply or an unexpected one.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import quote, unquote_plus, urlsplit

from msgspec.structs import replace

from stacpull.aws_settings import StaticSetup, ca_bundle_variable, static_setup, without_unknown_home
from stacpull.errors import (
    CredentialsError,
    DestinationError,
    ObjectChangedError,
    StacpullError,
    UsageError,
)
from stacpull.models import BucketLocation, Checksum, CopySource
from stacpull.net.notices import SILENT_AFTER
from stacpull.net.status import moment_of
from stacpull.proxies import Proxy, proxy_of
from stacpull.redact import Secret, Secrets
from stacpull.s3_endpoint import endpoint_of
from stacpull.sigv4 import Credentials, encode_key, silence_metadata
from stacpull.store.bucket_requests import (
    Body,
    BucketRequests,
    FilePiece,
    ObjectReply,
    ObjectRequest,
    as_file,
    bucket_requests,
    has_other_hosts,
)
from stacpull.store.inspection import digest_by
from stacpull.store.protocol import FileState, IsStopped, never

T = TypeVar("T")

THREADS = 32
"""Simultaneous long parts and requests of boto3."""
READ = 1 << 20
SHA256, PART = "stacpull-sha256", "stacpull-part"
"""Metadata of an object: its digest, and the identity of its part."""
STAGING = ".stacpull/parts/"
"""The prefix of objects that are uploaded and not yet copied to their final keys."""
ATTEMPTS = 8
_PATIENCE, _FAILING = 120.0, 60.0
"""Seconds for which boto3 retries a request; and, after a request has failed for good, for which it retries
nothing."""
_CONNECT_TIMEOUT = 10.0
"""Seconds of boto3 for a connection, and for each block of a body that it sends."""
_UNAVAILABLE = frozenset({500, 502, 503, 504})
_FAILED_AT = "stacpull-failed-at"
NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
NO_UPLOADS = frozenset({"NoSuchUpload", "NotImplemented"})
DENIALS = frozenset({"AccessDenied", "403", "Forbidden", "AllAccessDisabled"})
OK, NO_CONTENT, _PARTIAL, NOT_FOUND, FAILED_CONDITION, _UNKNOWN_CONDITION = 200, 204, 206, 404, 412, 501
_FIRST_ERROR = 300
EXISTS = frozenset({"412", "PreconditionFailed"})
UNKNOWN_CONDITIONS = frozenset({"501", "NotImplemented"})
"""The codes of services that refuse every condition of a request."""
REFUSED_CONDITIONS = EXISTS | UNKNOWN_CONDITIONS | {"ConditionalRequestConflict"}
_PARAMETERS = {
    "if-match": "IfMatch",
    "if-none-match": "IfNoneMatch",
    "x-amz-checksum-algorithm": "ChecksumAlgorithm",
    "x-amz-checksum-type": "ChecksumType",
}
"""The names of header fields in boto3."""
_DIGEST_BYTES = {"sha256": 32, "crc64nvme": 8}
"""Algorithms whose digests are in the metadata of an object or stated by the service."""
_WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
_REFUSED_KEYS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_STRETCHES = 16
_MOST_OTHERS = 8
"""The most other buckets of the service with connections."""
_USUAL_REGION = "us-east-1"
_RANGE, _RANGES = 1 << 19, 8
"""Bytes of a range that is read, and number of ranges that are requested at once."""
KEY = re.compile("<Key>([^<]+)</Key>")
_IS_TRUNCATED = re.compile("<IsTruncated>(true|false)</IsTruncated>")


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

    body: Body
    sha256: bytes
    metadata: Mapping[str, str] = {}


class _locked_property(cached_property[T]):  # noqa: N801 - as its base class
    """A cached property that only one thread computes. Since Python 3.12, `cached_property` has no lock."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with instance.opening:
            return super().__get__(instance, owner)


class S3Bucket:
    """One bucket. Any thread may call any method.

    Attributes:
        location: Its location.
        prefix: The prefix of the mirror's keys, including `/`; it may be empty.
        names: Listed keys.
        opening: A lock for creating a client.
        failing_until: After a failure of the service, boto3 repeats no request until then
            (`time.monotonic`). A normal reply resets it.
    """

    def __init__(
        self,
        location: BucketLocation,
        parent: S3Bucket | None = None,
        on_silent: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Create the client; nothing is sent yet.

        Args:
            location: Its location.
            parent: A bucket of the same service whose session and boto3 client this one shares, if any.
            on_silent: Called at most once, in a thread of its own, with a sentence for the user: the service
                has not answered for some seconds.
        """
        self.location = location
        self._parent = parent
        self._on_silent = on_silent
        self._is_reported = False
        self.prefix = f"{location.prefix}/" if location.prefix else ""
        self.names = ListedNames()
        self.opening = threading.RLock()
        self._others: dict[str, S3Bucket] = {}
        """Other buckets by name, the least recently used first."""
        self._is_closed = False
        self.failing_until = 0.0

    @_locked_property
    def session(self) -> Any:
        """The session of botocore."""
        return _session(self.location) if self._parent is None else self._parent.session

    @_locked_property
    def s3(self) -> Any:
        """A client of boto3."""
        if self._parent is not None:
            return self._parent.s3
        return _client(self.session, self.location, self._after_attempt)

    def _after_attempt(
        self,
        response: Any,
        caught_exception: Exception | None,
        operation: Any,
        request_dict: dict[str, Any],
        **_: object,
    ) -> None:
        """End a request of boto3 instead of repeating it for too long.

        Once the service has failed for one request, others that it fails are not repeated for a minute. So a
        run ends soon, although it still aborts uploads and releases its lease.
        """
        reply = {} if response is None else response[1]
        status = _status_in(reply)
        if status is not None and status not in _UNAVAILABLE:
            self.failing_until = 0.0
            if status < _FIRST_ERROR:
                return
        now = time.monotonic()
        failed_at = request_dict["context"].setdefault(_FAILED_AT, now)
        if now > failed_at + SILENT_AFTER:
            self._report_silence("has not answered" if status is None else f"has replied {status}")
        if now > failed_at + _PATIENCE or now < self.failing_until:
            from botocore.exceptions import ClientError  # noqa: PLC0415 - imported already

            raise caught_exception or ClientError(reply, operation.name)

    def _report_silence(self, what: str = "has not answered") -> None:
        if not self._is_reported:
            self._is_reported = True
            sentence = f"{self.name} {what} for {SILENT_AFTER:.0f} s; still waiting."
            threading.Thread(target=self._on_silent, args=(sentence,), daemon=True).start()  # it may block

    @_locked_property
    def requests(self) -> BucketRequests | None:
        """The sender without boto3; None if only boto3 can send, or if this is closed."""
        if self._is_closed:
            return None
        location, static, credentials = self.location, self.static, self.credentials
        if credentials is None:
            return None
        if static is not None and static.credentials is not None:
            region = static.settings.region or _USUAL_REGION
            bundle = location.ca_bundle or ca_bundle_variable()
        elif location.endpoint_url is None and has_other_hosts(self.session):
            return None
        else:
            region, bundle = _region(self.session, location), self.session.get_config_variable("ca_bundle")
        return bucket_requests(
            location.bucket, location.endpoint_url, region, credentials, bundle, self._report_silence
        )

    @_locked_property
    def static(self) -> StaticSetup | None:
        """The AWS configuration, if it can be read without botocore; otherwise None."""
        location = self.location
        if self._parent is None:
            return static_setup(location.profile, location.region)
        found: StaticSetup | None = self._parent.static
        return found

    @_locked_property
    def credentials(self) -> Callable[[], Credentials] | None:
        """A function that returns the current credentials; None if there are none.

        It may block while it renews them.
        """
        if self.static is not None and (keys := self.static.credentials) is not None:
            return lambda: keys
        source = self.session.get_credentials()
        if source is None:
            return None

        def frozen() -> Credentials:
            found = source.get_frozen_credentials()
            return Credentials(found.access_key, found.secret_key, found.token)

        return frozen

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The credentials that requests are signed with now.

        Raises:
            CredentialsError: There are none.
        """
        with self.errors("read", ""):
            if self.credentials is None:
                raise _no_credentials(self.location, "there are none")
            now = self.credentials()
        return tuple(Secret(key) for key in (now.access_key, now.secret_key, now.token) if key)

    @property
    def name(self) -> str:
        """See `StoredFiles.name`."""
        return self.location.url

    def close(self) -> None:
        """Close the connections. A thread that still uses this bucket then sends with boto3."""
        with self.opening:
            self._is_closed = True
            others, self._others = list(self._others.values()), {}
            requests = self.__dict__.get("requests")
            s3 = self.__dict__.get("s3") if self._parent is None else None
        for other in others:
            other.close()
        if requests is not None:
            requests.close()
        if s3 is not None:
            s3.close()

    def bucket_named(self, name: str) -> S3Bucket:
        """Return another bucket of the service, or this one, with the same credentials.

        A catalog may name any number of buckets. Only the most recently used ones keep their connections.
        """
        if name == self.location.bucket:
            return self
        with self.opening:
            other = self._others.pop(name, None)
            if other is None:
                other = S3Bucket(replace(self.location, bucket=name, prefix=""), self)
            self._others[name] = other
            evicted = []
            while len(self._others) > (0 if self._is_closed else _MOST_OTHERS):
                evicted.append(self._others.pop(next(iter(self._others))))
        for bucket in evicted:
            bucket.close()
        return other

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
        (reply,) = self.send([ObjectRequest("HEAD", self.key(path), _WITH_CHECKSUMS)], "look at")
        if reply is not None and reply.status == NOT_FOUND:
            return None
        if reply is not None and reply.status == OK and object_of(reply.headers) is not None:
            return reply.headers
        try:
            with self.errors("look at", path):
                found = self.s3.head_object(**self.at(self.key(path)), ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        headers: Mapping[str, str] = found["ResponseMetadata"]["HTTPHeaders"]
        return headers

    def send(self, requests: Sequence[ObjectRequest], what: str) -> Sequence[ObjectReply | None]:
        """Send requests without boto3. The caller sends those without a reply with boto3."""
        if not requests:
            return ()
        with self.errors(what, ""):
            sender = self.requests
            replies = [None] * len(requests) if sender is None else sender.send(requests)
        if self.failing_until and any(reply and reply.status not in _UNAVAILABLE for reply in replies):
            self.failing_until = 0.0
        return replies

    def pages(self, **arguments: str) -> Iterator[Mapping[str, Any]]:
        """List objects.

        Raises:
            CredentialsError, DestinationError: As any request; or the listing is incomplete.
        """
        with self.errors("list", ""):
            listing = self.s3.get_paginator("list_objects_v2")
            for page in listing.paginate(Bucket=self.location.bucket, **arguments):
                yield page
                if page.get("IsTruncated") and not page.get("NextContinuationToken"):
                    raise DestinationError(
                        f"{self.name} cannot be listed: its server sent an incomplete list."
                    )

    @contextmanager
    def errors(self, what: str, path: str) -> Iterator[None]:
        """Translate errors of botocore.

        Raises:
            FileNotFoundError: There is no such object.
            CredentialsError: There are no credentials, or the service rejects them.
            DestinationError: The bucket denies the request, or cannot be reached.
        """
        try:
            yield
        except Exception as error:
            if "botocore.exceptions" in sys.modules:  # importing it takes 0.3 s
                self._translate(error, what, path)
            raise

    def _translate(self, error: Exception, what: str, path: str) -> None:
        """Raise an error of botocore's as `errors` does; return if it is another one."""
        from botocore import exceptions  # noqa: PLC0415 - only where it is imported already

        is_unreachable = isinstance(error, exceptions.HTTPClientError | exceptions.ConnectionError)
        status = _status_in(error.response) if isinstance(error, exceptions.ClientError) else None
        if is_unreachable or status in _UNAVAILABLE:
            self.failing_until = time.monotonic() + _FAILING
        unusable = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.ProfileNotFound,
            exceptions.SSOError,
            exceptions.TokenRetrievalError,
        )
        if isinstance(error, exceptions.ClientError):
            if error_code(error) in NOT_THERE:
                raise FileNotFoundError(errno.ENOENT, "there is no such object", path) from error
            refusal = _refusal(error, what, f"{self.name}/{path}".rstrip("/"), self.location)
            Secrets(self.secrets).scrub_error(refusal)  # a server may quote the request
            raise refusal from error
        if isinstance(error, unusable):
            raise _no_credentials(self.location, str(error)) from error
        if isinstance(error, exceptions.SSLError):
            raise DestinationError(
                f"The certificate of {self.name} is not trusted: name its authority with --ca-bundle. {error}"
            ) from error
        if is_unreachable:
            proxy = _proxy_to(self.location, self.location.region or _USUAL_REGION)
            way = "" if proxy is None else f" through the proxy {proxy}"
            raise DestinationError(
                f"{self.name} cannot be reached{way}: check the network and --dest-endpoint-url, "
                "then run `stacpull resume`."
            ) from error
        if isinstance(error, exceptions.BotoCoreError):
            raise DestinationError(f"{self.name} cannot be used: {error}") from error

    def put(self, path: str, content: ObjectContent, condition: Mapping[str, str]) -> str:
        """Store an object by one request.

        Returns:
            "", or the error code if `condition` was not met.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        (reply,) = self.send([self.put_request(path, content, condition)], "write")
        if reply is not None and reply.status == OK:
            return ""
        if reply is not None and condition and reply.status in {FAILED_CONDITION, _UNKNOWN_CONDITION}:
            return str(reply.status)
        body = content.body
        if isinstance(body, FilePiece):
            body.file.seek(0)
        return self.refused(
            path,
            REFUSED_CONDITIONS if condition else frozenset(),
            lambda: self.s3.put_object(
                **self.at(self.key(path)),
                Body=body.file if isinstance(body, FilePiece) else as_file(body),
                ChecksumSHA256=base64.b64encode(content.sha256).decode(),
                Metadata=content.metadata,
                **named_by_boto3(condition),
            ),
        )

    def put_own(self, key: str, content: ObjectContent) -> str:
        """Store an object under a key that no other writer uses; return its ETag."""
        path = self.path(key)
        (reply,) = self.send([self.put_request(path, content, {})], "write")
        if reply is not None and reply.status == OK and "etag" in reply.headers:
            return reply.headers["etag"]
        self.put(path, content, {})
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

    def refused(self, path: str, codes: frozenset[str], write: Callable[[], object]) -> str:
        """Call `write`; return the code of its error if that is one of `codes`, else ""."""
        try:
            with self.errors("write", path):
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
        (reply,) = self.send([ObjectRequest("DELETE", self.key(path))], "remove")
        if reply is None or reply.status != NO_CONTENT:
            with suppress(FileNotFoundError), self.errors("remove", path):
                self.s3.delete_object(**self.at(self.key(path)))
        self.names.note(self.key(path), is_there=False)

    def open(self, path: str, size: int, etag: str) -> BinaryIO:
        """Open a version of an object for reading."""
        return io.BufferedReader(ObjectReader(self, path, size, etag), READ)

    def open_source(self, source: CopySource, size: int) -> BinaryIO:
        """Open a version of an object of the service, which may be in another bucket."""
        address = object_address(source)
        other = self.bucket_named(address["Bucket"])
        return other.open(other.path(address["Key"]), size, source.etag)

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
            "x-amz-copy-source": encode_key(source.url.removeprefix("s3:/")),
            "x-amz-copy-source-if-match": source.etag,
            "x-amz-metadata-directive": "REPLACE",
            "x-amz-tagging-directive": "REPLACE",
            **{f"x-amz-meta-{name}": value for name, value in metadata.items()},
            **({} if algorithm is None else {"x-amz-checksum-algorithm": algorithm}),
        }
        text = self.document("PUT", self.key(path), "", headers)
        if text is None or "<CopyObjectResult" not in text:
            with self.errors("write", path):
                self.s3.copy_object(
                    **self.at(self.key(path)),
                    CopySource=object_address(source),
                    CopySourceIfMatch=source.etag,
                    MetadataDirective="REPLACE",
                    TaggingDirective="REPLACE",
                    Metadata=metadata,
                    **({} if algorithm is None else {"ChecksumAlgorithm": algorithm}),
                )

    def listed(self, prefix: str, after: str = "") -> tuple[list[str], bool]:
        """Return up to a thousand keys, and whether there are no more.

        Args:
            prefix: Their prefix.
            after: Only keys after this one.
        """
        query = f"encoding-type=url&list-type=2&prefix={quote(prefix, safe='')}"
        text = self.document("GET", "", f"{query}&start-after={quote(after, safe='')}" if after else query)
        truncated = None if text is None else _IS_TRUNCATED.search(text)
        if text is not None and truncated is not None:
            keys = [unescaped(key) for key in KEY.findall(text)]
            is_encoded = "<EncodingType>url</EncodingType>" in text
            return [unquote_plus(key) if is_encoded else key for key in keys], truncated[1] == "false"
        page = next(self.pages(Prefix=prefix, **({"StartAfter": after} if after else {})))
        return [entry["Key"] for entry in page.get("Contents", ())], not page.get("IsTruncated")

    def document(
        self, method: str, key: str, query: str, headers: Mapping[str, str] = {}, body: bytes = b""
    ) -> str | None:
        """Send a request and return the document of the reply; None if boto3 must send it."""
        request = ObjectRequest(method, key, headers, body, hashlib.sha256(body).hexdigest(), query)
        (reply,) = self.send([request], "write")
        if reply is None or reply.status != OK or not reply.body:
            return None
        text = reply.body.decode("utf-8", "replace")
        return None if "<Error" in text else text

    def at(self, key: str) -> dict[str, str]:
        """Return bucket and key, as arguments of boto3."""
        return {"Bucket": self.location.bucket, "Key": key}


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
        self._has_ranges = True
        """False once the server has answered a request for a range with the whole object."""
        self._body: Any = None
        """The open response of boto3 at this position, if direct ranges failed."""

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
            self._close_body()
            self._at = base + offset
        return self._at

    def close(self) -> None:
        """See `io.IOBase`."""
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def readinto(self, buffer: Any) -> int:
        """Read some bytes."""
        data = self.take(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def take(self, most: int) -> bytes | memoryview:
        """Return the next bytes without copying them, `most` or fewer. There are none at the end."""
        if self._at >= self._size:
            return b""
        if not self._ranges and self._body is None and self._has_ranges:
            self._ranges.extend(self._received())
        data: bytes | memoryview
        if self._ranges:
            data = self._ranges[0][:most]
            self._ranges[0] = self._ranges[0][len(data) :]
            if not self._ranges[0]:
                self._ranges.popleft()
        else:
            data = self._read_by_boto3(min(most, self._size - self._at))
        self._at += len(data)
        return data

    def _received(self) -> Iterator[memoryview]:
        """Request the next ranges at once; yield them up to the first that is missing or wrong."""
        starts = range(self._at, min(self._at + _RANGES * _RANGE, self._size), _RANGE)
        sizes = [min(_RANGE, self._size - start) for start in starts]
        key = self._bucket.key(self._path)
        requests = [
            ObjectRequest("GET", key, {"range": f"bytes={start}-{start + size - 1}", "if-match": self._etag})
            for start, size in zip(starts, sizes, strict=True)
        ]
        for size, reply in zip(sizes, self._bucket.send(requests, "read"), strict=True):
            if reply is None or reply.status != _PARTIAL or reply.body is None or len(reply.body) != size:
                self._has_ranges = reply is None or reply.status != OK
                return
            yield memoryview(reply.body)

    def _read_by_boto3(self, size: int) -> bytes:
        """Read up to `size` bytes of a response that stays open until the end of the object, or a seek."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

        bucket = self._bucket
        changed = ObjectChangedError(
            f"{bucket.described(bucket.key(self._path))} was replaced or removed while it was read: run the "
            "command again."
        )
        try:
            with bucket.errors("read", self._path):
                body, self._body = self._body or self._opened_by_boto3(), None
                data: bytes = body.read(size)
                self._body = body  # not after an error, because its position is then unknown
        except FileNotFoundError as error:
            raise changed from error
        except DestinationError as error:
            reply = error.__cause__.response if isinstance(error.__cause__, ClientError) else {}
            if _status_in(reply) != FAILED_CONDITION:
                raise
            raise changed from error
        return data

    def _opened_by_boto3(self) -> Any:
        """Request the rest of the object. If the server ignores ranges, skip the bytes before it."""
        bucket, ranged = self._bucket, {"Range": f"bytes={self._at}-"} if self._at else {}
        answer = bucket.s3.get_object(**bucket.at(bucket.key(self._path)), IfMatch=self._etag, **ranged)
        body = answer["Body"]
        before = self._at if "ContentRange" not in answer else 0
        while before and (skipped := len(body.read(min(before, READ)))):
            before -= skipped
        return body


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


def named_by_boto3(headers: Mapping[str, str]) -> dict[str, str]:
    """Return header fields as arguments of boto3."""
    return {_PARAMETERS[name]: value for name, value in headers.items()}


def object_address(source: CopySource) -> dict[str, str]:
    """Return bucket and key of an object, as arguments of boto3."""
    bucket, _, key = source.url.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


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


def unescaped(text: str) -> str:
    """Replace the character references of XML."""
    if "&" not in text:
        return text
    from html import unescape  # noqa: PLC0415 - slow to import and rarely needed

    return unescape(text)


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


def error_code(error: Any) -> str:
    """Return the code of a `ClientError` of botocore."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _status_in(reply: Mapping[str, Any]) -> int | None:
    """Return the status code of a reply that botocore has parsed."""
    status: int | None = reply.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def code_behind(error: BaseException) -> str:
    """Return the code of the `ClientError` that an error was raised from, "" if there is none."""
    if error.__cause__ is None:
        return ""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.3 s

    return error_code(error.__cause__) if isinstance(error.__cause__, ClientError) else ""


def _refusal(error: Any, what: str, place: str, location: BucketLocation) -> StacpullError:
    """Return the error for a request that a bucket rejected."""
    code = error_code(error)
    if code == "NoSuchBucket":
        return DestinationError(f"There is no bucket {location.bucket}: create it, or check its name.")
    if code in DENIALS:
        return DestinationError(
            f"{location.url} denies stacpull to {what} objects ({code}): it needs s3:ListBucket, "
            "s3:GetObject, s3:PutObject, s3:DeleteObject, s3:AbortMultipartUpload and "
            "s3:ListMultipartUploadParts. Check --dest-profile."
        )
    if code in _REFUSED_KEYS:
        return CredentialsError(
            f"{location.url} does not accept the credentials of {_keys_of(location)} ({code})."
        )
    message = str(error.response.get("Error", {}).get("Message", "")) or code
    return DestinationError(
        f"{place} cannot be used: {message} ({code}). Run the command again later, or check DEST."
    )


def _keys_of(location: BucketLocation) -> str:
    """Return the source of the credentials, for messages."""
    if location.profile is not None:
        return f"the profile {location.profile} (--dest-profile)"
    return "the AWS environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"


def _no_credentials(location: BucketLocation, why: str) -> CredentialsError:
    return CredentialsError(
        f"{location.url} needs credentials, and those of {_keys_of(location)} cannot be used: "
        f"{why.rstrip('.')}. Check --dest-profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def resolved_location(location: BucketLocation) -> BucketLocation:
    """Return a bucket with the endpoint and region of the current AWS configuration.

    They are stored with the mirror, so that a later run in another environment writes to the same place.

    Raises:
        CredentialsError: The profile does not exist.
        UsageError: The endpoint contains a password, which would be stored too.
    """
    static = static_setup(location.profile, location.region)
    if location.endpoint_url is not None and static is not None:
        return replace(location, region=static.settings.region)
    session = _session(location)
    location = replace(location, region=location.region or session.get_config_variable("region"))
    if location.endpoint_url is not None:
        return location
    client = _client(session, location, is_new=True)
    endpoint: str = client.meta.endpoint_url.rstrip("/")
    client.close()
    if urlsplit(endpoint).username is not None:
        raise UsageError(
            "The endpoint of the AWS configuration must not contain a user or a password: set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use --dest-profile."
        )
    return location if ".amazonaws.com" in endpoint else replace(location, endpoint_url=endpoint)


def _session(location: BucketLocation) -> Any:
    """Return a session of botocore that never uses the metadata services of cloud machines.

    Raises:
        CredentialsError: The profile does not exist.
    """
    from botocore.exceptions import ProfileNotFound  # noqa: PLC0415 - 0.2 s
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=location.profile)
    if location.ca_bundle is not None:
        session.set_config_variable("ca_bundle", location.ca_bundle)
    try:
        without_unknown_home(session)
        silence_metadata(session, lambda: None)
    except ProfileNotFound as error:
        raise _no_credentials(location, str(error)) from error
    return session


def _proxy_to(location: BucketLocation, region: str) -> Proxy | None:
    """Return the proxy for requests to a bucket."""
    return proxy_of(endpoint_of(location.bucket, region, location.endpoint_url).origin)


def _region(session: Any, location: BucketLocation) -> str:
    """Return the region of a bucket."""
    return location.region or session.get_config_variable("region") or _USUAL_REGION


def _client(
    session: Any,
    location: BucketLocation,
    after_attempt: Callable[..., None] | None = None,
    *,
    is_new: bool = False,
) -> Any:
    """Return a boto3 client for a bucket, with the credentials of the AWS configuration.

    Args:
        session: Of botocore.
        location: The bucket.
        after_attempt: Called after each attempt of a request; what it raises ends the request.
        is_new: True to use the endpoint of the AWS environment if `location` has none.

    Raises:
        DestinationError: The endpoint, the region or the proxy is invalid.
    """
    import boto3  # noqa: PLC0415 - 0.3 s
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    region = _region(session, location)
    proxy = _proxy_to(location, region)
    if proxy is not None and proxy.problem is not None:
        raise DestinationError(proxy.problem)
    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=THREADS,
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        proxies={} if proxy is None else {"http": proxy.url, "https": proxy.url},  # botocore lacks ALL_PROXY
        ignore_configured_endpoint_urls=None if is_new else True,  # None: as the AWS configuration says
        s3={
            "payload_signing_enabled": True,
            "addressing_style": "path" if location.endpoint_url else "auto",
        },
    )
    try:
        client = boto3.Session(botocore_session=session).client(
            "s3",
            endpoint_url=location.endpoint_url,
            region_name=region,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise DestinationError(f"{location.url} cannot be used: {error}") from error
    if after_attempt is not None:
        client.meta.events.register_first("needs-retry.s3", after_attempt)
    return client

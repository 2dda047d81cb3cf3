"""A bucket of S3 as DEST (`Store`): objects below a prefix.

Parts are staged in a work directory, beside the ledger, and removed when they are published. To publish is
one PUT, or a multipart upload that is completed: an object appears whole or not at all, and is durable when
the server confirms it. So `sync` has nothing to do, and what the ledger calls renamed is stored.

    If-None-Match: *            no object of another writer is overwritten
    x-amz-checksum-sha256       the server compares what came in; the signature covers the body as well
    x-amz-meta-stacpull-sha256  the digest, read back by HEAD: no body is read to verify an object
    x-amz-meta-stacpull-part    which part it was: a start after a kill knows its own object by that

A reply to a PUT may be lost. The PUT is repeated, meets its own object (412), and HEAD tells that it has the
same content. Servers that ignore `If-None-Match` are found by a probe; each object is then looked for before
it is written, which leaves a moment in which another writer's could be overwritten. The same is done for
every multipart upload, since some servers ignore the condition there only.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Self

import orjson

from stacpull.digests import new_hasher
from stacpull.errors import DestinationError
from stacpull.models import Checksum, Failure, FailureKind
from stacpull.store.protocol import Entry, Look, Placement
from stacpull.store.staging import StagedParts

if TYPE_CHECKING:
    import os

_THREADS = 32
"""Requests at a time."""
_SINGLE_PUT = 64 << 20
"""Bytes: longer parts are uploaded in pieces."""
_PIECE = 16 << 20
_MOST_PIECES = 9_000
_READ = 1 << 20
_LONGEST_KEY = 1024
_NO_NAMES = frozenset({"", ".", ".."})
_WINDOWS = 16
_OWNER = ".stacpull/owner.json"
_SHA256, _PART = "stacpull-sha256", "stacpull-part"
_ATTEMPTS = 8
_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_CONFLICT = "ConditionalRequestConflict"
_EXISTS = frozenset({"412", "PreconditionFailed"})
_NO_METADATA = ("iam-role", "container-role")
"""Providers of credentials that ask the metadata services of cloud machines (169.254.…)."""


@dataclass(frozen=True, slots=True)
class BucketLocation:
    """A bucket, a prefix in it, and how it is reached. It holds no secret."""

    bucket: str
    prefix: str = ""
    """Without `/` at its ends."""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    mirror: str = ""
    """What tells the mirror from any other one: the objects below the prefix belong to one mirror."""

    @property
    def url(self) -> str:
        """The `s3://` URL."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class _Object(NamedTuple):
    """What HEAD tells of an object."""

    size: int
    etag: str
    modified: float
    sha256: bytes | None
    identity: int


class BucketFiles:
    """The objects of a mirror, for reading (`StoredFiles`)."""

    def __init__(self, location: BucketLocation) -> None:
        """Prepare; nothing is sent yet."""
        self.location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._windows = _Windows()

    @cached_property
    def _s3(self) -> Any:
        return _client(self.location)

    @property
    def name(self) -> str:
        """See `StoredFiles.name`."""
        return self.location.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if "_s3" in self.__dict__:
            self._s3.close()

    def look_at(
        self,
        path: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """See `StoredFiles.look_at`. The digest is the one that was verified when the object was stored."""
        found = self._head(path)
        if found is None:
            return Look()
        if not hashed or is_stopped():
            return Look(found.size)
        if algorithm == "sha256" and found.sha256 is not None:
            return Look(found.size, found.sha256)
        hasher = new_hasher(Checksum(algorithm, b""))
        size = 0
        with self.open(path) as file:
            while chunk := file.read(_READ):
                size += len(chunk)
                hasher.update(chunk)
                if is_stopped():
                    return Look(found.size)
        return Look(size, hasher.digest())

    def obstacle(self, path: str) -> str | None:
        """See `StoredFiles.obstacle`: a bucket has no directories, so nothing can be in the way."""
        del path
        return None

    def has(self, path: str, *, unknown: bool = True) -> bool:
        """See `StoredFiles.has`. A thousand names are read at a time: most questions come in order."""
        del unknown
        key = self._key(path)
        known = self._windows.has(key)
        if known is not None:
            return known
        found = self._call("list_objects_v2", Prefix=self._prefix, StartAfter=key[:-1])
        names = [one["Key"] for one in found.get("Contents", ())]
        self._windows.add(key[:-1], names, is_last=not found.get("IsTruncated"))
        return key in names

    def read(self, path: str) -> bytes | None:
        """See `StoredFiles.read`."""
        try:
            with self._stored("read", path):
                data: bytes = self._s3.get_object(**self._of(path))["Body"].read()
                return data
        except FileNotFoundError:
            return None

    def open(self, path: str) -> BinaryIO:
        """See `StoredFiles.open`."""
        found = self._head(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path)
        return io.BufferedReader(_ObjectReader(self, path, found), _READ)

    def modified(self, path: str) -> float | None:
        """See `StoredFiles.modified`."""
        found = self._head(path)
        return None if found is None else found.modified

    def names(self, directory: str) -> list[str]:
        """See `StoredFiles.names`."""
        return [name for name, _ in self._listed(directory)]

    def directories(self, directory: str) -> list[str]:
        """See `StoredFiles.directories`."""
        return sorted(name for name, is_directory in self._listed(directory) if is_directory)

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        """See `StoredFiles.walk`."""
        for page in self._pages(Prefix=self._prefix):
            paths = [one["Key"].removeprefix(self._prefix) for one in page.get("Contents", ())]
            found = [Entry(path, is_file=True) for path in paths if path.split("/")[0] not in skipped]
            if found:
                yield found

    def _listed(self, directory: str) -> Iterator[tuple[str, bool]]:
        prefix = self._key(directory) + "/" if directory else self._prefix
        is_empty = True
        for page in self._pages(Prefix=prefix, Delimiter="/"):
            for one in page.get("Contents", ()):
                is_empty = False
                yield one["Key"].removeprefix(prefix), False
            for one in page.get("CommonPrefixes", ()):
                is_empty = False
                yield one["Prefix"].removeprefix(prefix).rstrip("/"), True
        if is_empty and directory:
            raise FileNotFoundError(errno.ENOENT, "there are no such objects", directory)

    def _pages(self, **arguments: str) -> Iterator[Mapping[str, Any]]:
        page = self._call("list_objects_v2", **arguments)
        yield page
        while page.get("IsTruncated"):
            page = self._call("list_objects_v2", **arguments, ContinuationToken=page["NextContinuationToken"])
            yield page

    def _head(self, path: str) -> _Object | None:
        try:
            with self._stored("look at", path):
                found = self._s3.head_object(**self._of(path))
        except FileNotFoundError:
            return None
        noted, sha256 = found.get("Metadata", {}), None
        with suppress(ValueError):
            sha256 = bytes.fromhex(noted.get(_SHA256, "")) or None
        part = noted.get(_PART, "")
        return _Object(
            found["ContentLength"],
            found.get("ETag", ""),
            found["LastModified"].timestamp(),
            sha256,
            int(part) if part.isdecimal() else 0,
        )

    def _key(self, path: str) -> str:
        return self._prefix + path

    def _of(self, path: str) -> dict[str, str]:
        return {"Bucket": self.location.bucket, "Key": self._key(path)}

    def _call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """Send a request about the whole bucket."""
        with self._stored("list", ""):
            answer: Mapping[str, Any] = getattr(self._s3, operation)(Bucket=self.location.bucket, **arguments)
            return answer

    @contextmanager
    def _stored(self, what: str, path: str) -> Iterator[None]:
        """Raise what botocore raises as errors of the destination.

        Raises:
            FileNotFoundError: There is no such object.
            DestinationError: The bucket denies the request, or cannot be reached.
        """
        from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError  # noqa: PLC0415 - 0.2 s

        try:
            yield
        except ClientError as error:
            if _code(error) in _NOT_THERE:
                raise FileNotFoundError(errno.ENOENT, "there is no such object", path) from error
            raise _refusal(error, what, f"{self.name}/{path}".rstrip("/"), self.location) from error
        except HTTPClientError as error:
            raise DestinationError(
                f"{self.name} cannot be reached: check the network and --dest-endpoint-url, "
                "then run `stacpull resume`."
            ) from error
        except BotoCoreError as error:
            raise DestinationError(f"{self.name} cannot be used: {error}") from error


class BucketStore(StagedParts, BucketFiles):
    """The objects of a mirror, for a run (`Store`)."""

    covers_ledger = False
    is_local: Literal[False] = False

    def __init__(self, work: Path, location: BucketLocation, *, own: str = "") -> None:
        """Open the work directory, which is made if need be; nothing is sent yet.

        Args:
            work: The work directory.
            location: The bucket.
            own: The directory of this worker among the parts (`store.own_parts`).

        Raises:
            DestinationError: The work directory cannot be made or written.
        """
        StagedParts.__init__(self, work, own)
        BucketFiles.__init__(self, location)
        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-bucket")

    def close(self) -> None:
        """Release everything."""
        self._threads.shutdown()
        BucketFiles.close(self)
        StagedParts.close(self)

    @staticmethod
    def identity_of(found: os.stat_result) -> int:
        """Return what tells a part from any other one: its inode is free again when it is published."""
        return (found.st_mtime_ns ^ found.st_ino << 1) & (1 << 62) - 1

    @property
    def warning(self) -> str | None:
        """See `Store.warning`."""
        if self._is_conditional:
            return None
        return (
            f"{self.name} ignores If-None-Match: stacpull looks for an object before it writes one. Let no "
            "other program write there meanwhile."
        )

    @cached_property
    def _is_conditional(self) -> bool:
        """True if the bucket refuses to overwrite an object where that is asked."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        path = f".stacpull/probe-{uuid.uuid4().hex}"
        with self._stored("write to", ""):
            try:
                self._s3.put_object(**self._of(path), Body=b"", IfNoneMatch="*")
                self._s3.put_object(**self._of(path), Body=b"", IfNoneMatch="*")
            except ClientError as error:
                if _code(error) in _EXISTS:
                    return True
                if _code(error) != "NotImplemented":
                    raise
            finally:
                with suppress(ClientError):
                    self._s3.delete_object(**self._of(path))
        return False

    def claim(self) -> None:
        """Make the prefix this mirror's, unless it is that already.

        Raises:
            DestinationError: It is another mirror's, or holds a catalog that no mirror has made.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        owner = self.read(_OWNER)
        if owner is None:
            if self._head("catalog.json") is not None:
                raise DestinationError(
                    f"{self.name} holds a catalog.json that no mirror made: choose another prefix."
                )
            about = {
                "mirror": self.location.mirror,
                "host": platform.node(),
                "work": str(self.work.absolute()),
            }
            condition = {"IfNoneMatch": "*"} if self._is_conditional else {}
            with suppress(ClientError), self._stored_unless(_OWNER):
                self._s3.put_object(**self._of(_OWNER), Body=orjson.dumps(about), **condition)
            owner = self.read(_OWNER) or b"{}"
        try:
            found = orjson.loads(owner)
            mirror, place = found["mirror"], f"{found['work']} on {found['host']}"
        except (ValueError, KeyError, TypeError) as error:
            raise DestinationError(f"{self.name}/{_OWNER} is damaged.") from error
        if mirror != self.location.mirror:
            raise DestinationError(
                f"{self.name} belongs to the mirror whose ledger is in {place}: run stacpull there, "
                "or choose another prefix."
            )

    # --- publishing --------------------------------------------------------------------------------------

    def sync(self, parts: Sequence[str]) -> None:
        """See `Store.sync`: an object is durable when its PUT was confirmed."""

    def sync_file(self, path: str) -> None:
        """See `Store.sync_file`."""
        if self._head(path) is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path)

    def sync_singly(self) -> bool:
        """See `Store.sync_singly`."""
        return False

    def mark_changed(self, directory: str) -> None:
        """See `Store.mark_changed`."""

    def tidy(self, directory: str) -> None:
        """See `Store.tidy`: a bucket has no directories."""

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        """See `Store.place`."""
        path = f"{directory}/{name}" if directory else name
        reason = "it is not a name" if "/" in name else _oddness(path, self._key(path))
        if reason is not None:
            return Failure(FailureKind.NAME, f"{path!r} cannot be written: {reason}.")
        if not self._is_stored(part, path, replace=replace):
            return Failure(
                FailureKind.EXISTS,
                f"{path} exists and is not of this mirror: move it away, then run `stacpull retry`.",
            )
        self._windows.note(self._key(path), is_there=True)
        self.drop_part(part)
        return None

    def place_all(self, placements: Sequence[Placement]) -> list[Failure | None]:
        """See `Store.place_all`: several at a time."""
        return list(
            self._threads.map(lambda one: self.place(one[0], one[1], one[2], replace=one[3]), placements)
        )

    def _is_stored(self, part: str, path: str, *, replace: bool) -> bool:
        """Store an object; return False if another writer's is there, with other content."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        entry = self.part_identity(part)
        if entry is None:
            raise DestinationError(f"{self.parts / part} was removed meanwhile.")
        identity, size = entry
        sha256 = self.look_at_part(part, hashed=True).sha256 or b""
        is_long = size > _SINGLE_PUT  # some servers ignore the condition of a multipart upload only
        if not replace and (is_long or not self._is_conditional) and self._head(path) is not None:
            return self._holds(path, size, sha256)
        condition = {"IfNoneMatch": "*"} if self._is_conditional and not replace else {}
        noted = {_SHA256: sha256.hex(), _PART: str(identity)}
        for _ in range(_ATTEMPTS):
            try:
                with self.open_part(part) as file, self._stored_unless(path):
                    if is_long:
                        _Upload(self._s3, self._of(path), file, size, noted, condition).run()
                    else:
                        checksum = base64.b64encode(sha256).decode()
                        self._s3.put_object(
                            **self._of(path),
                            Body=file.read(),
                            ChecksumSHA256=checksum,
                            Metadata=noted,
                            **condition,
                        )
            except ClientError as error:
                if _code(error) in _EXISTS:
                    return self._holds(path, size, sha256)
                continue
            return True
        raise DestinationError(f"{self.name} does not store {path}: other writers are at work there.")

    @contextmanager
    def _stored_unless(self, path: str) -> Iterator[None]:
        """Do as `_stored` does, but let the replies to a condition through."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        refused: ClientError | None = None
        with self._stored("write", path):
            try:
                yield
            except ClientError as error:
                if _code(error) not in _EXISTS | {_CONFLICT}:
                    raise
                refused = error
        if refused is not None:
            raise refused

    def _holds(self, path: str, size: int, sha256: bytes) -> bool:
        """Return True if an object has that content: our own, whose reply was lost."""
        return self.look_at(path, hashed=True)[:2] == (size, sha256)

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """See `Store.holds_same`."""
        there = self.look_at(f"{directory}/{name}" if directory else name, hashed=True).sha256
        return there is not None and there == self.look_at_part(part, hashed=True).sha256

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """See `Store.identity`."""
        found = self._head(f"{directory}/{name}" if directory else name)
        return None if found is None else (found.identity, found.size)

    def remove(self, directory: str, name: str) -> None:
        """See `Store.remove`."""
        path = f"{directory}/{name}" if directory else name
        with suppress(FileNotFoundError), self._stored("remove", path):
            self._s3.delete_object(**self._of(path))
        self._windows.note(self._key(path), is_there=False)


class _Upload:
    """A long part, uploaded in pieces. What an upload that broke off has stored is not sent again."""

    def __init__(
        self,
        s3: Any,
        place: dict[str, str],
        file: BinaryIO,
        size: int,
        noted: Mapping[str, str],
        condition: Mapping[str, str],
    ) -> None:
        self._s3 = s3
        self._place = place
        self._file = file
        self._piece = max(_PIECE, -(-size // _MOST_PIECES))
        self._noted = noted
        self._condition = condition

    def run(self) -> None:
        """Upload, and make the object appear."""
        upload, stored = self._begun()
        pieces = []
        number = 0
        while data := self._file.read(self._piece):
            number += 1
            checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
            etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if stored.get(number) != (etag, len(data)):
                sent = self._s3.upload_part(
                    **self._place, UploadId=upload, PartNumber=number, Body=data, ChecksumSHA256=checksum
                )
                etag = sent["ETag"].strip('"')
            pieces.append({"PartNumber": number, "ETag": f'"{etag}"', "ChecksumSHA256": checksum})
        self._s3.complete_multipart_upload(
            **self._place, UploadId=upload, MultipartUpload={"Parts": pieces}, **self._condition
        )

    def _begun(self) -> tuple[str, Mapping[int, tuple[str, int]]]:
        """Return the upload to continue, and the pieces that it has: (ETag, size) by number."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        bucket, key = self._place["Bucket"], self._place["Key"]
        try:
            found = self._s3.list_multipart_uploads(Bucket=bucket, Prefix=key).get("Uploads", ())
        except ClientError as error:
            if _code(error) not in {"NoSuchUpload", "NotImplemented"}:  # servers that cannot list them
                raise
            found = ()
        for upload in (one["UploadId"] for one in found if one["Key"] == key):
            pieces = self._pieces(upload)
            if pieces:
                return upload, pieces
            self._s3.abort_multipart_upload(**self._place, UploadId=upload)
        begun = self._s3.create_multipart_upload(
            **self._place, Metadata=self._noted, ChecksumAlgorithm="SHA256"
        )
        return begun["UploadId"], {}

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


class _ObjectReader(io.RawIOBase):
    """An object, read from any place on; it stays the version that it was when it was opened."""

    def __init__(self, files: BucketFiles, path: str, found: _Object) -> None:
        super().__init__()
        self._files = files
        self._path = path
        self._found = found
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.size}[whence]
        if base + offset != self._at:
            self._drop()
            self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._found.size:
            return 0
        with self._files._stored("read", self._path):  # noqa: SLF001 - a part of that class
            if self._body is None:
                self._body = self._opened()
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _opened(self) -> Any:
        files, place = self._files, self._files._of(self._path)  # noqa: SLF001 - a part of that class
        asked = {"Range": f"bytes={self._at}-"} if self._at else {}
        answer = files._s3.get_object(**place, IfMatch=self._found.etag, **asked)  # noqa: SLF001
        body = answer["Body"]
        if asked and "ContentRange" not in answer:  # a server that ignores ranges
            body.read(self._at)
        return body

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None

    def close(self) -> None:
        self._drop()
        super().close()


class _Windows:
    """Names that were listed: some stretches of all keys in their order, the most recent ones."""

    def __init__(self) -> None:
        self._windows: list[tuple[bytes, bytes | None, set[str]]] = []
        """Each: the key that it begins after, the last one that it covers (None: to the end), the keys."""

    def has(self, key: str) -> bool | None:
        """Return True if a key was listed, False if it was not where it should be, None if nothing tells."""
        found = self._of(key)
        return None if found is None else key in found

    def add(self, after: str, keys: Sequence[str], *, is_last: bool) -> None:
        """Note what a listing gave."""
        until = None if is_last or not keys else keys[-1].encode()
        if is_last or keys:
            self._windows.append((after.encode(), until, set(keys)))
            del self._windows[:-_WINDOWS]

    def note(self, key: str, *, is_there: bool) -> None:
        """Note what the mirror itself has written or removed."""
        found = self._of(key)
        if found is not None and is_there:
            found.add(key)
        elif found is not None:
            found.discard(key)

    def _of(self, key: str) -> set[str] | None:
        name = key.encode()
        for after, until, keys in reversed(self._windows):
            if after < name and (until is None or name <= until):
                return keys
        return None


def _oddness(path: str, key: str) -> str | None:
    """Return why an object cannot have that name, None if it can."""
    if "\0" in path or not _NO_NAMES.isdisjoint(path.split("/")):
        return "it is not a name"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not text"
    return f"it is longer than {_LONGEST_KEY} bytes" if length > _LONGEST_KEY else None


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: Any, what: str, place: str, location: BucketLocation) -> DestinationError:
    """Return the refusal of a bucket with a sentence for the user."""
    code = _code(error)
    if code == "NoSuchBucket":
        return DestinationError(f"There is no bucket {location.bucket}: create it, or check its name.")
    if code in {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}:
        return DestinationError(
            f"{location.url} denies stacpull to {what} objects ({code}): it needs s3:ListBucket, "
            "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload. Check --dest-profile."
        )
    if code in {"SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"}:
        return DestinationError(
            f"{location.url} does not accept the credentials ({code}): check --dest-profile."
        )
    message = str(error.response.get("Error", {}).get("Message", "")) or code
    return DestinationError(f"{place} cannot be used: {message} ({code}). Run `stacpull resume` later.")


def _client(location: BucketLocation) -> Any:
    """Return a client for a bucket; credentials come from where the AWS CLI has them.

    Raises:
        DestinationError: The profile does not exist.
    """
    import boto3  # noqa: PLC0415 - 0.3 s
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_THREADS,
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "payload_signing_enabled": True,
            "addressing_style": "path" if location.endpoint_url else "auto",
        },
    )
    try:
        session = Session(profile=location.profile)
        providers = session.get_component("credential_provider")
        for name in _NO_METADATA:
            providers.remove(name)
        return boto3.Session(botocore_session=session).client(
            "s3",
            endpoint_url=location.endpoint_url,
            region_name=location.region or session.get_config_variable("region") or "us-east-1",
            config=config,
        )
    except BotoCoreError as error:
        raise DestinationError(f"{location.url} cannot be used: {error}") from error

"""A bucket of S3 as DEST (`Store`): objects below a prefix.

Small parts are in memory; long ones are staged in a work directory, beside the ledger. To publish is one PUT,
or a multipart upload that is completed: an object appears whole or not at all, and is durable when the server
confirms it. So `sync` has nothing to do, and what the ledger calls renamed is stored.

    If-None-Match: *            no object of another writer is overwritten
    x-amz-checksum-sha256       the server compares what came in; the signature covers the body as well
    x-amz-meta-stacpull-sha256  the digest, read back by HEAD: no body is read to verify an object
    x-amz-meta-stacpull-part    which part it was: a start after a kill knows its own object by that

A reply to a PUT may be lost. The PUT is repeated, meets its own object (412), and HEAD tells that it has the
same content. Servers that ignore `If-None-Match` are found by a probe; each object is then looked for before
it is written, which leaves a moment in which another writer's could be overwritten. The same is done for
every multipart upload and copy, since some servers ignore the condition there only.

A long object of the same service is copied by the service (`_ServerCopy`).

Requests about objects are sent by `store.bucket_requests`. What it cannot do or settle, and everything that
is rare, is done by boto3.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.utils import mktime_tz, parsedate_tz
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, cast
from urllib.parse import quote

import orjson
from msgspec.structs import replace

from stacpull.digests import new_hasher
from stacpull.errors import CredentialsError, DestinationError, StacpullError
from stacpull.models import BucketLocation, Checksum, CopySource, Failure, FailureKind, path_in_dest
from stacpull.redact import Secret, Secrets
from stacpull.store.bucket_requests import (
    BucketRequests,
    FilePiece,
    ObjectReply,
    ObjectRequest,
    bucket_requests,
)
from stacpull.store.disk_errors import foreign_file
from stacpull.store.held_parts import LONGEST_HELD, HeldCopy, HeldParts
from stacpull.store.lease import LeaseCheck
from stacpull.store.protocol import Entry, Look, Note, Placement

_THREADS = 32
"""Long parts, and requests through boto3, at a time."""
_SINGLE_PUT = 64 << 20
"""Bytes: longer parts are uploaded in pieces."""
_PIECE = 16 << 20
_PIECES_AT_ONCE = 4
_MOST_PIECES = 9_000
_SINGLE_COPY, _SINGLE_COPY_AT_AMAZON = 1 << 30, 5 << 30
"""Bytes: longer objects are copied in pieces. Amazon keeps the connection alive while it copies."""
_COPIED_PIECE = 1 << 29
_OF_PIECES = ("ETag", "ChecksumSHA256", "ChecksumCRC64NVME")
_READ = 1 << 20
_LONGEST_KEY = 1024
_NO_NAMES = frozenset({"", ".", ".."})
_WINDOWS = 16
_SHA256, _PART = "stacpull-sha256", "stacpull-part"
_ATTEMPTS = 8
_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSALS = frozenset({401, 403})
_OK, _NO_CONTENT, _NOT_FOUND, _FAILED_CONDITION = 200, 204, 404, 412
_NO_BUCKET = b"NoSuchBucket"
_EXISTS = frozenset({"412", "PreconditionFailed"})
_REFUSED_CONDITIONS = _EXISTS | {"ConditionalRequestConflict", "NotImplemented"}
_COPY_REFUSALS = frozenset({"AccessDenied", "InvalidRequest", "InvalidArgument", "NotImplemented"})
_PARAMETERS = {"if-match": "IfMatch", "if-none-match": "IfNoneMatch"}
"""Header fields as boto3 names them."""
_DIGEST_BYTES = {"sha256": 32, "crc64nvme": 8}
"""Algorithms whose digests are noted with an object, or stated by the service."""
_WITH_CHECKSUMS = {"x-amz-checksum-mode": "ENABLED"}
_EMPTY = hashlib.sha256(b"").digest()
_REFUSED_KEYS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
    }
)
_NO_METADATA = ("iam-role", "container-role")
"""Providers of credentials that ask the metadata services of cloud machines (169.254.…)."""


class _Object(NamedTuple):
    """What HEAD tells of an object."""

    size: int
    etag: str
    modified: float
    digests: Mapping[str, bytes]
    """By algorithm: those that were verified when it was stored, and those that the service computes."""
    identity: int


class BucketFiles:
    """The objects of a mirror, for reading (`StoredFiles`)."""

    def __init__(self, location: BucketLocation) -> None:
        """Prepare; nothing is sent yet."""
        self.location = location
        self._prefix = f"{location.prefix}/" if location.prefix else ""
        self._windows = _Windows()

    @cached_property
    def _session(self) -> Any:
        return _session(self.location)

    @cached_property
    def _s3(self) -> Any:
        return _client(self._session, self.location)

    @cached_property
    def _requests(self) -> BucketRequests | None:
        place = self.location
        return bucket_requests(place.bucket, place.endpoint_url, _region(self._session, place), self._session)

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The credentials that requests are signed with now.

        Raises:
            CredentialsError: There are none.
        """
        with self._stored("read", ""):
            found = self._session.get_credentials()
            if found is None:
                raise _no_credentials(self.location, "there are none")
            frozen = found.get_frozen_credentials()
        return tuple(Secret(one) for one in frozen if one)

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
        if self.__dict__.get("_requests") is not None:
            self.__dict__["_requests"].close()
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
        if algorithm in found.digests:
            return Look(found.size, found.digests[algorithm])
        with self.open(path) as file:
            return _look_into(file, found.size, algorithm, is_stopped)

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
        return io.BufferedReader(_ObjectReader(self, self._of(path), found.size, found.etag), _READ)

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
        (reply,) = self._send([ObjectRequest("HEAD", self._key(path), _WITH_CHECKSUMS)], "look at")
        if reply is not None and reply.status == _NOT_FOUND:
            return None
        found = _object_of(reply.headers) if reply is not None and reply.status == _OK else None
        return found or self._head_by_boto3(self._of(path))

    def _head_by_boto3(self, place: Mapping[str, str]) -> _Object | None:
        try:
            with self._stored("look at", place["Key"].removeprefix(self._prefix)):
                found = self._s3.head_object(**place, ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        return _object_of(found["ResponseMetadata"]["HTTPHeaders"])

    def _send(self, requests: Sequence[ObjectRequest], what: str) -> Sequence[ObjectReply | None]:
        """Send requests without boto3; what got no reply is to be sent by that."""
        if not requests:
            return ()
        with self._stored(what, ""):
            sender = self._requests
            return [None] * len(requests) if sender is None else sender.send(requests)

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
            CredentialsError: There are no credentials, or the service refuses them.
            DestinationError: The bucket denies the request, or cannot be reached.
        """
        from botocore import exceptions  # noqa: PLC0415 - 0.2 s

        unusable = (
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
            exceptions.ProfileNotFound,
            exceptions.SSOError,
            exceptions.TokenRetrievalError,
        )
        try:
            yield
        except exceptions.ClientError as error:
            if _code(error) in _NOT_THERE:
                raise FileNotFoundError(errno.ENOENT, "there is no such object", path) from error
            refusal = _refusal(error, what, f"{self.name}/{path}".rstrip("/"), self.location)
            Secrets(self.secrets).scrub_error(refusal)  # a server may quote what it was sent
            raise refusal from error
        except unusable as error:
            raise _no_credentials(self.location, str(error)) from error
        except exceptions.SSLError as error:
            raise DestinationError(
                f"The certificate of {self.name} is not trusted: name its authority with --ca-bundle. {error}"
            ) from error
        except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
            raise DestinationError(
                f"{self.name} cannot be reached: check the network and --dest-endpoint-url, "
                "then run `stacpull resume`."
            ) from error
        except exceptions.BotoCoreError as error:
            raise DestinationError(f"{self.name} cannot be used: {error}") from error


class _Content(NamedTuple):
    """The content of an object, and its metadata."""

    body: bytes | FilePiece
    sha256: bytes
    noted: Mapping[str, str] = {}


class _Staged(NamedTuple):
    """A part that is to be stored. `body` is None for a long one."""

    part: str
    path: str
    replace: bool
    size: int
    identity: int
    body: bytes | None
    sha256: bytes = b""
    copy: HeldCopy | None = None

    def content(self, file: BinaryIO | None = None) -> _Content:
        """Return what is stored; `file` is the part of a long one."""
        body = FilePiece(cast("BinaryIO", file), 0, self.size) if self.body is None else self.body
        return _Content(body, self.sha256, {_SHA256: self.sha256.hex(), _PART: str(self.identity)})


class BucketStore(HeldParts, BucketFiles):
    """The objects of a mirror, for a run (`Store`)."""

    covers_ledger = False
    is_local = False

    def __init__(
        self, work: Path, location: BucketLocation, *, publishes: bool = False, own: str = ""
    ) -> None:
        """Open the work directory, which is made if need be.

        Args:
            work: The directory of the ledger.
            location: The bucket.
            publishes: True in the process that publishes: it keeps small parts in memory, and connects now.
            own: The directory of this worker among the parts (`store.own_parts`).

        Raises:
            DestinationError: The work directory cannot be made or written.
        """
        HeldParts.__init__(self, work, own, in_memory=publishes)
        BucketFiles.__init__(self, location)
        self._lease = LeaseCheck(self)
        self._unreadable: set[str] = set()
        """Buckets that refuse to let the credentials of DEST read an object."""
        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-bucket")
        if publishes:
            self._threads.submit(lambda: self._is_conditional)  # what fails now will fail again when needed

    def close(self) -> None:
        """Release everything."""
        self._threads.shutdown()
        BucketFiles.close(self)
        HeldParts.close(self)

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
            "other program write there meanwhile, and start no second mirror there."
        )

    @cached_property
    def _is_conditional(self) -> bool:
        """True if the bucket refuses to overwrite an object where that is asked."""
        name = f"probe-{uuid.uuid4().hex}"
        one = _Content(b"", _EMPTY)
        try:
            codes = [self._put(f".stacpull/{name}", one, {"if-none-match": "*"}) for _ in range(2)]
        finally:
            with suppress(DestinationError):
                self._delete(f".stacpull/{name}")
        return not _EXISTS.isdisjoint(codes)

    # --- what a mirror notes below `.stacpull/` ----------------------------------------------------------

    def read_note(self, path: str) -> Note | None:
        """Return a small object that the mirror itself has written, None if there is none.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        (reply,) = self._send([ObjectRequest("GET", self._key(path))], "read")
        if reply is not None and reply.status == _NOT_FOUND and _NO_BUCKET not in (reply.body or _NO_BUCKET):
            return None
        if reply is not None and reply.status == _OK and reply.body is not None:
            headers, body = reply.headers, reply.body
        else:
            try:
                with self._stored("read", path):
                    found = self._s3.get_object(**self._of(path))
                    headers, body = found["ResponseMetadata"]["HTTPHeaders"], found["Body"].read()
            except FileNotFoundError:
                return None
        now, written = _time_in(headers, "date"), _time_in(headers, "last-modified")
        age = (now or time.time()) - (written or 0.0)
        return Note(body, headers.get("etag", ""), max(0.0, age))

    def write_note(self, path: str, body: bytes, *, replaces: Note | None) -> bool:
        """Write such an object, and return True; False if another program has written it meanwhile.

        A server that ignores conditions is asked for the object first, which leaves a moment.

        Args:
            path: Of the object.
            body: Its content.
            replaces: What was read there; None: nothing.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        return self._written_over(
            path,
            None if replaces is None else replaces.etag,
            lambda condition: self._put(path, _Content(body, hashlib.sha256(body).digest()), condition),
        )

    def store_own(self, path: str, file: BinaryIO, size: int, sha256: bytes) -> bool:
        """Store a file of the mirror itself, in place of an earlier one.

        Args:
            path: Of the object.
            file: Its content.
            size: In bytes.
            sha256: Of the content.

        Returns:
            False if another program has replaced the object meanwhile; it is kept then.

        Raises:
            CredentialsError, DestinationError: As any request; or another mirror has the lease.
        """
        self._lease.confirm()
        content = _Content(FilePiece(file, 0, size), sha256, {_SHA256: sha256.hex()})
        send = self._upload if size > _SINGLE_PUT else self._put
        there = self._head(path)
        written = self._written_over(
            path, None if there is None else there.etag, partial(send, path, content)
        )
        return written or self.look_at(path, hashed=True)[:2] == (size, sha256)

    def _written_over(self, path: str, etag: str | None, send: Callable[[Mapping[str, str]], str]) -> bool:
        """Write an object of the mirror itself, in place of the version that `etag` names (None: of none).

        Returns:
            False if another version is there.
        """
        conditions = [{"if-none-match": "*"}]
        if not self._is_conditional:
            conditions = [{}]
        elif etag is not None:  # radosgw wants it without quotes
            conditions = [{"if-match": etag}, {"if-match": etag.strip('"')}]
        for condition in conditions:
            there = self._head(path)
            if (there and there.etag) != etag:
                return False
            with suppress(FileNotFoundError):  # what `etag` names was removed meanwhile
                if not send(condition):
                    return True
        return False

    def _put(self, path: str, content: _Content, condition: Mapping[str, str]) -> str:
        """Store an object by one request.

        Returns:
            "", or the error code if `condition` was refused.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        (reply,) = self._send([self._put_request(path, content, condition)], "write")
        if reply is not None and reply.status in {_OK, _FAILED_CONDITION}:
            return "" if reply.status == _OK else str(_FAILED_CONDITION)
        body = content.body
        if not isinstance(body, bytes):
            body.file.seek(0)
        return self._refused(
            path,
            _REFUSED_CONDITIONS if condition else frozenset(),
            lambda: self._s3.put_object(
                **self._of(path),
                Body=body if isinstance(body, bytes) else body.file,
                ChecksumSHA256=base64.b64encode(content.sha256).decode(),
                Metadata=content.noted,
                **{_PARAMETERS[name]: value for name, value in condition.items()},
            ),
        )

    def _put_request(self, path: str, content: _Content, condition: Mapping[str, str]) -> ObjectRequest:
        headers = {
            "x-amz-checksum-sha256": base64.b64encode(content.sha256).decode(),
            **{f"x-amz-meta-{name}": value for name, value in content.noted.items()},
            **condition,
        }
        return ObjectRequest("PUT", self._key(path), headers, content.body, content.sha256.hex())

    def _upload(self, path: str, content: _Content, condition: Mapping[str, str]) -> str:
        """Store a long object in pieces; return as `_put` does."""
        piece = cast("FilePiece", content.body)
        upload = _Upload(
            self,
            path,
            piece.file,
            piece.size,
            content.noted,
            {_PARAMETERS[name]: value for name, value in condition.items()},
        )
        return self._refused(path, _REFUSED_CONDITIONS if condition else frozenset(), upload.run)

    def _refused(self, path: str, codes: frozenset[str], write: Callable[[], object]) -> str:
        """Write by boto3, and return "", or the code of the error if it is one of these."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

        with self._stored("write", path):
            try:
                write()
            except ClientError as error:
                if _code(error) not in codes:
                    raise
                return _code(error)
        return ""

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
        return self.place_all([Placement(part, directory, name, replace)])[0]

    def place_all(self, placements: Sequence[Placement]) -> list[Failure | None]:
        """See `Store.place_all`: many at a time."""
        results: list[Failure | None] = [None] * len(placements)
        staged: list[tuple[int, _Staged]] = []
        for number, placement in enumerate(placements):
            directory, name = placement.directory, placement.name
            path = path_in_dest(directory, name)
            reason = "it is not a name" if "/" in name else _oddness(path, self._key(path))
            if reason is None:
                staged.append((number, self._staged(placement, path)))
            else:
                results[number] = Failure(FailureKind.NAME, f"{path!r} cannot be written: {reason}.")
        stored = self._store([one for _, one in staged])
        for (number, one), failure in zip(staged, stored, strict=True):
            results[number] = failure
            if failure is None:
                self._windows.note(self._key(one.path), is_there=True)
                self.drop_part(one.part)
        return results

    def _staged(self, one: Placement, path: str) -> _Staged:
        entry = self.part_identity(one.part)
        if entry is None:
            raise DestinationError(f"{self.parts / one.part} was removed meanwhile.")
        body, copy = self.held_body(one.part), self.held_copy(one.part)
        if body is None and copy is None and entry[1] <= LONGEST_HELD:
            with self.open_part(one.part) as file:
                body = file.read()
        sha256 = b"" if body is None else hashlib.sha256(body).digest()
        return _Staged(one.part, path, one.replace, entry[1], entry[0], body, sha256, copy)

    def _store(self, staged: Sequence[_Staged]) -> list[Failure | None]:
        """Store objects; for each, return why not: another is there, or a copy is not what it must be.

        Raises:
            CredentialsError, DestinationError: As any request; or another mirror has the lease.
        """
        self._lease.confirm()
        stored: dict[str, Failure | None] = {}
        short = self._without_those_that_are_there([one for one in staged if one.body is not None])
        requests = [self._put_request(one.path, one.content(), self._condition(one)) for one in short]
        replies = self._send(requests, "write")
        for one, reply in zip(short, replies, strict=True):
            if reply is not None and reply.status == _OK:
                stored[one.part] = None
            elif reply is not None and reply.status == _FAILED_CONDITION:
                stored[one.part] = self._unless_held(one)
        rest = [one for one in staged if one.part not in stored]
        stored.update(
            zip([one.part for one in rest], self._threads.map(self._stored_alone, rest), strict=True)
        )
        return [stored[one.part] for one in staged]

    def _without_those_that_are_there(self, short: Sequence[_Staged]) -> Sequence[_Staged]:
        """Look for objects first where the bucket ignores conditions; leave out what is there."""
        if not short or self._is_conditional:
            return short
        looked_for = [one for one in short if not one.replace]
        looks = self._send([ObjectRequest("HEAD", self._key(one.path)) for one in looked_for], "look at")
        found = {
            one.part
            for one, reply in zip(looked_for, looks, strict=True)
            if reply is None or reply.status != _NOT_FOUND
        }
        return [one for one in short if one.part not in found]

    def _condition(self, one: _Staged) -> Mapping[str, str]:
        return {} if one.replace or not self._is_conditional else {"if-none-match": "*"}

    def _stored_alone(self, one: _Staged) -> Failure | None:
        """Store one object, by boto3 if need be; return as `_store` does."""
        self._lease.confirm()
        if one.copy is not None:
            return _ServerCopy(self, one, one.copy).run()
        if one.body is None:
            one = one._replace(sha256=self.look_at_part(one.part, hashed=True).sha256 or b"")
        in_pieces = one.size > _SINGLE_PUT  # some servers ignore the condition of a multipart upload only
        look_first = in_pieces or not self._is_conditional
        if not one.replace and look_first and self._head(one.path) is not None:
            return self._unless_held(one)
        send, condition = self._upload if in_pieces else self._put, self._condition(one)
        with self.open_part(one.part) as file:
            for _ in range(_ATTEMPTS):
                code = send(one.path, one.content(file), condition)
                if not code:
                    return None
                if code in _EXISTS:
                    return self._unless_held(one)
        raise DestinationError(f"{self.name} does not store {one.path}: other writers are at work there.")

    def _unless_held(self, one: _Staged) -> Failure | None:
        """Return the failure of an object that is in the way, unless it is our own, whose reply was lost."""
        is_own = self.look_at(one.path, hashed=True)[:2] == (one.size, one.sha256)
        return None if is_own else foreign_file(one.path)

    # --- copies within the service -----------------------------------------------------------------------

    def can_copy(self, source: CopySource, size: int) -> bool:
        """Return True if the credentials of DEST read that version of an object at the service of DEST.

        Args:
            source: The object.
            size: In bytes.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

        place = _place_of(source)
        if place["Bucket"] in self._unreadable:
            return False
        try:
            with self._stored("read", ""):
                found = self._s3.head_object(**place)
        except (OSError, StacpullError) as error:
            reply = error.__cause__.response if isinstance(error.__cause__, ClientError) else {}
            if reply.get("ResponseMetadata", {}).get("HTTPStatusCode") in _REFUSALS:
                self._unreadable.add(place["Bucket"])
            return False
        is_same = found["ETag"] == source.etag and found["ContentLength"] == size
        return is_same and not str(found.get("ServerSideEncryption", "")).startswith("aws:kms")

    def open_part(self, name: str) -> BinaryIO:
        """See `Store.open_part`: one that is to be copied is read where it is."""
        copy = self.held_copy(name)
        if copy is None:
            return super().open_part(name)
        reader = _ObjectReader(self, _place_of(copy.source), copy.size, copy.source.etag)
        return io.BufferedReader(reader, _READ)

    def look_at_part(
        self,
        name: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """See `Store.look_at_part`."""
        copy = self.held_copy(name)
        if copy is None:
            return super().look_at_part(name, hashed=hashed, algorithm=algorithm, is_stopped=is_stopped)
        if not hashed:
            return Look(copy.size)
        with self.open_part(name) as file:
            return _look_into(file, copy.size, algorithm, is_stopped)

    # --- what is there -----------------------------------------------------------------------------------

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """See `Store.holds_same`."""
        there = self.look_at(path_in_dest(directory, name), hashed=True).sha256
        return there is not None and there == self.look_at_part(part, hashed=True).sha256

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """See `Store.identity`."""
        found = self._head(path_in_dest(directory, name))
        return None if found is None else (found.identity, found.size)

    def remove(self, directory: str, name: str) -> None:
        """See `Store.remove`."""
        self._lease.confirm()
        path = path_in_dest(directory, name)
        self._delete(path)
        self._windows.note(self._key(path), is_there=False)

    def _delete(self, path: str) -> None:
        (reply,) = self._send([ObjectRequest("DELETE", self._key(path))], "remove")
        if reply is None or reply.status != _NO_CONTENT:
            with suppress(FileNotFoundError), self._stored("remove", path):
                self._s3.delete_object(**self._of(path))


class _Upload:
    """A long part, uploaded in pieces. What an upload that broke off has stored is not sent again.

    The metadata of an object is fixed when its upload is created. So a file in the work directory notes for
    what metadata an upload was created, and it is continued only for the same content; others are aborted.
    """

    def __init__(
        self,
        store: BucketStore,
        path: str,
        file: BinaryIO,
        size: int,
        noted: Mapping[str, str],
        condition: Mapping[str, str],
    ) -> None:
        self._store = store
        self._s3 = store._s3  # noqa: SLF001 - a part of that class
        self._place = store._of(path)  # noqa: SLF001
        self._file = file
        self._size = size
        self._piece = max(_PIECE, -(-size // _MOST_PIECES))
        self._noted = noted
        self._condition = condition
        name = hashlib.sha256(self._place["Key"].encode()).hexdigest()
        self._created = store.work / ".stacpull" / "uploads" / f"{name}.json"

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
            self._store._lease.confirm()  # noqa: SLF001
            numbers = range(first + 1, min(first + _PIECES_AT_ONCE, count) + 1)
            pieces += self._sent(upload, numbers, stored)
        self._store._lease.confirm()  # noqa: SLF001
        try:
            self._s3.complete_multipart_upload(
                **self._place, UploadId=upload, MultipartUpload={"Parts": pieces}, **self._condition
            )
        except ClientError as error:
            if _code(error) in _REFUSED_CONDITIONS:
                _abort(self._s3, self._place, upload)
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
        replies = self._store._send(list(requests.values()), "write")  # noqa: SLF001
        for number, reply in zip(requests, replies, strict=True):
            etag = reply.headers.get("etag") if reply is not None and reply.status == _OK else None
            found[number]["ETag"] = etag or self._sent_by_boto3(
                upload, number, found[number]["ChecksumSHA256"]
            )
        return list(found.values())

    def _digests(self, part: FilePiece, *, is_stored: bool) -> tuple[bytes, str]:
        """Return the SHA-256 of a piece and, if the server says that it has it, the MD5 that it must have."""
        sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        for offset in range(part.offset, part.offset + part.size, _READ):
            data = os.pread(self._file.fileno(), min(_READ, part.offset + part.size - offset), offset)
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
        uploads = _uploads(self._s3, self._place)
        for upload in uploads:
            if upload != known:
                _abort(self._s3, self._place, upload)
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


def _uploads(s3: Any, place: Mapping[str, str]) -> list[str]:
    """Return the uploads to a key that were begun and not completed."""
    from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.15 s

    try:
        found = s3.list_multipart_uploads(Bucket=place["Bucket"], Prefix=place["Key"]).get("Uploads", ())
    except ClientError as error:
        if _code(error) not in {"NoSuchUpload", "NotImplemented"}:  # servers that cannot list them
            raise
        return []
    return [one["UploadId"] for one in found if one["Key"] == place["Key"]]


def _abort(s3: Any, place: Mapping[str, str], upload: str) -> None:
    """Remove what is stored of an upload, as far as the service does that now."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - 0.15 s

    with suppress(BotoCoreError, ClientError):
        s3.abort_multipart_upload(**place, UploadId=upload)


class _ServerCopy:
    """An object that the service copies into its place, and what it must be then.

    Not every service obeys `x-amz-copy-source-if-match`, so the source is looked at once more afterwards. The
    digest is the one that the service states of the copy; where it states none, the copy is read once, and
    the digest is noted in its metadata. What the service refuses to copy passes through this machine.
    """

    def __init__(self, store: BucketStore, one: _Staged, copy: HeldCopy) -> None:
        self._store = store
        self._s3 = store._s3  # noqa: SLF001 - a part of that class
        self._one = one
        self._copy = copy
        self._place = store._of(one.path)  # noqa: SLF001
        self._source = _place_of(copy.source)
        self._noted = {_PART: str(one.identity)}
        is_amazon = store.location.endpoint_url is None
        self._is_single = one.size <= (_SINGLE_COPY_AT_AMAZON if is_amazon else _SINGLE_COPY)

    def run(self) -> Failure | None:
        """Copy, and verify the copy; return why it is not there."""
        store, one = self._store, self._one
        there = None if one.replace else store._head(one.path)  # noqa: SLF001
        if there is not None and there.identity != one.identity:
            return foreign_file(one.path)
        code = store._refused(one.path, _NOT_THERE | _EXISTS | _COPY_REFUSALS, self._copied)  # noqa: SLF001
        if code in _NOT_THERE | _EXISTS:
            return self._removed(FailureKind.CHANGED, "changed before it was copied")
        if code:
            return self._passed_through()
        return self._verified()

    def _copied(self) -> None:
        if not self._is_single:
            self._copied_in_pieces()
        else:
            self._s3.copy_object(
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
        algorithm = self._copy.algorithm
        return {} if algorithm is None else {"ChecksumAlgorithm": algorithm.upper()}

    def _copied_in_pieces(self) -> None:
        """Copy a very long object; what an upload has that broke off may be of another version of it."""
        size, place = self._one.size, self._place
        for left in _uploads(self._s3, place):
            _abort(self._s3, place, left)
        whole = {"ChecksumType": "FULL_OBJECT"} if self._copy.algorithm == "crc64nvme" else {}
        upload = self._s3.create_multipart_upload(**place, Metadata=self._noted, **self._algorithm, **whole)[
            "UploadId"
        ]

        def copied(number: int) -> dict[str, Any]:
            self._store._lease.confirm()  # noqa: SLF001
            first = (number - 1) * _COPIED_PIECE
            found = self._s3.upload_part_copy(
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
            self._store._lease.confirm()  # noqa: SLF001
            self._s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": pieces})
        except BaseException:
            _abort(self._s3, place, upload)
            raise

    def _verified(self) -> Failure | None:
        store, one, copy = self._store, self._one, self._copy
        found = store._head(one.path)  # noqa: SLF001
        source = store._head_by_boto3(self._source)  # noqa: SLF001
        is_same = source is not None and source.etag == copy.source.etag
        if not is_same or found is None or found.size != one.size:
            return self._removed(FailureKind.CHANGED, "changed while it was copied")
        if copy.algorithm is None:
            return None
        digest = found.digests.get(copy.algorithm)
        is_stated = digest is not None
        if digest is None:
            digest = store.look_at(one.path, hashed=True, algorithm=copy.algorithm).sha256
        if digest is None or copy.digest not in {None, digest}:
            return self._removed(FailureKind.CHECKSUM, f"has another {copy.algorithm} than is stated of it")
        if not is_stated and self._is_single:
            noted = {**self._noted, f"stacpull-{copy.algorithm}": digest.hex()}
            with store._stored("write", one.path):  # noqa: SLF001
                self._s3.copy_object(
                    **self._place, CopySource=self._place, MetadataDirective="REPLACE", Metadata=noted
                )
        return None

    def _removed(self, kind: FailureKind, what: str) -> Failure:
        """Remove the copy, if it is there, and return the failure."""
        found = self._store._head(self._one.path)  # noqa: SLF001
        if found is not None and found.identity == self._one.identity:
            directory, _, name = self._one.path.rpartition("/")
            self._store.remove(directory, name)
        return Failure(kind, f"{self._copy.source.url} {what}.")

    def _passed_through(self) -> Failure | None:
        """Store an object that the service does not copy."""
        store, one, copy = self._store, self._one, self._copy
        with store.open_part(one.part) as source, store.new_part(one.part) as file:
            shutil.copyfileobj(source, file, _READ)
        algorithm = copy.algorithm or "sha256"
        found = store.look_at_part(one.part, hashed=True, algorithm=algorithm)
        if found.size != one.size or copy.digest not in {None, found.sha256}:
            return self._removed(FailureKind.CHECKSUM, f"has another {algorithm} than is stated of it")
        return store._stored_alone(one._replace(copy=None))  # noqa: SLF001


class _ObjectReader(io.RawIOBase):
    """An object, read from any place on; it stays the version that it was when it was opened."""

    def __init__(self, files: BucketFiles, place: Mapping[str, str], size: int, etag: str) -> None:
        super().__init__()
        self._files = files
        self._place = place
        self._size = size
        self._etag = etag
        self._at = 0
        self._body: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset != self._at:
            self._drop()
            self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        with self._files._stored("read", self._place["Key"]):  # noqa: SLF001 - a part of that class
            if self._body is None:
                self._body = self._opened()
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _opened(self) -> Any:
        files, place = self._files, self._place
        asked = {"Range": f"bytes={self._at}-"} if self._at else {}
        answer = files._s3.get_object(**place, IfMatch=self._etag, **asked)  # noqa: SLF001
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


def _place_of(source: CopySource) -> dict[str, str]:
    bucket, _, key = source.url.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}


def _oddness(path: str, key: str) -> str | None:
    """Return why an object cannot have that name, None if it can."""
    if "\0" in path or not _NO_NAMES.isdisjoint(path.split("/")):
        return "it is not a name"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not text"
    return f"it is longer than {_LONGEST_KEY} bytes" if length > _LONGEST_KEY else None


def _object_of(headers: Mapping[str, str]) -> _Object | None:
    """Return what the header fields of a reply to HEAD tell; None if they lack something."""
    size, modified = headers.get("content-length", ""), _time_in(headers, "last-modified")
    if not size.isdecimal() or modified is None:
        return None
    return _Object(
        int(size),
        headers.get("etag", ""),
        modified,
        _digests_in(headers),
        _number(headers.get(f"x-amz-meta-{_PART}", "")),
    )


def _time_in(headers: Mapping[str, str], name: str) -> float | None:
    found = parsedate_tz(headers.get(name, ""))
    return None if found is None else mktime_tz(found)


def _digests_in(headers: Mapping[str, str]) -> Mapping[str, bytes]:
    """Return the digests of an object: those in its metadata, and those that the service states."""
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


def _look_into(file: BinaryIO, size: int, algorithm: str, is_stopped: Callable[[], bool]) -> Look:
    """Read a file; it gets no digest if that is stopped."""
    hasher = new_hasher(Checksum(algorithm, b""))
    count = 0
    while chunk := file.read(_READ):
        count += len(chunk)
        hasher.update(chunk)
        if is_stopped():
            return Look(size)
    return Look(count, hasher.digest())


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _refusal(error: Any, what: str, place: str, location: BucketLocation) -> StacpullError:
    """Return the refusal of a bucket with a sentence for the user."""
    code = _code(error)
    if code == "NoSuchBucket":
        return DestinationError(f"There is no bucket {location.bucket}: create it, or check its name.")
    if code in {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"}:
        return DestinationError(
            f"{location.url} denies stacpull to {what} objects ({code}): it needs s3:ListBucket, "
            "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload. Check --dest-profile."
        )
    if code in _REFUSED_KEYS:
        return CredentialsError(
            f"{location.url} does not accept the credentials of {_keys_of(location)} ({code})."
        )
    message = str(error.response.get("Error", {}).get("Message", "")) or code
    return DestinationError(f"{place} cannot be used: {message} ({code}). Run `stacpull resume` later.")


def _keys_of(location: BucketLocation) -> str:
    """Name where the credentials come from."""
    if location.profile is not None:
        return f"the profile {location.profile} (--dest-profile)"
    return "the AWS environment (AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)"


def _no_credentials(location: BucketLocation, why: str) -> CredentialsError:
    return CredentialsError(
        f"{location.url} needs credentials, and those of {_keys_of(location)} cannot be used: "
        f"{why.rstrip('.')}. Check --dest-profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
    )


def located(location: BucketLocation) -> BucketLocation:
    """Return a bucket with the endpoint and region that the AWS tools would use now.

    They are kept with the mirror: a later run, in another environment, must not write elsewhere.

    Raises:
        CredentialsError: The profile does not exist.
    """
    session = _session(location)
    location = replace(location, region=location.region or session.get_config_variable("region"))
    if location.endpoint_url is not None:
        return location
    client = _client(session, location, is_new=True)
    endpoint: str = client.meta.endpoint_url
    client.close()
    return location if ".amazonaws.com" in endpoint else replace(location, endpoint_url=endpoint)


def _session(location: BucketLocation) -> Any:
    """Return a session of botocore that never asks the metadata services of cloud machines.

    Raises:
        CredentialsError: The profile does not exist.
    """
    from botocore.exceptions import ProfileNotFound  # noqa: PLC0415 - 0.2 s
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=location.profile)
    if location.ca_bundle is not None:
        session.set_config_variable("ca_bundle", location.ca_bundle)
    try:
        providers = session.get_component("credential_provider")
    except ProfileNotFound as error:
        raise _no_credentials(location, str(error)) from error
    for name in _NO_METADATA:
        providers.remove(name)
    return session


def _region(session: Any, location: BucketLocation) -> str:
    """Return the region of a bucket."""
    return location.region or session.get_config_variable("region") or "us-east-1"


def _client(session: Any, location: BucketLocation, *, is_new: bool = False) -> Any:
    """Return a client for a bucket; credentials come from where the AWS CLI has them.

    Args:
        session: Of botocore.
        location: The bucket.
        is_new: True to use the endpoint that the AWS environment names where `location` has none.

    Raises:
        DestinationError: The endpoint or the region is not one.
    """
    import boto3  # noqa: PLC0415 - 0.3 s
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    config = Config(
        signature_version="s3v4",
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_THREADS,
        connect_timeout=10,
        read_timeout=60,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        ignore_configured_endpoint_urls=not is_new,
        s3={
            "payload_signing_enabled": True,
            "addressing_style": "path" if location.endpoint_url else "auto",
        },
    )
    try:
        return boto3.Session(botocore_session=session).client(
            "s3",
            endpoint_url=location.endpoint_url,
            region_name=_region(session, location),
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise DestinationError(f"{location.url} cannot be used: {error}") from error

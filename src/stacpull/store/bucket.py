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
every multipart upload, since some servers ignore the condition there only.

Requests about objects are sent by `store.bucket_requests`. What it cannot do or settle, and everything that
is rare, is done by boto3.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.utils import mktime_tz, parsedate_tz
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, NamedTuple, Self, cast
from urllib.parse import quote

import msgspec
from msgspec.structs import replace

from stacpull.digests import new_hasher
from stacpull.errors import CredentialsError, DestinationError, StacpullError
from stacpull.models import Checksum, Failure, FailureKind
from stacpull.redact import Secret, Secrets
from stacpull.store.bucket_requests import (
    BucketRequests,
    FilePiece,
    ObjectReply,
    ObjectRequest,
    bucket_requests,
)
from stacpull.store.held_parts import LONGEST_HELD, HeldParts
from stacpull.store.protocol import Entry, Look, Placement

_THREADS = 32
"""Long parts, and requests through boto3, at a time."""
_SINGLE_PUT = 64 << 20
"""Bytes: longer parts are uploaded in pieces."""
_PIECE = 16 << 20
_PIECES_AT_ONCE = 4
_MOST_PIECES = 9_000
_READ = 1 << 20
_LONGEST_KEY = 1024
_NO_NAMES = frozenset({"", ".", ".."})
_WINDOWS = 16
_SHA256, _PART = "stacpull-sha256", "stacpull-part"
_ATTEMPTS = 8
_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_OK, _NO_CONTENT, _NOT_FOUND, _FAILED_CONDITION = 200, 204, 404, 412
_CONFLICT = "ConditionalRequestConflict"
_EXISTS = frozenset({"412", "PreconditionFailed"})
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


class BucketLocation(msgspec.Struct, frozen=True):
    """A bucket, a prefix in it, and how it is reached. It holds no secret."""

    bucket: str
    prefix: str = ""
    """Without `/` at its ends."""
    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    ca_bundle: str | None = None
    """The path of a PEM file with the certificate authorities to trust, instead of the usual ones."""
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


class Note(NamedTuple):
    """A small object that the mirror itself has written."""

    body: bytes
    etag: str
    age: float
    """Seconds since it was written, by the clock of the server."""


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
        return bucket_requests(self._s3, self._session, self.location.bucket)

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
        (reply,) = self._send([ObjectRequest("HEAD", self._key(path))], "look at")
        if reply is not None and reply.status == _NOT_FOUND:
            return None
        found = _object_of(reply) if reply is not None and reply.status == _OK else None
        return found or self._head_by_boto3(path)

    def _head_by_boto3(self, path: str) -> _Object | None:
        try:
            with self._stored("look at", path):
                found = self._s3.head_object(**self._of(path))
        except FileNotFoundError:
            return None
        noted = {name.lower(): text for name, text in found.get("Metadata", {}).items()}
        modified = found["LastModified"].timestamp()
        return _Object(
            found["ContentLength"],
            found.get("ETag", ""),
            modified,
            _digest(noted.get(_SHA256, "")),
            _number(noted.get(_PART, "")),
        )

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


class _Staged(NamedTuple):
    """A part that is to be stored. `body` is None for a long one."""

    part: str
    path: str
    replace: bool
    size: int
    identity: int
    body: bytes | None
    sha256: bytes = b""


class BucketStore(HeldParts, BucketFiles):
    """The objects of a mirror, for a run (`Store`)."""

    covers_ledger = False
    is_local: Literal[False] = False

    def __init__(
        self, work: Path, location: BucketLocation, *, publishes: bool = False, own: str = ""
    ) -> None:
        """Open the work directory, which is made if need be; nothing is sent yet.

        Args:
            work: The directory of the ledger.
            location: The bucket.
            publishes: True in the process that publishes: it keeps small parts in memory.
            own: The directory of this worker among the parts (`store.own_parts`).

        Raises:
            DestinationError: The work directory cannot be made or written.
        """
        HeldParts.__init__(self, work, own, in_memory=publishes)
        BucketFiles.__init__(self, location)
        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-bucket")

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

    # --- what a mirror notes below `.stacpull/` ----------------------------------------------------------

    def read_note(self, path: str) -> Note | None:
        """Return a small object that the mirror itself has written, None if there is none.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        try:
            with self._stored("read", path):
                found = self._s3.get_object(**self._of(path))
                body = found["Body"].read()
        except FileNotFoundError:
            return None
        now = parsedate_tz(found["ResponseMetadata"]["HTTPHeaders"].get("date", ""))
        written = found["LastModified"].timestamp()
        return Note(body, found["ETag"], max(0.0, (mktime_tz(now) if now else time.time()) - written))

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
            lambda condition: self._s3.put_object(**self._of(path), Body=body, **condition),
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
            CredentialsError, DestinationError: As any request.
        """
        noted = {_SHA256: sha256.hex()}

        def send(condition: Mapping[str, str]) -> None:
            file.seek(0)
            if size > _SINGLE_PUT:
                _Upload(self, path, file, size, noted, condition).run()
            else:
                self._s3.put_object(**self._of(path), Body=file, Metadata=noted, **condition)

        there = self._head(path)
        written = self._written_over(path, None if there is None else there.etag, send)
        return written or self.look_at(path, hashed=True)[:2] == (size, sha256)

    def _written_over(self, path: str, etag: str | None, send: Callable[[Mapping[str, str]], object]) -> bool:
        """Write an object of the mirror itself, in place of the version that `etag` names (None: of none).

        Returns:
            False if another version is there.
        """
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        conditions: list[dict[str, str]] = [{"IfNoneMatch": "*"}]
        if not self._is_conditional:
            conditions = [{}]
        elif etag is not None:  # radosgw wants it without quotes
            conditions = [{"IfMatch": etag}, {"IfMatch": etag.strip('"')}]
        for condition in conditions:
            there = self._head(path)
            if (there and there.etag) != etag:
                return False
            try:
                with self._stored_unless(path):
                    send(condition)
            except (ClientError, FileNotFoundError):  # the second: what `etag` names was removed
                continue
            return True
        return False

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
            path = f"{directory}/{name}" if directory else name
            reason = "it is not a name" if "/" in name else _oddness(path, self._key(path))
            if reason is None:
                staged.append((number, self._staged(placement, path)))
            else:
                results[number] = Failure(FailureKind.NAME, f"{path!r} cannot be written: {reason}.")
        stored = self._store([one for _, one in staged])
        for (number, one), is_stored in zip(staged, stored, strict=True):
            if is_stored:
                self._windows.note(self._key(one.path), is_there=True)
                self.drop_part(one.part)
            else:
                results[number] = Failure(
                    FailureKind.EXISTS,
                    f"{one.path} exists and is not part of this mirror: move it away, "
                    "then run `stacpull retry`.",
                )
        return results

    def _staged(self, one: Placement, path: str) -> _Staged:
        entry = self.part_identity(one.part)
        if entry is None:
            raise DestinationError(f"{self.parts / one.part} was removed meanwhile.")
        body = self.held_body(one.part)
        if body is None and entry[1] <= LONGEST_HELD:
            with self.open_part(one.part) as file:
                body = file.read()
        sha256 = b"" if body is None else hashlib.sha256(body).digest()
        return _Staged(one.part, path, one.replace, entry[1], entry[0], body, sha256)

    def _store(self, staged: Sequence[_Staged]) -> list[bool]:
        """Store objects; for each, return False if another writer's is there, with other content."""
        stored: dict[str, bool] = {}
        short = self._without_those_that_are_there([one for one in staged if one.body is not None])
        replies = self._send([self._put_of(one, cast("bytes", one.body)) for one in short], "write")
        for one, reply in zip(short, replies, strict=True):
            if reply is not None and reply.status == _OK:
                stored[one.part] = True
            elif reply is not None and reply.status == _FAILED_CONDITION:
                stored[one.part] = self._holds(one)
        rest = [one for one in staged if one.part not in stored]
        stored.update(zip([one.part for one in rest], self._threads.map(self._is_stored, rest), strict=True))
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

    def _put_of(self, one: _Staged, body: bytes | FilePiece) -> ObjectRequest:
        """Return the request that stores an object."""
        hexadecimal = one.sha256.hex()
        headers = {
            "x-amz-checksum-sha256": base64.b64encode(one.sha256).decode(),
            f"x-amz-meta-{_PART}": str(one.identity),
            f"x-amz-meta-{_SHA256}": hexadecimal,
        }
        if not one.replace and self._is_conditional:
            headers["if-none-match"] = "*"
        return ObjectRequest("PUT", self._key(one.path), headers, body, hexadecimal)

    def _is_stored(self, one: _Staged) -> bool:
        """Store one object, by boto3 if need be; return False if another writer's is there."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - 0.2 s

        if one.body is None:
            one = one._replace(sha256=self.look_at_part(one.part, hashed=True).sha256 or b"")
        in_pieces = one.size > _SINGLE_PUT  # some servers ignore the condition of a multipart upload only
        look_first = in_pieces or not self._is_conditional
        if not one.replace and look_first and self._head(one.path) is not None:
            return self._holds(one)
        condition = {"IfNoneMatch": "*"} if self._is_conditional and not one.replace else {}
        noted = {_SHA256: one.sha256.hex(), _PART: str(one.identity)}
        with self.open_part(one.part) as file:
            if one.body is None and not in_pieces:
                (reply,) = self._send([self._put_of(one, FilePiece(file, 0, one.size))], "write")
                if reply is not None and reply.status in {_OK, _FAILED_CONDITION}:
                    return reply.status == _OK or self._holds(one)
            for _ in range(_ATTEMPTS):
                file.seek(0)
                try:
                    with self._stored_unless(one.path):
                        if in_pieces:
                            _Upload(self, one.path, file, one.size, noted, condition).run()
                        else:
                            self._s3.put_object(
                                **self._of(one.path),
                                Body=file,
                                ChecksumSHA256=base64.b64encode(one.sha256).decode(),
                                Metadata=noted,
                                **condition,
                            )
                except ClientError as error:
                    if _code(error) in _EXISTS:
                        return self._holds(one)
                    continue
                return True
        raise DestinationError(f"{self.name} does not store {one.path}: other writers are at work there.")

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

    def _holds(self, one: _Staged) -> bool:
        """Return True if an object has that content: our own, whose reply was lost."""
        return self.look_at(one.path, hashed=True)[:2] == (one.size, one.sha256)

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
        (reply,) = self._send([ObjectRequest("DELETE", self._key(path))], "remove")
        if reply is None or reply.status != _NO_CONTENT:
            with suppress(FileNotFoundError), self._stored("remove", path):
                self._s3.delete_object(**self._of(path))
        self._windows.note(self._key(path), is_there=False)


class _Upload:
    """A long part, uploaded in pieces. What an upload that broke off has stored is not sent again."""

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

    def run(self) -> None:
        """Upload, and make the object appear."""
        upload, stored = self._begun()
        pieces = []
        count = -(-self._size // self._piece)
        for first in range(0, count, _PIECES_AT_ONCE):
            numbers = range(first + 1, min(first + _PIECES_AT_ONCE, count) + 1)
            pieces += self._sent(upload, numbers, stored)
        self._s3.complete_multipart_upload(
            **self._place, UploadId=upload, MultipartUpload={"Parts": pieces}, **self._condition
        )

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


def _object_of(reply: ObjectReply) -> _Object | None:
    """Return what a reply to HEAD tells; None if it lacks something."""
    headers = reply.headers
    size, modified = headers.get("content-length", ""), parsedate_tz(headers.get("last-modified", ""))
    if not size.isdecimal() or modified is None:
        return None
    return _Object(
        int(size),
        headers.get("etag", ""),
        mktime_tz(modified),
        _digest(headers.get(f"x-amz-meta-{_SHA256}", "")),
        _number(headers.get(f"x-amz-meta-{_PART}", "")),
    )


def _digest(text: str) -> bytes | None:
    with suppress(ValueError):
        return bytes.fromhex(text) or None
    return None


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
    region = location.region or session.get_config_variable("region")
    client = _client(session, location, is_new=True)
    endpoint: str = client.meta.endpoint_url
    client.close()
    is_amazon = location.endpoint_url is None and ".amazonaws.com" in endpoint
    return replace(location, region=region, endpoint_url=None if is_amazon else endpoint)


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
            region_name=location.region or session.get_config_variable("region") or "us-east-1",
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise DestinationError(f"{location.url} cannot be used: {error}") from error

"""An S3 bucket as DEST (`Store`): objects with a common prefix.

Small parts are in memory, and long bodies are uploaded while they arrive (`store.streamed_parts`). Other
parts, such as clipped rasters, are files in the work directory of the ledger. An object is published by one
PUT, by completing a multipart upload, or by a copy within the service. It appears completely or not at all,
and is durable when the server confirms it. So `sync` does nothing, and a rename of the publisher is a PUT
here.

    If-None-Match: *            no object of another writer is overwritten
    x-amz-checksum-sha256       the server verifies the received body; the signature also covers the body
    x-amz-meta-stacpull-sha256  the digest, which HEAD returns: verifying an object does not read its body
    x-amz-meta-stacpull-part    the identity of the part, by which a start after a kill recognises its object

The response to a PUT may be lost. The PUT is repeated, fails because its object already exists (412), and
HEAD shows that the object has the same content. A probe finds servers that ignore `If-None-Match`. On such a
server, a HEAD precedes each PUT, which leaves a moment in which an object of another writer could be
overwritten. On any server, a HEAD precedes each multipart upload and copy, because some servers ignore or
refuse the condition for these.

A long asset of the same service is copied by the service (`store.server_copy`). `store.s3_bucket` sends the
requests.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from stacpull.digests import recorded
from stacpull.errors import CredentialsError, DestinationError, ObjectChangedError, StacpullError
from stacpull.models import BucketLocation, CopySource, Failure, FailureKind, path_in_dest
from stacpull.net.status import moment_of
from stacpull.redact import Secret
from stacpull.store.bucket_requests import THREADS, FilePiece, ObjectRequest
from stacpull.store.bucket_service import ATTEMPTS, DENIALS, BucketService, code_behind
from stacpull.store.buffered_parts import BufferedParts, PartWithoutFile, PendingCopy
from stacpull.store.disk_errors import foreign_file
from stacpull.store.inspection import LONGEST_DOCUMENT
from stacpull.store.lease import LeaseCheck
from stacpull.store.multipart import MultipartUploads
from stacpull.store.protocol import (
    Entry,
    FileState,
    IsStopped,
    OwnObject,
    PartEntry,
    Placement,
    StagedFile,
    never,
)
from stacpull.store.regular import NO_NAMES
from stacpull.store.s3_bucket import (
    EXISTS,
    FAILED_CONDITION,
    NOT_FOUND,
    OK,
    PART,
    READ,
    REFUSED_CONDITIONS,
    SHA256,
    UNKNOWN_CONDITIONS,
    ObjectContent,
    S3Bucket,
    object_of,
)
from stacpull.store.server_copy import CopyRefusedError, ServerCopy
from stacpull.store.staged_objects import NOTES, StagedObjects

if TYPE_CHECKING:
    from stacpull.store.parts import FileParts
    from stacpull.store.streamed_parts import StreamedParts

_SINGLE_PUT = 64 << 20
"""Bytes: longer parts are uploaded in pieces."""
_LONGEST_KEY = 1024
_REFUSALS = frozenset({"401", "403", "AccessDenied"})
_EMPTY = hashlib.sha256(b"").digest()
_PROBE = ".stacpull/probe"
"""An empty object. It stays: later probes are one request, and a kill leaves nothing else behind."""


class BucketFiles:
    """The objects of a mirror, for reading (`StoredFiles`)."""

    def __init__(
        self, location: BucketLocation, *, on_silent: Callable[[str], None] = lambda _: None
    ) -> None:
        """Create the reader; nothing is sent yet. `on_silent`: see `BucketService`."""
        self.bucket = S3Bucket(location, BucketService(location, on_silent))

    @property
    def name(self) -> str:
        return self.location.url

    @property
    def location(self) -> BucketLocation:
        return self.bucket.location

    @property
    def secrets(self) -> tuple[Secret, ...]:
        return self.bucket.service.secrets

    def close(self) -> None:
        """Close the connections."""
        self.bucket.service.close()

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """The digest is the one that was verified when the object was stored."""
        return self.bucket.state_of(path, algorithm=algorithm, is_stopped=is_stopped)

    def obstacle(self, path: str) -> str | None:
        """A bucket has no directories, so there are no obstacles."""
        del path
        return None

    def has(self, path: str, *, unknown: bool = True) -> bool:
        """Lists up to 1,000 keys and remembers them: callers ask mostly in the order of keys."""
        del unknown
        key = self.bucket.key(path)
        known = self.bucket.names.has(key)
        if known is not None:
            return known
        with self.bucket.names.listing:
            names, is_last = self.bucket.listed(self.bucket.prefix, key[:-1])
            self.bucket.names.add(key[:-1], names, is_last=is_last)
        if not is_last and (not names or names[-1] < key):
            return self.bucket.head(path) is not None  # smaller names fill the listing
        return key in names

    def read(self, path: str) -> bytes | None:
        found = self._content(path)
        return None if found is None else found[1]

    def _content(self, path: str) -> tuple[Mapping[str, str], bytes] | None:
        """Return the header fields and the content of an object, None if there is none."""
        try:
            reply = self.bucket.request(ObjectRequest("GET", self.bucket.key(path)), "read")
        except FileNotFoundError:
            return None
        if reply.body is not None:
            return reply.headers, reply.body
        found = object_of(reply.headers)
        if found is None or found.size > LONGEST_DOCUMENT:
            return None
        with self.bucket.open(path, found.size, found.etag) as file:
            return reply.headers, file.read()

    def open(self, path: str) -> BinaryIO:
        found = self.bucket.head(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path)
        return self.bucket.open(path, found.size, found.etag)

    def modified(self, path: str) -> float | None:
        found = self.bucket.head(path)
        return None if found is None else found.modified

    def names(self, directory: str) -> list[str]:
        return [name for name, _ in self._listed(directory)]

    def directories(self, directory: str) -> list[str]:
        return sorted(name for name, is_directory in self._listed(directory) if is_directory)

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        for page in self.bucket.pages(self.bucket.prefix):
            keys = [page.name(entry) for entry in page.records.get("Contents", ()) if not _is_folder(entry)]
            paths = [key.removeprefix(self.bucket.prefix) for key in keys]
            found = [Entry(path, is_file=True) for path in paths if path.split("/")[0] not in skipped]
            if found:
                yield found

    def _listed(self, directory: str) -> Iterator[tuple[str, bool]]:
        prefix = self.bucket.key(directory) + "/" if directory else self.bucket.prefix
        is_empty = True
        for page in self.bucket.pages(prefix, delimiter="/"):
            for one in page.records.get("Contents", ()):
                is_empty = False
                if not _is_folder(one):
                    yield page.name(one).removeprefix(prefix), False
            for entry in page.records.get("CommonPrefixes", ()):
                is_empty = False
                yield page.name(entry, "Prefix").removeprefix(prefix).rstrip("/"), True
        if is_empty and directory:
            raise FileNotFoundError(errno.ENOENT, "there are no such objects", directory)


class _PartToStore(NamedTuple):
    """A part to store. `body` is None for a long one."""

    part: str
    path: str
    replace: bool
    size: int
    identity: int
    body: bytes | memoryview | None
    sha256: bytes = b""
    copy: PendingCopy | None = None

    def content(self, file: BinaryIO | None = None) -> ObjectContent:
        """Return the content to store; `file` is the part of a long one."""
        body = FilePiece(cast("BinaryIO", file), 0, self.size) if self.body is None else self.body
        return ObjectContent(body, self.sha256, {SHA256: self.sha256.hex(), PART: str(self.identity)})


class BucketStore(BufferedParts, BucketFiles):
    """The objects of a mirror, for a run (`Store`)."""

    covers_ledger = False
    is_local = False

    def __init__(
        self,
        work: Path,
        location: BucketLocation,
        *,
        publishes: bool = False,
        on_silent: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Open the work directory. A missing one is created.

        Args:
            work: The directory of the ledger.
            location: The bucket.
            publishes: True in the publishing process: it keeps small parts in memory, and connects now.
            on_silent: See `BucketService`.

        Raises:
            DestinationError: The work directory cannot be created or written.
        """
        BufferedParts.__init__(self, work, in_memory=publishes)
        BucketFiles.__init__(self, location, on_silent=on_silent)
        self._lease = LeaseCheck(self)
        self.uploads = MultipartUploads(self.bucket, self._lease.check, self.parts, self.shared_parts)
        self.staged = StagedObjects(self.bucket, self.uploads, self.parts)
        self._left_uploads = self.uploads.of_final_keys()
        """The uploads of earlier runs."""
        self._unreadable: set[str] = set()
        """Buckets that deny reading to the credentials of DEST."""
        self.threads = ThreadPoolExecutor(THREADS, "stacpull-bucket")
        if publishes:
            self.threads.submit(lambda: self._is_conditional)  # what fails now will fail again when needed

    def close(self) -> None:
        """Release everything."""
        self.threads.shutdown()
        BucketFiles.close(self)
        BufferedParts.close(self)

    def streamed_parts(
        self, files: FileParts, *, checksum: str | None, in_memory: bool = False
    ) -> StreamedParts | None:
        """A Dask worker may have no credentials for the bucket."""
        if not self.may_write:
            return None
        from stacpull.store.streamed_parts import StreamedParts  # noqa: PLC0415 - only where bodies arrive

        return StreamedParts(self, files, checksum=checksum, in_memory=in_memory)

    @staticmethod
    def identity_of(found: os.stat_result) -> int:
        """Return the identity of a part. It may be used again once the part is published."""
        return (found.st_mtime_ns ^ found.st_ino << 1) & (1 << 62) - 1

    @property
    def warning(self) -> str | None:
        if self._is_conditional:
            return None
        return (
            f"{self.name} does not support If-None-Match, so stacpull looks for an object before it writes "
            "it. Do not let other programs or a second mirror write there at the same time."
        )

    @cached_property
    def _is_conditional(self) -> bool:
        """True if the bucket supports `If-None-Match`: it does not overwrite an object."""
        one, condition = ObjectContent(b"", _EMPTY), {"if-none-match": "*"}
        return any(self.bucket.put(_PROBE, one, condition) in EXISTS for _ in range(2))

    @cached_property
    def may_write(self) -> bool:
        try:
            self.secrets  # noqa: B018 - it raises
            if self.shared_parts is not None:
                self._is_conditional  # noqa: B018 - it writes an object
        except CredentialsError:
            return False
        except DestinationError as error:
            if code_behind(error) not in DENIALS:
                raise
            return False
        return True

    # --- the mirror's own objects below `.stacpull/` -----------------------------------------------------

    def read_own(self, path: str) -> OwnObject | None:
        found = self._content(path)
        if found is None:
            return None
        headers, body = found
        now, written = (moment_of(headers.get(name, "")) for name in ("date", "last-modified"))
        age = 0.0 if written is None else (now or time.time()) - written
        return OwnObject(body, headers.get("etag", ""), max(0.0, age))

    def write_own(self, path: str, body: bytes, *, replaces: OwnObject | None) -> bool:
        return self._written_over(
            path,
            None if replaces is None else replaces.etag,
            lambda condition: self.bucket.put(
                path, ObjectContent(body, hashlib.sha256(body).digest()), condition
            ),
        )

    def store_own(self, path: str, file: BinaryIO, size: int, sha256: bytes) -> bool:
        self._lease.check()
        content = ObjectContent(FilePiece(file, 0, size), sha256, {SHA256: sha256.hex()})
        send = self._upload if size > _SINGLE_PUT else self.bucket.put
        there = self.bucket.head(path)
        written = self._written_over(
            path, None if there is None else there.etag, partial(send, path, content)
        )
        return written or self.state_of(path)[:2] == (size, sha256)

    def _written_over(self, path: str, etag: str | None, send: Callable[[Mapping[str, str]], str]) -> bool:
        """Write an object of the mirror itself, replacing the version `etag` (None: there is no object).

        If the service ignores or refuses conditions, the object is looked at instead, which leaves a moment
        for another writer.

        Returns:
            False if there is another version.
        """
        conditions: list[dict[str, str]] = [{"if-none-match": "*"}]
        if not self._is_conditional:
            conditions = [{}]
        elif etag is not None:  # radosgw expects it without quotes
            conditions = [{"if-match": etag}, {"if-match": etag.strip('"')}]
        while conditions:
            condition = conditions.pop(0)
            there = self.bucket.head(path)
            if (there and there.etag) != etag:
                return False
            with suppress(FileNotFoundError):  # another program removed the object
                code = send(condition)
                if not code:
                    return True
                if code in UNKNOWN_CONDITIONS:
                    conditions = [{}]
        return False

    def _upload(self, path: str, content: ObjectContent, condition: Mapping[str, str]) -> str:
        """Store a long object in pieces; return the same as `S3Bucket.put`."""
        codes = REFUSED_CONDITIONS if condition else frozenset[str]()
        return self.bucket.try_write(lambda: self.uploads.upload_file(path, content, condition), codes)

    def sync(self, parts: Sequence[str]) -> None:
        """An object is durable when its PUT was confirmed."""

    def sync_file(self, path: str) -> None:
        if self.bucket.head(path) is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path)

    def sync_singly(self) -> bool:
        return False

    def mark_changed(self, directory: str) -> None:
        """See `Store.mark_changed`."""

    def tidy(self, directory: str) -> None:
        """A bucket has no directories."""

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        return self.place_all([Placement(part, directory, name, replace)])[0]

    def place_all(self, files: Sequence[StagedFile]) -> list[Failure | None]:
        """Many objects are stored at once."""
        results: list[Failure | None] = [None] * len(files)
        staged: list[tuple[int, _PartToStore]] = []
        for number, file in enumerate(files):
            directory, name = file.directory, file.name
            path = path_in_dest(directory, name)
            reason = "it is not a name" if "/" in name else _oddness(path, self.bucket.key(path))
            if reason is None:
                staged.append((number, self._part_to_store(file, path)))
            else:
                results[number] = Failure(FailureKind.NAME, f"{path!r} cannot be written: {reason}.")
        stored = self._store([one for _, one in staged])
        done: list[_PartToStore] = []
        for (number, one), failure in zip(staged, stored, strict=True):
            results[number] = failure
            if failure is None:
                self.bucket.names.note(self.bucket.key(one.path), is_there=True)
                done.append(one)
        list(self.threads.map(self.drop_part, [one.part for one in done if one.body is None]))
        for one in done:
            if one.body is not None:
                self.drop_part(one.part)
        return results

    def _part_to_store(self, one: StagedFile, path: str) -> _PartToStore:
        entry = self.part_identity(one.part)
        if entry is None:
            raise DestinationError(f"{self.parts / one.part} was removed during the run.")
        found = self.part_without_file(one.part)
        content = None if found is None else found.content
        copy = content if isinstance(content, PendingCopy) else None
        body = None if isinstance(content, PendingCopy) else content
        if body is None and copy is None and entry[1] <= READ:
            with self.open_part(one.part) as file:
                body = file.read()
        recorded = None if content is None or copy is not None else one.digest
        if recorded is not None and len(recorded) == hashlib.sha256().digest_size:
            sha256 = recorded  # the service compares it with the body
        else:
            sha256 = b"" if body is None else hashlib.sha256(body).digest()
        return _PartToStore(one.part, path, one.may_replace, entry[1], entry[0], body, sha256, copy)

    def _store(self, staged: Sequence[_PartToStore]) -> list[Failure | None]:
        """Store objects; return the failure of each: there is another object, or a copy is incorrect.

        Raises:
            CredentialsError, DestinationError: As any request; or another mirror has the lease.
        """
        self._lease.check()
        stored: dict[str, Failure | None] = {}
        short = self._without_those_that_are_there([file for file in staged if file.body is not None])
        requests = [  # those that wait until the lease must be read again are sent alone, after a check
            self.bucket.put_request(file.path, file.content(), self._condition(file))._replace(
                may_begin=self._lease.is_recent
            )
            for file in short
        ]
        replies = self.bucket.send(requests)
        for one, reply in zip(short, replies, strict=True):
            if reply is not None and reply.status == OK:
                stored[one.part] = None
            elif reply is not None and reply.status == FAILED_CONDITION:
                stored[one.part] = self._unless_held(one)
        rest = [file for file in staged if file.part not in stored]
        stored.update(
            zip([file.part for file in rest], self.threads.map(self._stored_alone, rest), strict=True)
        )
        return [stored[file.part] for file in staged]

    def _without_those_that_are_there(self, short: Sequence[_PartToStore]) -> Sequence[_PartToStore]:
        """Return the objects to store. If the bucket ignores conditions, existing ones are left out."""
        if not short or self._is_conditional:
            return short
        looked_for = [file for file in short if not file.replace]
        looks = self.bucket.send([ObjectRequest("HEAD", self.bucket.key(file.path)) for file in looked_for])
        found = {
            one.part
            for one, reply in zip(looked_for, looks, strict=True)
            if reply is None or reply.status != NOT_FOUND
        }
        return [file for file in short if file.part not in found]

    def _condition(self, one: _PartToStore) -> Mapping[str, str]:
        return {} if one.replace or not self._is_conditional else {"if-none-match": "*"}

    def _stored_alone(self, one: _PartToStore) -> Failure | None:
        """Store one object, and repeat the request if necessary; return the same as `_store`."""
        self._lease.check()
        if one.copy is not None:
            return self._copied(one, one.copy)
        if one.body is None:
            one = one._replace(sha256=self.state_of_part(one.part).digest or b"")
        elif hashlib.sha256(one.body).digest() != one.sha256:
            raise DestinationError(f"{one.path} was damaged in memory: run `stacpull resume`.")
        in_pieces = one.size > _SINGLE_PUT  # some servers ignore the condition of a multipart upload only
        look_first = in_pieces or not self._is_conditional
        if not one.replace and look_first and self.bucket.head(one.path) is not None:
            return self._unless_held(one)
        send, condition = self._upload if in_pieces else self.bucket.put, self._condition(one)
        with self.open_part(one.part) as file:
            for _ in range(ATTEMPTS):
                code = send(one.path, one.content(file), condition)
                if not code:
                    return None
                is_unknown = code in UNKNOWN_CONDITIONS
                if code in EXISTS or (is_unknown and self.bucket.head(one.path) is not None):
                    return self._unless_held(one)
        raise DestinationError(f"{self.name} does not store {one.path}: other programs are writing there.")

    def _copied(self, one: _PartToStore, copy: PendingCopy) -> Failure | None:
        """Let the service copy an object. If it refuses, download and store the object.

        A copy that replaces an object is staged first: if it is incorrect, the old version stays.
        """
        stages = one.replace and not copy.is_staged
        path = self.bucket.path(self.staged.new_key(one.part)) if stages else one.path
        origin = one.copy or copy
        subject = f"The upload of {self.name}/{one.path}" if origin.is_staged else origin.source.url
        at_service = ServerCopy(
            self.bucket, self.uploads, path, one.identity, copy, subject, replace=one.replace
        )
        try:
            failure = at_service.run()
            if failure is None and stages:
                failure = self._copied(one, at_service.as_staged())
            elif failure is None:
                at_service.add_digest()
        except CopyRefusedError:
            failure = self._passed_through(one, copy, at_service)
        finally:
            if stages:
                with suppress(StacpullError, OSError):  # `StagedObjects.sweep` removes it at the next start
                    self._lease.check()
                    self.bucket.delete(path)
        return failure

    def _passed_through(self, one: _PartToStore, copy: PendingCopy, at_service: ServerCopy) -> Failure | None:
        """Download and store an object that the service does not copy."""
        through = f"{uuid.uuid4().hex}.tmp"
        try:
            with self.open_part(one.part) as source, self.new_part(through) as file:
                while data := source.read(READ):
                    file.write(data)
        except ObjectChangedError:
            return at_service.removed(FailureKind.CHANGED, "changed before it was copied")
        try:
            algorithm = copy.algorithm or "sha256"
            found = self.state_of_part(through, algorithm=algorithm)
            if found.size != one.size or copy.digest not in {None, found.digest}:
                what = f"has another {algorithm} than stated"
                return at_service.removed(FailureKind.CHECKSUM, what)
            return self._stored_alone(one._replace(part=through, copy=None))
        finally:
            self.drop_part(through)

    def _unless_held(self, one: _PartToStore) -> Failure | None:
        """Return the failure for an existing object, unless it is our own and the response was lost.

        An object of another program with the same content is not ours: the mirror might remove it later.
        """
        found = self.bucket.head(one.path)
        is_ours = (
            found is not None
            and found.identity
            and (found.size, found.digests.get("sha256")) == (one.size, one.sha256)
        )
        return None if is_ours else foreign_file(one.path)

    # --- copies within the service -----------------------------------------------------------------------

    def can_copy(self, source: CopySource, size: int) -> bool:
        """Return True if the credentials of DEST can read that version of an object at its service."""
        other, path = self.bucket.located(source)
        name = other.location.bucket
        if name in self._unreadable or not self.may_write:
            return False
        try:
            headers = other.head_fields(path)
        except (OSError, StacpullError) as error:
            if code_behind(error) in _REFUSALS:
                self._unreadable.add(name)
            return False
        found = None if headers is None else object_of(headers)
        if headers is None or found is None:
            return False
        is_encrypted = headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        return (found.etag, found.size) == (source.etag, size) and not is_encrypted

    def copy_source(
        self, path: str, *, size: int, identity: int | None, digest: bytes | None
    ) -> CopySource | None:
        """Return the object of a part as a source to copy; None if it is not there, or not proven."""
        found = self.bucket.head(path) if self.may_write else None
        if found is None or found.size != size:
            return None
        has_digest = digest is not None and found.digests.get(recorded(digest).algorithm) == digest
        if not has_digest and (not identity or found.identity != identity):
            return None
        return CopySource(self.location.url_of(self.bucket.key(path)), found.etag)

    # --- parts that are objects --------------------------------------------------------------------------

    def part_without_file(self, name: str) -> PartWithoutFile | None:
        """Return a part that is not a file: in memory, or an object."""
        return super().part_without_file(name) or self.staged.part_without_file(name)

    def open_copy(self, copy: PendingCopy) -> BinaryIO:
        """Open the source of a part that the service will copy."""
        return self.bucket.open_source(copy.source, copy.size)

    def rename_part(self, old: str, new: str) -> int:
        if not self.staged.rename(old, new):
            return super().rename_part(old, new)
        found = self.part_identity(new)
        if found is None:
            raise DestinationError(f"{self.parts / new} was removed during the run.")
        return found[0]

    def drop_part(self, name: str) -> None:
        if super().part_without_file(name) is not None or not self.staged.drop(name):
            self._drop_here(name)

    def list_parts(self) -> list[PartEntry]:
        here = [part for part in super().list_parts() if not part.name.endswith(NOTES)]
        return sorted(here + self.staged.entries())

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        super().sweep_parts(keep)
        self.staged.sweep(keep)
        if not self._left_uploads:  # listing the parts takes requests
            return
        parts = {str(part.identity) for part in self.list_parts()}
        for upload in self._left_uploads:
            if upload.metadata.get(PART) not in parts and self.uploads.claim_note(upload.name) == upload:
                self._lease.check()
                self.uploads.abort(upload)
        self._left_uploads = []

    # --- existing objects --------------------------------------------------------------------------------

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        there = self.state_of(path_in_dest(directory, name)).digest
        return there is not None and there == self.state_of_part(part).digest

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        found = self.bucket.head(path_in_dest(directory, name))
        return None if found is None else (found.identity, found.size)

    def remove(self, directory: str, name: str) -> None:
        self._lease.check()
        self.bucket.delete(path_in_dest(directory, name))


def _is_folder(listed: Mapping[str, str]) -> bool:
    """Return True for an empty object whose key ends with `/`, which consoles create as a folder."""
    return listed.get("Key", "").endswith(("/", "%2F", "%2f")) and listed.get("Size") == "0"


def _oddness(path: str, key: str) -> str | None:
    """Return why a name is invalid for an object, None if it is valid."""
    if "\0" in path or not NO_NAMES.isdisjoint(path.split("/")):
        return "it is not a name"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        return "it is not text"
    return f"it is longer than {_LONGEST_KEY} bytes" if length > _LONGEST_KEY else None

"""A bucket as DEST (`stacpull.store.protocol.Store`). Parts are files in the work directory.

Publishing a part is one upload, after which the object is durable. An object is only created, never replaced,
unless it belongs to the mirror. It states the digest of its content, so that `verify` need not read it, and
the identity of its part, by which a start after a kill recognises it. If the response to an upload is lost,
the repeated upload finds the object, and its digest shows that it is ours.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import BinaryIO

from stacpull.digests import as_checksum
from stacpull.errors import destination_errors
from stacpull.models import Failure, FailureKind, Placement
from stacpull.store.inspection import (
    MAX_DOCUMENT_SIZE,
    FileEntry,
    FileState,
    IsStopped,
    hashed_state,
    is_name,
    never,
)
from stacpull.store.protocol import exists_failure
from stacpull.store.staging import StagedParts
from stacpull_cloud.lease import Lease
from stacpull_cloud.objects import PIECE, THREADS, Objects

DIGEST = "stacpull"
"""Followed by an algorithm, the attribute with the digest of the content. Azure allows no `-` in names."""
_PART = "stacpullpart"
_MAX_KEY_SIZE = 1024


class BucketFiles:
    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.name = objects.location.url

    def close(self) -> None:
        """Nothing is open."""

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state. The digest is the stated one; if the object states none, it is read."""
        head = self.objects.find(path)
        if head is None:
            return FileState()
        if algorithm is None:
            return FileState(head.size, modified=head.modified.timestamp())
        with suppress(KeyError, ValueError):
            return FileState(head.size, bytes.fromhex(head.attributes[DIGEST + algorithm]))
        with self.objects.open(head) as file:
            return hashed_state(file.read, head.size, algorithm, is_stopped)

    def has(self, path: str) -> bool:
        return self.objects.find(path) is not None

    def read(self, path: str) -> bytes | None:
        answer = self.objects.read(path, MAX_DOCUMENT_SIZE)
        return None if answer is None else answer[1]

    def open(self, path: str) -> BinaryIO:
        answer = self.objects.read(path, PIECE)
        if answer is None:
            raise FileNotFoundError(errno.ENOENT, "there is no such object", path)
        head, body = answer
        return self.objects.open(head) if body is None else io.BytesIO(body)

    def walk(self, skipped: frozenset[str], prefix: str = "") -> Iterator[Sequence[FileEntry]]:
        for page in self.objects.pages(prefix.rstrip("/")):
            yield [FileEntry(path, is_file=True) for path in page if path.split("/")[0] not in skipped]


class BucketStore(BucketFiles):
    is_local = False
    sync_covers_ledger = False

    def __init__(self, staged: StagedParts, objects: Objects) -> None:
        super().__init__(objects)
        self.staged = staged
        self.lease = Lease(objects, staged)
        self._threads = ThreadPoolExecutor(THREADS, "stacpull-bucket")

    def close(self) -> None:
        self._threads.shutdown()
        self.staged.close()

    def sync(self, parts: Sequence[str]) -> None:
        """Do nothing: parts in the work directory can be fetched again, and `place` is durable."""

    def place(self, files: Sequence[Placement]) -> list[Failure | None]:
        return list(self._threads.map(self._place, files))

    def _place(self, file: Placement) -> Failure | None:
        path = file.path
        key = self.objects.key(path)
        is_odd = not all(map(is_name, [file.name, *path.split("/")]))
        if is_odd or len(key.encode("utf-8", "surrogatepass")) > _MAX_KEY_SIZE:
            return Failure(FailureKind.NAME, f"{path!r} cannot be the name of an object.")
        algorithm = "sha256" if file.digest is None else as_checksum(file.digest).algorithm
        with destination_errors(self.staged.work):
            identity_and_size = self.staged.part_identity_and_size(file.part)
            attributes = {_PART: str(identity_and_size[0] if identity_and_size else 0)}
            if file.digest is not None:
                attributes[DIGEST + algorithm] = file.digest.hex()
            body = self.staged.path / file.part if file.body is None else file.body
            if not self.objects.put(path, body, attributes, self.lease.check, create=not file.may_replace):
                part_state = self.staged.state_of(file.part, algorithm=algorithm)
                identity, _ = self.find(path) or (0, 0)
                if not identity or self.state_of(path, algorithm=algorithm) != part_state:
                    return exists_failure(path)
        self.staged.remove_part(file.part)
        return None

    def find(self, path: str) -> tuple[int, int] | None:
        if (head := self.objects.find(path)) is None:
            return None
        with suppress(KeyError, ValueError):
            return int(head.attributes[_PART]), head.size
        return 0, head.size  # it is not ours

    def remove(self, path: str) -> None:
        self.objects.remove(path, self.lease.check)

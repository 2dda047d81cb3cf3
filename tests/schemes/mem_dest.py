"""`mem://bucket/prefix` as DEST: a bucket in a dict, as an example of a new kind of DEST."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from tests.schemes.mem import Mem
from tests.store.memory_store import MemoryDisk, MemoryStore

from stacpull.models import BucketLocation, CopySource, Failure
from stacpull.redact import Secret
from stacpull.store.buffered_parts import BufferedParts
from stacpull.store.lease import LeaseCheck
from stacpull.store.protocol import OwnObject, StagedFile


class MemDest(Mem):
    """The scheme, for SOURCE and for DEST."""

    is_dest = True
    dest_variables = ("MEM_",)

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        super().__init__(objects)
        self.buckets: dict[str, MemoryDisk] = {}
        """By URL of DEST."""

    def open_store(
        self,
        work: Path,
        location: BucketLocation,
        *,
        publishes: bool,
        on_silent: Callable[[str], None],
    ) -> MemBucket:
        return MemBucket(work, location, self._bucket(location), publishes=publishes)

    def open_files(self, location: BucketLocation, *, on_silent: Callable[[str], None]) -> MemoryStore:
        return MemoryStore(Path(), self._bucket(location))

    def _bucket(self, location: BucketLocation) -> MemoryDisk:
        return self.buckets.setdefault(location.url, MemoryDisk())


class MemBucket(BufferedParts, MemoryStore):
    """Objects in memory; parts as every bucket has them."""

    is_local = covers_ledger = False
    may_write = True

    def __init__(self, work: Path, location: BucketLocation, disk: MemoryDisk, *, publishes: bool) -> None:
        BufferedParts.__init__(self, work, in_memory=publishes)
        self.name = location.url
        self.warning = None
        self.disk = disk
        self.location = location
        self.secrets = (Secret("mem-key"),)
        self._lease = LeaseCheck(self)

    def sync(self, parts: Sequence[str]) -> None:
        """What is stored in memory stays there."""

    def place_all(self, files: Sequence[StagedFile]) -> list[Failure | None]:
        self._lease.check()
        return [self.place(one.part, one.directory, one.name, replace=one.may_replace) for one in files]

    # --- what only a store on the network has ------------------------------------------------------------

    def read_own(self, path: str) -> OwnObject | None:
        found = self.disk.files.get(path)
        return None if found is None else OwnObject(found.data, str(found.identity), 0.0)

    def write_own(self, path: str, body: bytes, *, replaces: OwnObject | None) -> bool:
        there = self.read_own(path)
        if (there and there.etag) != (replaces and replaces.etag):
            return False
        self.disk.files[path] = self.disk.stored(body)
        return True

    def store_own(self, path: str, file: BinaryIO, size: int, sha256: bytes) -> bool:
        self.disk.files[path] = self.disk.stored(file.read(size))
        return True

    def streamed_parts(self, *_: object, **__: object) -> None:
        """Long bodies pass through files."""

    def can_copy(self, source: CopySource, size: int) -> bool:
        return False

    def copy_source(self, path: str, **_: object) -> None:
        """Nothing is copied."""

"""The interface of DEST for the rest of the program, for directories and buckets.

`StoredFiles` only reads. `RemoteStore` is a `Store` on the network. `Store` also publishes, in this order:

    stage      `write_part`, `new_part`, `link_part`: the bytes are in the store, under the name of a part
    sync       `sync`: parts, and everything placed before, survive a loss of power
    publish    `place`: a part gets its final name, and never replaces a file of others
    remove     `remove`, `tidy`

The ledger is written in between (`engine.publisher`): a reservation before `sync`, the record after the next
`sync`. `LocalStore` is a directory, `BucketStore` a bucket, and tests use a store in memory. All three pass
`tests/store/store_contract.py`.

The interfaces document their methods; the classes that implement them add what is special to them.

Paths are relative to DEST, with `/` between segments. Part names have no directory, except those in the
directory of a worker (`store.worker_parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, cast

from stacpull.models import BucketLocation, CopySource, Failure
from stacpull.redact import Secret

if TYPE_CHECKING:
    from stacpull.store.buffered_parts import PendingCopy
    from stacpull.store.parts import FileParts
    from stacpull.store.streamed_parts import StreamedParts

HELD_DIRECTORIES = 64
"""The most directories of DEST that are held open at once, if there are enough descriptors."""
LONGEST_HELD = 8 << 20
"""The most bytes of a body that the store process publishes from memory, if DEST is a bucket."""


IsStopped = Callable[[], bool]
"""Returns True once a long read must end."""


def never() -> bool:
    """Return False: the read is never stopped (`IsStopped`)."""
    return False


class Entry(NamedTuple):
    """An entry of DEST that is not a directory."""

    path: str
    is_file: bool
    """True for a regular file; False for links, devices and pipes."""


class FileState(NamedTuple):
    """The state of a path. `obstacle` describes anything other than a readable regular file."""

    size: int | None = None
    digest: bytes | None = None
    obstacle: str | None = None
    readable: bool = True


class PartEntry(NamedTuple):
    """An entry of the parts: name, identity, size in bytes (None if it is not a regular file)."""

    name: str
    identity: int
    size: int | None


class StagedFile(Protocol):
    """A part and its final path (`models.Arrival`, for example)."""

    @property
    def part(self) -> str:
        """The name of the part."""
        ...

    @property
    def directory(self) -> str:
        """Its directory."""
        ...

    @property
    def name(self) -> str:
        """Its final name."""
        ...

    @property
    def may_replace(self) -> bool:
        """True if a regular file with that name belongs to this mirror and may be replaced."""
        ...

    @property
    def digest(self) -> bytes | None:
        """Its recorded digest (`digests.recorded`); None if it is not known."""
        ...


class Placement(NamedTuple):
    """A minimal `StagedFile`."""

    part: str
    directory: str
    name: str
    may_replace: bool
    digest: bytes | None = None


class OwnObject(NamedTuple):
    """A small object of the mirror itself, such as the lease."""

    body: bytes
    etag: str
    age: float
    """Seconds since it was written, by the clock of the server; 0 if the server does not state a date."""


class StoredFiles(Protocol):
    """The files of a mirror, for reading. Any thread may call any method (but see `LocalStore.read`)."""

    @property
    def name(self) -> str:
        """The name of DEST in messages."""
        ...

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state of a path.

        Args:
            path: The path of a file. A link in its place is not followed.
            algorithm: The algorithm of its digest, which reads the file; None for no digest.
            is_stopped: Called between two pieces of a long file. If it returns True, there is no digest. The
                size is then that of the whole file.
        """
        ...

    def obstacle(self, path: str) -> str | None:
        """Return the obstacle for a file at `path`, such as "a link at c"; None if there is none."""
        ...

    def has(self, path: str, *, unknown: bool = True) -> bool:
        """Return True if there is something at `path`. If that cannot be determined, return `unknown`."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return the contents of a document, None if there is no regular file of up to 64 MiB.

        Raises:
            OSError: It cannot be read.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading.

        Raises:
            OSError: There is none, or it cannot be read.
        """
        ...

    def modified(self, path: str) -> float | None:
        """Return the time of the last write of a file, in seconds since 1970; None if there is no file."""
        ...

    def names(self, directory: str) -> list[str]:
        """Return the names of all entries of a directory.

        Raises:
            OSError: There is no such directory, or it cannot be read.
        """
        ...

    def directories(self, directory: str) -> list[str]:
        """Return the sorted names of the directories in a directory, without links to directories.

        Raises:
            OSError: There is no such directory, or it cannot be read.
        """
        ...

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        """Yield all entries except directories, in batches of one directory.

        Directories that cannot be read are left out.

        Args:
            skipped: Top-level names to leave out.

        Raises:
            OSError: DEST itself cannot be read.
        """
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


class Store(StoredFiles, Protocol):
    """The files of a mirror, for a run. One thread publishes. Any thread may write parts.

    Every method that writes raises `DestinationError` if DEST as a whole fails: it is full, or read-only.
    """

    @property
    def work(self) -> Path:
        """The local directory with the `.stacpull` of the ledger, the lock and the log."""
        ...

    @property
    def parts(self) -> Path:
        """The local directory of unfinished parts."""
        ...

    @property
    def is_local(self) -> bool:
        """True if nothing is sent over a network."""
        ...

    @property
    def is_on_network(self) -> bool:
        """True if `work` is on a network file system: SQLite's write-ahead log does not work there."""
        ...

    def sync_own_directory(self) -> None:
        """Make the names of the ledger and its log durable, because SQLite ignores errors of that.

        Raises:
            DestinationError: The disk fails.
        """
        ...

    @property
    def covers_ledger(self) -> bool:
        """True if `sync` also syncs the log of the ledger."""
        ...

    @property
    def warning(self) -> str | None:
        """A message for the user about a missing feature of this store."""
        ...

    # --- parts: staged bytes -----------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """False while too many bytes of parts are in memory to accept more."""
        ...

    def write_part(self, name: str, body: bytes | memoryview) -> int:
        """Write a part at once and return its identity. A part with the same name is replaced."""
        ...

    def new_part(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Write a part piece by piece. A part with the same name is replaced.

        If the block raises, the part is removed.
        """
        ...

    def link_part(self, name: str, files: StoredFiles, path: str) -> bool:
        """Link a part to a file of this mirror or another one. If links are not supported, copy it.

        Returns:
            True if it is a link.

        Raises:
            OSError: `path` is not a regular file that can be read.
        """
        ...

    def rename_part(self, old: str, new: str) -> int:
        """Give a part another name and return its identity."""
        ...

    def drop_part(self, name: str) -> None:
        """Remove a part, if it exists."""
        ...

    def list_parts(self) -> list[PartEntry]:
        """Return everything among the parts, sorted by name."""
        ...

    def state_of_part(
        self, name: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state of a part, as `state_of` does of a file."""
        ...

    def part_identity(self, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a part, None if there is none."""
        ...

    def open_part(self, name: str) -> BinaryIO:
        """Open a part for reading.

        Raises:
            OSError: It does not exist or cannot be read.
        """
        ...

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """Remove unfinished parts that cannot be resumed, or for which `keep(row, generation)` is False."""
        ...

    # --- publishing --------------------------------------------------------------------------------------

    def sync(self, parts: Sequence[str]) -> None:
        """Make these parts durable, and all changes by `place` and `remove` since the last call.

        Raises:
            DestinationError: The sync failed. None of these files may be trusted.
        """
        ...

    def sync_file(self, path: str) -> None:
        """Make an existing file durable.

        Raises:
            OSError: It cannot be synced.
        """
        ...

    def sync_singly(self) -> bool:
        """Sync file by file from now on; return False if this was already the case."""
        ...

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        """Give a part its final name; return the failure if the name is taken or invalid.

        Args:
            part: Name of the part.
            directory: Its directory.
            name: Its final name.
            replace: True if a regular file with that name belongs to this mirror and may be replaced.
        """
        ...

    def place_all(self, files: Sequence[StagedFile]) -> list[Failure | None]:
        """Do the same as `place` with several parts with different paths; return the results in order."""
        ...

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """Return True if there already is a regular file with the content of that part."""
        ...

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a regular file, None if there is none.

        The identity is the one that `write_part` returned for the part; on a disk, the inode.
        """
        ...

    def mark_changed(self, directory: str) -> None:
        """Include a directory whose entries an earlier run changed in the next `sync`."""
        ...

    def remove(self, directory: str, name: str) -> None:
        """Remove one of the mirror's own files, if it exists."""
        ...

    def tidy(self, directory: str) -> None:
        """Remove an empty directory, and its parents that become empty. DEST stays."""
        ...

    # --- trust in the unrecorded files of an earlier run -------------------------------------------------

    def trusted_boot(self) -> str | None:
        """Return the boot whose unrecorded files can be trusted, None if there is none."""
        ...

    def trust(self, boot: str) -> None:
        """Record that files written under this boot from now on can be trusted."""
        ...

    def withdraw_trust(self) -> None:
        """Record that no unrecorded file can be trusted: a sync failed."""
        ...


class RemoteStore(Store, Protocol):
    """A store on the network, which other machines can also reach. One mirror at a time has its lease."""

    @property
    def location(self) -> BucketLocation:
        """Its location."""
        ...

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Its credentials."""
        ...

    @property
    def may_write(self) -> bool:
        """False in a Dask worker whose credentials are missing or may not write here. May block."""
        ...

    def read_own(self, path: str) -> OwnObject | None:
        """Return a small object of the mirror itself, None if there is none.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        ...

    def write_own(self, path: str, body: bytes, *, replaces: OwnObject | None) -> bool:
        """Write a small object of the mirror itself; return False if another program has changed it.

        Args:
            path: Of the object.
            body: Its content.
            replaces: The version to replace; None if there was no object.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        ...

    def store_own(self, path: str, file: BinaryIO, size: int, sha256: bytes) -> bool:
        """Store a file of the mirror itself, replacing an earlier version.

        Args:
            path: Of the object.
            file: Its content.
            size: In bytes.
            sha256: Of the content.

        Returns:
            False if another program has replaced the object, which is then kept.

        Raises:
            CredentialsError, DestinationError: As any request; or another mirror has the lease.
        """
        ...

    def can_copy(self, source: CopySource, size: int) -> bool:
        """Return True if the service of this store can copy an object of that size."""
        ...

    def copy_source(
        self, path: str, *, size: int, identity: int | None, digest: bytes | None
    ) -> CopySource | None:
        """Return the object of a published part as a source to copy.

        Args:
            path: Its path in DEST.
            size: In bytes.
            identity: Of the part, if it is known.
            digest: The recorded digest, if it is known. It or the identity proves that it is the object.

        Returns:
            None if it is not there, or not proven, or the service copies nothing.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        ...

    def streamed_parts(
        self, files: FileParts, *, checksum: str | None, in_memory: bool = False
    ) -> StreamedParts | None:
        """Return the parts that are uploaded while they arrive; None to use `files` instead. Blocks.

        Args:
            files: Part files, for bodies that do not arrive in order.
            checksum: Algorithm of the digest to record; None for none.
            in_memory: True if short bodies may be sent to the store process.
        """
        ...

    def add_copy(self, name: str, copy: PendingCopy) -> int:
        """Add a part that the service will copy from an object. It replaces a part with the same name.

        Returns:
            The identity of the part.
        """
        ...


def remote_store(store: Store) -> RemoteStore | None:
    """Return the store as a `RemoteStore`, None if it is a directory."""
    return None if store.is_local else cast("RemoteStore", store)

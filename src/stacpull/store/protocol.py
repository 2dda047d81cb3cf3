"""What the rest of the program needs from DEST, wherever its files are.

`StoredFiles` only reads. `RemoteStore` is a `Store` on the network. `Store` publishes as well, in this order:

    stage      `write_part`, `new_part`, `link_part`: the bytes are in the store, under a name of their own
    sync       `sync`: parts, and whatever was placed before, survive a loss of power
    publish    `place`: a part gets its final name, and replaces nothing that is not this mirror's
    remove     `remove`, `tidy`

The ledger is written in between (`engine.publisher`): a reservation before `sync`, the record after the next
one. `Destination` is a directory, `BucketStore` a bucket, and tests have a store in memory. All three pass
`tests/store/store_contract.py`.

Paths are relative to DEST, with `/` between segments; part names are names without a directory, or
are in the directory of one worker (`store.own_parts`).
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
    from stacpull.store.parts import PartStore
    from stacpull.store.streamed_parts import StreamedParts

LONGEST_HELD = 8 << 20
"""Bytes of a body that the store process publishes from memory, if DEST is a bucket."""


class Entry(NamedTuple):
    """Something in DEST that is not a directory."""

    path: str
    is_file: bool
    """False for links, devices, pipes."""


class Look(NamedTuple):
    """What was found at a path. `obstacle` says what is there instead of a regular file that can be read."""

    size: int | None = None
    sha256: bytes | None = None
    obstacle: str | None = None
    readable: bool = True


class PartEntry(NamedTuple):
    """An entry of the parts directory: its name, its identity, its size in bytes (None: no regular file)."""

    name: str
    identity: int
    size: int | None


class StagedFile(Protocol):
    """A part, and where it goes (`models.Arrival`, for example)."""

    @property
    def part(self) -> str:
        """The name of the part."""
        ...

    @property
    def directory(self) -> str:
        """Where it goes."""
        ...

    @property
    def name(self) -> str:
        """Its final name."""
        ...

    @property
    def may_replace(self) -> bool:
        """True if a regular file of that name is this mirror's and may be replaced."""
        ...


class Placement(NamedTuple):
    """A `StagedFile` without anything else."""

    part: str
    directory: str
    name: str
    may_replace: bool


class Note(NamedTuple):
    """A small object that the mirror itself has written."""

    body: bytes
    etag: str
    age: float
    """Seconds since it was written, by the clock of the server."""


class StoredFiles(Protocol):
    """The files of a mirror, for reading. Any thread may call any method."""

    @property
    def name(self) -> str:
        """DEST as messages name it."""
        ...

    def look_at(
        self,
        path: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """Return what is at a path.

        Args:
            path: Of a file. A link in its last place is not followed.
            hashed: True to read the file and compute its digest.
            algorithm: Of that digest.
            is_stopped: Asked between two pieces of a long file, which then gets no digest.
        """
        ...

    def obstacle(self, path: str) -> str | None:
        """Return what is in the way of a file at `path`, such as "a link at c"; None if nothing is."""
        ...

    def has(self, path: str, *, unknown: bool = True) -> bool:
        """Return True if something is at `path`; `unknown` where that cannot be found out."""
        ...

    def read(self, path: str) -> bytes | None:
        """Return the contents of a regular file, None if there is none.

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
        """Return when a file was last written, in seconds since 1970; None if there is none."""
        ...

    def names(self, directory: str) -> list[str]:
        """Return the names of everything in a directory.

        Raises:
            OSError: There is no such directory, or it cannot be read.
        """
        ...

    def directories(self, directory: str) -> list[str]:
        """Return the names of the directories in a directory, sorted; links to directories are left out.

        Raises:
            OSError: There is no such directory, or it cannot be read.
        """
        ...

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        """Yield everything but directories, some entries of one directory at a time.

        Directories that cannot be read are left out.

        Args:
            skipped: Names at the top that are left out.

        Raises:
            OSError: DEST itself cannot be read.
        """
        ...

    def close(self) -> None:
        """Release what is open."""
        ...


class Store(StoredFiles, Protocol):
    """The files of a mirror, for a run. One thread publishes; any thread may write parts.

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
    def shared_parts(self) -> Path | None:
        """The directory of all parts, if `parts` is the directory of one worker among them."""
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
        """Make the names of the ledger and its log durable: SQLite ignores an error when it does so.

        Raises:
            DestinationError: The disk fails.
        """
        ...

    @property
    def covers_ledger(self) -> bool:
        """True if `sync` syncs the log of the ledger as well."""
        ...

    @property
    def warning(self) -> str | None:
        """What this store cannot do where that was expected: a sentence for the user."""
        ...

    # --- parts: staged bytes -----------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """False while so many bytes of parts are in memory that no more should come in."""
        ...

    def write_part(self, name: str, body: bytes | memoryview) -> int:
        """Write a part in one go, instead of one that is left of that name; return its identity."""
        ...

    def new_part(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Write a part piece by piece, instead of one that is left of that name.

        If the block raises, the part is removed.
        """
        ...

    def link_part(self, name: str, files: StoredFiles, path: str) -> bool:
        """Make a part of a file of this mirror or another one: a hard link, or a copy where there are none.

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
        """Remove a part, if it is there."""
        ...

    def list_parts(self) -> list[PartEntry]:
        """Return everything among the parts, sorted by name."""
        ...

    def look_at_part(
        self,
        name: str,
        *,
        hashed: bool,
        algorithm: str = "sha256",
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> Look:
        """Look at a part as `look_at` does at a file."""
        ...

    def part_identity(self, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a part, None if there is none."""
        ...

    def open_part(self, name: str) -> BinaryIO:
        """Open a part for reading.

        Raises:
            OSError: It is not there, or cannot be read.
        """
        ...

    def sync_parts(self, names: Sequence[str]) -> None:
        """Make these parts durable, one by one: for a worker on another machine than the publisher."""
        ...

    def make_own_parts(self, name: str, token: str) -> None:
        """Make the directory of a worker on another machine among the parts (`store.own_parts`)."""
        ...

    def collect_parts(self, name: str | None = None) -> None:
        """Take the parts of a worker on another machine from its directory, and remove that.

        Args:
            name: The name of its directory; None for all there are.
        """
        ...

    def sweep_parts(self, keep: Callable[[int, int], bool]) -> None:
        """Remove unfinished parts that cannot be resumed, or that `keep` (row, generation) does not want."""
        ...

    # --- publishing --------------------------------------------------------------------------------------

    def sync(self, parts: Sequence[str]) -> None:
        """Make these parts durable, and everything that was placed or removed since the last call.

        Raises:
            DestinationError: Something did not reach the disk: nothing of that may be trusted.
        """
        ...

    def sync_file(self, path: str) -> None:
        """Make a file durable that was there before.

        Raises:
            OSError: It cannot be synced.
        """
        ...

    def sync_singly(self) -> bool:
        """Sync file by file from now on; return False if that was so already."""
        ...

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        """Give a part its final name; return why not, if the name is in the way.

        Args:
            part: Name of the part.
            directory: Where it goes.
            name: Its final name.
            replace: True if a regular file of that name is this mirror's and may be replaced.
        """
        ...

    def place_all(self, files: Sequence[StagedFile]) -> list[Failure | None]:
        """Do the same as `place` with several parts, each with a path of its own; results in their order."""
        ...

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """Return True if a regular file with the content of that part is there already."""
        ...

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a regular file, None if there is none.

        The identity is the one that `write_part` returned for the part; on a disk, the inode.
        """
        ...

    def mark_changed(self, directory: str) -> None:
        """Have the next `sync` include a directory whose entries an earlier run changed."""
        ...

    def remove(self, directory: str, name: str) -> None:
        """Remove one of the mirror's own files, if it is there."""
        ...

    def tidy(self, directory: str) -> None:
        """Remove a directory that is empty, and those above it likewise; DEST stays."""
        ...

    # --- trust: are the unrecorded files of an earlier run what they seem? -------------------------------

    def trusted_boot(self) -> str | None:
        """Return the boot whose unrecorded files can be trusted, None if there is none."""
        ...

    def trust(self, boot: str) -> None:
        """Record that what is written under this boot from now on can be trusted."""
        ...

    def withdraw_trust(self) -> None:
        """Record that no unrecorded file can be trusted: a sync failed."""
        ...


class RemoteStore(Store, Protocol):
    """A store on the network, which other machines reach as well: one mirror at a time has its lease."""

    @property
    def location(self) -> BucketLocation:
        """Where it is."""
        ...

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Its credentials."""
        ...

    def read_note(self, path: str) -> Note | None:
        """Return a small object that the mirror itself has written, None if there is none.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        ...

    def write_note(self, path: str, body: bytes, *, replaces: Note | None) -> bool:
        """Write such an object, and return True; False if another program has written it meanwhile.

        Args:
            path: Of the object.
            body: Its content.
            replaces: What was read there; None: nothing.

        Raises:
            CredentialsError, DestinationError: As any request.
        """
        ...

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
        ...

    def can_copy(self, source: CopySource, size: int) -> bool:
        """Return True if the service of this store can copy an object of that size itself."""
        ...

    def streamed_parts(
        self, files: PartStore, *, checksum: str | None, in_memory: bool = False
    ) -> StreamedParts | None:
        """Return what stores long bodies while they arrive; None if they pass through `files`. Blocks.

        Args:
            files: The files of parts, for bodies that do not come in order.
            checksum: Algorithm of the digest that is recorded; None: none.
            in_memory: True if short bodies may be sent to the store process, which stores them.
        """
        ...

    def add_copy(self, name: str, copy: PendingCopy) -> int:
        """Make a part of an object that the service is to copy, instead of one that is left of that name.

        Returns:
            The identity of the part.
        """
        ...


def remote_store(store: Store) -> RemoteStore | None:
    """Return a store that is on the network as such, None if it is a directory."""
    return None if store.is_local else cast("RemoteStore", store)

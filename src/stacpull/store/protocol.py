"""The interface of DEST for the rest of the program, for directories and buckets.

Parts are staged, then `sync`, then `place`; the ledger is written in between (`engine.publisher`). Paths are
relative to DEST, with `/` between segments. All stores pass `tests/store/store_contract.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from stacpull import entry_points
from stacpull.models import Arrival, BucketLocation, Failure, FailureKind
from stacpull.redact import Secret

if TYPE_CHECKING:
    from stacpull.store.staging import StagedParts

LONGEST_DOCUMENT = 64 << 20  # bytes of a document, or of a line, in DEST; no page of a source is longer
NO_NAMES = frozenset({"", ".", ".."})

IsStopped = Callable[[], bool]  # returns True once a long read must end


def never() -> bool:
    return False


class Entry(NamedTuple):
    path: str
    is_file: bool


class FileState(NamedTuple):
    """The state of a path. `obstacle` is anything other than a readable regular file: "a link at c"."""

    size: int | None = None
    digest: bytes | None = None
    obstacle: str | None = None
    readable: bool = True


class Placement(NamedTuple):
    """A part and its final path; an `Arrival` has the same fields."""

    part: str
    directory: str
    name: str
    may_replace: bool
    """True if a regular file with that name belongs to this mirror and may be replaced."""
    digest: bytes | None = None


def foreign_file(path: str, why: str = "") -> Failure:
    """Return the failure of an asset whose name is taken by a file of others; `why` it was not adopted."""
    reason, remedy = f" ({why})" if why else "", "move it away, then run `stacpull retry`."
    if not why:
        remedy += (
            " If the ledger is older than the files (a restored copy), run `stacpull retry DEST --adopt`."
        )
    return Failure(FailureKind.EXISTS, f"{path} exists and is not part of this mirror{reason}: {remedy}")


class StoredFiles(Protocol):
    """The files of a mirror, for reading. Any thread may call any method. `name` is that of DEST."""

    @property
    def name(self) -> str: ...

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state, without following links. `algorithm=None` leaves out the digest.

        If `is_stopped` returns True, there is no digest, and the size is that of the whole file.
        """

    def has(self, path: str) -> bool:
        """Return True if there is something at `path`, False if that cannot be determined."""

    def read(self, path: str) -> bytes | None:
        """Return None if there is no regular file of up to 64 MiB. Raises `OSError` if it cannot be read."""

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Raises `OSError` if there is none, or it cannot be read."""

    def modified(self, path: str) -> float | None:
        """Return the time of the last write of a file, in seconds since 1970; None if there is no file."""

    def names(self, directory: str) -> list[str]:
        """Return the names of all entries. Raises `OSError` if there is no such directory."""

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        """Yield all entries but directories, in batches, without the top-level names `skipped`.

        Directories that cannot be read are left out. Raises `OSError` if DEST itself cannot be read.
        """

    def close(self) -> None: ...


class Store(StoredFiles, Protocol):
    """The files of a mirror, for a run. One thread publishes. Any thread may write parts.

    `staged` are the parts, on the local disk for every kind of store; `is_local` if nothing is sent over a
    network; `covers_ledger` if `sync` also syncs the log of the ledger. What writes raises
    `DestinationError` if DEST as a whole fails: it is full, or read-only.
    """

    @property
    def staged(self) -> StagedParts: ...
    @property
    def is_local(self) -> bool: ...
    @property
    def covers_ledger(self) -> bool: ...

    def sync(self, parts: Sequence[str]) -> None:
        """Make these parts durable, and all changes by `place` and `remove` since the last call.

        After a `DestinationError` none of these files may be trusted.
        """

    def place(self, files: Sequence[Arrival | Placement]) -> list[Failure | None]:
        """Give parts their final names, all different; return a failure for each name taken or invalid."""

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a regular file, None if there is none.

        The next `sync` includes the directory, because an earlier run may have changed it without a sync.
        The identity is the one that `StagedParts.write_part` returned for the part; on a disk, the inode.
        """

    def remove(self, directory: str, name: str) -> None:
        """Remove a file of the mirror, if it exists, and directories that become empty. DEST stays."""


class BucketLease(Protocol):
    """Entering it raises `CredentialsError`, or `DestinationError` if another run has the lease."""

    mirror: str  # the id of the mirror in the bucket
    generation: int  # the number of this run among the runs on the bucket; the ledger records it
    continues: bool  # True if the bucket may have files that the ledger here does not record
    before: str | None  # the work directory that was used last, as text, if it was another one
    secrets: tuple[Secret, ...]


class StoreKind(Protocol):
    """A kind of DEST that is not a directory, registered in `stacpull.stores` by URL scheme.

    `on_silent` is called once, from any thread, with a sentence for the user if DEST does not answer.
    """

    modules: tuple[str, ...]  # what a run needs: imported in the background
    variables: tuple[str, ...]  # prefixes of environment variables with credentials, for the store process

    def parse(self, url: str) -> BucketLocation | None:
        """Return None if it is not a bucket. Raises `UsageError` if it has no valid bucket or prefix."""

    def resolved(self, location: BucketLocation) -> BucketLocation:
        """Add the user's endpoint and region. Raises `CredentialsError`, or `UsageError` for an option."""

    def open_store(
        self, work: Path, location: BucketLocation, on_silent: Callable[[str], None], worker_parts: str = ""
    ) -> Store:
        """Raises `DestinationError` if `work`, for ledger and parts, cannot be created or written."""

    def open_files(self, location: BucketLocation, on_silent: Callable[[str], None]) -> StoredFiles:
        """Open DEST for reading."""

    def lease(self, store: Store) -> AbstractContextManager[BucketLease]:
        """Return the lease of DEST for a run. It also fetches the ledger if DEST has a newer copy."""


def store_kind(location: BucketLocation) -> StoreKind:
    kind: StoreKind = entry_points.require("stacpull.stores", location.scheme, f"{location.url} as DEST")
    return kind

"""The interface of DEST for the rest of the program, for directories and buckets.

Parts are staged, then `sync`, then `place`; the ledger is written in between (`engine.publisher`). Paths are
relative to DEST, with `/` between segments. All stores pass `tests/store/store_contract.py`.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from stacpull import entry_points
from stacpull.models import BucketLocation, Failure, FailureKind, Placement
from stacpull.redact import Secret
from stacpull.store.inspection import StoredFiles, WaitHooks
from stacpull.store.staging import StagedParts


def exists_failure(path: str, why: str = "", command: str = "retry") -> Failure:
    """Return the failure of a file whose name is taken; `why` says why the file there was not adopted."""
    what = f"{path} exists and is not part of this mirror"
    remedy = f"move it away, then run `stacpull {command} DEST`."
    if why:
        return Failure(FailureKind.EXISTS, f"{what} ({why}): {remedy}")
    adopt = f"If it is the right file, `stacpull {command} DEST --adopt` accepts it."
    return Failure(FailureKind.EXISTS, f"{what}: {remedy} {adopt}")


class Store(StoredFiles, Protocol):
    """The files of a mirror, for a run. One thread publishes. Any thread may write parts.

    `staged` are the parts, which are on the local disk for every kind of store. `is_local` is True if nothing
    is sent over a network, `sync_covers_ledger` if `sync` also syncs the log of the ledger. Methods that
    write raise `DestinationError` if DEST as a whole fails, because it is full or read-only.
    """

    staged: StagedParts
    is_local: bool

    @property
    def sync_covers_ledger(self) -> bool: ...

    def sync(self, parts: Sequence[str]) -> None:
        """Make these parts durable, and all changes by `place` and `remove` since the last call.

        After a `DestinationError`, none of these files may be trusted. For a bucket, `place` does all of it.
        """

    def place(self, files: Sequence[Placement]) -> list[Failure | None]:
        """Give parts their final names, which all differ. Return a failure for each impossible name."""

    def find(self, path: str) -> tuple[int, int] | None:
        """Return (identity, size in bytes) of a regular file, None if there is none.

        The next `sync` includes the directory, because an earlier run may have changed it without a sync.
        The identity is the one that `StagedParts.write_part` returned for the part; on a disk, the inode.
        """

    def remove(self, path: str) -> None:
        """Remove a file of the mirror, if it exists, and directories that become empty. DEST stays."""


class BucketLease(Protocol):
    """Lets one run write to a bucket: `DestinationError` if another one does. Also `CredentialsError`."""

    mirror: str  # the id of the mirror in the bucket
    epoch: int  # the number of this run among the runs on the bucket; the ledger records it
    continues: bool  # True if the bucket may have files that the ledger here does not record
    taken_from: str | None  # the work directory of the run whose lease this one takes over, as text
    secrets: tuple[Secret, ...]


class StoreKind(Protocol):
    """A kind of DEST that is not a directory, registered in `stacpull.stores` by URL scheme."""

    variables: tuple[str, ...]  # prefixes of environment variables with credentials, for the store process

    def parse(self, url: str) -> BucketLocation | None:
        """Return None if it is not a bucket. Raises `UsageError` if it has no valid bucket or prefix."""

    def resolved(self, location: BucketLocation) -> BucketLocation:
        """Add the user's endpoint and region. Raises `CredentialsError`, or `UsageError` for an option."""

    def open_store(self, staged: StagedParts, location: BucketLocation, hooks: WaitHooks) -> Store:
        """Open DEST for a run. The store closes `staged`."""

    def open_files(self, location: BucketLocation, hooks: WaitHooks) -> StoredFiles:
        """Open DEST for reading."""

    def lease(self, store: Store) -> AbstractContextManager[BucketLease]:
        """Return the lease of DEST for a run. It also fetches the ledger if DEST has a newer copy."""


def store_kind(location: BucketLocation) -> StoreKind:
    kind: StoreKind = entry_points.require("stacpull.stores", location.scheme, f"{location.url} as DEST")
    return kind

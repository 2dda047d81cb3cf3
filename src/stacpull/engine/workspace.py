"""DEST opened for a run: its lock, its directory tree, its ledger, and how it is synced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from stacpull.engine.descriptors import shares_here
from stacpull.errors import DestinationError
from stacpull.ledger.database import (
    Connection,
    ledger_path,
    open_writer,
    refuse_lost,
    settle_log,
    translated,
)
from stacpull.store.destination import Destination
from stacpull.store.disk_errors import destination_error
from stacpull.store.lock import MirrorLock
from stacpull.store.store_choice import open_store, remember_bucket

if TYPE_CHECKING:
    from stacpull.store.bucket import BucketLocation, BucketStore  # few mirrors have one: 9 ms


class Workspace(msgspec.Struct, frozen=True):
    """What a run writes to."""

    destination: Destination | BucketStore
    db: Connection
    lock: int = -1
    """The descriptor of the lock, which the store process inherits."""


@contextmanager
def open_workspace(dest: Path, bucket: BucketLocation | None = None) -> Iterator[Workspace]:
    """Open DEST for writing, and keep every other run out of it.

    Args:
        dest: The directory of the ledger, and of the files if they are not in a bucket.
        bucket: What DEST becomes the work directory of, or is already.

    Raises:
        DestinationError: it cannot be made or written, another mirror holds it, or it holds another catalog.
    """
    refuse_lost(dest)
    _refuse_foreign_catalog(dest)
    if bucket is not None:
        _remember(dest, bucket)
    with (
        closing(open_store(dest, most_held=shares_here().directories)) as destination,
        locked(dest) as lock,
        _claimed(destination),
        _ledger_of(destination) as db,
    ):
        yield Workspace(destination, db, lock.fileno())


def _remember(work: Path, bucket: BucketLocation) -> None:
    """Write down which bucket a work directory belongs to."""
    from stacpull.store.bucket import located  # noqa: PLC0415 - few mirrors have one: 9 ms

    remember_bucket(work, bucket if bucket.mirror else located(bucket))


@contextmanager
def _claimed(destination: Destination | BucketStore) -> Iterator[None]:
    """See that a bucket is this mirror's."""
    if destination.is_local is False:
        destination.claim()
    yield


@contextmanager
def opened_ledger(dest: Path) -> Iterator[Workspace]:
    """Open DEST in the store process, while the network process (and this one with it) holds the lock.

    Raises:
        DestinationError: it cannot be opened.
    """
    with (
        closing(open_store(dest, most_held=shares_here().directories, publishes=True)) as destination,
        _ledger_of(destination) as db,
    ):
        yield Workspace(destination, db)


@contextmanager
def _ledger_of(destination: Destination | BucketStore) -> Iterator[Connection]:
    """Open the ledger, and see that everything in it is on the disk at the end."""
    covered = destination.covers_ledger
    network = destination.is_on_network
    db = open_writer(destination.work, journal="delete" if network else "wal", durable=not covered)
    try:
        if not covered:
            destination.sync_own_directory()
        yield db
    except BaseException:
        with suppress(DestinationError):
            _settle(db, destination)
        raise
    else:
        _settle(db, destination)
    finally:
        db.close()


def _settle(db: Connection, destination: Destination | BucketStore) -> None:
    """Bring the ledger down as a whole; if the disk fails at that, what is not recorded is not believed.

    A log that lost a page looks whole, and what a later run writes behind it would be lost with the power.

    Raises:
        DestinationError: the disk fails.
    """
    try:
        with translated(ledger_path(destination.work)):
            settle_log(db)
    except DestinationError:
        destination.withdraw_trust()
        raise


@contextmanager
def locked(dest: Path) -> Iterator[MirrorLock]:
    """Hold the mirror as a run does.

    Raises:
        DestinationError: another process holds it, or the lock cannot be made.
    """
    try:
        lock = MirrorLock(dest)
    except OSError as error:
        raise destination_error(error, dest) from error
    with lock:
        yield lock


def _refuse_foreign_catalog(dest: Path) -> None:
    if (dest / "catalog.json").exists() and not ledger_path(dest).exists():
        raise DestinationError(
            f"{dest} holds a catalog.json that no mirror made: choose another DEST, or move it away."
        )

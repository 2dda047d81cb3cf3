"""Opening DEST for a run: lock, lease, store and ledger."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import msgspec
from msgspec.structs import replace

from stacpull.errors import DestinationError, UsageError, destination_errors
from stacpull.ledger import database, meta
from stacpull.models import OWN_DIRECTORY, BucketLocation
from stacpull.planning.names import OUTPUTS
from stacpull.store.inspection import NO_HOOKS, WaitHooks, sync_path
from stacpull.store.local_store import is_on_network, open_files, open_store
from stacpull.store.lock import mirror_lock
from stacpull.store.protocol import BucketLease, Store, store_kind
from stacpull.urls import path_of


class OpenMirror(msgspec.Struct, frozen=True):
    store: Store
    db: database.Connection
    lock: int  # the descriptor of the lock, which the store process inherits
    lease: BucketLease | None
    bucket: BucketLocation | None


@contextmanager
def open_mirror(
    work: Path, bucket: BucketLocation | None = None, hooks: WaitHooks = NO_HOOKS, *, adopt: bool = False
) -> Iterator[OpenMirror]:
    """Open DEST for writing, and lock out other runs. If the ledger has changed, copy it at the end."""
    with destination_errors(work):
        if not adopt:
            database.reject_missing_ledger(work)
        has_ledger = database.ledger_path(work).exists()
        has_lost_ledger = adopt and database.has_own_catalog(work)
        if not has_ledger and not has_lost_ledger:
            for outer in Path(os.path.realpath(work)).parents:
                if os.path.exists(database.ledger_path(outer)):  # noqa: PTH110 -- never raises
                    raise UsageError(f"{work} is inside the mirror {outer}: choose another directory.")
            if (work / "catalog.json").exists():
                text = f"{work} contains a catalog.json that stacpull did not write"
                raise DestinationError(f"{text}: choose another DEST, or move it away.")
    location = None
    if bucket is not None:
        location = replace(bucket, mirror=bucket.mirror or os.urandom(16).hex(), run=os.urandom(16).hex())
        if not (work / OWN_DIRECTORY).exists():  # try the keys before anything is created
            with open_files(work, location, hooks) as files, suppress(FileNotFoundError):
                next(files.walk(frozenset(), f"{OWN_DIRECTORY}/"), None)
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_store(work, location, hooks)))
        with destination_errors(work):
            lock = opened.enter_context(mirror_lock(work))
        lease = None
        if location is not None:
            lease = opened.enter_context(store_kind(location).lease(store))
        db = opened.enter_context(open_ledger(store))
        if location is not None and lease is not None:
            with database.ledger_errors(database.ledger_path(work)):
                meta.set_bucket(db, location.url, location.endpoint_url or "", lease.mirror, lease.epoch)
                if lease.continues:
                    meta.put(db, meta.ADOPTING, "1")
        with database.backed_up(db, work, hooks.is_stopped):
            yield OpenMirror(store, db, lock, lease, location)


@contextmanager
def open_ledger(store: Store) -> Iterator[database.Connection]:
    """Open the ledger for writing. At the end, checkpoint the WAL, so that everything is on the disk.

    If this fails, the next start does not trust files that are not recorded: the log may have lost a page.
    """
    staged = store.staged
    covered = store.sync_covers_ledger
    on_network = is_on_network(staged.fd)
    with closing(database.open_writer(staged.work, on_network=on_network, durable=not covered)) as db:
        has_succeeded = False
        try:
            if not covered:
                with destination_errors(staged.work):  # SQLite would ignore an error
                    sync_path(staged.work / OWN_DIRECTORY)
            yield db
            has_succeeded = True
        finally:
            try:
                with database.ledger_errors(database.ledger_path(staged.work)):
                    database.checkpoint_wal(db)
            except DestinationError:
                staged.remove_boot_mark()
                if has_succeeded:  # otherwise, the first error is raised
                    raise


def check_local_source(source: str, dest: Path) -> None:
    """Reject SOURCE and DEST in each other's place, and the catalog of DEST. Blocks."""
    path = path_of(source)
    with suppress(OSError):  # the reader names it
        if _is_for_reading(dest) and not _is_for_reading(path):
            raise UsageError(f"DEST is a file or a catalog ({dest}). Did you swap SOURCE and DEST?")
    if os.path.exists(database.ledger_path(dest)):  # noqa: PTH110 -- never raises
        own_names = ("", "catalog.json", *OUTPUTS.values())
        if path.resolve() in [(dest / name).resolve() for name in own_names]:
            raise UsageError(f"SOURCE is the catalog of the mirror in {dest}: choose another DEST.")


def _is_for_reading(path: Path) -> bool:
    has_catalog = (path / "catalog.json").exists()
    return path.is_file() or (has_catalog and not database.has_own_catalog(path))

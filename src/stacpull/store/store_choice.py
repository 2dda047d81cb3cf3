"""Opening the store of a mirror: a directory, or the bucket that the user named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from stacpull import entry_points
from stacpull.errors import DestinationError
from stacpull.models import BucketLocation
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import HELD_DIRECTORIES, Store, StoredFiles, StoreKind


def store_kind(location: BucketLocation) -> StoreKind:
    kind: StoreKind = entry_points.require("stacpull.stores", location.scheme, f"{location.url} as DEST")
    return kind


def open_store(
    work: Path,
    location: BucketLocation | None,
    *,
    most_held: int = HELD_DIRECTORIES,
    on_silent: Callable[[str], None] = lambda _: None,
) -> Store:
    """Open DEST for a run: a bucket with the ledger in `work`, or the directory `work` itself."""
    if location is None:
        return LocalStore(work, most_held=most_held)
    return store_kind(location).open_store(work, location, on_silent)


@contextmanager
def open_files(
    work: Path, location: BucketLocation | None, *, on_silent: Callable[[str], None] = lambda _: None
) -> Iterator[StoredFiles]:
    """Open DEST for reading."""
    try:
        files: StoredFiles = (
            DirectoryFiles(work) if location is None else store_kind(location).open_files(location, on_silent)
        )
    except PermissionError as error:
        raise DestinationError(f"No permission to read {work}.") from error
    with closing(files):
        yield files

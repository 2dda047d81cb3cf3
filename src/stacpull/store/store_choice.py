"""Opening the store of a mirror: a directory, or the bucket that the user named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from stacpull.errors import DestinationError
from stacpull.models import BucketLocation
from stacpull.schemes import SCHEMES
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import HELD_DIRECTORIES, Store, StoredFiles


def open_store(
    work: Path,
    location: BucketLocation | None,
    *,
    most_held: int = HELD_DIRECTORIES,
    publishes: bool = False,
    on_silent: Callable[[str], None] = lambda _: None,
) -> Store:
    """Open the store of a mirror for a run.

    Args:
        work: The mirror, or the directory of its ledger.
        location: Its bucket; None if it is a directory.
        most_held: The most directories to hold open at once.
        publishes: True in the process that publishes.
        on_silent: Called once, from any thread, with a sentence for the user if a bucket does not answer.

    Raises:
        DestinationError: It cannot be made or written.
    """
    if location is None:
        return LocalStore(work, most_held=most_held)
    return SCHEMES[location.scheme].open_store(work, location, publishes=publishes, on_silent=on_silent)


@contextmanager
def open_files(
    work: Path, location: BucketLocation | None, *, on_silent: Callable[[str], None] = lambda _: None
) -> Iterator[StoredFiles]:
    """Open the store of a mirror for reading.

    Args:
        work: The mirror, or the directory of its ledger.
        location: Its bucket; None if it is a directory.
        on_silent: As for `open_store`.

    Raises:
        OSError: It is not a directory, or cannot be opened.
        DestinationError: Permission is missing.
    """
    try:
        if location is None:
            files: StoredFiles = DirectoryFiles(work)
        else:
            files = SCHEMES[location.scheme].open_files(location, on_silent=on_silent)
    except PermissionError as error:
        raise DestinationError(f"No permission to read {work}.") from error
    with closing(files):
        yield files

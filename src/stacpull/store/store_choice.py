"""Opening the store of a mirror: the directory itself, or the bucket in `.stacpull/bucket.json`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import orjson
from msgspec.structs import asdict, replace

from stacpull.errors import DestinationError, UsageError
from stacpull.models import BucketLocation
from stacpull.schemes import SCHEMES
from stacpull.store.atomic import whole_file
from stacpull.store.disk_errors import destination_errors
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.local_store import LocalStore
from stacpull.store.protocol import HELD_DIRECTORIES, Store, StoredFiles
from stacpull.store.regular import read_regular

_NAME = ".stacpull/bucket.json"
_LIMIT = 1 << 16
_LOCATION = msgspec.json.Decoder(BucketLocation)


def bucket_of(work: Path) -> BucketLocation | None:
    """Return the bucket of a mirror, None if its files are in the directory itself.

    Raises:
        DestinationError: The file that names the bucket is damaged.
    """
    try:
        location: BucketLocation = _LOCATION.decode(read_regular(work / _NAME, _LIMIT))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DestinationError(f"{work / _NAME} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DestinationError(f"{work / _NAME} cannot be read: {error}.") from error
    if location.scheme not in SCHEMES or not SCHEMES[location.scheme].is_dest:
        raise DestinationError(
            f"{work / _NAME} names {location.url}, and this stacpull cannot write to {location.scheme}://. "
            "Install a newer stacpull."
        )
    return location


def identified(work: Path, location: BucketLocation) -> BucketLocation:
    """Return a bucket with the id of the mirror whose ledger is, or will be, in `work`."""
    if location.mirror:
        return location
    known = bucket_of(work)
    if known is not None and known.url == location.url:
        return replace(location, mirror=known.mirror)
    return replace(location, mirror=os.urandom(16).hex())


def remember_bucket(work: Path, location: BucketLocation) -> None:
    """Make a bucket the store of a mirror whose ledger is (or will be) in `work`.

    Raises:
        DestinationError: It cannot be written.
    """
    location = identified(work, location)
    if location == bucket_of(work):
        return
    with destination_errors(work):
        (work / _NAME).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(work / _NAME) as file:
        file.write(orjson.dumps(asdict(location)))


def refuse_bucket(work: Path, what: str) -> None:
    """Raise an error if a mirror is in a bucket, for commands that only support directories.

    Raises:
        UsageError: The files of the mirror are in a bucket.
    """
    location = bucket_of(work)
    if location is not None:
        raise UsageError(f"The files of this mirror are in {location.url}: it cannot be {what} yet.")


def open_store(
    work: Path,
    location: BucketLocation | None = None,
    *,
    most_held: int = HELD_DIRECTORIES,
    publishes: bool = False,
    worker_parts: str = "",
    on_silent: Callable[[str], None] = lambda _: None,
) -> Store:
    """Open the store of a mirror for a run.

    Args:
        work: The mirror, or the directory of its ledger.
        location: Its bucket; None for the one stored in the directory, if any.
        most_held: The most directories to hold open at once.
        publishes: True in the process that publishes.
        worker_parts: The directory of this worker among the parts (`store.worker_parts`).
        on_silent: Called once, from any thread, with a sentence for the user if a bucket does not answer.

    Raises:
        DestinationError: It cannot be made or written.
    """
    location = location or bucket_of(work)
    if location is None:
        return LocalStore(work, most_held=most_held, worker_parts=worker_parts)
    return SCHEMES[location.scheme].open_store(
        work, location, publishes=publishes, worker_parts=worker_parts, on_silent=on_silent
    )


@contextmanager
def open_files(
    work: Path, location: BucketLocation | None = None, *, on_silent: Callable[[str], None] = lambda _: None
) -> Iterator[StoredFiles]:
    """Open the store of a mirror for reading.

    Args:
        work: The mirror, or the directory of its ledger.
        location: Its bucket; None: as the directory says.
        on_silent: As for `open_store`.

    Raises:
        OSError: It is not a directory, or cannot be opened.
        DestinationError: Permission is missing, or the file that names the bucket is damaged.
    """
    location = location or bucket_of(work)
    try:
        if location is None:
            files: StoredFiles = DirectoryFiles(work)
        else:
            files = SCHEMES[location.scheme].open_files(location, on_silent=on_silent)
    except PermissionError as error:
        raise DestinationError(f"No permission to read {work}.") from error
    with closing(files):
        yield files

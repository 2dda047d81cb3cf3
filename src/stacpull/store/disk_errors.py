"""Messages for errors of the disk that concern DEST as a whole, and for names that are taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind

_AGAIN = "then run the command again"
_SENTENCES = {
    errno.ENOSPC: f"The disk of {{dest}} is full (bytes or inodes): free some space, {_AGAIN}.",
    errno.EDQUOT: f"Your quota on {{dest}} is used up: free some space, {_AGAIN}.",
    errno.EROFS: "{dest} is on a read-only file system.",
    errno.EACCES: "No permission to write {place}.",
    errno.EPERM: "No permission to write {place}.",
    errno.EIO: f"The disk of {{dest}} reports an error: check it, {_AGAIN}.",
    errno.EMFILE: "Too many open files: raise `ulimit -n` or lower --concurrency.",
    errno.ENFILE: "The system has too many open files: lower --concurrency.",
    errno.ENOENT: "{dest} cannot be written: no file can be created there, or DEST or a part was removed.",
    errno.ESTALE: "{dest} was removed while it was being written.",
}


def is_destination_failure(error: OSError) -> bool:
    """Return True if `error` concerns the whole destination, not one name in it."""
    return error.errno in _SENTENCES


def destination_error(error: OSError, dest: Path) -> DestinationError:
    """Return the error with a message for the user; `dest` is the mirror, or an output.

    If the error names a path below `dest` that exists, a permission is missing there.
    """
    # of a rename, the permission may be missing for the new directory
    named = error.filename if error.filename2 is None else Path(error.filename2).parent
    place = Path(named) if isinstance(named, str | Path) else dest
    while dest in place.parents and not os.path.lexists(place):
        place = place.parent
    if dest not in place.parents:
        place = dest
    where = f"in {place}" if os.path.isdir(place) else str(place)  # noqa: PTH112 -- it never raises
    sentence = _SENTENCES.get(error.errno or 0)
    if sentence is None:
        return DestinationError(f"{place} cannot be written: {error.strerror or error}.")
    return DestinationError(sentence.format(dest=dest, place=where))


@contextmanager
def destination_errors(dest: Path) -> Iterator[None]:
    """Raise an error of the system in the block as `destination_error`."""
    try:
        yield
    except OSError as error:
        raise destination_error(error, dest) from error


def foreign_file(path: str, why: str = "", hint: str = "") -> Failure:
    """Return the failure of an asset whose name (relative to DEST) is taken by a file of others.

    `why` says why it could not be adopted; the sentence `hint` ends the message.
    """
    reason = f" ({why})" if why else ""
    message = (
        f"{path} exists and is not part of this mirror{reason}: move it away, then run `stacpull retry`."
    )
    return Failure(FailureKind.EXISTS, f"{message} {hint}".rstrip())

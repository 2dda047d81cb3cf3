"""Messages for errors of the disk that concern DEST as a whole, and for names that are taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind

_AGAIN = "run the command again"
_SENTENCES = {
    errno.ENOSPC: "The disk of {dest} is full (bytes or inodes): free some space, then {again}.",
    errno.EDQUOT: "Your quota on {dest} is used up: free some space, then {again}.",
    errno.EROFS: "{dest} is on a read-only file system.",
    errno.EACCES: "No permission to write {place}.",
    errno.EPERM: "No permission to write {place}.",
    errno.EIO: "The disk of {dest} reports an error: check it, then {again}.",
    errno.EMFILE: "Too many open files: raise `ulimit -n` or lower --concurrency.",
    errno.ENFILE: "The system has too many open files: lower --concurrency.",
    errno.ENOENT: "{dest} cannot be written: no file can be created there, or DEST or a part was removed.",
    errno.ESTALE: "{dest} was removed while it was being written.",
}


def is_destination_failure(error: OSError) -> bool:
    """Return True if `error` concerns the whole destination, not one name in it."""
    return error.errno in _SENTENCES


def destination_error(error: OSError, dest: Path) -> DestinationError:
    """Return the error with a message for the user.

    Args:
        error: The error. If it names a path below `dest`, a permission is missing there.
        dest: The mirror, or an output.
    """
    sentence = _SENTENCES.get(
        error.errno or 0, "{named} cannot be written: " + (error.strerror or str(error)) + "."
    )
    place = _refused(error, dest)
    where = f"in {place}" if os.path.isdir(place) else str(place)  # noqa: PTH112 -- it never raises
    return DestinationError(sentence.format(dest=dest, place=where, named=place, again=_AGAIN))


@contextmanager
def destination_errors(dest: Path) -> Iterator[None]:
    """Raise an error of the system in the block as `destination_error`; `dest` is a mirror, or an output.

    Raises:
        DestinationError: It cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise destination_error(error, dest) from error


def foreign_file(path: str, why: str = "", hint: str = "") -> Failure:
    """Return the failure of an asset whose name is taken by a file that is not part of the mirror.

    Args:
        path: The name, relative to DEST.
        why: Why the file could not be adopted.
        hint: A sentence to end the message with.
    """
    reason = f" ({why})" if why else ""
    message = (
        f"{path} exists and is not part of this mirror{reason}: move it away, then run `stacpull retry`."
    )
    return Failure(FailureKind.EXISTS, f"{message} {hint}".rstrip())


def _refused(error: OSError, dest: Path) -> Path:
    """Return the file or directory that an error names, or `dest` if it names none."""
    moved_to = error.filename2  # of a rename: the permission may be missing for its directory
    named = error.filename if moved_to is None else Path(moved_to).parent
    place = Path(named) if isinstance(named, str | Path) else dest
    while place != dest and dest in place.parents:
        if os.path.lexists(place):
            return place
        place = place.parent
    return dest

"""The exceptions that stop a run, and functions for messages. Each class has its exit code.

```
StacpullError                 a defect of stacpull, or another failure
├── UsageError                a bad option, config key or label
│   ├── MissingExtraError     a library of an extra is not installed
│   └── NotAMirrorError       DEST holds no mirror
├── CredentialsError          credentials missing or refused
├── SourceError               the source cannot be read
│   └── ForgottenCursorError  the source no longer knows a page that it linked to
├── DestinationError          the destination cannot be written
├── WorkerError               a process of the run fails, or worker processes are lost again and again
└── InterruptedRunError       SIGINT or SIGTERM; the mirror can be resumed
```

Each message is one plain sentence that says what to do. An expected failure of a single asset is not an
exception: it is a `stacpull.models.Failure` value, and the run continues.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stacpull.models import OWN_DIRECTORY
from stacpull.system import INTERRUPTED

if TYPE_CHECKING:
    from stacpull.reports import MirrorReport, VerifyReport


class StacpullError(Exception):
    """Base class of all exceptions that stop a run. `exit_code` is the exit code of the command."""

    exit_code: int = 1
    report: MirrorReport | VerifyReport | None = None
    """The report of the run that was stopped, or of the check before a repair; None if none had started."""


class UsageError(StacpullError):
    """The command line, a config file or a filter is wrong."""

    exit_code = 2


class MissingExtraError(UsageError):
    """A library is not installed, because it belongs to an extra of the package."""

    def __init__(self, what: str, library: str, extra: str, otherwise: str = "") -> None:
        install = f'pip install "stacpull[{extra}] @ git+https://github.com/stacpull/stacpull"'
        extras = "extras" if "," in extra else "extra"
        super().__init__(f"{what} needs {library} ({extras} {extra}: {install}){otherwise}.")


def reject_variable(what: str, path: str) -> None:
    """Raise an error for a path like `$HOME/m`: no config file or program replaces the variable."""
    if re.match(r"\$\{?\w", path):
        raise UsageError(f"{what} is {path}: write the value of the variable, or ./{path} for this name.")


class NotAMirrorError(UsageError):
    """A command needs a mirror, but the directory is not one."""


class CredentialsError(StacpullError):
    """Credentials are missing, or the service refuses them."""

    exit_code = 3


class SourceError(StacpullError):
    """The source cannot be reached, or its answer cannot be read."""

    exit_code = 4


class ForgottenCursorError(SourceError):
    """The source no longer knows a page that it linked to. The walk may start again."""


class DestinationError(StacpullError):
    """The destination is full, read-only, in use by another process, or its disk fails."""

    exit_code = 5


class WorkerError(StacpullError):
    """A process of the run failed and cannot be replaced. Everything is saved, and can be resumed."""


class InterruptedRunError(StacpullError):
    """The run was stopped (SIGINT, SIGTERM); everything is saved and can be resumed."""

    exit_code = INTERRUPTED


@contextmanager
def tempfile_errors() -> Iterator[None]:
    """Translate an error of `tempfile` in the block."""
    try:
        yield
    except OSError as error:
        raise DestinationError(
            f"No temporary file can be made ({error.strerror}): set TMPDIR to a writable directory."
        ) from error


REPORT_BUG = "this is a bug in stacpull, please report it"
RUN_AGAIN = "run the same command again"
_DISK_ERRORS = {
    errno.ENOSPC: f"The disk of {{dest}} is full (bytes or inodes): free some space, then {RUN_AGAIN}.",
    errno.EDQUOT: f"Your quota on {{dest}} is used up: free some space, then {RUN_AGAIN}.",
    errno.EROFS: "{dest} is on a read-only file system: make it writable.",
    errno.EACCES: "No permission to write {path}: change its permissions, or {otherwise}.",
    errno.EPERM: "No permission to write {path}: change its permissions, or {otherwise}.",
    errno.EIO: f"The disk of {{dest}} reports an error: check it, then {RUN_AGAIN}.",
    errno.EMFILE: "Too many open files: raise `ulimit -n` or lower --concurrency.",
    errno.ENFILE: "The system has too many open files: lower --concurrency.",
    errno.ENOENT: "{dest} cannot be written: no file can be created there, or its directory was removed.",
    errno.ESTALE: "{dest} was removed while it was being written.",
}


def is_destination_failure(error: OSError) -> bool:
    """Return True if `error` concerns the whole destination, not one name in it."""
    return error.errno in _DISK_ERRORS


def destination_error(error: OSError, dest: Path) -> DestinationError:
    """Return the error with a message for the user; `dest` is the mirror, or an output."""
    # if a rename fails, the permission may be missing for the new directory
    named = error.filename if error.filename2 is None else Path(error.filename2).parent
    path = Path(named) if isinstance(named, str | Path) else dest
    path = path if dest in path.parents else dest
    while path != dest and not os.path.lexists(path):
        path = path.parent
    where = f"in {path}" if os.path.isdir(path) else str(path)  # noqa: PTH112 -- it never raises
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        for outer in (dest, *dest.parents):
            if os.path.lexists(outer) and not outer.is_dir():
                return DestinationError(f"{outer} is not a directory, but one is needed: use another name.")
    if error.errno == errno.EISDIR:
        return DestinationError(f"{path} is a directory, but a file is needed: use another name.")
    sentence = _DISK_ERRORS.get(error.errno or 0)
    if sentence is None:
        return DestinationError(f"{path} cannot be written: {error.strerror or error}.")
    is_denied = isinstance(error, PermissionError)  # EACCES and EPERM
    otherwise = owner_advice(dest, "choose another place") if is_denied else ""
    return DestinationError(sentence.format(dest=dest, path=where, otherwise=otherwise))


def owner_advice(work: Path, otherwise: str) -> str:
    """Return advice to run as the user who owns the mirror, or `otherwise` if there is no mirror."""
    try:
        return f"run this as the user who owns the mirror ({(work / OWN_DIRECTORY).owner()})"
    except (OSError, KeyError):  # the user has no name
        return otherwise


def translated_error(error: Exception, dest: Path) -> Exception:
    """Return an error that concerns DEST as a whole as a `DestinationError`, others unchanged."""
    if isinstance(error, OSError) and is_destination_failure(error):
        return destination_error(error, dest)
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return DestinationError(
            f"Python cannot encode the file name {error.object!a} in {error.encoding}: set PYTHONUTF8=1 "
            "for this process, then run `stacpull resume DEST`."
        )
    return error


@contextmanager
def destination_errors(dest: Path) -> Iterator[None]:
    """Raise an error of the system in the block as `destination_error`."""
    try:
        yield
    except OSError as error:
        raise destination_error(error, dest) from error


def why_unreadable(error: OSError | ValueError) -> str:
    """Return why a text file cannot be read, as the end of a sentence."""
    return getattr(error, "strerror", None) or "it is not UTF-8 text"


def cause(error: BaseException) -> BaseException:
    """Return the main error of a group: the first `StacpullError`, else the first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [cause(inner) for inner in error.exceptions]
    ours = [inner for inner in causes if isinstance(inner, StacpullError)]
    return [*ours, *causes][0]


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the main error of a group that the block raises, in place of the group."""
    try:
        yield
    except BaseExceptionGroup as errors:
        main = cause(errors)
        raise main from main.__cause__


def similar(word: str, known: Iterable[str], *, limit: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the known words that a misspelled one may stand for."""
    import difflib  # noqa: PLC0415 - needed for mistakes only

    return difflib.get_close_matches(word, list(known), n=limit, cutoff=cutoff)


def did_you_mean(name: str, known: Iterable[str], *, written: str = "{}", otherwise: str = ".") -> str:
    """Return the end of a sentence: a question with the nearest known name, or `otherwise` without one."""
    near = similar(name, known, cutoff=0.7)
    return f"; did you mean {written.format(near[0])}?" if near else otherwise


def quantity(number: int, singular: str, plural: str | None = None) -> str:
    """Write a number with its noun: 1 item, 7,674,238 files."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{number:,} {noun}"


def quantities(*counted: tuple[int, str] | tuple[int, str, str]) -> list[str]:
    """Return the `quantity` of each number that is not 0."""
    return [quantity(*one) for one in counted if one[0]]

"""The process `stacpull`: its standard streams and signals are made safe before anything else is imported.

Imports take most of the first quarter of a second. (Before this module Python itself starts up, and answers
SIGINT with a traceback and exit code 1.)
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn, TextIO

from stacpull.cli import signals
from stacpull.system import GARBAGE_AFTER, require_posix

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_MISUSED, _NOT_WRITTEN = 2, 5
"""Exit codes of `errors.UsageError` and `DestinationError`, which would have to be imported."""


def main() -> NoReturn:
    """Run the command line of this process."""
    try:
        require_posix()
    except ImportError as problem:
        sys.stderr.write(f"stacpull: {problem}\n")
        sys.exit(_MISUSED)
    _use_utf8()
    for number in signals.SIGNALS:
        signal.signal(number, signals.leave)
    output = _open_streams()
    gc.set_threshold(GARBAGE_AFTER)
    sys.modules["tornado"] = None  # type: ignore[assignment] # tenacity imports it if it can: 12 ms for nothing
    from stacpull.cli.main import execute

    try:
        code = execute()
        sys.stdout.flush()
    finally:  # the exit code stands: a signal that comes now does not change it
        for number in signals.SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if output.problem is not None and output.problem.errno != errno.EPIPE:
        sys.stderr.write(f"stacpull: Standard output cannot be written: {output.problem.strerror}.\n")
        code = code or _NOT_WRITTEN
    # The process ends at once: the interpreter would free every object first, which takes 50 ms.
    atexit._run_exitfuncs()  # noqa: SLF001 -- what sys.exit calls, too
    sys.stderr.flush()
    os._exit(code)


def _use_utf8() -> None:
    """Restart Python in UTF-8 mode where it would encode file names otherwise.

    IDs of items become names of files and may be of any language. Python uses UTF-8 by itself, also in the
    POSIX locale, unless `PYTHONUTF8=0` is set or the locale has another encoding. What is
    printed keeps the encoding of the locale.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    encoding = sys.stdout.encoding if sys.stdout is not None else "ascii"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - this very process


class _StandardStream(io.FileIO):
    """A standard stream that can always be written to.

    After the first error (the disk is full, the reader has left) the rest goes to /dev/null, so that output
    never fails in the middle of the work. The error is kept in `problem`.
    """

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write `data`, or drop it after an error."""
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = problem
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def _open_streams() -> _StandardStream:
    """Open /dev/null in place of closed standard streams; make output safe, and return standard output."""
    for descriptor in (0, 1, 2):  # in this order: open() takes the lowest free one
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    output, sys.stdout = _safe(1, sys.stdout)
    _, sys.stderr = _safe(2, sys.stderr)
    return output


def _safe(descriptor: int, stream: TextIO | None) -> tuple[_StandardStream, TextIO]:
    """Return a stream on `descriptor` with the encoding of `stream` (None: it was closed)."""
    raw = _StandardStream(descriptor, "w", closefd=False)
    return raw, io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors="backslashreplace",  # file names may hold bytes that are not text
        line_buffering=descriptor == 2 or raw.isatty(),  # noqa: PLR2004 - standard error
    )

"""The process `stacpull`: signals have their meaning before anything is imported, and until it has ended.

Imports take most of the first quarter of a second. A signal in that time ends the process with the exit code
of an interruption, and says that nothing has begun. (Before this module Python itself starts up, and answers
SIGINT with a traceback and exit code 1.)
"""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType
from typing import NoReturn

__all__ = ["begun", "main"]

_has_begun = False
_INTERRUPTED = 130
"""`errors.InterruptedRunError.exit_code`, which would have to be imported."""
_NOTHING_BEGUN = b"stacpull: interrupted before anything was begun\n"
_GARBAGE_AFTER = 100_000
"""Objects made before the cycle collector looks: imports make many, and none is garbage (50 ms of 350)."""


def main() -> NoReturn:
    """Run the command line of this process."""
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    gc.set_threshold(_GARBAGE_AFTER)
    from stacpull.cli.main import main as command

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        command()
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    finally:  # the exit code stands: nothing that comes now changes it
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def begun() -> None:
    """Have a signal that comes now, or when the command has done its work, end the process quietly."""
    global _has_begun  # noqa: PLW0603 - handlers of signals belong to the process
    _has_begun = True


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    if not _has_begun:
        os.write(2, _NOTHING_BEGUN)
    os._exit(_INTERRUPTED)

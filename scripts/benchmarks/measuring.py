"""Run a command under the yardstick (`yardstick.py`), and read its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TAIL = 200
_YARDSTICK = Path(__file__).with_name("yardstick.py")


class FailedError(Exception):
    """A tool failed; the message gives the reason."""


class Figure(NamedTuple):
    """One run of a tool, with all of its processes."""

    wall: float
    """In seconds."""
    cpu: float
    """Seconds of processor time."""
    memory: int
    """The peak, in bytes."""


def measured(
    command: Sequence[str], work: Path, patience: float, environment: Mapping[str, str] | None = None
) -> Figure:
    """Run a command in the directory `work` for at most `patience` seconds.

    Raises:
        FailedError: Its exit code is not 0, or it took too long.
    """
    result, log = work / "yardstick.json", work / "output.log"
    result.unlink(missing_ok=True)
    yardstick = [sys.executable, "-I", "-S", str(_YARDSTICK), str(result), str(patience)]
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [*yardstick, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=work,
        ) as process,
    ):
        try:
            process.wait()
        except BaseException:
            process.terminate()  # which also ends the tool
            raise
    if not result.exists():
        raise FailedError(f"could not be run: {_tail(log)}")
    taken = json.loads(result.read_text())
    if taken["code"] is None:
        raise FailedError(f"not done after {patience:.0f} s")
    if taken["code"] != 0:
        raise FailedError(f"ended with {taken['code']}: {_tail(log)}")
    return Figure(taken["wall"], taken["cpu"], taken["memory"])


def _tail(log: Path) -> str:
    """Return the end of the output of a tool on one line."""
    text = log.read_text(errors="replace")[-_TAIL:]
    return " ".join(text.split()) or "no output"

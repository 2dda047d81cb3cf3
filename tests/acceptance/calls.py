"""The system calls by which a command changes its destination, and making one of them fail or kill.

strace (man strace, "Tampering") injects an error or a signal into the n-th call of a name, restricted by `-P`
to calls that name a path or have it open. It counts by thread, so a call is known here by its name, a path or
name in its arguments, and its number among the calls of one thread that match both.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")

CHANGING = (
    "openat", "write", "pwrite64", "rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync",
    "fdatasync", "syncfs", "mkdir", "mkdirat", "ftruncate", "link", "linkat",
)  # fmt: skip
"""What changes files and directories, or brings the changes down."""


@dataclass(frozen=True)
class Call:
    """One call that changes DEST: the `number`-th (from 1) of a thread with this `name` and `match` in it."""

    name: str
    match: str
    number: int
    path: str
    """What it changes, relative to DEST."""

    def __str__(self) -> str:
        return f"{self.name} {self.number} of {self.path or '.'}"

    def under(self, what: str, log: Path, dest: Path) -> list[str]:
        """The command line of strace that injects `what` (`signal=KILL`, `error=EIO`) into it at `dest`."""
        inject = f"inject={self.name}:{what}:when={self.number}"
        match = str(dest / self.path) if self.match.startswith("/") else self.match
        return [*strace_command(log), "-P", match, "-e", f"trace={self.name}", "-e", inject]


def strace_command(log: Path) -> list[str]:
    return [str(STRACE), "-f", "-y", "-qq", "-o", str(log)]


def killing(name: str, number: int, log: Path) -> list[str]:
    """The command line of strace that kills at the `number`-th call of a name, wherever it goes."""
    return [*strace_command(log), "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"]


def failing(name: str, error: str, log: Path) -> list[str]:
    """The command line of strace that lets every call of a name fail, as containers and sandboxes do."""
    return [*strace_command(log), "-e", f"trace={name}", "-e", f"inject={name}:error={error}"]


def was_injected(log: Path) -> bool:
    text = log.read_text(errors="replace")
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def spread(calls: Sequence[Call], count: int) -> list[Call]:
    """`count` of the calls: one of each name, the rare names first, then others evenly over time."""
    by_name = {name: [call for call in calls if call.name == name] for name in {call.name for call in calls}}
    rare_first = sorted(by_name.values(), key=lambda alike: (len(alike), alike[0].name))
    step = max(1, len(calls) // max(1, count))
    chosen = [*(alike[len(alike) // 2] for alike in rare_first), *calls[step // 2 :: step]]
    return list(dict.fromkeys(chosen))[:count]

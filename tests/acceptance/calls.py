"""The system calls by which a command changes its destination, and making one of them fail or kill.

strace (man strace, "Tampering") injects an error or a signal into the n-th call of a name, restricted by `-P`
to calls that name a path or have it open. It counts by thread, so a call is known here by its name, a path or
name in its arguments, and its number among the calls of one thread that match both.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")

CHANGING = (
    "openat", "write", "pwrite64", "rename", "renameat", "renameat2", "unlink", "unlinkat", "fsync",
    "fdatasync", "syncfs", "mkdir", "mkdirat", "ftruncate", "link", "linkat",
)  # fmt: skip
"""What changes files and directories, or brings the changes down."""

_LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<arguments>.*)")
_OPEN = re.compile(r"(?:\d+|AT_FDCWD)<(?P<path>[^>]*)>")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NAMED = re.compile(r'(?:(?:\d+|AT_FDCWD)<(?P<directory>[^>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')
_BY_FD = frozenset({"write", "pwrite64", "fsync", "fdatasync", "syncfs", "ftruncate"})


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


def tracing(log: Path) -> list[str]:
    """The command line of strace that notes every changing call in `log`."""
    return [*strace_command(log), "-e", f"trace={','.join(CHANGING)}", "-e", "signal=none"]


def killing(name: str, number: int, log: Path) -> list[str]:
    """The command line of strace that kills at the `number`-th call of a name, wherever it goes."""
    return [*strace_command(log), "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}"]


def failing(name: str, error: str, log: Path) -> list[str]:
    """The command line of strace that lets every call of a name fail, as containers and sandboxes do."""
    return [*strace_command(log), "-e", f"trace={name}", "-e", f"inject={name}:error={error}"]


def was_injected(log: Path) -> bool:
    text = log.read_text(errors="replace")
    return "(INJECTED)" in text or "killed by SIGKILL" in text


def changes(log: Path, dest: Path) -> list[Call]:
    """The changing calls of a trace, in order; each pair of name and path has the numbers 1, 2, 3 once."""
    met: Counter[tuple[str, str, str]] = Counter()
    known: set[Call] = set()
    found = []
    for thread, name, arguments in _calls(log):
        for match in _matches(name, arguments):
            met[thread, name, match] += 1
        place = _place(name, arguments, dest)
        if place is None or (name == "openat" and "O_CREAT" not in arguments):
            continue
        # the most telling one: the name that is made or goes, or the file that is open
        match = str((_OPEN if name in _BY_FD else _TEXT).findall(arguments)[0])
        call = Call(name, match, met[thread, name, match], place)
        if call not in known:  # another thread has had it: strace would meet that one
            known.add(call)
            found.append(call)
    return found


def _calls(log: Path) -> Iterator[tuple[str, str, str]]:
    for line in log.read_text(errors="replace").splitlines():
        met = _LINE.match(line)
        if met is not None:
            yield met["thread"], met["name"], met["arguments"]


def _matches(name: str, arguments: str) -> set[str]:
    """What `-P` would find in these arguments: paths of descriptors, and for calls by name the names."""
    found = set(_OPEN.findall(arguments.partition(" = ")[0]))
    return found if name in _BY_FD else found | set(_TEXT.findall(arguments.partition(" = ")[0]))


def _place(name: str, arguments: str, dest: Path) -> str | None:
    """The path that a call changes, relative to `dest`; None if it is elsewhere."""
    path = Path(_OPEN.findall(arguments)[0]) if name in _BY_FD and _OPEN.search(arguments) else None
    if path is None:
        named = _NAMED.match(arguments)
        if named is None:
            return None
        path = Path(named["directory"] or "/", named["name"])
    return path.relative_to(dest).as_posix() if path.is_relative_to(dest) else None


def spread(calls: Sequence[Call], count: int) -> list[Call]:
    """`count` of the calls: one of each name, the rare names first, then others evenly over time."""
    by_name = {name: [call for call in calls if call.name == name] for name in {call.name for call in calls}}
    rare_first = sorted(by_name.values(), key=lambda alike: (len(alike), alike[0].name))
    step = max(1, len(calls) // max(1, count))
    chosen = [*(alike[len(alike) // 2] for alike in rare_first), *calls[step // 2 :: step]]
    return list(dict.fromkeys(chosen))[:count]

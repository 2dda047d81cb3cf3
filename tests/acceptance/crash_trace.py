"""What a command did to its destination, call by call with its bytes, read from a trace of strace.

With `-xx` every string is hexadecimal, so that quotes and commas mean what they are.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tests.acceptance.calls import CHANGING, Call, strace_command

_TRACED = (*CHANGING, "fstat", "newfstatat")
_MAX_LENGTH = 8_000_000
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()")
_UNFINISHED = " <unfinished ...>"
_FD = re.compile(r"(?:\d+|AT_FDCWD)<((?:\\x..)*)>(\(deleted\))?")
_RESULT = re.compile(r"\) += (-?\d+|\?)")
_INODE = re.compile(r"st_ino=(\d+)")


class Kind(Enum):
    MAKE = "makes a file, if there is none"
    EMPTY = "makes a file, or empties it"
    MAKE_DIRECTORY = "makes a directory"
    WRITE = "writes bytes at an offset, or at the end"
    RESIZE = "sets the size"
    RENAME = "gives another name"
    LINK = "gives one more name"
    REMOVE = "removes a name"
    SYNC = "brings a file or a directory down"
    SYNC_ALL = "brings everything down"
    LOOK = "tells the number of an inode"


@dataclass(frozen=True, slots=True)
class Event:
    """One call that succeeded. Paths are relative to DEST, "" is DEST itself."""

    kind: Kind
    path: str
    began: int
    """How many events had ended when it began: a sync covers those at least."""
    to: str = ""
    data: bytes = b""
    number: int | None = None
    """Offset of a write (None: at the end), size, or number of an inode."""


def recording(log: Path) -> list[str]:
    """The command line of strace that notes all of it in `log`."""
    in_full = ("-xx", "-v", "-s", str(_MAX_LENGTH))
    return [*strace_command(log), *in_full, "-e", "signal=none", "-e", f"trace={','.join(_TRACED)}"]


def events_of(log: Path, dest: Path, *, after: int = 0) -> list[Event]:
    """The events of a trace in the order of their ends; `after` so many of an earlier trace."""
    found: list[Event] = []
    for _, name, arguments, began in _finished(log, found):
        event = _event(name, arguments, str(dest), after + began)
        if event is not None:
            found.append(event)
    return found


def events_of_tree(dest: Path) -> list[Event]:
    """The events that would create the contents of `dest`, all of them durable."""
    found: list[Event] = []
    for path in sorted(dest.rglob("*")):
        name = path.relative_to(dest).as_posix()
        if path.is_dir():
            found.append(Event(Kind.MAKE_DIRECTORY, name, len(found)))
        else:
            found.append(Event(Kind.MAKE, name, len(found)))
            found.append(Event(Kind.WRITE, name, len(found), data=path.read_bytes(), number=0))
            found.append(Event(Kind.LOOK, name, len(found), number=path.stat().st_ino))
    return [*found, Event(Kind.SYNC_ALL, "", len(found))] if found else []


def changes(log: Path, dest: Path) -> list[Call]:
    """The calls that change `dest`, in order; each pair of name and path has the numbers 1, 2, 3 once."""
    met: Counter[tuple[str, str, str]] = Counter()
    found: dict[Call, None] = {}
    for thread, name, arguments, _ in _finished(log, []):
        directories, strings = _named(name, arguments.split('"'))
        met.update((thread, name, match) for match in {*directories, *strings})
        place = next(iter(_paths(name, directories, strings, str(dest))), None)
        if place is None or name not in CHANGING or (name == "openat" and "O_CREAT" not in arguments):
            continue
        # the most telling one: the name that is made or goes, or the file that is open
        match = (strings or directories)[0]
        found[Call(name, match, met[thread, name, match], place)] = None  # of several threads, the first
    return list(found)


def _finished(log: Path, found: list[Event]) -> Iterator[tuple[str, str, str, int]]:
    """Yield (thread, name, arguments with the result, how many of `found` there were at its begin)."""
    begun: dict[str, tuple[str, str, int]] = {}
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            met = _LINE.match(line)
            if met is None:
                continue
            thread, resumed, name = met.groups()
            rest = line[met.end() :].rstrip("\n")
            if resumed is not None:
                name, first, began = begun.pop(thread)
                yield thread, name, first + rest, began
            elif rest.endswith(_UNFINISHED):
                begun[thread] = (name, rest.removesuffix(_UNFINISHED), len(found))
            else:
                yield thread, name, rest, len(found)


def _event(name: str, arguments: str, dest: str, began: int) -> Event | None:
    pieces = arguments.split('"')
    result = _RESULT.search(pieces[-1])
    if result is None or result[1] in {"?", "-1"}:
        return None
    opened = _FD.findall(pieces[0])
    if any(deleted for _, deleted in opened):
        return None
    paths = _paths(name, *_named(name, pieces), dest)
    if not paths or None in paths:
        return None
    return _KINDS[name](paths, pieces, int(result[1]), began) if name in _KINDS else None


def _named(name: str, pieces: list[str]) -> tuple[list[str], list[str]]:
    """The paths of the descriptors of a call, and the paths that it names."""
    strings = [_text(piece) for piece in pieces[1::2]] if name not in {"write", "pwrite64"} else []
    opened = [path for piece in pieces[::2] for path, _ in _FD.findall(piece.partition(") =")[0])]
    return [_text(path) for path in opened], strings


def _text(encoded: str) -> str:
    return bytes.fromhex(encoded.replace("\\x", "")).decode("utf-8", "surrogateescape")


def _paths(name: str, directories: list[str], strings: list[str], dest: str) -> list[str | None]:
    """The paths a call is about, relative to DEST (None: elsewhere), in the order of its arguments."""
    if strings and strings != [""]:
        at = [*directories, *[""] * len(strings)]
        full = [
            text if text.startswith("/") else f"{base}/{text}"
            for base, text in zip(at, strings, strict=False)
        ]
    else:
        full = directories[:1]
    return [_relative(path, dest) for path in full[: 2 if name.startswith(("rename", "link")) else 1]]


def _relative(path: str, dest: str) -> str | None:
    parts: list[str] = []
    for part in path.split("/")[1:]:
        if part == "..":
            parts.pop()
        elif part:
            parts.append(part)
    clean = "/" + "/".join(parts)
    if clean == dest:
        return ""
    return clean.removeprefix(dest + "/") if clean.startswith(dest + "/") else None


def _opened(paths: list[str], pieces: list[str], _result: int, began: int) -> Event | None:
    flags = pieces[-1]
    if "O_TRUNC" in flags:
        return Event(Kind.EMPTY, paths[0], began)
    return Event(Kind.MAKE, paths[0], began) if "O_CREAT" in flags else None


def _written(paths: list[str], pieces: list[str], result: int, began: int) -> Event:
    data = bytes.fromhex(pieces[1].replace("\\x", ""))[:result]
    numbers = pieces[2].partition(")")[0].split(",")[1:]
    return Event(Kind.WRITE, paths[0], began, data=data, number=int(numbers[1]) if len(numbers) > 1 else None)


def _resized(paths: list[str], pieces: list[str], _result: int, began: int) -> Event:
    return Event(Kind.RESIZE, paths[0], began, number=int(pieces[0].partition(">, ")[2].partition(")")[0]))


def _looked(paths: list[str], pieces: list[str], _result: int, began: int) -> Event | None:
    inode = _INODE.search(pieces[-1])
    return None if inode is None else Event(Kind.LOOK, paths[0], began, number=int(inode[1]))


def _plain(kind: Kind):
    def made(paths: list[str], _pieces: list[str], _result: int, began: int) -> Event:
        return Event(kind, paths[0], began, to=paths[1] if len(paths) > 1 else "")

    return made


_KINDS = {
    "openat": _opened,
    "write": _written,
    "pwrite64": _written,
    "ftruncate": _resized,
    "fstat": _looked,
    "newfstatat": _looked,
    **dict.fromkeys(("mkdir", "mkdirat"), _plain(Kind.MAKE_DIRECTORY)),
    **dict.fromkeys(("rename", "renameat", "renameat2"), _plain(Kind.RENAME)),
    **dict.fromkeys(("link", "linkat"), _plain(Kind.LINK)),
    **dict.fromkeys(("unlink", "unlinkat"), _plain(Kind.REMOVE)),
    **dict.fromkeys(("fsync", "fdatasync"), _plain(Kind.SYNC)),
    "syncfs": _plain(Kind.SYNC_ALL),
}

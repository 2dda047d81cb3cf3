"""A small mirror struck at one system call: killed before it, or told that it failed. Then it must go on.

What is held against it: it ends as documented, nothing that lies there afterwards is wrong, and the next
start completes it to what the manifest says. After a sync that failed, nothing that waited for it is
believed.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.at_rest import AtRest, known_files
from tests.acceptance.calls import Call, changes, killing, tracing, was_injected
from tests.acceptance.small_mirror import Ended, SmallMirror
from tests.acceptance.trees import files_in

KILL = "signal=KILL"
WHAT = {"KILL": KILL, "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
"""What can befall a call, as strace injects it."""
BEGINNINGS = ("nothing", "begun", "leftovers", "adopt")
"""What a run finds: no DEST, a mirror killed before anything was planned, one killed amid its renames; all
the files, which it is to adopt."""
_OPTIONS = {"adopt": ("--adopt",)}

_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
_OF_THE_DATA = frozenset({"fsync", "syncfs"})
"""Syncs of what is mirrored; fdatasync is SQLite's own."""


@dataclass(frozen=True)
class Struck:
    """What became of it. `reached` is False if the call never came: the threads raced another way."""

    call: Call
    what: str
    reached: bool
    code: int | None
    said: str
    complaints: list[str] = field(default_factory=list)


def calls_of(mirror: SmallMirror, begin: str = "nothing") -> list[Call]:
    """The changing calls of a run that finds what `begin` says."""
    with tempfile.TemporaryDirectory(prefix="stacpull-calls-") as temporary:
        place = Path(temporary)
        _prepare(mirror, place, begin)
        log = place / "log"
        ran = mirror.run(place / "mirror", *_OPTIONS.get(begin, ()), under=tracing(log))
        if ran.code != 0:
            raise RuntimeError(f"the undisturbed run failed: {ran.err}")
        return changes(log, place / "mirror")


def _prepare(mirror: SmallMirror, place: Path, begin: str) -> None:
    """Leave at `place` what a run is to find there."""
    if begin == "begun":
        mirror.run(place / "mirror", under=killing("renameat", 1, place / "log"))
    elif begin == "leftovers":
        mirror.run(place / "mirror", under=killing("renameat", 8, place / "log"))
    elif begin == "adopt":
        mirror.run(place / "mirror")
        (place / "mirror").rename(place / "whole")
        for name in mirror.expected:
            (place / "mirror" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "whole" / name).rename(place / "mirror" / name)
        shutil.rmtree(place / "whole")


def strike(mirror: SmallMirror, call: Call, what: str, begin: str = "nothing") -> Struck:
    """Strike a new mirror at `call` (after what `begin` says), and let it go on."""
    with tempfile.TemporaryDirectory(prefix="stacpull-struck-") as temporary:
        place = Path(temporary)
        _prepare(mirror, place, begin)
        dest, log = place / "mirror", place / "log"
        options, users = _OPTIONS.get(begin, ()), _inodes(dest) if begin == "adopt" else {}
        ran = mirror.run(dest, *options, under=call.under(what, log, dest))
        if not was_injected(log):
            return Struck(call, what, reached=False, code=ran.code, said="")
        at_rest = AtRest(dest, mirror.expected, adopting=begin == "adopt")
        complaints = [*_of_the_end(what, ran), *at_rest.complaints()]
        is_lost = call.name in _OF_THE_DATA and what != KILL and begin != "adopt"  # those lay there before
        complaints += _of_going_on(mirror, dest, _unrecorded(dest) if is_lost else set(), options)
        if users.items() - _inodes(dest).items():
            complaints.append("files of the user's were removed and fetched anew")
        return Struck(
            call,
            what,
            reached=True,
            code=ran.code,
            said=ran.last_line.replace(str(dest), "DEST"),
            complaints=complaints,
        )


def _of_the_end(what: str, ran: Ended) -> Iterator[str]:
    if what == KILL:
        if ran.code not in _KILLED:
            yield f"killed, it ended with {ran.code}"
        return
    if ran.code not in {0, 5}:
        yield f"exit code {ran.code}: {ran.err[-300:]}"
    if "Traceback" in ran.err or "Exception" in ran.err:
        yield f"a traceback: {ran.err[-600:]}"
    if ran.code == 5 and not ran.last_line.startswith("stacpull: "):
        yield f"no sentence at the end: {ran.err[-300:]}"


_File = tuple[int, int]
"""Inode and time of the last write: the number alone is given again to the next file."""


def _unrecorded(dest: Path) -> set[_File]:
    """What lies there whole but is not recorded: what a failed sync leaves unproven."""
    done = known_files(dest).done
    parts = dest / ".stacpull" / "parts"
    wholes = [_file(path) for path in parts.glob("*.whole")] if parts.is_dir() else []
    placed = [_file(path) for name, path in files_in(dest).items() if _is_asset(name) and name not in done]
    return {*wholes, *placed}


def _file(path: Path) -> _File:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _inodes(dest: Path) -> dict[str, int]:
    return {name: path.stat().st_ino for name, path in files_in(dest).items()}


def _is_asset(name: str) -> bool:
    return name.startswith("bigearthnet/")


def _of_going_on(
    mirror: SmallMirror, dest: Path, unproven: set[_File], options: Sequence[str]
) -> Iterator[str]:
    ran = mirror.run(dest, *options)
    if ran.code != 0:
        yield f"it did not go on: {ran.code}, {ran.err[-600:]}"
    if wrong := mirror.damage(dest):
        yield f"after going on: {wrong}"
    believed = {_file(path) for path in files_in(dest).values()} & unproven
    if believed:
        yield f"{len(believed)} files that a failed sync left were believed"


def strike_all(
    mirror: SmallMirror,
    calls: Sequence[Call],
    what: str,
    *,
    begin: str = "nothing",
    workers: int = 2,
    say: Callable[[Struck], None] = lambda _: None,
) -> list[Struck]:
    """Strike at each of the calls, several mirrors side by side; one that was not reached is tried again."""

    def one(call: Call) -> Struck:
        struck = strike(mirror, call, what, begin)
        if not struck.reached:
            struck = strike(mirror, call, what, begin)
        say(struck)
        return struck

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, calls))

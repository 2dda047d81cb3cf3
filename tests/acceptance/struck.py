"""A small mirror struck at one system call: killed before it, or given an error. Then it must be resumable.

It must end as documented and leave nothing wrong behind, and the next start must complete it according to the
manifest. After a failed sync, nothing that waited for it is trusted.
"""

import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.calls import Call, was_injected
from tests.acceptance.crash_trace import changes, recording
from tests.acceptance.initial_states import Scene
from tests.acceptance.inspected_mirror import Before, InspectedMirror, before, known_files
from tests.acceptance.trees import digests_in, files_in
from tests.ran import Ran

import stacpull
from stacpull import StacpullError, sync

KILL = "signal=KILL"
WHAT = {"KILL": KILL, "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
"""What can happen to a call, as strace injects it."""

_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
_OF_THE_DATA = frozenset({"fsync", "syncfs"})
"""Syncs of what is mirrored; fdatasync is SQLite's own."""


@dataclass(frozen=True)
class StrikeResult:
    """How a run ended. `reached` is False if the call never came: the threads raced another way."""

    call: Call
    what: str
    reached: bool
    code: int | None
    output: str
    complaints: list[str] = field(default_factory=list)


def calls_of(scene: Scene) -> list[Call]:
    with tempfile.TemporaryDirectory(prefix="stacpull-calls-") as temporary:
        dest, log = Path(temporary, "mirror"), Path(temporary, "log")
        scene.prepare(dest)
        ran = scene.run(dest, under=recording(log))
        if ran.code != 0:
            raise RuntimeError(f"the undisturbed run failed: {ran.err}")
        return changes(log, dest)


def strike(scene: Scene, call: Call, what: str) -> StrikeResult:
    with tempfile.TemporaryDirectory(prefix="stacpull-struck-") as temporary:
        dest, log = Path(temporary, "mirror"), Path(temporary, "log")
        scene.prepare(dest)
        keeps = scene.beginning.keeps
        found, right = (before(dest), _right_files(scene, dest)) if keeps else (Before(), {})
        ran = scene.run(dest, under=call.under(what, log, dest))
        if not was_injected(log):
            return StrikeResult(call, what, reached=False, code=ran.code, output="")
        complaints = [
            *_of_the_end(what, ran),
            *InspectedMirror(dest, scene.mirror.expected, found).complaints(),
        ]
        complaints += _of_readers(dest)
        is_lost = call.name in _OF_THE_DATA and what != KILL and not scene.beginning.proven
        unproven = _unrecorded(dest) if is_lost else set()
        complaints += scene.resume(dest)
        if {_file(path) for path in files_in(dest).values()} & unproven:
            complaints.append("files that a failed sync left were believed")
        if right.items() - _inodes(dest).items():
            complaints.append("files that were right were removed and fetched anew")
        return StrikeResult(
            call,
            what,
            reached=True,
            code=ran.code,
            output=(ran.sentences or [""])[-1].replace(str(dest), "DEST"),
            complaints=complaints,
        )


def _of_the_end(what: str, ran: Ran) -> Iterator[str]:
    if what == KILL and ran.code in _KILLED:
        return
    if what == KILL and ran.code != 5:  # 5: the store process was killed, and the other one reports it
        yield f"killed, it ended with {ran.code}"
    if ran.code not in {0, 5}:
        yield f"exit code {ran.code}: {ran.err[-300:]}"
    if "Traceback" in ran.err or "Exception" in ran.err:
        yield f"a traceback: {ran.err[-600:]}"
    if ran.code == 5 and not ran.err.strip().rpartition("\n")[2].startswith("stacpull: "):
        yield f"no sentence at the end: {ran.err[-300:]}"


def _of_readers(dest: Path) -> Iterator[str]:
    """Readers of a struck mirror get a report, or the reason why there is none; a copy is read."""
    copy = dest.with_name("copy")
    if dest.exists():
        shutil.copytree(dest, copy)
    for name, look in _READERS.items():
        try:
            look(copy)
        except StacpullError:
            continue
        except Exception:  # noqa: BLE001 -- that is what is looked for
            yield f"{name} broke: {traceback.format_exc(limit=-2)}"


_READERS: dict[str, Callable[[Path], object]] = {
    "status": stacpull.status,
    "failures": lambda dest: list(stacpull.failures(dest)),
    "verify": lambda dest: sync.verify(dest, quick=True),
}

_File = tuple[int, int]
"""Inode and time of the last write: the number alone is given again to the next file."""


def _unrecorded(dest: Path) -> set[_File]:
    """Complete files that are not recorded: a failed sync leaves them unproven."""
    done = known_files(dest).done
    parts = dest / ".stacpull" / "parts"
    wholes = [_file(path) for path in parts.glob("*.whole")] if parts.is_dir() else []
    assets = {name: path for name, path in files_in(dest).items() if name.startswith("bigearthnet/")}
    return {*wholes, *(_file(path) for name, path in assets.items() if name not in done)}


def _file(path: Path) -> _File:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _inodes(dest: Path) -> dict[str, int]:
    return {name: path.stat().st_ino for name, path in files_in(dest).items()}


def _right_files(scene: Scene, dest: Path) -> dict[str, int]:
    """The inodes of the assets that are as they should be."""
    expected, digests = scene.mirror.expected, digests_in(dest)
    inodes = _inodes(dest)
    return {
        name: inodes[name]
        for name in expected.keys() & digests.keys()
        if digests[name] == expected[name].sha256
    }


def strike_all(
    scene: Scene,
    calls: Sequence[Call],
    what: str,
    *,
    workers: int = 2,
    say: Callable[[StrikeResult], None] = lambda _: None,
) -> list[StrikeResult]:
    """Strike at each of the calls, several mirrors side by side; one that was not reached is tried again."""

    def strike_twice(call: Call) -> StrikeResult:
        result = strike(scene, call, what)
        if not result.reached:
            result = strike(scene, call, what)
        say(result)
        return result

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(strike_twice, calls))

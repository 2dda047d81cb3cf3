"""The check of `verify`: compare each file in DEST with the ledger.

The walking thread owns the ledger's connection, the others only read files. Memory holds a few hundred paths
and one bit per row. A file without a recorded digest must have its size, or else not be empty.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

from stacpull.digests import recorded
from stacpull.events import Checked, Damage, DamageKind, Event, Listener
from stacpull.ledger import pruning, views
from stacpull.ledger.database import Connection
from stacpull.ledger.views import Expected
from stacpull.store.protocol import FileState, StoredFiles
from stacpull.store.staging import PARTS, is_part_name
from stacpull.system import available_processors
from stacpull.threads import StoppableThread

T = TypeVar("T")
_OWN = frozenset({".stacpull"})
_UNIT = 256
"""Files per unit of work of a thread, and the most events that wait for the listener."""
_THREADS = min(16, 2 * available_processors())
"""Two per core, because threads wait for the disk or network file system."""
_NOTHING = "nothing"
_TICK = 0.25
"""Seconds between two progress events."""


def judge(expected: Expected, state: FileState) -> tuple[DamageKind, str] | None:
    """Return what is wrong. An empty file of unknown size is short, unless its digest matches."""
    size, is_same = expected.size, None
    if None not in (expected.digest, state.digest):
        is_same = expected.digest == state.digest
    if is_same and state.obstacle is None:
        return None
    if state.obstacle is not None:
        return "obstructed" if state.readable else "unreadable", state.obstacle
    if state.size is None:
        return "missing", _NOTHING
    if state.size < (1 if size is None else size):
        return "short", _described(state.size, None)
    if is_same is False or (size is not None and state.size > size):
        return "altered", _described(state.size, state.digest)
    return None


def _described(size: int | None, digest: bytes | None) -> str:
    parts = [] if size is None else [f"{size} bytes"]
    if digest is not None:
        parts.append(f"{recorded(digest).algorithm} {digest.hex()}")
    return ", ".join(parts) or "a file"


class MirrorCheck(StoppableThread):
    """Create it on the event loop: `listener` is called there, while the thread of `check` waits."""

    def __init__(self, listener: Listener | None, stop: asyncio.Event, *, quick: bool) -> None:
        super().__init__(stop)
        self.files = self.bytes = self.without_digest = self.leftovers = 0
        self.damaged: Counter[DamageKind] = Counter()
        self.assets = array("q")  # rows of damaged assets, 8 bytes each
        self.items = array("q")  # rows of items with damaged JSON
        self.catalogs = 0
        self.complete = False
        self.quick = quick
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Event] = []
        self._totals = (0, 0)
        self._started = time.monotonic()
        self._reported_at = 0.0

    @property
    def total(self) -> int:
        """The number of damaged files; unknown files do not count."""
        return self.damaged.total() - self.damaged["unknown"]

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self._started, 3)

    def check(self, files: StoredFiles, db: Connection) -> None:
        """Check all files. `complete` remains False if it was stopped."""
        self._totals = views.expected_totals(db)
        wanted = views.expected_files(db)
        units = iter(lambda: list(islice(wanted, _UNIT)), [])
        for looked in _in_threads((partial(self._look, files, unit) for unit in units), self.is_stopped):
            for expected, state in looked:
                self.files += state.size is not None
                self.bytes += state.size or 0
                self.without_digest += state.size is not None and state.digest is None
                self._judge(db, expected, state)
            self._report_progress()
        self._find_unknown(files, db)
        if not self.is_stopped():
            self._check_parts(files)
        self.complete = not self.is_stopped()
        self._report_progress(now=True)

    def _find_unknown(self, files: StoredFiles, db: Connection) -> None:
        leaving = set(pruning.removals(db))
        for batch in files.walk(_OWN):
            if self.is_stopped():
                break
            known = views.known_paths(db, [one.path for one in batch])
            for entry in batch:
                if entry.path in known:
                    continue
                if entry.is_file and entry.path in leaving:
                    self.leftovers += 1
                else:
                    obstacle = None if entry.is_file else files.state_of(entry.path, algorithm=None).obstacle
                    self._unknown(entry.path, "a file" if entry.is_file else obstacle or _NOTHING)
            self._report_progress()

    def _look(self, files: StoredFiles, unit: Iterable[Expected]) -> list[tuple[Expected, FileState]]:
        states: list[tuple[Expected, FileState]] = []
        for expected in unit:
            algorithm = None
            if expected.digest is not None and not self.quick:
                algorithm = recorded(expected.digest).algorithm
            state = files.state_of(expected.path, algorithm=algorithm, is_stopped=self.is_stopped)
            if self.is_stopped():  # a long file may have been read in part
                break
            states.append((expected, state))
        return states

    def _check_parts(self, files: StoredFiles) -> None:
        try:
            names = files.names(PARTS)
        except OSError:
            return
        for path in (f"{PARTS}/{name}" for name in names):
            if is_part_name(path) and files.state_of(path, algorithm=None).size is not None:
                self.leftovers += 1
            else:
                self._unknown(path, "a file")

    def _judge(self, db: Connection, expected: Expected, state: FileState) -> None:
        fault = judge(expected, state)
        if fault is None:
            return
        names = {}
        if expected.kind == "asset":
            self.assets.append(expected.row)
            _, item, key = views.owner(db, expected.row)
            names = {"collection": item.collection, "item": item.item, "key": key}
        elif expected.kind == "document":
            self.items.append(expected.row)
            (record,) = views.item_records(db, [expected.row])
            names = {"collection": record.id.collection, "item": record.id.item, "key": ""}
        else:
            self.catalogs += 1
        what, found = fault
        self._report(Damage(_as_text(expected.path), what, _described(*expected[3:5]), found, **names))

    def _unknown(self, path: str, found: str) -> None:
        self._report(Damage(_as_text(path), "unknown", _NOTHING, found))

    # --- events -------------------------------------------------------------------------------------------

    def _report(self, damage: Damage) -> None:
        self.damaged[damage.what] += 1
        self._waiting.append(damage)
        if len(self._waiting) >= _UNIT:
            self._flush()

    def _report_progress(self, *, now: bool = False) -> None:
        seconds = self.seconds
        if now or seconds - self._reported_at >= _TICK:
            self._reported_at = seconds
            files, size = self._totals
            files = max(files, self.files)
            self._waiting.append(Checked(self.files, self.bytes, self.total, seconds, files, size))
            self._flush()

    def _flush(self) -> None:
        events, self._waiting = self._waiting, []

        async def deliver(listener: Listener) -> None:
            for event in events:
                listener(event)

        if self._listener is not None:
            asyncio.run_coroutine_threadsafe(deliver(self._listener), self._loop).result()


def _in_threads(work: Iterable[Callable[[], T]], is_stopped: Callable[[], bool]) -> Iterator[T]:
    """Run the work on threads, and yield the results in order. Work is taken as threads become free."""
    threads = ThreadPoolExecutor(_THREADS, "stacpull-files")
    under_way: deque[Future[T]] = deque()
    try:
        for one in work:
            if is_stopped():
                break
            under_way.append(threads.submit(one))
            if len(under_way) > 2 * _THREADS:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)


def _as_text(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

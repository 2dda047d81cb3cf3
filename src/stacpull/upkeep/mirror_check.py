"""The check of `verify`: compare each file in DEST with the ledger.

    walk of DEST ─▶ ledger: what is it? ─▶ threads: read and hash ─▶ damage
    ledger: rows without a file ───────────────────────────────────▶ damage

The walk visits the tree once, in the order of its directories, and looks up each path in the ledger. This
finds files that the ledger does not know; the rows without a file remain at the end. The walking thread owns
the ledger's connection; the other threads only read files. Memory holds a few hundred paths and one bit per
row.

A file is correct if its digest is the recorded one. Without a recorded digest, its size must match; if no
size is recorded either, the file must not be empty. Files without a digest are counted (`without_digest`).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec

from stacpull.digests import recorded
from stacpull.events import Checked, Damage, DamageKind
from stacpull.ledger.expected import Expectations, Expected
from stacpull.store.part_files import is_part_name
from stacpull.store.protocol import Entry, FileState, StoredFiles
from stacpull.store.staging import PARTS
from stacpull.system import available_processors
from stacpull.upkeep.reporting import Reporter

T = TypeVar("T")
OWN = frozenset({".stacpull"})
_UNIT = 256
"""Files per unit of work of a thread."""
_THREADS = min(16, 2 * available_processors())
"""Two per core, because threads wait for the disk or network file system."""
_NOTHING = "nothing"


class FileDamage(NamedTuple):
    """What is wrong with one file."""

    what: DamageKind
    expected: str
    found: str


class Findings(msgspec.Struct):
    """What an inspection has found so far."""

    files: int = 0
    bytes: int = 0
    without_digest: int = 0
    leftovers: int = 0
    damaged: Counter[DamageKind] = msgspec.field(default_factory=Counter)
    complete: bool = False

    @property
    def total(self) -> int:
        """The number of damaged files; unknown files do not count."""
        return self.damaged.total() - self.damaged["unknown"]


def judge(expected: Expected, state: FileState) -> FileDamage | None:
    """Return what is wrong with a file, None if nothing or if the ledger does not check it.

    The digest of `state` has the algorithm of the expected one; None if the file was not read. An empty file
    of unknown size is short, unless its digest matches.
    """
    size, is_same = expected.size, None
    if None not in (expected.digest, state.digest):
        is_same = expected.digest == state.digest
    what: DamageKind
    if not expected.checked or (is_same and state.obstacle is None):
        return None
    if state.obstacle is not None:
        what, found = "obstructed" if state.readable else "unreadable", state.obstacle
    elif state.size is None:
        what, found = "missing", _NOTHING
    elif state.size < (1 if size is None else size):
        what, found = "short", described(state.size, None)
    elif is_same is False or (size is not None and state.size > size):
        what, found = "altered", described(state.size, state.digest)
    else:
        return None
    return FileDamage(what, described(size, expected.digest), found)


def described(size: int | None, digest: bytes | None) -> str:
    """Describe the size and digest of a file in a message."""
    parts = [] if size is None else [f"{size} bytes"]
    if digest is not None:
        parts.append(f"{recorded(digest).algorithm} {digest.hex()}")
    return ", ".join(parts) or "a file"


class Inspection:
    """One inspection of a mirror, on the thread that owns the ledger's connection.

    Args:
        files: The files of the mirror.
        expectations: What its ledger expects.
        reporter: Receives the progress, and stops the inspection.
        quick: Check only sizes, and read no file.
        on_damage: Called with each damage and the expected file (None if the ledger does not know the file).
    """

    def __init__(
        self,
        files: StoredFiles,
        expectations: Expectations,
        reporter: Reporter,
        *,
        quick: bool,
        on_damage: Callable[[Damage, Expected | None], None],
    ) -> None:
        self.findings = Findings()
        self._files = files
        self._expectations = expectations
        self._reporter = reporter
        self._is_stopped = reporter.is_stopped
        self._quick = quick
        self._on_damage = on_damage
        self._totals = expectations.totals

    def run(self) -> Findings:
        """Check all files. `complete` of the findings is False if the inspection was stopped.

        Raises:
            OSError: DEST itself cannot be read.
            sqlite3.DatabaseError: The ledger is damaged.
        """
        self._check_existing()
        if not self._is_stopped():
            self._check_missing()
            self._check_parts()
        self.findings.complete = not self._is_stopped()
        self._reporter.report_progress(self._checked, now=True)
        return self.findings

    def _check_existing(self) -> None:
        known = self._known(self._files.walk(OWN))
        units = iter(lambda: list(islice(known, _UNIT)), [])
        for looked in in_threads((partial(self._look, unit) for unit in units), self._is_stopped):
            self._take(looked)

    def _known(self, entries: Iterator[Sequence[Entry]]) -> Iterator[Expected]:
        """Yield what the ledger expects of the entries, and report those that it does not know."""
        for batch in entries:
            known = self._expectations.of([entry.path for entry in batch])
            for entry, expected in zip(batch, known, strict=True):
                if expected is None and entry.is_file and self._expectations.is_leaving(entry.path):
                    self.findings.leftovers += 1
                elif expected is None:
                    state = self._files.state_of(entry.path, algorithm=None)
                    found = "a file" if entry.is_file else state.obstacle or _NOTHING
                    self._damage(entry.path, FileDamage("unknown", _NOTHING, found), None)
                else:
                    yield expected

    def _look(self, unit: Sequence[Expected]) -> list[tuple[Expected, FileState]]:
        """Look at a unit of files (on a thread)."""
        states: list[tuple[Expected, FileState]] = []
        for expected in unit:
            state = self._state_of(expected)
            if self._is_stopped():  # a long file may have been read in part
                break
            states.append((expected, state))
        return states

    def _state_of(self, expected: Expected) -> FileState:
        """Look at a file, and hash it with the algorithm of the recorded digest."""
        if expected.digest is None or not expected.checked or self._quick:
            return self._files.state_of(expected.path, algorithm=None)
        algorithm, stopped = recorded(expected.digest).algorithm, self._is_stopped
        return self._files.state_of(expected.path, algorithm=algorithm, is_stopped=stopped)

    def _take(self, unit: Sequence[tuple[Expected, FileState]]) -> None:
        for expected, state in unit:
            self.findings.files += 1
            self.findings.bytes += state.size or 0
            by_size = state.size is not None and state.digest is None
            self.findings.without_digest += expected.checked and by_size
            fault = judge(expected, state)
            if fault is not None:
                self._damage(expected.path, fault, expected)
        self._reporter.report_progress(self._checked)

    def _check_missing(self) -> None:
        for expected in self._expectations.missing_files():
            fault = judge(expected, self._look_for(expected.path))
            if fault is not None:
                self._damage(expected.path, fault, expected)
            if self._is_stopped():
                return
            self._reporter.report_progress(self._checked)

    def _look_for(self, path: str) -> FileState:
        """Return the obstacle, if any, at the path of a file that the walk did not find."""
        state = self._files.state_of(path, algorithm=None)
        return state if state.obstacle is not None else FileState()

    def _check_parts(self) -> None:
        """Count unfinished downloads, which the next run resumes or removes, and report other files."""
        try:
            names = self._files.names(PARTS)
        except OSError:
            return
        for path in (f"{PARTS}/{name}" for name in names):
            if is_part_name(path) and self._files.state_of(path, algorithm=None).size is not None:
                self.findings.leftovers += 1
            else:
                self._damage(path, FileDamage("unknown", _NOTHING, "a file"), None)

    def _damage(self, path: str, fault: FileDamage, expected: Expected | None) -> None:
        self.findings.damaged[fault.what] += 1
        owner = self._expectations.owner_of(expected) if expected is not None else None
        item, key = owner if owner is not None else (None, None)
        self._on_damage(
            Damage(
                path=_as_text(path),
                what=fault.what,
                expected=fault.expected,
                found=fault.found,
                collection=item.collection if item is not None else None,
                item=item.item if item is not None else None,
                key=key,
            ),
            expected,
        )

    def _checked(self, seconds: float) -> Checked:
        files, size = self._totals
        found = self.findings
        return Checked(found.files, found.bytes, found.total, seconds, max(files, found.files), size)


def in_threads(work: Iterable[Callable[[], T]], is_stopped: Callable[[], bool]) -> Iterator[T]:
    """Run the work on threads, and yield the results in order.

    Args:
        work: Functions to call, taken as threads become free.
        is_stopped: If it returns True, no more work is taken.
    """
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
    """Return a printable path; bytes that are not UTF-8 are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

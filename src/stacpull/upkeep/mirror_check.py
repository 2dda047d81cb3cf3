"""The check of `verify`: the files in DEST are compared with what the ledger expects, one by one.

    walk of DEST ─▶ ledger: what is it? ─▶ threads: read and hash ─▶ damage
    ledger: what was never met? ───────────────────────────────────▶ damage

The tree is walked once, in the order of its directories, and each path is looked up in the ledger. Files that
the ledger does not know are found on the way; rows that no file was found for are left over at the end. The
thread that walks owns the ledger's connection; others only read files. Whatever the mirror holds, memory
holds a few hundred paths and one bit per row.

A file is as it should be if its SHA-256 is the recorded one. Where none was recorded its size must do, and
for JSON that it is there; these are counted as unproven.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

from stacpull.digests import recorded
from stacpull.events import Checked, Damage, DamageKind
from stacpull.ledger.expected import Expectations, Expected, FileKind
from stacpull.store.part_files import is_part_name
from stacpull.store.protocol import Entry, Look, StoredFiles
from stacpull.store.staging import PARTS
from stacpull.system import available_processors
from stacpull.upkeep.reporting import Reporter

T = TypeVar("T")
OWN = frozenset({".stacpull"})
_UNIT = 256
"""Files that a thread is given at once."""
_THREADS = min(16, 2 * available_processors())
"""Two per core, since a disk (or a network file system) makes them wait."""
_NOTHING = "nothing"


class Fault(NamedTuple):
    """What is wrong with one file."""

    what: DamageKind
    expected: str
    found: str


@dataclass(slots=True)
class Findings:
    """What an inspection has found so far."""

    files: int = 0
    bytes: int = 0
    unproven: int = 0
    leftovers: int = 0
    damaged: Counter[DamageKind] = field(default_factory=Counter)
    complete: bool = False

    @property
    def total(self) -> int:
        """How many files of the mirror are not as they should be."""
        return self.damaged.total() - self.damaged["unknown"]


def judge(expected: Expected, look: Look) -> Fault | None:
    """Return what is wrong with a file that was looked at, None if nothing (or if it may be as it likes)."""
    what = _wrong(expected, look) if expected.checked else None
    if what is None:
        return None
    found = look.obstacle or described(look.size, look.sha256 if what == "altered" else None)
    return Fault(what, described(expected.size, expected.sha256), _NOTHING if what == "missing" else found)


def _wrong(expected: Expected, look: Look) -> DamageKind | None:
    if look.obstacle is not None:
        return "obstructed" if look.readable else "unreadable"
    if look.size is None:
        return "missing"
    if expected.size is not None and look.size != expected.size:
        return "short" if look.size < expected.size else "altered"
    is_other = None not in (look.sha256, expected.sha256) and look.sha256 != expected.sha256
    is_void = expected.kind is not FileKind.ASSET and look.size == 0
    return "altered" if is_other or is_void else None


def described(size: int | None, sha256: bytes | None) -> str:
    """Say what a file is, or should be, for people."""
    parts = [] if size is None else [f"{size} bytes"]
    if sha256 is not None:
        parts.append(f"{recorded(sha256).algorithm} {sha256.hex()}")
    return ", ".join(parts) or "a file"


class Inspection:
    """One inspection of a mirror, on the thread that owns the ledger's connection.

    Args:
        files: Of the mirror.
        expectations: what its ledger expects.
        reporter: Gets the progress. If it is stopped, the inspection ends as it stands.
        quick: True to look at sizes only, and read nothing.
        on_damage: Called with each damage, and the file it concerns (None if the ledger does not know it).
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
        """Inspect; `complete` of what is returned says if it came to its end.

        Raises:
            OSError: DEST itself cannot be read.
            sqlite3.DatabaseError: the ledger is damaged.
        """
        self._files_that_are_there()
        if not self._is_stopped():
            self._files_that_are_not()
            self._parts()
        self.findings.complete = not self._is_stopped()
        self._reporter.tell_progress(self._checked, now=True)
        return self.findings

    def _files_that_are_there(self) -> None:
        known = self._known(self._files.walk(OWN))
        units = iter(lambda: list(islice(known, _UNIT)), [])
        for looked in in_threads((partial(self._look, unit) for unit in units), self._is_stopped):
            self._take(looked)

    def _known(self, entries: Iterator[Sequence[Entry]]) -> Iterator[Expected]:
        """Yield what is known of the entries, and report those that the ledger does not know."""
        for stretch in entries:
            known = self._expectations.of([entry.path for entry in stretch])
            for entry, expected in zip(stretch, known, strict=True):
                if expected is None and entry.is_file and self._expectations.is_leaving(entry.path):
                    self.findings.leftovers += 1
                elif expected is None:
                    found = "a file" if entry.is_file else self._files.obstacle(entry.path) or _NOTHING
                    self._damage(entry.path, Fault("unknown", _NOTHING, found), None)
                else:
                    yield expected

    def _look(self, unit: Sequence[Expected]) -> list[tuple[Expected, Look]]:
        """Look at some files (on a thread)."""
        looks = []
        for expected in unit:
            if self._is_stopped():
                break
            looks.append((expected, self._look_at(expected)))
        return looks

    def _look_at(self, expected: Expected) -> Look:
        """Look at a file, and compute its digest by the algorithm of the one that was recorded."""
        if expected.sha256 is None or not expected.checked or self._quick:
            return self._files.look_at(expected.path, hashed=False)
        algorithm, stopped = recorded(expected.sha256).algorithm, self._is_stopped
        return self._files.look_at(expected.path, hashed=True, algorithm=algorithm, is_stopped=stopped)

    def _take(self, unit: Sequence[tuple[Expected, Look]]) -> None:
        for expected, look in unit:
            self.findings.files += 1
            self.findings.bytes += look.size or 0
            self.findings.unproven += expected.checked and look.sha256 is None
            fault = judge(expected, look)
            if fault is not None:
                self._damage(expected.path, fault, expected)
        self._reporter.tell_progress(self._checked)

    def _files_that_are_not(self) -> None:
        for expected in self._expectations.not_met():
            fault = judge(expected, self._look_for(expected.path))
            if fault is not None:
                self._damage(expected.path, fault, expected)
            if self._is_stopped():
                return
            self._reporter.tell_progress(self._checked)

    def _look_for(self, path: str) -> Look:
        """Return what is in the way of a file that the walk did not meet; mostly nothing is."""
        in_the_way = self._files.obstacle(path)
        if in_the_way is not None:
            return Look(obstacle=in_the_way)
        look = self._files.look_at(path, hashed=False)
        return look if look.obstacle is not None else Look()

    def _parts(self) -> None:
        """Check unfinished downloads: the next run resumes or removes them."""
        try:
            names = self._files.names(PARTS)
        except OSError:
            return
        for path in (f"{PARTS}/{name}" for name in names):
            if is_part_name(path) and self._files.look_at(path, hashed=False).size is not None:
                self.findings.leftovers += 1
            else:
                self._damage(path, Fault("unknown", _NOTHING, "a file"), None)

    def _damage(self, path: str, fault: Fault, expected: Expected | None) -> None:
        self.findings.damaged[fault.what] += 1
        whose = self._expectations.whose(expected) if expected is not None else None
        item, key = whose if whose is not None else (None, None)
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
    """Have threads do the work, and yield what comes of it in its order.

    Args:
        work: Functions to call. They are taken as threads become free.
        is_stopped: Once it returns True, no more of the work is taken.
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
    """Return a path that can be printed: names that are not text are escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""Putting in order what a kill left, before a run continues. Runs where the ledger is owned, before all else.

                                    same boot        after a reboot          after a failed sync
    reserved, file in place         recorded         if its sha256 agrees    removed, pending again
    reserved, another inode there   if its sha256 agrees: a copied mirror    pending again
    whole part                      published        if its sha256 agrees    removed, pending again
    unfinished part, same object    continued        removed                 removed
    anything else among the parts   removed          removed                 removed

"In place" means under its final name with the inode and size of the reservation. After a reboot, bytes that
were never synced may be missing although the size is right; a sha256 that was recorded or stated proves them.
After a failed sync it does not: it would be computed from the page cache, where pages that never reached the
disk may stand, marked clean. That a sync failed is known from the ledger, or, where that could not be written
any more, from the mark that was taken away (`Store.withdraw_trust`).

Nothing is given up before all of it was looked at: a stop in between leaves everything to the next start.

A file that is adopted (`--adopt`) is the user's until it is recorded: its reservation has no inode, so that
it is taken only if its sha256 agrees, and never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import msgspec

from stacpull.digests import recorded
from stacpull.errors import InterruptedRunError
from stacpull.ledger import jobs, outcomes
from stacpull.ledger.database import Connection, checkpoint
from stacpull.ledger.meta import boot_of_last_run, is_tainted, set_boot
from stacpull.ledger.outcomes import Arrival
from stacpull.models import Checksum, IncomingPart, Job, Received, Validator, incoming_part
from stacpull.store.protocol import Look, PartEntry, Store
from stacpull.store.wholes import WholeName, parse_whole
from stacpull.system import is_linux

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LEFT = (".whole", ".item.json", ".tmp", ".ndjson")
"""How parts end that are published at once or never."""


class Leftovers(msgspec.Struct, frozen=True):
    """What is to be published first: whole parts, and files in place that wait for their record."""

    wholes: Sequence[IncomingPart]
    in_place: Sequence[Arrival]


def boot_id() -> str:
    """Return the name of this boot of the machine ("" where the system gives none)."""
    if not is_linux():
        return ""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def recover(
    db: Connection,
    store: Store,
    *,
    checksum: str | None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> Leftovers:
    """Put DEST in order and return what is ready to be published.

    Args:
        db: the ledger.
        store: The mirror.
        checksum: algorithm of the digest to compute of whole parts, which may be long ones; None: none.
        is_stopped: asked while files are read.

    Raises:
        InterruptedRunError: it was stopped; what was not looked at is as it was.
    """
    hashed = _FileHasher(is_stopped)
    store.collect_parts()
    belief = _belief(db, store)
    if belief.tainted:
        checkpoint(db)  # the log may have holes on the disk that reading it now does not show
    in_place, lost = [], []
    parts = store.list_parts()
    names = [parse_whole(entry.name) for entry in parts]
    staged = {(name.row, name.generation) for name in names if name is not None}
    for arrival in jobs.reservations(db):
        is_staged = (arrival.row, arrival.generation) in staged
        if _is_in_place(store, arrival, belief, hashed, checksum, is_staged=is_staged):
            in_place.append(arrival)
        else:
            lost.append(arrival.row)
    wholes: list[IncomingPart] = []
    if not belief.tainted:
        rows = {a.row for a in in_place}
        wholes = _wholes(db, store, parts, rows, hashed, trusted=belief.trusted, checksum=checksum)
    outcomes.release(db, lost)
    kept = {whole.part for whole in wholes}
    _sweep(db, store, parts, kept, trusted=belief.trusted)
    return Leftovers(wholes, in_place)


def accept(db: Connection, store: Store) -> None:
    """Note that what is there is in order: what this boot leaves from here on can be believed.

    The mark goes first. A kill in between leaves the ledger's word as it was, which is the stricter one.
    """
    boot = boot_id()
    store.trust(boot)
    set_boot(db, boot)


class _Belief(msgspec.Struct, frozen=True):
    """How far what the last run left is believed; neither: as far as a sha256 proves it."""

    trusted: bool
    """Written under this boot, and every sync went well."""
    tainted: bool
    """A sync failed."""


def _belief(db: Connection, store: Store) -> _Belief:
    boot, last = boot_id(), boot_of_last_run(db)
    withdrawn = last == boot != store.trusted_boot()
    tainted = is_tainted(db) or withdrawn
    return _Belief(trusted=boot != "" and last == boot and not tainted, tainted=tainted)


class _FileHasher:
    """Computes digests of files, until it is stopped."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self._is_stopped = is_stopped

    def __call__(self, look_at: Callable[..., Look], path: str, algorithm: str) -> bytes | None:
        """Return the digest of a regular file or part, None if it cannot be read.

        Args:
            look_at: `Store.look_at` or `Store.look_at_part`.
            path: The file, or the name of the part.
            algorithm: Of the digest.

        Raises:
            InterruptedRunError: It was stopped, maybe in the middle of the file.
        """
        found = look_at(path, hashed=True, algorithm=algorithm, is_stopped=self._is_stopped)
        if self._is_stopped():
            raise InterruptedRunError("Interrupted.")
        return found.sha256


def _is_in_place(
    store: Store,
    arrival: Arrival,
    belief: _Belief,
    hashed: _FileHasher,
    checksum: str | None,
    *,
    is_staged: bool,
) -> bool:
    """Return True if the reserved file is in place and can be believed; otherwise remove it if it is ours.

    An object without a digest was copied by the service of DEST, and not verified any more. While the part
    is still staged (`is_staged`), another file of the same content in its place is another program's.
    """
    found = store.identity(arrival.directory, arrival.name)
    if found is None or found[1] != arrival.size:
        return False
    is_ours = found[0] == arrival.inode
    is_unverified = arrival.sha256 is None and checksum is not None and not store.is_local
    if is_ours and belief.trusted and not is_unverified:
        return True
    may_be_ours = is_ours or not is_staged
    if may_be_ours and not belief.tainted and _is_proven_here(store, arrival, hashed):
        return True
    if is_ours:
        store.remove(arrival.directory, arrival.name)
    return False


def _is_proven_here(store: Store, arrival: Arrival, hashed: _FileHasher) -> bool:
    """Return True if the file has that content; it is synced then: one that was copied may not be yet."""
    if arrival.sha256 is None:
        return False
    algorithm = recorded(arrival.sha256).algorithm
    if hashed(store.look_at, arrival.path, algorithm) != arrival.sha256:
        return False
    try:
        store.sync_file(arrival.path)
    except OSError:
        return False
    return True


def _wholes(
    db: Connection,
    store: Store,
    parts: Sequence[PartEntry],
    in_place: set[int],
    hashed: _FileHasher,
    *,
    trusted: bool,
    checksum: str | None,
) -> list[IncomingPart]:
    proven = {} if trusted else dict(jobs.reserved_checksums(db))
    found: dict[int, IncomingPart] = {}
    for entry in parts:
        name = parse_whole(entry.name)
        if name is None or name.row in in_place or name.row in found:
            continue
        job = jobs.job_of(db, name.row, name.generation)
        if job is None or not _is_whole(entry, name, job):
            continue
        sha256 = None
        if not trusted:
            known = _known(job, proven.get(name.row))
            if known is None or hashed(store.look_at_part, entry.name, known.algorithm) != known.digest:
                continue
            sha256 = known.digest
        elif checksum is not None:
            sha256 = hashed(store.look_at_part, entry.name, checksum)
        found[name.row] = _taken_up(job, name, entry, sha256)
    return list(found.values())


def _is_whole(entry: PartEntry, name: WholeName, job: Job) -> bool:
    """Return True if a part is a regular file of the size that its name states, and a file name is known."""
    return entry.size == name.size and (job.name is not None or name.filename is not None)


def _known(job: Job, reserved: bytes | None) -> Checksum | None:
    """Return the digest that a part must have: the one reserved, or the SHA-256 that the item states."""
    if reserved is not None:
        return recorded(reserved)
    return job.checksum if job.checksum is not None and job.checksum.algorithm == "sha256" else None


def _taken_up(job: Job, name: WholeName, entry: PartEntry, sha256: bytes | None) -> IncomingPart:
    """Return a whole part as the writer would have reported it."""
    received = Received(
        size=name.size,
        sha256=None,
        filename=name.filename or "",
        validator=Validator(etag=name.etag),
        verified=not name.unproven,
    )
    return incoming_part(job, received, part=entry.name, inode=entry.inode, sha256=sha256)


def parts_of_lost_worker(
    db: Connection, store: Store, rows: Collection[int], *, checksum: str | None
) -> list[IncomingPart]:
    """Return the whole parts of pending assets that a worker process wrote and did not report.

    Only the process was lost and not the machine, so a part of the right size is whole. Others are removed.

    Args:
        db: The ledger.
        store: The mirror.
        rows: The assets that the process had.
        checksum: Algorithm of the digest that the parts are read for; None: none.

    Raises:
        DestinationError: A part cannot be removed.
    """
    found = []
    for entry in store.list_parts():
        name = parse_whole(entry.name)
        if name is None or name.row not in rows:
            continue
        job = jobs.job_of(db, name.row, name.generation)
        if job is None:
            continue
        if not _is_whole(entry, name, job):
            store.drop_part(entry.name)
            continue
        sha256 = None
        if checksum is not None:
            sha256 = store.look_at_part(entry.name, hashed=True, algorithm=checksum).sha256
        found.append(_taken_up(job, name, entry, sha256))
    return found


def _sweep(
    db: Connection, store: Store, parts: Sequence[PartEntry], kept: set[str], *, trusted: bool
) -> None:
    """Remove what cannot be continued: all but the whole parts that are `kept`, and parts of open assets."""

    def can_resume(row: int, generation: int) -> bool:
        return trusted and jobs.job_of(db, row, generation) is not None

    for entry in parts:
        if entry.name.endswith(_LEFT) and entry.name not in kept:
            store.drop_part(entry.name)
    store.sweep_parts(can_resume)

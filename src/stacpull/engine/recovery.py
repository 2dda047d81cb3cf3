"""Recovery: restores a consistent state after a kill, before a run continues.

It runs in the store process, before anything else.

                                    same boot        after a reboot          after a failed sync
    reserved, file in place         recorded         if its sha256 agrees    removed, pending again
    reserved, another file there    if its sha256 agrees: a copied mirror    pending again
    complete part                   published        if its sha256 agrees    removed, pending again
    unfinished part, same object    resumed          removed                 removed
    anything else among the parts   removed          removed                 removed

"In place" means with its final name, and with the identity and size of the reservation. After a reboot, bytes
that were never synced may be missing although the size is right; a recorded or stated sha256 proves that they
are there. After a failed sync, a digest proves nothing, because it may be computed from cached pages that are
not on the disk. If the ledger could not record the failure, the missing boot mark shows it
(`StagedParts.withdraw_trust`).

No reservation is released before everything was examined: a stop in between leaves all reservations to the
next start.

A file that is adopted (`--adopt`) is the user's until it is recorded. Its reservation has no identity, so the
file is taken only if its sha256 agrees, and never removed. A part that is a hard link of that file is
removed.

The names of item JSON and catalogs are reserved without an identity: a file that the user puts there after a
kill, before the next start, is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from stacpull.digests import recorded
from stacpull.errors import InterruptedRunError
from stacpull.ledger import jobs, outcomes
from stacpull.ledger.database import Connection, checkpoint
from stacpull.ledger.meta import boot_of_last_run, had_sync_error, set_boot
from stacpull.models import Arrival, Checksum, Job
from stacpull.store.atomic import sync_file
from stacpull.store.complete_parts import CompletePartName, parse_complete_part
from stacpull.store.protocol import FileState, PartEntry, Store
from stacpull.system import boot_id
from stacpull.transfer.arrival import arrival_of

_NOT_RESUMED = (".whole", ".item.json", ".tmp", ".ndjson")
"""Suffixes of parts that are either published at once or removed."""


class RecoveredAssets(msgspec.Struct, frozen=True):
    """Assets of an earlier run that this one publishes first."""

    complete: Sequence[Arrival]
    """Complete parts."""
    in_place: Sequence[Arrival]
    """Files with their final names that are not recorded as done."""


def recover(
    db: Connection,
    store: Store,
    *,
    checksum: str | None,
    is_stopped: Callable[[], bool] = lambda: False,
) -> RecoveredAssets:
    """Recover DEST, and return the assets to publish.

    Args:
        db: the ledger.
        store: The mirror.
        checksum: Algorithm of the digest to compute for complete parts; None for none.
        is_stopped: called while files are read.

    Raises:
        InterruptedRunError: It was stopped. Files that were not examined are unchanged.
    """
    evidence = _evidence(db, store)
    if evidence.had_sync_error:
        checkpoint(db)  # the log may have holes on the disk that the page cache hides
    in_place, lost = [], []
    parts = store.staged.list_parts()
    named = _named(parts)
    staged = {(name.row, name.generation) for _, name in named}
    reservations = list(jobs.reservations(db))
    for arrival in reservations:
        has_part = (arrival.row, arrival.generation) in staged
        if _is_in_place(store, arrival, evidence, is_stopped, checksum, has_part=has_part):
            in_place.append(arrival)
        else:
            lost.append(arrival.row)
    complete: list[Arrival] = []
    if not evidence.had_sync_error:
        rows = {a.row for a in in_place}
        named = [entry for entry in named if entry[1].row not in rows]
        digests = {a.row: a.digest for a in reservations if a.digest is not None}
        reserved = None if evidence.is_trusted else digests
        complete = _complete_parts(db, store, named, is_stopped, reserved=reserved, checksum=checksum)
    outcomes.release(db, lost)
    complete_names = {part.part for part in complete}
    _sweep(db, store, parts, complete_names, trusted=evidence.is_trusted)
    return RecoveredAssets(complete, in_place)


def mark_recovered(db: Connection, store: Store) -> None:
    """Record that recovery is complete: files that are written under this boot can be trusted.

    The mark is written first. After a kill in between, the ledger still names the boot of the run before, and
    files are examined as after a reboot.
    """
    boot = boot_id()
    store.staged.trust(boot)
    set_boot(db, boot)


class _Evidence(msgspec.Struct, frozen=True):
    """The evidence for files of the last run. If neither flag is set, a sha256 must prove each."""

    is_trusted: bool
    """True if they were written under this boot, and no sync failed."""
    had_sync_error: bool
    """True if a sync failed: a sha256 proves nothing then."""


def _evidence(db: Connection, store: Store) -> _Evidence:
    boot, last = boot_id(), boot_of_last_run(db)
    withdrawn = last == boot != store.staged.trusted_boot()
    failed = had_sync_error(db) or withdrawn
    return _Evidence(is_trusted=boot != "" and last == boot and not failed, had_sync_error=failed)


def _digest(
    state_of: Callable[..., FileState], path: str, algorithm: str, is_stopped: Callable[[], bool]
) -> bytes | None:
    """Return the digest of a regular file or part, None if it cannot be read.

    Args:
        state_of: `Store.state_of` or `StagedParts.state_of_part`.
        path: The file, or the name of the part.
        algorithm: Of the digest.
        is_stopped: Called while it is read.

    Raises:
        InterruptedRunError: It was stopped, possibly in the middle of the file.
    """
    found = state_of(path, algorithm=algorithm, is_stopped=is_stopped)
    if is_stopped():
        raise InterruptedRunError("Interrupted.")
    return found.digest


def _is_in_place(
    store: Store,
    arrival: Arrival,
    evidence: _Evidence,
    is_stopped: Callable[[], bool],
    checksum: str | None,
    *,
    has_part: bool,
) -> bool:
    """Return True if the reserved file is in place and proven; otherwise remove it if it is the mirror's.

    An object without a digest was copied by the service of DEST but not verified. While the part is still
    staged (`has_part`), a file with the same content in its place belongs to another program.
    """
    found = store.identity(arrival.directory, arrival.name)
    if found is None or found[1] != arrival.size:
        return False
    is_ours = found[0] == arrival.identity
    is_unverified = arrival.digest is None and checksum is not None and not store.is_local
    if is_ours and evidence.is_trusted and not is_unverified:
        return True
    may_be_ours = is_ours or not has_part
    if may_be_ours and not evidence.had_sync_error and _is_proven_here(store, arrival, is_stopped):
        return True
    if is_ours:
        store.remove(arrival.directory, arrival.name)
    return False


def _is_proven_here(store: Store, arrival: Arrival, is_stopped: Callable[[], bool]) -> bool:
    """Return True if the file has that content. It is then synced, because a copied file may not be."""
    if arrival.digest is None:
        return False
    algorithm = recorded(arrival.digest).algorithm
    if _digest(store.state_of, arrival.path, algorithm, is_stopped) != arrival.digest:
        return False
    try:
        with store.open(arrival.path) as file:
            if store.is_local:
                sync_file(file)
    except OSError:
        return False
    return True


def _named(parts: Sequence[PartEntry]) -> list[tuple[PartEntry, CompletePartName]]:
    """Return the entries with the names of complete parts, and these names."""
    named = ((entry, parse_complete_part(entry.name)) for entry in parts)
    return [(entry, name) for entry, name in named if name is not None]


def _complete_parts(
    db: Connection,
    store: Store,
    parts: Sequence[tuple[PartEntry, CompletePartName]],
    is_stopped: Callable[[], bool],
    *,
    reserved: Mapping[int, bytes] | None,
    checksum: str | None,
) -> list[Arrival]:
    """Return the open assets with a complete part.

    Args:
        db: The ledger.
        store: The mirror.
        parts: The complete parts.
        is_stopped: Called while files are read.
        reserved: The digests of reservations, by row: a digest must prove each part. None if parts are
            trusted.
        checksum: Algorithm of the digest to compute; None for none.
    """
    found: dict[int, Arrival] = {}
    for entry, name in parts:
        job = None if name.row in found else jobs.job_of(db, name.row, name.generation)
        if job is None or not _is_complete(entry, name, job):
            continue
        known = None if reserved is None else _known(job, reserved.get(name.row))
        if reserved is not None and known is None:
            continue
        algorithm = checksum if known is None else known.algorithm
        digest = None
        if algorithm is not None:
            digest = _digest(store.staged.state_of_part, entry.name, algorithm, is_stopped)
        if known is not None and digest != known.digest:
            continue
        arrival = _arrival(job, name, entry, digest)
        if not _is_of_user(store, arrival):
            found[name.row] = arrival
    return list(found.values())


def _is_of_user(store: Store, part: Arrival) -> bool:
    """Return True if a part is a hard link of the file in its place: a killed run was about to adopt it.

    If it were published, that file would count as the mirror's, and might be removed.
    """
    return store.is_local and store.identity(part.directory, part.name) == (part.identity, part.size)


def _is_complete(entry: PartEntry, name: CompletePartName, job: Job) -> bool:
    """Return True if a part is a regular file of the size that its name states, and a file name is known."""
    return entry.size == name.size and (job.name is not None or name.filename is not None)


def _known(job: Job, reserved: bytes | None) -> Checksum | None:
    """Return the digest that a part must have: the one reserved, or the SHA-256 that the item states."""
    if reserved is not None:
        return recorded(reserved)
    return job.checksum if job.checksum is not None and job.checksum.algorithm == "sha256" else None


def _arrival(job: Job, name: CompletePartName, entry: PartEntry, digest: bytes | None) -> Arrival:
    """Return a complete part as the writer would have reported it."""
    filename, verified = name.filename or "", not name.unproven
    arrival = arrival_of(job, name.size, filename, name.etag, entry.name, digest=digest, verified=verified)
    arrival.identity = entry.identity
    return arrival


def _sweep(
    db: Connection, store: Store, parts: Sequence[PartEntry], complete_names: set[str], *, trusted: bool
) -> None:
    """Remove what cannot be resumed: all but these complete parts, and parts of open assets."""
    for entry in parts:
        if entry.name.endswith(_NOT_RESUMED) and entry.name not in complete_names:
            store.staged.drop_part(entry.name)
    store.staged.sweep_parts(resumable(db, store) if trusted else lambda _row, _generation: False)


def resumable(db: Connection, store: Store) -> Callable[[int, int], bool]:
    """Return a function that tells if the part of an asset, by row and generation, is kept for a later run.

    On a disk that includes an asset that has failed, because `retry` continues it. In a bucket it does not:
    an unfinished upload costs money.
    """
    wanted = jobs.is_open if store.is_local else jobs.job_of
    return lambda row, generation: bool(wanted(db, row, generation))

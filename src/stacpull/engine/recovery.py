"""Recovery: restores a consistent state after a kill, before a run continues.

| the last run | proof of its files and parts |
|---|---|
| in this boot | their size: the page cache has the bytes |
| in this boot; a sync failed (no boot mark) | none: lost pages may be in the cache, marked clean |
| before a reboot | a digest: unsynced bytes may be missing although the size is right |

Reservations are released only after everything has been examined. A file that is being adopted belongs to
the user until it is recorded, so it is never removed. Item JSON and catalogs are reserved without identity,
so a file that the user puts in their place after a kill is replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from stacpull.digests import as_checksum
from stacpull.engine.publisher import Publisher
from stacpull.errors import InterruptedRunError
from stacpull.ledger import jobs, transitions
from stacpull.ledger.database import truncate_wal
from stacpull.ledger.meta import BOOT, get, put
from stacpull.models import AssetFile
from stacpull.planning.layout import received_file
from stacpull.store.inspection import FileState
from stacpull.store.staging import TEMPORARY_ENDINGS, CompletePartName, parse_complete_part
from stacpull.system import boot_id


class Recovery:
    def __init__(self, publisher: Publisher) -> None:
        self._db = publisher.db
        self._store = publisher.store
        self._is_stopped = publisher.is_stopped
        self._run = publisher.run
        self._boot = boot_id()
        is_same_boot = get(self._db, BOOT) == self._boot
        has_mark = self._store.staged.read_boot_mark() == self._boot
        self._sync_failed = is_same_boot and not has_mark  # then a digest proves nothing
        self._is_trusted = is_same_boot and has_mark and self._boot != ""
        """True if this boot wrote the files and no sync failed. Otherwise a digest must prove each file."""

    def run(self) -> list[AssetFile]:
        """Return the complete files that are not recorded as done. Those with final names have no `part`."""
        staged = self._store.staged
        if self._sync_failed:
            truncate_wal(self._db)  # the log may have holes on the disk that the page cache hides
        parts = staged.list_parts()
        complete_parts = {part: name for part in parts if (name := parse_complete_part(part)) is not None}
        with_part = {(name.rowid, name.generation) for name in complete_parts.values()}
        reserved = {file.rowid: file for file in jobs.reservations(self._db)}
        proven = {
            rowid: file
            for rowid, file in reserved.items()
            if self._is_in_place(file, has_part=(rowid, file.generation) in with_part)
        }
        not_in_place = reserved.keys() - proven.keys()
        for part, name in complete_parts.items():
            if name.rowid not in proven:
                received = self._proven_part(part, name, reserved.get(name.rowid))
                if received is not None:
                    proven[name.rowid] = received
        transitions.release(self._db, not_in_place)
        kept_parts = {file.part for file in proven.values()}
        for part in parts:
            if part.endswith(TEMPORARY_ENDINGS) and part not in kept_parts:
                staged.remove_part(part)
        staged.remove_leftovers(
            lambda rowid, generation: self._is_trusted and jobs.has_job(self._db, rowid, generation)
        )
        # from now on, files written under this boot can be trusted. The mark is written first: after a kill
        # before `put`, files are examined as after a reboot
        staged.write_boot_mark(self._boot)
        put(self._db, BOOT, self._boot)
        return list(proven.values())

    def _is_in_place(self, file: AssetFile, *, has_part: bool) -> bool:
        """Return True if a reserved file is proven. Remove one that is the mirror's, but not proven."""
        identity, size = self._store.find(file.path) or (None, -1)
        if size != file.size:
            return False
        is_ours = identity == file.identity
        # a part that is still there was not renamed: a file with the same content is not the mirror's
        may_be_ours = is_ours or not has_part
        is_proven = (is_ours and self._is_trusted) or (may_be_ours and self._has_recorded_content(file))
        if is_ours and not is_proven:
            self._store.remove(file.path)
        return is_proven

    def _digest(self, state_of: Callable[..., FileState], path: str, algorithm: str) -> bytes | None:
        state = state_of(path, algorithm=algorithm, is_stopped=self._is_stopped)
        if self._is_stopped():
            raise InterruptedRunError
        return state.digest

    def _has_recorded_content(self, file: AssetFile) -> bool:
        """Return True if the file in place has the digest of its reservation, and is durable."""
        if self._sync_failed or file.digest is None:
            return False
        algorithm = as_checksum(file.digest).algorithm
        if self._digest(self._store.state_of, file.path, algorithm) != file.digest:
            return False
        with suppress(OSError), self._store.open(file.path) as opened:
            if self._store.is_local:
                os.fsync(opened.fileno())  # someone may have copied DEST
            return True
        return False

    def _proven_part(self, part: str, name: CompletePartName, reserved: AssetFile | None) -> AssetFile | None:
        staged = self._store.staged
        job = jobs.job_of(self._db, self._run, name.rowid, name.generation)
        identity, size = staged.part_identity_and_size(part) or (0, -1)
        if self._sync_failed or job is None or size != name.size or not (job.name or name.filename):
            return None
        recorded = None if reserved is None or reserved.digest is None else as_checksum(reserved.digest)
        stated = job.checksum if job.checksum is not None and job.checksum.algorithm == "sha256" else None
        expected = None  # a trusted part needs no proof
        if not self._is_trusted:
            expected = recorded or stated
            if expected is None:
                return None
        algorithm = self._run.digest_algorithm if expected is None else expected.algorithm
        digest = None if algorithm is None else self._digest(staged.state_of, part, algorithm)
        if expected is not None and digest != expected.digest:
            return None
        file = received_file(
            job, size, name.filename or "", name.etag_or_date, part, digest=digest, unproven=name.unproven
        )
        file.identity = identity
        if self._store.is_local and self._store.find(file.path) == (identity, size):
            return None  # a link of a file of the user, which a killed run was about to adopt
        return file

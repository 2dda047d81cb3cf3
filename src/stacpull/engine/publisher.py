"""The publisher: it gives complete parts their final names, in groups.

A group is complete after `GROUP` files or `PACE` seconds. For each group the publisher:

    1. reserves names in the ledger         committed before any rename
    2. syncs                                this group's data and reservations, the previous group's renames
    3. records the previous group as done   its data and its names are durable
    4. renames this group into place

In a bucket, step 4 uploads the files. During a sync or an upload, the parts of the next group are written
(`run_beside`).

So one sync covers two groups, and nothing is recorded before it is on stable storage. After a kill at any
moment, a file with its final name is complete, and reserved or recorded. At the end, one more sync completes
the last group. The JSON of an item is published in the same way, after the last of its assets.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.digests import recorded
from stacpull.engine.item_writer import ItemWriter, foreign_file_sentence, may_be_replaced
from stacpull.engine.workspace import Workspace
from stacpull.errors import DestinationError
from stacpull.events import AssetFailed
from stacpull.ledger import meta, outcomes, pruning, runs, views
from stacpull.ledger.database import is_disk_error, ledger_path, translated
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.ledger.runs import StoredRun
from stacpull.models import Arrival, Clip, Failure
from stacpull.redact import Secrets
from stacpull.store.protocol import Placement, Store

GROUP = 512
"""Waiting files with which a group is started. It takes all waiting files."""
PACE = 0.25
"""Seconds after which a group is started with fewer files."""


class _Group(msgspec.Struct):
    """The assets to publish and the failures to record with the next sync."""

    parts: list[Arrival] = msgspec.field(default_factory=list)
    failures: list[AssetFailure] = msgspec.field(default_factory=list)
    unchanged: list[UnchangedAsset] = msgspec.field(default_factory=list)
    delivered: int = 0
    """Number of parts from `Publisher.add_received`."""

    def __len__(self) -> int:
        return len(self.parts) + len(self.failures) + len(self.unchanged)


class Publisher:
    """Publishes complete parts in groups. Every method runs on the thread of the ledger's connection."""

    def __init__(
        self,
        workspace: Workspace,
        run: StoredRun,
        *,
        secrets: Secrets,
        clock: Clock,
        on_published: Callable[[int], None],
        on_event: Callable[[AssetFailed], None],
        run_beside: Callable[[Callable[[], object]], Any],
    ) -> None:
        db = self._db = workspace.db
        self._store = workspace.destination
        self._run = run.id
        self.items = ItemWriter(db, self._store, secrets, run.metadata)
        self._clock = clock
        self._on_published = on_published
        self._on_event = on_event
        self._area = runs.area_of(db, run.id)
        self._run_beside = run_beside
        self._group = _Group()
        self._done: list[Arrival] = []
        self._written: dict[int, bytes | None] = {}
        """Assets, and the SHA-256 of the JSON of items by row, that are recorded after the next sync: it
        covers their renames."""
        self._final_items: list[int] = []
        self._failed_sync: DestinationError | None = None
        self._deadline: float | None = None
        self._adopting = run.kept.get("adopt", False) or bool(meta.get(db, meta.ADOPTING))
        """True to adopt an existing file with the name of an asset, if it has the asset's content."""
        self.counters: Mapping[str, int | None] = run.counters
        """The run's counters after the last transaction."""

    def seconds_until_due(self) -> float | None:
        """Return the seconds until `publish_if_due` has work, None if nothing waits."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def publish_if_due(self) -> None:
        """Publish the group if it is full or old. Otherwise set the time to publish waiting files."""
        is_due = self._deadline is not None and time.monotonic() >= self._deadline
        if is_due or len(self._group) >= GROUP:
            self.publish()
        elif self._deadline is None and self._is_waiting:
            self._deadline = time.monotonic() + PACE

    @property
    def _is_waiting(self) -> bool:
        return bool(len(self._group) or self._done or self._written or self._final_items)

    def add_received(self, parts: Sequence[Arrival]) -> None:
        """Add complete parts that the network process has sent; `on_published` counts them."""
        self._group.parts.extend(parts)
        self._group.delivered += len(parts)

    def fail(self, failure: AssetFailure) -> None:
        self._group.failures.append(failure)

    def keep_unchanged(self, asset: UnchangedAsset) -> None:
        self._group.unchanged.append(asset)

    def add_recovered(self, batch: Sequence[Arrival]) -> None:
        """Add complete parts that recovery has found."""
        self._group.parts.extend(batch)

    def add_in_place(self, in_place: Sequence[Arrival]) -> None:
        """Take files that already have their final names. They are recorded after the next sync."""
        self._done.extend(in_place)

    def write_file(self, path: Path, data: bytes) -> None:
        """Write a file of the mirror, such as a catalog. It is durable after the next sync."""
        sha256, final = hashlib.sha256(data).digest(), path.as_posix()
        self.refuse_foreign(final, lambda: self._store.state_of(final).digest == sha256)
        part = f"{path.name}.tmp"
        self._store.staged.write_part(part, data)
        self.place_file(final, part, sha256)

    def refuse_foreign(self, path: str, is_same: Callable[[], bool] = lambda: False) -> None:
        """Raise an error if a file at `path` (relative to DEST) is not part of this mirror."""
        if not meta.owns_file(self._db, path) and not may_be_replaced(
            self._store, path, is_same, adopting=self._adopting
        ):
            raise DestinationError(foreign_file_sentence(path))

    def place_file(self, path: str, part: str, sha256: bytes) -> None:
        """Sync a part and rename it to `path` (relative to DEST), as a file of the mirror."""
        directory, _, name = path.rpartition("/")
        meta.claim_file(self._db, path)
        self._sync_all([part])
        (failure,) = self._store.place([Placement(part, directory, name, may_replace=True)])
        if failure is not None:
            self._store.staged.drop_part(part)
            raise DestinationError(failure.message)
        meta.claim_file(self._db, path, sha256)

    def remove_listed(self) -> None:
        """Remove the files of deleted rows (`ledger.pruning`), and directories that become empty.

        Only regular files with names of the mirror are removed. The list is cleared at the end. After a kill,
        the next start continues.
        """
        if not (paths := pruning.removals(self._db)):
            return
        self._sync_all(())  # the deletion of rows must be durable before files are removed
        for path in paths:
            directory, _, name = path.rpartition("/")
            self._store.remove(directory, name)
        self._sync_all(())
        pruning.clear(self._db, paths)

    def publish_all(self) -> None:
        while self._is_waiting:
            self.publish()

    def finish(self) -> None:
        """Publish and record everything, and sync the last renames, such as those of catalogs."""
        self.publish_all()
        self._sync_all(())

    def publish(self) -> None:
        """Reserve, sync and rename the collected group, and record the previous one (steps 1 to 4)."""
        self._deadline = None
        group, self._group = self._group, _Group()
        done, self._done = self._done, []
        written, self._written = self._written, {}
        items = self.items.write_parts(self._final_items, adopting=self._adopting)
        self._final_items = []
        assets = self._reserve(group, list(items))
        self._sync_all([asset.part for asset in assets] + [part.part for part in items.values()])
        if done or written or group.failures or group.unchanged:
            self._final_items = list(  # of the next group
                outcomes.record(
                    self._db,
                    done=done,
                    failed=group.failures,
                    written_items=written,
                    now=self._clock.time(),
                    unchanged=group.unchanged,
                    area=self._area,
                )
            )
            self.refresh_counters()
        for failure in group.failures:
            _, item, key = views.owner(self._db, failure.row)
            self._on_event(AssetFailed(item, key, failure.failure.kind, failure.failure.message))
        if assets or items:
            self._rename(assets, items)
        self._on_published(group.delivered)
        self.publish_if_due()

    def _reserve(self, group: _Group, items: Sequence[int]) -> Sequence[Arrival]:
        """Reserve names; return the assets that got one. The parts of other assets are removed."""
        arrivals = group.parts
        if not arrivals and not items:
            return []
        if self._adopting:
            # The part may be a hard link of a file of the user. By its identity, a later start would consider
            # that file one of the mirror, and might remove it.
            arrivals = [
                arrival
                if arrival.generation or not self._store.has(arrival.path)
                else replace(arrival, identity=None)
                for arrival in arrivals
            ]
        reserved, failures = outcomes.reserve(self._db, arrivals, items, self._clips(arrivals))
        if reserved is not arrivals:
            group.failures.extend(failures)
            for part in {received.part for received in arrivals} - {received.part for received in reserved}:
                self._store.staged.drop_part(part)
        return reserved

    def _clips(self, arrivals: Sequence[Arrival]) -> dict[int, Clip]:
        """Return the clips of clipped rasters. Only a run with `--clip` has any."""
        if self._area is None:
            return {}
        from stacpull.engine.clips import clip_in  # noqa: PLC0415 -- heavy: the parser of rasters

        found = {
            received.row: clip_in(partial(self._store.staged.open_part, received.part))
            for received in arrivals
        }
        return {row: clip for row, clip in found.items() if clip is not None}

    def _sync_all(self, parts: Sequence[str]) -> None:
        """Sync these parts, and the renames since the last sync. A failed sync is never repeated."""
        if self._failed_sync is not None:
            raise self._failed_sync
        try:
            if self._store.is_local:
                self._run_beside(partial(self._store.sync, parts))
            else:
                self._store.sync(parts)
        except DestinationError as error:
            self._distrust(error)
            raise

    def distrust_ledger(self, error: BaseException) -> None:
        """Treat a disk error of SQLite, which also syncs, as a failed sync."""
        if isinstance(error, DestinationError) and is_disk_error(error):
            self._distrust(error)

    def _distrust(self, error: DestinationError) -> None:
        """After a failed sync: publish nothing more, and let the next start distrust unrecorded files."""
        self._failed_sync = error
        self._store.staged.withdraw_trust()  # first, because the ledger is on the failing disk
        with suppress(DestinationError), translated(ledger_path(self._store.staged.work)):
            meta.put(self._db, meta.SYNC_ERROR, str(error))

    def _rename(self, assets: Sequence[Arrival], items: Mapping[int, Placement]) -> None:
        """Rename the assets of a group, and the JSON of items whose assets are all recorded."""
        for asset in assets:  # an earlier version, or a file of the user with the same content
            asset.may_replace = asset.generation > 0 or (
                asset.identity is None and _holds_same(self._store, asset)
            )
        place = partial(self._store.place, [*assets, *items.values()])
        results: list[Failure | None] = place() if self._store.is_local else self._run_beside(place)
        for arrival, failure in zip(assets, results[: len(assets)], strict=True):
            if failure is None:
                self._done.append(arrival)
                if self._adopting:  # renaming does nothing between links to one file
                    self._store.staged.drop_part(arrival.part)
            else:
                self._store.staged.drop_part(arrival.part)
                failed = AssetFailure(arrival.row, arrival.item_row, arrival.generation, failure)
                self._group.failures.append(failed)
        self._written.update(self.items.placed(items, results[len(assets) :]))

    def refresh_counters(self) -> None:
        """Read the counters of the run again, after a transaction elsewhere."""
        self.counters = runs.counters(self._db, self._run)

    def write_items(self, rows: Sequence[int]) -> None:
        """Write the JSON of these items (again) with the next group."""
        self._final_items.extend(rows)


def _holds_same(store: Store, asset: Arrival) -> bool:
    """Return True if there already is a regular file with the content of a part."""
    there, part = store.identity(asset.directory, asset.name), store.staged.part_identity(asset.part)
    if there is None or part is None or there[1] != part[1]:
        return False
    if there == part:  # a hard link
        return True
    digest = asset.digest or store.staged.state_of_part(asset.part).digest
    return (
        digest is not None
        and digest == store.state_of(asset.path, algorithm=recorded(digest).algorithm).digest
    )

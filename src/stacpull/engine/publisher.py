"""The publisher: it brings complete parts under their final names, in groups.

It takes what has gathered, up to `GROUP` files or `PACE` seconds, and for each group:

    1. reserves names in the ledger         committed before anything is renamed
    2. syncs                                this group's data and reservations, the last group's renames
    3. records the last group as done       its data and its names are durable now
    4. renames this group into place

In a bucket, step 4 sends the files. It continues while the next group gathers, and ends before anything of
that group is done.

So one sync serves two groups, nothing is recorded before it is on stable storage, and at any kill a file
under a final name is whole and reserved or recorded. When nothing more comes, a last sync completes the last
group. The JSON of an item travels the same way, after the last of its assets.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec.structs import replace

from stacpull.clock import Clock
from stacpull.engine.item_writer import ItemWriter, WrittenItem, in_the_way, may_be_replaced
from stacpull.errors import DestinationError
from stacpull.events import AssetFailed
from stacpull.ledger import meta, outcomes, pruning, runs, views
from stacpull.ledger.database import Connection, is_disk_error, ledger_path, sync_each_commit, translated
from stacpull.ledger.outcomes import AssetFailure, Confirmed, Written
from stacpull.models import Arrival, Clip, Failure
from stacpull.store.protocol import StagedFile, Store

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

GROUP = 512
"""Files that wait when a group is begun; it takes all that wait then."""
PACE = 0.25
"""Seconds after which a group is begun with fewer."""
_TURN = 0.02
"""Seconds after which a group that waits for the one before asks again."""
_SLOW_SYNC = 2.0
"""Seconds after which a group sync is taken to wait for the writes of others on the same disk."""
_SLOW_IN_A_ROW = 3


class _Group(msgspec.Struct):
    """What waits for the next sync: assets to publish, and failures to record."""

    parts: list[Arrival] = msgspec.field(default_factory=list)
    failures: list[AssetFailure] = msgspec.field(default_factory=list)
    confirmed: list[Confirmed] = msgspec.field(default_factory=list)
    delivered: int = 0
    """How many of the parts came in by `Publisher.deliver`."""

    def __len__(self) -> int:
        return len(self.parts) + len(self.failures) + len(self.confirmed)


class _Renamed(msgspec.Struct):
    """What has its final name but is not recorded, until the next sync has covered the renames."""

    done: list[Arrival] = msgspec.field(default_factory=list)
    items: list[Written] = msgspec.field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.done or self.items)


class _Placing(NamedTuple):
    """A group on its way to its final names."""

    results: Callable[[], list[Failure | None]]
    """Waits for those of the assets, then of the items."""
    is_done: Callable[[], bool]
    assets: Sequence[Arrival]
    items: Sequence[WrittenItem]
    delivered: int


class Publisher:
    """Publishes complete parts in groups. Every method runs on the thread of the ledger's connection."""

    def __init__(
        self,
        db: Connection,
        run: int,
        counters: Mapping[str, int | None],
        store: Store,
        items: ItemWriter,
        *,
        clock: Clock,
        on_published: Callable[[int], None] = lambda _count: None,
        on_failed: Callable[[list[AssetFailed]], None] = lambda _failed: None,
        on_notice: Callable[[str], None] = lambda _text: None,
        area: int | None = None,
        checksum: str | None = None,
    ) -> None:
        self._db = db
        self._run = run
        self._store = store
        self._items = items
        self._clock = clock
        self._on_published = on_published
        self._on_failed = on_failed
        self._on_notice = on_notice
        self._area = area
        self._checksum = checksum
        self._group = _Group()
        self._placing: _Placing | None = None
        self._renamed = _Renamed()
        self._final_items: list[int] = []
        self._failed_sync: DestinationError | None = None
        self._slow_syncs = 0
        self._deadline: float | None = None
        self.adopting = False
        """True to adopt a file that is in the way, if its content is that of the asset."""
        self.counters: Mapping[str, int | None] = counters
        """The run's counters after the last transaction; replaced whole, read from any thread."""

    def wait(self) -> float | None:
        """Return the seconds after which `publish_if_due` publishes what waits, None if nothing does."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def publish_if_due(self) -> None:
        """Publish a full or old group; else see that it is published in time."""
        is_due = self._deadline is not None and time.monotonic() >= self._deadline
        if is_due and self._placing is not None and not self._placing.is_done():
            is_due, self._deadline = False, time.monotonic() + _TURN
        if is_due or len(self._group) >= GROUP:
            self.publish()
        elif self._deadline is None and self._is_waiting:
            self._deadline = time.monotonic() + PACE

    @property
    def _is_waiting(self) -> bool:
        return bool(len(self._group) or self._placing or self._renamed or self._final_items)

    def deliver(self, parts: Sequence[Arrival]) -> None:
        """Add complete parts that the network process has sent; `on_published` counts them."""
        self._group.parts.extend(parts)
        self._group.delivered += len(parts)

    def fail(self, failure: AssetFailure) -> None:
        """Take an asset that failed for good, or that is not ready yet."""
        self._group.failures.append(failure)

    def confirm(self, confirmed: Confirmed) -> None:
        """Take an asset of which the source said that it has not changed."""
        self._group.confirmed.append(confirmed)

    def take(self, batch: Sequence[Arrival]) -> None:
        """Add complete parts that recovery has found."""
        self._group.parts.extend(batch)

    def take_in_place(self, in_place: Sequence[Arrival]) -> None:
        """Take files that lie under their final names already: they are recorded after the next sync."""
        for arrival in in_place:
            self._store.mark_changed(arrival.directory)
        self._renamed.done.extend(in_place)

    def write_file(self, path: Path, data: bytes) -> None:
        """Put a file of the mirror in place: a catalog, a collection. It is durable with the next sync.

        Raises:
            DestinationError: it cannot be written, or a file of that name is not part of this mirror.
        """
        sha256, final = hashlib.sha256(data).digest(), path.as_posix()
        self.refuse_foreign(final, lambda: self._store.look_at(final, hashed=True).sha256 == sha256)
        part = f"{path.name}.tmp"
        self._store.write_part(part, data)
        self.place_file(final, part, sha256)

    def refuse_foreign(self, path: str, is_same: Callable[[], bool] = lambda: False) -> None:
        """Refuse to replace a file at `path` (relative to DEST) that is not part of this mirror.

        Raises:
            DestinationError: There is one, and its content is another (`is_same`).
        """
        if not meta.owns_file(self._db, path) and not may_be_replaced(
            self._store, path, is_same, adopting=self.adopting
        ):
            raise DestinationError(in_the_way(path))

    def place_file(self, path: str, part: str, sha256: bytes) -> None:
        """Sync a part and rename it to `path` (relative to DEST), as a file of the mirror.

        Raises:
            DestinationError: It cannot be put there.
        """
        directory, _, name = path.rpartition("/")
        self._finish_placing()
        meta.claim_file(self._db, path)
        self._sync_all([part])
        failure = self._store.place(part, directory, name, replace=True)
        if failure is not None:
            self._store.drop_part(part)
            raise DestinationError(failure.message)
        meta.claim_file(self._db, path, sha256)

    def remove_listed(self) -> None:
        """Remove the files of what was forgotten (`ledger.pruning`).

        Raises:
            DestinationError: they cannot be removed.
        """
        self._finish_placing()
        remove_listed(self._db, self._store, lambda: self._sync_all(()))

    def sync_renamed(self) -> None:
        """Sync what was renamed since the last sync: catalogs."""
        self._sync_all(())

    def publish_all(self) -> None:
        """Publish until nothing waits any more."""
        while self._is_waiting:
            self.publish()

    def publish(self) -> None:
        """Bring one group under its final names, and record the one before."""
        self._deadline = None
        self._finish_placing()
        group, self._group = self._group, _Group()
        before, self._renamed = self._renamed, _Renamed()
        written = self._items.write_parts(self._final_items, adopting=self.adopting)
        self._final_items = []
        ready = self._reserve(group, [item.row for item in written])
        self._sync_all([one.part for one in ready] + [item.part for item in written])
        self._record(before, group.failures, group.confirmed)
        if ready or written:
            self._placing = self._begun(ready, written, group.delivered)
        else:
            self._on_published(group.delivered)
        if self._store.is_local:
            self._finish_placing()
        self.publish_if_due()

    def _reserve(self, group: _Group, items: Sequence[int]) -> Sequence[Arrival]:
        """Reserve names; return what got one. Parts of assets without a name are removed."""
        arrivals = group.parts
        if not arrivals and not items:
            return []
        if self.adopting:
            arrivals = [self._disowned(arrival) for arrival in arrivals]
        reserved, failures = outcomes.reserve(self._db, arrivals, items, self._clips(arrivals))
        if reserved is not arrivals:
            group.failures.extend(failures)
            for part in {one.part for one in arrivals} - {one.part for one in reserved}:
                self._store.drop_part(part)
        return reserved

    def _clips(self, arrivals: Sequence[Arrival]) -> dict[int, Clip]:
        """Return what part of a raster each arrival is; only a run with `--clip` brings such parts."""
        if self._area is None:
            return {}
        from stacpull.engine.clips import clip_in  # noqa: PLC0415 -- heavy: the parser of rasters

        found = {one.row: clip_in(partial(self._store.open_part, one.part)) for one in arrivals}
        return {row: clip for row, clip in found.items() if clip is not None}

    def _disowned(self, arrival: Arrival) -> Arrival:
        """Return the arrival without its identity where a file of the user is in its place, to be adopted.

        The part may be a hard link of that file. By its identity a later start would take it for a file of
        the mirror, and might remove it.
        """
        if arrival.generation or not self._store.has(arrival.path, unknown=False):
            return arrival
        return replace(arrival, identity=None)

    def _sync_all(self, parts: Sequence[str]) -> None:
        """Sync these parts, and what was renamed since the last sync. One that failed is never tried again.

        Raises:
            DestinationError: something did not reach the disk, now or before.
        """
        if self._failed_sync is not None:
            raise self._failed_sync
        started = time.monotonic()
        try:
            self._store.sync(parts)
        except DestinationError as error:
            self._distrust(error)
            raise
        self._judge_pace(time.monotonic() - started)

    def distrust_ledger(self, error: BaseException) -> None:
        """Distrust files that await their sync if the disk failed under the ledger: SQLite syncs, too."""
        if isinstance(error, DestinationError) and is_disk_error(error):
            self._distrust(error)

    def _distrust(self, error: DestinationError) -> None:
        """Distrust files that awaited a sync that failed, now and at the next start."""
        self._failed_sync = error
        self._store.withdraw_trust()  # first: the ledger is on the disk that fails
        with suppress(DestinationError), translated(ledger_path(self._store.work)):
            meta.set_sync_error(self._db, str(error))

    def _judge_pace(self, seconds: float) -> None:
        """Sync file by file after several slow group syncs in a row: they wait for what others write."""
        self._slow_syncs = self._slow_syncs + 1 if seconds > _SLOW_SYNC else 0
        if self._slow_syncs >= _SLOW_IN_A_ROW and self._store.sync_singly():
            self._on_notice(
                "Syncing the whole file system is slow because other programs write to it: from here on "
                "stacpull syncs each file by itself."
            )
            sync_each_commit(self._db)

    def _record(
        self, renamed: _Renamed, failures: Sequence[AssetFailure], confirmed: Sequence[Confirmed]
    ) -> None:
        if not renamed and not failures and not confirmed:
            return
        recorded = outcomes.record(
            self._db,
            done=renamed.done,
            failed=failures,
            written_items=renamed.items,
            now=self._clock.time(),
            confirmed=confirmed,
            area=self._area,
        )
        self._final_items.extend(recorded.final_items)
        self.refresh_counters()
        if failures:
            self._on_failed([self._failed_event(one) for one in failures])

    def _failed_event(self, one: AssetFailure) -> AssetFailed:
        item, key = views.name_of_asset(self._db, one.row)
        return AssetFailed(item, key, one.failure.kind, one.failure.message)

    def _begun(self, assets: Sequence[Arrival], items: Sequence[WrittenItem], delivered: int) -> _Placing:
        """Give the assets of a group their names, and the JSON of items whose assets are all recorded."""
        for one in assets:  # an earlier version, or a file of the user's with the same content
            one.may_replace = one.generation > 0 or (
                one.identity is None and self._store.holds_same(one.part, one.directory, one.name)
            )
        placements: list[StagedFile] = [*assets, *items]
        if self._store.is_local:
            results = self._store.place_all(placements)
            return _Placing(lambda: results, lambda: True, assets, items, delivered)
        sent = self._sender.submit(self._store.place_all, placements)
        return _Placing(sent.result, sent.done, assets, items, delivered)

    @cached_property
    def _sender(self) -> ThreadPoolExecutor:
        """The thread that sends the files of a group to a bucket."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - few mirrors are in a bucket

        return ThreadPoolExecutor(1, "stacpull-placing")

    def _finish_placing(self) -> None:
        """Take what became of the group that is on its way: it can be recorded after the next sync.

        Raises:
            DestinationError: The store fails.
        """
        placing, self._placing = self._placing, None
        if placing is None:
            return
        results = placing.results()
        for arrival, failure in zip(placing.assets, results[: len(placing.assets)], strict=True):
            if failure is None:
                if arrival.digest is None:
                    self._note_digest(arrival)
                self._renamed.done.append(arrival)
                if self.adopting:
                    self._store.drop_part(arrival.part)  # renaming does nothing between links to one file
            else:
                self._store.drop_part(arrival.part)
                self._group.failures.append(AssetFailure(arrival.row, arrival.item_row, failure))
        self._renamed.items.extend(self._items.placed(placing.items, results[len(placing.assets) :]))
        self._on_published(placing.delivered)

    def _note_digest(self, arrival: Arrival) -> None:
        """Have the digest of a file recorded that the service of DEST has copied: it was not known before."""
        if self._checksum is not None and not self._store.is_local:
            found = self._store.look_at(arrival.path, hashed=True, algorithm=self._checksum)
            outcomes.note_digest(self._db, arrival.row, arrival.generation, found.sha256)

    def refresh_counters(self) -> None:
        """Read the counters of the run again, after a transaction of another part."""
        self.counters = runs.counters(self._db, self._run)

    def write_items(self, rows: Sequence[int]) -> None:
        """Have the JSON of these items written (again) with the next group."""
        self._final_items.extend(rows)


def remove_listed(db: Connection, store: Store, sync: Callable[[], None]) -> None:
    """Remove the files that are listed for removal (`ledger.pruning`), and directories that are then empty.

    Only regular files are removed, under names that were the mirror's own. The list is cleared at the end: a
    kill in between leaves it to the next start.

    Args:
        db: The ledger.
        store: The mirror.
        sync: Makes durable what was committed and removed so far.
    """
    paths = pruning.listed(db)
    if not paths:
        return
    sync()  # the rows are gone for good before a file is
    for path in paths:
        directory, _, name = path.rpartition("/")
        if store.identity(directory, name) is not None:
            store.remove(directory, name)
        store.tidy(directory)
    sync()
    pruning.clear(db, paths)

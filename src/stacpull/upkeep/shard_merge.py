"""`stacpull merge DEST SHARD…`: merge the mirrors of several `--shard` runs into one.

For each batch of items:

    link the files into the parts ─▶ list them ─▶ sync ─▶ rename ─▶ sync ─▶ record, and clear the list

Files are hard-linked into DEST, or copied if DEST is on another file system. Shards are only read. If a merge
is killed, the recorded items stay. The next start removes the files of an uncleared list, and the next merge
continues.
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
from msgspec.structs import asdict

from stacpull.clock import SystemClock
from stacpull.config.dest import bucket_url, dest_path
from stacpull.engine.publisher import remove_listed
from stacpull.engine.store_operations import StoreOperations
from stacpull.engine.workspace import Workspace, open_workspace
from stacpull.errors import DestinationError, InterruptedRunError, UsageError
from stacpull.events import Listener, Stage
from stacpull.ledger import pruning, runs
from stacpull.ledger import shard_rows as rows
from stacpull.ledger.database import Connection, ledger_path, open_reader, translated
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, UNWRITTEN
from stacpull.ledger.shard_rows import MergedAsset, MergedItem, ShardAsset, ShardItem, ShardRows
from stacpull.redact import Secrets
from stacpull.reports import MergeReport
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.lock import kept_still
from stacpull.store.protocol import StoredFiles
from stacpull.store.store_choice import refuse_bucket
from stacpull.upkeep.reporting import Reporter

_NAMED = 20
"""Maximum number of conflicts that the report names."""


class _MergeCounts(msgspec.Struct):
    """The counters of the report."""

    items: int = 0
    assets: int = 0
    bytes: int = 0
    assets_there: int = 0
    assets_failed: int = 0
    conflicts: int = 0
    named: list[str] = msgspec.field(default_factory=list)


async def merge(
    dest: str | Path,
    shards: Sequence[str | Path],
    *,
    on_event: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> MergeReport:
    """Merge finished mirrors into one mirror, which is created if it does not exist.

    Nothing is fetched, and the shards are only read; you can delete them afterwards. If a merge was stopped
    or killed, run it again. If DEST and a shard have different content for an asset, DEST's file stays, and
    the conflict is reported.

    Args:
        dest: The mirror to merge into.
        shards: Finished mirrors: other shards of a selection, or any other mirrors.
        on_event: Called with progress (`Stage`).
        stop: Set it to stop the merge.

    Returns:
        What was merged.

    Raises:
        UsageError: A shard is named twice, is DEST, or is not finished; DEST is not finished; or one of them
            is in a bucket.
        NotAMirrorError: A shard is not a mirror.
        DestinationError: A ledger cannot be read, a run is using one of the mirrors, or DEST cannot be
            written.
        InterruptedRunError: `stop` was set.
    """
    shards = list(shards)
    for mirror in (dest, *shards):
        if (bucket := bucket_url(mirror)) is not None:
            raise UsageError(f"{bucket.url} is a bucket: `stacpull merge` can only join directories.")
    reporter = Reporter(on_event, stop or asyncio.Event())
    paths = dest_path(dest), [dest_path(shard, "SHARD") for shard in shards]
    return await reporter.run(lambda: _merge(*paths, reporter))


def _merge(dest: Path, shards: Sequence[Path], reporter: Reporter) -> MergeReport:
    _refuse_same([dest, *shards])
    for path in (dest, *shards):
        refuse_bucket(path, "merged")
    with ExitStack() as opened:
        ledgers = {}
        for shard in shards:  # before DEST is created
            opened.enter_context(kept_still(shard))
            ledgers[shard] = opened.enter_context(closing(open_reader(shard)))
            _refuse_unfinished(shard, ledgers[shard])
        workspace = opened.enter_context(open_workspace(dest))
        with translated(ledger_path(dest)):
            return _MergeRun(workspace, ledgers, reporter).run()


def _refuse_same(paths: Sequence[Path]) -> None:
    """Reject a mirror that is given twice."""
    seen: set[Path] = set()
    for path in paths:
        try:
            place = path.resolve()
        except (OSError, RuntimeError) as error:  # the current directory was removed; links in a circle
            raise DestinationError(f"{path} cannot be read: it is not a directory that exists.") from error
        if place in seen:
            raise UsageError(f"{place} is given twice: name each mirror once.")
        seen.add(place)


def _refuse_unfinished(shard: Path, db: Connection) -> None:
    with translated(ledger_path(shard)):
        if runs.reason_unfinished(db) is not None or runs.asset_counters(db)["assets_pending"]:
            resume = f"stacpull resume {shlex.quote(str(shard))}"
            raise UsageError(f"{shard} is not finished: run `{resume}` first.")


class _MergeRun:
    """One merge, on one thread."""

    def __init__(self, workspace: Workspace, shards: Mapping[Path, Connection], reporter: Reporter) -> None:
        self._db = workspace.db
        self._destination = workspace.destination
        self._shards = shards
        self._reporter = reporter
        self._workspace = workspace
        self._counts = _MergeCounts()
        self._done = 0
        self._total = sum(map(rows.items_in, shards.values()))

    def run(self) -> MergeReport:
        """Merge all shards, then write the catalogs."""
        unfinished = runs.reason_unfinished(self._db)
        if unfinished not in (None, rows.UNFINISHED):
            raise UsageError(f"{self._destination.work} is not finished: run `stacpull resume` on it first.")
        remove_listed(self._db, self._destination, lambda: self._destination.sync(()))
        for shard, ledger in self._shards.items():
            self._merge_shard(shard, ShardRows(self._db, ledger), rows.shard_items(ledger))
        self._write_documents()
        return MergeReport(
            dest=str(self._destination.work),
            shards=tuple(map(str, self._shards)),
            seconds=round(self._reporter.seconds(), 3),
            **asdict(self._counts) | {"named": tuple(self._counts.named)},
        )

    def _merge_shard(self, shard: Path, merge: ShardRows, batches: Iterator[list[ShardItem]]) -> None:
        with closing(DirectoryFiles(shard)) as files:
            for items in batches:
                if self._reporter.is_stopped():
                    raise InterruptedRunError("Interrupted: run `stacpull merge` again to continue.")
                self._merge_items(files, merge, items)
                self._done += len(items)
                self._reporter.report(Stage("merging", self._done, max(self._total, self._done)))
                self._reporter.flush()
        merge.finish()

    def _merge_items(self, files: StoredFiles, merge: ShardRows, items: Sequence[ShardItem]) -> None:
        there = merge.merged_assets(items)
        placed, puts = [], []
        for item in items:
            if merge.is_kept_apart(item):
                why = f"DEST has {item.directory} in another spelling: `stacpull mirror` fetches it."
                self._conflict(item, why)
                continue
            mine, before = there[item.id], self._counts.conflicts
            assets = [
                asset
                for asset in item.assets
                if self._is_taken(files, merge, item, asset, mine.get(asset.key))
            ]
            puts += [asset.path for asset in assets if asset.state == STATE_DONE and asset.path is not None]
            is_written = merge.written(item.id)
            is_outdated = bool(assets) if is_written else bool(mine) or self._counts.conflicts > before
            document = not is_written and self._has_document(files, item)
            if document:
                puts.append(item.document_path)
            placed.append(MergedItem(item, assets, document, is_outdated))
        self._place(files, puts)
        self._counts.items += merge.record(placed)

    def _has_document(self, files: StoredFiles, item: ShardItem) -> bool:
        """Return True if the shard has the JSON of an item intact and its path is free in DEST."""
        path = item.document_path
        if item.written == UNWRITTEN:
            return False
        if self._destination.has(path):
            self._conflict(item, f"{path} already exists in DEST")
            return False
        if item.sha256 is not None and files.state_of(path).digest == item.sha256:
            return True
        if item.document is None:
            self._conflict(item, f"the shard has lost {path}: run `stacpull verify --repair` on it")
        return False

    def _is_taken(
        self,
        files: StoredFiles,
        merge: ShardRows,
        item: ShardItem,
        asset: ShardAsset,
        there: MergedAsset | None,
    ) -> bool:
        """Return whether to merge an asset of a shard, and count it."""
        path = asset.path
        if asset.state != STATE_DONE:
            has_failed = there is None and asset.state >= STATE_FAILED
            return has_failed and self._is_failure_taken(merge, item, asset)
        if path is None:
            return False
        if there is not None and there.state == asset.state:
            if self._is_same(files, asset, there):
                self._counts.assets_there += 1
            else:
                self._conflict(item, "DEST has different content", asset)
            return False
        found = files.state_of(path, algorithm=None)
        if found.size != asset.size:
            why = "the shard has lost the file: run `stacpull verify --repair` on it"
            self._conflict(item, why, asset)
        elif there is not None and there.replaces:
            why = "DEST has not yet fetched the newer version: run `stacpull retry` on it"
            self._conflict(item, why, asset)
        elif not merge.is_free(path, 0 if there is None else there.row) or self._destination.has(path):
            self._conflict(item, f"{path} already exists in DEST", asset)
        else:
            self._counts.assets += 1
            self._counts.bytes += asset.size or 0
            return True
        return False

    def _is_failure_taken(self, merge: ShardRows, item: ShardItem, asset: ShardAsset) -> bool:
        self._counts.assets_failed += 1
        is_free = asset.path is None or merge.is_free(asset.path)
        if not is_free:
            self._conflict(item, f"{asset.path} already exists in DEST", asset)
        return is_free

    def _is_same(self, files: StoredFiles, asset: ShardAsset, there: MergedAsset) -> bool:
        if asset.size != there.size:
            return False
        if asset.digest is not None and there.digest is not None and len(asset.digest) == len(there.digest):
            return asset.digest == there.digest  # else they were mirrored with another --checksum
        places = (files, asset.path), (self._destination, there.path)
        digests = [one.state_of(path).digest for one, path in places if path is not None]
        return digests[0] is not None and digests[1:] == digests[:1]

    def _conflict(self, item: ShardItem, why: str, asset: ShardAsset | None = None) -> None:
        """Count something that is not merged: an asset, the JSON of an item, or an item."""
        self._counts.conflicts += 1
        if len(self._counts.named) < _NAMED:
            name = f"{item.id.collection}/{item.id.item}"
            self._counts.named.append(f"{name}: {why}" if asset is None else f"{name}/{asset.key}: {why}")

    # --- files -------------------------------------------------------------------------------------------

    def _place(self, files: StoredFiles, paths: Sequence[str]) -> None:
        """Publish and sync files in DEST."""
        parts = {path: f"merge-{number}.tmp" for number, path in enumerate(paths)}
        copied = [part for path, part in parts.items() if not self._link(files, path, part)]
        pruning.add_removals(self._db, paths)
        try:
            self._destination.sync(copied)
        except DestinationError:
            pruning.clear(self._db, paths)  # none was placed: what gets these names is not the mirror's
            raise
        for number, (path, part) in enumerate(parts.items()):
            directory, _, name = path.rpartition("/")
            try:
                failure = self._destination.place(part, directory, name, replace=False)
            except DestinationError:
                pruning.clear(self._db, paths[number + 1 :])  # this one may have been placed
                raise
            if failure is not None:  # another program writes here: the next start must not remove its files
                pruning.clear(self._db, paths[number:])
                raise DestinationError(failure.message)
        self._destination.sync(())

    def _link(self, files: StoredFiles, path: str, part: str) -> bool:
        """Link a file of a shard to its part. Return False if it was copied instead."""
        try:
            return self._destination.link_part(part, files, path)
        except OSError as error:  # errors of DEST are a `DestinationError`
            raise DestinationError(f"{files.name}/{path} cannot be read: {error.strerror}.") from error

    def _write_documents(self) -> None:
        """Write the JSON of items that gained files, and the catalogs."""
        row = self._db.execute("SELECT max(id) FROM runs").fetchone()[0]
        if row is None:
            return
        store = StoreOperations(
            self._workspace,
            runs.stored(self._db, row)._replace(kept={}),  # a merge adopts nothing
            checksum=None,
            secrets=Secrets(),
            clock=SystemClock(),
            is_stopped=self._reporter.is_stopped,
            on_published=lambda _count: None,
            on_event=self._reporter.report,
        )
        store.recover()
        store.write_catalogs()
        store.publisher.finish()
        self._reporter.flush()

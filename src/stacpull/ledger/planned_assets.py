"""Planning the assets of items: new ones, known ones, and those that cannot be fetched.

`ledger.known_assets` decides what becomes of a known asset. A failed asset whose name was taken gets a path
of the current layout when it is fetched again.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson
from msgspec.structs import replace

from stacpull.errors import StacpullError
from stacpull.ledger import paths
from stacpull.ledger.compact import OTHER_DIRECTORY, UNOWNED, stored_name, true_name
from stacpull.ledger.database import insert_rows, marks, number, pieces, rows_with
from stacpull.ledger.known_assets import (
    KnownAsset,
    Replanned,
    encoded_checksum,
    replan,
    version_to_confirm,
)
from stacpull.ledger.outcomes import failed_state, put_failure
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_PENDING, STATE_RESERVED
from stacpull.models import Asset, AssetProblem, Failure, FailureKind, ItemId, Job, PlannedItem, path_in_dest
from stacpull.planning.names import path_hash
from stacpull.redact import Secrets, href_hash, is_signed


class PlanResult(msgspec.Struct):
    """The result of planning a batch.

    Attributes:
        jobs: The jobs of assets that must be fetched.
        failures: Failures while planning: item, asset key ("" for the item itself), reason.
        new_seen: How many of `PlanBatch.seen` and `PlanBatch.left_out` were new.
        matched: Primary items that this run planned for the first time.
        items_failed: What could not be read or planned and was not counted in this run before, minus the
            source items that were read later in the run.
        findings: What else the report counts, by the name of its field in `MirrorReport`.
    """

    jobs: list[Job] = msgspec.field(default_factory=list)
    failures: list[tuple[ItemId, str, Failure]] = msgspec.field(default_factory=list)
    new_seen: int = 0
    matched: int = 0
    items_failed: int = 0
    findings: dict[str, int] = msgspec.field(default_factory=dict)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a finding."""
        if number:
            self.findings[name] = self.findings.get(name, 0) + number


class ItemRow(NamedTuple):
    """The item whose assets are planned: its row, ID, own URL, and the directory of its JSON."""

    row: int
    id: ItemId
    href: str | None
    directory: str


class AssetChanges(NamedTuple):
    """The changes that planning the assets of a known item has made."""

    any: bool = False
    """An asset is new, an asset is open that was final, or the item's JSON may be incomplete."""
    changed: bool = False
    """An asset is new, or has another size or checksum."""


_NOTHING = AssetChanges()
_RENEWED = AssetChanges(any=True)


def always_present(_path: str) -> bool:
    """Return True for every file, for a planner that does not look into DEST."""
    return True


class AssetPlanner:
    """Plans the assets of items for one run, within a batch's transaction."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        directories: paths.Directories,
        secrets: Secrets,
        *,
        revalidate: bool = False,
        is_there: Callable[[str], bool] = always_present,
        area: int | None = None,
    ) -> None:
        self._revalidate = revalidate
        self._area = area
        self._is_there = is_there
        self._secrets = secrets
        self._db = db
        self._run = run
        self._directories = directories
        self._last = 0
        self.forget()
        self.result = PlanResult()
        self._now = 0.0
        self._has_secrets = True
        self._unchanged: list[tuple[KnownAsset, bytes | None]] = []
        """Assets of the current batch that are done and unchanged, each with the checksum now stated."""

    def begin(self, now: float) -> None:
        """Start a batch; `now` is in seconds since 1970."""
        self.result, self._now = PlanResult(), now
        self._has_secrets = bool(self._secrets)
        self._unchanged = []

    def forget(self) -> None:
        """Clear the state of rows that were rolled back."""
        self._last = number(self._db, "SELECT max(id) FROM assets")

    def _new_row(self) -> int:
        self._last += 1
        return self._last

    # --- known assets ------------------------------------------------------------------------------------

    def existing(self, items: Sequence[int]) -> dict[int, dict[str, KnownAsset]]:
        """Return the asset rows of these items, by item and key."""
        found: dict[int, dict[str, KnownAsset]] = {item: {} for item in items}
        for row in rows_with(self._db, _EXISTING, items):
            found[row[0]][row[1]] = KnownAsset._make(row[2:])
        return found

    def plan_known(
        self,
        item: ItemRow,
        planned: PlannedItem,
        known: Mapping[str, KnownAsset],
        *,
        item_updated: bool,
        fresh_is_change: bool,
    ) -> AssetChanges:
        """Plan the assets of a known item; `keep_unchanged` completes the planning for a batch.

        Args:
            item: The item.
            planned: Its current plan.
            known: Its asset rows in the ledger.
            item_updated: True if its `updated` changed: assets that no checksum proves are revalidated.
            fresh_is_change: True if an unknown asset is new at the source; False if the previous run did not
                select it.
        """
        # a collection without `updated` may have changed
        item_may_have_changed = item_updated or (planned.of_collection and planned.updated is None)
        changes = [self._drop_unfetched(item, key, known.get(key)) for key in planned.expanded_prefixes]
        fresh: list[tuple[ItemRow, Asset]] = []
        for asset in planned.assets:
            old = known.get(asset.key)
            if old is None:
                fresh.append((item, asset))
                continue
            is_lost = self._is_lost(item, asset.key, old)
            self.result.count("files_lost", is_lost)
            replanned = replan(
                old,
                asset,
                is_lost=is_lost,
                item_updated=item_updated or old.unchecked,
                may_have_changed=item_may_have_changed or old.unchecked,
                revalidate=self._revalidate,
                area=self._area,
            )
            if old.unchecked:
                changes.append(_RENEWED)
            if replanned.state == STATE_DONE:
                self._unchanged.append((old, encoded_checksum(asset.checksum)))
            elif replanned.state >= STATE_FAILED:
                self._leave_failed(item, asset, old)
            else:
                changes.append(self._reopen(item, asset, old, replanned))
        if fresh:
            hashes = self.path_hashes(asset for _, asset in fresh)
            self.prepare(fresh, hashes)
            self.insert(fresh, hashes)
            changes.append(AssetChanges(any=True, changed=fresh_is_change))
        # FailureKind.ITEM: the document lists no asset, so the JSON in DEST stays
        added = [problem for problem in planned.problems if problem.key not in known]
        changes += [_RENEWED for problem in added if problem.failure.kind is not FailureKind.ITEM]
        self.fail(item, planned.problems, known)
        return AssetChanges(any(change.any for change in changes), any(change.changed for change in changes))

    def _is_lost(self, item: ItemRow, key: str, old: KnownAsset) -> bool:
        """Return True if an asset is done and its file is missing in DEST."""
        if old.state != STATE_DONE or old.name is None:
            return False
        directory = item.directory if old.directory is None else old.directory
        return not self._is_there(path_in_dest(directory, true_name(old.name, directory, key)))

    def keep_unchanged(self) -> None:
        """Assign the assets of the batch that are done and unchanged to this run."""
        for some in pieces([old.row for old, _ in self._unchanged if old.run != self._run]):
            taken_over = f"UPDATE assets SET run = ? WHERE id IN ({marks(len(some))})"
            self._db.execute(taken_over, (self._run, *some))
        newly = [(now, old.row) for old, now in self._unchanged if now is not None and now != old.stated]
        self._db.executemany("UPDATE assets SET stated = ? WHERE id = ?", newly)
        self._db.executemany(_CHECKED, [(old.row,) for old, _ in self._unchanged if old.unchecked])
        self._unchanged = []

    def _leave_failed(self, item: ItemRow, asset: Asset, old: KnownAsset) -> None:
        """Leave an asset failed, for `retry` with its newest href."""
        self._locate(item, asset, old)
        self._db.execute(_INSERT_OPEN, self._open_row(old.row, asset, old.previous_digest))
        self._db.execute("UPDATE assets SET run = ? WHERE id = ?", (self._run, old.row))

    def _reopen(self, item: ItemRow, asset: Asset, old: KnownAsset, new: Replanned) -> AssetChanges:
        """Make a known asset pending."""
        directory, name = self._locate(item, asset, old)
        self._db.execute(_INSERT_OPEN, self._open_row(old.row, asset, new.previous_digest))
        self._db.execute(
            f"UPDATE assets SET run = ?, state = {STATE_PENDING}, generation = ?, stated = ?, origin = ?, "
            "sha256 = NULL, etag = ? WHERE id = ?",
            (
                self._run,
                new.generation,
                encoded_checksum(asset.checksum),
                href_hash(asset.href),
                new.etag,
                old.row,
            ),
        )
        if old.state == STATE_RESERVED:
            self._db.execute("DELETE FROM reservations WHERE asset = ?", (old.row,))
        if old.unchecked:
            self._db.execute(_CHECKED, (old.row,))
        job = self._job(old.row, item, new.generation, asset, directory, name)
        self.result.jobs.append(replace(job, version_in_dest=version_to_confirm(old, asset, new.etag)))
        return AssetChanges(old.state >= STATE_DONE, new.has_changed)

    def _locate(self, item: ItemRow, asset: Asset, old: KnownAsset) -> tuple[str, str | None]:
        """Return the directory and name of a known asset. One that never had a name gets the planned one."""
        if old.name is not None and not old.name.startswith(UNOWNED):
            directory = item.directory if old.directory is None else old.directory
            return directory, true_name(old.name, directory, asset.key)
        directory_id, directory = self._directories.of_asset(asset.directory, item.directory)
        name = None if asset.name is None else UNOWNED + asset.name
        self._db.execute(
            "UPDATE assets SET directory = ?, name = ? WHERE id = ?", (directory_id, name, old.row)
        )
        return directory, asset.name

    def _drop_unfetched(self, item: ItemRow, key: str, old: KnownAsset | None) -> AssetChanges:
        """Delete an asset that was not fetched and that its item no longer lists.

        If an earlier version is in place, that stays. Fetched assets stay even if they are no longer listed.
        """
        if old is None or old.state in (STATE_RESERVED, STATE_DONE):
            return _NOTHING
        self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (item.row, key))
        drop_open(self._db, old.row, old.previous_digest, self._run)
        return _RENEWED

    # --- new assets --------------------------------------------------------------------------------------

    @staticmethod
    def path_hashes(assets: Iterable[Asset]) -> list[int | None]:
        """Return the hash of the path of each of these assets, None where the path is not known yet."""
        return [
            None if asset.name is None else path_hash(path_in_dest(asset.directory, asset.name))
            for asset in assets
        ]

    def prepare(self, fresh: Sequence[tuple[ItemRow, Asset]], hashes: Sequence[int | None]) -> None:
        """Look up or create the directories of new assets whose paths have these hashes."""
        others = {asset.directory for item, asset in fresh if asset.directory != item.directory}
        self._directories.prepare(others, hashes)

    def insert(self, fresh: Sequence[tuple[ItemRow, Asset]], hashes: Sequence[int | None]) -> None:
        """Insert rows for new assets, and add jobs for those whose name is free."""
        rows: list[tuple[object, ...]] = []
        opens: list[tuple[object, ...]] = []
        claims: list[tuple[int, int]] = []
        jobs: list[Job] = []
        last_item = last = None
        for (item, asset), name_hash in zip(fresh, hashes, strict=True):
            name, wanted = asset.name, asset.directory
            if item is not last_item or wanted != last:
                directory_id, directory = self._directories.of_asset(wanted, item.directory)
                last_item, last = item, wanted
            self._last = row = self._last + 1
            stored = None if name is None else stored_name(name, directory, asset.key)
            if name is not None and name_hash is not None:
                own = name_hash if directory == wanted else path_hash(path_in_dest(directory, name))
                claims.append((own, row))
            rows.append(self._asset_row(row, item, asset, STATE_PENDING, directory_id, stored))
            opens.append(self._open_row(row, asset, None))
            jobs.append(self._job(row, item, 0, asset, directory, name))
        taken = paths.own_all(self._db, claims)
        if taken:
            rows = [one for one in rows if one[0] not in taken]
            opens = [one for one in opens if one[0] not in taken]
        insert_rows(self._db, _INTO_ASSETS, rows)
        insert_rows(self._db, _INTO_OPEN, opens)
        if not taken:
            self.result.jobs += jobs
            return
        for (item, asset), job in zip(fresh, jobs, strict=True):
            if job.row in taken:
                self._insert_renamed(item, asset, job)
            else:
                self.result.jobs.append(job)

    def _insert_renamed(self, item: ItemRow, asset: Asset, job: Job) -> None:
        """Insert a new asset whose folded name is taken. It gets another name, or fails."""
        name = job.name or ""
        claim = paths.claim(self._db, job.row, job.directory, name)
        directory_id, _ = self._directories.of_asset(asset.directory, item.directory)
        stored = UNOWNED + name if claim.failure else stored_name(claim.name, job.directory, asset.key)
        state = STATE_FAILED if claim.failure else STATE_PENDING
        self._db.execute(_INSERT_ASSET, self._asset_row(job.row, item, asset, state, directory_id, stored))
        self._db.execute(_INSERT_OPEN, self._open_row(job.row, asset, None))
        if claim.failure is not None:
            self._failed_now(item, asset.key, claim.failure)
            return
        paths.own(self._db, job.row, claim)
        self.result.jobs.append(replace(job, name=claim.name))

    def _asset_row(
        self, row: int, item: ItemRow, asset: Asset, state: int, directory: int, name: str | None
    ) -> tuple[object, ...]:
        origin, stated = href_hash(asset.href), encoded_checksum(asset.checksum)
        return row, item.row, asset.key, state, 0, self._run, directory, name, origin, stated

    def _open_row(self, row: int, asset: Asset, previous_digest: bytes | None) -> tuple[object, ...]:
        href, stale, alternates = asset.href, 0, None
        if "?" in href or "@" in href or asset.alternates or self._has_secrets:
            cut = self._secrets.cut
            if asset.alternates:
                alternates = orjson.dumps([cut(href) for href in asset.alternates]).decode()
            stale = int(is_signed(href) or any(map(is_signed, asset.alternates)))
            href = cut(href)
        template, media_type = asset.name_template, asset.media_type
        return row, href, stale, template, asset.size, media_type, alternates, previous_digest

    def _job(
        self, row: int, item: ItemRow, generation: int, asset: Asset, directory: str, name: str | None
    ) -> Job:
        return Job(
            row,
            item.row,
            generation,
            asset.key,
            asset.href,
            item.href,
            directory,
            name,
            asset.name_template,
            asset.size,
            asset.checksum,
            asset.media_type,
            alternates=asset.alternates,
            unready=asset.unready,
            clip=self._area is not None,
        )

    # --- assets that cannot be fetched -------------------------------------------------------------------

    def fail(
        self, item: ItemRow, problems: Sequence[AssetProblem], existing: Mapping[str, KnownAsset]
    ) -> None:
        """Record assets that cannot be fetched as planned. Assets that are done stay done."""
        for problem in problems:
            old, state = existing.get(problem.key), failed_state(problem.failure)
            if old is None:
                values = (self._new_row(), item.row, problem.key, state, 0, self._run, *(None,) * 4)
                self._db.execute(_INSERT_ASSET, values)
                self._failed_now(item, problem.key, problem.failure)
                continue
            state = STATE_DONE if old.state == STATE_DONE else state
            self._db.execute("UPDATE assets SET run = ?, state = ? WHERE id = ?", (self._run, state, old.row))
            if old.state >= STATE_FAILED:
                self._note_failure(item, problem.key, problem.failure)
            elif old.state != STATE_DONE:
                self._failed_now(item, problem.key, problem.failure)

    def _failed_now(self, item: ItemRow, key: str, failure: Failure) -> None:
        self._note_failure(item, key, failure)
        self.result.failures.append((item.id, key, failure))

    def _note_failure(self, item: ItemRow, key: str, failure: Failure) -> None:
        put_failure(self._db, item.row, key, failure.scrubbed(self._secrets), 1, self._now)


def drop_open(db: sqlite3.Connection, row: int, previous: bytes | None, run: int) -> None:
    """Delete an open asset. If an earlier version of it is in place, that stays, as done.

    Args:
        db: The ledger.
        row: The asset.
        previous: The digest of the version in place, empty if it is unknown; None if there is none,
            also because its file was lost. Its ETag is unknown.
        run: The run that the version in place counts for.
    """
    if previous is not None:
        db.execute("DELETE FROM open_assets WHERE asset = ?", (row,))
        db.execute(
            f"UPDATE assets SET state = {STATE_DONE}, run = ?, sha256 = ?, stated = NULL, etag = NULL "
            "WHERE id = ?",
            (run, previous or None, row),
        )
        return
    paths.disown(db, row)
    db.execute("DELETE FROM assets WHERE id = ?", (row,))


def reject_duplicates(item: ItemId, assets: Sequence[Asset]) -> None:
    """Reject two assets with the same key: the key identifies the row.

    Raises:
        StacpullError: Two assets have the same key.
    """
    if len({asset.key for asset in assets}) != len(assets):
        twice = next(key for key, count in Counter(asset.key for asset in assets).items() if count > 1)
        raise StacpullError(
            f"Asset {twice!r} of item {item.item} of {item.collection} was planned twice: this is a "
            "bug in stacpull, please report it. --exclude-asset leaves such assets out."
        )


_EXISTING = (
    f"SELECT a.item, a.key, a.id, a.state, a.generation, a.run, {OTHER_DIRECTORY}, a.name, a.size, a.sha256, "
    "a.etag, a.origin, a.stated, o.previous_digest, u.asset IS NOT NULL, c.area, c.source_size FROM assets a "
    f"LEFT JOIN open_assets o ON o.asset = a.id AND a.state <> {STATE_DONE} "
    "LEFT JOIN unchecked u ON u.asset = a.id LEFT JOIN clips c ON c.asset = a.id WHERE a.item IN ({marks})"
)
_CHECKED = "DELETE FROM unchecked WHERE asset = ?"
_INTO_ASSETS = (
    "INSERT INTO assets(id, item, key, state, generation, run, directory, name, origin, stated) VALUES "
)
_INSERT_ASSET = f"{_INTO_ASSETS} (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_INTO_OPEN = (
    "INSERT OR REPLACE INTO open_assets(asset, href, stale, name_template, size, media_type, alternates, "
    "previous_digest) VALUES "
)
_INSERT_OPEN = f"{_INTO_OPEN} (?, ?, ?, ?, ?, ?, ?, ?)"

"""The assets of one item as they are planned: new ones, known ones, and those that cannot be fetched.

What the ledger knows of an asset decides what planning it again means:

- done, and its file is gone from DEST: pending again, in a new generation, and fetched as a whole;
- done, and the source states the same size and checksum: found done already;
- done, and it states others: pending again, in a new generation, under the name it has;
- done, and only the item's `updated` is another (now, or when a run left the asset out), or it states its
  first checksum, or every asset is to be asked for: likewise, but with the ETag (or date) it came with, under
  which the source is asked if it has changed; only where its href is the one it came from (`ledger.places`).
  The file in place counts as the old one until the source has said that it is the new one, too;
- pending, from a run that ended early: taken over by this run;
- failed: stays failed until `retry`, which finds the newest href, or until `updated` is another. One whose
  name was taken goes then where the layout of now puts it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from stacpull.digests import recorded
from stacpull.errors import StacpullError
from stacpull.ledger import bulk, paths
from stacpull.ledger.batches import Committed
from stacpull.ledger.compact import present, stored_name, true_name
from stacpull.ledger.failures import put_failure, state_of
from stacpull.ledger.places import Places
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_PENDING, STATE_RESERVED
from stacpull.models import Asset, AssetProblem, Checksum, Failure, ItemId, Job
from stacpull.planning.names import joined
from stacpull.redact import Secrets, is_signed

__all__ = ["AssetPlanner", "ItemPlace", "Tally", "is_changed", "is_same", "stated", "taken_to_be_there"]


@dataclass(slots=True)
class Tally:
    """What one commit adds to the counters of its run that are not derived."""

    matched: int = 0
    items_failed: int = 0
    excluded: int = 0
    pages: int = 0
    items_new: int = 0
    items_changed: int = 0
    files_lost: int = 0


class ItemPlace(NamedTuple):
    """The item whose assets are planned: its row, id, and own URL."""

    row: int
    id: ItemId
    href: str | None


class Existing(NamedTuple):
    """An asset row that is there already. Its place is None where it never got one."""

    row: int
    state: int
    generation: int
    size: int | None
    sha256: bytes | None
    stated: bytes | None
    name: str | None
    """As it is kept (`ledger.compact`)."""
    directory: str | None
    run: int
    etag: str | bytes | None
    """Likewise."""
    placed: int | None
    """Not None if it owns its name: what never did may go elsewhere."""
    unasked: int | None = None
    """`unasked.is_open`; None if it is not in that table. Else the source is to be asked about it."""

    @property
    def is_asked(self) -> bool:
        """True if it is pending because the source is asked whether it has changed."""
        return self.state == STATE_PENDING and self.etag is not None


class Opened(NamedTuple):
    """What planning the assets of an item that was known before has changed."""

    any: bool = False
    """One is open now that was final, or not there; or the item's JSON may lack what it has."""
    changed: bool = False
    """One is new, or of another size or checksum."""

    def __or__(self, other: tuple[bool, ...]) -> Opened:
        """Return what either has."""
        return Opened(*(one or another for one, another in zip(self, other, strict=True)))


def is_changed(existing: Existing, size: int | None, checksum: Checksum | None) -> bool:
    """Return True if a done asset must be fetched anew: the source now states another size or checksum."""
    if size is not None and existing.size is not None and size != existing.size:
        return True
    if checksum is None:
        return False
    if existing.sha256 is not None and recorded(existing.sha256).algorithm == checksum.algorithm:
        return checksum.digest != existing.sha256
    return existing.stated is not None and existing.stated != stated(checksum)


def is_same(existing: Existing, checksum: Checksum | None) -> bool:
    """Return True if a checksum that is stated proves a done asset to be what the source has."""
    if checksum is None:
        return False
    if existing.sha256 is not None and recorded(existing.sha256).algorithm == checksum.algorithm:
        return checksum.digest == existing.sha256
    return existing.stated is not None and existing.stated == stated(checksum)


def taken_to_be_there(_path: str) -> bool:
    """Say of every file that it is in DEST, where nobody looks."""
    return True


def stated(checksum: Checksum | None) -> bytes | None:
    """Return a checksum as it is stored: algorithm, NUL, digest."""
    return None if checksum is None else checksum.algorithm.encode() + b"\0" + checksum.digest


class AssetPlanner:
    """Plans the assets of items for one run, within the transaction of a batch."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        directories: paths.Directories,
        secrets: Secrets,
        *,
        revalidate: bool = False,
        is_there: Callable[[str], bool] = taken_to_be_there,
    ) -> None:
        self._revalidate = revalidate
        self._is_there = is_there
        self._secrets = secrets
        self._db = db
        self._run = run
        self._directories = directories
        self._next = (db.execute("SELECT max(id) FROM assets").fetchone()[0] or 0) + 1
        self.committed = Committed()
        self.tally = Tally()
        self._now = 0.0

    def begin(self, now: float) -> None:
        """Begin a batch; `now` in seconds since 1970."""
        self.committed, self.tally, self._now = Committed(), Tally(), now

    def _open_row(self, row: int, asset: Asset) -> tuple[object, ...]:
        cut = self._secrets.cut
        alternates = (
            orjson.dumps([cut(href) for href in asset.alternates]).decode() if asset.alternates else None
        )
        is_stale = is_signed(asset.href) or any(map(is_signed, asset.alternates))
        return (
            row, cut(asset.href), int(is_stale), asset.name_template, asset.size, asset.media_type, alternates
        )  # fmt: skip

    def existing(self, item_row: int) -> dict[str, Existing]:
        """Return the asset rows of an item, by key."""
        rows = self._db.execute(
            "SELECT a.key, a.id, a.state, a.generation, a.size, coalesce(a.sha256, nullif(a.was, x'')), "
            "a.stated, a.name, d.path, a.run, a.etag, a.placed, u.is_open FROM assets a "
            "LEFT JOIN directories d ON d.id = a.directory LEFT JOIN unasked u ON u.asset = a.id "
            "WHERE a.item = ?",
            (item_row,),
        )
        return {row[0]: Existing(*row[1:]) for row in rows}

    def plan(
        self,
        item: ItemPlace,
        assets: Sequence[Asset],
        problems: Sequence[AssetProblem],
        existing: dict[str, Existing],
        places: Places,
        *,
        spread: Sequence[str] = (),
        touched: bool = False,
        ask: bool = False,
        fresh_is_change: bool = True,
    ) -> Opened:
        """Plan the assets of one item.

        Args:
            item: the item.
            assets: those to fetch.
            problems: those that cannot be.
            existing: what the ledger has of it.
            places: tells if an asset is where it came from.
            spread: keys in whose place other assets stand now: a prefix that could not be fetched as it was.
            touched: True if its `updated` is another: the source is asked about what no checksum proves.
            ask: True to ask it too: nothing tells if the item has changed, and failures wait for `retry`.
            fresh_is_change: True if an asset that is not known is new at the source: False if the run before
                did not choose it.

        Raises:
            StacpullError: two assets have one key. It says which row is whose, so nothing is planned then.
        """
        _refuse_twice(item, assets)
        opened = Opened()
        fresh, unchanged = [], []
        for key in spread:
            opened |= (self._drop_unfetched(item, key, existing.get(key)), False)
        for asset in assets:
            old = existing.get(asset.key)
            if old is None:
                fresh.append(asset)
                continue
            due = old.unasked is not None
            if due:
                opened |= (True, False)
            if self._is_lost(asset.key, old):
                opened |= self._lost(item, asset, old)
            elif self._is_unchanged(asset, old, touched=touched or due or ask):
                unchanged.append((old, stated(asset.checksum)))
            else:
                opened |= self._again(item, asset, old, places, touched=touched or due)
        self._keep(unchanged)
        for stretch in bulk.in_stretches(fresh):
            opened |= (self._all_fresh(item, stretch), fresh_is_change)
        for problem in problems:
            self._problem(item, problem, existing.get(problem.key))
        return opened

    def _all_fresh(self, item: ItemPlace, assets: Sequence[Asset]) -> bool:
        """Insert rows for new assets; return True if any is open (its name was free)."""
        hashes = self._free_names(assets)
        if hashes is None:
            return (
                sum(self._fresh(item, asset) for asset in assets) > 0
            )  # each of them, whatever the first says
        values: list[object] = []
        opens: list[object] = []
        claimed: list[int] = []
        for asset, name_hash in zip(assets, hashes, strict=True):
            row, self._next = self._next, self._next + 1
            directory_id, directory = self._directories.get(asset.directory)
            name = None if asset.name is None else stored_name(asset.name, directory, asset.key)
            placed = None if name_hash is None else 1
            values += self._asset_row(row, item, asset, STATE_PENDING, directory_id, name, placed)
            if name_hash is not None:
                claimed += (name_hash, row)
            opens += self._open_row(row, asset)
            self.committed.jobs.append(_job(row, item, 0, asset, directory, asset.name))
        count = len(assets)
        self._db.execute(_INSERT_ASSETS + bulk.rows(count, _ASSET_COLUMNS), values)
        self._db.execute(_INSERT_OPEN + bulk.rows(count, _OPEN_COLUMNS), opens)
        if claimed:
            self._db.execute(paths.INSERT + bulk.rows(len(claimed) // 2, 2), claimed)
        return True

    def _free_names(self, assets: Sequence[Asset]) -> list[int | None] | None:
        """Return the hash of each name (None: known late), or None if one may be taken."""
        hashes = []
        for asset in assets:
            directory = self._directories.get(asset.directory)[1]
            path = f"{directory}/{asset.name}" if directory else asset.name
            hashes.append(None if asset.name is None or path is None else paths.path_hash(path))
        known = [one for one in hashes if one is not None]
        if len(set(known)) != len(known):
            return None
        taken = f"SELECT 1 FROM paths WHERE hash IN {bulk.places(len(known))} LIMIT 1"
        return None if known and self._db.execute(taken, known).fetchone() is not None else hashes

    def _fresh(self, item: ItemPlace, asset: Asset) -> bool:
        """Insert a row for a new asset, whose name may be taken; return True if it is open."""
        row, self._next = self._next, self._next + 1
        directory_id, directory = self._directories.get(asset.directory)
        failure, name, name_hash, state = None, asset.name, None, STATE_PENDING
        if name is not None:
            claim = paths.claim(self._db, row, directory, name)
            if claim.failure is None:
                name, name_hash = claim.name, claim.hash
            else:
                failure, state = claim.failure, STATE_FAILED
        stored = None if name is None else stored_name(name, directory, asset.key)
        placed = None if name_hash is None else 1
        values = self._asset_row(row, item, asset, state, directory_id, stored, placed)
        self._db.execute(_INSERT_ASSETS + bulk.rows(1, _ASSET_COLUMNS), values)
        self._db.execute(_INSERT_OPEN + bulk.rows(1, _OPEN_COLUMNS), self._open_row(row, asset))
        if name_hash is not None:
            self._db.execute(paths.INSERT + bulk.rows(1, 2), (name_hash, row))
        if failure is not None:
            self._failed_now(item, asset.key, failure)
            return False
        self.committed.jobs.append(_job(row, item, 0, asset, directory, name))
        return True

    def _asset_row(
        self,
        row: int,
        item: ItemPlace,
        asset: Asset,
        state: int,
        directory: int,
        name: str | None,
        placed: int | None,
    ) -> tuple[object, ...]:
        stated_now = stated(asset.checksum)
        return row, item.row, asset.key, state, 0, self._run, directory, name, placed, stated_now

    def _keep(self, unchanged: Sequence[tuple[Existing, bytes | None]]) -> None:
        """Take over into this run assets that are done and unchanged, each with the checksum stated now."""
        for some in bulk.in_stretches(unchanged):
            rows = [old.row for old, _ in some]
            taken_over = f"UPDATE assets SET run = ? WHERE id IN {bulk.places(len(rows))}"
            self._db.execute(taken_over, (self._run, *rows))
            newly = [(now, old.row) for old, now in some if now is not None and now != old.stated]
            self._db.executemany("UPDATE assets SET stated = ? WHERE id = ?", newly)
            self._db.executemany(_ASKED, [(old.row,) for old, _ in some if old.unasked is not None])

    def _is_lost(self, key: str, old: Existing) -> bool:
        """Return True if an asset is done and its file is not in DEST any more."""
        if old.state != STATE_DONE or old.name is None or old.directory is None:
            return False
        return not self._is_there(joined(old.directory, true_name(old.name, old.directory, key)))

    def _lost(self, item: ItemPlace, asset: Asset, old: Existing) -> Opened:
        """Plan an asset whose file is gone: it is fetched as a whole, as no version of it is here."""
        self.tally.files_lost += 1
        place = self._place(asset, old)
        changed = is_changed(old, asset.size, asset.checksum)
        self._db.execute(_INSERT_OPEN + bulk.rows(1, _OPEN_COLUMNS), self._open_row(old.row, asset))
        opened = self._open_again(item, asset, old._replace(etag=None), place, changed=changed)
        self._db.execute("UPDATE assets SET was = NULL WHERE id = ?", (old.row,))
        return opened

    def _is_unchanged(self, asset: Asset, old: Existing, *, touched: bool) -> bool:
        """Return True if it is done, with nothing to ask: nor is its checksum stated for the first time."""
        if old.state != STATE_DONE or is_changed(old, asset.size, asset.checksum) or self._revalidate:
            return False
        return is_same(old, asset.checksum) or (asset.checksum is None and not touched)

    def _again(
        self, item: ItemPlace, asset: Asset, old: Existing, places: Places, *, touched: bool
    ) -> Opened:
        """Plan an asset that is open, changed, failed or to be asked about."""
        directory, name = self._place(asset, old)
        self._db.execute(_INSERT_OPEN + bulk.rows(1, _OPEN_COLUMNS), self._open_row(old.row, asset))
        if old.state >= STATE_FAILED and not touched:
            self._db.execute("UPDATE assets SET run = ? WHERE id = ?", (self._run, old.row))
            return Opened()
        changed = is_changed(old, asset.size, asset.checksum)
        if changed or old.unasked or old.etag is None or not places.is_same(asset.key, old):
            old = old._replace(etag=None)
        return self._open_again(item, asset, old, (directory, name), changed=changed)

    def _open_again(
        self, item: ItemPlace, asset: Asset, old: Existing, place: tuple[str, str | None], *, changed: bool
    ) -> Opened:
        """Make an asset pending, whatever it was; of one that is done the source may only be asked."""
        was_done = old.state == STATE_DONE
        etag = old.etag if was_done or old.is_asked else None
        generation = old.generation + was_done
        self._db.execute(
            "UPDATE assets SET run = ?, state = ?, generation = ?, stated = ?, inode = NULL, "
            "was = iif(?, coalesce(sha256, x''), was), sha256 = NULL, etag = ?, wanted = NULL WHERE id = ?",
            (self._run, STATE_PENDING, generation, stated(asset.checksum), was_done, etag, old.row),
        )
        job = _job(old.row, item, generation, asset, *place)
        if etag is not None and old.size is not None:
            held = old._replace(stated=None) if old.is_asked else old  # it was not heard what it is now
            unheld = asset.checksum is not None and not is_same(held, asset.checksum)
            job = job._replace(present=present(etag, old.size, unheld=unheld))
        if old.unasked is not None:
            self._db.execute(_ASKED, (old.row,))
        self.committed.jobs.append(job)
        return Opened(old.state >= STATE_DONE, was_done and changed)

    def _place(self, asset: Asset, old: Existing) -> tuple[str, str | None]:
        """Return where a known asset goes: where it was; one that never owned a name gets the planned one."""
        if old.directory is not None and old.placed is not None:
            return old.directory, None if old.name is None else true_name(old.name, old.directory, asset.key)
        directory_id, directory = self._directories.get(asset.directory)
        name = None if asset.name is None else stored_name(asset.name, directory, asset.key)
        self._db.execute(
            "UPDATE assets SET directory = ?, name = ? WHERE id = ?", (directory_id, name, old.row)
        )
        return directory, asset.name

    def _problem(self, item: ItemPlace, problem: AssetProblem, old: Existing | None) -> None:
        """Record an asset that cannot be fetched as it is planned; what is done stays done."""
        if old is None:
            state = state_of(problem.failure)
            values = (self._next, item.row, problem.key, state, 0, self._run, None, None, None, None)
            self._db.execute(_INSERT_ASSETS + bulk.rows(1, _ASSET_COLUMNS), values)
            self._next += 1
            self._failed_now(item, problem.key, problem.failure)
            return
        state = STATE_DONE if old.state == STATE_DONE else state_of(problem.failure)
        self._db.execute("UPDATE assets SET run = ?, state = ? WHERE id = ?", (self._run, state, old.row))
        if old.state >= STATE_FAILED:
            put_failure(
                self._db, item.row, problem.key, problem.failure.scrubbed(self._secrets), 1, self._now
            )
        elif old.state != STATE_DONE:
            self._failed_now(item, problem.key, problem.failure)

    def _drop_unfetched(self, item: ItemPlace, key: str, old: Existing | None) -> bool:
        """Forget an asset that failed, or was still to be fetched, and is none any more; True if one was.

        If an earlier version of it is here, that stays, as any asset does that its item lists no more.
        """
        if old is None or old.state in (STATE_RESERVED, STATE_DONE):
            return False
        self._db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (item.row, key))
        self._db.execute("DELETE FROM open_assets WHERE asset = ?", (old.row,))
        if old.generation == 0:
            paths.disown(self._db, old.row)
            self._db.execute("DELETE FROM assets WHERE id = ?", (old.row,))
        else:
            self._stay(old)
        return True

    def _stay(self, old: Existing) -> None:
        """Take the version of an asset that is here for done."""
        self._db.execute(
            "UPDATE assets SET state = ?, run = ?, sha256 = nullif(was, x''), was = NULL, wanted = NULL, "
            "stated = NULL, etag = NULL WHERE id = ?",
            (STATE_DONE, self._run, old.row),
        )

    def _failed_now(self, item: ItemPlace, key: str, failure: Failure) -> None:
        put_failure(self._db, item.row, key, failure, 1, self._now)
        self.committed.failures.append((item.id, key, failure))


def _refuse_twice(item: ItemPlace, assets: Sequence[Asset]) -> None:
    if len({asset.key for asset in assets}) != len(assets):
        twice = next(key for key, count in Counter(asset.key for asset in assets).items() if count > 1)
        raise StacpullError(
            f"Asset {twice!r} of item {item.id.item} of {item.id.collection} was planned twice: this is a "
            "mistake of stacpull's, please report it. --exclude-asset leaves such assets out."
        )


_INSERT_ASSETS = "INSERT INTO assets(id, item, key, state, generation, run, directory, name, placed, stated) "
_ASSET_COLUMNS = 10
_ASKED = "DELETE FROM unasked WHERE asset = ?"
_INSERT_OPEN = "INSERT OR REPLACE INTO open_assets "
_OPEN_COLUMNS = 7


def _job(row: int, item: ItemPlace, generation: int, asset: Asset, directory: str, name: str | None) -> Job:
    return Job(
        row=row,
        item_row=item.row,
        generation=generation,
        key=asset.key,
        href=asset.href,
        item_href=item.href,
        directory=directory,
        name=name,
        name_template=asset.name_template,
        size=asset.size,
        checksum=asset.checksum,
        media_type=asset.media_type,
        alternates=asset.alternates,
        unready=asset.unready,
    )

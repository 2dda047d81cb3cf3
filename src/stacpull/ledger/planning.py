"""What a page brings, saved in one transaction: items, assets to fetch, and how far the walk is.

`Planner.commit` takes a batch of items of one page. The batch that ends a page carries the new position; so a
kill between two batches reads the page again, finds its first items planned already, and counts none twice.
Each item gets its number in the walk's order here, which is what `--max-items` counts.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from stacpull.caches import LONGEST_KEY, Recent
from stacpull.ledger import bulk, changes, paths, samples, unread
from stacpull.ledger.batches import Committed, ItemFailure, ItemRow, PlanBatch
from stacpull.ledger.compact import HrefForms, href_of
from stacpull.ledger.database import transaction
from stacpull.ledger.failures import put_failure
from stacpull.ledger.items import settle
from stacpull.ledger.places import Places, TellsPlaces, forget_validators, leave_out, nothing_told
from stacpull.ledger.planned_assets import AssetPlanner, Existing, ItemPlace, Tally, taken_to_be_there
from stacpull.ledger.runs import asset_counters, selection_of
from stacpull.ledger.schema import DAMAGED, OF_SEVERAL, STATE_DONE, WRITTEN, WRITTEN_ONCE
from stacpull.models import ItemId
from stacpull.planning.items import item_directory, item_document_path
from stacpull.redact import Secrets

__all__ = ["Committed", "ItemFailure", "ItemRow", "PlanBatch", "Planner", "seen_hash"]


class _Known(NamedTuple):
    """An item that is in the ledger, and the last run that planned it."""

    row: int
    run: int
    updated: str | None
    parent: int | None
    written: int
    walk: int | None
    """The last walk that met it (`ledger.schema`)."""


class Planner:
    """Plans for one run, on the ledger's writer thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        run: int,
        *,
        sample_size: int = 0,
        revalidate: bool = False,
        places: TellsPlaces = nothing_told,
        is_there: Callable[[str], bool] = taken_to_be_there,
        secrets: Secrets | None = None,
    ) -> None:
        """Make a planner.

        Args:
            db: the ledger.
            run: the run.
            sample_size: how many items the run's sample has, if it draws one.
            revalidate: True to ask the source about every asset that is done.
            places: tells where the assets of an item came from.
            is_there: tells if a file is in DEST, by its path relative to it.
            secrets: what no href and no message may hold.
        """
        self._secrets = Secrets() if secrets is None else secrets
        self._places = places
        self._preferred: dict[int, tuple[str, ...]] = {}
        self._same_assets: dict[int, bool] = {}
        self._db = db
        self._sample_size = sample_size
        self._run = run
        self._directories = paths.Directories(db)
        self._forms = HrefForms(db)
        self._collections = Recent[str, int]()
        self._is_there = is_there
        self._assets = AssetPlanner(
            db, run, self._directories, self._secrets, revalidate=revalidate, is_there=is_there
        )
        self._is_walk, self._others = _walks(db, run)
        self._next_sequence = (
            db.execute("SELECT max(sequence) FROM items WHERE run = ?", (run,)).fetchone()[0] or 0
        ) + 1

    def known(self, ids: Sequence[ItemId]) -> set[ItemId]:
        """Return those of `ids` that this run has planned already, as primary or as source items."""
        return {item for item in ids if (found := self._find(item)) is not None and found.run == self._run}

    def commit(self, batch: PlanBatch, now: float) -> Committed:
        """Save `batch` in one transaction and return the jobs it opens."""
        self._assets.begin(now)
        try:
            with transaction(self._db):
                done_before = asset_counters(self._db, self._run)["assets_done"]
                self._assets.committed.new_seen = self._see(batch.seen) + self._leave_out(batch)
                touched = [row for item in batch.items for row in self._item(item)]
                touched += [row for one in batch.failed_items for row in self._failed_item(one, now)]
                settle(self._db, touched)
                self._count(batch, asset_counters(self._db, self._run)["assets_done"] - done_before)
                self._sample(batch)
                unread.note(self._db, self._run, batch.unread, now)
                if batch.walk_ended or batch.drawn:
                    unread.end_of_walk(self._db, self._run)
        except BaseException:
            self._forget()
            raise
        committed = self._assets.committed
        committed.matched = self._tally.matched
        return committed

    @property
    def _tally(self) -> Tally:
        return self._assets.tally

    def _cut(self, href: str | None) -> str | None:
        return None if href is None else self._secrets.cut(href)

    def _forget(self) -> None:
        """Drop what is remembered of rows that were rolled back."""
        self._directories.forget()
        self._forms.forget()
        self._collections.clear()

    def _see(self, ids: Sequence[ItemId]) -> int:
        return sum(
            self._db.execute(_SEE + bulk.rows(len(some), 1), [seen_hash(item) for item in some]).rowcount
            for some in bulk.in_stretches(ids)
        )

    def _leave_out(self, batch: PlanBatch) -> int:
        """Count by reason what is left out and was not seen before; return how many that are."""
        counts = {reason: self._see(ids) for reason, ids in batch.left_out.items()}
        self._db.executemany(_LEAVE_OUT, [(self._run, *entry) for entry in counts.items()])
        return sum(counts.values())

    def _sample(self, batch: PlanBatch) -> None:
        samples.keep(self._db, batch.sampled, self._sample_size)
        if batch.drawn:
            samples.set_drawn(self._db, self._run)
        if batch.walk_ended:
            samples.clear(self._db)

    def _collection(self, name: str) -> int:
        found = self._known_collection(name)
        if found is None:
            found = self._db.execute("INSERT INTO collections(name) VALUES (?)", (name,)).lastrowid or 0
        return found

    def _known_collection(self, name: str) -> int | None:
        found = self._collections.get(name)
        if found is None:
            row = self._db.execute("SELECT id FROM collections WHERE name = ?", (name,)).fetchone()
            if row is None:
                return None
            found = int(row[0])
            if len(name) <= LONGEST_KEY:
                self._collections[name] = found
        return found

    def _find(self, item: ItemId) -> _Known | None:
        collection = self._known_collection(item.collection)
        if collection is None:
            return None
        row = self._db.execute(
            "SELECT id, run, updated, parent, written, walk FROM items WHERE collection = ? AND name = ?",
            (collection, item.item),
        ).fetchone()
        return None if row is None else _Known(*row)

    def _item(self, row: ItemRow) -> list[int]:
        """Plan an item; return its row, and those of the label items that wait, or waited, for it.

        Nothing is planned and returned if this run has it already: another label item brought it.
        """
        item = row.item
        found = self._find(item.id)
        if found is not None and found.run == self._run:
            return []
        parent = self._find(item.parent) if item.parent is not None else None
        sequence = None
        if item.parent is None and not item.of_collection:
            sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
            self._tally.matched += 1
        self._tally.excluded += len(item.excluded)
        self._tally.pages += len(item.pages)
        above = parent.row if parent is not None else None
        existing: dict[str, Existing] = {}
        if found is None:
            item_row = self._insert_item(row, above, sequence)
            self._tally.items_new += not item.of_collection
        else:
            item_row = found.row
            existing = self._assets.existing(item_row)
            self._db.execute("DELETE FROM failures WHERE item = ? AND key = ''", (item_row,))
        if above is not None:
            self._drop_stand_in(above, item.href, item_row)
        place = ItemPlace(item_row, item.id, item.href)
        touched = found is not None and item.updated != found.updated
        places = self._places_of(row, item_row)
        opened = self._assets.plan(
            place,
            item.assets,
            item.problems,
            existing,
            places,
            spread=item.spread,
            touched=touched,
            ask=item.of_collection and item.updated is None,
            fresh_is_change=found is not None and self._chose_same_assets(found.run),
        )
        if found is not None:
            lost = found.written == WRITTEN and not self._is_there(item_document_path(item.id))
            self._tally.files_lost += lost
            renewed = opened.any or touched or lost or found.written == DAMAGED
            self._look_beside(row, existing, places, touched=touched, renewed=renewed)
            self._plan_again(row, found, above, sequence)
            if item.of_collection:
                return [item_row]
            self._tally.items_changed += touched or opened.changed
            if renewed:
                self._renew_document(item_row, row.document)
        return _with_parents(item_row, above, found)

    def _places_of(self, row: ItemRow, item_row: int) -> Places:
        failed = frozenset(problem.key for problem in row.item.problems)
        before = partial(self._places, item_row)
        return Places(row.item, failed, before, self._prefer_of, self._prefer_of(self._run))

    def _prefer_of(self, run: int) -> tuple[str, ...]:
        """Return the `--prefer` of a run."""
        found = self._preferred.get(run)
        if found is None:
            row = self._db.execute("SELECT selection FROM runs WHERE id = ?", (run,)).fetchone()
            found = self._preferred[run] = () if row is None else selection_of(row[0]).prefer
        return found

    def _chose_same_assets(self, run: int) -> bool:
        """Return True if `run` would have planned the assets that this one plans, had they been there."""
        found = self._same_assets.get(run)
        if found is None:
            row = self._db.execute("SELECT selection, state FROM runs WHERE id = ?", (run,)).fetchone()
            is_over = row is None or row[1] == "superseded"  # what it wanted may be forgotten
            found = not is_over and _choice_of_assets(row[0]) == self._own_choice()
            self._same_assets[run] = found
        return found

    def _own_choice(self) -> tuple[object, ...]:
        row = self._db.execute("SELECT selection FROM runs WHERE id = ?", (self._run,)).fetchone()
        return _choice_of_assets(row[0])

    def _look_beside(
        self,
        row: ItemRow,
        existing: Mapping[str, Existing],
        places: Places,
        *,
        touched: bool,
        renewed: bool,
    ) -> None:
        """See to the assets of an item that were not opened: this run must not hide a change of them.

        One that is left out is asked for by the next run that plans it, if the item's `updated` is another:
        only this run can tell. Likewise one that the document, renewed, does not list (a prefix that was not
        looked into: so the document gets it back), and one that is open, whose href is older than that.
        """
        if not (renewed or places.are_preferred_otherwise(existing.values())):
            return
        planned = {one.key for one in row.item.assets}.union(row.item.spread)
        beside = {key: old for key, old in existing.items() if key not in planned}
        if renewed:
            left = [
                (old.row, old.state != STATE_DONE)
                for key, old in beside.items()
                if touched or old.state != STATE_DONE or not places.is_listed(key)
            ]
            leave_out(self._db, left)
        told = [
            (key, old) for key, old in existing.items() if old.state == STATE_DONE and old.etag is not None
        ]
        forget_validators(self._db, [old.row for key, old in told if not places.is_same(key, old)])

    def _insert_item(self, row: ItemRow, parent: int | None, sequence: int | None) -> int:
        """Insert an item, open until it is settled."""
        item = row.item
        values = (
            self._collection(item.id.collection),
            item.id.item,
            parent,
            self._run,
            sequence,
            self._directories.id_of(item_directory(item.id)),
            *self._href(item.href, item.id),
            item.updated,
            self._run if self._is_walk else None,
        )
        item_row = self._db.execute(_INSERT_ITEM, values).lastrowid or 0
        if not item.of_collection:
            self._db.execute(_PUT_DOCUMENT, (item_row, row.document))
        return item_row

    def _href(self, href: str | None, item: ItemId) -> tuple[str | None, int | None]:
        """Return what `href` and `href_form` hold."""
        return self._forms.stored(self._cut(href), item.item)

    def _plan_again(self, row: ItemRow, found: _Known, parent: int | None, sequence: int | None) -> None:
        """Take an item over into this run: open until it is settled, and what it is in this run's walk."""
        item, walk = row.item, self._walk_of(found, row.item.href)
        self._db.execute(
            "UPDATE items SET run = ?, sequence = ?, parent = ?, updated = ?, href = ?, href_form = ?, "
            "walk = ?, remaining = 1 WHERE id = ?",
            (self._run, sequence, parent, item.updated, *self._href(item.href, item.id), walk, found.row),
        )

    def _walk_of(self, found: _Known, href: str | None) -> int | None:
        """Return by which walk an item is known from now on: a retry is none.

        What another source has under another URL is no single source's to call gone.
        """
        if not self._is_walk or found.walk == OF_SEVERAL:
            return found.walk
        if found.walk in self._others and self._href_of(found.row) != self._cut(href):
            return OF_SEVERAL
        return self._run

    def _href_of(self, item_row: int) -> str | None:
        kept: str | None = self._db.execute(
            f"SELECT {href_of()} FROM items i WHERE i.id = ?", (item_row,)
        ).fetchone()[0]
        return kept

    def _renew_document(self, item_row: int, document: bytes) -> None:
        """Have the item's JSON written again; a file that is there is ours if it ever was written."""
        self._db.execute(_PUT_DOCUMENT, (item_row, document))
        self._db.execute(
            f"UPDATE items SET written = {WRITTEN_ONCE} WHERE id = ? AND written = {WRITTEN}", (item_row,)
        )

    def _drop_stand_in(self, parent: int, href: str | None, item_row: int) -> None:
        """Remove what stood for a source item while it could not be read and its id was not known."""
        rows = self._db.execute(
            "SELECT i.id FROM items i JOIN failures f ON f.item = i.id AND f.key = '' "
            f"WHERE i.parent = ? AND {href_of()} = ? AND i.id <> ?",
            (parent, self._cut(href), item_row),
        ).fetchall()
        for row in rows:
            self._db.execute("DELETE FROM failures WHERE item = ?", row)
            self._db.execute("DELETE FROM items WHERE id = ?", row)

    def _failed_item(self, failed: ItemFailure, now: float) -> list[int]:
        """Record a source item that could not be read; return its row and those of its label items."""
        parent, found = self._find(failed.parent), self._find(failed.id)
        if found is not None and found.run == self._run:
            return []
        above = parent.row if parent is not None else None
        if found is None:
            values = (
                self._collection(failed.id.collection),
                failed.id.item,
                above,
                self._run,
                None,
                self._directories.id_of(item_directory(failed.id)),
                *self._href(failed.href, failed.id),
                None,
                None,
            )
            row = self._db.execute(_INSERT_ITEM, values).lastrowid or 0
        else:
            row = found.row
            self._db.execute(
                "UPDATE items SET run = ?, parent = ?, sequence = NULL WHERE id = ?", (self._run, above, row)
            )
        put_failure(self._db, row, "", failed.failure.scrubbed(self._secrets), 1, now)
        self._tally.items_failed += 1
        self._assets.committed.failures.append((failed.id, "", failed.failure))
        return _with_parents(row, above, found)

    def _count(self, batch: PlanBatch, skipped: int) -> None:
        tally = self._tally
        self._db.execute(
            _COUNT_RUN,
            {
                "seen": self._assets.committed.new_seen,
                "matched": tally.matched,
                "items_failed": tally.items_failed + batch.unplannable,
                "without_label": batch.without_label,
                "excluded": tally.excluded,
                "pages": tally.pages,
                "skipped": skipped,
                "position": batch.position,
                "walk_ended": batch.walk_ended,
                "announced": batch.announced,
                "cut_short": batch.cut_short,
                "announced_by_all": batch.announced_by_all,
                "run": self._run,
            },
        )
        if batch.walked is not None:
            self._db.execute("INSERT OR IGNORE INTO walked VALUES (?)", (batch.walked,))
        changes.count(
            self._db,
            self._run,
            {
                "items_new": tally.items_new,
                "items_changed": tally.items_changed,
                "files_lost": tally.files_lost,
            },
        )


_SEE = "INSERT OR IGNORE INTO seen "
_LEAVE_OUT = "INSERT INTO left_out VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET items = items + excluded.items"
_INSERT_ITEM = (
    "INSERT INTO items(collection, name, parent, run, sequence, directory, href, href_form, updated, walk, "
    "remaining) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)"
)
_PUT_DOCUMENT = "INSERT OR REPLACE INTO documents VALUES (?, ?)"
_COUNT_RUN = (
    "UPDATE runs SET items_seen = items_seen + :seen, items_matched = items_matched + :matched, "
    "items_failed = items_failed + :items_failed, "
    "items_without_label = items_without_label + :without_label, "
    "assets_excluded = assets_excluded + :excluded, assets_pages = assets_pages + :pages, "
    "assets_skipped = assets_skipped + :skipped, position = coalesce(:position, position), "
    "walk_ended = walk_ended OR :walk_ended, "
    "items_announced = coalesce(:announced, items_announced), "
    "cut_short = coalesce(:cut_short, cut_short), "
    "items_unseen = coalesce(max(0, :announced_by_all - items_seen - :seen), items_unseen) WHERE id = :run"
)


def _choice_of_assets(selection: str) -> tuple[object, ...]:
    """Return what decides which assets of an item a run plans."""
    chosen = selection_of(selection)
    return (
        chosen.assets,
        chosen.exclude_assets,
        chosen.roles,
        chosen.media_types,
        chosen.include_pages,
        chosen.expand_prefix,
    )


def _with_parents(row: int, parent: int | None, before: _Known | None) -> list[int]:
    """Return an item with the label items to be settled with it: the one it has now, and had before."""
    parents = (parent, before.parent if before is not None else None)
    return [row, *(one for one in parents if one is not None)]


def _walks(db: sqlite3.Connection, run: int) -> tuple[bool, frozenset[int]]:
    """Return whether `run` walks its source, and the walks of other sources."""
    rows = db.execute(
        "SELECT id, kind, source = (SELECT source FROM runs WHERE id = ?) FROM runs", (run,)
    ).fetchall()
    is_walk = any(row == run and kind == "mirror" for row, kind, _ in rows)
    return is_walk, frozenset(row for row, _, is_own in rows if not is_own)


def seen_hash(item: ItemId) -> int:
    """Return what stands for an item in the table of those that the walk under way met, matched or not."""
    digest = hashlib.blake2b(
        f"{item.collection}\0{item.item}".encode("utf-8", "surrogatepass"), digest_size=8
    )
    return int.from_bytes(digest.digest(), "big", signed=True)

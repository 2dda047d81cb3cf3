"""What the ledger has of items and their assets, before a plan changes it; and what a new plan would do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stacpull.digests import text_digest
from stacpull.ledger.asset_decision import Action, AssetRow, IsThere, KnownAsset, decide
from stacpull.ledger.database import IN_LIST, Connection, json_array
from stacpull.ledger.runs import Run
from stacpull.ledger.schema import JsonState, State, item_hash, stored_clip
from stacpull.models import ItemId, PlannedItem, path_in_dest
from stacpull.planning.item_plan import document_digest


class ItemRow(NamedTuple):
    """The columns of `items` that a batch sets, and, at the end, `is_unreadable`."""

    id: int
    hash: int
    collection: int
    name: str
    parent: int | None
    run: int
    other_directory: str | None
    href: str | None = None
    version: str | None = None  # `updated`, or if it states none, a digest of its document
    listed_by: int | None = None
    json_state: int = JsonState.ABSENT
    pending: int = 1  # of a new item
    is_unreadable: int = 0  # 1: it is a source item that could not be read

    def directory_of(self, item: ItemId) -> str:
        """Return the directory of its JSON; `item` is its ID."""
        return self.other_directory or f"{item.collection}/{item.item}"

    def was_planned_in(self, run: Run) -> bool:
        return self.run == run.id and not self.is_unreadable


ITEM_COLUMNS = ItemRow._fields[:-1]
_SELECT_ITEMS = f"""
SELECT i.collection_name, {", ".join(f"i.{column}" for column in ITEM_COLUMNS)},
    EXISTS (SELECT 1 FROM failures WHERE what = 'item' AND item = i.id)
FROM named_items i WHERE i.hash {IN_LIST}
"""
_SELECT_ASSETS = f"""
SELECT {", ".join(f"a.{column}" for column in AssetRow._fields)},
    (SELECT path FROM directories WHERE id = a.other_directory), a.size, a.clip,
    iif(a.state = {State.DONE}, coalesce(a.digest, x''), j.digest_in_dest),
    a.state = {State.FAILED} AND (
        j.stale AND (SELECT href FROM items WHERE id = a.item) IS NULL
        OR EXISTS (SELECT 1 FROM failed_assets WHERE id = a.id AND kind {IN_LIST})
    )
FROM assets a LEFT JOIN jobs j ON j.asset = a.id AND a.state <> {State.DONE}
WHERE a.item {IN_LIST}
"""


def known_items(db: Connection, ids: Iterable[ItemId]) -> dict[ItemId, ItemRow]:
    rows = db.execute(_SELECT_ITEMS, (json_array(map(item_hash, set(ids))),))
    return {ItemId(collection, row[3]): ItemRow._make(row) for collection, *row in rows}


def known_assets(
    db: Connection, items: Mapping[ItemId, ItemRow], run: Run
) -> Mapping[int, dict[str, KnownAsset]]:
    directories = {row.id: row.directory_of(item) for item, row in items.items()}
    known: defaultdict[int, dict[str, KnownAsset]] = defaultdict(dict)
    width = len(AssetRow._fields)
    for values in db.execute(_SELECT_ASSETS, (json_array(run.tried_again), json_array(directories))):
        row = AssetRow._make(values[:width])
        other_directory, size, clip, *others = values[width:]
        directory = directories[row.item] if other_directory is None else other_directory.removesuffix("/")
        known[row.item][row.key] = KnownAsset(row, directory, size, stored_clip(clip), *others)
    return known


def known_actions(
    db: Connection, items: Sequence[PlannedItem], area: str | None, is_there: IsThere
) -> Mapping[ItemId, Mapping[str, tuple[Action, str | None]]]:
    """Return what a new run (with `--clip area`) would do with known assets, and the paths they keep."""
    rows = known_items(db, [item.id for item in items])
    run = Run(0, "mirror", "", {}, {}, text_digest(area) if area else None)
    known = known_assets(db, rows, run)
    actions: defaultdict[ItemId, dict[str, tuple[Action, str | None]]] = defaultdict(dict)
    for item in [item for item in items if item.id in rows]:
        row = rows[item.id]
        is_updated = row.version != version_of(item)
        for asset in item.assets:
            old = known[row.id].get(asset.key)
            if old is not None:
                is_lost = old.is_lost(is_there)
                decision = decide(
                    old, asset, run, is_updated=is_updated, is_undated=item.is_undated, is_lost=is_lost
                )
                path = None if old.row.name is None else path_in_dest(old.directory, old.row.name)
                actions[item.id][asset.key] = decision.action, path
    return actions


def version_of(item: PlannedItem) -> str:
    return item.updated or document_digest(item.public_json)

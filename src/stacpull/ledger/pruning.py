"""Deleting the rows of items that are gone from their source.

First, rows are deleted and their files are listed; then the files are removed; then the list is cleared. Each
step begins when the one before is durable. So a kill leaves no row without its file, and no unknown file.
"""

from collections.abc import Sequence
from itertools import islice

from stacpull.hosts import host_of
from stacpull.ledger import meta, runs, schema
from stacpull.ledger.database import IN_LIST, Connection, column, json_array, scalar, transaction
from stacpull.ledger.schema import AssetState, JsonState
from stacpull.ledger.transitions import delete_asset, update_item_states
from stacpull.models import OWN_ASSETS_ID, ItemId, NotFoundItem
from stacpull.planning.item_plan import item_json_in

ITEMS_AT_ONCE = 500  # items that are requested, and removed, at once
_SAME_WALKS = (
    "SELECT o.id FROM runs r JOIN runs o USING (source, selection) "
    "WHERE r.id = ? AND o.id <> r.id AND o.kind = 'mirror' AND NOT EXISTS ("
    "SELECT value FROM json_each(o.credential_names) EXCEPT SELECT value FROM json_each(r.credential_names))"
)
"""SQL: other walks of the same source and selection, without those that had more credentials: many services
return 404 for items that need a login."""


def items_not_found(db: Connection, run_id: int, after: int) -> list[NotFoundItem]:
    """Return items after rowid `after` that only earlier walks listed (`_SAME_WALKS`)."""
    columns = "i.id, i.collection_name, i.name, i.parent, i.href, count(a.id), coalesce(sum(a.size), 0)"
    has_file = f"(a.state = {AssetState.DONE} OR a.generation > 0)"
    tables = f"named_items i LEFT JOIN assets a ON a.item = i.id AND {has_file}"
    is_not_found = f"i.id > ? AND i.name <> '{OWN_ASSETS_ID}' AND i.listed_by IN ({_SAME_WALKS})"
    query = f"SELECT {columns} FROM {tables} WHERE {is_not_found} GROUP BY i.id ORDER BY i.id LIMIT ?"
    rows = db.execute(query, (after, run_id, ITEMS_AT_ONCE)).fetchall()
    items = []
    for rowid, collection, name, *others in rows:
        item = ItemId(collection, name)
        items.append(NotFoundItem(rowid, item, runs.has_seen(db, item), *others))
    return items


def count_not_listed(db: Connection, run_id: int) -> int:
    """Count items of earlier walks (`_SAME_WALKS`) that `run` did not list."""
    return _count_unseen(db, f"listed_by IN ({_SAME_WALKS})", run_id)


def count_of_other_walks(db: Connection, run_id: int) -> int:
    """Count items that `run` did not find, and that another kind of walk or several sources listed."""
    of_source = "SELECT o.id FROM runs r JOIN runs o USING (source) WHERE r.id = ? AND o.id <> r.id"
    condition = f"(listed_by IN ({of_source}) AND listed_by NOT IN ({_SAME_WALKS}))"
    return _count_unseen(db, f"{condition} OR listed_by = {schema.LISTED_BY_SEVERAL}", run_id, run_id)


def _count_unseen(db: Connection, condition: str, *values: int) -> int:
    query = f"SELECT collection_name, name FROM named_items WHERE name <> '{OWN_ASSETS_ID}' AND ({condition})"
    items = (ItemId(*names) for names in db.execute(query, values))
    return sum(not runs.has_seen(db, item) for item in items)


def seen_examples(db: Connection, run_id: int, collection: str, server: str) -> list[tuple[str, str]]:
    """Return (ID, own URL) of three items of a collection that `run` found, with URLs of one server."""
    query = "SELECT name, href FROM named_items WHERE collection_name = ? AND name <> '' AND href <> ''"
    rows = db.execute(f"{query} AND listed_by = ?", (collection, run_id))
    on_server = ((name, href) for name, href in rows if host_of(href) == server)
    return list(islice(on_server, 3))


def count_unreadable(db: Connection, run_id: int) -> int:
    """Return the number of links and items that the walk of `run` could not read or use."""
    # a known source item whose URL returns 404 or 410 does not count: that concerns this item only
    of_one_item = (
        "SELECT 1 FROM items i WHERE i.id = f.item AND i.name <> i.href "
        "AND f.kind = 'gone' AND (f.status IS NULL OR f.status IN (404, 410))"
    )
    is_counted = f"what IN ('item', 'link', 'entry') AND run = ? AND NOT EXISTS ({of_one_item})"
    return scalar(db, f"SELECT count(*) FROM failures f WHERE {is_counted}", (run_id,))


def delete_items(db: Connection, run_id: int, items: Sequence[int]) -> None:
    """Delete items and list their files for removal, in one transaction."""
    rowids = (json_array(items),)
    with transaction(db):
        parents = column(db, f"SELECT parent FROM items WHERE id {IN_LIST}", rowids)
        # a file at the path of an asset that was never done is not ours
        query = f"SELECT id, path, is_ours FROM placed_assets WHERE item {IN_LIST}"
        assets = db.execute(query, rowids).fetchall()
        files = [path for _, path, is_ours in assets if is_ours and path is not None]
        query = f"SELECT directory, name FROM named_items WHERE json_state <> {JsonState.ABSENT}"
        json_files = [item_json_in(*row) for row in db.execute(f"{query} AND id {IN_LIST}", rowids)]
        names = [(meta.REMOVALS + path,) for path in files + json_files]
        db.executemany("INSERT OR IGNORE INTO meta VALUES (?, '')", names)
        for asset, _, _ in assets:
            delete_asset(db, asset)
        db.execute(f"DELETE FROM failures WHERE what IN ('item', 'json') AND item {IN_LIST}", rowids)
        db.execute(f"DELETE FROM documents WHERE item {IN_LIST}", rowids)
        db.execute(f"UPDATE items SET parent = NULL WHERE parent {IN_LIST}", rowids)
        db.execute(f"DELETE FROM items WHERE id {IN_LIST}", rowids)
        update_item_states(db, set(parents) - set(items))
        runs.add_counts(db, run_id, {"items_pruned": len(items), "assets_pruned": len(files)})

"""Deleting rows that a mirror no longer needs: items gone from its source, and assets that no run selects.

`forget`: one transaction deletes the rows and lists the paths of their files. Once the transaction is
durable, the files are removed. Once the removals are durable, the list is cleared. So a kill leaves no row
without its file and no file without its row. Files that are still listed at the next start are removed then.

`forget_unwanted`: a complete mirror replaces the earlier runs of its source whose selection is at least as
wide. Assets that those runs left open (pending or failed) and that the complete mirror did not plan are no
longer wanted. Files in the mirror stay. A later run with a wider selection plans the other assets again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import orjson

from stacpull.ledger import paths, runs
from stacpull.ledger.database import exists, marks, number, rows_with, transaction
from stacpull.ledger.meta import REMOVALS, add_names, disown_file, file_digests, names, remove_names
from stacpull.ledger.outcomes import drop_open, renew_document, update_item_states
from stacpull.ledger.paths import ASSET_PATH, ITEM_DIRECTORY
from stacpull.ledger.runs import seen_hash, selection_of
from stacpull.ledger.schema import (
    OF_SEVERAL,
    STATE_DONE,
    STATE_FAILED,
    STATE_PENDING,
    STATE_RESERVED,
    UNWRITTEN,
)
from stacpull.models import OF_COLLECTION, ItemId
from stacpull.planning.item_plan import item_document_name
from stacpull.planning.names import safe_segment
from stacpull.urls import server_of

if TYPE_CHECKING:
    from stacpull.selection import Selection  # it imports attrs: the store process seldom needs it

_DENIED = "f.kind = 'gone' AND (f.status IS NULL OR f.status IN (404, 410))"


class NotFoundItem(NamedTuple):
    """An item that a walk did not find. `href` is its own URL, if it has one; `size` is in bytes."""

    row: int
    id: ItemId
    href: str | None
    linked: bool
    """True if the walk found a link to it that could not be read."""
    listed: bool
    """True if it was on a page of the walk and a filter rejected it."""
    assets: int
    size: int


class LabelItem(NamedTuple):
    """A label item of a source item; `source` is the row of the source item."""

    source: int
    row: int
    id: ItemId
    href: str | None


def items_not_found(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[NotFoundItem]:
    """Return items past row `after` whose last walk is an earlier one of the same source and selection."""
    runs = _comparable_walks(db, run)
    rows = db.execute(
        f"SELECT i.id, c.name, i.name, i.href, "
        "EXISTS (SELECT 1 FROM failures f WHERE f.item = i.id AND f.key = '' AND i.run = ?), "
        "count(a.id), coalesce(sum(a.size), 0) FROM items i JOIN collections c ON c.id = i.collection "
        f"LEFT JOIN assets a ON a.item = i.id AND a.state = {STATE_DONE} "
        f"WHERE i.id > ? AND i.name <> '{OF_COLLECTION}' AND i.walk IN ({marks(len(runs))}) "
        "GROUP BY i.id ORDER BY i.id LIMIT ?",
        (run, after, *runs, limit),
    )
    return [
        NotFoundItem(row, item, href, bool(linked), exists(db, _LISTED, (seen_hash(item),)), *rest)
        for row, item, href, linked, *rest in (
            (row, ItemId(collection, name), *others) for row, collection, name, *others in rows.fetchall()
        )
    ]


_LISTED = "SELECT 1 FROM seen WHERE hash = ?"
_PARENTS = "SELECT parent FROM items WHERE id IN ({marks}) AND parent IS NOT NULL"


def seen_examples(
    db: sqlite3.Connection, run: int, collection: str, server: str, limit: int
) -> list[tuple[str, str]]:
    """Return (ID, own URL) of items of a collection that `run` found, with URLs of one server."""
    rows = db.execute(
        f"SELECT i.name, i.href FROM items i JOIN collections c ON c.id = i.collection "
        f"WHERE c.name = ? AND i.walk = ? AND i.name <> '{OF_COLLECTION}'",
        (collection, run),
    )
    found = ((name, href) for name, href in rows if href is not None and server_of(href) == server)
    return list(islice(found, limit))


def unread(db: sqlite3.Connection, run: int) -> int:
    """Return the number of links and items that the walk of `run` could not read or use.

    A known source item whose URL returns 404 or 410 is not counted: that response concerns this item only.
    """
    return number(
        db,
        "SELECT items_failed - (SELECT count(*) FROM failures f JOIN items i ON i.id = f.item "
        f"WHERE i.run = r.id AND f.key = '' AND {_DENIED} AND i.name <> i.href) "
        "FROM runs r WHERE id = ?",
        (run,),
    )


def of_several(db: sqlite3.Connection, run: int) -> int:
    """Return how many items `run` did not find that several sources list under different URLs."""
    return number(db, f"SELECT count(*) FROM items WHERE walk = {OF_SEVERAL} AND run <> ?", (run,))


def of_more_credentials(db: sqlite3.Connection, run: int) -> int:
    """Return the number of items last found by walks with credentials that `run` does not have."""
    others = sorted({*_same_walks(db, run)} - {*_comparable_walks(db, run)})
    met = f"SELECT count(*) FROM items WHERE name <> '{OF_COLLECTION}' AND walk IN ({marks(len(others))})"
    return number(db, met, others)


def label_items(db: sqlite3.Connection, sources: Sequence[int]) -> list[LabelItem]:
    """Return the known label items that link to these source items."""
    return [
        LabelItem(source, row, ItemId(collection, name), href)
        for source in sources
        for row, collection, name, href in db.execute(
            "SELECT i.id, c.name, i.name, i.href FROM items i "
            "JOIN collections c ON c.id = i.collection WHERE i.id = (SELECT parent FROM items WHERE id = ?)",
            (source,),
        )
    ]


def unlisted_assets(db: sqlite3.Connection, run: int) -> int:
    """Return the number of mirrored assets that their item, which `run` found, no longer lists."""
    runs = _comparable_walks(db, run)
    return number(
        db,
        "SELECT count(*) FROM items i JOIN assets a ON a.item = i.id "
        f"WHERE i.walk = ? AND a.state = {STATE_DONE} AND a.run IN ({marks(len(runs))})",
        (run, *runs),
    )


def _comparable_walks(db: sqlite3.Connection, run: int) -> list[int]:
    """Return the other walks of the same source and selection whose credentials `run` has as well.

    Many services return 404 for items that the user may not see.
    """
    names = {row[0]: set(orjson.loads(row[1])) for row in db.execute("SELECT id, credential_names FROM runs")}
    return [other for other in _same_walks(db, run) if names[other] <= names[run]]


def _same_walks(db: sqlite3.Connection, run: int) -> list[int]:
    """Return the other walks of the same source and selection. Items of a wider selection are not judged."""
    rows = db.execute(
        "SELECT id, source, selection FROM runs WHERE kind = 'mirror' OR id = ?", (run,)
    ).fetchall()
    source, selection = next((row[1], selection_of(row[2])) for row in rows if row[0] == run)
    return [
        row[0] for row in rows if row[0] != run and row[1] == source and selection_of(row[2]) == selection
    ]


def forget(
    db: sqlite3.Connection, run: int, items: Sequence[int], renewed: Mapping[int, bytes] | None = None
) -> None:
    """Delete these items and list their files for removal, in one transaction, counted for `run`.

    Args:
        db: the ledger.
        run: the run.
        items: rows of the items.
        renewed: new documents, by row, of label items that no longer link to one of the items.
    """
    with transaction(db):
        for item, document in (renewed or {}).items():
            renew_document(db, item, document)
        paths = [path for item in items for path in _paths_of(db, item)]
        files = sum(len(_assets_of(db, item)) for item in items)
        parents = {parent for (parent,) in rows_with(db, _PARENTS, items)} - set(items)
        for item in items:
            _delete(db, item)
        paths += _catalogs_of_nothing(db)
        add_names(db, REMOVALS, paths)
        update_item_states(db, parents)
        runs.count_findings(db, run, {"items_pruned": len(items), "assets_pruned": files})


def _paths_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return the paths of an item's files that belong to the mirror."""
    collection, name, directory, written = db.execute(
        f"SELECT c.name, i.name, {ITEM_DIRECTORY}, i.written FROM items i "
        "JOIN collections c ON c.id = i.collection WHERE i.id = ?",
        (item,),
    ).fetchone()
    file = item_document_name(ItemId(collection, name))
    return [*_assets_of(db, item), *([f"{directory}/{file}"] if written != UNWRITTEN else [])]


def _assets_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return the paths of an item's assets that were done: other files are not the mirror's own."""
    rows = db.execute(
        f"SELECT {ASSET_PATH} FROM assets a WHERE a.item = ? AND a.name IS NOT NULL "
        f"AND (a.state IN ({STATE_DONE}, {STATE_RESERVED}) OR a.generation > 0)",
        (item,),
    )
    return [path for (path,) in rows]


def _delete(db: sqlite3.Connection, item: int) -> None:
    """Delete an item and everything that belongs to it. Its remaining source items lose their parent."""
    for (row,) in db.execute("SELECT id FROM assets WHERE item = ?", (item,)).fetchall():
        paths.delete_asset(db, row)
    for table in ("failures", "documents"):
        db.execute(f"DELETE FROM {table} WHERE item = ?", (item,))
    db.execute("UPDATE items SET parent = NULL WHERE parent = ?", (item,))
    db.execute("DELETE FROM items WHERE id = ?", (item,))


def _catalogs_of_nothing(db: sqlite3.Connection) -> list[str]:
    """Delete collections without items, and return their files that belong to the mirror."""
    empty = db.execute(
        "SELECT id, name FROM collections c "
        "WHERE NOT EXISTS (SELECT 1 FROM items i WHERE i.collection = c.id)"
    ).fetchall()
    directories = tuple(f"{safe_segment(name)}/" for _, name in empty)
    paths = [path for path in file_digests(db) if path.startswith(directories)] if empty else []
    for path in paths:
        disown_file(db, path)
    db.executemany("DELETE FROM collections WHERE id = ?", ((row,) for row, _ in empty))
    return paths


def removals(db: sqlite3.Connection) -> list[str]:
    """Return the paths of the files to remove, relative to DEST."""
    return list(names(db, REMOVALS))


def clear(db: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Take files from the list once their removal is durable."""
    with transaction(db):
        remove_names(db, REMOVALS, paths)


class _Open(msgspec.Struct, frozen=True):
    """A pending or failed asset of a run that was replaced."""

    row: int
    state: int
    item: int
    key: str
    path: str | None
    run: int
    previous_digest: bytes | None
    """The digest of the version in the mirror (b"" if it is unknown); None if there is none."""


class _RunTask(msgspec.Struct, frozen=True):
    """A run with its source and selection."""

    run: int
    kind: str
    source: str
    selection: str
    """The selection as JSON: decoding it is seldom needed."""
    state: str


def forget_unwanted(
    db: sqlite3.Connection,
    run: int,
    covers: Callable[[Selection, Selection], bool],
    is_there: Callable[[str], bool],
) -> int:
    """Delete open assets that only earlier, replaced runs selected.

    Nothing is deleted if the walk found links that a retry may be able to read: their items may be wanted.

    Args:
        db: The ledger.
        run: A mirror that has read its whole source and has no work left.
        covers: Returns True if the first selection is at least as wide as the second.
        is_there: Returns True if a file is in DEST, given its path relative to DEST.

    Returns:
        How many of them were pending. The others had failed.
    """
    pending = 0
    with transaction(db):
        if exists(db, "SELECT 1 FROM unread WHERE run = ? AND is_link", (run,)):
            return 0
        rows = db.execute("SELECT id, kind, source, selection, state FROM runs ORDER BY id")
        replaced = _replaced([_RunTask(*row) for row in rows], run, covers)
        if not replaced:
            return 0
        items: set[int] = set()
        for asset in _open_assets(db, run, replaced):
            _forget_asset(db, asset, is_there)
            pending += asset.state == STATE_PENDING
            items.add(asset.item)
        items |= _forget_unread_items(db, run, replaced)
        update_item_states(db, items)
        update_item_states(db, _delete_empty(db, run, items))
        db.executemany("DELETE FROM unread WHERE run = ?", ((replaced_run,) for replaced_run in replaced))
        db.executemany(
            "UPDATE runs SET state = 'superseded' WHERE id = ?",
            ((replaced_run,) for replaced_run in replaced),
        )
    return pending


def _replaced(
    tasks: Sequence[_RunTask], run: int, covers: Callable[[Selection, Selection], bool]
) -> list[int]:
    """Return the runs that `run` replaces.

    A retry has taken over assets of all runs before it. So it is replaced once all of those are replaced, by
    this run or by others. A mirror that ended after the retry has taken back the assets that it selects.
    """
    now = next(task for task in tasks if task.run == run)
    walks = [task for task in tasks if task.kind == "mirror" and task.run != run]
    wider = {
        task.run
        for task in walks
        if task.source == now.source and covers(selection_of(task.selection), selection_of(now.selection))
    }
    others = [task for task in walks if task.run not in wider and task.state != "superseded"]
    claims = [
        task.run
        for task in tasks
        if task.kind != "mirror"
        and any(walk < task.run for walk in wider)
        and not any(other.run < task.run or other.state != "complete" for other in others)
    ]
    return sorted([*wider, *claims])


def _open_assets(db: sqlite3.Connection, run: int, replaced: Sequence[int]) -> list[_Open]:
    """Return the assets that these runs left open or could not plan, except of items `run` could not read."""
    rows = db.execute(
        f"SELECT a.id, a.state, a.item, a.key, {ASSET_PATH}, a.run, o.previous_digest "
        "FROM assets a LEFT JOIN open_assets o ON o.asset = a.id JOIN items i ON i.id = a.item "
        f"WHERE a.id IN ({_OPEN_OR_FAILED}) AND a.run IN ({marks(len(replaced))}) "
        f"AND (a.state = {STATE_PENDING} OR a.state >= {STATE_FAILED}) AND NOT (i.run = ? AND EXISTS "
        "(SELECT 1 FROM failures f WHERE f.item = i.id AND f.key = ''))",
        (*replaced, run),
    )
    return [_Open(*row) for row in rows.fetchall()]


_OPEN_OR_FAILED = (
    "SELECT asset FROM open_assets UNION "
    "SELECT one.id FROM failures f JOIN assets one ON one.item = f.item AND one.key = f.key"
)
"""Those that could not be planned have only a failure."""


def _forget_asset(db: sqlite3.Connection, asset: _Open, is_there: Callable[[str], bool]) -> None:
    """Delete an open asset. If the mirror has an earlier version of it, that version stays, as done."""
    previous = asset.previous_digest if _has_file(asset, is_there) else None
    db.execute("DELETE FROM failures WHERE item = ? AND key = ?", (asset.item, asset.key))
    drop_open(db, asset.row, previous, asset.run)
    if previous is not None:
        db.execute("UPDATE assets SET unchecked = 1 WHERE id = ?", (asset.row,))


def _has_file(asset: _Open, is_there: Callable[[str], bool]) -> bool:
    return asset.previous_digest is not None and asset.path is not None and is_there(asset.path)


def _forget_unread_items(db: sqlite3.Connection, run: int, replaced: Sequence[int]) -> set[int]:
    """Delete the failures of source items that `run` did not select; return the rows of the items."""
    rows = db.execute(
        "SELECT i.id FROM failures f JOIN items i ON i.id = f.item "
        f"WHERE f.key = '' AND i.run <> ? AND i.run IN ({marks(len(replaced))})",
        (run, *replaced),
    ).fetchall()
    db.executemany("DELETE FROM failures WHERE item = ? AND key = ''", rows)
    return {row[0] for row in rows}


def _delete_empty(db: sqlite3.Connection, run: int, items: Iterable[int]) -> set[int]:
    """Delete the items that `run` did not plan and that have nothing in the mirror.

    Returns:
        The label items that waited for them.
    """
    above: set[int] = set()
    deleted: set[int] = set()
    for item in sorted(items):
        found = db.execute(
            f"DELETE FROM items WHERE id = ? AND run <> ? AND written = {UNWRITTEN} "
            f"AND name <> '{OF_COLLECTION}' AND NOT EXISTS (SELECT 1 FROM assets a WHERE a.item = items.id) "
            "RETURNING parent",
            (item, run),
        ).fetchall()
        if found:
            db.execute("DELETE FROM documents WHERE item = ?", (item,))
            db.execute("UPDATE items SET parent = NULL WHERE parent = ?", (item,))
            deleted.add(item)
            above.update(row[0] for row in found if row[0] is not None)
    return above - deleted

"""What a mirror holds that its source may not have any more, and how it is forgotten.

Forgetting goes through a list, so that a kill leaves neither a row without its file nor a file that nobody
knows: the rows go and the paths are listed in one transaction; when that is durable the files are removed,
and when that is durable the list is cleared. What is still listed at the next start is removed then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from stacpull.ledger import changes, paths
from stacpull.ledger.compact import href_of, true_name
from stacpull.ledger.database import transaction
from stacpull.ledger.items import count_items_done, settle
from stacpull.ledger.meta import disown_file, file_digests
from stacpull.ledger.runs import selection_of
from stacpull.ledger.schema import STATE_DONE, STATE_FAILED, STATE_RESERVED, UNWRITTEN
from stacpull.models import OF_COLLECTION, FailureKind, ItemId
from stacpull.planning.items import item_document_path
from stacpull.planning.names import safe_segment

__all__ = ["Unmet", "clear", "forget", "listed", "met_example", "unlisted_assets", "unmet"]


class Unmet(NamedTuple):
    """An item that a walk did not meet: `href` its own URL, if it has one; `size` of its files in bytes."""

    row: int
    id: ItemId
    href: str | None
    assets: int
    size: int


def unmet(db: sqlite3.Connection, run: int, after: int, limit: int) -> list[Unmet]:
    """Return items past row `after` that an earlier run of what `run` asks planned, and `run` did not."""
    runs = _alike(db, run)
    rows = db.execute(
        f"SELECT i.id, c.name, i.name, {href_of()}, count(a.id), coalesce(sum(a.size), 0) FROM items i "
        "JOIN collections c ON c.id = i.collection "
        f"LEFT JOIN assets a ON a.item = i.id AND a.state = {STATE_DONE} "
        f"WHERE i.id > ? AND i.name <> '{OF_COLLECTION}' AND i.run IN ({', '.join('?' * len(runs))}) "
        "GROUP BY i.id ORDER BY i.id LIMIT ?",
        (after, *runs, limit),
    )
    return [Unmet(row, ItemId(collection, name), *rest) for row, collection, name, *rest in rows]


def met_example(db: sqlite3.Connection, run: int) -> str | None:
    """Return the own URL of an item that `run` met, None if none has one: what is there must answer."""
    row = db.execute(
        f"SELECT {href_of()} FROM items i WHERE i.run = ? AND i.sequence IS NOT NULL "
        "AND coalesce(i.href, i.href_form) IS NOT NULL LIMIT 1",
        (run,),
    ).fetchone()
    return None if row is None else row[0]


def unlisted_assets(db: sqlite3.Connection, run: int) -> int:
    """Return how many assets are here that their item, which `run` met, does not list any more."""
    runs = _alike(db, run)
    found: int = db.execute(
        "SELECT count(*) FROM items i JOIN assets a ON a.item = i.id "
        f"WHERE i.run = ? AND a.state = {STATE_DONE} AND a.run IN ({', '.join('?' * len(runs))})",
        (run, *runs),
    ).fetchone()[0]
    return found


def _alike(db: sqlite3.Connection, run: int) -> list[int]:
    """Return the other runs of the same source and selection: what only a wider one brought is not judged."""
    rows = db.execute("SELECT id, source, selection FROM runs").fetchall()
    source, selection = next((row[1], selection_of(row[2])) for row in rows if row[0] == run)
    return [
        row[0] for row in rows if row[0] != run and row[1] == source and selection_of(row[2]) == selection
    ]


def forget(db: sqlite3.Connection, run: int, items: Sequence[int]) -> None:
    """Forget these items and list their files for removal, counted for `run`. One transaction."""
    with transaction(db):
        paths = [path for item in items for path in _paths_of(db, item)]
        files = sum(len(_assets_of(db, item)) for item in items)
        parents = {row for item in items for row in _parent_of(db, item)} - set(items)
        for item in items:
            _uncount(db, item)
            _delete(db, item)
        paths += _catalogs_of_nothing(db)
        db.executemany("INSERT OR IGNORE INTO removals VALUES (?)", ((path,) for path in paths))
        count_items_done(db, settle(db, parents))
        changes.count(db, run, {"items_pruned": len(items), "assets_pruned": files})


def _paths_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return the paths of the files of an item that are the mirror's own."""
    collection, name, directory, written = db.execute(
        "SELECT c.name, i.name, d.path, i.written FROM items i JOIN collections c ON c.id = i.collection "
        "JOIN directories d ON d.id = i.directory WHERE i.id = ?",
        (item,),
    ).fetchone()
    file = item_document_path(ItemId(collection, name)).rpartition("/")[2]
    return [*_assets_of(db, item), *([f"{directory}/{file}"] if written != UNWRITTEN else [])]


def _assets_of(db: sqlite3.Connection, item: int) -> list[str]:
    """Return where its assets lie; one that never was done lies nowhere, and what is there is not ours."""
    rows = db.execute(
        "SELECT d.path, a.name, a.key FROM assets a JOIN directories d ON d.id = a.directory "
        "WHERE a.item = ? AND a.name IS NOT NULL "
        f"AND (a.state IN ({STATE_DONE}, {STATE_RESERVED}) OR a.generation > 0)",
        (item,),
    )
    names = ((directory, true_name(kept, directory, key)) for directory, kept, key in rows)
    return [f"{directory}/{name}" if directory else name for directory, name in names]


def _parent_of(db: sqlite3.Connection, item: int) -> list[int]:
    rows = db.execute("SELECT parent FROM items WHERE id = ? AND parent IS NOT NULL", (item,))
    return [row[0] for row in rows]


def _uncount(db: sqlite3.Connection, item: int) -> None:
    """Take the assets of an item from the totals of the mirror."""
    rows = db.execute(
        "SELECT a.state, coalesce(a.size, 0), EXISTS (SELECT 1 FROM failures f WHERE f.item = a.item "
        "AND f.key = a.key AND f.kind = ?) FROM assets a WHERE a.item = ?",
        (FailureKind.GONE, item),
    ).fetchall()
    done = [size for state, size, _ in rows if state == STATE_DONE]
    failed = [gone for state, _, gone in rows if state == STATE_FAILED]
    db.execute(
        "UPDATE totals SET assets_pending = assets_pending - ?, assets_done = assets_done - ?, "
        "assets_failed = assets_failed - ?, assets_missing = assets_missing - ?, bytes_done = bytes_done - ?",
        (len(rows) - len(done) - len(failed), len(done), len(failed), sum(failed), sum(done)),
    )


def _delete(db: sqlite3.Connection, item: int) -> None:
    """Delete an item with all that belongs to it; source items that are still there stand by themselves."""
    for (row,) in db.execute("SELECT id FROM assets WHERE item = ?", (item,)).fetchall():
        paths.disown(db, row)
    db.execute("DELETE FROM open_assets WHERE asset IN (SELECT id FROM assets WHERE item = ?)", (item,))
    for table in ("assets", "failures", "documents"):
        db.execute(f"DELETE FROM {table} WHERE item = ?", (item,))
    db.execute("UPDATE items SET parent = NULL WHERE parent = ?", (item,))
    db.execute("DELETE FROM items WHERE id = ?", (item,))


def _catalogs_of_nothing(db: sqlite3.Connection) -> list[str]:
    """Forget collections without items, and return the files of theirs that are the mirror's own."""
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


def listed(db: sqlite3.Connection) -> list[str]:
    """Return the files that are to be removed, relative to DEST."""
    return [row[0] for row in db.execute("SELECT path FROM removals ORDER BY path")]


def clear(db: sqlite3.Connection, paths: Iterable[str]) -> None:
    """Take files from the list: they are gone for good."""
    with transaction(db):
        db.executemany("DELETE FROM removals WHERE path = ?", ((path,) for path in paths))
